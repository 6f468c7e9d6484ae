//! The signature of a bundle: that of its manifest, which names the hash of every other file.
//!
//! Format: minisign (ed25519), <https://jedisct1.github.io/minisign/>. `anemiad model sign` and the program minisign make it.

use std::path::Path;

use minisign_verify::{PublicKey, Signature};

use crate::MANIFEST;

/// Name of the signature in the folder of a bundle.
pub const SIGNATURE: &str = "manifest.yaml.minisig";
/// A signature is a few lines.
const MAX_BYTES: u64 = 4096;

/// Checks that whoever has the secret key of `key` signed the bundle in `folder`. The text of an error is one line.
///
/// Only the manifest is looked at: open the bundle afterwards, and let [`crate::Bundle::verify`] check the hash of every file.
pub fn verify_signature(folder: &Path, key: &PublicKey) -> Result<(), String> {
    let read = |name: &str, most: u64| {
        let path = folder.join(name);
        let unusable = |cause: &dyn std::fmt::Display| format!("{}: {cause}", path.display());
        match path.symlink_metadata() {
            Ok(found) if found.is_file() && found.len() <= most => std::fs::read(&path).map_err(|e| unusable(&e)),
            Ok(_) => Err(unusable(&"is no regular file, or too long")),
            Err(error) => Err(unusable(&error)),
        }
    };
    let text = read(SIGNATURE, MAX_BYTES).map_err(|error| format!("the bundle is not signed ({error})"))?;
    let unreadable = |cause: &dyn std::fmt::Display| format!("{}/{SIGNATURE}: {cause}", folder.display());
    let text = String::from_utf8(text).map_err(|error| unreadable(&error))?;
    let signature = Signature::decode(&text).map_err(|error| unreadable(&error))?;
    let manifest = read(MANIFEST, crate::read::MAX_MANIFEST_BYTES)?;
    key.verify(&manifest, &signature, false).map_err(|error| {
        format!("{}: the signature is not of this key, or not of this manifest ({error})", folder.display())
    })
}

/// The key in a file as minisign writes it.
pub fn read_public_key(path: &Path) -> Result<PublicKey, String> {
    PublicKey::from_file(path).map_err(|error| format!("{}: no public key of minisign ({error})", path.display()))
}
