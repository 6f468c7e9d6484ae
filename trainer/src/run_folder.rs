//! The folder of a long run: what was asked for, what has been reached, what came out.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::files::write_text;

/// Name of the file with everything that the run's numbers depend on.
const SETTINGS: &str = "run.yaml";

/// A folder in which a run can be continued.
pub(crate) struct RunFolder {
    path: PathBuf,
    /// Held as long as the run goes on; the system lets go of it when the process ends, however it ends.
    _lock: File,
}

impl RunFolder {
    /// Opens `path` for a run with `settings`, or makes it. A folder that holds a run with other settings is refused.
    pub(crate) fn open(path: &Path, settings: &impl Serialize) -> Result<Self> {
        let text = serde_yaml::to_string(settings)?;
        fs::create_dir_all(path).with_context(|| format!("{}", path.display()))?;
        let lock = lock(path)?;
        let file = path.join(SETTINGS);
        match fs::read_to_string(&file) {
            Ok(found) if found == text => {}
            Ok(found) => {
                let lines = found.lines().zip(text.lines()).find(|(old, new)| old != new);
                let (old, new) = lines.unwrap_or(("a shorter file", "a longer one"));
                bail!(
                    "{}: holds a run with other settings (`{}`, now `{}`); choose another --run or remove it",
                    path.display(),
                    old.trim(),
                    new.trim()
                );
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                write_text(&file, &text)?;
            }
            Err(error) => return Err(error).with_context(|| format!("{}", file.display())),
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The folder of one part of the run, such as `fold-0`.
    pub(crate) fn part(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        Ok(folder)
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Two processes in one folder would overwrite each other's checkpoints.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("{}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "{}: another anemia-train works in this folder; wait for it or choose another --run",
                folder.display()
            )
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("{}", path.display())),
    }
}
