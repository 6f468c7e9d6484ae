//! Which values are too much for 8 bits.
//!
//! Each value alone is rounded to its grid in the otherwise float network, and what that does to the result is measured. A few
//! values of the first layers, whose spikes at the edges of the tissue stretch the grid, do most of the damage. They stay floats,
//! as far as the budget of multiplications in floats allows.

use rayon::prelude::*;

use super::align;
use super::grid::{Format, Grid};
use super::ranges::Histogram;
use crate::network::{Map, Network, run};
use crate::recipe::Recipe;

/// Pictures that are looked at.
const PICTURES: usize = 12;

/// Mean square error of the result when only this value is rounded, for each value that is `rounded`; otherwise 0.
pub fn isolated(network: &Network, pictures: &[Map], format: Format, recipe: &Recipe, rounded: &[bool]) -> Vec<f64> {
    let pictures = &pictures[..pictures.len().min(PICTURES)];
    let all: Vec<Vec<Map>> = pictures.par_iter().map(|picture| network.values(picture, |_, _| ())).collect();
    let last = network.steps.len();
    let error = |value: usize| {
        if !rounded[value] {
            return 0.0;
        }
        let mut maps: Vec<Map> = all.iter().map(|values| values[value].clone()).collect();
        let seen = Histogram::of(maps.par_iter().map(|map| &map.values[..]));
        let grid = Grid::spanning(format, seen.range(recipe.range, format));
        if recipe.align {
            align::round(network, value, &mut maps, &grid);
        } else {
            maps.iter_mut().for_each(|map| grid.round_map(map));
        }
        let of_picture = |(values, changed): (&Vec<Map>, Map)| {
            let result = from_value(network, values, value, changed);
            let pairs = result.values.iter().zip(&values[last].values);
            pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / result.values.len() as f64
        };
        all.iter().zip(maps).map(of_picture).sum::<f64>() / all.len() as f64
    };
    (0..=last).into_par_iter().map(error).collect()
}

/// The values that stay floats: those with the greatest error for each multiplication that leaves the integers, while these
/// are at most `share` of all.
pub fn floats(network: &Network, errors: &[f64], share: f64) -> Vec<bool> {
    let shapes = network.shapes();
    let work = |at: usize| {
        network.conv(at).map_or(0, |conv| conv.weights.len() * shapes[at + 1][1] * shapes[at + 1][2]) as f64
    };
    let total: f64 = (0..network.steps.len()).map(work).sum();
    let touched = |value: usize| value.checked_sub(1).into_iter().chain(network.readers(value)).collect::<Vec<_>>();
    let mut order: Vec<usize> = (0..errors.len()).filter(|&value| errors[value] > 0.0).collect();
    order.sort_by(|&a, &b| errors[b].total_cmp(&errors[a]));
    let mut is_float = vec![false; errors.len()];
    let mut left: Vec<bool> = vec![false; network.steps.len()];
    let mut spent = 0.0;
    for value in order {
        let more: f64 = touched(value).into_iter().filter(|&at| !left[at]).map(work).sum();
        // The picture costs nothing to round: its values are bytes.
        if value > 0 && spent + more <= share * total {
            spent += more;
            is_float[value] = true;
            touched(value).into_iter().for_each(|at| left[at] = true);
        }
    }
    is_float
}

/// The result of the network when one value is another one.
fn from_value(network: &Network, values: &[Map], value: usize, changed: Map) -> Map {
    let mut new: Vec<Option<Map>> = vec![None; values.len()];
    new[value] = Some(changed);
    for (at, step) in network.steps.iter().enumerate().skip(value) {
        if step.inputs.iter().any(|&input| new[input].is_some()) {
            let inputs: Vec<&Map> =
                step.inputs.iter().map(|&input| new[input].as_ref().unwrap_or(&values[input])).collect();
            new[at + 1] = Some(run(step, &inputs));
        }
    }
    new.pop().flatten().unwrap_or_else(|| values[values.len() - 1].clone())
}
