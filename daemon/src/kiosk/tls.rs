//! The page over TLS.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio_rustls::TlsAcceptor;

use crate::config::{self, read_small};
use crate::publish::tls;

/// What is needed for TLS, if the settings want it.
pub(super) fn acceptor(settings: &config::Kiosk) -> Result<Option<TlsAcceptor>, String> {
    let acceptor = settings.tls.as_ref().map(|files| {
        let pem = read_small(&files.key).map_err(|error| format!("kiosk.tls: {error}"))?;
        let unusable = |error: &dyn std::fmt::Display| format!("kiosk.tls: {}: {error}", files.key.display());
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unusable(&error))?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(tls::certificates(&files.certificate)?, key)
            .map_err(|error| unusable(&error))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    });
    acceptor.transpose()
}
