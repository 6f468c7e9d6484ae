//! `anemia-calibrate report`: what quantization costs, on networks and pictures that do not know each other.

use std::path::PathBuf;
use std::time::Instant;

use anemia_bundle::{Input, Output, OutputKind, Precision, Task};
use anemia_engine::{Engine, EngineOptions, Source};
use anemia_evaluation::{Interval, Judged, Prediction, Summary};
use anemia_onnx::proto::ModelProto;
use anemia_vision::InputSpec;
use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::folds::{Fold, Run};
use crate::network::Map;
use crate::quantize::{self, Format, Quantized};
use crate::{Recipe, output::say, pictures, write};

/// Quantizes the network of every fold with pictures that it was trained on, and measures it on those that it was not.
#[derive(Args)]
pub(crate) struct Report {
    /// Folders of `anemia-train cv`; give one of each protocol
    #[arg(long, required = true, num_args = 1..)]
    run: Vec<PathBuf>,
    /// Folder with the pictures
    #[arg(long)]
    data: PathBuf,
    /// `paper`, `best`, or a YAML file
    #[arg(long, default_value = "best")]
    recipe: String,
    /// Calibration pictures for each fold
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pictures: u32,
    /// Write the figures as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One way of running a network.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Fp32,
    Fp16,
    Int8,
    Int8TensorRt,
    Int4,
}

const KINDS: [(Kind, &str, Precision); 5] = [
    (Kind::Fp32, "fp32", Precision::Fp32),
    (Kind::Fp16, "fp16", Precision::Fp16),
    (Kind::Int8, "int8", Precision::Int8),
    (Kind::Int8TensorRt, "int8 for TensorRT", Precision::Int8),
    (Kind::Int4, "int4", Precision::Int4),
];

/// The paper's Table IV: loss, accuracy, precision, recall, F1, AUC, MB, ms.
const PAPER: [(&str, [f64; 8]); 4] = [
    ("fp32", [0.2141, 0.9313, 0.9374, 0.9500, 0.9428, 0.9657, 9.13, 48.6]),
    ("fp16", [0.2149, 0.9250, 0.9370, 0.9400, 0.9377, 0.9654, 4.61, 37.4]),
    ("int8", [0.7441, 0.7125, 0.7697, 0.7519, 0.7607, 0.9005, 9.24, 91.9]),
    ("int4", [2.3136, 0.4313, 0.2000, 0.0100, 0.0196, 0.6387, 17.75, 49.5]),
];

/// What was measured of one precision under one protocol.
#[derive(Serialize)]
struct Measured {
    run: PathBuf,
    protocol: String,
    precision: &'static str,
    summary: Summary,
    /// Share of pictures with the verdict of the fp32 network of their fold, at probability 0.5.
    agreement: f64,
    /// Pictures whose verdict changed.
    flips: Vec<PathBuf>,
    /// Size of the file, mean over the folds.
    bytes: f64,
    /// Milliseconds for one picture on one thread: median, and median of the distance from it.
    milliseconds: [f64; 2],
    /// Seconds that the calibrator took, mean over the folds.
    seconds: f64,
}

#[derive(Default)]
struct Gathered {
    judged: Vec<Judged>,
    flips: Vec<PathBuf>,
    bytes: usize,
    times: Vec<f64>,
    seconds: f64,
}

impl Report {
    pub(crate) fn run(&self) -> Result<()> {
        let recipe = Recipe::find(&self.recipe)?;
        let mut all = Vec::new();
        for folder in &self.run {
            let run = Run::read(folder)?;
            say(format_args!("\n{} protocol, {}, recipe {}", run.protocol, folder.display(), self.recipe));
            let measured = self.measure(folder.clone(), &run, &recipe)?;
            print(&measured);
            all.extend(measured);
        }
        say("\nthe paper (INT8 and INT4 emulated in floats; one protocol, copies of photographs on both sides)");
        say("            loss   accuracy  precision  recall  F1      AUC     MB     ms");
        for (name, figures) in PAPER {
            let [loss, accuracy, precision, recall, f1, auc, size, time] = figures;
            say(format_args!(
                "{name:<10}  {loss:.4} {accuracy:.4}    {precision:.4}     {recall:.4}  {f1:.4}  {auc:.4}  {size:<6} {time}"
            ));
        }
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_vec_pretty(&all)?)?;
        }
        Ok(())
    }

    fn measure(&self, folder: PathBuf, run: &Run, recipe: &Recipe) -> Result<Vec<Measured>> {
        let mut gathered: Vec<Gathered> = KINDS.iter().map(|_| Gathered::default()).collect();
        for fold in &run.folds {
            let training: Vec<PathBuf> =
                run.training(fold.number).iter().map(|one| self.data.join(&one.path)).collect();
            let drawn = pictures::draw(&training, self.pictures as usize, u64::from(fold.number))?;
            let calibration = pictures::cut_out_all(&drawn, &fold.input)?;
            pictures::check(&drawn, &calibration)?;
            let test: Vec<PathBuf> = fold.test.iter().map(|one| self.data.join(&one.path)).collect();
            let test = pictures::cut_out_all(&test, &fold.input)?;
            let mut reference: Vec<f32> = Vec::new();
            for ((kind, _, precision), gathered) in KINDS.iter().zip(&mut gathered) {
                let start = Instant::now();
                let (network, temperature) = network_of(*kind, fold, &calibration, recipe)?;
                gathered.seconds += start.elapsed().as_secs_f64() / run.folds.len() as f64;
                gathered.bytes += network.len();
                let mut engine = engine(fold, &network, *precision)?;
                let mut logits = Vec::new();
                for map in &test {
                    engine.input().copy_from_slice(&map.values);
                    let start = Instant::now();
                    logits.push(engine.run()?[0] / temperature);
                    gathered.times.push(start.elapsed().as_secs_f64() * 1e3);
                }
                if *kind == Kind::Fp32 {
                    check_is_the_networks(fold, &logits)?;
                    reference.clone_from(&logits);
                }
                for ((one, logit), fp32) in fold.test.iter().zip(&logits).zip(&reference) {
                    gathered.judged.push(Prediction { logit: *logit, ..one.clone() }.judged());
                    if (*logit >= 0.0) != (*fp32 >= 0.0) {
                        gathered.flips.push(one.path.clone());
                    }
                }
            }
        }
        let folds = run.folds.len() as f64;
        let measured = KINDS.iter().zip(gathered).map(|((_, name, _), gathered)| Measured {
            run: folder.clone(),
            protocol: run.protocol.clone(),
            precision: name,
            agreement: 1.0 - gathered.flips.len() as f64 / gathered.judged.len() as f64,
            summary: Summary::of(&gathered.judged, 0.5),
            flips: gathered.flips,
            bytes: gathered.bytes as f64 / folds,
            milliseconds: spread(gathered.times),
            seconds: gathered.seconds,
        });
        Ok(measured.collect())
    }
}

/// The bytes of a network, and what its logits are to be divided by.
fn network_of(kind: Kind, fold: &Fold, calibration: &[Map], recipe: &Recipe) -> Result<(Vec<u8>, f32)> {
    let network = &fold.network;
    let (quantized, form): (_, fn(&Quantized) -> ModelProto) = match kind {
        Kind::Fp32 => return Ok((fold.bytes.clone(), 1.0)),
        Kind::Fp16 => (quantize::fp16(network, calibration, recipe)?, write::fp16),
        Kind::Int8 => (quantize::int8(network, calibration, Format::Unsigned, recipe)?, write::int8_onnxruntime),
        Kind::Int8TensorRt => (quantize::int8(network, calibration, Format::Signed, recipe)?, write::int8_tensorrt),
        Kind::Int4 => (quantize::int4(network, calibration, fold.bytes.len(), recipe)?, write::int4),
    };
    Ok((anemia_onnx::encode(&form(&quantized)), quantized.temperature))
}

fn engine(fold: &Fold, network: &[u8], precision: Precision) -> Result<Box<dyn Engine>> {
    let InputSpec { width, height, mean, std } = fold.input;
    let input = Input { name: fold.network.input.clone(), width: width as u32, height: height as u32, mean, std };
    let output = Output { name: fold.network.output.clone(), kind: OutputKind::Logit };
    let source = Source { path: &fold.file, network, task: Task::Classify, input: &input, output: &output, precision };
    Ok(anemia_engine::load_network(&source, &EngineOptions::default())?)
}

/// The fp32 network must say what the training wrote down: otherwise it is another one, or these are other pictures.
fn check_is_the_networks(fold: &Fold, logits: &[f32]) -> Result<()> {
    for (one, logit) in fold.test.iter().zip(logits) {
        ensure!(
            (one.logit - logit).abs() <= 0.01 + 0.01 * one.logit.abs(),
            "{}: says {logit} for {}, and its predictions.csv {}; expected the pictures that it was measured on",
            fold.file.display(),
            one.path.display(),
            one.logit
        );
    }
    Ok(())
}

/// The median, and the median distance from it.
fn spread(mut values: Vec<f64>) -> [f64; 2] {
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let middle = median(&mut values);
    let mut distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    [middle, median(&mut distances)]
}

fn print(measured: &[Measured]) {
    let Some(fp32) = measured.first() else { return };
    let text = |found: Option<Interval>| {
        found.map_or("–".into(), |found| {
            let Interval { value, low, high } = found;
            format!("{value:.4} ({low:.3} to {high:.3})")
        })
    };
    say(
        "                   accuracy                   AUC                        F1                         agreement  size   ms            calibrated in",
    );
    for one in measured {
        say(format_args!(
            "{:<18} {:<26} {:<26} {:<26} {:.4}     {:.4} {:.2} ± {:.2}   {:.1} s",
            one.precision,
            text(one.summary.accuracy),
            text(one.summary.auc),
            text(one.summary.f1),
            one.agreement,
            one.bytes / fp32.bytes,
            one.milliseconds[0],
            one.milliseconds[1],
            one.seconds
        ));
    }
}
