//! Photographs of whole eyes with their masks, and phantoms, as the training of the locator wants them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anemia_vision::phantom::{Empty, Phantom};
use anemia_vision::{Frame, Squeeze, read_picture};
use anyhow::{Context, Result, ensure};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::Deserialize;
use tch::Tensor;

use crate::torch::{self, Eyes};

/// Pictures are kept at this size while training, so that windows onto them are not blurred.
const SIDE: usize = 256;
/// Phantoms that are trained on.
pub(super) const PHANTOMS: usize = 48;
/// Pictures without a conjunctiva that are trained on.
pub(super) const EMPTY: usize = 160;
/// Size of what is rendered.
const RENDERED: [usize; 2] = [640, 360];

/// One row of `labels.csv`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Eye {
    /// The person.
    pub(super) number: u64,
    pub(super) image: PathBuf,
    mask: PathBuf,
}

/// Reads `labels.csv`; every picture and mask in it must be there, and there must be `folds` people.
pub(super) fn read_labels(data: &Path, folds: u32) -> Result<Vec<Eye>> {
    let table = data.join("labels.csv");
    let context = || format!("{}", table.display());
    let mut rows = csv::Reader::from_path(&table).with_context(context)?;
    let eyes: Vec<Eye> = rows.deserialize().collect::<Result<_, _>>().with_context(context)?;
    let people = eyes.iter().map(|eye| eye.number).collect::<BTreeSet<_>>().len();
    ensure!(people >= folds as usize, "{}: {people} people for {} folds", table.display(), folds);
    for eye in &eyes {
        for file in [&eye.image, &eye.mask] {
            ensure!(data.join(file).is_file(), "{}: {} is not there", table.display(), file.display());
        }
    }
    Ok(eyes)
}

/// All photographs, squeezed.
pub(super) fn photographs(data: &Path, eyes: &[Eye]) -> Result<Eyes> {
    let mut all = Squeezed::default();
    for eye in eyes {
        let (frame, mask) = read(data, eye)?;
        all.push(&frame, &mask);
    }
    Ok(all.finish())
}

/// A picture and its mask, white on black.
pub(super) fn read(data: &Path, eye: &Eye) -> Result<(Frame, Frame)> {
    let (mut frame, mut mask) = (Frame::default(), Frame::default());
    read_picture(&data.join(&eye.image), &mut frame).with_context(|| format!("{}", eye.image.display()))?;
    let path = data.join(&eye.mask);
    let grey = image::open(&path).with_context(|| format!("{}", path.display()))?.into_luma8();
    let size = (grey.width() as usize, grey.height() as usize);
    ensure!(
        size == (frame.width(), frame.height()),
        "{}: {}×{} pixels; its picture has {}×{}",
        path.display(),
        size.0,
        size.1,
        frame.width(),
        frame.height()
    );
    let white: Vec<u8> = grey.pixels().flat_map(|pixel| [if pixel.0[0] > 127 { 255 } else { 0 }; 3]).collect();
    mask.set_rgb(size.0, size.1, &white);
    Ok((frame, mask))
}

/// A fold for each picture: all pictures of a person get the same one.
pub(super) fn folds(eyes: &[Eye], folds: u32, seed: u64) -> Vec<u32> {
    let mut people: Vec<u64> = eyes.iter().map(|eye| eye.number).collect();
    people.sort_unstable();
    people.dedup();
    people.shuffle(&mut Pcg64::seed_from_u64(seed));
    let fold = |eye: &Eye| people.iter().position(|&one| one == eye.number).unwrap_or(0) as u32 % folds;
    eyes.iter().map(fold).collect()
}

pub(super) fn phantoms(seed: u64) -> Eyes {
    let mut all = Squeezed::default();
    let mut random = Pcg64::seed_from_u64(seed);
    let [width, height] = RENDERED;
    let mut frame = Frame::default();
    for _ in 0..PHANTOMS {
        let roi = Phantom::from_seed(other(&mut random)).render(width, height, &mut frame);
        let white: Vec<u8> = roi.to_mask(width, height).iter().flat_map(|&inside| [inside; 3]).collect();
        let mut mask = Frame::default();
        mask.set_rgb(width, height, &white);
        all.push(&frame, &mask);
    }
    all.finish()
}

/// Pictures without a conjunctiva.
pub(super) fn empty(seed: u64) -> Eyes {
    let mut all = Squeezed::default();
    let mut random = Pcg64::seed_from_u64(seed ^ 1);
    let [width, height] = RENDERED;
    let mut frame = Frame::default();
    let nothing = Frame::new(width, height);
    for kind in Empty::TAUGHT.into_iter().cycle().take(EMPTY) {
        kind.render(other(&mut random), width, height, &mut frame);
        all.push(&frame, &nothing);
    }
    all.finish()
}

/// The number of a phantom that demonstrations and tests do not use.
fn other(random: &mut Pcg64) -> u64 {
    random.random_range(1u64 << 32..1 << 40)
}

#[derive(Default)]
struct Squeezed {
    planes: Vec<u8>,
    aspects: Vec<f32>,
    centres: Vec<[f32; 2]>,
}

impl Squeezed {
    fn push(&mut self, frame: &Frame, mask: &Frame) {
        let mut squeeze = Squeeze::new();
        let picture = squeeze.squeeze(frame, SIDE, SIDE).to_vec();
        let mask = squeeze.squeeze(mask, SIDE, SIDE);
        for channel in 0..3 {
            self.planes.extend(picture.chunks_exact(3).map(|pixel| pixel[channel]));
        }
        self.planes.extend(mask.chunks_exact(3).map(|pixel| pixel[0]));
        // Of nothing, the middle is that of the picture.
        let (mut weight, mut x, mut y) = (1e-6, 5e-7 * SIDE as f32, 5e-7 * SIDE as f32);
        for (at, pixel) in mask.chunks_exact(3).enumerate() {
            let inside = f32::from(pixel[0]);
            weight += inside;
            x += inside * ((at % SIDE) as f32 + 0.5);
            y += inside * ((at / SIDE) as f32 + 0.5);
        }
        self.centres.push([x, y].map(|sum| sum / weight / SIDE as f32 * 2.0 - 1.0));
        self.aspects.push(frame.width() as f32 / frame.height() as f32);
    }

    fn finish(self) -> Eyes {
        let shape = [self.aspects.len() as i64, 4, SIDE as i64, SIDE as i64];
        let planes = Tensor::from_slice(&self.planes).view(shape).to_device(torch::device());
        Eyes { planes, aspects: self.aspects, centres: self.centres }
    }
}
