//! The arithmetic of ONNX Runtime's integer kernels, number for number.
//!
//! `QLinearConv` sums products of bytes in 32 bits, multiplies the sum by one 32-bit float and rounds halves to even;
//! `QLinearGlobalAveragePool` does the same without products. `QLinearAdd` adds floats, fused and in an order of its own, and rounds
//! once. Steps that read or give floats are done in floats.

use super::grid::Grid;
use super::pass::Quantized;
use super::weights::Weights;
use crate::network::{Activation, Conv, Map, Op, run};

impl Quantized {
    /// What ONNX Runtime makes of a picture with the file of [`crate::write::int8_onnxruntime`].
    pub fn simulate_integers(&self, picture: &Map) -> Map {
        let mut first = picture.clone();
        self.round(0, &mut first);
        let mut values = vec![first];
        for (at, step) in self.network.steps.iter().enumerate() {
            let input = step.inputs[0];
            let (from, to) = (self.values[input].grid, self.values[at + 1].grid);
            let other = step.inputs.get(1).and_then(|&other| Some((&values[other], self.values[other].grid?)));
            let value = match (&step.op, &self.weights[at], from, other, to) {
                (Op::Conv(conv), Some(weights), Some(from), _, Some(to)) => {
                    integer_conv(conv, weights, &values[input], &from, &to)
                }
                (Op::Mean, _, Some(from), _, Some(to)) => integer_mean(&values[input], &from, &to),
                (Op::Add, _, Some(from), Some(other), Some(to)) if step.activation == Activation::None => {
                    integer_add([(&values[input], from), other], &to)
                }
                _ => {
                    let mut step = step.clone();
                    if let (Op::Conv(conv), Some(weights)) = (&mut step.op, &self.weights[at]) {
                        // The file holds the bias as integers wherever integers are read.
                        let scales = self.bias_scales(weights, input).unwrap_or_default();
                        for (bias, scale) in conv.bias.iter_mut().zip(scales) {
                            *bias = bias_integer(*bias, scale) as f32 * scale;
                        }
                    }
                    let inputs: Vec<&Map> = step.inputs.iter().map(|&input| &values[input]).collect();
                    let mut value = run(&step, &inputs);
                    self.round(at + 1, &mut value);
                    value
                }
            };
            values.push(value);
        }
        values.pop().expect("the picture is a value")
    }
}

/// The 32-bit integer that stands for a bias.
pub fn bias_integer(bias: f32, scale: f32) -> i32 {
    (f64::from(bias) / f64::from(scale)).round_ties_even() as i32
}

fn integer_conv(conv: &Conv, weights: &Weights, map: &Map, from: &Grid, to: &Grid) -> Map {
    let [_, height, width] = map.shape;
    let (high, wide) = (conv.out(height), conv.out(width));
    // Bytes without their zero point; around the picture is 0.
    let bytes: Vec<i32> = map.values.iter().map(|x| from.quantize(*x) - from.zero).collect();
    let (per_group, kernel) = (conv.inputs / conv.groups, conv.kernel);
    let outputs_per_group = conv.outputs / conv.groups;
    let mut result = Map { shape: [conv.outputs, high, wide], values: Vec::with_capacity(conv.outputs * high * wide) };
    for output in 0..conv.outputs {
        let first = output / outputs_per_group * per_group;
        let row = &weights.values[output * weights.row..][..weights.row];
        let bias_scale = from.scale * weights.scales[output];
        let bias = bias_integer(conv.bias[output], bias_scale);
        let scale = bias_scale / to.scale;
        let mut sums = vec![bias; high * wide];
        for (at, &weight) in row.iter().enumerate() {
            let (channel, y, x) = (first + at / (kernel * kernel), at / kernel % kernel, at % kernel);
            let plane = &bytes[channel * height * width..][..height * width];
            for (row, line) in sums.chunks_exact_mut(wide).enumerate() {
                let Some(row) = (row * conv.stride + y).checked_sub(conv.pad).filter(|row| *row < height) else {
                    continue;
                };
                for (column, sum) in line.iter_mut().enumerate() {
                    let column = (column * conv.stride + x).checked_sub(conv.pad).filter(|column| *column < width);
                    *sum += column.map_or(0, |column| plane[row * width + column]) * i32::from(weight);
                }
            }
        }
        result.values.extend(sums.into_iter().map(|sum| scaled(sum, scale, to)));
    }
    result
}

/// A sum of integers, times one float, on the grid of the result.
fn scaled(sum: i32, scale: f32, to: &Grid) -> f32 {
    let q = (sum as f32 * scale).round_ties_even() as i32;
    to.value((q + to.zero).clamp(to.low, to.high))
}

/// The mean of each channel: a sum of bytes, times one float.
fn integer_mean(map: &Map, from: &Grid, to: &Grid) -> Map {
    let scale = from.scale / (to.scale * map.pixels() as f32);
    let mean = |channel: &[f32]| {
        let sum: i32 = channel.iter().map(|x| from.quantize(*x) - from.zero).sum();
        scaled(sum, scale, to)
    };
    Map { shape: [map.shape[0], 1, 1], values: map.channels().map(mean).collect() }
}

/// A sum of two values: each byte by the ratio of its scale to that of the result, all zero points in one number.
fn integer_add([(left, from_left), (right, from_right)]: [(&Map, Grid); 2], to: &Grid) -> Map {
    let [by_left, by_right] = [from_left, from_right].map(|from| from.scale / to.scale);
    let zeros = by_left.mul_add(from_left.zero as f32, by_right * from_right.zero as f32);
    let rest = to.zero as f32 - zeros;
    let sum = |(a, b): (&f32, &f32)| {
        let [a, b] = [from_left.quantize(*a), from_right.quantize(*b)].map(|q| q as f32);
        let q = a.mul_add(by_left, b.mul_add(by_right, rest)).round_ties_even() as i32;
        to.value(q.clamp(to.low, to.high))
    };
    Map { shape: left.shape, values: left.values.iter().zip(&right.values).map(sum).collect() }
}
