//! Runs the network of a [bundle](anemia_bundle::Bundle).
//!
//! [`load`] gives an [`Engine`]: a network that is ready to run, with a fixed input buffer that the cut-out is
//! written into. [`self_test`] proves that it gives the answers of the bundle on this very machine.

mod error;
mod library;
mod onnxruntime;
mod selftest;

use std::path::{Path, PathBuf};

use anemia_bundle::{Bundle, Input, Manifest, Output, Precision, Task};

pub use error::EngineError;
pub use library::{LIBRARY_VARIABLE, find_library, source_folder};
pub use selftest::{answer_to, self_test};

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
}

/// How a network is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Path of `libonnxruntime.so`; `None` looks in the usual places, see [`find_library`].
    pub library: Option<PathBuf>,
    /// Threads that one inference may use.
    pub threads: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { library: None, threads: 1 }
    }
}

/// Loads the network of `bundle` that has `precision`, and checks that its input and output are those of the manifest.
pub fn load(bundle: &Bundle, precision: Precision, options: &EngineOptions) -> Result<Box<dyn Engine>, EngineError> {
    let model = bundle.model(precision)?;
    let network = bundle.read_model(model)?;
    let path = bundle.path_of(&model.path);
    load_network(&Source::of(bundle.manifest(), &path, &network, precision), options)
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

/// Loads a network from memory; otherwise as [`load`].
pub fn load_network(source: &Source<'_>, options: &EngineOptions) -> Result<Box<dyn Engine>, EngineError> {
    Ok(Box::new(onnxruntime::OnnxRuntime::load(source, options)?))
}
