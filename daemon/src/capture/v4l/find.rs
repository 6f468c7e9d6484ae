//! Which cameras there are, and which one is meant.

use std::fs;
use std::path::{Path, PathBuf};

use super::open_capture;

/// A camera of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its device node now; the number can be another one after it was unplugged.
    pub node: PathBuf,
    /// Paths that stay the same: by the camera's own name, and by the place where it is plugged in.
    pub stable: Vec<PathBuf>,
    /// Its name, and the driver's; or why they cannot be told.
    pub name: Result<(String, String), String>,
}

/// The device that a path or a pattern means.
pub(super) fn resolve(device: &str) -> Result<PathBuf, String> {
    if !device.contains(['*', '?', '[']) {
        return Ok(device.into());
    }
    let paths = glob::glob(device).map_err(|error| format!("camera.v4l.device: {device} is no pattern: {error}"))?;
    let mut first_error = None;
    for path in paths.flatten() {
        match open_capture(&path) {
            Ok(_) => return Ok(path),
            Err(error) => {
                first_error.get_or_insert(format!("{}: {error}", path.display()));
            }
        }
    }
    let cause = first_error.unwrap_or_else(|| "nothing has such a path".into());
    Err(format!("{device}: no camera: {cause} (`anemiad camera list` shows what is there)"))
}

/// All cameras, in the order of their numbers.
pub fn list() -> Vec<Found> {
    let number = |path: &Path| -> Option<u32> { path.file_name()?.to_str()?.strip_prefix("video")?.parse().ok() };
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut nodes: Vec<_> = entries.filter_map(|path| Some((number(&path)?, path))).collect();
    nodes.sort();
    let links: Vec<(PathBuf, PathBuf)> = ["/dev/v4l/by-id", "/dev/v4l/by-path"]
        .iter()
        .flat_map(|folder| {
            let mut links: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
            links.sort();
            links
        })
        .filter_map(|link| Some((link.canonicalize().ok()?, link)))
        .collect();
    let mut found = Vec::new();
    for (_, node) in nodes {
        let name = match open_capture(&node).and_then(|device| device.query_caps()) {
            Ok(able) => Ok((able.card, able.driver)),
            // One of the nodes of a camera that give no pictures, or an output.
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => continue,
            Err(error) => Err(error.to_string()),
        };
        let stable = links.iter().filter(|(to, _)| *to == node).map(|(_, link)| link.clone()).collect();
        found.push(Found { node, stable, name });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_without_a_camera_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let pattern = folder.path().join("cam*").display().to_string();
        assert!(resolve(&pattern).unwrap_err().contains("nothing has such a path"));
        fs::write(folder.path().join("camera"), "").unwrap();
        let error = resolve(&pattern).unwrap_err();
        assert!(error.contains("camera: Inappropriate ioctl for device"), "{error}");
        assert!(resolve("/dev/video[").unwrap_err().contains("is no pattern"));
        assert_eq!(
            resolve("/dev/video7").unwrap(),
            Path::new("/dev/video7"),
            "whether it is there shows when it is opened"
        );
    }
}
