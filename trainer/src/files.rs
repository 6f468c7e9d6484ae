//! Files that are there as a whole or not at all.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// Writes a text aside, syncs it and renames it.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    anemia_bundle::write_file(path, text.as_bytes()).with_context(|| format!("{}: cannot be written", path.display()))
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
