//! Which layers of a 4-bit network stay at 8 bits.
//!
//! The first convolution, the last one and the depthwise ones hold few weights and do much: they stay. Of the others those
//! whose result suffers most for each byte saved are kept at 8 bits, until the file is as large as it may be. Where it
//! is larger than that with 4 bits everywhere, those are kept that cost next to nothing. A handful of weights takes no room as
//! 16-bit floats, either.

use anyhow::Result;

use super::observe::Observed;
use super::rounding::{Rounding, round};
use super::weights::{BLOCK, WeightFormat};
use crate::network::{Conv, Network};

/// Bytes that a file holds beside its weights and biases, for each convolution: names, shapes, nodes.
const PER_CONV: usize = 330;

/// Weights that are a handful.
const HANDFUL: usize = 512;

/// What may be added to a file that is too large with 4 bits everywhere, as a share of it.
const NEXT_TO_NOTHING: usize = 50;

/// Bits for each step, 0 where a step has no weights. `bytes` is what the file may have.
pub fn bits(network: &Network, observed: &Observed, bytes: usize) -> Result<Vec<u8>> {
    let mut bits = vec![0; network.steps.len()];
    let count = network.convs().count();
    let mut size = 0;
    // Error of 4 bits for each byte, and what 8 bits would add.
    let mut candidates: Vec<(f64, usize, usize)> = Vec::new();
    for (index, (at, _, conv)) in network.convs().enumerate() {
        let small = index == 0 || index + 1 == count || conv.is_depthwise();
        bits[at] = match () {
            () if bytes == 0 => 4,
            () if conv.weights.len() < HANDFUL => 16,
            () if small => 8,
            () => 4,
        };
        size += PER_CONV + conv.bias.len() * 2 + cost(conv, bits[at]);
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
