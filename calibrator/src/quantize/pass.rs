//! One walk through the network, in which every layer is quantized while those before it are quantized already.

use anyhow::{Context, Result};
use half::f16;
use rayon::prelude::*;

use super::align::{self, Move};
use super::grid::{Format, Grid};
use super::moments::Moments;
use super::observe::check_finite;
use super::ranges::Histogram;
use super::rounding::{round, round_to_halves};
use super::weights::{WeightFormat, Weights};
use crate::network::{Activation, Conv, Map, Network, Op, Step, run_all};
use crate::recipe::Recipe;

/// A quantized network: what its file is written from.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The network that the integers stand for.
    pub network: Network,
    /// For each step that is a convolution, its integers; none where its weights are 16-bit floats.
    pub weights: Vec<Option<Weights>>,
    /// What happened to each value.
    pub values: Vec<Value>,
    /// What is added to each channel of the picture before it is rounded; empty where nothing is.
    pub shift: Vec<f32>,
    /// What the logit at the end is to be divided by, so that it lies nearest to that of the float network.
    pub temperature: f32,
}

/// A value on the calibration pictures.
#[derive(Clone, Debug)]
pub struct Value {
    /// The grid it is rounded to, where it is.
    pub grid: Option<Grid>,
    /// Before it was rounded, where it is.
    pub seen: Option<Histogram>,
    /// The greatest magnitude that the float network gave it, times the factors of its channels.
    pub amax: f32,
    /// Signal to quantization noise of everything up to here, in dB: 10 · log₁₀ of the float network's power by that of the
    /// difference; infinite where there is none.
    pub sqnr: f64,
}

/// Quantizes the weights to `bits` for each step, and where there is a `format`, the values that are `rounded`.
pub fn quantize(
    network: &Network,
    pictures: &[Map],
    bits: &[u8],
    format: Option<Format>,
    rounded: &[bool],
    recipe: &Recipe,
) -> Result<Quantized> {
    let result = Quantized {
        network: network.clone(),
        weights: Vec::new(),
        values: Vec::new(),
        shift: Vec::new(),
        temperature: 1.0,
    };
    let mut pass = Pass {
        network: network.clone(),
        format,
        rounded,
        has_integers: bits.iter().any(|bits| (1..16).contains(bits)),
        recipe,
        float: Vec::new(),
        own: Vec::new(),
        shifts: Vec::new(),
        result,
    };
    pass.picture(pictures);
    for (at, &bits) in bits.iter().enumerate() {
        pass.step(at, bits)?;
    }
    Ok(pass.result)
}

struct Pass<'a> {
    /// The float network. Its channels follow those of the quantized one where they get factors.
    network: Network,
    format: Option<Format>,
    rounded: &'a [bool],
    /// Whether any weights become integers.
    has_integers: bool,
    recipe: &'a Recipe,
    /// The values of both networks for all pictures; those that nobody reads any more are empty.
    float: Vec<Vec<Map>>,
    own: Vec<Vec<Map>>,
    /// By how much the channels of each value are raised; empty where they are not.
    shifts: Vec<Vec<f32>>,
    result: Quantized,
}

impl Pass<'_> {
    fn picture(&mut self, pictures: &[Map]) {
        let mut own = pictures.to_vec();
        let grid = self.grid(0, &own);
        if let Some((_, grid)) =
            grid.as_ref().filter(|_| self.recipe.align && align::way(&self.network, 0) == Move::Shift)
        {
            let shifts = align::shifts(&own, grid);
            own.par_iter_mut().for_each(|map| map.raise(&shifts));
            self.result.shift = shifts;
        }
        self.keep(pictures.to_vec(), own, grid, self.result.shift.clone());
    }

    fn step(&mut self, at: usize, bits: u8) -> Result<()> {
        let step = self.network.steps[at].clone();
        let mut float = run_all(&step, &self.float);
        check_finite(&step, &float, "")?;
        match &step.op {
            Op::Conv(conv) => {
                let named = || format!("node {:?}", step.name);
                let (mut kept, mut weights) = self.weights(conv, step.inputs[0], bits).with_context(named)?;
                let way = if self.recipe.align && self.format.is_some() && self.rounded[at + 1] {
                    align::way(&self.network, at + 1)
                } else {
                    Move::Not
                };
                // Factors come before the activation.
                let bare = (way == Move::Factor).then(|| self.run(&step, &kept, Activation::None));
                let mut own = match &bare {
                    Some(bare) => activated(bare, step.activation, &[]),
                    None => self.run(&step, &kept, step.activation),
                };
                let mut shifts = Vec::new();
                if self.recipe.refit && self.network.gives_logit(at) {
                    let (temperature, offset) = refit(&float, &own);
                    self.result.temperature = temperature;
                    kept.bias[0] += offset;
                    own.iter_mut().for_each(|map| map.values[0] += offset);
                }
                let grid = self.grid(at + 1, &own);
                if let Some((_, grid)) = &grid {
                    match way {
                        Move::Factor => {
                            let factors = align::factors(&own, grid, step.activation);
                            kept.multiply_outputs(&factors);
                            weights.iter_mut().for_each(|weights| weights.multiply(&factors));
                            float.par_iter_mut().for_each(|map| map.multiply(&factors));
                            self.divide_readers(at + 1, &factors);
                            own = activated(&bare.unwrap_or_default(), step.activation, &factors);
                        }
                        Move::Shift => {
                            shifts = align::shifts(&own, grid);
                            kept.bias.iter_mut().zip(&shifts).for_each(|(bias, shift)| *bias += shift);
                            own.par_iter_mut().for_each(|map| map.raise(&shifts));
                        }
                        Move::Not => {}
                    }
                }
                // Offset, factors and shifts have made them longer again.
                if self.has_short_biases(bits) {
                    shorten(&mut kept.bias);
                }
                self.result.network.steps[at].op = Op::Conv(kept);
                self.result.weights.push(weights);
                self.keep(float, own, grid, shifts);
            }
            _ => {
                let own = run_all(&step, &self.own);
                check_finite(&step, &own, " after rounding")?;
                let grid = self.grid(at + 1, &own);
                self.result.weights.push(None);
                // A sum is shifted by what its parts are.
                let parts = step.inputs.iter().map(|&input| &self.shifts[input]).filter(|_| step.op == Op::Add);
                let shifts = parts.filter(|shifts| !shifts.is_empty()).cloned();
                let shifts = shifts.reduce(|a, b| a.iter().zip(&b).map(|(a, b)| a + b).collect()).unwrap_or_default();
                self.keep(float, own, grid, shifts);
            }
        }
        self.network.forget(&mut self.float, at);
        self.network.forget(&mut self.own, at);
        Ok(())
    }

    /// A convolution with its rounded weights and corrected biases, and the integers.
    fn weights(&self, conv: &Conv, input: usize, bits: u8) -> Result<(Conv, Option<Weights>)> {
        let recipe = self.recipe;
        let [float, own] = [&self.float, &self.own].map(|values| values[input].iter().collect::<Vec<&Map>>());
        let moments = Moments::of(conv, &float, &own);
        let mut wanted = conv.clone();
        if recipe.compensate {
            wanted.weights = moments.compensated(conv)?;
        }
        let mut kept = conv.clone();
        let mut weights = if bits == 16 {
            kept.weights = round_to_halves(&wanted, recipe.rounding, &moments.covariance)?;
            None
        } else {
            let pairs = self.format == Some(Format::Unsigned);
            let format = WeightFormat { bits, pairs, halves: self.format.is_none() };
            let weights = round(&wanted, format, recipe.rounding, &moments.covariance)?;
            kept.weights = weights.floats();
            Some(weights)
        };
        if recipe.correct_bias {
            let correction = moments.bias_correction(conv, &kept.weights);
            kept.bias.iter_mut().zip(correction).for_each(|(bias, more)| *bias += more);
        }
        if let (Some(weights), Some(Value { grid: Some(grid), .. })) = (&mut weights, self.result.values.get(input)) {
            hold_biases(weights, &mut kept, grid.scale);
        }
        if self.has_short_biases(bits) {
            shorten(&mut kept.bias);
        }
        Ok((kept, weights))
    }

    /// Whether the biases of a layer are floats in a file of integers, where bytes count.
    fn has_short_biases(&self, bits: u8) -> bool {
        match self.format {
            None => self.has_integers,
            Some(Format::Unsigned) => bits == 16,
            // They have 32 bits there in any case.
            Some(Format::Signed) => false,
        }
    }

    /// A step of the quantized network.
    fn run(&self, step: &Step, conv: &Conv, activation: Activation) -> Vec<Map> {
        run_all(&Step { op: Op::Conv(conv.clone()), activation, ..step.clone() }, &self.own)
    }

    fn divide_readers(&mut self, value: usize, factors: &[f32]) {
        for reader in self.network.readers(value) {
            if let Some(conv) = self.network.conv_mut(reader) {
                conv.divide_inputs(factors);
            }
        }
    }

    /// What a value holds, and the grid that it is rounded to; `None` where it stays a float.
    fn grid(&self, value: usize, own: &[Map]) -> Option<(Histogram, Grid)> {
        let format = self.format.filter(|_| self.rounded[value])?;
        let seen = Histogram::of(own.par_iter().map(|map| &map.values[..]));
        let grid = Grid::spanning(format, seen.range(self.recipe.range, format));
        Some((seen, grid))
    }

    fn keep(&mut self, float: Vec<Map>, mut own: Vec<Map>, grid: Option<(Histogram, Grid)>, shifts: Vec<f32>) {
        let (seen, grid) = grid.unzip();
        if let Some(grid) = grid {
            own.par_iter_mut().for_each(|map| grid.round_map(map));
        }
        let greatest = |map: &Map| map.values.iter().fold(0f32, |amax, x| amax.max(x.abs()));
        let amax = float.par_iter().map(greatest).reduce(|| 0.0, f32::max);
        self.result.values.push(Value { grid, seen, amax, sqnr: sqnr(&float, &own, &shifts) });
        self.shifts.push(shifts);
        self.float.push(float);
        self.own.push(own);
    }
}

/// What an activation makes of values whose channels were multiplied by `factors`, if there are any.
fn activated(bare: &[Map], activation: Activation, factors: &[f32]) -> Vec<Map> {
    let one = |map: &Map| {
        let mut values = Vec::with_capacity(map.values.len());
        for (at, channel) in map.channels().enumerate() {
            let factor = factors.get(at).copied().unwrap_or(1.0);
            values.extend(channel.iter().map(|x| activation.of(x * factor)));
        }
        Map { shape: map.shape, values }
    };
    bare.par_iter().map(one).collect()
}

/// Signal to noise in dB; the shift of each channel is no noise.
fn sqnr(float: &[Map], own: &[Map], shifts: &[f32]) -> f64 {
    let of_map = |(float, own): (&Map, &Map)| {
        let mut sums = [0f64; 2];
        for (channel, (float, own)) in float.channels().zip(own.channels()).enumerate() {
            let shift = shifts.get(channel).copied().unwrap_or(0.0);
            sums[0] += squares(float, own, |x, _| x);
            sums[1] += squares(float, own, |x, y| x - (y - shift));
        }
        sums
    };
    let [signal, noise] = float.par_iter().zip(own).map(of_map).reduce(|| [0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
    10.0 * (signal / noise).log10()
}

/// The sum of the squares of what `of` makes of each pair, in lanes that the compiler can add at once.
fn squares(left: &[f32], right: &[f32], of: impl Fn(f32, f32) -> f32) -> f64 {
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<8>(), right.as_chunks::<8>());
    let mut lanes = [0f32; 8];
    let mut add = |left: &[f32], right: &[f32]| {
        for (lane, (x, y)) in lanes.iter_mut().zip(left.iter().zip(right)) {
            *lane += of(*x, *y).powi(2);
        }
    };
    left.iter().zip(right).for_each(|(left, right)| add(left, right));
    add(left_rest, right_rest);
    f64::from(lanes.iter().sum::<f32>())
}

impl Quantized {
    /// What one step of each bias stands for in a convolution of integers, which reads `input`; `None` where it reads floats.
    pub fn bias_scales(&self, weights: &Weights, input: usize) -> Option<Vec<f32>> {
        let grid = self.values[input].grid.filter(|grid| grid.low == 0)?;
        Some(weights.scales.iter().map(|scale| scale * grid.scale).collect())
    }

    /// The same network with another temperature: its logit takes the difference in.
    #[must_use]
    pub fn with_temperature(mut self, temperature: f32) -> Self {
        let factor = [temperature / self.temperature];
        let Some(at) = (0..self.network.steps.len()).find(|&at| self.network.gives_logit(at)) else { return self };
        if let Some(conv) = self.network.conv_mut(at) {
            conv.multiply_outputs(&factor);
            // None of a layer that is left in floats.
            if let Some(weights) = &mut self.weights[at] {
                weights.multiply(&factor);
            }
            self.temperature = temperature;
        }
        self
    }

    /// What the quantized network says of a picture, computed in floats that are rounded where its integers are.
    pub fn simulate(&self, picture: &Map) -> Map {
        let mut values = self.network.values(picture, |value, map| self.round(value, map));
        values.pop().expect("the picture is a value")
    }

    /// What becomes of a value before it is read.
    pub(super) fn round(&self, value: usize, map: &mut Map) {
        if value == 0 {
            map.raise(&self.shift);
        }
        if let Some(grid) = &self.values[value].grid {
            grid.round_map(map);
        }
    }
}

/// Makes biases 16-bit floats, if none is too large for that.
fn shorten(biases: &mut [f32]) {
    let shorter: Vec<f32> = biases.iter().map(|bias| f16::from_f32(*bias).to_f32()).collect();
    if shorter.iter().all(|bias| bias.is_finite()) {
        biases.copy_from_slice(&shorter);
    }
}

/// Gives the rows of dead filters, whose weights are as good as 0, a scale with which 32 bits hold their bias: a step of it is
/// that of the weights by that of what they read.
fn hold_biases(weights: &mut Weights, conv: &mut Conv, step: f32) {
    // A quarter of what 32 bits hold, so that what is added to it stays inside.
    const MOST: f32 = 536_870_912.0;
    if weights.blocks() > 1 {
        return;
    }
    let row = weights.row;
    for (output, scale) in weights.scales.iter_mut().enumerate() {
        let least = conv.bias[output].abs() / (step * MOST);
        if *scale < least {
            *scale = least;
            weights.values[output * row..][..row].fill(0);
            conv.weights[output * row..][..row].fill(0.0);
        }
    }
}

/// Temperature and offset with which `own` logits, `(own + offset) / temperature`, lie nearest to those of the `float` network:
/// least squares.
fn refit(float: &[Map], own: &[Map]) -> (f32, f32) {
    // From fewer the pictures would be learned by heart.
    if own.len() < 8 {
        return (1.0, 0.0);
    }
    let mean = |maps: &[Map]| maps.iter().map(|map| f64::from(map.values[0])).sum::<f64>() / maps.len() as f64;
    let (wanted, got) = (mean(float), mean(own));
    let along = |a: &[Map], b: &[Map], at: f64, bt: f64| -> f64 {
        a.iter().zip(b).map(|(a, b)| (f64::from(a.values[0]) - at) * (f64::from(b.values[0]) - bt)).sum()
    };
    let spread = along(own, own, got, got);
    let factor = if spread > 0.0 { along(float, own, wanted, got) / spread } else { 1.0 };
    // A factor far from 1 would say that the network is broken, not that it needs a correction.
    let factor = factor.clamp(0.5, 2.0);
    ((1.0 / factor) as f32, (wanted / factor - got) as f32)
}
