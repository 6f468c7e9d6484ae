//! From a quantized network to an ONNX file, one form for each runtime.

use anemia_onnx::proto::tensor_proto::DataType;
use anemia_onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use anemia_onnx::{
    convolution, float_tensor, float_value, integer, integer_tensor, model, node, raw_tensor, strip, word,
};
use half::f16;

use crate::network::{Activation, Conv, Network, Op};
use crate::quantize::{Grid, Quantized, Weights, bias_integer};

/// 16-bit weights that become 32-bit floats when the network is loaded; TensorRT computes in 16 bits.
pub fn fp16(quantized: &Quantized) -> ModelProto {
    Writer::new(quantized, Form::Half).write()
}

/// Integers from end to end as ONNX Runtime fuses them: bytes with a zero point, weights as integers in the file.
pub fn int8_onnxruntime(quantized: &Quantized) -> ModelProto {
    Writer::new(quantized, Form::Integers).write()
}

/// As TensorRT 8 wants it: integers around zero, weights as 32-bit floats that are quantized in the graph.
pub fn int8_tensorrt(quantized: &Quantized) -> ModelProto {
    Writer::new(quantized, Form::Rounded).write()
}

/// Packed 4-bit weights in blocks, scales and biases of 16 bits, values in floats; the operator set 21, which has 4-bit integers.
pub fn int4(quantized: &Quantized) -> ModelProto {
    let mut model = Writer::new(quantized, Form::Packed).write();
    model.ir_version = Some(10);
    model.opset_import[0].version = Some(21);
    model
}

/// What stands for the weights in the file.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// 16-bit floats. Biases stay 32-bit: they are few, and their error would be the same in every pixel.
    Half,
    /// Integers.
    Integers,
    /// Integers, and 16-bit floats for what is beside them.
    Packed,
    /// 32-bit floats that the graph rounds.
    Rounded,
}

struct Writer<'a> {
    network: &'a Network,
    quantized: &'a Quantized,
    form: Form,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    /// The name of each value's scale; empty where it stays a float.
    scales: Vec<String>,
}

impl<'a> Writer<'a> {
    fn new(quantized: &'a Quantized, form: Form) -> Self {
        Self {
            network: &quantized.network,
            quantized,
            form,
            nodes: Vec::new(),
            constants: Vec::new(),
            scales: Vec::new(),
        }
    }

    fn write(mut self) -> ModelProto {
        let network = self.network;
        self.constants.push(float_tensor("zero", &[], &[0.0]));
        self.constants.push(float_tensor("six", &[], &[6.0]));
        // The name under which each value is read: behind its rounding, where it is rounded.
        let picture = self.shifted();
        let mut names = vec![self.round(0, &picture)];
        for (at, step) in network.steps.iter().enumerate() {
            let inputs: Vec<&str> = step.inputs.iter().map(|&value| names[value].as_str()).collect();
            let plain = match step.activation {
                Activation::None => step.name.clone(),
                _ => format!("{}.linear", step.name),
            };
            match &step.op {
                Op::Conv(conv) => self.conv(at, conv, inputs[0], step.inputs[0], &plain),
                Op::Add => self.push("Add", &inputs, &plain, vec![]),
                Op::Multiply => self.push("Mul", &inputs, &plain, vec![]),
                Op::Subtract => self.push("Sub", &inputs, &plain, vec![]),
                Op::Divide => self.push("Div", &inputs, &plain, vec![]),
                Op::Join => self.push("Concat", &inputs, &plain, vec![integer("axis", 1)]),
                Op::Log => self.push("Log", &inputs, &plain, vec![]),
                Op::Root => self.push("Sqrt", &inputs, &plain, vec![]),
                Op::Sigmoid => self.push("Sigmoid", &inputs, &plain, vec![]),
                Op::Mean => self.push("GlobalAveragePool", &inputs, &plain, vec![]),
                Op::Double => {
                    let scales = format!("{plain}.scales");
                    self.constants.push(float_tensor(&scales, &[4], &[1.0, 1.0, 2.0, 2.0]));
                    let attributes = vec![
                        word("mode", "nearest"),
                        word("coordinate_transformation_mode", "asymmetric"),
                        word("nearest_mode", "floor"),
                    ];
                    self.push("Resize", &[inputs[0], "", &scales], &plain, attributes);
                }
            }
            match step.activation {
                Activation::None => {}
                Activation::Relu => self.push("Relu", &[&plain], &step.name, vec![]),
                Activation::Relu6 => self.push("Clip", &[&plain, "zero", "six"], &step.name, vec![]),
            }
            names.push(self.round(at + 1, &step.name));
        }
        let last = names.pop().unwrap_or_default();
        match network.output_shape.len() {
            4 => self.push("Identity", &[&last], &network.output, vec![]),
            2 => self.push("Flatten", &[&last], &network.output, vec![]),
            _ => {
                self.constants.push(integer_tensor(
                    "output.shape",
                    &[network.output_shape.len() as i64],
                    &network.output_shape,
                ));
                self.push("Reshape", &[&last, "output.shape"], &network.output, vec![]);
            }
        }
        let [channels, height, width] = network.shape.map(|size| size as i64);
        let mut model = model(GraphProto {
            name: Some("anemiad".into()),
            node: self.nodes,
            initializer: self.constants,
            input: vec![float_value(&network.input, &[1, channels, height, width])],
            output: vec![float_value(&network.output, &network.output_shape)],
            ..Default::default()
        });
        // Whoever looks at a plan on a board finds the values by their names.
        if self.form != Form::Rounded {
            strip(&mut model);
        }
        model
    }

    fn conv(&mut self, at: usize, conv: &Conv, input: &str, input_value: usize, output: &str) {
        let name = &self.network.steps[at].name;
        let (weights, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let per_group = conv.inputs / conv.groups;
        let shape = [conv.outputs, per_group, conv.kernel, conv.kernel].map(|size| size as i64);
        let quantized = self.quantized.weights[at].as_ref();
        let weights = match (quantized, self.form) {
            (Some(quantized), Form::Integers | Form::Packed) => self.integers(quantized, &weights, &shape),
            (Some(quantized), _) => {
                self.constants.push(float_tensor(&weights, &shape, &quantized.floats()));
                self.through_scales(quantized, &weights)
            }
            (None, Form::Rounded) => {
                self.constants.push(float_tensor(&weights, &shape, &conv.weights));
                weights
            }
            (None, _) => self.half(&weights, &shape, &conv.weights),
        };
        let bias = match (quantized, self.form) {
            (Some(quantized), Form::Integers) => Some(self.bias(conv, quantized, &weights, input_value, &bias)),
            _ if conv.bias.iter().all(|bias| *bias == 0.0) => None,
            _ => Some(self.floats(&bias, &shape[..1], &conv.bias)),
        };
        let attributes = convolution(conv.kernel as i64, conv.stride as i64, conv.pad as i64, conv.groups as i64);
        // A bias of nothing is left out.
        let parts: Vec<&str> = [Some(input), Some(weights.as_str()), bias.as_deref()].into_iter().flatten().collect();
        self.push("Conv", &parts, output, attributes);
        if let Some(layer) = self.nodes.last_mut().filter(|_| self.form != Form::Rounded) {
            layer.name = Some(name.clone());
        }
    }

    fn half(&mut self, name: &str, shape: &[i64], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        let (stored, float) = (format!("{name}.half"), name.to_owned());
        self.constants.push(raw_tensor(&stored, DataType::Float16, shape, bytes));
        self.push("Cast", &[&stored], &float, vec![integer("to", DataType::Float as i64)]);
        float
    }

    /// Floats in as few bytes as hold each of them exactly, where weights are integers.
    fn floats(&mut self, name: &str, shape: &[i64], values: &[f32]) -> String {
        let is_half = |value: &f32| f16::from_f32(*value).to_f32() == *value;
        if matches!(self.form, Form::Packed | Form::Integers) && values.iter().all(is_half) {
            return self.half(name, shape, values);
        }
        self.constants.push(float_tensor(name, shape, values));
        name.to_owned()
    }

    /// Integers in the file; gives the name of the weights that they stand for.
    fn integers(&mut self, quantized: &Weights, name: &str, shape: &[i64]) -> String {
        let (stored, scale) = (format!("{name}.integers"), format!("{name}.scale"));
        if quantized.bits == 8 {
            let bytes = quantized.values.iter().map(|value| value.cast_unsigned()).collect();
            self.constants.push(raw_tensor(&stored, DataType::Int8, shape, bytes));
            let scale = self.floats(&scale, &shape[..1], &quantized.scales);
            self.push("DequantizeLinear", &[&stored, &scale], name, vec![integer("axis", 0)]);
            return name.to_owned();
        }
        // Two in a byte, the first in the lower half.
        let pack = |pair: &[i8]| (pair[0] & 15) as u8 | (pair.get(1).map_or(0, |&second| (second & 15) as u8) << 4);
        let bytes = quantized.values.chunks(2).map(pack).collect();
        let flat = format!("{name}.flat");
        let matrix = [shape[0], quantized.row as i64];
        self.constants.push(raw_tensor(&stored, DataType::Int4, &matrix, bytes));
        let scale = self.floats(&scale, &[shape[0], quantized.blocks() as i64], &quantized.scales);
        let attributes = vec![integer("axis", 1), integer("block_size", quantized.block as i64)];
        self.push("DequantizeLinear", &[&stored, &scale], &flat, attributes);
        let target = format!("{name}.shape");
        self.constants.push(integer_tensor(&target, &[4], shape));
        self.push("Reshape", &[&flat, &target], name, vec![]);
        name.to_owned()
    }

    /// Weights as floats that go through their scales in the graph.
    fn through_scales(&mut self, quantized: &Weights, name: &str) -> String {
        let (scale, zero) = (format!("{name}.scale"), format!("{name}.zero"));
        let count = quantized.scales.len();
        self.constants.push(float_tensor(&scale, &[count as i64], &quantized.scales));
        self.constants.push(raw_tensor(&zero, DataType::Int8, &[count as i64], vec![0; count]));
        let (quantized, float) = (format!("{name}.quantized"), format!("{name}.float"));
        self.push("QuantizeLinear", &[name, &scale, &zero], &quantized, vec![integer("axis", 0)]);
        self.push("DequantizeLinear", &[&quantized, &scale, &zero], &float, vec![integer("axis", 0)]);
        float
    }

    /// The bias: as 32-bit integers where the convolution computes in integers, else as floats.
    fn bias(&mut self, conv: &Conv, weights: &Weights, weights_name: &str, input: usize, name: &str) -> String {
        let shape = [conv.outputs as i64];
        let Some(scales) = self.quantized.bias_scales(weights, input) else {
            self.constants.push(float_tensor(name, &shape, &conv.bias));
            return name.to_owned();
        };
        let (stored, scale) = (format!("{name}.integers"), format!("{name}.scale"));
        // The product is made when the file is loaded, which is smaller than to store it.
        let (of_weights, of_input) = (format!("{weights_name}.scale"), self.scales[input].clone());
        self.push("Mul", &[&of_weights, &of_input], &scale, vec![]);
        let integers: Vec<i32> =
            conv.bias.iter().zip(&scales).map(|(bias, scale)| bias_integer(*bias, *scale)).collect();
        match integers.iter().map(|&bias| i16::try_from(bias)).collect::<Result<Vec<i16>, _>>() {
            Ok(short) => {
                let bytes = short.iter().flat_map(|bias| bias.to_le_bytes()).collect();
                let half = format!("{stored}.half");
                self.constants.push(raw_tensor(&half, DataType::Int16, &shape, bytes));
                self.push("Cast", &[&half], &stored, vec![integer("to", DataType::Int32 as i64)]);
            }
            Err(_) => {
                let bytes = integers.iter().flat_map(|bias| bias.to_le_bytes()).collect();
                self.constants.push(raw_tensor(&stored, DataType::Int32, &shape, bytes));
            }
        }
        self.push("DequantizeLinear", &[&stored, &scale], name, vec![integer("axis", 0)]);
        name.to_owned()
    }

    /// The name of the picture, with its shift where it has one.
    fn shifted(&mut self) -> String {
        let (picture, shift) = (&self.network.input, &self.quantized.shift);
        if shift.is_empty() {
            return picture.clone();
        }
        let (constant, name) = (format!("{picture}.shift"), format!("{picture}.shifted"));
        self.constants.push(float_tensor(&constant, &[1, shift.len() as i64, 1, 1], shift));
        self.push("Add", &[picture, &constant], &name, vec![]);
        name
    }

    /// The name of a value behind its rounding.
    fn round(&mut self, value: usize, name: &str) -> String {
        let Some(Grid { scale, zero, low, .. }) = self.quantized.values[value].grid else {
            self.scales.push(String::new());
            return name.to_owned();
        };
        let (scale_name, zero_name) = (format!("{name}.scale"), format!("{name}.zero"));
        self.scales.push(scale_name.clone());
        let kind = if low == 0 { DataType::Uint8 } else { DataType::Int8 };
        self.constants.push(float_tensor(&scale_name, &[], &[scale]));
        // A byte of 0 is what the standard takes when there is none.
        let mut grid = vec![scale_name.as_str()];
        if (kind, zero) != (DataType::Uint8, 0) {
            self.constants.push(raw_tensor(&zero_name, kind, &[], vec![zero as u8]));
            grid.push(&zero_name);
        }
        let (quantized, float) = (format!("{name}.quantized"), format!("{name}.rounded"));
        self.push("QuantizeLinear", &[&[name], &grid[..]].concat(), &quantized, vec![]);
        self.push("DequantizeLinear", &[&[quantized.as_str()], &grid[..]].concat(), &float, vec![]);
        float
    }

    fn push(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) {
        let mut node = node(operator, inputs, &[output]);
        node.attribute = attributes;
        self.nodes.push(node);
    }
}
