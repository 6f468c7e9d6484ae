//! Reading and writing `.onnx` files.

use std::io;
use std::path::{Path, PathBuf};

use prost::Message;

use crate::proto::ModelProto;

/// Why an ONNX file cannot be used. The text is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The file cannot be read or written.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// A node of the model is not what it should be.
    #[error("node {node}: {cause}")]
    Node {
        /// Its name.
        node: String,
        /// What is wrong.
        cause: String,
    },
    /// The bytes are not a model.
    #[error("not an ONNX model: {0}")]
    Malformed(String),
}

/// Reads a model.
pub fn read(path: &Path) -> Result<ModelProto, OnnxError> {
    let bytes = std::fs::read(path).map_err(|cause| OnnxError::Io { path: path.to_owned(), cause })?;
    decode(bytes)
}

/// Decodes the bytes of an `.onnx` file.
pub fn decode(bytes: Vec<u8>) -> Result<ModelProto, OnnxError> {
    let model = ModelProto::decode(prost::bytes::Bytes::from(bytes))
        .map_err(|error| OnnxError::Malformed(error.to_string()))?;
    // Protobuf accepts an empty file, and almost anything else, as a message whose fields are all missing.
    match &model.graph {
        Some(graph) if !graph.node.is_empty() => Ok(model),
        _ => Err(OnnxError::Malformed("it has no graph with nodes".into())),
    }
}

/// The bytes of an `.onnx` file.
pub fn encode(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}
