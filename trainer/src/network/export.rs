//! Writing a trained network as ONNX: batch normalisation folded into the convolutions, fixed input size, opset 17.

use std::collections::HashMap;

use anemia_onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use anemia_onnx::{float_tensor, float_value, integer, integers, model, node, word};
use anyhow::Result;

use super::fold::{fold, value};
use super::{COLOURS, CONTRAST, Conv, Network, Op, STRIDE, colour_matrix, contrast_matrix, tissue};

/// Name of the picture in the graph.
pub const INPUT: &str = "image";

/// The graph of `network` with its trained `values`, by parameter name, for pictures of `size` × `size` pixels.
///
/// `output` names the result: `[1, 1]` from a classifier, `[1, 1, size / 2, size / 2]` from a locator.
pub fn export(network: &Network, values: &HashMap<String, Vec<f32>>, size: i64, output: &str) -> Result<ModelProto> {
    let (network, values) = fold(network, values)?;
    let mut writer = Writer { values: &values, nodes: Vec::new(), constants: Vec::new() };
    writer.constants.push(float_tensor("zero", &[], &[0.0]));
    writer.constants.push(float_tensor("six", &[], &[6.0]));
    let mut names = vec![INPUT.to_owned()];
    for (index, step) in network.steps.iter().enumerate() {
        let inputs: Vec<&str> = step.inputs.iter().map(|&input| names[input].as_str()).collect();
        let last = index + 1 == network.steps.len();
        let name = if last { output.to_owned() } else { format!("step{}", index + 1) };
        writer.step(&step.op, &inputs, &name)?;
        names.push(name);
    }
    let is_map = matches!(network.steps.last(), Some(step) if matches!(step.op, Op::Conv(_)));
    let shape = if is_map { vec![1, 1, size / 2, size / 2] } else { vec![1, 1] };
    Ok(model(GraphProto {
        name: Some("anemiad".into()),
        node: writer.nodes,
        initializer: writer.constants,
        input: vec![float_value(INPUT, &[1, 3, size, size])],
        output: vec![float_value(output, &shape)],
        ..Default::default()
    }))
}

struct Writer<'a> {
    values: &'a HashMap<String, Vec<f32>>,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Writer<'_> {
    fn step(&mut self, op: &Op, inputs: &[&str], name: &str) -> Result<()> {
        match op {
            Op::Conv(conv) => self.conv(conv, inputs[0], name)?,
            Op::Add { relu6 } => {
                let sum = self.before_relu6(*relu6, name);
                self.push("Add", inputs, &sum);
            }
            Op::Double => {
                let scales = format!("{name}.scales");
                self.constants.push(float_tensor(&scales, &[4], &[1.0, 1.0, 2.0, 2.0]));
                self.push("Resize", &[inputs[0], "", &scales], name).attribute = vec![
                    word("mode", "nearest"),
                    word("coordinate_transformation_mode", "asymmetric"),
                    word("nearest_mode", "floor"),
                ];
            }
            Op::Mean => {
                let mean = format!("{name}.mean");
                self.push("GlobalAveragePool", inputs, &mean);
                self.push("Flatten", &[&mean], name);
            }
            Op::Tissue => {
                let (weights, bias) = tissue();
                self.pointwise(name, &[1, 3, 1, 1], &weights, &[bias], inputs[0]);
            }
            Op::Colours => {
                let both = format!("{name}.both");
                self.push("Concat", inputs, &both).attribute = vec![integer("axis", 1)];
                let (weights, bias) = colour_matrix();
                let count = COLOURS as i64;
                self.pointwise(name, &[count, count, 1, 1], &weights, &bias, &both);
            }
            Op::Contrasts => {
                let [all, share, mean] = ["all", "share", "mean"].map(|part| format!("{name}.{part}"));
                let count = CONTRAST as i64;
                self.pointwise(&all, &[count, count, 1, 1], &contrast_matrix(), &[0.0; CONTRAST], inputs[0]);
                self.push("GlobalAveragePool", &[inputs[1]], &share);
                self.mean_inside(&all, inputs[1], &share, &mean);
                self.push("Sub", &[&all, &mean], name);
            }
            Op::Log => {
                self.push("Log", inputs, name);
            }
            Op::Join => self.push("Concat", inputs, name).attribute = vec![integer("axis", 1)],
            Op::Statistics => self.statistics(inputs[0], inputs[1], name),
            Op::Linear { name: weights, inputs: from, outputs, relu6, .. } => {
                let (matrix, shift) = (format!("{weights}.weight"), format!("{weights}.bias"));
                self.constants.push(float_tensor(&matrix, &[*outputs, *from], self.value(&matrix)?));
                self.constants.push(float_tensor(&shift, &[*outputs], self.value(&shift)?));
                let out = self.before_relu6(*relu6, name);
                self.push("Gemm", &[inputs[0], &matrix, &shift], &out).attribute = vec![integer("transB", 1)];
            }
        }
        match op {
            Op::Conv(Conv { relu6: true, .. })
            | Op::Add { relu6: true }
            | Op::Linear { relu6: true, .. }
            | Op::Tissue => {
                self.push("Clip", &[&self.before_relu6(true, name), "zero", "six"], name);
            }
            _ => {}
        }
        Ok(())
    }

    fn conv(&mut self, conv: &Conv, input: &str, name: &str) -> Result<()> {
        let (weight, shift) = (format!("{}.weight", conv.name), format!("{}.bias", conv.name));
        let shape = [conv.outputs, conv.inputs / conv.groups, conv.kernel, conv.kernel];
        self.constants.push(float_tensor(&weight, &shape, self.value(&weight)?));
        self.constants.push(float_tensor(&shift, &[conv.outputs], self.value(&shift)?));
        let out = self.before_relu6(conv.relu6, name);
        let made = self.push("Conv", &[input, &weight, &shift], &out);
        made.name = Some(conv.name.clone());
        made.attribute = vec![
            integers("kernel_shape", &[conv.kernel; 2]),
            integers("strides", &[conv.stride; 2]),
            integers("pads", &[conv.kernel / 2; 4]),
            integer("group", conv.groups),
        ];
        Ok(())
    }

    /// A convolution with a kernel of one pixel and numbers that nobody trained.
    fn pointwise(&mut self, name: &str, shape: &[i64; 4], weights: &[f32], bias: &[f32], input: &str) {
        let (weight, shift) = (format!("{name}.weight"), format!("{name}.bias"));
        self.constants.push(float_tensor(&weight, shape, weights));
        self.constants.push(float_tensor(&shift, &shape[..1], bias));
        let out = self.before_relu6(shape[0] == 1, name);
        self.push("Conv", &[input, &weight, &shift], &out).attribute = vec![
            integers("kernel_shape", &[1; 2]),
            integers("strides", &[STRIDE; 2]),
            integers("pads", &[0; 4]),
            integer("group", 1),
        ];
    }

    /// Mean and deviation over the tissue. The mean goes away before the squares, so that 16 bits are enough.
    fn statistics(&mut self, input: &str, tissue: &str, name: &str) {
        let part = |part: &str| format!("{name}.{part}");
        let share = part("share");
        self.push("GlobalAveragePool", &[tissue], &share);
        let (mean, variance) = (part("mean"), part("variance"));
        self.mean_inside(input, tissue, &share, &mean);
        let (distance, square, deviation, both) = (part("distance"), part("square"), part("deviation"), part("both"));
        self.push("Sub", &[input, &mean], &distance);
        self.push("Mul", &[&distance, &distance], &square);
        self.mean_inside(&square, tissue, &share, &variance);
        self.push("Sqrt", &[&variance], &deviation);
        self.push("Concat", &[&mean, &deviation], &both).attribute = vec![integer("axis", 1)];
        self.push("Flatten", &[&both], name);
    }

    fn mean_inside(&mut self, value: &str, tissue: &str, share: &str, mean: &str) {
        let (inside, sum) = (format!("{mean}.inside"), format!("{mean}.sum"));
        self.push("Mul", &[value, tissue], &inside);
        self.push("GlobalAveragePool", &[&inside], &sum);
        self.push("Div", &[&sum, share], mean);
    }

    fn before_relu6(&self, relu6: bool, name: &str) -> String {
        if relu6 { format!("{name}.linear") } else { name.to_owned() }
    }

    fn push(&mut self, operator: &str, inputs: &[&str], output: &str) -> &mut NodeProto {
        self.nodes.push(node(operator, inputs, &[output]));
        let last = self.nodes.len() - 1;
        &mut self.nodes[last]
    }

    fn value(&self, name: &str) -> Result<&[f32]> {
        value(self.values, name)
    }
}
