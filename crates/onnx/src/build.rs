//! Putting a graph together.

use prost::bytes::Bytes;

use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::type_proto::{self, Value};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
};

/// A model of the standard operator set 17 around `graph`, in the file format of ONNX 1.12 (IR version 8).
pub fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(17) }],
        graph: Some(graph),
        ..Default::default()
    }
}

/// A node without attributes, named after its first output.
pub fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        name: outputs.first().map(|name| (*name).to_owned()),
        op_type: Some(operator.to_owned()),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: outputs.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

/// An attribute that is a whole number, such as the `group` of a `Conv`.
pub fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(value),
        ..Default::default()
    }
}

/// An attribute that is a list of whole numbers, such as the `strides` of a `Conv`.
pub fn integers(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints as i32),
        ints: values.to_vec(),
        ..Default::default()
    }
}

/// The attributes of a `Conv` with a square kernel; those that have their usual value, which the standard defines, are left out.
pub fn convolution(kernel: i64, stride: i64, pad: i64, groups: i64) -> Vec<AttributeProto> {
    let unusual = [
        (stride != 1).then(|| integers("strides", &[stride; 2])),
        (pad != 0).then(|| integers("pads", &[pad; 4])),
        (groups != 1).then(|| integer("group", groups)),
    ];
    [integers("kernel_shape", &[kernel; 2])].into_iter().chain(unusual.into_iter().flatten()).collect()
}

/// An attribute that is a word, such as the `mode` of a `Resize`.
pub fn word(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::String as i32),
        s: Some(value.to_owned().into()),
        ..Default::default()
    }
}

/// A constant of 32-bit floats.
pub fn float_tensor(name: &str, shape: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: shape.to_vec(),
        data_type: Some(DataType::Float as i32),
        raw_data: Some(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Bytes>()),
        ..Default::default()
    }
}

/// A constant of any type from the bytes of its values, little endian; 4-bit integers two in a byte, the first in the lower
/// half.
pub fn raw_tensor(name: &str, kind: DataType, shape: &[i64], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: shape.to_vec(),
        data_type: Some(kind as i32),
        raw_data: Some(bytes.into()),
        ..Default::default()
    }
}

/// A constant of 64-bit integers, such as the shape of a `Reshape`.
pub fn integer_tensor(name: &str, shape: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: shape.to_vec(),
        data_type: Some(DataType::Int64 as i32),
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

/// An input or output of the graph that holds 32-bit floats.
pub fn float_value(name: &str, shape: &[i64]) -> ValueInfoProto {
    let dim =
        shape.iter().map(|&size| Dimension { value: Some(dimension::Value::DimValue(size)), ..Default::default() });
    let tensor = type_proto::Tensor {
        elem_type: Some(DataType::Float as i32),
        shape: Some(TensorShapeProto { dim: dim.collect() }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { value: Some(Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

/// An entry of a model's metadata: numbers, one after the other.
pub fn numbers(key: &str, values: &[f32]) -> StringStringEntryProto {
    let value = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) }
}
