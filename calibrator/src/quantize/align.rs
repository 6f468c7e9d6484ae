//! Making the error of the background nothing.
//!
//! Everything around the tissue is black, so that most pixels of a channel hold one and the same number, and lose the same when
//! it is rounded: an error that does not average out. So the channel is moved until this number falls onto the grid. Where
//! nothing cuts the values, a shift by less than a step goes into the bias of the convolution before, and the one behind takes it
//! out again. Behind ReLU a factor near 1 goes into the weights, and 0 stays on the grid.

use std::ops::RangeInclusive;

use rayon::prelude::*;

use super::grid::Grid;
use crate::network::{Activation, Map, Network, Op, Step};

/// Bins in which the most frequent number of a channel is looked for.
const BINS: usize = 4096;
/// The share of a channel's pixels that must hold the number.
const LEAST: f64 = 0.1;
/// Pictures that are looked at.
const PICTURES: usize = 16;
/// Factors that are too far from 1 cost more range than they bring.
const FACTORS: RangeInclusive<f32> = 0.75..=1.33;

/// How the channels of a value may be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// By a number that is added.
    Shift,
    /// By a factor.
    Factor,
    /// Not at all: nothing before it takes a move in, or nothing behind takes it out.
    Not,
}

/// How the channels of `value` may be moved.
pub fn way(network: &Network, value: usize) -> Move {
    let shift = if loses_a_shift(network, value) { Move::Shift } else { Move::Not };
    let Some(at) = value.checked_sub(1) else { return shift };
    let all_convs = || network.readers(value).into_iter().all(|at| network.conv(at).is_some());
    match network.steps[at].activation {
        _ if network.conv(at).is_none() => Move::Not,
        Activation::None => shift,
        Activation::Relu | Activation::Relu6 if all_convs() => Move::Factor,
        _ => Move::Not,
    }
}

/// Whether everything that reads `value` is a convolution, which takes a shift out, or hands the shift on to one.
fn loses_a_shift(network: &Network, value: usize) -> bool {
    // Nothing takes it out of the output.
    let is_output = value == network.steps.len();
    !is_output
        && network.readers(value).into_iter().all(|at| match &network.steps[at] {
            Step { op: Op::Conv(_), .. } => true,
            Step { op: Op::Add | Op::Double | Op::Mean, activation: Activation::None, .. } => {
                loses_a_shift(network, at + 1)
            }
            _ => false,
        })
}

/// By how much each channel is to be raised before it is rounded; 0 where that loses more than it brings.
pub fn shifts(maps: &[Map], grid: &Grid) -> Vec<f32> {
    let of_channel = |channel: usize| {
        let values = || values(maps, channel);
        let Some(background) = most_frequent(values) else { return 0.0 };
        let shift = grid.round(background) - background;
        let error = |shift: f32| values().map(|x| f64::from(grid.round(x + shift) - shift - x).powi(2)).sum::<f64>();
        if shift.abs() <= grid.scale && error(shift) < error(0.0) { shift } else { 0.0 }
    };
    (0..channels(maps)).into_par_iter().map(of_channel).collect()
}

/// By what each channel behind ReLU or ReLU6 is to be multiplied before it is rounded; 1 where that loses more than it brings.
pub fn factors(maps: &[Map], grid: &Grid, activation: Activation) -> Vec<f32> {
    let of_channel = |channel: usize| {
        let values = || values(maps, channel);
        let factor = most_frequent(values).map_or(1.0, |background| grid.round(background) / background);
        let error = |factor: f32| {
            let moved = |x: f32| grid.round(activation.of(x * factor)) / factor;
            values().map(|x| f64::from(moved(x) - x).powi(2)).sum::<f64>()
        };
        // NaN, which a background of 0 gives, lies nowhere.
        if FACTORS.contains(&factor) && error(factor) < error(1.0) { factor } else { 1.0 }
    };
    (0..channels(maps)).into_par_iter().map(of_channel).collect()
}

/// Rounds a value as it is rounded once its channels were moved, and moves them back.
pub fn round(network: &Network, value: usize, maps: &mut [Map], grid: &Grid) {
    match way(network, value) {
        Move::Factor => {
            let factors = factors(maps, grid, network.steps[value - 1].activation);
            let back: Vec<f32> = factors.iter().map(|factor| 1.0 / factor).collect();
            for map in maps {
                map.multiply(&factors);
                grid.round_map(map);
                map.multiply(&back);
            }
        }
        Move::Shift => {
            let shifts = shifts(maps, grid);
            let back: Vec<f32> = shifts.iter().map(|shift| -shift).collect();
            for map in maps {
                map.raise(&shifts);
                grid.round_map(map);
                map.raise(&back);
            }
        }
        Move::Not => maps.iter_mut().for_each(|map| grid.round_map(map)),
    }
}

fn channels(maps: &[Map]) -> usize {
    maps.first().map_or(0, |map| map.shape[0])
}

fn values(maps: &[Map], channel: usize) -> impl Iterator<Item = f32> {
    maps.iter().take(PICTURES).filter_map(move |map| map.channels().nth(channel)).flatten().copied()
}

/// The number that many values are, up to their last digits.
fn most_frequent<I: Iterator<Item = f32>>(values: impl Fn() -> I) -> Option<f32> {
    let (low, high, count) = values()
        .fold((f32::INFINITY, f32::NEG_INFINITY, 0usize), |(low, high, count), x| (low.min(x), high.max(x), count + 1));
    let per_unit = BINS as f32 / (high - low).max(f32::MIN_POSITIVE);
    let bin = |x: f32| (((x - low) * per_unit) as usize).min(BINS - 1);
    let mut bins = [0u32; BINS];
    values().for_each(|x| bins[bin(x)] += 1);
    let (fullest, &most) = bins.iter().enumerate().max_by_key(|(_, count)| **count)?;
    let mean = || values().filter(|&x| bin(x) == fullest).map(f64::from).sum::<f64>() / f64::from(most);
    (most > 0 && f64::from(most) >= LEAST * count as f64).then(|| mean() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::Format;

    /// One channel: a background of 0.37 and a slope.
    fn map(background: usize) -> Map {
        let values = (0..100).map(|at| if at < background { 0.37 } else { at as f32 / 10.0 }).collect();
        Map { shape: [1, 10, 10], values }
    }

    #[test]
    fn the_background_falls_onto_the_grid() {
        let grid = Grid::spanning(Format::Unsigned, [-6.0, 10.0]);
        let [shift] = shifts(&[map(60)], &grid)[..] else { panic!() };
        assert!(shift != 0.0 && shift.abs() <= grid.scale / 2.0);
        assert!((grid.round(0.37 + shift) - shift - 0.37).abs() < 1e-6);
    }

    #[test]
    fn behind_relu_a_factor_does_it_and_zero_stays_zero() {
        let grid = Grid::spanning(Format::Unsigned, [0.0, 6.0]);
        let mut map = map(60);
        map.values.iter_mut().for_each(|x| *x = x.min(5.5));
        let [factor] = factors(&[map], &grid, Activation::Relu6)[..] else { panic!() };
        assert!(factor != 1.0 && (0.9..1.1).contains(&factor));
        assert!((grid.round(0.37 * factor) / factor - 0.37).abs() < 1e-6);
        let dark = Map { shape: [1, 2, 2], values: vec![0.0; 4] };
        assert_eq!(factors(&[dark], &grid, Activation::Relu6), [1.0]);
    }

    #[test]
    fn without_a_background_nothing_is_shifted() {
        let grid = Grid::spanning(Format::Unsigned, [-6.0, 10.0]);
        assert_eq!(shifts(&[map(3)], &grid), [0.0]);
        assert_eq!(shifts(&[], &grid), [0.0; 0]);
    }
}
