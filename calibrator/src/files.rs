//! Files that are there as a whole or not at all.

use std::path::Path;

use anyhow::{Context, Result};

/// Writes a text aside, syncs it and renames it.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    anemia_bundle::write_file(path, text.as_bytes()).with_context(|| format!("{}: cannot be written", path.display()))
}
