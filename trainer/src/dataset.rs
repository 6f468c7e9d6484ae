//! A data set of cut-outs: pictures whose alpha is the conjunctiva, a sheet of labels, and a table of folds.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use anemia_vision::{CutOut, Frame, InputSpec, Roi};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// Name of the table of folds beside the pictures; `anemia-train audit` writes one.
pub(crate) const FOLDS: &str = "folds.csv";
/// Name of the sheet with hemoglobin, age and place, as CP-AnemiC has it.
pub(crate) const SHEET: &str = "Anemia_Data_Collection_Sheet.csv";

/// One row of [`FOLDS`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FoldRow {
    pub(crate) path: PathBuf,
    pub(crate) remark: String,
    pub(crate) photo_group: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fold: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fold_random: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fold_grouped: Option<u32>,
}

/// One row of [`SHEET`].
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SheetRow {
    #[serde(rename = "IMAGE_ID", alias = "\u{feff}IMAGE_ID")]
    pub(crate) image_id: String,
    #[serde(rename = "HB_LEVEL")]
    pub(crate) hb: f64,
    #[serde(rename = "Age(Months)")]
    pub(crate) age_months: f64,
    #[serde(rename = "REMARK")]
    pub(crate) remark: String,
    #[serde(rename = "HOSPITAL")]
    pub(crate) hospital: String,
    #[serde(rename = "REGION")]
    pub(crate) region: String,
}

/// One labelled picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Labelled {
    pub(crate) picture: PathBuf,
    /// Its path in the data set.
    pub(crate) path: PathBuf,
    pub(crate) anemic: bool,
    /// Pictures of one group show one photograph.
    pub(crate) photo_group: u64,
    /// In which part of the data the picture is.
    pub(crate) fold: u32,
}

/// How pictures are split into folds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// As in the paper: files at random, so that copies of one photograph can be in several folds.
    Paper,
    /// No photograph is in two folds.
    Grouped,
    /// A table of its own, with the columns path, remark, photo_group and fold.
    File(PathBuf),
}

impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "paper" => Ok(Self::Paper),
            "grouped" => Ok(Self::Grouped),
            file if Path::new(file).is_file() => Ok(Self::File(file.into())),
            _ => Err("expected `paper`, `grouped` or a file with the columns path, remark, photo_group, fold".into()),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paper => out.write_str("paper"),
            Self::Grouped => out.write_str("grouped"),
            Self::File(file) => write!(out, "{}", file.display()),
        }
    }
}

/// Reads the pictures in `folder` with their labels and the folds of `protocol`. Every picture named must exist.
pub(crate) fn read(folder: &Path, protocol: &Protocol) -> Result<Vec<Labelled>> {
    let table = match protocol {
        Protocol::File(file) => file.clone(),
        _ => folder.join(FOLDS),
    };
    let mut rows = csv::Reader::from_path(&table).with_context(|| {
        format!("{}: no folds; `anemia-train audit --data {} --out …` makes them", table.display(), folder.display())
    })?;
    let mut labelled = Vec::new();
    let mut seen = BTreeSet::new();
    for row in rows.deserialize() {
        let row: FoldRow = row.with_context(|| format!("{}", table.display()))?;
        let anemic =
            is_anemic(&row.remark).with_context(|| format!("{}: label of {}", table.display(), row.path.display()))?;
        let (column, fold) = match protocol {
            Protocol::Paper => ("fold_random", row.fold_random),
            Protocol::Grouped => ("fold_grouped", row.fold_grouped),
            Protocol::File(_) => ("fold", row.fold),
        };
        let fold = fold.with_context(|| format!("{}: has no column {column}", table.display()))?;
        let picture = folder.join(&row.path);
        ensure!(picture.is_file(), "{}: {} has a label and no picture", table.display(), row.path.display());
        ensure!(seen.insert(row.path.clone()), "{}: {} is listed twice", table.display(), row.path.display());
        labelled.push(Labelled { picture, path: row.path, anemic, photo_group: row.photo_group, fold });
    }
    ensure!(!labelled.is_empty(), "{}: no pictures are listed", table.display());
    Ok(labelled)
}

/// Reads the sheet in `folder`.
pub(crate) fn read_sheet(folder: &Path) -> Result<Vec<SheetRow>> {
    let path = folder.join(SHEET);
    let context = || format!("{}", path.display());
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(&path).with_context(context)?;
    let rows: Vec<SheetRow> = reader.deserialize().collect::<Result<_, _>>().with_context(context)?;
    ensure!(!rows.is_empty(), "{}: no pictures are listed", path.display());
    let mut seen = BTreeSet::new();
    if let Some(twice) = rows.iter().find(|row| !seen.insert((&row.remark, &row.image_id))) {
        bail!("{}: {} {} is listed twice", path.display(), twice.remark, twice.image_id);
    }
    Ok(rows)
}

/// Whether a remark says anemic.
pub(crate) fn is_anemic(remark: &str) -> Result<bool> {
    match remark {
        "Anemic" => Ok(true),
        "Non-anemic" => Ok(false),
        other => bail!("{other:?}; expected Anemic or Non-anemic"),
    }
}

/// Reads a cut-out, and gives the tissue in it as `roi`.
pub(crate) fn read_cutout(picture: &Path, frame: &mut Frame, roi: &mut Roi) -> Result<()> {
    anemia_vision::read_cutout(picture, frame, roi).with_context(|| format!("{}", picture.display()))
}

/// Cuts a picture out as a network of `spec` wants it; `frame` and `roi` are room to work in. Fails where hardly any tissue is left.
pub(crate) fn cut_out(
    picture: &Path,
    spec: &InputSpec,
    frame: &mut Frame,
    roi: &mut Roi,
    cutout: &mut CutOut,
) -> Result<()> {
    read_cutout(picture, frame, roi)?;
    cutout.cut_for(spec, frame, roi);
    ensure!(
        cutout.has_tissue(),
        "{}: less than a hundredth of the cut-out is tissue, the rest is black",
        picture.display()
    );
    Ok(())
}
