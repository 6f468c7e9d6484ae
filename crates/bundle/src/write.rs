//! Writing a bundle so that it is either there as a whole or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::{MANIFEST, Manifest};

/// Writes a bundle into `folder`, which must not exist yet.
///
/// `files` are path and content of everything that the manifest names. All is written and synced in a folder
/// beside, which is then renamed. Fails with `InvalidInput` if a file of the manifest is missing or has another hash.
pub fn write_bundle(folder: &Path, manifest: &Manifest, files: &[(&str, &[u8])]) -> io::Result<()> {
    for (path, hash) in manifest.all_files() {
        let content = files.iter().find(|(name, _)| *name == path);
        if content.is_none_or(|(_, bytes)| crate::Sha256::of(bytes) != *hash) {
            let text = format!("{path}: the manifest names a file that is not given, or not with this hash");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    }
    if folder.exists() {
        let text = format!("{} exists already; remove it or choose another folder", folder.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let name =
        folder.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a bundle needs a name"))?;
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let aside = parent.join(format!(".{}.partial", name.to_string_lossy()));
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    fs::create_dir_all(&aside)?;
    for (path, bytes) in files {
        let path = aside.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&aside))?;
        fs::write(path, bytes)?;
    }
    let text = serde_yaml::to_string(manifest).map_err(io::Error::other)?;
    fs::write(aside.join(MANIFEST), text)?;
    sync_all(&aside)?;
    fs::rename(&aside, folder)?;
    File::open(parent)?.sync_all()
}

/// Writes a file aside, syncs it and renames it: there is the old one or the new one, whatever happens.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a file needs a name"))?;
    // It begins with the name, so that whoever looks after such files knows what a power cut left.
    let mut aside =
        tempfile::Builder::new().prefix(name).permissions(Permissions::from_mode(0o644)).tempfile_in(folder)?;
    aside.write_all(bytes)?;
    aside.as_file().sync_all()?;
    aside.persist(path)?;
    File::open(folder)?.sync_all()
}

/// Removes a file; that there is none is no error.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Everything in a folder, at any depth, is on the disk when this returns.
pub fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}
