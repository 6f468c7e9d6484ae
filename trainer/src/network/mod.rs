//! Networks as lists of steps: libtorch runs and trains them, the exporter writes them as ONNX.

mod colours;
mod export;
mod fold;
mod locator;
mod mobilenet;

pub(crate) use colours::{COLOURS, CONTRAST, STRIDE, colour_matrix, contrast_matrix, tissue};
pub use colours::{MEAN, STD, colours};
pub use export::{INPUT, export};
pub(crate) use fold::fold;
pub use locator::lid_net;
pub use mobilenet::mobilenet_v2;

/// A network that is described once. Its input is a picture of 3 × size × size values.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The steps, in order. The last one is the output.
    pub steps: Vec<Step>,
    /// Added to the variance in every batch normalisation; 1e-3 in Keras and 1e-5 in torchvision.
    pub epsilon: f64,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is done.
    pub op: Op,
    /// With which values: 0 is the picture, n the result of the n-th step.
    pub inputs: Vec<usize>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A convolution.
    Conv(Conv),
    /// The sum of two values of one shape.
    Add {
        /// Whether ReLU6 follows.
        relu6: bool,
    },
    /// Every pixel four times: twice the width and the height.
    Double,
    /// The mean of every channel; dropout after it while training.
    Mean,
    /// Every fourth pixel of every fourth row.
    Sample,
    /// Where a picture has tissue: 6 in a pixel of tissue and 0 in a black one.
    Tissue,
    /// The natural logarithm.
    Log,
    /// What a pixel of a picture is described by, from the picture and its logarithms: the three channels, red and blue over
    /// green as logarithms, and the mean of the three logarithms, about as large as each other.
    Colours,
    /// How far a pixel is from the mean of the tissue, from the picture's logarithms, which are the first value: red and blue
    /// over green, and all three together. The second value is the tissue.
    Contrasts,
    /// Mean and standard deviation of every channel of the first value over the tissue, which is the second one; dropout
    /// after them while training.
    Statistics,
    /// The numbers of the first value and those of the second, which two experts found. While training each of them answers alone,
    /// with twice its numbers.
    Join,
    /// Numbers from numbers.
    Linear {
        /// Name of its weights.
        name: String,
        /// Name of the batch normalisation before it.
        norm: Option<String>,
        /// Numbers in.
        inputs: i64,
        /// Numbers out.
        outputs: i64,
        /// Whether ReLU6 follows.
        relu6: bool,
    },
}

/// A convolution with batch normalisation or a bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// Name of its weights, as torchvision has it, such as `features.0.0`.
    pub name: String,
    /// Name of the batch normalisation after it; without one the convolution has a bias.
    pub norm: Option<String>,
    /// Channels in.
    pub inputs: i64,
    /// Channels out.
    pub outputs: i64,
    /// Width and height of the kernel, odd; the border is padded so that nothing gets smaller but by the stride.
    pub kernel: i64,
    /// 1 keeps the size, 2 halves it.
    pub stride: i64,
    /// 1, or the number of channels for a depthwise convolution.
    pub groups: i64,
    /// Whether ReLU6 follows.
    pub relu6: bool,
}

/// What a parameter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Kernel of a convolution, `[outputs, inputs / groups, height, width]`.
    Kernel,
    /// Scale of a batch normalisation.
    Scale,
    /// Shift of a batch normalisation, or a bias.
    Shift,
    /// Matrix of a linear step, `[outputs, inputs]`.
    Matrix,
    /// Mean of a batch normalisation; it follows the data and is not trained.
    RunningMean,
    /// Variance of a batch normalisation; it follows the data and is not trained.
    RunningVariance,
}

impl Role {
    /// Whether the gradient moves it.
    pub fn is_trained(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVariance)
    }
}

/// Name and shape of one array of numbers that a network holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name in a file of weights, as torchvision has it.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// What it is for.
    pub role: Role,
}

impl Parameter {
    /// How many numbers it holds.
    pub fn size(&self) -> i64 {
        self.shape.iter().product()
    }
}

impl Network {
    /// Every array of numbers, in the order of the steps, and in each of them in the order of computing: kernel, scale, shift,
    /// running mean, running variance, matrix.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut all = Vec::new();
        let mut add = |name: String, shape: &[i64], role| all.push(Parameter { name, shape: shape.to_vec(), role });
        let normalise = |add: &mut dyn FnMut(String, &[i64], Role), norm: &str, channels: i64| {
            add(format!("{norm}.weight"), &[channels], Role::Scale);
            add(format!("{norm}.bias"), &[channels], Role::Shift);
            add(format!("{norm}.running_mean"), &[channels], Role::RunningMean);
            add(format!("{norm}.running_var"), &[channels], Role::RunningVariance);
        };
        for step in &self.steps {
            match &step.op {
                Op::Conv(conv) => {
                    let shape = [conv.outputs, conv.inputs / conv.groups, conv.kernel, conv.kernel];
                    add(format!("{}.weight", conv.name), &shape, Role::Kernel);
                    match &conv.norm {
                        Some(norm) => normalise(&mut add, norm, conv.outputs),
                        None => add(format!("{}.bias", conv.name), &[conv.outputs], Role::Shift),
                    }
                }
                Op::Linear { name, norm, inputs, outputs, .. } => {
                    if let Some(norm) = norm {
                        normalise(&mut add, norm, *inputs);
                    }
                    add(format!("{name}.weight"), &[*outputs, *inputs], Role::Matrix);
                    add(format!("{name}.bias"), &[*outputs], Role::Shift);
                }
                _ => {}
            }
        }
        all
    }

    /// How many numbers the gradient moves.
    pub fn trained_numbers(&self) -> i64 {
        self.parameters().iter().filter(|parameter| parameter.role.is_trained()).map(Parameter::size).sum()
    }
}

/// Puts a network together, one step after the other.
#[derive(Default)]
pub(crate) struct Builder {
    steps: Vec<Step>,
}

impl Builder {
    /// Adds a step and gives the number of its result.
    pub(crate) fn step(&mut self, op: Op, inputs: &[usize]) -> usize {
        self.steps.push(Step { op, inputs: inputs.to_vec() });
        self.steps.len()
    }

    pub(crate) fn conv(&mut self, conv: Conv, input: usize) -> usize {
        self.step(Op::Conv(conv), &[input])
    }

    pub(crate) fn finish(self, epsilon: f64) -> Network {
        Network { steps: self.steps, epsilon }
    }
}
