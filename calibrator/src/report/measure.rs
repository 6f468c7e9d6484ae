//! One cross-validation at every precision, on the pictures that its networks have not seen.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anemia_bundle::Precision;
use anemia_engine::Engine;
use anemia_evaluation::{Judged, Prediction, Summary};
use anemia_onnx::proto::ModelProto;
use anyhow::{Result, ensure};
use serde::Serialize;

use super::layers::Layers;
use super::speed::{self, Time};
use crate::folds::{Fold, Run};
use crate::network::Map;
use crate::quantize::{self, Format, Quantized};
use crate::{Recipe, write};

/// One way of running a network.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Fp32,
    Fp16,
    Int8,
    Int8TensorRt,
    Int4,
}

/// Which networks are quantized.
#[derive(Clone, Copy, PartialEq)]
enum From {
    /// Those of the cross-validation.
    Trained,
    /// Those that `anemia-train qat` made of them.
    Tuned,
}

const VARIANTS: [(Kind, From, &str, Precision); 7] = [
    (Kind::Fp32, From::Trained, "fp32", Precision::Fp32),
    (Kind::Fp16, From::Trained, "fp16", Precision::Fp16),
    (Kind::Int8, From::Trained, "int8", Precision::Int8),
    (Kind::Int8TensorRt, From::Trained, "int8 for TensorRT", Precision::Int8),
    (Kind::Int4, From::Trained, "int4", Precision::Int4),
    (Kind::Int8, From::Tuned, "int8 after qat", Precision::Int8),
    (Kind::Int8TensorRt, From::Tuned, "the same, TensorRT", Precision::Int8),
];

/// A cross-validation.
#[derive(Serialize)]
pub(super) struct Measured {
    pub(super) run: PathBuf,
    pub(super) protocol: String,
    /// Width and height of the networks' input.
    pub(super) size: [usize; 2],
    pub(super) precisions: Vec<Figures>,
    /// What happened inside of the network of the first fold.
    pub(super) layers: Vec<Layers>,
}

/// What was measured of one precision.
#[derive(Serialize)]
pub(super) struct Figures {
    pub(super) precision: &'static str,
    /// The paper's Table IV and more, at probability 0.5.
    pub(super) summary: Summary,
    /// Share of pictures with the verdict of the fp32 network of their fold.
    pub(super) agreement: f64,
    /// Pictures whose verdict changed.
    pub(super) flips: Vec<Flip>,
    /// Size of the file, mean over the folds.
    pub(super) bytes: f64,
    /// Milliseconds for one picture on one thread on one core; the network of the first fold.
    pub(super) time: Time,
    /// Seconds that the calibrator took, mean over the folds.
    pub(super) seconds: f64,
}

/// A picture whose verdict changed.
#[derive(Serialize)]
pub(super) struct Flip {
    pub(super) path: PathBuf,
    pub(super) anemic: bool,
    /// Probability of anemia at fp32.
    pub(super) fp32: f64,
    /// Probability of anemia now.
    pub(super) now: f64,
}

#[derive(Default)]
struct Gathered {
    judged: Vec<Judged>,
    flips: Vec<Flip>,
    bytes: usize,
    seconds: f64,
}

impl Measured {
    /// Quantizes the network of each fold with `count` of the pictures in `data` that it was trained on, and the same with
    /// the networks that `tuned` has made of them.
    pub(super) fn of(run: &Run, tuned: Option<&Run>, data: &Path, recipe: &Recipe, count: u32) -> Result<Self> {
        let variants: Vec<_> =
            VARIANTS.iter().filter(|(_, from, ..)| *from == From::Trained || tuned.is_some()).collect();
        let mut all: Vec<Gathered> = variants.iter().map(|_| Gathered::default()).collect();
        let (mut layers, mut times) = (Vec::new(), Vec::new());
        for fold in &run.folds {
            let calibration = run.calibration(fold, data, count as usize)?;
            let test = fold.unseen(data)?;
            let mut engines = Vec::new();
            let mut reference: Vec<Judged> = Vec::new();
            for ((kind, from, name, precision), gathered) in variants.iter().zip(&mut all) {
                let source = match (from, tuned) {
                    (From::Tuned, Some(tuned)) => tuned.fold(fold.number)?,
                    _ => fold,
                };
                let start = Instant::now();
                let quantized = quantized(*kind, source, &calibration, recipe)?;
                gathered.seconds += start.elapsed().as_secs_f64() / run.folds.len() as f64;
                let bytes = quantized.as_ref().map_or(&fold.bytes, |(_, bytes)| bytes);
                gathered.bytes += bytes.len();
                let temperature = quantized.as_ref().map_or(1.0, |(quantized, _)| quantized.temperature);
                let mut engine = fold.engine(bytes, *precision)?;
                let judged = judge(fold, &test, engine.as_mut(), temperature)?;
                if *kind == Kind::Fp32 {
                    check_is_the_networks(fold, &judged)?;
                    reference.clone_from(&judged);
                }
                gathered.flips.extend(flips(fold, &reference, &judged));
                gathered.judged.extend(judged);
                if times.is_empty() {
                    engines.push(engine);
                    layers.extend(quantized.map(|(quantized, _)| Layers::of(name, &source.network, &quantized)));
                }
            }
            if times.is_empty() {
                times = speed::times(&mut engines)?;
            }
        }
        let folds = run.folds.len() as f64;
        let figures =
            |((_, _, name, _), (gathered, time)): (&&(Kind, From, &'static str, Precision), (Gathered, Time))| {
                Figures {
                    precision: name,
                    agreement: 1.0 - gathered.flips.len() as f64 / gathered.judged.len() as f64,
                    summary: Summary::of(&gathered.judged, 0.5),
                    flips: gathered.flips,
                    bytes: gathered.bytes as f64 / folds,
                    time,
                    seconds: gathered.seconds,
                }
            };
        Ok(Self {
            run: run.folder.clone(),
            protocol: run.protocol.clone(),
            size: run.folds.first().map_or([0; 2], |fold| [fold.input.width, fold.input.height]),
            precisions: variants.iter().zip(all.into_iter().zip(times)).map(figures).collect(),
            layers,
        })
    }
}

/// A network and the bytes of its file; `None` for that of the training.
fn quantized(kind: Kind, fold: &Fold, calibration: &[Map], recipe: &Recipe) -> Result<Option<(Quantized, Vec<u8>)>> {
    let network = &fold.network;
    let (quantized, form): (_, fn(&Quantized) -> ModelProto) = match kind {
        Kind::Fp32 => return Ok(None),
        Kind::Fp16 => (quantize::fp16(network, calibration, recipe)?, write::fp16),
        Kind::Int8 => (quantize::int8(network, calibration, Format::Unsigned, recipe)?, write::int8_onnxruntime),
        Kind::Int8TensorRt => (quantize::int8(network, calibration, Format::Signed, recipe)?, write::int8_tensorrt),
        Kind::Int4 => (quantize::int4(network, calibration, fold.bytes.len(), recipe)?, write::int4),
    };
    let bytes = anemia_onnx::encode(&form(&quantized));
    Ok(Some((quantized, bytes)))
}

/// What a network says of the pictures of its fold.
fn judge(fold: &Fold, test: &[Map], engine: &mut dyn Engine, temperature: f32) -> Result<Vec<Judged>> {
    let one = |(prediction, map): (&Prediction, &Map)| {
        engine.input().copy_from_slice(&map.values);
        let logit = engine.run()?[0] / temperature;
        Ok(Prediction { logit, ..prediction.clone() }.judged())
    };
    fold.test.iter().zip(test).map(one).collect()
}

fn flips(fold: &Fold, reference: &[Judged], judged: &[Judged]) -> Vec<Flip> {
    let all = fold.test.iter().zip(reference).zip(judged);
    all.filter(|((_, before), now)| (before.probability >= 0.5) != (now.probability >= 0.5))
        .map(|((one, before), now)| Flip {
            path: one.path.clone(),
            anemic: one.anemic,
            fp32: before.probability,
            now: now.probability,
        })
        .collect()
}

/// The fp32 network must say what the training wrote down: otherwise it is another one, or these are other pictures.
fn check_is_the_networks(fold: &Fold, judged: &[Judged]) -> Result<()> {
    for (one, judged) in fold.test.iter().zip(judged) {
        let expected = one.judged().probability;
        ensure!(
            (expected - judged.probability).abs() <= 0.01,
            "{}: says {:.3} for {}, and its predictions.csv {expected:.3}; expected the pictures that it was measured on",
            fold.file.display(),
            judged.probability,
            one.path.display(),
        );
    }
    Ok(())
}
