//! The section `kiosk`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The page of the kiosk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kiosk {
    /// Whether there is one.
    pub page: bool,
    /// Address and port. For an address that is not of this machine only (loopback), `tls` and `token_file` must be there.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// More names by which browsers call this kiosk; requests for others are refused.
    pub names: Vec<String>,
    /// File whose first line, of at least 16 letters, digits and `-._~+/=!$*:@,` a browser must know: it is opened once as `/?token=…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Encryption.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PageTls")]
    pub tls: Option<PageTls>,
    /// YAML file with more languages, or other texts, for the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<PathBuf>,
}

/// Encryption of the page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageTls {
    /// File with the certificate of this kiosk, in PEM, and those of who vouches for it.
    pub certificate: PathBuf,
    /// File with its private key, in PEM.
    pub key: PathBuf,
}

impl Default for Kiosk {
    fn default() -> Self {
        Self {
            page: true,
            listen: (Ipv4Addr::LOCALHOST, 8480).into(),
            names: Vec::new(),
            token_file: None,
            tls: None,
            words: None,
        }
    }
}

impl Kiosk {
    pub(super) fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let tls = self.tls.iter_mut().flat_map(|tls| [&mut tls.certificate, &mut tls.key]);
        self.token_file.iter_mut().chain(&mut self.words).chain(tls)
    }
}
