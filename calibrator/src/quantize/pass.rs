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
    /// For each value the grid it is rounded to, where it is.
    pub grids: Vec<Option<Grid>>,
    /// For each value the greatest magnitude that the float network gave it.
    pub amax: Vec<f32>,
    /// What the logit at the end is to be divided by, so that it lies nearest to that of the float network.
    pub temperature: f32,
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
    let mut result = Quantized {
        network: network.clone(),
        weights: Vec::new(),
        grids: Vec::new(),
        amax: Vec::new(),
        temperature: 1.0,
    };
    let mut walk = Walk { float: Vec::new(), own: Vec::new() };
    let add = |result: &mut Quantized, walk: &mut Walk, float: Vec<Map>, mut own: Vec<Map>| {
        let value = walk.float.len();
        let grid = format.filter(|_| rounded[value]).map(|format| {
            let seen = Histogram::of(own.iter().flat_map(|map| &map.values));
            Grid::spanning(format, seen.range(recipe.range, format))
        });
        if let Some(grid) = grid {
            own.par_iter_mut().for_each(|map| map.values.iter_mut().for_each(|x| *x = grid.round(*x)));
        }
        let amax = float.iter().flat_map(|map| &map.values).fold(0f32, |amax, x| amax.max(x.abs()));
        result.amax.push(amax);
        result.grids.push(grid);
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

/// The values of both networks for all pictures; those that nobody reads any more are gone.
struct Walk {
    float: Vec<Vec<Map>>,
    own: Vec<Vec<Map>>,
}

impl Quantized {
    /// What one step of each bias stands for in a convolution of integers, which reads `input`; `None` where it reads floats.
    pub fn bias_scales(&self, weights: &Weights, input: usize) -> Option<Vec<f32>> {
        let grid = self.grids[input].filter(|grid| grid.low == 0)?;
        Some(weights.scales.iter().map(|scale| scale * grid.scale).collect())
    }

    /// What the quantized network says of a picture, computed in floats that are rounded where its integers are.
    pub fn simulate(&self, picture: &Map) -> Map {
        let mut values = self.network.values(picture, |value, map| {
            if let Some(grid) = &self.grids[value] {
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
