//! `anemia-train audit`: what is wrong with a data set before anything is trained on it.

mod duplicates;
mod folds;
mod leaks;
mod plate;
mod tables;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anemia_bundle::Sha256;
use anemia_vision::{Frame, read_picture};
use anyhow::{Context, Result, ensure};
use clap::Args;
use rayon::prelude::*;
use serde::Serialize;

use crate::dataset::{self, FOLDS, FoldRow, SheetRow};
use crate::files::write_rows;
use crate::output::say;
pub use duplicates::group;
pub use plate::Plate;
use tables::Found;

/// Finds copies of photographs and contradictions of labels, and makes folds without leaks.
#[derive(Args)]
pub(crate) struct Audit {
    /// Folder with the pictures, in the folders Anemic and Non-anemic, and Anemia_Data_Collection_Sheet.csv
    #[arg(long)]
    data: PathBuf,
    /// Folder for groups.csv and folds.csv; without it nothing is written
    #[arg(long)]
    out: Option<PathBuf>,
    /// predictions.csv of a cross-validation: tells what copies on both sides of its folds were worth
    #[arg(long)]
    predictions: Option<PathBuf>,
    /// Seed of the folds
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// One row of `groups.csv`.
#[derive(Serialize)]
struct GroupRow<'a> {
    path: &'a Path,
    remark: &'a str,
    hb: f64,
    pixel_sha256: &'a Sha256,
    photo_group: usize,
    photo_group_size: usize,
}

impl Audit {
    pub(crate) fn run(&self) -> Result<()> {
        let sheet = dataset::read_sheet(&self.data)?;
        let (mut kept, mut anemic, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for row in &sheet {
            let label = dataset::is_anemic(&row.remark)
                .with_context(|| format!("{}: label of {}", self.data.join(dataset::SHEET).display(), row.image_id))?;
            match picture_of(&self.data, row) {
                Some(path) => {
                    kept.push((row, path));
                    anemic.push(label);
                }
                None => missing.push(&row.image_id[..]),
            }
        }
        ensure!(!kept.is_empty(), "{}: none of the labelled pictures is there", self.data.display());
        let read: Vec<(Sha256, Plate)> =
            kept.par_iter().map(|(_, path)| read(&self.data.join(path))).collect::<Result<_>>()?;

        // Files with the same pixels are one picture for the search.
        let mut first: HashMap<&str, usize> = HashMap::new();
        let mut distinct: Vec<usize> = Vec::new();
        let same: Vec<usize> = read
            .iter()
            .enumerate()
            .map(|(index, (hash, _))| {
                *first.entry(hash.as_str()).or_insert_with(|| {
                    distinct.push(index);
                    distinct.len() - 1
                })
            })
            .collect();
        let (hashes, plates): (Vec<Sha256>, Vec<Plate>) = read.into_iter().unzip();
        let mut plates: Vec<Option<Plate>> = plates.into_iter().map(Some).collect();
        let distinct: Vec<Plate> = distinct.iter().filter_map(|&index| plates[index].take()).collect();
        let of_distinct = group(&distinct);
        let groups: Vec<usize> = same.iter().map(|&index| of_distinct[index]).collect();

        let found: Vec<Found<'_>> = kept
            .iter()
            .zip(&anemic)
            .zip(&groups)
            .map(|(((row, _), &anemic), &group)| Found { row, anemic, group })
            .collect();
        say(format_args!("{} files, {} with pixels of their own", kept.len(), distinct.len()));
        say(tables::conflicts(&found).trim_end());
        self.tell_what_is_missing(&missing, kept.iter().map(|(_, path)| path.as_path()));
        say(format_args!("\n{}", tables::by_place_and_age(&found)));
        if let Some(predictions) = &self.predictions {
            let paths = kept.iter().map(|(_, path)| path.clone());
            say(leaks::tell(predictions, &paths.zip(groups.iter().copied()).collect())?);
        }
        if let Some(out) = &self.out {
            self.write(out, &kept, &anemic, &hashes, &groups)?;
        }
        Ok(())
    }

    fn tell_what_is_missing<'a>(&self, missing: &[&str], kept: impl Iterator<Item = &'a Path>) {
        if !missing.is_empty() {
            say(format_args!("labels without a picture ({}): {}", missing.len(), missing.join(", ")));
        }
        let kept: std::collections::BTreeSet<PathBuf> = kept.map(|path| self.data.join(path)).collect();
        let pictures =
            ["Anemic", "Non-anemic"].iter().filter_map(|class| std::fs::read_dir(self.data.join(class)).ok());
        let mut unlabelled: Vec<String> = pictures
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| !kept.contains(path))
            .map(|path| path.strip_prefix(&self.data).unwrap_or(&path).display().to_string())
            .collect();
        if !unlabelled.is_empty() {
            unlabelled.sort();
            say(format_args!("pictures without a label ({}): {}", unlabelled.len(), unlabelled.join(", ")));
        }
    }

    fn write(
        &self,
        out: &Path,
        kept: &[(&SheetRow, PathBuf)],
        anemic: &[bool],
        hashes: &[Sha256],
        groups: &[usize],
    ) -> Result<()> {
        let existing = out.join(FOLDS);
        ensure!(!existing.exists(), "{}: exists already; remove it or choose another folder", existing.display());
        std::fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        groups.iter().for_each(|group| *sizes.entry(*group).or_default() += 1);
        let rows: Vec<GroupRow<'_>> = kept
            .iter()
            .enumerate()
            .map(|(index, (row, path))| GroupRow {
                path,
                remark: &row.remark,
                hb: row.hb,
                pixel_sha256: &hashes[index],
                photo_group: groups[index],
                photo_group_size: sizes[&groups[index]],
            })
            .collect();
        write_rows(&out.join("groups.csv"), &rows)?;
        let random = folds::random(anemic, self.seed);
        let grouped = folds::grouped(anemic, groups, self.seed);
        let rows: Vec<FoldRow> = kept
            .iter()
            .enumerate()
            .map(|(index, (row, path))| FoldRow {
                path: path.clone(),
                remark: row.remark.clone(),
                photo_group: groups[index] as u64,
                fold: None,
                fold_random: Some(random[index]),
                fold_grouped: Some(grouped[index]),
            })
            .collect();
        write_rows(&out.join(FOLDS), &rows)?;
        say(format_args!("{}: groups.csv and {FOLDS} written", out.display()));
        Ok(())
    }
}

/// The picture of a row, relative to the data set.
fn picture_of(data: &Path, row: &SheetRow) -> Option<PathBuf> {
    ["png", "jpg", "jpeg"]
        .iter()
        .map(|end| Path::new(&row.remark).join(format!("{}.{end}", row.image_id)))
        .find(|path| data.join(path).is_file())
}

/// The hash of the decoded pixels, and what the search sees of them.
fn read(path: &Path) -> Result<(Sha256, Plate)> {
    let mut frame = Frame::default();
    read_picture(path, &mut frame).with_context(|| format!("{}", path.display()))?;
    let size = [frame.width(), frame.height()].map(|side| side.to_le_bytes());
    let bytes = [&size[0][..], &size[1][..], frame.rgb(), frame.alpha().unwrap_or_default()].concat();
    let plate = Plate::of(&frame).with_context(|| format!("{}: all of it is transparent", path.display()))?;
    Ok((Sha256::of(&bytes), plate))
}
