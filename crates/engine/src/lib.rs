//! Runs the network of a [bundle](anemia_bundle::Bundle).
//!
//! [`load`] gives an [`Engine`]: a network that is ready to run, with a fixed input buffer that the cut-out is
//! written into. [`self_test`] proves that it gives the answers of the bundle on this very machine.
//!
//! Two back ends run networks: ONNX Runtime on the processor of any Linux machine, and TensorRT on an NVIDIA GPU.

mod error;
mod fastest;
mod library;
mod onnxruntime;
mod selftest;
mod tensorrt;

use std::path::{Path, PathBuf};

use anemia_bundle::{Bundle, Input, Manifest, Output, Precision, Task};

pub use error::EngineError;
pub use fastest::{Measured, load_fastest, measure};
pub use library::{LIBRARY_VARIABLE, find_library, forbid_telemetry, open_library, source_folder};
pub use selftest::{answer_to, self_test};
pub use tensorrt::{Board, KeptPlan, PlanKey, Refusal, TensorRtOptions, kept_plans};

use tensorrt::Machine;

/// A loaded network.
pub trait Engine: Send {
    /// The input: `3 * height * width` values in planes R, G, B, as the bundle's manifest describes them.
    ///
    /// It is the memory that the network reads; the values stay until they are overwritten.
    fn input(&mut self) -> &mut [f32];

    /// Runs the network on the input and gives its output values, all of them finite.
    ///
    /// Allocates nothing on the heap of this program once it ran a first time.
    fn run(&mut self) -> Result<&[f32], EngineError>;

    /// Name and version of what runs the network, such as `onnxruntime 1.31.1`.
    fn name(&self) -> &str;

    /// The precision of the loaded network.
    fn precision(&self) -> Precision;

    /// What runs the network.
    fn back_end(&self) -> BackEnd;
}

/// What runs a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackEnd {
    /// ONNX Runtime, on the processor.
    OnnxRuntime,
    /// TensorRT, on the GPU.
    TensorRt,
}

/// How a network is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Path of `libonnxruntime.so`; `None` looks in the usual places, see [`find_library`].
    pub library: Option<PathBuf>,
    /// Threads that one inference may use; for ONNX Runtime.
    pub threads: usize,
    /// TensorRT; `None` runs the network in ONNX Runtime.
    pub tensorrt: Option<TensorRtOptions>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { library: None, threads: 1, tensorrt: None }
    }
}

/// What goes on while a plan is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Building<'a> {
    /// Another process builds one, and is waited for; told again and again.
    Waiting,
    /// It begins.
    Started(Precision),
    /// So far it is. TensorRT tells since version 10.
    Step {
        /// What is built.
        precision: Precision,
        /// What TensorRT calls this part of it.
        phase: &'a str,
        /// Steps that are done.
        step: u32,
        /// Steps of this part.
        steps: u32,
    },
    /// It is over, whether something came of it or not.
    Ended(Precision),
}

/// Follows the build of a plan, and stops it with `false`.
pub type Follow<'a> = dyn FnMut(Building<'_>) -> bool + Send + 'a;

/// Loads the network of `bundle` that has `precision`, and checks that its input and output are those of the manifest.
pub fn load(bundle: &Bundle, precision: Precision, options: &EngineOptions) -> Result<Box<dyn Engine>, EngineError> {
    load_following(bundle, precision, options, &mut |_| true)
}

/// The same, and `follow` is told when a plan is built. A plan has to pass the self-test of the bundle.
pub fn load_following(
    bundle: &Bundle,
    precision: Precision,
    options: &EngineOptions,
    follow: &mut Follow<'_>,
) -> Result<Box<dyn Engine>, EngineError> {
    if let Some(tensorrt) = &options.tensorrt {
        return Ok(Box::new(Machine::open(tensorrt)?.load(bundle, precision, tensorrt, follow)?));
    }
    let model = bundle.model(precision)?;
    let network = bundle.read_file(&model.path, &model.sha256)?;
    let path = bundle.path_of(&model.path);
    load_network(&Source::of(bundle.manifest(), &path, &network, precision), options)
}

/// Whether `bundle` has a network of `precision`, or any for `None`, that can be run here as far as can be told without building
/// anything.
pub fn check(bundle: &Bundle, precision: Option<Precision>, options: &EngineOptions) -> Result<(), EngineError> {
    let machine = options.tensorrt.as_ref().map(Machine::open).transpose()?;
    let one = |precision| {
        let model = bundle.model(precision)?;
        machine.as_ref().map_or(Ok(()), |machine| machine.check(bundle, model))
    };
    let Some(precision) = precision else {
        let all = bundle.manifest().models.iter().map(|model| model.precision);
        let refused: Vec<_> = all.clone().filter_map(|precision| Some((precision, one(precision).err()?))).collect();
        return if refused.len() < all.count() { Ok(()) } else { Err(EngineError::none_of(&refused)) };
    };
    one(precision)
}

/// A network that need not be in a bundle yet.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What errors call it.
    pub path: &'a Path,
    /// The bytes of the ONNX file.
    pub network: &'a [u8],
    /// What it does.
    pub task: Task,
    /// What goes into it.
    pub input: &'a Input,
    /// What comes out of it.
    pub output: &'a Output,
    /// Its precision.
    pub precision: Precision,
}

impl<'a> Source<'a> {
    /// A network that `manifest` describes.
    pub fn of(manifest: &'a Manifest, path: &'a Path, network: &'a [u8], precision: Precision) -> Self {
        Self { path, network, task: manifest.task, input: &manifest.input, output: &manifest.output, precision }
    }
}

/// Loads a network from memory into ONNX Runtime; otherwise as [`load`].
pub fn load_network(source: &Source<'_>, options: &EngineOptions) -> Result<Box<dyn Engine>, EngineError> {
    Ok(Box::new(onnxruntime::OnnxRuntime::load(source, options)?))
}

/// The output of a network when all of it can be judged by.
fn checked(values: &[f32], is_probability: bool) -> Result<&[f32], EngineError> {
    let refused = |value: &&f32| !(value.is_finite() && (!is_probability || (0.0..=1.0).contains(*value)));
    match values.iter().find(refused) {
        Some(value) => Err(EngineError::NoNumber(*value)),
        None => Ok(values),
    }
}
