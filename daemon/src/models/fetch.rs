//! Fetching a model from where it is served.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anemia_bundle::Sha256;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::unpack::MOST_BYTES;
use crate::publish::tls;

/// A clinic's line is slow, and a model is 25 MB.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Fetches `url`, which must be https, into `path`; the certificates in `ca` vouch for the server.
pub(super) fn fetch(url: &str, ca: &Path, path: &Path) -> Result<(), String> {
    let roots = tls::certificates(ca)?.iter().map(|found| Certificate::from_der(found.as_ref()).to_owned()).collect();
    let config = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let agent = ureq::Agent::config_builder()
        .https_only(true)
        .tls_config(config)
        .timeout_global(Some(TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .user_agent(concat!("anemiad/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent();
    let failed = |error: &dyn std::fmt::Display| format!("{url}: {error}");
    let answer = agent.get(url).call().map_err(|error| {
        // It does not name what it was caused by.
        let words = match &error {
            ureq::Error::Io(cause) => tls::words(cause, jiff::Timestamp::now()),
            ureq::Error::Rustls(cause) => tls::words(cause, jiff::Timestamp::now()),
            _ => None,
        };
        failed(&words.unwrap_or_else(|| error.to_string()))
    })?;
    let mut body = answer.into_body().into_reader().take(MOST_BYTES + 1);
    let mut file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match io::copy(&mut body, &mut file) {
        Ok(fetched) if fetched > MOST_BYTES => {
            Err(failed(&format!("more than {} MiB: that is no model", MOST_BYTES >> 20)))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

/// Refuses a file that is not the one that was meant.
pub(super) fn check_hash(path: &Path, expected: &str) -> Result<(), String> {
    let found = Sha256::of_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if found.as_str().eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(format!("it is another file than the sha256 is of: expected {expected}, found {}", found.as_str()))
}
