//! Cut-outs as a network is given them.

use std::path::{Path, PathBuf};

use anemia_vision::{CutOut, Frame, InputSpec, Roi, read_cutout};
use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;
use rayon::prelude::*;
use walkdir::WalkDir;

use crate::network::Map;

/// A cut-out at the size and with the normalisation of a network.
pub fn cut_out(picture: &Path, spec: &InputSpec) -> Result<Map> {
    let (mut frame, mut roi, mut cutout) = (Frame::default(), Roi::default(), CutOut::new());
    read_cutout(picture, &mut frame, &mut roi).with_context(|| format!("{}", picture.display()))?;
    cutout.cut_for(spec, &frame, &roi);
    ensure!(
        cutout.has_tissue(),
        "{}: less than a hundredth of the cut-out is tissue, the rest is black",
        picture.display()
    );
    let mut values = vec![0.0; 3 * spec.width * spec.height];
    spec.write(cutout.pixels(), &mut values);
    Ok(Map { shape: [3, spec.height, spec.width], values })
}

/// Many of them.
pub fn cut_out_all(pictures: &[PathBuf], spec: &InputSpec) -> Result<Vec<Map>> {
    pictures.par_iter().map(|picture| cut_out(picture, spec)).collect()
}

/// All `.png` files under `folder` in the order of their names.
pub fn find(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.with_context(|| format!("{}", folder.display()))?;
        if entry.file_type().is_file() && entry.path().extension().is_some_and(|end| end.eq_ignore_ascii_case("png")) {
            found.push(entry.into_path());
        }
    }
    Ok(found)
}

/// `count` of `all`, drawn by `seed`; the same for the same list. Fails when there are fewer.
pub fn draw<T: Clone>(all: &[T], count: usize, seed: u64) -> Result<Vec<T>> {
    ensure!(
        all.len() >= count,
        "{count} calibration pictures are asked for and there are {}; give more pictures or a smaller --pictures",
        all.len()
    );
    let mut places: Vec<usize> = (0..all.len()).collect();
    places.shuffle(&mut Pcg64::seed_from_u64(seed));
    Ok(places[..count].iter().map(|&at| all[at].clone()).collect())
}

/// Refuses pictures that teach nothing about the network's values, such as one that is black all over.
pub fn check(pictures: &[PathBuf], maps: &[Map]) -> Result<()> {
    for (picture, map) in pictures.iter().zip(maps) {
        let first = map.values[0];
        let flat = map.channels().all(|channel| channel.iter().all(|x| *x == channel[0]));
        ensure!(
            !flat,
            "{}: has the same colour everywhere (first value {first}); take it out of the calibration pictures",
            picture.display()
        );
    }
    Ok(())
}
