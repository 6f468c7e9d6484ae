//! The section `model`.

use std::path::PathBuf;

use anemia_bundle::Precision;
use anemia_engine::{EngineOptions, TensorRtOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Folder of the model bundle.
    pub bundle: PathBuf,
    /// What runs the network: `onnxruntime` on the processor, or `tensorrt` on an NVIDIA GPU.
    #[serde(default)]
    pub engine: EngineKind,
    /// Number format of the network; the bundle must have it, and the board must be able to run it. `auto` measures all of
    /// them at the start and takes the fastest whose answers are right.
    #[serde(default)]
    pub precision: WantedPrecision,
    /// Threads that one inference may use, in ONNX Runtime.
    #[serde(default = "default_threads")]
    #[schemars(range(min = 1, max = 64))]
    pub threads: u16,
    /// Path of libonnxruntime.so. Without it, the usual places are searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onnxruntime: Option<PathBuf>,
    /// How TensorRT is used.
    #[serde(default)]
    pub tensorrt: TensorRt,
    /// From whom newer models are accepted. Without it, none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Updates")]
    pub updates: Option<Updates>,
}

/// From whom newer models are accepted, see docs/guide/update-models.md.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Updates {
    /// File with the public key of whoever signs them, as `anemiad model keygen` and minisign write it.
    pub key: PathBuf,
    /// File with the certificates, in PEM, of those who may vouch for the server that they are fetched from.
    #[serde(default = "default_ca")]
    pub ca: PathBuf,
}

impl Updates {
    pub(super) fn files(&mut self) -> [&mut PathBuf; 2] {
        [&mut self.key, &mut self.ca]
    }
}

fn default_ca() -> PathBuf {
    super::Tls::default().ca
}

/// What runs the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum EngineKind {
    /// ONNX Runtime on the processor.
    #[default]
    Onnxruntime,
    /// TensorRT on the GPU.
    Tensorrt,
}

/// The number format of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum WantedPrecision {
    /// The fastest whose answers are right.
    Auto,
    /// 32-bit floats.
    #[default]
    Fp32,
    /// 16-bit floats.
    Fp16,
    /// 8-bit integers.
    Int8,
    /// 4-bit weights.
    Int4,
}

impl WantedPrecision {
    /// The precision; `None` stands for the fastest.
    pub fn fixed(self) -> Option<Precision> {
        match self {
            Self::Auto => None,
            Self::Fp32 => Some(Precision::Fp32),
            Self::Fp16 => Some(Precision::Fp16),
            Self::Int8 => Some(Precision::Int8),
            Self::Int4 => Some(Precision::Int4),
        }
    }
}

/// How TensorRT is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TensorRt {
    /// Path of libanemia_tensorrt.so, which is built on the board. Without it, the usual places are searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<PathBuf>,
    /// Folder for plans. Building one takes minutes on a board; without a folder that can be written, at every start.
    pub cache: PathBuf,
    /// Most memory in MiB that an inference may use beside weights and values. With little of it TensorRT finds slower ways.
    #[schemars(range(min = 1, max = 65536))]
    pub workspace_mib: u32,
}

impl Default for TensorRt {
    fn default() -> Self {
        Self { library: None, cache: "/var/cache/anemiad".into(), workspace_mib: 256 }
    }
}

impl Model {
    /// The same in the words of the engine crate.
    pub fn engine_options(&self) -> EngineOptions {
        let TensorRt { library, cache, workspace_mib } = self.tensorrt.clone();
        EngineOptions {
            library: self.onnxruntime.clone(),
            threads: self.threads.into(),
            tensorrt: match self.engine {
                EngineKind::Onnxruntime => None,
                EngineKind::Tensorrt => Some(TensorRtOptions { library, cache, workspace_mib }),
            },
        }
    }
}

fn default_threads() -> u16 {
    1
}
