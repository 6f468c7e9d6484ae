//! What a network is made of.

use std::collections::HashMap;

use crate::proto::tensor_proto::DataType;
use crate::proto::{GraphProto, TensorProto};

/// One node that carries weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Name of the node.
    pub name: String,
    /// Its operator, such as `Conv`.
    pub operator: String,
    /// Shape of its first constant, which is the weight of a convolution.
    pub shape: Vec<i64>,
    /// Number format of that constant, such as `FLOAT` or `INT4`.
    pub format: String,
    /// Bytes of all its constants.
    pub bytes: u64,
}

/// The nodes of `graph` that read constants stored with the model, in the order of the graph.
pub fn layers(graph: &GraphProto) -> Vec<Layer> {
    let constants: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect();
    let layer = |node: &crate::proto::NodeProto| {
        let own: Vec<_> = node.input.iter().filter_map(|input| constants.get(input.as_str()).copied()).collect();
        let first = own.first()?;
        Some(Layer {
            name: node.name().to_owned(),
            operator: node.op_type().to_owned(),
            shape: first.dims.clone(),
            format: DataType::try_from(first.data_type()).map_or("unknown", |kind| kind.as_str_name()).to_owned(),
            bytes: own.iter().map(|tensor| bytes_of(tensor)).sum(),
        })
    };
    graph.node.iter().filter_map(layer).collect()
}

/// Bytes that a tensor's values take in the file, whichever of the schema's fields holds them.
fn bytes_of(tensor: &TensorProto) -> u64 {
    let raw = tensor.raw_data.as_ref().map_or(0, |bytes| bytes.len());
    let typed = tensor.float_data.len() * 4 + tensor.int32_data.len() * 4 + tensor.int64_data.len() * 8;
    (raw + typed) as u64
}
