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
const PICTURES: usize = 4;
/// Share of the weights that may be floats, which take two bytes instead of one.
const MOST_WEIGHTS: f64 = 0.04;

/// Mean square error of the result when only this value is rounded, for each value that is `rounded`, but for the picture; otherwise
/// 0.
pub fn isolated(network: &Network, pictures: &[Map], format: Format, recipe: &Recipe, rounded: &[bool]) -> Vec<f64> {
    let pictures = &pictures[..pictures.len().min(PICTURES)];
    let all: Vec<Vec<Map>> = pictures.par_iter().map(|picture| network.values(picture, |_, _| ())).collect();
    let last = network.steps.len();
    let error = |value: usize| {
        // The picture costs nothing to round: its values are bytes.
        if value == 0 || !rounded[value] {
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
        let error = all.iter().zip(maps).map(of_picture).sum::<f64>() / all.len() as f64;
        // What is no number any more is as wrong as can be.
        if error.is_nan() { f64::INFINITY } else { error }
    };
    (0..=last).into_par_iter().map(error).collect()
}

/// The values that stay floats: those with the greatest error, while the multiplications that leave the integers are at most
/// `share` of all, and their weights not too many for the size of the file.
pub fn floats(network: &Network, errors: &[f64], share: f64, format: Format) -> Vec<bool> {
    let most_weights = match format {
        Format::Unsigned => MOST_WEIGHTS,
        // All weights of such a file take four bytes.
        Format::Signed => 1.0,
    };
    let shapes = network.shapes();
    // Multiplications, and weights.
    let work = |at: usize| {
        let weights = network.conv(at).map_or(0, |conv| conv.weights.len());
        [weights * shapes[at + 1][1] * shapes[at + 1][2], weights].map(|work| work as f64)
    };
    let sum = |a: [f64; 2], b: [f64; 2]| [a[0] + b[0], a[1] + b[1]];
    let total = (0..network.steps.len()).map(work).fold([0.0; 2], sum);
    let touched = |value: usize| value.checked_sub(1).into_iter().chain(network.readers(value)).collect::<Vec<_>>();
    let mut order: Vec<usize> = (0..errors.len()).filter(|&value| errors[value] > 0.0).collect();
    order.sort_by(|&a, &b| errors[b].total_cmp(&errors[a]));
    let mut is_float = vec![false; errors.len()];
    let mut left: Vec<bool> = vec![false; network.steps.len()];
    let mut spent = [0.0; 2];
    for value in order {
        let more = touched(value).into_iter().filter(|&at| !left[at]).map(work).fold(spent, sum);
        if more[0] <= share * total[0] && more[1] <= most_weights * total[1] {
            spent = more;
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
