//! What the ONNX parsers of TensorRT 8.2 and 8.5 ask of `QuantizeLinear` and `DequantizeLinear` (onnx-tensorrt,
//! builtin_op_importers.cpp, branches 8.2-GA and 8.5-GA), and what keeps their layers together.

use anemia_onnx::proto::tensor_proto::DataType;
use anemia_onnx::proto::{NodeProto, TensorProto};
use anemia_onnx::{label, values};

use super::graph::{Graph, number};

/// What a rule that is broken means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Neither parser takes the network.
    Refused,
    /// TensorRT 8.2 does not take it; 8.5 does.
    RefusedBy82,
    /// It runs, and slower than it could.
    Slower,
}

/// A rule that a node breaks.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) node: String,
    pub(super) operator: String,
    pub(super) effect: Effect,
    pub(super) text: String,
}

/// All broken rules, in the order of the nodes.
pub(super) fn check(graph: &Graph<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in graph.nodes {
        let mut broken = |effect, text: String| {
            let (name, operator) = (label(node).to_owned(), node.op_type().to_owned());
            findings.push(Finding { node: name, operator, effect, text });
        };
        match node.op_type() {
            "QuantizeLinear" | "DequantizeLinear" => rounding(graph, node, &mut broken),
            "Add" => sum(graph, node, &mut broken),
            _ => {}
        }
        if let Some(name) = node.output.iter().find(|name| name.contains(':')) {
            broken(Effect::Refused, format!("its result is called {name}: a colon breaks the calibration cache"));
        }
    }
    findings
}

fn rounding(graph: &Graph<'_>, node: &NodeProto, broken: &mut dyn FnMut(Effect, String)) {
    if node.input.len() != 3 {
        broken(Effect::Refused, format!("has {} inputs; expected value, scale and zero point", node.input.len()));
    }
    if number(node, "block_size").is_some_and(|size| size != 0) {
        broken(Effect::Refused, "has scales for blocks, which TensorRT knows from 10 on".into());
        return;
    }
    let is_float = |scale: &&TensorProto| scale.data_type() == DataType::Float as i32;
    let scales = graph.constant(node, 1).filter(is_float).and_then(values);
    match &scales {
        None => broken(Effect::Refused, "its scale is not a constant of 32-bit floats".into()),
        Some(scales) => {
            if let Some(wrong) = scales.iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
                broken(Effect::Refused, format!("has the scale {wrong}; expected more than 0"));
            }
        }
    }
    if node.input.len() > 2 {
        match graph.constant(node, 2) {
            None => broken(Effect::Refused, "its zero point is not a constant".into()),
            Some(zero) if zero.data_type() != DataType::Int8 as i32 => {
                let kind = DataType::try_from(zero.data_type()).map_or("unknown", |kind| kind.as_str_name());
                broken(Effect::Refused, format!("rounds to {kind}; expected INT8"));
            }
            Some(zero) => {
                if values(zero).is_none_or(|zeros| zeros.iter().any(|zero| *zero != 0.0)) {
                    broken(Effect::Refused, "has a zero point that is not 0".into());
                }
            }
        }
    }
    let stored = graph.stored(node, 0);
    if let Some(count) = scales.as_ref().map(Vec::len).filter(|&count| count != 1) {
        let axis = number(node, "axis").unwrap_or(1);
        match &stored {
            None => {
                broken(Effect::Refused, format!("has {count} scales for a value that is not a weight; expected one"))
            }
            Some((weights, _)) => {
                // Counted from the end when it is negative.
                let from_start = if axis < 0 { axis + weights.dims.len() as i64 } else { axis };
                let size = usize::try_from(from_start).ok().and_then(|axis| weights.dims.get(axis));
                if size != Some(&(count as i64)) {
                    broken(Effect::Refused, format!("has {count} scales along axis {axis} of {:?}", weights.dims));
                }
            }
        }
        if graph.opset < 13 {
            broken(Effect::Refused, format!("has {count} scales in operator set {}; expected 13 or more", graph.opset));
        }
    }
    let stored_integers = graph.constant(node, 0).is_some_and(|tensor| tensor.data_type() != DataType::Float as i32);
    if node.op_type() == "DequantizeLinear" && stored_integers {
        let text = "stores integers; expected 32-bit floats that go through QuantizeLinear and DequantizeLinear";
        broken(Effect::RefusedBy82, text.into());
    }
}

/// A sum is done by the convolution before it as long as nothing is rounded in between, and the other branch is.
fn sum(graph: &Graph<'_>, node: &NodeProto, broken: &mut dyn FnMut(Effect, String)) {
    let rounds = |at: usize| graph.maker(node, at).filter(|maker| maker.op_type() == "DequantizeLinear");
    // The convolution whose rounded result nobody but this sum reads.
    let own = |at: usize| {
        let quantize = graph.maker(rounds(at)?, 0)?;
        let maker = graph.maker(quantize, 0).filter(|maker| maker.op_type() == "Conv")?;
        (graph.readers(maker).count() == 1 && graph.readers(rounds(at)?).count() == 1).then(|| label(maker).to_owned())
    };
    if let (Some(_), Some(_), Some(name)) = (rounds(0), rounds(1), own(0).or_else(|| own(1))) {
        broken(
            Effect::Slower,
            format!("adds the rounded result of {name}; without that rounding both become one layer"),
        );
    }
}
