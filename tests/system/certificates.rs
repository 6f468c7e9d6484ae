//! Certificates of a clinic: who vouches, the broker, the kiosk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// Somebody who vouches, in a folder with all certificates as files.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

/// From when to when a certificate is valid.
pub enum Valid {
    Now,
    Expired,
}

impl Authority {
    /// Writes its own certificate as `<name>.crt`.
    pub fn new(folder: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        write(&folder.join(format!("{name}.crt")), &params.self_signed(&key).unwrap().pem());
        Self { issuer: Issuer::new(params, key), folder: folder.to_owned() }
    }

    /// Vouches for `name`, a host or a kiosk: `<name>.crt` and `<name>.key`.
    pub fn vouch_for(&self, name: &str, valid: &Valid) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = match valid {
            Valid::Now => date_time_ymd(2100, 1, 1),
            Valid::Expired => date_time_ymd(2021, 1, 1),
        };
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        write(&self.folder.join(format!("{name}.crt")), &certificate.pem());
        write(&self.folder.join(format!("{name}.key")), &key.serialize_pem());
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    // mosquitto gives up its rights and must still be able to read them.
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
}
