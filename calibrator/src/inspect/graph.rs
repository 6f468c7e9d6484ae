//! A graph in which names can be followed.

use std::collections::HashMap;

use anemia_onnx::proto::tensor_shape_proto::dimension;
use anemia_onnx::proto::type_proto::Value;
use anemia_onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};

/// Nodes and constants by name.
pub(super) struct Graph<'a> {
    pub(super) nodes: &'a [NodeProto],
    /// Version of the standard operator set.
    pub(super) opset: i64,
    constants: HashMap<&'a str, &'a TensorProto>,
    makers: HashMap<&'a str, &'a NodeProto>,
    inputs: HashMap<&'a str, Vec<i64>>,
}

impl<'a> Graph<'a> {
    pub(super) fn of(model: &'a ModelProto, graph: &'a GraphProto) -> Self {
        let standard = model.opset_import.iter().find(|set| matches!(set.domain(), "" | "ai.onnx"));
        let outputs = |node: &'a NodeProto| node.output.iter().map(move |name| (name.as_str(), node));
        Self {
            nodes: &graph.node,
            opset: standard.map_or(0, |set| set.version()),
            constants: graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect(),
            makers: graph.node.iter().flat_map(outputs).collect(),
            inputs: graph.input.iter().filter_map(|input| Some((input.name(), shape(input)?))).collect(),
        }
    }

    /// The constant that an input of a node names.
    pub(super) fn constant(&self, node: &NodeProto, at: usize) -> Option<&'a TensorProto> {
        self.constants.get(node.input.get(at)?.as_str()).copied()
    }

    /// The node that makes an input of a node.
    pub(super) fn maker(&self, node: &NodeProto, at: usize) -> Option<&'a NodeProto> {
        self.makers.get(node.input.get(at)?.as_str()).copied()
    }

    /// The nodes that read the first output of a node.
    pub(super) fn readers(&self, node: &NodeProto) -> impl Iterator<Item = &'a NodeProto> {
        let name = node.output.first().cloned().unwrap_or_default();
        self.nodes.iter().filter(move |reader| reader.input.contains(&name))
    }

    /// Inputs of the graph with their shape, 0 where a size is not fixed.
    pub(super) fn inputs(&self) -> &HashMap<&'a str, Vec<i64>> {
        &self.inputs
    }

    /// The constant that an input of a node comes from, and the nodes on the way, the last first; `None` where it comes from
    /// the picture.
    pub(super) fn stored(&self, node: &NodeProto, at: usize) -> Option<(&'a TensorProto, Vec<&'a NodeProto>)> {
        const ON_THE_WAY: [&str; 6] =
            ["Cast", "QuantizeLinear", "DequantizeLinear", "Reshape", "Transpose", "Identity"];
        if let Some(found) = self.constant(node, at) {
            return Some((found, Vec::new()));
        }
        let mut way: Vec<&NodeProto> = vec![self.maker(node, at)?];
        loop {
            let last = *way.last()?;
            // A graph is not a graph when it runs in circles; nothing longer than its nodes is a way.
            if !ON_THE_WAY.contains(&last.op_type()) || way.len() > self.nodes.len() {
                return None;
            }
            match self.constant(last, 0) {
                Some(found) => return Some((found, way)),
                None => way.push(self.maker(last, 0)?),
            }
        }
    }
}

/// A whole number among the attributes of a node.
pub(super) fn number(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|one| one.name() == name).map(|one| one.i())
}

/// Whole numbers among the attributes of a node.
pub(super) fn numbers<'a>(node: &'a NodeProto, name: &str) -> &'a [i64] {
    node.attribute.iter().find(|one| one.name() == name).map_or(&[], |one| one.ints.as_slice())
}

fn shape(value: &anemia_onnx::proto::ValueInfoProto) -> Option<Vec<i64>> {
    let Some(Value::TensorType(tensor)) = value.r#type.as_ref()?.value.as_ref() else { return None };
    let size = |dim: &anemia_onnx::proto::tensor_shape_proto::Dimension| match dim.value {
        Some(dimension::Value::DimValue(size)) => size,
        _ => 0,
    };
    Some(tensor.shape.as_ref()?.dim.iter().map(size).collect())
}
