//! Running a network in libtorch.

use tch::{Kind, Tensor};

use super::Weights;
use crate::network::{COLOURS, CONTRAST, Network, Op, STRIDE, colour_matrix, contrast_matrix, tissue};

/// How a network is run.
#[derive(Clone, Copy)]
pub(crate) struct Mode {
    /// Whether the normalisation of this name takes the statistics of the batch, and moves the running ones.
    pub(crate) batch_statistics: fn(&str) -> bool,
    /// The share of numbers that what is left of the picture, its means or its statistics, loses.
    pub(crate) dropout: f64,
    /// Whether each expert answers alone: first those of the one for all pictures, then those of the other.
    pub(crate) apart: bool,
}

impl Mode {
    /// As it will be used.
    pub(crate) const MEASURE: Self = Self { batch_statistics: |_| false, dropout: 0.0, apart: false };
}

/// What is done to numbers on their way through a network.
pub(crate) trait Between {
    /// A kernel or matrix, a row for each output.
    fn weights(&self, weights: Tensor) -> Tensor {
        weights
    }

    /// A value, 0 being the picture and n the result of the n-th step.
    fn value(&self, _value: usize, value: Tensor) -> Tensor {
        value
    }
}

/// Nothing is done.
struct Nothing;

impl Between for Nothing {}

/// The output of `network` for `pictures`, `[n, 3, size, size]`: a number for each picture, `[n]`, from a classifier, a
/// map `[n, 1, height, width]` from a locator.
pub(crate) fn forward(network: &Network, weights: &Weights, pictures: &Tensor, mode: Mode) -> Tensor {
    forward_between(network, weights, pictures, mode, &Nothing)
}

/// The same, with `between` in between.
pub(crate) fn forward_between(
    network: &Network,
    weights: &Weights,
    pictures: &Tensor,
    mode: Mode,
    between: &impl Between,
) -> Tensor {
    let mut parameters = weights.views(&weights.trained, &weights.running).into_iter();
    let mut next = || parameters.next().expect("the views are those of the network's own parameters");
    let mut values: Vec<Tensor> = vec![between.value(0, channels_last(pictures))];
    for (at, step) in network.steps.iter().enumerate() {
        let input = &values[step.inputs[0]];
        let value = match &step.op {
            Op::Conv(conv) => {
                let (kernel, padding) = (between.weights(next()), conv.kernel / 2);
                let convolve = |bias: Option<Tensor>| {
                    input.conv2d(&kernel, bias, [conv.stride; 2], [padding; 2], [1, 1], conv.groups)
                };
                let mut value = if let Some(norm) = &conv.norm {
                    let (scale, shift, mean, variance) = (next(), next(), next(), next());
                    let (scale, shift) = (Some(scale), Some(shift));
                    let (value, train) = (convolve(None), (mode.batch_statistics)(norm));
                    value.batch_norm(scale, shift, Some(mean), Some(variance), train, 0.1, network.epsilon, true)
                } else {
                    convolve(Some(next()))
                };
                // In place: neither the normalisation nor the convolution needs its output to go backward.
                if conv.relu6 { value.relu6_() } else { value }
            }
            Op::Add { relu6 } => {
                let mut sum = input + &values[step.inputs[1]];
                if *relu6 { sum.relu6_() } else { sum }
            }
            Op::Double => {
                let size = input.size();
                input.upsample_nearest2d([size[2] * 2, size[3] * 2], None, None)
            }
            Op::Mean => {
                let mean = input.mean_dim([2, 3].as_slice(), false, None::<Kind>);
                mean.dropout(mode.dropout, mode.dropout > 0.0)
            }
            Op::Sample => {
                let every = |value: &Tensor, axis| value.slice(axis, None, None, STRIDE);
                channels_last(&every(&every(input, 2), 3))
            }
            Op::Tissue => {
                let (weights, bias) = tissue();
                pointwise(input, &[1, 3, 1, 1], &weights, &[bias]).clamp(0.0, 6.0)
            }
            Op::Colours => {
                let (weights, bias) = colour_matrix();
                let count = COLOURS as i64;
                pointwise(&Tensor::cat(&[input, &values[step.inputs[1]]], 1), &[count, count, 1, 1], &weights, &bias)
            }
            Op::Contrasts => {
                let count = CONTRAST as i64;
                let value = pointwise(input, &[count, count, 1, 1], &contrast_matrix(), &[0.0; CONTRAST]);
                let mean = mean_inside(&value, &values[step.inputs[1]]);
                value - mean
            }
            Op::Log => input.log(),
            Op::Join => {
                let other = &values[step.inputs[1]];
                let join = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 1);
                if mode.apart {
                    let alone = [join(&(input * 2.0), &other.zeros_like()), join(&input.zeros_like(), &(other * 2.0))];
                    Tensor::cat(&alone, 0)
                } else {
                    join(input, other)
                }
            }
            Op::Statistics => statistics(input, &values[step.inputs[1]]),
            Op::Linear { norm, outputs, relu6, .. } => {
                let input = match norm {
                    Some(norm) => {
                        let (scale, shift, mean, variance) = (next(), next(), next(), next());
                        let (scale, shift, train) = (Some(scale), Some(shift), (mode.batch_statistics)(norm));
                        let value = input.batch_norm(
                            scale,
                            shift,
                            Some(mean),
                            Some(variance),
                            train,
                            0.1,
                            network.epsilon,
                            true,
                        );
                        value.dropout(mode.dropout, mode.dropout > 0.0)
                    }
                    None => input.shallow_clone(),
                };
                let (matrix, shift) = (between.weights(next()), next());
                let mut value = input.linear(&matrix, Some(&shift));
                if *relu6 {
                    value = value.relu6_();
                }
                if *outputs == 1 { value.squeeze_dim(1) } else { value }
            }
        };
        values.push(between.value(at + 1, value));
    }
    values.pop().expect("a network has at least one step")
}

/// A convolution with a kernel of one pixel and numbers that nobody trains.
fn pointwise(input: &Tensor, shape: &[i64], weights: &[f32], bias: &[f32]) -> Tensor {
    let constant = |values: &[f32]| Tensor::from_slice(values).to_device(input.device());
    input.conv2d(&constant(weights).view(shape), Some(&constant(bias)), [1, 1], [0, 0], [1, 1], 1)
}

/// Mean and deviation of every channel over the tissue, `[n, 2 · channels]`.
fn statistics(input: &Tensor, tissue: &Tensor) -> Tensor {
    let middle = mean_inside(input, tissue);
    let variance = mean_inside(&(input - &middle).square(), tissue);
    // Where nothing varies, the root has no gradient.
    Tensor::cat(&[middle, variance.clamp_min(1e-12).sqrt()], 1).flatten(1, -1)
}

/// Mean of every channel over the tissue, `[n, channels, 1, 1]`.
fn mean_inside(input: &Tensor, tissue: &Tensor) -> Tensor {
    let mean = |value: &Tensor| value.mean_dim([2, 3].as_slice(), true, None::<Kind>);
    // Strong changes of a picture in training can leave no tissue in it: it then says nothing, instead of what is no number.
    mean(&(input * tissue)) / mean(tissue).clamp_min(1e-6)
}

/// The same values in the order in memory that libtorch computes fastest with.
fn channels_last(pictures: &Tensor) -> Tensor {
    pictures.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::network::{MEAN, STD, Step};
    use crate::torch::normalise;

    #[test]
    fn contrasts_do_not_see_the_light() {
        let step = |op, inputs: &[usize]| Step { op, inputs: inputs.to_vec() };
        let contrasts = [step(Op::Tissue, &[0]), step(Op::Log, &[0]), step(Op::Contrasts, &[2, 1])];
        let colours = [step(Op::Log, &[0]), step(Op::Colours, &[0, 1])];
        // Three quarters as much light, of which blue is twice as much as before.
        let picture = Tensor::randint_low(60, 150, [1, 3, 32, 32], (Kind::Float, Device::Cpu));
        let other = &picture * Tensor::from_slice(&[0.75f32, 0.75, 1.5]).view([1, 3, 1, 1]);
        let moved = |steps: &[Step]| {
            let network = Network { steps: steps.to_vec(), epsilon: 1e-5 };
            let weights = Weights::random(&network, Device::Cpu, 1);
            let of =
                |picture: &Tensor| forward(&network, &weights, &normalise(picture, [MEAN; 3], [STD; 3]), Mode::MEASURE);
            (of(&other) - of(&picture)).abs().max().double_value(&[])
        };
        // The input has no byte of 0, whose logarithm would be none, so that a gain is not quite a number that is added.
        assert!(moved(&contrasts) < 0.1, "{}", moved(&contrasts));
        assert!(moved(&colours) > 1.0);
    }
}
