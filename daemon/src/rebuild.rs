//! Plans of TensorRT that are built again: the old ones are set aside, and come back when the new ones cannot be built.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Plans that are set aside. They come back when this is dropped: whoever waited for new ones does not wait any more.
#[derive(Debug)]
pub(crate) struct PlansAside {
    cache: PathBuf,
}

impl PlansAside {
    /// Sets all plans of a cache aside.
    pub(crate) fn new(cache: &Path) -> io::Result<Self> {
        let plans = Self { cache: cache.to_owned() };
        fs::create_dir_all(aside(cache))?;
        move_plans(cache, &aside(cache))?;
        Ok(plans)
    }

    /// Brings back what the end of a process, or of the power, left aside.
    pub(crate) fn recover(cache: &Path) -> io::Result<()> {
        if !aside(cache).is_dir() {
            return Ok(());
        }
        move_plans(&aside(cache), cache)?;
        fs::remove_dir_all(aside(cache))
    }

    /// Nobody needs them any more.
    pub(crate) fn discard(self) -> io::Result<()> {
        fs::remove_dir_all(aside(&self.cache))
    }
}

impl Drop for PlansAside {
    fn drop(&mut self) {
        if let Err(error) = Self::recover(&self.cache) {
            tracing::warn!("plans that were set aside do not come back: {}: {error}", self.cache.display());
        }
    }
}

fn aside(cache: &Path) -> PathBuf {
    cache.join("before")
}

/// Moves the files of plans, and not the lock of who is building.
fn move_plans(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name() != "lock" {
            fs::rename(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn plans_come_back_or_go() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, plan) = (folder.path(), folder.path().join("one.plan"));
        fs::write(&plan, "plan").unwrap();
        let aside = PlansAside::new(cache).unwrap();
        assert!(!plan.exists());
        drop(aside);
        assert_eq!(fs::read_to_string(&plan).unwrap(), "plan");
        // The power fails.
        std::mem::forget(PlansAside::new(cache).unwrap());
        PlansAside::recover(cache).unwrap();
        assert_eq!(fs::read_to_string(&plan).unwrap(), "plan");
        fs::write(cache.join("lock"), "").unwrap();
        PlansAside::new(cache).unwrap().discard().unwrap();
        let left: Vec<_> = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
        PlansAside::recover(cache).unwrap();
    }
}
