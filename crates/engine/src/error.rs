//! What can go wrong with an engine, in words for the person who has to mend it.

use std::path::PathBuf;

use anemia_bundle::{BundleError, Precision};
use anemia_tensorrt::TensorRtError;

/// Why a network cannot be loaded or gave no answer. The text is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// ONNX Runtime is not installed.
    #[error(
        "ONNX Runtime is not installed: looked for {}; install the package anemiad-onnxruntime, or run `make deps` in the \
         source folder, or name the file in model.onnxruntime of the configuration or in ORT_DYLIB_PATH",
        .looked_for.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    LibraryMissing {
        /// Every place where it was looked for, in order.
        looked_for: Vec<PathBuf>,
    },
    /// A file was found and is not a usable ONNX Runtime.
    #[error(
        "{library} is not a usable ONNX Runtime (1.22 or newer is needed): {cause}; install the package \
         anemiad-onnxruntime, or run `make deps`"
    )]
    LibraryUnusable {
        /// The file.
        library: PathBuf,
        /// What the loader said.
        cause: String,
    },
    /// Another ONNX Runtime is open already.
    #[error("{library}: this program is using {in_use}, and can use another ONNX Runtime only after a restart")]
    LibraryInUse {
        /// The file that was asked for.
        library: PathBuf,
        /// The file that is open.
        in_use: PathBuf,
    },
    /// TensorRT cannot be used.
    #[error(transparent)]
    TensorRt(#[from] TensorRtError),
    /// The board cannot run what is wished for.
    #[error(
        "{board} cannot run {precision}: its GPU has no arithmetic for it; set model.precision to fp16, or to auto"
    )]
    Board {
        /// The board.
        board: String,
        /// What was wished for.
        precision: Precision,
    },
    /// The bundle has no network that TensorRT reads.
    #[error("{bundle}: its int8 network is for ONNX Runtime alone; make it anew with `anemia-calibrate quantize`")]
    NotForTensorRt {
        /// The folder of the bundle.
        bundle: PathBuf,
    },
    /// The same plan was built before, and gave wrong answers.
    #[error("the plan that was built here before is wrong ({cause}); remove {plan} to build it once more")]
    RefusedBefore {
        /// What the self-test said then.
        cause: String,
        /// The description of the plan.
        plan: PathBuf,
    },
    /// No precision of the bundle can be run here.
    #[error("none of the precisions of the bundle can be run here: {causes}")]
    NoPrecision {
        /// Why, for each of them.
        causes: String,
        /// Whether one of these may go away by itself.
        may_pass: bool,
        /// Whether one of these is a fault of the model.
        of_model: bool,
    },
    /// The bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The network file cannot be loaded.
    #[error("{model}: cannot be loaded: {cause}")]
    Model {
        /// The network file.
        model: PathBuf,
        /// What the engine said.
        cause: String,
    },
    /// The network has another input or output than the manifest says.
    #[error("{model}: {part} is {found}, and the manifest says {expected}")]
    Shape {
        /// The network file.
        model: PathBuf,
        /// `input` or `output`.
        part: &'static str,
        /// What the network has.
        found: String,
        /// What the manifest says.
        expected: String,
    },
    /// The engine failed while running.
    #[error("inference failed: {0}")]
    Failed(String),
    /// The network gave NaN, infinity, or a probability that is none.
    #[error("the network gave {0}, which is not a number to judge by")]
    NoNumber(f32),
    /// The network runs, and gives other answers than it should.
    #[error(
        "self-test failed on {picture}: got {found}, expected {expected} ± {tolerance}; do not use this model here"
    )]
    SelfTest {
        /// The picture in the bundle.
        picture: String,
        /// What the network gave.
        found: f32,
        /// What it should give.
        expected: f32,
        /// Difference that would have been accepted.
        tolerance: f32,
    },
    /// A picture of the self-test cannot be used.
    #[error("self-test picture {picture}: {cause}")]
    SelfTestPicture {
        /// The picture in the bundle.
        picture: String,
        /// What is wrong with it.
        cause: String,
    },
}

impl EngineError {
    /// Whether it may go away by itself, as a lack of memory does, without a change of configuration or files.
    pub fn may_pass(&self) -> bool {
        use TensorRtError::{Cancelled, Cuda, Failed, NoDriver, OutOfMemory};
        match self {
            Self::Failed(_) | Self::TensorRt(Cancelled | Cuda { .. } | Failed(_) | NoDriver | OutOfMemory(_)) => true,
            Self::NoPrecision { may_pass, .. } => *may_pass,
            _ => false,
        }
    }

    /// Whether the fault is the model's: with another one, this machine and this configuration could work.
    pub fn is_of_model(&self) -> bool {
        match self {
            Self::LibraryMissing { .. } | Self::LibraryUnusable { .. } | Self::LibraryInUse { .. } => false,
            // What the configuration wishes for, and what the board is.
            Self::Board { .. } | Self::Bundle(BundleError::Precision { .. }) => false,
            Self::TensorRt(error) => matches!(error, TensorRtError::BadPlan(_) | TensorRtError::Refused(_)),
            Self::NoPrecision { may_pass, of_model, .. } => *of_model && !may_pass,
            error => !error.may_pass(),
        }
    }

    /// Whether a network ran and gave wrong answers.
    pub(crate) fn is_wrong_answer(&self) -> bool {
        matches!(self, Self::SelfTest { .. } | Self::NoNumber(_))
    }

    /// Why nothing of a bundle can be run, for each of its precisions.
    pub(crate) fn none_of(errors: &[(Precision, Self)]) -> Self {
        let causes: Vec<String> = errors.iter().map(|(precision, error)| format!("{precision}: {error}")).collect();
        let any = |is: fn(&Self) -> bool| errors.iter().any(|(_, error)| is(error));
        Self::NoPrecision { causes: causes.join("; "), may_pass: any(Self::may_pass), of_model: any(Self::is_of_model) }
    }
}
