//! One walk through the network, in which every layer is quantized while those before it are quantized already.

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::grid::{Format, Grid};
use super::moments::Moments;
use super::observe::check_finite;
use super::ranges::Histogram;
use super::rounding::{round, round_to_halves};
use super::weights::{WeightFormat, Weights};
use crate::network::{Map, Network, Op, Step, run_all};
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
    /// The greatest magnitude that the float network gave it.
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
    let mut result = Quantized { network: network.clone(), weights: Vec::new(), values: Vec::new(), temperature: 1.0 };
    let mut walk = Walk { float: Vec::new(), own: Vec::new() };
    let add = |result: &mut Quantized, walk: &mut Walk, float: Vec<Map>, mut own: Vec<Map>| {
        let value = walk.float.len();
        let format = format.filter(|_| rounded[value]);
        let seen = format.map(|_| Histogram::of(own.iter().flat_map(|map| &map.values)));
        let grid = format.zip(seen.as_ref());
        let grid = grid.map(|(format, seen)| Grid::spanning(format, seen.range(recipe.range, format)));
        if let Some(grid) = grid {
            own.par_iter_mut().for_each(|map| map.values.iter_mut().for_each(|x| *x = grid.round(*x)));
        }
        let amax = float.iter().flat_map(|map| &map.values).fold(0f32, |amax, x| amax.max(x.abs()));
        result.values.push(Value { grid, seen, amax, sqnr: sqnr(&float, &own) });
        walk.float.push(float);
        walk.own.push(own);
    };
    add(&mut result, &mut walk, pictures.to_vec(), pictures.to_vec());
    for (at, step) in network.steps.iter().enumerate() {
        let float = run_all(step, &walk.float);
        check_finite(&step.name, &float)?;
        let (weights, own) = match &step.op {
            Op::Conv(conv) => {
                let input = step.inputs[0];
                let float_inputs: Vec<&Map> = walk.float[input].iter().collect();
                let own_inputs: Vec<&Map> = walk.own[input].iter().collect();
                let moments = Moments::of(conv, &float_inputs, &own_inputs);
                let named = || format!("node {:?}", step.name);
                let mut wanted = conv.clone();
                if recipe.compensate {
                    wanted.weights = moments.compensated(conv).with_context(named)?;
                }
                let mut kept = conv.clone();
                let weights = if bits[at] == 16 {
                    kept.weights =
                        round_to_halves(&wanted, recipe.rounding, &moments.covariance).with_context(named)?;
                    None
                } else {
                    let pairs = format == Some(Format::Unsigned);
                    let weight_format = WeightFormat { bits: bits[at], pairs, halves: format.is_none() };
                    let weights =
                        round(&wanted, weight_format, recipe.rounding, &moments.covariance).with_context(named)?;
                    kept.weights = weights.floats();
                    Some(weights)
                };
                if recipe.correct_bias {
                    let correction = moments.bias_correction(conv, &kept.weights);
                    kept.bias.iter_mut().zip(correction).for_each(|(bias, more)| *bias += more);
                }
                let mut own = run_all(&Step { op: Op::Conv(kept.clone()), ..step.clone() }, &walk.own);
                if recipe.refit && network.gives_logit(at) {
                    let (temperature, offset) = refit(&float, &own);
                    result.temperature = temperature;
                    kept.bias[0] += offset;
                    own.iter_mut().for_each(|map| map.values[0] += offset);
                }
                result.network.steps[at].op = Op::Conv(kept);
                (weights, own)
            }
            _ => (None, run_all(step, &walk.own)),
        };
        result.weights.push(weights);
        add(&mut result, &mut walk, float, own);
        network.forget(&mut walk.float, at);
        network.forget(&mut walk.own, at);
    }
    Ok(result)
}

fn sqnr(float: &[Map], own: &[Map]) -> f64 {
    let of_map = |(float, own): (&Map, &Map)| {
        let pairs = float.values.iter().zip(&own.values);
        pairs.fold([0f64; 2], |[signal, noise], (x, y)| {
            [signal + f64::from(x * x), noise + f64::from((x - y) * (x - y))]
        })
    };
    let [signal, noise] = float.par_iter().zip(own).map(of_map).reduce(|| [0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
    10.0 * (signal / noise).log10()
}

/// The values of both networks for all pictures; those that nobody reads any more are gone.
struct Walk {
    float: Vec<Vec<Map>>,
    own: Vec<Vec<Map>>,
}

impl Quantized {
    /// What one step of each bias stands for in a convolution of integers, which reads `input`; `None` where it reads floats.
    pub fn bias_scales(&self, weights: &Weights, input: usize) -> Option<Vec<f32>> {
        let grid = self.values[input].grid.filter(|grid| grid.low == 0)?;
        Some(weights.scales.iter().map(|scale| scale * grid.scale).collect())
    }

    /// What the quantized network says of a picture, computed in floats that are rounded where its integers are.
    pub fn simulate(&self, picture: &Map) -> Map {
        let mut values = self.network.values(picture, |value, map| {
            if let Some(grid) = &self.values[value].grid {
                map.values.iter_mut().for_each(|x| *x = grid.round(*x));
            }
        });
        values.pop().expect("the picture is a value")
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
