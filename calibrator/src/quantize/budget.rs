//! Which layers of a 4-bit network stay at 8 bits.
//!
//! The first convolution, the last one and the depthwise ones hold few weights and do much: they stay. Of the others those
//! whose result suffers most for each byte saved are kept at 8 bits, until the file is as large as it may be.

use super::observe::Observed;
use super::rounding::{Rounding, round};
use super::weights::WeightFormat;
use crate::network::Network;
use anyhow::Result;

/// Bytes that a file holds beside its weights and biases, for each convolution: names, shapes, nodes.
const PER_CONV: usize = 620;

/// Bits for each step, 0 where a step has no weights. `bytes` is what the file may have.
pub fn bits(network: &Network, observed: &Observed, bytes: usize) -> Result<Vec<u8>> {
    let mut bits = vec![0; network.steps.len()];
    let count = network.convs().count();
    let mut size = 0;
    // Error of 4 bits for each byte, and what 8 bits would add.
    let mut candidates: Vec<(f64, usize, usize)> = Vec::new();
    for (index, (at, _, conv)) in network.convs().enumerate() {
        let small = index == 0 || index + 1 == count || conv.is_depthwise();
        bits[at] = if small && bytes > 0 { 8 } else { 4 };
        size += PER_CONV + conv.bias.len() * 4 + cost(conv.weights.len(), conv.outputs, conv.row(), bits[at]);
        let Some(covariance) = observed.covariances[at].as_ref().filter(|_| bits[at] == 4 && bytes > 0) else {
            continue;
        };
        let rounded = round(conv, WeightFormat { bits: 4, pairs: false }, Rounding::Scaled, covariance)?.floats();
        let row = conv.row();
        let energy = |weights: &[f32]| -> f64 {
            weights.chunks_exact(row).enumerate().map(|(output, weights)| covariance.energy(output, weights)).sum()
        };
        let lost: Vec<f32> = rounded.iter().zip(&conv.weights).map(|(a, b)| a - b).collect();
        let more = cost(conv.weights.len(), conv.outputs, row, 8) - cost(conv.weights.len(), conv.outputs, row, 4);
        candidates.push((energy(&lost) / energy(&conv.weights).max(1e-30) / more as f64, more, at));
    }
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, more, at) in candidates {
        if size + more <= bytes {
            size += more;
            bits[at] = 8;
        }
    }
    Ok(bits)
}

fn cost(weights: usize, outputs: usize, row: usize, bits: u8) -> usize {
    if bits == 4 { weights / 2 + outputs * row.div_ceil(super::weights::BLOCK) * 2 } else { weights + outputs * 4 }
}
