//! `anemia-train locate`: the network that finds the conjunctiva.

mod card;
mod eyes;

use std::path::{Path, PathBuf};

use anemia_bundle::{Input, Metric, Output, OutputKind, Sha256, Task, Training};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::bundle::{self, Content};
use crate::files::{read_rows, write_rows};
use crate::network::{INPUT, Network, export, lid_net};
use crate::output::{progress, say, tell};
use crate::run_folder::RunFolder;
use crate::torch::{self, Conventions, Eyes, Locator, Plan, Pretrained, Weights, locate, train};
use anemia_vision::{MapReader, Roi, Squeeze};
use card::{Figures, Overlap, card};
use eyes::{Eye, empty, folds, phantoms, photographs, read, read_labels};

/// Width and height of the network's input.
const SIZE: usize = 192;
/// Passes over the photographs.
const EPOCHS: u32 = 80;
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

#[derive(Serialize)]
struct Settings {
    command: &'static str,
    pictures: usize,
    labels_sha256: Sha256,
    /// Of the squeezed photographs and their masks.
    pixels_sha256: Sha256,
    pretrained_sha256: Sha256,
    folds: u32,
    epochs: u32,
    seed: u64,
    threads: u32,
    device: String,
    version: String,
    libtorch: &'static str,
}

impl Locate {
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(!self.out.exists(), "{}: exists already; remove it or choose another folder", self.out.display());
        let training = bundle::read_training(&self.training)?;
        anemia_engine::find_library(None)?;
        torch::set_up(self.threads)?;
        let eyes = read_labels(&self.data, self.folds)?;
        let pretrained = Pretrained::read(&self.pretrained)?;
        let Conventions { epsilon, mean, std } = pretrained.conventions;
        ensure!(
            (mean, std) == ([0.5; 3], [0.5; 3]),
            "{}: its input is not −1 to 1, as the locator's is; use weights that were converted from Keras",
            self.pretrained.display()
        );
        let photographs = photographs(&self.data, &eyes)?;
        let pixels = Vec::<u8>::try_from(photographs.planes.to_device(tch::Device::Cpu).view(-1))?;
        let settings = Settings {
            command: "locate",
            pictures: eyes.len(),
            labels_sha256: Sha256::of_file(&self.data.join("labels.csv"))?,
            pixels_sha256: Sha256::of(&pixels),
            pretrained_sha256: Sha256::of_file(&self.pretrained)?,
            folds: self.folds,
            epochs: self.epochs,
            seed: self.seed,
            threads: self.threads,
            device: format!("{:?}", torch::device()),
            version: env!("CARGO_PKG_VERSION").into(),
            libtorch: torch::LIBTORCH,
        };
        let folder = RunFolder::open(&self.run, &settings)?;
        let rendered = [phantoms(self.seed), empty(self.seed)];
        let network = lid_net(epsilon);

        let folds = folds(&eyes, self.folds, self.seed);
        let mut overlaps = Vec::new();
        for fold in 0..self.folds {
            let part = folder.part(&format!("fold-{fold}"))?;
            let table = part.join("overlaps.csv");
            let found = match read_rows(&table)? {
                Some(found) => found,
                None => {
                    let learn = (0..eyes.len()).filter(|&index| folds[index] != fold).collect();
                    let start = Weights::start(&network, &pretrained, torch::device(), self.seed)?;
                    let weights =
                        self.train(&network, &photographs, &rendered, learn, u64::from(fold), &part, start)?;
                    let rows = (0..eyes.len()).filter(|&index| folds[index] == fold).map(|index| {
                        let iou = self.overlap(&network, &weights, &eyes[index])?;
                        let Eye { image, number, .. } = &eyes[index];
                        Ok(Overlap { image: image.clone(), person: *number, fold, iou })
                    });
                    let rows: Vec<Overlap> = rows.collect::<Result<_>>()?;
                    // For whoever measures what comes after the locator: on these people with this network.
                    let bundle = part.join("bundle");
                    if bundle.exists() {
                        std::fs::remove_dir_all(&bundle)?;
                    }
                    let card = format!("A network of a cross-validation, which has not seen fold {fold}.\n");
                    self.write(&bundle, &network, &weights, training.clone(), Vec::new(), card)?;
                    write_rows(&table, &rows)?;
                    rows
                }
            };
            let mean = found.iter().map(|one| one.iou).sum::<f64>() / found.len() as f64;
            tell(format_args!("fold {fold}: {} pictures, mean IoU {mean:.3}", found.len()));
            overlaps.extend(found);
        }
        write_rows(&folder.path().join("overlaps.csv"), &overlaps)?;
        let figures = Figures::of(&overlaps).context("there are no photographs")?;
        say(format_args!(
            "{} pictures, each by a network that has not seen the person: {}",
            overlaps.len(),
            figures.line()
        ));

        let part = folder.part("all")?;
        let all = (0..eyes.len()).collect();
        let start = Weights::start(&network, &pretrained, torch::device(), self.seed)?;
        let weights = self.train(&network, &photographs, &rendered, all, u64::from(u32::MAX), &part, start)?;
        let card = card(self, &training, &figures, &overlaps, network.trained_numbers());
        self.write(&self.out, &network, &weights, training, figures.metrics(overlaps.len()), card)?;
        say(format_args!("{}: locator {} written", self.out.display(), self.model_version));
        Ok(())
    }

    /// Writes the bundle of a network.
    fn write(
        &self,
        out: &Path,
        network: &Network,
        weights: &Weights,
        training: Training,
        metrics: Vec<Metric>,
        card: String,
    ) -> Result<()> {
        let model = export(network, &weights.values(), SIZE as i64, OUTPUT)?;
        let side = SIZE as u32;
        let content = Content {
            name: "locator".into(),
            version: self.model_version.clone(),
            task: Task::Locate,
            input: Input {
                name: INPUT.into(),
                width: side,
                height: side,
                mean: [0.5; 3],
                std: [0.5; 3],
                rim: 0,
                smooth: 0.0,
            },
            output: Output { name: OUTPUT.into(), kind: OutputKind::Logit },
            operating_point: None,
            metrics,
            card: card.into_bytes(),
            training,
            network: anemia_onnx::encode(&model),
        };
        bundle::write(out, content)
    }

    #[allow(clippy::too_many_arguments)]
    fn train(
        &self,
        network: &Network,
        photographs: &Eyes,
        [phantoms, empty]: &[Eyes; 2],
        learn: Vec<usize>,
        stream: u64,
        folder: &Path,
        start: Weights,
    ) -> Result<Weights> {
        let locator = Locator { network, photographs, phantoms, empty, train: learn, size: SIZE as i64 };
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bar = progress(self.epochs, &name);
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
        let weights = train(&locator, &plan, start)?;
        bar.finish_and_clear();
        Ok(weights)
    }

    /// Intersection over union with the mask, at the size of the picture; 0 where the kiosk would find nothing.
    fn overlap(&self, network: &Network, weights: &Weights, eye: &Eye) -> Result<f64> {
        let (frame, mask) = read(&self.data, eye)?;
        let (mut wanted, mut found) = (Roi::default(), Roi::default());
        wanted.set_from(0, 0, mask.width(), mask.height(), |x, y| mask.pixel(x, y)[0] != 0);
        let map = locate(network, weights, Squeeze::new().squeeze(&frame, SIZE, SIZE), SIZE as i64);
        // A refusal leaves nothing in it.
        let _ = MapReader::new().read(&frame, &map, SIZE / 2, &mut found);
        Ok(f64::from(found.overlap(&wanted)))
    }
}
