//! A data set of cut-outs: pictures whose alpha is the conjunctiva, and a table of labels and folds.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Name of the table beside the pictures.
pub(crate) const TABLE: &str = "folds.csv";

/// One row of [`TABLE`].
#[derive(Debug, Deserialize)]
struct Row {
    path: PathBuf,
    remark: String,
    photo_group: u64,
    fold_random: u32,
    fold_grouped: u32,
}

/// One labelled picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Labelled {
    pub(crate) picture: PathBuf,
    pub(crate) anemic: bool,
    pub(crate) photo_group: u64,
    /// Fold of the paper's protocol: files are split at random, so copies of a photograph are on both sides.
    pub(crate) fold_random: u32,
    /// Fold of the leak-free protocol: no photograph is in two folds.
    pub(crate) fold_grouped: u32,
}

/// Reads the table in `folder`. Every picture it names must exist.
pub(crate) fn read(folder: &Path) -> Result<Vec<Labelled>> {
    let table = folder.join(TABLE);
    let mut rows = csv::Reader::from_path(&table).with_context(|| format!("{}", table.display()))?;
    let mut labelled = Vec::new();
    for row in rows.deserialize() {
        let row: Row = row.with_context(|| format!("{}", table.display()))?;
        let anemic = match row.remark.as_str() {
            "Anemic" => true,
            "Non-anemic" => false,
            other => anyhow::bail!(
                "{}: label {other:?} of {}; expected Anemic or Non-anemic",
                table.display(),
                row.path.display()
            ),
        };
        let picture = folder.join(&row.path);
        ensure!(picture.is_file(), "{}: {} has a label and no picture", table.display(), row.path.display());
        let (photo_group, fold_random, fold_grouped) = (row.photo_group, row.fold_random, row.fold_grouped);
        labelled.push(Labelled { picture, anemic, photo_group, fold_random, fold_grouped });
    }
    ensure!(!labelled.is_empty(), "{}: no pictures are listed", table.display());
    Ok(labelled)
}
