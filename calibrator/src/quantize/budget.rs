//! Which layers of a 4-bit network stay at 8 bits.
//!
//! The first convolution, the last one and the depthwise ones hold few weights and do much: they stay. Of the others those
//! whose result suffers most for each byte saved are kept at 8 bits, until the file is as large as it may be. Where it
//! is larger than that with 4 bits everywhere, those are kept that cost next to nothing. Before that, layers with a handful of
//! weights become 16-bit floats, which takes next to no room.

use anyhow::Result;

use super::observe::Observed;
use super::rounding::{Rounding, round};
use super::weights::{BLOCK, WeightFormat};
use crate::network::{Conv, Network};

/// Bytes that a file holds beside its weights, its biases and its name, for each convolution: shapes and nodes.
const PER_CONV: usize = 300;

/// And for each other step.
const PER_STEP: usize = 30;

/// Weights that are a handful: where there is room, they are 16-bit floats.
const HANDFUL: usize = 512;

/// What may be added to a file that is too large with 4 bits everywhere, as a share of it.
const NEXT_TO_NOTHING: usize = 50;

/// Bits for each step, 0 where a step has no weights. `bytes` is what the file may have.
pub fn bits(network: &Network, observed: &Observed, bytes: usize) -> Result<Vec<u8>> {
    let mut bits = vec![0; network.steps.len()];
    let count = network.convs().count();
    let mut size = PER_STEP * (network.steps.len() - count);
    // Error of 4 bits for each byte, and what 8 bits would add.
    let mut candidates: Vec<(f64, usize, usize)> = Vec::new();
    for (index, (at, step, conv)) in network.convs().enumerate() {
        let small = index == 0 || index + 1 == count || conv.is_depthwise();
        bits[at] = if small && bytes > 0 { 8 } else { 4 };
        size += PER_CONV + step.name.len() + conv.bias.len() * 2 + cost(conv, bits[at]);
        let Some(covariance) = observed.covariances[at].as_ref().filter(|_| bits[at] == 4 && bytes > 0) else {
            continue;
        };
        let rounded =
            round(conv, WeightFormat { bits: 4, pairs: false, halves: true }, Rounding::Scaled, covariance)?.floats();
        let lost: Vec<f32> = rounded.iter().zip(&conv.weights).map(|(a, b)| a - b).collect();
        let more = cost(conv, 8) - cost(conv, 4);
        candidates.push((
            covariance.energy(&lost) / covariance.energy(&conv.weights).max(1e-30) / more as f64,
            more,
            at,
        ));
    }
    for (at, _, conv) in network.convs().filter(|(_, _, conv)| conv.weights.len() < HANDFUL) {
        let more = cost(conv, 16).saturating_sub(cost(conv, bits[at]));
        if size + more <= bytes {
            size += more;
            bits[at] = 16;
        }
    }
    candidates.retain(|(_, _, at)| bits[*at] == 4);
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
    let most = if size > bytes { size + size / NEXT_TO_NOTHING } else { bytes };
    for (_, more, at) in candidates {
        if size + more <= most {
            size += more;
            bits[at] = 8;
        }
    }
    Ok(bits)
}

/// Bytes of weights and scales.
fn cost(conv: &Conv, bits: u8) -> usize {
    let weights = conv.weights.len();
    match bits {
        4 => weights / 2 + conv.outputs * conv.row().div_ceil(BLOCK) * 2,
        8 => weights + conv.outputs * 2,
        _ => weights * 2,
    }
}
