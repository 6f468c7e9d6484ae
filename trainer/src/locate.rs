//! `anemia-train locate`: the network that finds the conjunctiva.

use std::path::{Path, PathBuf};

use anemia_bundle::{Input, Metric, Output, OutputKind, Sha256, Task, Training};
use anemia_vision::phantom::Phantom;
use anemia_vision::{BoxLocator, CutOut, Frame, Locator as _, Roi, read_picture};
use anyhow::{Context, Result, ensure};
use clap::Args;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::bundle::{self, Content};
use crate::cv;
use crate::files::{read_rows, write_rows};
use crate::network::{INPUT, Network, export, lid_net};
use crate::run_folder::RunFolder;
use crate::torch::{self, Eyes, Locator, Plan, Pretrained, State, Weights, locate, train};

/// Width and height of the network's input.
const SIZE: usize = 192;
/// Pictures are kept at this size while training, so that windows onto them are not blurred.
const SIDE: usize = 256;
/// Phantoms that are trained on.
const PHANTOMS: usize = 48;
/// Passes over the photographs.
const EPOCHS: u32 = 52;
const OUTPUT: &str = "mask";

/// Trains the locator, measures it on people that it has not seen, and writes a bundle.
#[derive(Args)]
pub(crate) struct Locate {
    /// Folder with images, masks and labels.csv
    #[arg(long)]
    data: PathBuf,
    /// Weights to start from: MobileNetV2 with torchvision's names and input from −1 to 1, .safetensors
    #[arg(long)]
    pretrained: PathBuf,
    /// Parts of the cross-validation; no person is in two of them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=100))]
    folds: u32,
    /// Passes over the photographs
    #[arg(long, default_value_t = EPOCHS, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// Version of the model
    #[arg(long)]
    model_version: String,
    /// YAML file with the `training` section of the manifest
    #[arg(long)]
    training: PathBuf,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads of libtorch; another number gives other last digits
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// Folder of the run; a run that was stopped goes on
    #[arg(long, default_value = "runs/locate")]
    run: PathBuf,
    /// Folder of the new bundle; it must not exist yet
    #[arg(long)]
    out: PathBuf,
}

/// One row of `labels.csv`.
#[derive(Clone, Debug, Deserialize)]
struct Eye {
    number: u64,
    image: PathBuf,
    mask: PathBuf,
}

/// One row of `overlaps.csv`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Overlap {
    image: PathBuf,
    fold: u32,
    iou: f64,
}

#[derive(Serialize)]
struct Settings {
    command: &'static str,
    pictures: usize,
    labels_sha256: Sha256,
    pretrained_sha256: Sha256,
    folds: u32,
    epochs: u32,
    seed: u64,
    threads: u32,
    device: String,
    version: String,
}

impl Locate {
    #[allow(clippy::print_stdout)]
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(!self.out.exists(), "{}: exists already; remove it or choose another folder", self.out.display());
        let text = std::fs::read(&self.training).with_context(|| format!("{}", self.training.display()))?;
        let training: Training =
            serde_yaml::from_slice(&text).with_context(|| format!("{}", self.training.display()))?;
        anemia_engine::find_library(None)?;
        torch::set_up(self.threads)?;
        let eyes = self.read_labels()?;
        let pretrained = Pretrained::read(&self.pretrained)?;
        ensure!(
            pretrained.mean == [0.5; 3],
            "{}: its input is not −1 to 1, as the locator's is; use weights that were converted from Keras",
            self.pretrained.display()
        );
        let settings = Settings {
            command: "locate",
            pictures: eyes.len(),
            labels_sha256: Sha256::of_file(&self.data.join("labels.csv"))?,
            pretrained_sha256: Sha256::of_file(&self.pretrained)?,
            folds: self.folds,
            epochs: self.epochs,
            seed: self.seed,
            threads: self.threads,
            device: format!("{:?}", torch::device()),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let folder = RunFolder::open(&self.run, &settings)?;
        let photographs = self.photographs(&eyes)?;
        let phantoms = phantoms(self.seed);
        let network = lid_net(pretrained.epsilon);

        let folds = folds(&eyes, self.folds, self.seed);
        let mut overlaps = Vec::new();
        for fold in 0..self.folds {
            let part = folder.part(&format!("fold-{fold}"))?;
            let table = part.join("overlaps.csv");
            let found = match read_rows(&table)? {
                Some(found) => found,
                None => {
                    let learn = (0..eyes.len()).filter(|&index| folds[index] != fold).collect();
                    let start = self.start(&network, &pretrained)?;
                    let state = self.train(&network, &photographs, &phantoms, learn, u64::from(fold), &part, start)?;
                    let weights = self.start(&network, &pretrained)?;
                    let rows = (0..eyes.len()).filter(|&index| folds[index] == fold).map(|index| {
                        let iou = self.overlap(&network, &weights, &state, &eyes[index])?;
                        Ok(Overlap { image: eyes[index].image.clone(), fold, iou })
                    });
                    let rows: Vec<Overlap> = rows.collect::<Result<_>>()?;
                    write_rows(&table, &rows)?;
                    rows
                }
            };
            let mean = found.iter().map(|one| one.iou).sum::<f64>() / found.len() as f64;
            cv::tell(&format!("fold {fold}: {} pictures, mean IoU {mean:.3}", found.len()));
            overlaps.extend(found);
        }
        write_rows(&folder.path().join("overlaps.csv"), &overlaps)?;
        let figures = Figures::of(&overlaps);
        println!(
            "{} pictures, each by a network that has not seen the person: mean IoU {:.3}, worst tenth {:.3}, its upper end {:.3}",
            overlaps.len(),
            figures.mean,
            figures.worst_tenth,
            figures.tenth_percentile
        );

        let part = folder.part("all")?;
        let all = (0..eyes.len()).collect();
        let start = self.start(&network, &pretrained)?;
        let state = self.train(&network, &photographs, &phantoms, all, u64::from(u32::MAX), &part, start)?;
        let values = self.start(&network, &pretrained)?.values(&state);
        let model = export(&network, &values, SIZE as i64, OUTPUT)?;
        let side = SIZE as u32;
        let content = Content {
            name: "locator".into(),
            version: self.model_version.clone(),
            task: Task::Locate,
            input: Input { name: INPUT.into(), width: side, height: side, mean: [0.5; 3], std: [0.5; 3] },
            output: Output { name: OUTPUT.into(), kind: OutputKind::Logit },
            operating_point: None,
            metrics: figures.metrics(overlaps.len()),
            card: card(self, &training, &figures, &overlaps, network.trained_numbers()).into_bytes(),
            training,
            network: anemia_onnx::encode(&model),
        };
        bundle::write(&self.out, content)?;
        println!("{}: locator {} written", self.out.display(), self.model_version);
        Ok(())
    }

    fn read_labels(&self) -> Result<Vec<Eye>> {
        let table = self.data.join("labels.csv");
        let context = || format!("{}", table.display());
        let mut rows = csv::Reader::from_path(&table).with_context(context)?;
        let eyes: Vec<Eye> = rows.deserialize().collect::<Result<_, _>>().with_context(context)?;
        let people = eyes.iter().map(|eye| eye.number).collect::<std::collections::BTreeSet<_>>().len();
        ensure!(people >= self.folds as usize, "{}: {people} people for {} folds", table.display(), self.folds);
        for eye in &eyes {
            for file in [&eye.image, &eye.mask] {
                ensure!(self.data.join(file).is_file(), "{}: {} is not there", table.display(), file.display());
            }
        }
        Ok(eyes)
    }

    fn start(&self, network: &Network, pretrained: &Pretrained) -> Result<Weights> {
        let mut weights = Weights::random(network, torch::device(), self.seed as i64);
        weights.load(pretrained)?;
        Ok(weights)
    }

    #[allow(clippy::too_many_arguments)]
    fn train(
        &self,
        network: &Network,
        photographs: &Eyes,
        phantoms: &Eyes,
        learn: Vec<usize>,
        stream: u64,
        folder: &Path,
        start: Weights,
    ) -> Result<State> {
        let locator = Locator { network, photographs, phantoms, train: learn, size: SIZE as i64 };
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bar = cv::progress(u64::from(self.epochs), &name);
        let plan = Plan {
            epochs: self.epochs,
            patience: None,
            learning_rate: 4e-3,
            warm_up: 0.1,
            cosine: true,
            average: 0.95,
            seed: self.seed,
            stream,
            folder,
            bar: &bar,
        };
        let state = train(&locator, &plan, start)?;
        bar.finish_and_clear();
        Ok(state)
    }

    fn photographs(&self, eyes: &[Eye]) -> Result<Eyes> {
        let mut all = Squeezed::default();
        for eye in eyes {
            let (frame, mask) = self.read(eye)?;
            all.push(&frame, &mask);
        }
        Ok(all.finish())
    }

    /// A picture and its mask, white on black.
    fn read(&self, eye: &Eye) -> Result<(Frame, Frame)> {
        let (mut frame, mut mask) = (Frame::default(), Frame::default());
        read_picture(&self.data.join(&eye.image), &mut frame).with_context(|| format!("{}", eye.image.display()))?;
        let path = self.data.join(&eye.mask);
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

    /// Intersection over union with the mask, at the size of the picture.
    fn overlap(&self, network: &Network, weights: &Weights, state: &State, eye: &Eye) -> Result<f64> {
        let (frame, mask) = self.read(eye)?;
        let pixels = squeeze(&frame, SIZE);
        let size = [frame.width() as i64, frame.height() as i64];
        let map = locate(network, weights, state, &pixels, SIZE as i64, size);
        let (mut both, mut either) = (0u64, 0u64);
        for (logit, pixel) in map.iter().zip(mask.rgb().chunks_exact(3)) {
            let (found, wanted) = (*logit > 0.0, pixel[0] != 0);
            both += u64::from(found && wanted);
            either += u64::from(found || wanted);
        }
        Ok(if either == 0 { 1.0 } else { both as f64 / either as f64 })
    }
}

/// A fold for each picture: all pictures of a person get the same one.
fn folds(eyes: &[Eye], folds: u32, seed: u64) -> Vec<u32> {
    let mut people: Vec<u64> = eyes.iter().map(|eye| eye.number).collect();
    people.sort_unstable();
    people.dedup();
    people.shuffle(&mut Pcg64::seed_from_u64(seed));
    let fold = |eye: &Eye| people.iter().position(|&one| one == eye.number).unwrap_or(0) as u32 % folds;
    eyes.iter().map(fold).collect()
}

fn phantoms(seed: u64) -> Eyes {
    let mut all = Squeezed::default();
    let mut random = Pcg64::seed_from_u64(seed);
    let mut frame = Frame::default();
    for _ in 0..PHANTOMS {
        // Other numbers than those that demonstrations and tests use.
        let seed = random.random_range(1u64 << 32..1 << 40);
        let roi = Phantom::from_seed(seed).render(640, 360, &mut frame);
        let white: Vec<u8> = roi.to_mask(640, 360).iter().flat_map(|&inside| [inside; 3]).collect();
        let mut mask = Frame::default();
        mask.set_rgb(640, 360, &white);
        all.push(&frame, &mask);
    }
    all.finish()
}

/// The whole picture as the network gets it: squeezed to a square, whatever its shape.
fn squeeze(frame: &Frame, side: usize) -> Vec<u8> {
    let (mut roi, mut cutout) = (Roi::default(), CutOut::new());
    BoxLocator { x: 0, y: 0, width: frame.width(), height: frame.height() }.locate(frame, &mut roi);
    cutout.cut(frame, &roi, side, side);
    cutout.pixels().to_vec()
}

#[derive(Default)]
struct Squeezed {
    planes: Vec<u8>,
    aspects: Vec<f32>,
    centres: Vec<[f32; 2]>,
}

impl Squeezed {
    fn push(&mut self, frame: &Frame, mask: &Frame) {
        let (picture, mask) = (squeeze(frame, SIDE), squeeze(mask, SIDE));
        for channel in 0..3 {
            self.planes.extend(picture.chunks_exact(3).map(|pixel| pixel[channel]));
        }
        self.planes.extend(mask.chunks_exact(3).map(|pixel| pixel[0]));
        let (mut weight, mut x, mut y) = (1e-6, 0.0, 0.0);
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

/// What is told about the overlaps of all held-out pictures.
struct Figures {
    mean: f64,
    mean_interval: [f64; 2],
    /// Mean of the worst tenth.
    worst_tenth: f64,
    tenth_percentile: f64,
}

impl Figures {
    fn of(overlaps: &[Overlap]) -> Self {
        let mut sorted: Vec<f64> = overlaps.iter().map(|one| one.iou).collect();
        sorted.sort_by(f64::total_cmp);
        let tenth = sorted.len().div_ceil(10);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let mut random = Pcg64::seed_from_u64(0);
        let mut means: Vec<f64> = (0..2000)
            .map(|_| mean(&sorted.iter().map(|_| sorted[random.random_range(0..sorted.len())]).collect::<Vec<_>>()))
            .collect();
        means.sort_by(f64::total_cmp);
        Self {
            mean: mean(&sorted),
            mean_interval: [means[50], means[1949]],
            worst_tenth: mean(&sorted[..tenth]),
            tenth_percentile: sorted[tenth - 1],
        }
    }

    fn metrics(&self, pictures: usize) -> Vec<Metric> {
        let data = format!("cross-validation by person, {pictures} pictures, each by a network that has not seen it");
        vec![Metric { name: "mean IoU".into(), data, value: self.mean, interval: self.mean_interval }]
    }
}

fn card(locate: &Locate, training: &Training, figures: &Figures, overlaps: &[Overlap], numbers: i64) -> String {
    let [low, high] = figures.mean_interval;
    let mut worst = overlaps.to_vec();
    worst.sort_by(|a, b| a.iou.total_cmp(&b.iou));
    let worst: Vec<String> =
        worst.iter().take(3).map(|one| format!("{} ({:.2})", one.image.display(), one.iou)).collect();
    format!(
        "# Model card: locator {}\n\nFinds the palpebral conjunctiva in a picture of a whole eye with the lower lid pulled \
         down. It says nothing about anemia.\n\n| | |\n|---|---|\n| what | first five stages of MobileNetV2 with a feature \
         pyramid, {numbers} trained numbers; one logit for each 2×2 pixels |\n| input | the whole picture squeezed to \
         {SIZE}×{SIZE} RGB |\n| trained on | {}, and {PHANTOMS} phantoms |\n\n## What was measured\n\nOverlap (intersection \
         over union, IoU) with outlines that people drew, at the size of the photograph, in a cross-validation with {} \
         folds: no person is in training and test. The network in this bundle was trained on all of them.\n\n| figure | \
         value |\n|---|---|\n| mean IoU | {:.3} (95 % {low:.3} to {high:.3}) |\n| mean of the worst tenth | {:.3} |\n| tenth \
         percentile | {:.3} |\n\nThe worst: {}.\n\n## Limits\n\n{}\n",
        locate.model_version,
        training.data,
        locate.folds,
        figures.mean,
        figures.worst_tenth,
        figures.tenth_percentile,
        worst.join(", "),
        training.limits
    )
}
