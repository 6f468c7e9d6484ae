//! What each weight becomes: an integer, or a 16-bit float.
//!
//! Nearest is the least error of a weight. The least error of a *result* also asks what the inputs look like: an error of
//! one weight can be made good by the others (GPTQ, Frantar et al. 2023, after optimal brain surgeon, Hassibi and Stork 1993).

use anyhow::{Result, anyhow, ensure};
use faer::linalg::solvers::Llt;
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Mat, Side, get_global_parallelism};
use half::f16;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::weights::{WeightFormat, Weights, allowed};
use crate::network::Conv;

/// How the inputs of a convolution vary together: a matrix `row × row` for each group.
#[derive(Clone, Debug)]
pub struct Covariance(Vec<Mat<f64>>);

impl Covariance {
    /// From the matrices of the groups. For a depthwise convolution there is one for each channel.
    pub fn new(groups: Vec<Mat<f64>>) -> Self {
        Self(groups)
    }

    /// How the inputs of one output vary.
    pub fn of_output(&self, output: usize) -> &Mat<f64> {
        &self.0[if self.0.len() == 1 { 0 } else { output }]
    }

    /// Variances of the inputs of an output.
    pub fn diagonal_of(&self, output: usize) -> Vec<f64> {
        let matrix = self.of_output(output);
        (0..matrix.nrows()).map(|at| matrix[(at, at)]).collect()
    }

    /// Follows the inputs when each channel is multiplied by a factor.
    pub fn multiply(&mut self, factors: &[f32]) {
        let single = self.0.len() == 1;
        for (group, matrix) in self.0.iter_mut().enumerate() {
            let row = matrix.nrows();
            let factor = |at: usize| f64::from(if single { factors[at * factors.len() / row] } else { factors[group] });
            *matrix = Mat::from_fn(row, row, |i, j| matrix[(i, j)] * factor(i) * factor(j));
        }
    }

    /// Mean square of what the `weights`, row after row, make of these inputs; of all outputs in sum.
    pub fn energy(&self, weights: &[f32]) -> f64 {
        let row = self.0[0].nrows();
        let of_output = |(output, weights): (usize, &[f32])| {
            let matrix = self.of_output(output);
            // By columns, as the matrix lies in memory; it is symmetric.
            let part = |(i, a): (usize, &f32)| {
                let column = matrix.col(i).iter();
                f64::from(*a) * column.zip(weights).map(|(c, b)| c * f64::from(*b)).sum::<f64>()
            };
            weights.iter().enumerate().map(part).sum::<f64>().max(0.0)
        };
        weights.chunks_exact(row).enumerate().map(of_output).sum()
    }
}

/// The Cholesky factor of a covariance to whose diagonal `share` of its mean was added: inputs that never vary, as those of a
/// dead channel, would make it singular.
pub(super) fn damped(mut covariance: Mat<f64>, share: f64) -> Result<Llt<f64>> {
    let size = covariance.nrows();
    let mean = (0..size).map(|at| covariance[(at, at)]).sum::<f64>() / size as f64;
    (0..size).for_each(|at| covariance[(at, at)] += (share * mean).max(1e-12));
    ensure!((0..size).all(|at| covariance[(at, at)].is_finite()), "the inputs have values that are not finite");
    Llt::new(covariance.as_ref(), Side::Lower).map_err(|error| anyhow!("the covariance of the inputs: {error:?}"))
}

/// How weights are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Each to its nearest integer, scales from the greatest weight.
    Nearest,
    /// Each to its nearest integer, scales with the least error of the result.
    Scaled,
    /// One after the other, the error handed on to those that are left.
    SecondOrder,
}

/// Rounds the weights of a convolution to integers.
pub fn round(conv: &Conv, format: WeightFormat, rounding: Rounding, covariance: &Covariance) -> Result<Weights> {
    let block = format.block(conv);
    let of_row = |output: usize, weights: &[f32], order: Option<&Order>| {
        let importance = covariance.diagonal_of(output);
        let scales = format.scales(conv, weights, &importance, rounding != Rounding::Nearest);
        let mut done: Vec<Option<i8>> = vec![None; weights.len()];
        hand_on(weights, order, |at, weight| {
            let (low, high) = allowed(conv, format, &done, at);
            let scale = f64::from(scales[at / block]);
            let q = ((weight / scale).round_ties_even() as i32).clamp(low, high) as i8;
            done[at] = Some(q);
            f64::from(q) * scale
        });
        let values: Vec<i8> = done.into_iter().map(|q| q.expect("every weight was rounded")).collect();
        (values, scales)
    };
    let (values, scales): (Vec<_>, Vec<_>) = by_row(conv, rounding, covariance, of_row)?.into_iter().unzip();
    Ok(Weights { bits: format.bits, row: conv.row(), block, values: values.concat(), scales: scales.concat() })
}

/// Rounds the weights of a convolution to 16-bit floats.
pub fn round_to_halves(conv: &Conv, rounding: Rounding, covariance: &Covariance) -> Result<Vec<f32>> {
    let of_row = |_: usize, weights: &[f32], order: Option<&Order>| {
        let mut values = vec![0f32; weights.len()];
        hand_on(weights, order, |at, weight| {
            values[at] = f16::from_f64(weight).to_f32();
            f64::from(values[at])
        });
        values
    };
    Ok(by_row(conv, rounding, covariance, of_row)?.concat())
}

/// Each row of a convolution's weights, with the order of its inputs where `rounding` has one.
fn by_row<T: Send>(
    conv: &Conv,
    rounding: Rounding,
    covariance: &Covariance,
    of_row: impl Fn(usize, &[f32], Option<&Order>) -> T + Sync,
) -> Result<Vec<T>> {
    let order = |output: usize| match rounding {
        Rounding::SecondOrder => Order::new(covariance.of_output(output)).map(Some),
        Rounding::Nearest | Rounding::Scaled => Ok(None),
    };
    // The outputs of a dense convolution have their inputs in common.
    let shared = if conv.is_depthwise() { None } else { order(0)? };
    let one = |(output, weights): (usize, &[f32])| {
        let own = if conv.is_depthwise() { order(output)? } else { None };
        Ok(of_row(output, weights, own.as_ref().or(shared.as_ref())))
    };
    conv.weights.par_chunks_exact(conv.row()).enumerate().map(one).collect()
}

/// Stores one weight after the other; `store` gives what is left of it, and in an `order` the rest is handed on.
fn hand_on(weights: &[f32], order: Option<&Order>, mut store: impl FnMut(usize, f64) -> f64) {
    let Some(order) = order else {
        weights.iter().enumerate().for_each(|(at, weight)| {
            store(at, f64::from(*weight));
        });
        return;
    };
    let mut left: Vec<f64> = order.places.iter().map(|&at| f64::from(weights[at])).collect();
    for step in 0..left.len() {
        let stored = store(order.places[step], left[step]);
        let factors = &order.factors[step];
        let error = (left[step] - stored) / factors[0];
        left[step..].iter_mut().zip(factors).for_each(|(weight, factor)| *weight -= error * factor);
    }
}

/// In which order the weights of a row are rounded, and how an error is handed on.
struct Order {
    /// The most important inputs first.
    places: Vec<usize>,
    /// Rows of the upper Cholesky factor of the inverse covariance, from the diagonal on.
    factors: Vec<Vec<f64>>,
}

impl Order {
    fn new(covariance: &Mat<f64>) -> Result<Self> {
        let size = covariance.nrows();
        let mut places: Vec<usize> = (0..size).collect();
        places.sort_by(|&a, &b| covariance[(b, b)].total_cmp(&covariance[(a, a)]).then(a.cmp(&b)));
        // The factor of an inverse is the inverse of the factor of the same matrix from its end to its beginning.
        let backward = Mat::from_fn(size, size, |i, j| covariance[(places[size - 1 - i], places[size - 1 - j])]);
        let mut inverse = Mat::zeros(size, size);
        invert_lower_triangular(inverse.as_mut(), damped(backward, DAMPING)?.L(), get_global_parallelism());
        let factors = (1..=size).rev().map(|end| (0..end).rev().map(|at| inverse[(end - 1, at)]).collect()).collect();
        Ok(Self { places, factors })
    }
}

/// Added to the diagonal of a covariance, as a share of its mean.
const DAMPING: f64 = 0.01;

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;
    use crate::quantize::weights::PAIR;

    fn conv(outputs: usize, inputs: usize) -> Conv {
        let mut random = Pcg64::seed_from_u64(3);
        let weights = (0..outputs * inputs).map(|_| random.random_range(-1.0f32..1.0)).collect();
        Conv { inputs, outputs, kernel: 1, stride: 1, pad: 0, groups: 1, weights, bias: vec![0.0; outputs] }
    }

    /// Inputs that are nearly one and the same, as those of neighbouring channels often are.
    fn alike(inputs: usize) -> Covariance {
        Covariance::new(vec![Mat::from_fn(inputs, inputs, |i, j| if i == j { 1.05 } else { 1.0 })])
    }

    fn error(conv: &Conv, weights: &Weights, covariance: &Covariance) -> f64 {
        let lost: Vec<f32> = weights.floats().iter().zip(&conv.weights).map(|(a, b)| a - b).collect();
        covariance.energy(&lost)
    }

    #[test]
    fn handing_errors_on_loses_less_where_inputs_are_alike() {
        let (conv, covariance) = (conv(8, 64), alike(64));
        let format = WeightFormat { bits: 4, pairs: false, halves: true };
        let lost = |rounding| error(&conv, &round(&conv, format, rounding, &covariance).unwrap(), &covariance);
        let (nearest, second) = (lost(Rounding::Nearest), lost(Rounding::SecondOrder));
        assert!(second < 0.3 * nearest, "{second} and {nearest}");
    }

    #[test]
    fn sixteen_bits_lose_less_when_errors_are_handed_on() {
        let (conv, covariance) = (conv(8, 64), alike(64));
        let lost = |rounding| {
            let halves = round_to_halves(&conv, rounding, &covariance).unwrap();
            assert!(halves.iter().all(|weight| f16::from_f32(*weight).to_f32() == *weight));
            covariance.energy(&halves.iter().zip(&conv.weights).map(|(a, b)| a - b).collect::<Vec<_>>())
        };
        let (nearest, second) = (lost(Rounding::Nearest), lost(Rounding::SecondOrder));
        assert!(second < 0.3 * nearest, "{second} and {nearest}");
    }

    #[test]
    fn what_has_to_expand_to_sixteen_bits_does_so_exactly() {
        let covariance = alike(64);
        for bits in [4, 8] {
            for size in [1e-7, 1e-4, 0.3, 50.0, 1e5] {
                let mut conv = conv(8, 64);
                conv.weights.iter_mut().for_each(|weight| *weight *= size);
                let format = WeightFormat { bits, pairs: false, halves: true };
                let floats = round(&conv, format, Rounding::SecondOrder, &covariance).unwrap().floats();
                assert!(floats.iter().all(|weight| f16::from_f32(*weight).to_f32() == *weight), "{bits} bits, {size}");
            }
        }
    }

    #[test]
    fn no_two_weights_that_are_multiplied_together_can_saturate() {
        let (conv, covariance) = (conv(8, 64), alike(64));
        let format = WeightFormat { bits: 8, pairs: true, halves: false };
        for rounding in [Rounding::Nearest, Rounding::Scaled, Rounding::SecondOrder] {
            let weights = round(&conv, format, rounding, &covariance).unwrap();
            for pair in weights.values.chunks(2) {
                let (a, b) = (i32::from(pair[0]), i32::from(pair[1]));
                assert!(a.max(0) + b.max(0) <= PAIR && a.min(0) + b.min(0) >= -PAIR, "{pair:?}");
            }
        }
    }

    #[test]
    fn a_dead_channel_and_weights_of_zero_are_rounded_too() {
        let mut conv = conv(2, 4);
        conv.weights[..4].fill(0.0);
        let covariance = Covariance::new(vec![Mat::zeros(4, 4)]);
        for rounding in [Rounding::Nearest, Rounding::Scaled, Rounding::SecondOrder] {
            let weights =
                round(&conv, WeightFormat { bits: 8, pairs: true, halves: false }, rounding, &covariance).unwrap();
            assert_eq!(weights.values[..4], [0; 4]);
            assert!(weights.floats().iter().all(|weight| weight.is_finite()));
        }
    }
}
