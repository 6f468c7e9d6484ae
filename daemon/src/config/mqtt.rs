//! The sections `mqtt` and `outbox`.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where results go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mqtt {
    /// Name or address of the broker.
    #[schemars(length(min = 1))]
    pub host: String,
    /// Its port; brokers use 8883 for TLS.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Encryption. Without it, everything crosses the network in the clear, the password too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Tls")]
    pub tls: Option<Tls>,
    /// User name at the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// File whose first line is the password. A credential of the service is `$CREDENTIALS_DIRECTORY/NAME`, as for every path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Client id at the broker. Without it, `anemiad-` and the device id. Two clients with one id disconnect each
    /// other for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
    pub client_id: Option<String>,
    /// Seconds without traffic after which the broker is asked whether it is still there.
    #[serde(default = "default_keep_alive")]
    #[schemars(range(min = 5, max = 3600))]
    pub keep_alive_s: u16,
    /// Whether the broker may command this kiosk, see docs/reference/topics.md.
    #[serde(default = "yes")]
    pub commands: bool,
    /// Seconds between two messages of figures about the kiosk; with 0 there are none.
    #[serde(default = "default_telemetry")]
    #[schemars(range(min = 0, max = 86_400))]
    pub telemetry_s: u32,
    /// Most messages a second from the disk, so that many kiosks do not drown a broker that was away.
    #[serde(default = "default_replay")]
    #[schemars(range(min = 1, max = 100_000))]
    pub replay_per_s: u32,
    /// Whether this kiosk makes itself known to Home Assistant.
    #[serde(default = "yes")]
    pub home_assistant: bool,
}

/// Encryption of the connection to the broker. The files are read again for every connection, and when the configuration is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// File with the certificates, in PEM, of those who may vouch for the broker.
    pub ca: PathBuf,
    /// File with the certificate of this kiosk, in PEM, and those of who vouches for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// File with its private key, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// What waits on the disk while the broker is away. When there is too much, telemetry goes first, and results last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Outbox {
    /// Most MiB of messages. A result takes about 1 kB.
    #[schemars(range(min = 1, max = 65_536))]
    pub mib: u32,
    /// Days after which a result goes that was never sent.
    #[schemars(range(min = 1, max = 3650))]
    pub days: u32,
    /// Days after which telemetry goes.
    #[schemars(range(min = 1, max = 3650))]
    pub telemetry_days: u32,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ca: "/etc/ssl/certs/ca-certificates.crt".into(), certificate: None, key: None }
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self { mib: 256, days: 365, telemetry_days: 7 }
    }
}

impl Mqtt {
    /// The password: the first line of its file, or nothing without a file.
    pub fn password(&self) -> Result<String, String> {
        let Some(path) = &self.password_file else { return Ok(String::new()) };
        let text = String::from_utf8(read_small(path).map_err(|error| format!("password file {error}"))?)
            .map_err(|_| format!("password file {}: it is no text", path.display()))?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// The client id for a device.
    pub fn client_id(&self, device_id: &str) -> String {
        self.client_id.clone().unwrap_or_else(|| format!("anemiad-{device_id}"))
    }

    pub(super) fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let tls = self.tls.iter_mut().flat_map(|tls| {
            let Tls { ca, certificate, key } = tls;
            [Some(ca), certificate.as_mut(), key.as_mut()]
        });
        self.password_file.iter_mut().chain(tls.flatten())
    }
}

/// The content of a file of passwords, keys or certificates.
pub(crate) fn read_small(path: &Path) -> Result<Vec<u8>, String> {
    let unusable = |cause: &dyn std::fmt::Display| format!("{}: {cause}", path.display());
    let found = path.metadata().map_err(|error| unusable(&error))?;
    if !found.is_file() || found.len() > 1 << 20 {
        return Err(unusable(&"it is no regular file, or too long"));
    }
    std::fs::read(path).map_err(|error| unusable(&error))
}

fn default_port() -> u16 {
    1883
}
fn default_keep_alive() -> u16 {
    30
}
fn default_telemetry() -> u32 {
    60
}
fn default_replay() -> u32 {
    100
}
fn yes() -> bool {
    true
}
