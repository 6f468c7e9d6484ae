//! Plans of TensorRT that are built again: the old ones are set aside, and come back when the new ones cannot be built.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Plans that are set aside.
#[derive(Debug)]
pub(crate) struct PlansAside {
    cache: PathBuf,
    aside: PathBuf,
}

impl PlansAside {
    /// Sets all plans of a cache aside.
    pub(crate) fn new(cache: &Path) -> io::Result<Self> {
        let plans = Self { cache: cache.to_owned(), aside: cache.join("before") };
        fs::create_dir_all(&plans.aside)?;
        move_files(cache, &plans.aside)?;
        Ok(plans)
    }

    /// Brings them back.
    pub(crate) fn restore(self) -> io::Result<()> {
        move_files(&self.aside, &self.cache)?;
        fs::remove_dir_all(&self.aside)
    }

    /// Nobody needs them any more.
    pub(crate) fn discard(self) -> io::Result<()> {
        fs::remove_dir_all(&self.aside)
    }
}

fn move_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
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
        aside.restore().unwrap();
        assert_eq!(fs::read_to_string(&plan).unwrap(), "plan");
        PlansAside::new(cache).unwrap().discard().unwrap();
        assert_eq!(fs::read_dir(cache).unwrap().count(), 0);
    }
}
