//! Running one step on one picture, in 32-bit floats.

use anemia_vision::widest;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::{Activation, Conv, Map, Network, Op, Step};

/// The result of a step for its inputs, activation included.
pub fn run(step: &Step, inputs: &[&Map]) -> Map {
    widest(
        #[inline(always)]
        || compute(step, inputs),
    )
}

#[inline(always)]
fn compute(step: &Step, inputs: &[&Map]) -> Map {
    let mut result = match &step.op {
        Op::Conv(conv) => convolve(conv, inputs[0]),
        Op::Add => {
            let values = inputs[0].values.iter().zip(&inputs[1].values).map(|(a, b)| a + b).collect();
            Map { shape: inputs[0].shape, values }
        }
        Op::Multiply => with(inputs[0], inputs[1], |a, b| a * b),
        Op::Subtract => with(inputs[0], inputs[1], |a, b| a - b),
        Op::Divide => with(inputs[0], inputs[1], |a, b| a / b),
        Op::Join => {
            let [first, height, width] = inputs[0].shape;
            let values = [&inputs[0].values[..], &inputs[1].values].concat();
            Map { shape: [first + inputs[1].shape[0], height, width], values }
        }
        Op::Log => each(inputs[0], f32::ln),
        Op::Root => each(inputs[0], f32::sqrt),
        Op::Double => double(inputs[0]),
        Op::Mean => {
            let pixels = inputs[0].pixels() as f32;
            let values = inputs[0].channels().map(|channel| channel.iter().sum::<f32>() / pixels).collect();
            Map { shape: [inputs[0].shape[0], 1, 1], values }
        }
        Op::Sigmoid => each(inputs[0], |x| 1.0 / (1.0 + (-x).exp())),
    };
    if step.activation != Activation::None {
        result.values.iter_mut().for_each(|x| *x = step.activation.of(*x));
    }
    result
}

#[inline(always)]
fn each(map: &Map, of: impl Fn(f32) -> f32) -> Map {
    Map { shape: map.shape, values: map.values.iter().map(|&x| of(x)).collect() }
}

/// Each number of `map` with that of `other` in its place; `other` may have one channel, or one pixel, for all of `map`.
#[inline(always)]
fn with(map: &Map, other: &Map, of: impl Fn(f32, f32) -> f32) -> Map {
    let mut values = Vec::with_capacity(map.values.len());
    for (at, channel) in map.channels().enumerate() {
        let beside = other.channels().nth(if other.shape[0] == 1 { 0 } else { at }).unwrap_or_default();
        match beside {
            [one] => values.extend(channel.iter().map(|&x| of(x, *one))),
            _ => values.extend(channel.iter().zip(beside).map(|(&x, &y)| of(x, y))),
        }
    }
    Map { shape: map.shape, values }
}

/// The results of a step for many pictures: `values` holds each value of the network for all of them.
pub fn run_all(step: &Step, values: &[Vec<Map>]) -> Vec<Map> {
    let inputs = |picture: usize| step.inputs.iter().map(|&value| &values[value][picture]).collect::<Vec<_>>();
    (0..values[step.inputs[0]].len()).into_par_iter().map(|picture| run(step, &inputs(picture))).collect()
}

impl Network {
    /// All values for one picture. `change` may change each before it is read.
    pub fn values(&self, picture: &Map, change: impl Fn(usize, &mut Map)) -> Vec<Map> {
        let mut values = Vec::with_capacity(self.steps.len() + 1);
        let add = |values: &mut Vec<Map>, mut map: Map| {
            change(values.len(), &mut map);
            values.push(map);
        };
        add(&mut values, picture.clone());
        for step in &self.steps {
            let inputs: Vec<&Map> = step.inputs.iter().map(|&value| &values[value]).collect();
            let result = run(step, &inputs);
            add(&mut values, result);
        }
        values
    }
}

#[inline(always)]
fn convolve(conv: &Conv, input: &Map) -> Map {
    let [_, height, width] = input.shape;
    let shape = [conv.outputs, conv.out(height), conv.out(width)];
    let mut result = Map { shape, values: vec![0.0; shape.iter().product()] };
    if conv.is_depthwise() {
        depthwise(conv, input, &mut result);
    } else {
        let columns = columns(conv, input);
        let (rows, pixels) = (conv.row(), result.pixels());
        let weights = MatRef::from_row_major_slice(&conv.weights, conv.outputs, rows);
        let columns = MatRef::from_row_major_slice(&columns, rows, pixels);
        let out = MatMut::from_row_major_slice_mut(&mut result.values, conv.outputs, pixels);
        matmul(out, Accum::Replace, weights, columns, 1.0, Par::Seq);
    }
    let pixels = result.pixels();
    for (channel, bias) in result.values.chunks_exact_mut(pixels).zip(&conv.bias) {
        channel.iter_mut().for_each(|x| *x += bias);
    }
    result
}

/// What each output pixel of a convolution sees: a column of `row()` values for each of them, as a matrix by rows.
fn columns<'a>(conv: &Conv, input: &'a Map) -> std::borrow::Cow<'a, [f32]> {
    if conv.kernel == 1 && conv.stride == 1 && conv.pad == 0 {
        return (&input.values).into();
    }
    let [_, height, width] = input.shape;
    let (out_height, out_width) = (conv.out(height), conv.out(width));
    let mut columns = vec![0.0; conv.inputs * conv.kernel * conv.kernel * out_height * out_width];
    let mut row = columns.chunks_exact_mut(out_height * out_width);
    for channel in input.channels() {
        for y in 0..conv.kernel {
            for x in 0..conv.kernel {
                let row = row.next().expect("one row for each weight");
                let (first, last) = inside(conv, x, width, out_width);
                for v in 0..out_height {
                    let Some(from) = (v * conv.stride + y).checked_sub(conv.pad).filter(|&from| from < height) else {
                        continue;
                    };
                    let start = from * width + first * conv.stride + x - conv.pad;
                    let seen = channel[start..].iter().step_by(conv.stride);
                    row[v * out_width..][first..last].iter_mut().zip(seen).for_each(|(out, x)| *out = *x);
                }
            }
        }
    }
    columns.into()
}

/// The outputs of a row whose input, `x` to the right of the kernel's left, lies inside the picture: from, and up to.
fn inside(conv: &Conv, x: usize, width: usize, out_width: usize) -> (usize, usize) {
    let first = conv.pad.saturating_sub(x).div_ceil(conv.stride);
    let last = ((width + conv.pad).saturating_sub(x + 1) / conv.stride + 1).min(out_width);
    (first, last.max(first))
}

/// A picture with its padding is one long row here, and so are the sums at a stride of 1: what lies between two of their rows is
/// computed, too, and left out in the end. So the loops are long even where the pictures are small.
#[inline(always)]
fn depthwise(conv: &Conv, input: &Map, result: &mut Map) {
    let [_, height, width] = input.shape;
    let [_, out_height, out_width] = result.shape;
    let wide = width + 2 * conv.pad;
    let mut padded = vec![0.0; wide * (height + 2 * conv.pad)];
    let mut sums = vec![0f32; padded.len() - (conv.kernel - 1) * (wide + 1)];
    let outputs = result.values.chunks_exact_mut(out_height * out_width);
    let weights = conv.weights.chunks_exact(conv.kernel * conv.kernel);
    for ((out, channel), weights) in outputs.zip(input.channels()).zip(weights) {
        for (padded, row) in padded.chunks_exact_mut(wide).skip(conv.pad).zip(channel.chunks_exact(width)) {
            padded[conv.pad..][..width].copy_from_slice(row);
        }
        sums.fill(0.0);
        for (at, weight) in weights.iter().enumerate() {
            let seen = &padded[at / conv.kernel * wide + at % conv.kernel..];
            sums.iter_mut().zip(seen).for_each(|(sum, x)| *sum += weight * x);
        }
        for (out, sums) in out.chunks_exact_mut(out_width).zip(sums.chunks(wide * conv.stride)) {
            out.iter_mut().zip(sums.iter().step_by(conv.stride)).for_each(|(out, sum)| *out = *sum);
        }
    }
}

fn double(input: &Map) -> Map {
    let [channels, height, width] = input.shape;
    let mut values = Vec::with_capacity(input.values.len() * 4);
    for row in input.values.chunks_exact(width) {
        for _ in 0..2 {
            values.extend(row.iter().flat_map(|&x| [x, x]));
        }
    }
    Map { shape: [channels, height * 2, width * 2], values }
}
