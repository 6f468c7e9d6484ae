//! The folder of a long run: what was asked for, what has been reached, what came out.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// Name of the file with everything that the run's numbers depend on.
const SETTINGS: &str = "run.yaml";

/// A folder in which a run can be continued.
pub(crate) struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Opens `path` for a run with `settings`, or makes it. A folder that holds a run with other settings is refused.
    pub(crate) fn open(path: &Path, settings: &impl Serialize) -> Result<Self> {
        let text = serde_yaml::to_string(settings)?;
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
                fs::create_dir_all(path).with_context(|| format!("{}", path.display()))?;
                write_text(&file, &text)?;
            }
            Err(error) => return Err(error).with_context(|| format!("{}", file.display())),
        }
        Ok(Self { path: path.to_owned() })
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

/// Writes a text aside, syncs it and renames it.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    let aside = path.with_extension("partial");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    write().with_context(|| format!("{}: cannot be written", path.display()))
}

/// Rows as CSV with a header, written like [`write_text`].
pub(crate) fn write_rows<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    for row in rows {
        table.serialize(row)?;
    }
    write_text(path, &String::from_utf8(table.into_inner()?)?)
}

/// Reads what [`write_rows`] wrote; nothing when there is no such file.
pub(crate) fn read_rows<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<Vec<T>>> {
    if !path.exists() {
        return Ok(None);
    }
    let context = || format!("{}", path.display());
    let mut table = csv::Reader::from_path(path).with_context(context)?;
    Ok(Some(table.deserialize().collect::<Result<_, _>>().with_context(context)?))
}
