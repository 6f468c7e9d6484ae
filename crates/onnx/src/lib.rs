//! ONNX files: reading, writing and looking at graphs.
//!
//! [`proto`] holds the types of the ONNX schema, 4-bit integers included, generated from `proto/onnx.proto`.

mod build;
mod expand;
mod file;
mod strip;
mod values;

/// The messages of the ONNX schema (<https://onnx.ai/onnx/repo-docs/IR.html>), one type each.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

pub use build::{
    convolution, float_tensor, float_value, integer, integer_tensor, integers, model, node, numbers, raw_tensor, word,
};
pub use expand::expand;
pub use file::{OnnxError, decode, encode, read};
pub use strip::{label, strip};
pub use values::{values, whole_numbers};
