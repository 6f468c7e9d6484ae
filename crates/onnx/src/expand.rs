//! Constants that a file holds in small and its graph makes large: for runtimes that do not know the small form.

use std::collections::{HashMap, HashSet};

use crate::proto::tensor_proto::DataType;
use crate::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use crate::values::product;
use crate::{OnnxError, float_tensor, values, whole_numbers};

/// The model with its stored 16-bit floats and 4- and 8-bit integers as 32-bit floats, in the operator set 17.
///
/// What is computed: `Cast` to 32-bit floats, `DequantizeLinear` without a zero point (per tensor, per axis, in blocks) and `Reshape` of
/// constants. Everything else stays. The 4-bit files of anemiad give weights that are 16-bit floats exactly, so a runtime that
/// rounds them to 16 bits adds no error.
pub fn expand(model: &ModelProto) -> Result<ModelProto, OnnxError> {
    let mut model = model.clone();
    let Some(graph) = model.graph.as_mut() else { return Ok(model) };
    let mut constants: HashMap<String, TensorProto> =
        graph.initializer.drain(..).map(|tensor| (tensor.name().to_owned(), tensor)).collect();
    let mut left = Vec::new();
    for node in graph.node.drain(..) {
        match computed(&node, &constants)? {
            Some(tensor) => {
                constants.insert(tensor.name().to_owned(), tensor);
            }
            None => left.push(node),
        }
    }
    graph.node = left;
    keep_those_read(graph, constants);
    model.ir_version = model.ir_version.map(|version| version.min(8));
    for set in model.opset_import.iter_mut().filter(|set| set.domain().is_empty()) {
        set.version = set.version.map(|version| version.min(17));
    }
    Ok(model)
}

/// The constants that a node still reads or the graph gives, in the order in which they are named.
fn keep_those_read(graph: &mut GraphProto, mut constants: HashMap<String, TensorProto>) {
    let mut seen = HashSet::new();
    let outputs = graph.output.iter().map(|output| output.name());
    let names = graph.node.iter().flat_map(|node| &node.input).map(String::as_str).chain(outputs);
    let names = names.filter(|name| seen.insert(*name));
    graph.initializer = names.filter_map(|name| constants.remove(name)).collect();
}

/// What a node makes of constants alone; `None` for every other node.
fn computed(node: &NodeProto, constants: &HashMap<String, TensorProto>) -> Result<Option<TensorProto>, OnnxError> {
    let Some(output) = node.output.first() else { return Ok(None) };
    let inputs: Option<Vec<&TensorProto>> = node.input.iter().map(|name| constants.get(name)).collect();
    let Some(inputs) = inputs else { return Ok(None) };
    let failed = |cause: &str| OnnxError::Node { node: crate::label(node).to_owned(), cause: cause.to_owned() };
    let number = |name: &str| node.attribute.iter().find(|attribute| attribute.name() == name).map(|found| found.i());
    let tensor = match (node.op_type(), inputs.as_slice()) {
        ("Cast", [one]) if number("to") == Some(DataType::Float as i64) => {
            let Some(values) = values(one) else { return Ok(None) };
            float_tensor(output, &one.dims, &values)
        }
        ("DequantizeLinear", [integers, scales]) => {
            let stored = values(integers).ok_or_else(|| failed("dequantizes a constant of an unknown format"))?;
            let scale = values(scales).ok_or_else(|| failed("has scales of an unknown format"))?;
            let axis = number("axis").unwrap_or(1);
            let block = number("block_size").unwrap_or(0);
            let place = scale_places(&integers.dims, &scales.dims, axis, block)
                .ok_or_else(|| failed("has scales whose shape does not fit"))?;
            let floats: Vec<f32> = stored
                .iter()
                .enumerate()
                .map(|(at, q)| Some(q * scale.get(place(at))?))
                .collect::<Option<_>>()
                .ok_or_else(|| failed("has fewer scales than its shape says"))?;
            float_tensor(output, &integers.dims, &floats)
        }
        ("Reshape", [one, target]) => {
            let shape = &whole_numbers(target);
            if shape.is_empty() || shape.iter().any(|dim| *dim <= 0) {
                return Ok(None);
            }
            if product(shape) != product(&one.dims) {
                return Err(failed("reshapes a constant to a shape of another size"));
            }
            TensorProto { name: Some(output.clone()), dims: shape.clone(), ..(*one).clone() }
        }
        _ => return Ok(None),
    };
    Ok(Some(tensor))
}

/// The place of the scale of each value.
fn scale_places(dims: &[i64], scales: &[i64], axis: i64, block: i64) -> Option<impl Fn(usize) -> usize + use<>> {
    let axis = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok()?;
    let single = product(scales)? == 1 && block == 0;
    let along = if single { 1 } else { usize::try_from(*dims.get(axis)?).ok()?.max(1) };
    let inner = if single { 1 } else { product(&dims[axis + 1..])?.max(1) };
    let block = usize::try_from(block).ok()?;
    let blocks = if block == 0 { along } else { along.div_ceil(block) };
    let fits = match block {
        0 => single || (scales.len() == 1 && scales[0] == along as i64),
        _ => scales.len() == dims.len() && scales[axis] == blocks as i64,
    };
    fits.then_some(move |at: usize| {
        let (outer, place, within) = (at / inner / along, at / inner % along, at % inner);
        match block {
            _ if single => 0,
            0 => place,
            _ => (outer * blocks + place / block) * inner + within,
        }
    })
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::{float_value, integer, integer_tensor, model, node, raw_tensor};

    fn with(node: NodeProto, constants: Vec<TensorProto>) -> ModelProto {
        let reader = crate::node("Add", &["made", "x"], &["y"]);
        model(GraphProto {
            node: vec![node, reader],
            initializer: constants,
            input: vec![float_value("x", &[1])],
            ..Default::default()
        })
    }

    fn made(model: &ModelProto) -> Vec<f32> {
        let graph = model.graph.as_ref().unwrap();
        assert_eq!((graph.node.len(), graph.initializer.len()), (1, 1));
        values(&graph.initializer[0]).unwrap()
    }

    #[test]
    fn four_bits_in_blocks_become_floats() {
        // Rows 1, -2, 3 and -8, 7, 0, blocks of two along the rows.
        let packed = raw_tensor("q", DataType::Int4, &[2, 3], vec![0xe1, 0x83, 0x07]);
        let scales = float_tensor("s", &[2, 2], &[1.0, 10.0, 100.0, 1000.0]);
        let mut node = node("DequantizeLinear", &["q", "s"], &["made"]);
        node.attribute = vec![integer("axis", 1), integer("block_size", 2)];
        let expanded = expand(&with(node, vec![packed, scales])).unwrap();
        assert_eq!(made(&expanded), [1.0, -2.0, 30.0, -800.0, 700.0, 0.0]);
    }

    #[test]
    fn eight_bits_by_axis_and_halves_become_floats() {
        let integers = raw_tensor("q", DataType::Int8, &[2, 2], vec![1, 0xff, 2, 0x80]);
        let mut by_axis = node("DequantizeLinear", &["q", "s"], &["made"]);
        by_axis.attribute = vec![integer("axis", 0)];
        let scales = float_tensor("s", &[2], &[0.5, 2.0]);
        assert_eq!(made(&expand(&with(by_axis, vec![integers, scales])).unwrap()), [0.5, -0.5, 4.0, -256.0]);
        let halves = raw_tensor("h", DataType::Float16, &[1], f16::from_f32(0.3).to_le_bytes().to_vec());
        let mut cast = node("Cast", &["h"], &["made"]);
        cast.attribute = vec![integer("to", 1)];
        assert_eq!(made(&expand(&with(cast, vec![halves])).unwrap()), [f16::from_f32(0.3).to_f32()]);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_the_name_of_the_node() {
        let refused = |node, constants| expand(&with(node, constants)).unwrap_err().to_string();
        let short = || raw_tensor("q", DataType::Int4, &[2, 3], vec![0xe1]);
        let scales = || float_tensor("s", &[7], &[1.0; 7]);
        let dequantize = || node("DequantizeLinear", &["q", "s"], &["made"]);
        assert!(refused(dequantize(), vec![short(), scales()]).starts_with("node made: "));
        let whole = raw_tensor("q", DataType::Int8, &[2, 3], vec![0; 6]);
        assert!(refused(dequantize(), vec![whole, scales()]).contains("does not fit"));
        let target = integer_tensor("t", &[2], &[2, 4]);
        let reshape = node("Reshape", &["s", "t"], &["made"]);
        assert!(refused(reshape, vec![scales(), target]).contains("another size"));
    }
}
