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
pub use library::{LIBRARY_VARIABLE, find_library, source_folder};
pub use selftest::{answer_to, self_test};
pub use tensorrt::{Board, KeptPlan, PlanKey, TensorRtOptions, kept_plans};

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

/// How far the build of a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Building<'a> {
    /// What is built.
    pub precision: Precision,
    /// What TensorRT calls this part of it.
    pub phase: &'a str,
    /// Steps that are done.
    pub step: u32,
    /// Steps of this part; 0 where TensorRT does not tell.
    pub steps: u32,
}

/// Loads the network of `bundle` that has `precision`, and checks that its input and output are those of the manifest.
pub fn load(bundle: &Bundle, precision: Precision, options: &EngineOptions) -> Result<Box<dyn Engine>, EngineError> {
    load_following(bundle, precision, options, &mut |_| true)
}

/// The same. `follow` is told how far the build of a plan is, and stops it with `false`.
///
/// A plan from disk has to pass the self-test of the bundle; one that does not is built again.
pub fn load_following(
    bundle: &Bundle,
    precision: Precision,
    options: &EngineOptions,
    follow: &mut dyn FnMut(Building<'_>) -> bool,
) -> Result<Box<dyn Engine>, EngineError> {
    let model = bundle.model(precision)?;
    let manifest = bundle.manifest();
    let Some(tensorrt) = &options.tensorrt else {
        let network = bundle.read_file(&model.path, &model.sha256)?;
        let path = bundle.path_of(&model.path);
        return load_network(&Source::of(manifest, &path, &network, precision), options);
    };
    let machine = tensorrt::Machine::open(tensorrt)?;
    machine.check(precision)?;
    let (path, sha256) = match &model.tensorrt {
        Some(file) => (&file.path, &file.sha256),
        None => (&model.path, &model.sha256),
    };
    let (mut network, path) = (bundle.read_file(path, sha256)?, bundle.path_of(path));
    if matches!(precision, Precision::Fp16 | Precision::Int4) {
        network = expanded(&network, &path)?;
    }
    let source = Source::of(manifest, &path, &network, precision);
    let name = format!("{} {}", manifest.name, manifest.version);
    let (mut engine, is_old) = machine.load(&source, &name, tensorrt, follow)?;
    if is_old && let Err(error) = self_test(bundle, &mut engine) {
        tracing::warn!("the plan on disk is wrong, and is built again: {error}");
        drop(engine);
        machine.forget(&source, tensorrt)?;
        engine = machine.load(&source, &name, tensorrt, follow)?.0;
    }
    Ok(Box::new(engine))
}

/// Whether `bundle` has a network of `precision`, and where it is for TensorRT, whether this board can run it. Nothing is built.
pub fn check(bundle: &Bundle, precision: Precision, options: &EngineOptions) -> Result<(), EngineError> {
    bundle.model(precision)?;
    match &options.tensorrt {
        Some(tensorrt) => tensorrt::Machine::open(tensorrt)?.check(precision),
        None => Ok(()),
    }
}

/// Weights that are stored in 4 or 16 bits, as 32-bit floats: the boards read no others. TensorRT rounds them to 16 bits again,
/// which loses nothing.
fn expanded(network: &[u8], path: &Path) -> Result<Vec<u8>, EngineError> {
    let failed = |error: anemia_onnx::OnnxError| EngineError::Model { model: path.to_owned(), cause: error.to_string() };
    let model = anemia_onnx::decode(network.to_vec()).map_err(failed)?;
    Ok(anemia_onnx::encode(&anemia_onnx::expand(&model).map_err(failed)?))
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
