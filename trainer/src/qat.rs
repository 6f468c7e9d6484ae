//! `anemia-train qat`: teaches the networks of a cross-validation to be rounded.

use std::path::{Path, PathBuf};

use anemia_bundle::Sha256;
use anemia_evaluation::Prediction;
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::cv::{self, prediction};
use crate::dataset::{self, Protocol};
use crate::files::{read_rows, write_rows};
use crate::network::fold;
use crate::output::{progress, say, tell};
use crate::recipe::Recipe;
use crate::run_folder::RunFolder;
use crate::split::check_folds;
use crate::torch::{self, Plan, Pretrained, Student, Weights, predict, train};

/// Step size of Adam; it falls to 0 along half a cosine.
const LEARNING_RATE: f64 = 1e-5;

/// Fine-tunes the network of every fold with rounding in it, on the pictures that it was trained on.
///
/// What comes out is a run of float networks that lose less when they are quantized; `anemia-calibrate report --qat` measures
/// how much less.
#[derive(Args)]
pub(crate) struct Qat {
    /// Folder of the `anemia-train cv` whose networks are taken
    #[arg(long)]
    run: PathBuf,
    /// Folder with the pictures and folds.csv
    #[arg(long)]
    data: PathBuf,
    /// Folder of the new run; a run that was stopped goes on
    #[arg(long)]
    out: PathBuf,
    /// Passes over the training pictures
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads of libtorch; another number gives other last digits
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
}

/// What is read of the `run.yaml` of a cross-validation.
#[derive(Deserialize)]
struct Teacher {
    command: String,
    protocol: String,
    networks: u32,
    data_sha256: Sha256,
    recipe: Recipe,
}

/// Everything that the numbers of this run depend on.
#[derive(Serialize)]
struct Settings {
    command: &'static str,
    /// Of the `predictions.csv` of the run whose networks are taken.
    teacher_sha256: Sha256,
    protocol: String,
    epochs: u32,
    learning_rate: f64,
    seed: u64,
    threads: u32,
    device: String,
    version: &'static str,
    libtorch: &'static str,
}

impl Qat {
    pub(crate) fn run(&self) -> Result<()> {
        torch::set_up(self.threads)?;
        let teacher = self.teacher()?;
        let recipe = &teacher.recipe;
        let protocol: Protocol = teacher.protocol.parse().map_err(|error| {
            let run = self.run.join("run.yaml");
            anyhow::anyhow!("{}: its protocol: {error}; start this where `anemia-train cv` was started", run.display())
        })?;
        let labelled = dataset::read(&self.data, &protocol)?;
        let folds = check_folds(&labelled, &protocol)?;
        let start = |fold: u32| Pretrained::read(&self.run.join(format!("fold-{fold}/weights.safetensors")));
        let first = *folds.first().context("there are no folds")?;
        let conventions = start(first)?.conventions;
        let pictures = cv::read_pictures(&labelled, recipe, conventions)?;
        ensure!(
            cv::hash_of(&labelled, &pictures)? == teacher.data_sha256,
            "{}: are not the pictures and folds that {} was trained with",
            self.data.display(),
            self.run.display()
        );
        let predictions = self.run.join("predictions.csv");
        let folder = RunFolder::open(
            &self.out,
            &Settings {
                command: "qat",
                teacher_sha256: Sha256::of_file(&predictions)
                    .with_context(|| format!("{}: let `anemia-train cv` go on first", predictions.display()))?,
                protocol: teacher.protocol.clone(),
                epochs: self.epochs,
                learning_rate: LEARNING_RATE,
                seed: self.seed,
                threads: self.threads,
                device: format!("{:?}", torch::device()),
                version: env!("CARGO_PKG_VERSION"),
                libtorch: torch::LIBTORCH,
            },
        )?;

        let mut all: Vec<Prediction> = Vec::new();
        for &number in &folds {
            let name = format!("fold-{number}");
            let part = folder.part(&name)?;
            let table = part.join("predictions.csv");
            let rows = match read_rows(&table)? {
                Some(rows) => rows,
                None => {
                    let weights = start(number)?;
                    let network = recipe.network.network(weights.conventions.epsilon);
                    let floats = Weights::trained(&network, &weights, tch::Device::Cpu)?;
                    let (network, values) = fold(&network, &floats.values())?;
                    let begin = Weights::of(&network, &values, torch::device())?;
                    let (test, rest): (Vec<usize>, Vec<usize>) =
                        (0..labelled.len()).partition(|&index| labelled[index].fold == number);
                    let student =
                        Student::new(&network, &begin, &pictures, &rest, &recipe.augmentation, recipe.batch as usize);
                    let bar = progress(self.epochs, &name);
                    let plan = self.plan(number, &part, &bar);
                    let tuned = train(&student, &plan, begin)?;
                    let logits = predict(&network, &pictures, &tuned, &test);
                    let rows: Vec<Prediction> =
                        test.iter().zip(logits).map(|(&index, logit)| prediction(&labelled[index], logit)).collect();
                    cv::write_network(&part.join("fp32.onnx"), &network, &tuned.values(), recipe, weights.conventions)?;
                    write_rows(&table, &rows)?;
                    bar.finish_and_clear();
                    rows
                }
            };
            tell(format_args!("{name}: {} pictures", rows.len()));
            all.extend(rows);
        }
        write_rows(&folder.path().join("predictions.csv"), &all)?;
        say(folder.path().display());
        Ok(())
    }

    fn teacher(&self) -> Result<Teacher> {
        let path = self.run.join("run.yaml");
        let context = || format!("{}: expected the folder of an `anemia-train cv`", path.display());
        let text = std::fs::read(&path).with_context(context)?;
        let teacher: Teacher = serde_yaml::from_slice(&text).with_context(context)?;
        ensure!(
            teacher.command == "cv" && teacher.networks == 1,
            "{}: expected one network for each fold",
            path.display()
        );
        Ok(teacher)
    }

    fn plan<'a>(&self, fold: u32, folder: &'a Path, bar: &'a indicatif::ProgressBar) -> Plan<'a> {
        Plan {
            epochs: self.epochs,
            patience: None,
            learning_rate: LEARNING_RATE,
            warm_up: 0.05,
            cosine: true,
            average: 0.0,
            seed: self.seed,
            stream: u64::from(fold),
            folder,
            bar,
        }
    }
}
