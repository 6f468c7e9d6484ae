//! A network as a list of steps: what the calibrator measures, changes and writes.
//!
//! One picture at a time flows through it. Batch normalisation and ReLU6 belong to the step before them.

mod forward;
mod map;
mod read;

pub use forward::{run, run_all};
pub use map::Map;
pub use read::{read, read_with_names};

/// A network. Value 0 is the picture, value n the result of the n-th step; the last value is the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Name of the picture in the graph.
    pub input: String,
    /// Channels, height and width of the picture.
    pub shape: [usize; 3],
    /// Name of the result in the graph.
    pub output: String,
    /// Shape of the result in the graph.
    pub output_shape: Vec<i64>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Its name; unique, and the name of its result in a graph that is written.
    pub name: String,
    /// What is done.
    pub op: Op,
    /// With which values.
    pub inputs: Vec<usize>,
    /// What follows it at once.
    pub activation: Activation,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A convolution; a matrix is one with a 1 × 1 kernel on one pixel.
    Conv(Conv),
    /// The sum of two values of one shape.
    Add,
    /// The first value by the second one, which may have one channel, or one pixel, for all of the first.
    Multiply,
    /// The first value less the second one, as with [`Op::Multiply`].
    Subtract,
    /// The first value divided by the second one, as with [`Op::Multiply`].
    Divide,
    /// The channels of the first value, and then those of the second.
    Join,
    /// The natural logarithm.
    Log,
    /// The square root.
    Root,
    /// Every pixel four times: twice the width and the height.
    Double,
    /// The mean of every channel.
    Mean,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
}

/// What follows a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
}

/// A convolution with a bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Width and height of the kernel.
    pub kernel: usize,
    /// 1 keeps the size, 2 halves it, and so on.
    pub stride: usize,
    /// Zeros around the picture.
    pub pad: usize,
    /// 1, or the number of channels for a depthwise convolution.
    pub groups: usize,
    /// `[outputs, inputs / groups, kernel, kernel]`.
    pub weights: Vec<f32>,
    /// One number for each output.
    pub bias: Vec<f32>,
}

impl Conv {
    /// Weights of one output: inputs / groups · kernel².
    pub fn row(&self) -> usize {
        self.inputs / self.groups * self.kernel * self.kernel
    }

    /// Whether each channel is filtered on its own.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1
    }

    /// The channel that a weight reads.
    pub fn channel_of(&self, weight: usize) -> usize {
        if self.is_depthwise() { weight / self.row() } else { weight % self.row() / (self.kernel * self.kernel) }
    }

    /// Multiplies every result by a factor.
    pub fn multiply_outputs(&mut self, factors: &[f32]) {
        let row = self.row();
        for ((weights, bias), factor) in self.weights.chunks_exact_mut(row).zip(&mut self.bias).zip(factors) {
            weights.iter_mut().for_each(|weight| *weight *= factor);
            *bias *= factor;
        }
    }

    /// Makes good that every channel that it reads was multiplied by a factor.
    pub fn divide_inputs(&mut self, factors: &[f32]) {
        for at in 0..self.weights.len() {
            let factor = factors[self.channel_of(at)];
            self.weights[at] /= factor;
        }
    }

    /// Width or height of the result for one of the input.
    pub fn out(&self, size: usize) -> usize {
        (size + 2 * self.pad).saturating_sub(self.kernel) / self.stride + 1
    }
}

impl Activation {
    /// The activated value.
    pub fn of(self, x: f32) -> f32 {
        match self {
            Self::None => x,
            Self::Relu => x.max(0.0),
            Self::Relu6 => x.clamp(0.0, 6.0),
        }
    }
}

impl Network {
    /// The convolutions with the number of their step.
    pub fn convs(&self) -> impl Iterator<Item = (usize, &Step, &Conv)> {
        self.steps.iter().enumerate().filter_map(|(at, step)| match &step.op {
            Op::Conv(conv) => Some((at, step, conv)),
            _ => None,
        })
    }

    /// The convolution of a step.
    pub fn conv(&self, at: usize) -> Option<&Conv> {
        match &self.steps.get(at)?.op {
            Op::Conv(conv) => Some(conv),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub fn conv_mut(&mut self, at: usize) -> Option<&mut Conv> {
        match &mut self.steps.get_mut(at)?.op {
            Op::Conv(conv) => Some(conv),
            _ => None,
        }
    }

    /// The steps that read a value.
    pub fn readers(&self, value: usize) -> Vec<usize> {
        (0..self.steps.len()).filter(|&at| self.steps[at].inputs.contains(&value)).collect()
    }

    /// Whether a step gives the one number that decides, before it becomes a probability.
    pub fn gives_logit(&self, at: usize) -> bool {
        let is_last = match &self.steps[at + 1..] {
            [] => true,
            [after] => after.op == Op::Sigmoid,
            _ => false,
        };
        is_last && self.shapes()[at + 1] == [1; 3]
    }

    /// Name of a value.
    pub fn value_name(&self, value: usize) -> &str {
        if value == 0 { &self.input } else { &self.steps[value - 1].name }
    }

    /// Channels, height and width of every value.
    pub fn shapes(&self) -> Vec<[usize; 3]> {
        let mut shapes = vec![self.shape];
        for step in &self.steps {
            let [channels, height, width] = shapes[step.inputs[0]];
            shapes.push(match &step.op {
                Op::Conv(conv) => [conv.outputs, conv.out(height), conv.out(width)],
                Op::Join => [channels + shapes[step.inputs[1]][0], height, width],
                Op::Add | Op::Multiply | Op::Subtract | Op::Divide | Op::Log | Op::Root | Op::Sigmoid => {
                    [channels, height, width]
                }
                Op::Double => [channels, height * 2, width * 2],
                Op::Mean => [channels, 1, 1],
            });
        }
        shapes
    }

    /// Empties the values that no step after `at` reads; never the output.
    pub fn forget(&self, values: &mut [Vec<Map>], at: usize) {
        for (value, maps) in values.iter_mut().enumerate().take(self.steps.len()) {
            if self.readers(value).last().is_none_or(|&last| last <= at) {
                *maps = Vec::new();
            }
        }
    }
}
