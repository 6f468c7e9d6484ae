//! Writing a trained network as ONNX: batch normalisation folded into the convolutions, fixed input size, opset 17.

use std::collections::HashMap;

use anemia_onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use anemia_onnx::{convolution, float_tensor, float_value, integer, model, node, word};
use anyhow::{Result, ensure};

use super::fold::{fold, value};
use super::{CONTRAST, Conv, Network, Op, STRIDE, Step, colour_matrix, contrast_matrix, tissue};

/// Name of the picture in the graph.
pub const INPUT: &str = "image";

/// The graph of `network` with its trained `values`, by parameter name, for pictures of `size` × `size` pixels.
///
/// `output` names the result: `[1, 1]` from a classifier, `[1, 1, size / 2, size / 2]` from a locator.
pub fn export(network: &Network, values: &HashMap<String, Vec<f32>>, size: i64, output: &str) -> Result<ModelProto> {
    let (network, values) = fold(network, values)?;
    check_readers(&network)?;
    let mut writer = Writer { values: &values, weights: HashMap::new(), nodes: Vec::new(), constants: Vec::new() };
    writer.constants.push(float_tensor("zero", &[], &[0.0]));
    writer.constants.push(float_tensor("six", &[], &[6.0]));
    let mut names = vec![INPUT.to_owned()];
    for (index, step) in network.steps.iter().enumerate() {
        let inputs: Vec<&str> = step.inputs.iter().map(|&input| names[input].as_str()).collect();
        let last = index + 1 == network.steps.len();
        let name = if last { output.to_owned() } else { format!("step{}", index + 1) };
        let before = step.inputs.first().and_then(|&input| network.steps.get(input.checked_sub(1)?));
        writer.step(&step.op, before, &inputs, &name)?;
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
    /// For the tissue of each value that is one, what its pixels count in a mean over it.
    weights: HashMap<String, String>,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Writer<'_> {
    /// `before` is the step that gives the first input.
    fn step(&mut self, op: &Op, before: Option<&Step>, inputs: &[&str], name: &str) -> Result<()> {
        match op {
            Op::Conv(conv) => self.conv(conv, before, inputs[0], name)?,
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
            // A convolution, because every runtime has it with a stride.
            Op::Sample => {
                let same = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
                self.pointwise(name, &[3, 3, 1, 1], &same, &[0.0; 3], STRIDE, inputs[0]);
            }
            Op::Tissue => {
                let (weights, bias) = tissue();
                self.pointwise(name, &[1, 3, 1, 1], &weights, &[bias], 1, inputs[0]);
            }
            // Their matrices are in the weights of the convolution behind them.
            Op::Colours => self.push("Concat", inputs, name).attribute = vec![integer("axis", 1)],
            Op::Contrasts => {
                let mean = format!("{name}.mean");
                self.mean_inside(inputs[0], inputs[1], &mean);
                self.push("Sub", &[inputs[0], &mean], name);
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

    fn conv(&mut self, conv: &Conv, before: Option<&Step>, input: &str, name: &str) -> Result<()> {
        let (weight, shift) = (format!("{}.weight", conv.name), format!("{}.bias", conv.name));
        let shape = [conv.outputs, conv.inputs / conv.groups, conv.kernel, conv.kernel];
        let (mut kernel, mut bias) = (self.value(&weight)?.to_vec(), self.value(&shift)?.to_vec());
        match before.map(|step| &step.op) {
            Some(Op::Colours) => {
                let (matrix, offset) = colour_matrix();
                absorb(&matrix, &offset, &mut kernel, &mut bias);
            }
            Some(Op::Contrasts) => absorb(&contrast_matrix(), &[0.0; CONTRAST], &mut kernel, &mut bias),
            _ => {}
        }
        self.constants.push(float_tensor(&weight, &shape, &kernel));
        self.constants.push(float_tensor(&shift, &[conv.outputs], &bias));
        let out = self.before_relu6(conv.relu6, name);
        let made = self.push("Conv", &[input, &weight, &shift], &out);
        made.name = Some(conv.name.clone());
        made.attribute = convolution(conv.kernel, conv.stride, conv.kernel / 2, conv.groups);
        Ok(())
    }

    /// A convolution with a kernel of one pixel and numbers that nobody trained.
    fn pointwise(&mut self, name: &str, shape: &[i64; 4], weights: &[f32], bias: &[f32], stride: i64, input: &str) {
        let (weight, shift) = (format!("{name}.weight"), format!("{name}.bias"));
        self.constants.push(float_tensor(&weight, shape, weights));
        self.constants.push(float_tensor(&shift, &shape[..1], bias));
        let out = self.before_relu6(shape[0] == 1, name);
        self.push("Conv", &[input, &weight, &shift], &out).attribute = convolution(1, stride, 0, 1);
    }

    /// Mean and deviation over the tissue. The mean goes away before the squares, so that 16 bits are enough.
    fn statistics(&mut self, input: &str, tissue: &str, name: &str) {
        let part = |part: &str| format!("{name}.{part}");
        let (mean, variance) = (part("mean"), part("variance"));
        self.mean_inside(input, tissue, &mean);
        let (distance, square, deviation, both) = (part("distance"), part("square"), part("deviation"), part("both"));
        self.push("Sub", &[input, &mean], &distance);
        self.push("Mul", &[&distance, &distance], &square);
        self.mean_inside(&square, tissue, &variance);
        self.push("Sqrt", &[&variance], &deviation);
        self.push("Concat", &[&mean, &deviation], &both).attribute = vec![integer("axis", 1)];
        self.push("Flatten", &[&both], name);
    }

    /// The mean over the tissue: that of all pixels, in which those of tissue count so much more as there are more others.
    fn mean_inside(&mut self, value: &str, tissue: &str, mean: &str) {
        let weight = self.weight(tissue);
        let inside = format!("{mean}.inside");
        self.push("Mul", &[value, &weight], &inside);
        self.push("GlobalAveragePool", &[&inside], mean);
    }

    /// What each pixel counts in such a mean; computed once.
    fn weight(&mut self, tissue: &str) -> String {
        if let Some(known) = self.weights.get(tissue) {
            return known.clone();
        }
        let [share, weight] = ["share", "counts"].map(|part| format!("{tissue}.{part}"));
        self.push("GlobalAveragePool", &[tissue], &share);
        self.push("Div", &[tissue, &share], &weight);
        self.weights.insert(tissue.to_owned(), weight.clone());
        weight
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

/// The matrices of [`Op::Colours`] and [`Op::Contrasts`] go into what reads them, which must be convolutions of single pixels.
fn check_readers(network: &Network) -> Result<()> {
    for (index, step) in network.steps.iter().enumerate() {
        if !matches!(step.op, Op::Colours | Op::Contrasts) {
            continue;
        }
        let mut readers = network.steps.iter().filter(|reader| reader.inputs.contains(&(index + 1))).peekable();
        let takes = |reader: &Step| matches!(&reader.op, Op::Conv(conv) if conv.kernel == 1 && conv.groups == 1);
        ensure!(
            readers.peek().is_some() && readers.all(takes),
            "step {}: {:?} must be read by convolutions of single pixels",
            index + 1,
            step.op
        );
    }
    Ok(())
}

/// Takes what a fixed matrix and its offset make of each pixel into the convolution of one pixel that reads it:
/// `K (M x + o) + b = (K M) x + (K o + b)`.
fn absorb(matrix: &[f32], offset: &[f32], kernel: &mut [f32], bias: &mut [f32]) {
    let count = offset.len();
    for (row, bias) in kernel.chunks_exact_mut(count).zip(bias) {
        let seen: Vec<f64> = row.iter().map(|&weight| f64::from(weight)).collect();
        let moved: f64 = seen.iter().zip(offset).map(|(weight, &offset)| weight * f64::from(offset)).sum();
        *bias = (f64::from(*bias) + moved) as f32;
        for (column, weight) in row.iter_mut().enumerate() {
            let parts = seen.iter().zip(matrix.chunks_exact(count));
            *weight = parts.map(|(weight, row)| weight * f64::from(row[column])).sum::<f64>() as f32;
        }
    }
}
