//! The layers of a network that carry weights: what they weigh and what they cost.

use std::collections::HashMap;

use anemia_onnx::proto::tensor_proto::DataType;
use anemia_onnx::proto::{ModelProto, NodeProto, TensorProto};
use anemia_onnx::{label, values};

use super::graph::{Graph, number, numbers};

/// One convolution or matrix.
pub(super) struct Layer<'a> {
    pub(super) node: &'a NodeProto,
    /// Shape of the weights.
    pub(super) weights: Vec<i64>,
    /// Bits of one weight where the layer computes with it.
    pub(super) bits: u8,
    /// Bytes of weights, scales and bias in the file.
    pub(super) bytes: usize,
    /// Greatest magnitude of the weights.
    pub(super) amax: Option<f32>,
    /// The range of the integers that it reads; `None` where it reads floats.
    pub(super) reads: Option<[f32; 2]>,
    /// Shape of the result without the batch.
    pub(super) result: Option<Vec<i64>>,
    /// Multiplications and additions for one picture.
    pub(super) macs: Option<i64>,
}

/// All of them, in the order of the graph.
pub(super) fn layers<'a>(graph: &Graph<'a>, model: &ModelProto) -> Vec<Layer<'a>> {
    let (shapes, amax) = (shapes(graph), amax(model));
    let is_layer = |node: &&'a NodeProto| matches!(node.op_type(), "Conv" | "Gemm" | "MatMul");
    graph.nodes.iter().filter(is_layer).filter_map(|node| layer(graph, &shapes, &amax, node)).collect()
}

/// Greatest magnitude of the weights of each layer, whatever form they are stored in; by the name of its node.
fn amax(model: &ModelProto) -> HashMap<String, f32> {
    let Ok(expanded) = anemia_onnx::expand(model) else { return HashMap::new() };
    let Some(graph) = &expanded.graph else { return HashMap::new() };
    let graph = Graph::of(&expanded, graph);
    let of_node = |node: &NodeProto| {
        let (weights, _) = graph.stored(node, 1)?;
        let greatest = values(weights)?.into_iter().fold(0f32, |amax, x| amax.max(x.abs()));
        Some((label(node).to_owned(), greatest))
    };
    graph.nodes.iter().filter_map(of_node).collect()
}

fn layer<'a>(
    graph: &Graph<'a>,
    shapes: &HashMap<&str, Vec<i64>>,
    amax: &HashMap<String, f32>,
    node: &'a NodeProto,
) -> Option<Layer<'a>> {
    let (stored, way) = graph.stored(node, 1)?;
    let rounded = way.iter().any(|node| node.op_type() == "QuantizeLinear");
    let bits = match DataType::try_from(stored.data_type()) {
        Ok(DataType::Int4 | DataType::Uint4) => 4,
        Ok(DataType::Int8 | DataType::Uint8) => 8,
        _ if rounded => 8,
        Ok(DataType::Float16 | DataType::Bfloat16) => 16,
        _ => 32,
    };
    let bias = graph.stored(node, 2);
    // Rounding and its undoing name the same scale.
    let mut stored_for: Vec<&TensorProto> = vec![stored];
    let on_the_way = way.iter().chain(bias.iter().flat_map(|(_, way)| way));
    let scales = on_the_way.flat_map(|node| (1..node.input.len()).filter_map(|at| graph.stored(node, at)));
    for (tensor, _) in scales.chain(bias.clone()) {
        if stored_for.iter().all(|other| other.name() != tensor.name()) {
            stored_for.push(tensor);
        }
    }
    let bytes = stored_for.into_iter().map(bytes_of).sum();
    let result = node.output.first().and_then(|name| shapes.get(name.as_str()));
    let product = |dims: &[i64]| dims.iter().try_fold(1i64, |product, dim| product.checked_mul(*dim));
    let pixels = result.and_then(|shape| product(shape.get(1..)?));
    let weights = match way.iter().find(|node| node.op_type() == "Reshape").and_then(|node| graph.constant(node, 1)) {
        Some(shape) => anemia_onnx::whole_numbers(shape),
        None => stored.dims.clone(),
    };
    Some(Layer {
        node,
        weights,
        bits,
        bytes,
        amax: amax.get(label(node)).copied(),
        reads: graph.maker(node, 0).and_then(|maker| range(graph, maker)),
        result: result.cloned(),
        macs: pixels.zip(product(&stored.dims)).and_then(|(pixels, weights)| pixels.checked_mul(weights)),
    })
}

/// What the integers behind a `DequantizeLinear` can stand for.
pub(super) fn range(graph: &Graph<'_>, node: &NodeProto) -> Option<[f32; 2]> {
    let single = |at: usize| values(graph.constant(node, at)?)?.first().copied();
    if node.op_type() != "DequantizeLinear" {
        return None;
    }
    let scale = single(1)?;
    let zero = if node.input.len() > 2 { single(2)? } else { 0.0 };
    let is_signed = graph.constant(node, 2).is_some_and(|zero| zero.data_type() == DataType::Int8 as i32);
    let [low, high] = if is_signed { [-128.0, 127.0] } else { [0.0, 255.0] };
    Some([low, high].map(|q| (q - zero) * scale))
}

fn bytes_of(tensor: &TensorProto) -> usize {
    let raw = tensor.raw_data.as_ref().map_or(0, |bytes| bytes.len());
    raw + tensor.float_data.len() * 4 + tensor.int32_data.len() * 4 + tensor.int64_data.len() * 8
}

/// Shapes without the batch of what can be followed from the picture: channels, height, width.
fn shapes<'a>(graph: &Graph<'a>) -> HashMap<&'a str, Vec<i64>> {
    let mut shapes: HashMap<&str, Vec<i64>> = HashMap::new();
    let fixed = graph.inputs().iter().filter(|(_, shape)| shape.iter().skip(1).all(|size| *size > 0));
    shapes.extend(fixed.map(|(name, shape)| (*name, shape.iter().skip(1).copied().collect())));
    for node in graph.nodes {
        let Some(input) = node.input.first().and_then(|name| shapes.get(name.as_str())) else { continue };
        let Some(output) = node.output.first() else { continue };
        let shape = match node.op_type() {
            "Concat" => joined(node, &shapes),
            "Add" | "Mul" | "Sub" | "Div" => Some(larger(node, &shapes, input)),
            _ => result(graph, node, input),
        };
        if let Some(shape) = shape {
            shapes.insert(output, shape);
        }
    }
    shapes
}

/// Values one behind the other along the channels.
fn joined(node: &NodeProto, shapes: &HashMap<&str, Vec<i64>>) -> Option<Vec<i64>> {
    let parts: Vec<&Vec<i64>> = node.input.iter().map(|name| shapes.get(name.as_str())).collect::<Option<_>>()?;
    let mut shape = (*parts.first()?).clone();
    let channels = parts.iter().try_fold(0i64, |sum, part| sum.checked_add(*part.first()?))?;
    *shape.first_mut().filter(|_| number(node, "axis") == Some(1))? = channels;
    Some(shape)
}

/// What two values make of which the smaller one stands for many.
fn larger(node: &NodeProto, shapes: &HashMap<&str, Vec<i64>>, first: &[i64]) -> Vec<i64> {
    let size = |shape: &[i64]| shape.iter().try_fold(1i64, |product, size| product.checked_mul(*size));
    let second = node.input.get(1).and_then(|name| shapes.get(name.as_str()));
    second.filter(|second| size(second) > size(first)).cloned().unwrap_or_else(|| first.to_vec())
}

fn result(graph: &Graph<'_>, node: &NodeProto, input: &[i64]) -> Option<Vec<i64>> {
    match (node.op_type(), input) {
        ("Conv", [_, height, width])
            if !node
                .attribute
                .iter()
                .any(|one| one.name() == "auto_pad" && !one.s().is_empty() && one.s() != b"NOTSET") =>
        {
            let (weights, way) = graph.stored(node, 1)?;
            let reshape = way.iter().find(|node| node.op_type() == "Reshape");
            let target = reshape.and_then(|node| graph.constant(node, 1)).map(anemia_onnx::whole_numbers);
            let weights = target.as_ref().unwrap_or(&weights.dims);
            let [outputs, _, high, wide] = weights[..] else { return None };
            let (strides, pads, dilations) =
                (numbers(node, "strides"), numbers(node, "pads"), numbers(node, "dilations"));
            let along = |size: i64, kernel: i64, axis: usize| {
                let pad = pads.get(axis).unwrap_or(&0).checked_add(*pads.get(axis + 2).unwrap_or(&0))?;
                let reach = kernel.checked_sub(1)?.checked_mul(*dilations.get(axis).unwrap_or(&1))?.checked_add(1)?;
                let room = size.checked_add(pad)?.checked_sub(reach)?;
                room.checked_div(*strides.get(axis).unwrap_or(&1))?.checked_add(1)
            };
            Some(vec![outputs, along(*height, high, 0)?, along(*width, wide, 1)?])
        }
        ("Gemm" | "MatMul", _) => {
            let (weights, _) = graph.stored(node, 1)?;
            let axis = usize::from(number(node, "transB") != Some(1));
            Some(vec![*weights.dims.get(axis)?])
        }
        ("GlobalAveragePool", [channels, ..]) => Some(vec![*channels, 1, 1]),
        ("ReduceMean", [channels, ..]) => {
            Some(if number(node, "keepdims") == Some(0) { vec![*channels] } else { vec![*channels, 1, 1] })
        }
        ("Flatten" | "Squeeze" | "Reshape", _) => {
            Some(vec![input.iter().try_fold(1i64, |product, size| product.checked_mul(*size))?])
        }
        ("Resize", [channels, height, width]) => {
            let scales = values(graph.constant(node, 2)?)?;
            let [_, _, high, wide] = scales[..] else { return None };
            Some(vec![*channels, (*height as f32 * high) as i64, (*width as f32 * wide) as i64])
        }
        (
            "Log" | "Sqrt" | "Clip" | "Relu" | "Sigmoid" | "HardSwish" | "HardSigmoid" | "BatchNormalization" | "Cast"
            | "Identity" | "Dropout" | "QuantizeLinear" | "DequantizeLinear",
            _,
        ) => Some(input.to_vec()),
        _ => None,
    }
}
