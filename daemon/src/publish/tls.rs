//! TLS towards the broker and towards whoever serves models: our own configuration of rustls, and its refusals in words.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::config::{self, read_small};

/// The configuration of a connection, from the files as they are now.
pub fn client_config(tls: &config::Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(&tls.ca)?);
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else { return Ok(builder.with_no_client_auth()) };
    let unusable = |path: &Path, cause: String| format!("mqtt.tls: {}: {cause}", path.display());
    let pem = read_small(key).map_err(|error| format!("mqtt.tls: {error}"))?;
    let secret = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| unusable(key, format!("no private key in PEM is in it ({error})")))?;
    builder
        .with_client_auth_cert(certificates(certificate)?, secret)
        .map_err(|error| unusable(certificate, format!("does not go with {} ({error})", key.display())))
}

/// Those who may vouch for the other side.
fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // A system's own list can hold one that rustls does not take; the others still count.
    let (added, _) = roots.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        return Err(format!("tls: {}: none of its certificates can be used", path.display()));
    }
    Ok(roots)
}

/// The certificates of a file, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unusable = |cause: String| format!("tls: {}: {cause}", path.display());
    let pem = read_small(path).map_err(|error| format!("tls: {error}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| unusable(format!("a certificate in it cannot be read ({error})")))?;
    if found.is_empty() {
        return Err(unusable("no certificate in PEM is in it".into()));
    }
    Ok(found)
}

/// What TLS did not like, in words; `None` when the failure has nothing to do with TLS.
pub fn words(error: &(dyn Error + 'static), now: jiff::Timestamp) -> Option<String> {
    use rustls::Error as Tls;
    Some(match tls_error(error)? {
        Tls::InvalidCertificate(cause) => match cause {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of the other side has expired; the clock here says {now:.0}")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the certificate of the other side is not valid yet; the clock here says {now:.0}: is it set?")
            }
            // A bad signature: somebody else has the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the certificate of the other side is from nobody in the ca file of the configuration".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate of the other side is for another name than the configuration has".into()
            }
            CertificateError::Revoked => "the certificate of the other side was revoked".into(),
            other => format!("the certificate of the other side is refused ({other})"),
        },
        Tls::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => "the other side wants a certificate of this kiosk".into(),
            AlertDescription::CertificateExpired => {
                "the other side says that the certificate of this kiosk has expired".into()
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied => {
                format!("the other side refused the certificate of this kiosk ({alert:?})")
            }
            other => format!("the other side refused the connection (TLS alert {other:?})"),
        },
        Tls::InvalidMessage(_) => "the other side does not speak TLS at this port".into(),
        other => format!("TLS: {other}"),
    })
}

/// The error of rustls behind an error, however it was wrapped.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // The source of an I/O error is that of the error in it, which itself would be passed over.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
