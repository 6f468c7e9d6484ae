//! From an fp32 ONNX graph to a list of steps.

use std::collections::{HashMap, HashSet};

use anemia_onnx::label;
use anemia_onnx::proto::attribute_proto::AttributeType;
use anemia_onnx::proto::tensor_proto::{DataLocation, DataType};
use anemia_onnx::proto::tensor_shape_proto::dimension;
use anemia_onnx::proto::type_proto::Value;
use anemia_onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use anyhow::{Context, Result, bail, ensure};

use super::{Activation, Conv, Network, Op, Step};

/// The operators that are understood.
const KNOWN: &str = "Conv, BatchNormalization, Relu, Clip to 0…6, Add, Mul, Sub, Div, Concat, Log, Sqrt, Resize by 2, \
                     GlobalAveragePool, ReduceMean, Flatten, Reshape, Squeeze, Gemm, Sigmoid, Identity, Dropout and Constant";

/// Reads a network; batch normalisation is folded into the convolution before it.
///
/// Fails with the name of the node for operators that are not understood, weights outside the file, numbers that are not
/// finite, and networks that are quantized already.
pub fn read(model: &ModelProto) -> Result<Network> {
    Ok(read_with_names(model)?.0)
}

/// The same, and for each name of a value in the graph, in their order, which value of the network it is. Before and behind an
/// activation, or a change of shape, it is the same.
pub fn read_with_names(model: &ModelProto) -> Result<(Network, Vec<(String, usize)>)> {
    let graph = model.graph.as_ref().context("the model has no graph")?;
    let mut reader =
        Reader { graph, constants: HashMap::new(), values: HashMap::new(), flat: HashSet::new(), steps: Vec::new() };
    for tensor in &graph.initializer {
        reader.constants.insert(tensor.name(), tensor);
    }
    let inputs: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|input| !reader.constants.contains_key(input.name())).collect();
    let ([input], [output]) = (&inputs[..], &graph.output[..]) else {
        bail!("the graph has {} inputs and {} outputs; expected one of each", inputs.len(), graph.output.len());
    };
    let shape = shape_of(input).with_context(|| format!("input {}", input.name()))?;
    let [1, channels, height, width] = shape[..] else {
        bail!("input {}: shape {shape:?}; expected 1 × channels × height × width", input.name());
    };
    reader.values.insert(input.name(), 0);
    let rounds = |node: &&NodeProto| matches!(node.op_type(), "QuantizeLinear" | "DequantizeLinear");
    if let Some(node) = graph.node.iter().find(rounds) {
        bail!(
            "node {:?} ({}): the network is quantized already; give the fp32 network that it was made from",
            label(node),
            node.op_type()
        );
    }
    for node in &graph.node {
        reader.node(node).with_context(|| format!("node {:?} ({})", label(node), node.op_type()))?;
    }
    let found = reader.values.get(output.name()).copied();
    ensure!(found == Some(reader.steps.len()), "output {}: expected the result of the last node", output.name());
    let network = Network {
        input: input.name().into(),
        shape: [channels, height, width].map(|size| size as usize),
        output: output.name().into(),
        output_shape: shape_of(output).with_context(|| format!("output {}", output.name()))?,
        steps: std::mem::take(&mut reader.steps),
    };
    check_channels(&network)?;
    let made = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let all = std::iter::once(input.name()).chain(made);
    let names = all.filter_map(|name| Some((name.to_owned(), *reader.values.get(name)?))).collect();
    Ok((network, names))
}

struct Reader<'a> {
    graph: &'a GraphProto,
    constants: HashMap<&'a str, &'a TensorProto>,
    /// The number of each value that is there, by its name in the graph.
    values: HashMap<&'a str, usize>,
    /// The values that are numbers in a row, without height and width.
    flat: HashSet<&'a str>,
    steps: Vec<Step>,
}

impl<'a> Reader<'a> {
    fn node(&mut self, node: &'a NodeProto) -> Result<()> {
        match node.op_type() {
            "Conv" => self.conv(node)?,
            "Gemm" => self.gemm(node)?,
            "BatchNormalization" => self.fold(node)?,
            "Relu" => self.activate(node, Activation::Relu)?,
            "Clip" => {
                let bound = |at: usize| -> Result<f32> {
                    let name = node.input.get(at).context("expected the bounds 0 and 6 as constants")?;
                    Ok(self.floats(name)?[0])
                };
                let (low, high) = (bound(1)?, bound(2)?);
                ensure!((low, high) == (0.0, 6.0), "clips to {low}…{high}; only 0…6 is understood");
                self.activate(node, Activation::Relu6)?;
            }
            "Add" => self.of_two(node, Op::Add)?,
            "Mul" => self.of_two(node, Op::Multiply)?,
            "Sub" => self.of_two(node, Op::Subtract)?,
            "Div" => self.of_two(node, Op::Divide)?,
            "Concat" => {
                let (parts, axis) = (node.input.len(), attribute(node, "axis").and_then(|one| one.i));
                ensure!(
                    parts == 2 && axis == Some(1),
                    "joins {parts} values along axis {axis:?}; only two along axis 1"
                );
                self.of_two(node, Op::Join)?;
            }
            "Log" => self.of_one(node, Op::Log)?,
            "Sqrt" => self.of_one(node, Op::Root)?,
            "Resize" => {
                let scales = self.floats(node.input.get(2).map_or("", String::as_str))?;
                ensure!(scales == [1.0, 1.0, 2.0, 2.0], "scales by {scales:?}; only 1, 1, 2, 2 is understood");
                let mode = attribute(node, "mode").and_then(|one| one.s.clone()).unwrap_or_default();
                ensure!(mode.is_empty() || &mode[..] == b"nearest", "only the mode nearest is understood");
                self.of_one(node, Op::Double)?;
            }
            "GlobalAveragePool" => self.of_one(node, Op::Mean)?,
            "ReduceMean" => {
                let mut axes = self.axes(node)?;
                axes.iter_mut().filter(|axis| **axis < 0).for_each(|axis| *axis += 4);
                axes.sort_unstable();
                ensure!(
                    axes == [2, 3],
                    "the mean over the axes {axes:?}; only that over the pixels, 2 and 3, is understood"
                );
                self.of_one(node, Op::Mean)?;
            }
            "Sigmoid" => self.of_one(node, Op::Sigmoid)?,
            // One pixel per channel is the same in every shape.
            "Flatten" | "Reshape" | "Squeeze" | "Identity" | "Dropout" => {
                let value = self.value(node, 0)?;
                self.values.insert(&node.output[0], value);
            }
            "Constant" => {
                let value = attribute(node, "value").and_then(|one| one.t.as_ref()).context("expected a tensor")?;
                self.constants.insert(&node.output[0], value);
            }
            "QLinearConv" | "ConvInteger" | "DynamicQuantizeLinear" => {
                bail!("the network is quantized already; give the fp32 network that it was made from")
            }
            _ => bail!("this operator is not understood; expected {KNOWN}"),
        }
        if self.is_flat(node) {
            self.flat.insert(&node.output[0]);
        }
        Ok(())
    }

    /// Whether the result of a node has lost the axes of height and width.
    fn is_flat(&self, node: &NodeProto) -> bool {
        match node.op_type() {
            "Flatten" | "Squeeze" | "Gemm" => true,
            "ReduceMean" => attribute(node, "keepdims").and_then(|one| one.i) == Some(0),
            "Reshape" => {
                let shape = node.input.get(1).and_then(|name| self.constants.get(name.as_str()));
                shape.is_none_or(|shape| shape.dims != [4])
            }
            _ => node.input.first().is_some_and(|name| self.flat.contains(name.as_str())),
        }
    }

    /// The axes of a node, which are an attribute, or since opset 18 a constant.
    fn axes(&self, node: &NodeProto) -> Result<Vec<i64>> {
        if let Some(axes) = attribute(node, "axes") {
            return Ok(axes.ints.clone());
        }
        let constant = node.input.get(1).and_then(|name| self.constants.get(name.as_str()));
        let constant = constant.context("expected axes as an attribute or a constant")?;
        Ok(anemia_onnx::whole_numbers(constant))
    }

    fn of_one(&mut self, node: &'a NodeProto, op: Op) -> Result<()> {
        let inputs = vec![self.value(node, 0)?];
        self.push(node, op, inputs);
        Ok(())
    }

    fn of_two(&mut self, node: &'a NodeProto, op: Op) -> Result<()> {
        let inputs = vec![self.value(node, 0)?, self.value(node, 1)?];
        let flat = |at: usize| self.flat.contains(node.input[at].as_str());
        ensure!(
            flat(0) == flat(1),
            "one of its inputs has a height and a width, and the other does not; expected both or none"
        );
        self.push(node, op, inputs);
        Ok(())
    }

    fn conv(&mut self, node: &'a NodeProto) -> Result<()> {
        let input = self.value(node, 0)?;
        let (shape, weights) = self.tensor(node, 1)?;
        let [outputs, per_group, kernel, width] = shape[..] else {
            bail!("weights of shape {shape:?}; expected four axes")
        };
        ensure!(kernel == width, "a kernel of {kernel} × {width}; expected a square");
        let numbers = |name: &str, otherwise: i64, count: usize| {
            let found = attribute(node, name).map_or(vec![otherwise; count], |one| one.ints.clone());
            ensure!(found.windows(2).all(|pair| pair[0] == pair[1]), "{name} {found:?}; expected equal ones");
            Ok(found.first().copied().unwrap_or(otherwise) as usize)
        };
        ensure!(numbers("dilations", 1, 2)? == 1, "dilations are not understood");
        let (stride, pad) = (numbers("strides", 1, 2)?, numbers("pads", 0, 4)?);
        ensure!(pad < kernel.max(1), "pads {pad} of a kernel of {kernel}; expected less than it");
        let auto = attribute(node, "auto_pad").and_then(|one| one.s.clone()).unwrap_or_default();
        ensure!(auto.is_empty() || &auto[..] == b"NOTSET", "auto_pad is not understood; expected pads");
        let groups = attribute(node, "group").and_then(|one| one.i).unwrap_or(1) as usize;
        let inputs = per_group * groups;
        ensure!(
            groups == 1 || (per_group == 1 && outputs == groups),
            "{groups} groups of {per_group} channels; expected one group, or one for each channel"
        );
        ensure!((1..=8).contains(&stride), "stride {stride}; expected 1 to 8");
        let bias = if node.input.len() > 2 { self.tensor(node, 2)?.1 } else { vec![0.0; outputs] };
        ensure!(bias.len() == outputs, "{} biases for {outputs} outputs", bias.len());
        self.push(node, Op::Conv(Conv { inputs, outputs, kernel, stride, pad, groups, weights, bias }), vec![input]);
        Ok(())
    }

    fn gemm(&mut self, node: &'a NodeProto) -> Result<()> {
        let input = self.value(node, 0)?;
        let (shape, mut weights) = self.tensor(node, 1)?;
        let [rows, columns] = shape[..] else { bail!("a matrix of shape {shape:?}; expected two axes") };
        let factor = |name: &str| attribute(node, name).and_then(|one| one.f).unwrap_or(1.0);
        ensure!(factor("alpha") == 1.0 && factor("beta") == 1.0, "alpha and beta are not understood");
        let transposed = attribute(node, "transB").and_then(|one| one.i).unwrap_or(0) == 1;
        let (outputs, inputs) = if transposed { (rows, columns) } else { (columns, rows) };
        if !transposed {
            weights = (0..rows * columns).map(|at| weights[at % rows * columns + at / rows]).collect();
        }
        let bias = if node.input.len() > 2 { self.tensor(node, 2)?.1 } else { vec![0.0; outputs] };
        ensure!(bias.len() == outputs, "{} biases for {outputs} outputs", bias.len());
        let conv = Conv { inputs, outputs, kernel: 1, stride: 1, pad: 0, groups: 1, weights, bias };
        self.push(node, Op::Conv(conv), vec![input]);
        Ok(())
    }

    /// Batch normalisation into the convolution before it: `w · s / √(v + ε)` and `(b − m) · s / √(v + ε) + t`.
    fn fold(&mut self, node: &'a NodeProto) -> Result<()> {
        let part = |at: usize| self.tensor(node, at).map(|found| found.1);
        let (scale, shift, mean, variance) = (part(1)?, part(2)?, part(3)?, part(4)?);
        let epsilon = attribute(node, "epsilon").and_then(|one| one.f).unwrap_or(1e-5);
        let step = self.only_reader(node)?;
        let Op::Conv(conv) = &mut step.op else { bail!("expected a convolution before it") };
        ensure!(step.activation == Activation::None, "an activation lies between it and the convolution");
        ensure!(
            [&scale, &shift, &mean, &variance].iter().all(|part| part.len() == conv.outputs),
            "expected {} numbers of each kind",
            conv.outputs
        );
        let row = conv.row();
        for output in 0..conv.outputs {
            let factor = f64::from(scale[output]) / (f64::from(variance[output]) + f64::from(epsilon)).sqrt();
            conv.weights[output * row..][..row].iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
            let centred = f64::from(conv.bias[output]) - f64::from(mean[output]);
            conv.bias[output] = (centred * factor + f64::from(shift[output])) as f32;
        }
        self.rename(node);
        Ok(())
    }

    fn activate(&mut self, node: &'a NodeProto, activation: Activation) -> Result<()> {
        let step = self.only_reader(node)?;
        ensure!(matches!(step.op, Op::Conv(_) | Op::Add), "expected a convolution or a sum before it");
        ensure!(step.activation == Activation::None, "two activations in a row are not understood");
        step.activation = activation;
        self.rename(node);
        Ok(())
    }

    /// The last step, when `node` is the only one that reads its result.
    fn only_reader(&mut self, node: &NodeProto) -> Result<&mut Step> {
        let value = self.value(node, 0)?;
        let name = node.input[0].as_str();
        let readers = self.graph.node.iter().flat_map(|node| &node.input).filter(|input| *input == name).count();
        ensure!(readers == 1, "its input is read by {readers} nodes; expected only this one");
        ensure!(value == self.steps.len(), "expected the node before it as its input");
        self.steps.last_mut().context("expected a node before it")
    }

    /// The result of the last step is known as the output of `node` from here on.
    fn rename(&mut self, node: &'a NodeProto) {
        self.values.insert(&node.output[0], self.steps.len());
    }

    fn push(&mut self, node: &'a NodeProto, op: Op, inputs: Vec<usize>) {
        // A convolution is known by the name of its node, as the tables of reports have it.
        let own = label(node).trim_start_matches('/').replace([':', '/'], ".");
        let taken = self.steps.iter().any(|step| step.name == own) || own == self.graph.output[0].name();
        let name = if taken { format!("{own}.{}", self.steps.len() + 1) } else { own };
        self.steps.push(Step { name, op, inputs, activation: Activation::None });
        self.values.insert(&node.output[0], self.steps.len());
    }

    fn value(&self, node: &NodeProto, at: usize) -> Result<usize> {
        let name = node.input.get(at).map_or("", String::as_str);
        ensure!(!self.constants.contains_key(name), "input {name:?} is a constant; expected a value of the network");
        self.values.get(name).copied().with_context(|| format!("input {name:?} is not computed before it"))
    }

    /// Shape and values of a constant of floats that a node reads.
    fn tensor(&self, node: &NodeProto, at: usize) -> Result<(Vec<usize>, Vec<f32>)> {
        let name = node.input.get(at).with_context(|| format!("expected an input number {at}"))?;
        let values = self.floats(name)?;
        let shape: Vec<usize> = self.constants[name.as_str()].dims.iter().map(|&size| size.max(0) as usize).collect();
        ensure!(shape.iter().product::<usize>() == values.len(), "{name}: {} values for shape {shape:?}", values.len());
        Ok((shape, values))
    }

    fn floats(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.constants.get(name).with_context(|| format!("{name:?} is not a constant"))?;
        ensure!(
            tensor.data_location() == DataLocation::Default,
            "{name}: its values are in another file; save the model with its weights inside"
        );
        match DataType::try_from(tensor.data_type()) {
            Ok(DataType::Float) => {}
            kind => bail!("{name}: of type {}; expected FLOAT", kind.map_or("unknown", |kind| kind.as_str_name())),
        }
        let values = anemia_onnx::values(tensor)
            .with_context(|| format!("{name}: has fewer or more values than its shape {:?}", tensor.dims))?;
        ensure!(!values.is_empty(), "{name}: is empty");
        if let Some(wrong) = values.iter().find(|value| !value.is_finite()) {
            bail!("{name}: holds {wrong}; train the network again or repair it");
        }
        Ok(values)
    }
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a anemia_onnx::proto::AttributeProto> {
    node.attribute.iter().find(|one| one.name() == name && one.r#type() != AttributeType::Undefined)
}

fn shape_of(value: &ValueInfoProto) -> Result<Vec<i64>> {
    let kind = value.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let Some(Value::TensorType(tensor)) = kind else { bail!("is not a tensor") };
    let shape = tensor.shape.as_ref().context("has no shape")?;
    let size = |dim: &anemia_onnx::proto::tensor_shape_proto::Dimension| match dim.value {
        Some(dimension::Value::DimValue(size)) if size > 0 => Ok(size),
        _ => bail!("has a size that is not fixed; export the network with a fixed input"),
    };
    shape.dim.iter().map(size).collect()
}

fn check_channels(network: &Network) -> Result<()> {
    let shapes = network.shapes();
    for step in &network.steps {
        let found = shapes[step.inputs[0]];
        match &step.op {
            Op::Conv(conv) => ensure!(
                conv.inputs == found[0] && found[1].min(found[2]) + 2 * conv.pad >= conv.kernel,
                "node {:?}: made for {} channels, and gets {found:?}",
                step.name,
                conv.inputs
            ),
            Op::Add => ensure!(shapes[step.inputs[1]] == found, "node {:?}: adds values of two shapes", step.name),
            Op::Multiply | Op::Subtract | Op::Divide => {
                let other = shapes[step.inputs[1]];
                let fits = found.iter().zip(other).all(|(&size, other)| other == size || other == 1);
                ensure!(fits, "node {:?}: {found:?} with {other:?}; expected the same sizes, or 1", step.name);
                let pixels = [found[1] * found[2], other[1] * other[2]];
                ensure!(
                    pixels[1] == pixels[0] || pixels[1] == 1,
                    "node {:?}: {found:?} with {other:?}; expected as many pixels, or one",
                    step.name
                );
            }
            Op::Join => {
                ensure!(shapes[step.inputs[1]][1..] == found[1..], "node {:?}: joins pictures of two sizes", step.name)
            }
            Op::Double | Op::Mean | Op::Log | Op::Root | Op::Sigmoid => {}
        }
    }
    Ok(())
}
