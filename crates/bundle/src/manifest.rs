//! What `manifest.yaml` says.

use std::fmt;

use anemia_vision::InputSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{OperatingPoint, Sha256};

/// The version of the bundle format that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The content of `manifest.yaml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the bundle format; 1.
    pub format: u32,
    /// Name of the model, such as `pallor`.
    pub name: String,
    /// Version of the model; it appears in every result.
    pub version: String,
    /// What the network does.
    pub task: Task,
    /// What goes into the network.
    pub input: Input,
    /// What comes out of it.
    pub output: Output,
    /// The network, once for each precision.
    pub models: Vec<ModelFile>,
    /// What the model was trained on, and for whom it may be used.
    pub training: Training,
    /// Pictures with the answers that a working network gives to them.
    pub selftest: Vec<SelfTest>,
    /// Every other file of the bundle, such as the model card.
    pub files: Vec<FileEntry>,
    /// Names and versions of the programs that made the bundle.
    pub tools: Vec<String>,
}

/// What a network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Judges the pallor of a cut-out.
    Classify,
    /// Finds the conjunctiva in a frame.
    Locate,
}

/// What goes into the network: one picture as planes R, G, B of 32-bit floats (NCHW, N = 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the input in the network.
    pub name: String,
    /// Width in pixels.
    #[schemars(range(min = 8, max = 4096))]
    pub width: u32,
    /// Height in pixels.
    #[schemars(range(min = 8, max = 4096))]
    pub height: u32,
    /// Per channel, `(byte / 255 − mean) / std`.
    pub mean: [f32; 3],
    /// Per channel, greater than 0.
    pub std: [f32; 3],
    /// Width, in pixels, of the rim of tissue that a cut-out loses; 0 to 16, and 0 for a locator.
    #[serde(default, skip_serializing_if = "is_none")]
    #[schemars(range(min = 0, max = 16))]
    pub rim: u32,
    /// Standard deviation, in pixels, of the Gaussian that takes fine detail out of a cut-out; 0 to 16, and 0 for a locator.
    #[serde(default, skip_serializing_if = "is_nothing")]
    #[schemars(range(min = 0.0, max = 16.0))]
    pub smooth: f32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks for it
fn is_none(rim: &u32) -> bool {
    *rim == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks for it
fn is_nothing(smooth: &f32) -> bool {
    *smooth == 0.0
}

impl Input {
    /// The same in the words of the pixel crate.
    pub fn spec(&self) -> InputSpec {
        let (width, height) = (self.width as usize, self.height as usize);
        InputSpec { width, height, mean: self.mean, std: self.std, rim: self.rim, smooth: self.smooth }
    }
}

/// What comes out of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Name of the output in the network.
    pub name: String,
    /// What the number means.
    pub kind: OutputKind,
}

/// What the number means that a classifier gives for a picture, or a locator for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// Probability of anemia or of tissue, 0 to 1.
    Probability,
    /// Its logit, ln(p / (1 − p)).
    Logit,
}

/// The number format of a network's weights and arithmetic.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats.
    Fp32,
    /// 16-bit floats.
    Fp16,
    /// 8-bit integers.
    Int8,
    /// 4-bit weights.
    Int4,
}

impl fmt::Display for Precision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        })
    }
}

/// One network file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Its precision.
    pub precision: Precision,
    /// Path in the bundle.
    pub path: String,
    /// Hash of the file.
    pub sha256: Sha256,
    /// Its raw outputs for the pictures of `selftest`, where rounding moves them away from those at fp32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<f32>,
    /// The same network in the form that TensorRT wants, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensorrt: Option<TensorRtFile>,
    /// How its output becomes a verdict; a classifier has one, a locator none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operating_point: Option<OperatingPoint>,
    /// What was measured, always with the protocol and an interval.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
}

/// A network in the form that TensorRT wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorRtFile {
    /// Path in the bundle.
    pub path: String,
    /// Hash of the file.
    pub sha256: Sha256,
    /// Its raw outputs for the pictures of `selftest`, in ONNX Runtime.
    pub answers: Vec<f32>,
    /// Greatest difference that still counts as working: TensorRT may round in other places.
    pub tolerance: f32,
}

/// A measured figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// What was measured, such as `auc`.
    pub name: String,
    /// On what, such as `cp-anemic fold_grouped 0, never trained on`.
    pub data: String,
    /// The value.
    pub value: f64,
    /// The 95 % confidence interval.
    pub interval: [f64; 2],
}

/// What a model was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The data, with its source.
    pub data: String,
    /// Ages in months that the data covers, from and to.
    pub age_months: [u32; 2],
    /// Hemoglobin in g/dL under which a picture was labelled anemic.
    pub anemic_below_g_per_dl: f32,
    /// What the reader has to know before trusting the model.
    pub limits: String,
}

/// One picture of the self-test and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// A picture of exactly the network's input size, as PNG, a cut-out for a classifier; path in the bundle.
    pub path: String,
    /// Hash of the file.
    pub sha256: Sha256,
    /// The network's raw output for it at fp32; of a locator the mean over its map.
    pub expected: f32,
    /// Greatest difference that still counts as working.
    pub tolerance: f32,
}

/// A file without a role of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path in the bundle.
    pub path: String,
    /// Hash of the file.
    pub sha256: Sha256,
}

impl Manifest {
    /// Path and hash of every file that the manifest names.
    pub fn all_files(&self) -> impl Iterator<Item = (&str, &Sha256)> {
        let models = self.models.iter().map(|file| (file.path.as_str(), &file.sha256));
        let boards = self.models.iter().filter_map(|file| file.tensorrt.as_ref());
        let boards = boards.map(|file| (file.path.as_str(), &file.sha256));
        let selftest = self.selftest.iter().map(|file| (file.path.as_str(), &file.sha256));
        let files = self.files.iter().map(|file| (file.path.as_str(), &file.sha256));
        models.chain(boards).chain(selftest).chain(files)
    }

    /// The first thing that is wrong with the manifest itself, in words.
    pub(crate) fn fault(&self) -> Option<String> {
        let input = &self.input;
        // Both appear in every result.
        if self.name.len() > 64 || self.version.len() > 64 {
            return Some("name and version: expected at most 64 bytes each".into());
        }
        if !(8..=4096).contains(&input.width) || !(8..=4096).contains(&input.height) {
            return Some(format!("input: {}×{} pixels; expected 8 to 4096 each way", input.width, input.height));
        }
        if input.std.iter().any(|std| !(std.is_finite() && *std > 0.0)) || input.mean.iter().any(|m| !m.is_finite()) {
            return Some("input: mean must be finite and std greater than 0".into());
        }
        let (rim, smooth) = match self.task {
            Task::Classify => (InputSpec::MOST_RIM, InputSpec::MOST_SMOOTH),
            Task::Locate => (0, 0.0),
        };
        if input.rim > rim {
            return Some(format!("input: rim: {}; expected 0 to {rim} for this task", input.rim));
        }
        if !(0.0..=smooth).contains(&input.smooth) {
            return Some(format!("input: smooth: {}; expected 0 to {smooth} for this task", input.smooth));
        }
        if self.models.is_empty() {
            return Some("models: expected at least one".into());
        }
        for (at, model) in self.models.iter().enumerate() {
            if self.models[..at].iter().any(|other| other.precision == model.precision) {
                return Some(format!("models: {} is listed twice", model.precision));
            }
            let complete = |answers: &[f32]| {
                answers.len() == self.selftest.len() && answers.iter().all(|answer| answer.is_finite())
            };
            let of_board = model.tensorrt.as_ref();
            if (!model.answers.is_empty() && !complete(&model.answers))
                || of_board.is_some_and(|file| !complete(&file.answers))
            {
                return Some(format!(
                    "models: answers of {}: expected one finite number for each picture of selftest",
                    model.precision
                ));
            }
            if of_board.is_some_and(|file| !(0.0..=4.0).contains(&file.tolerance)) {
                return Some(format!("models: tolerance of {} for TensorRT: expected 0 to 4", model.precision));
            }
            match (self.task, &model.operating_point) {
                (Task::Classify, None) => {
                    return Some(format!(
                        "models: {} has no operating_point, which a classifier needs",
                        model.precision
                    ));
                }
                (_, Some(point)) if !point.is_valid() => {
                    return Some(format!(
                        "models: operating_point of {}: expected 0 < indeterminate[0] ≤ threshold ≤ indeterminate[1] < 1 \
                         and temperature from 0.01 to 100",
                        model.precision
                    ));
                }
                _ => {}
            }
        }
        if self.selftest.iter().any(|test| !(test.expected.is_finite() && (0.0..=1.0).contains(&test.tolerance))) {
            return Some("selftest: expected finite answers and tolerances from 0 to 1".into());
        }
        if self.task == Task::Classify && self.selftest.is_empty() {
            return Some("selftest: a classifier needs at least one picture".into());
        }
        None
    }
}
