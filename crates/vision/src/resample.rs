//! The antialiased bilinear filter of Pillow (`Image.resize(…, BILINEAR)`, libImaging/Resample.c): a triangle as wide as the
//! reduction, in fixed point with 22 fractional bits.

use std::ops::Range;

use crate::widest::widest;

/// Fractional bits of a weight: 32 minus 8 for the pixel and 2 for the sign and an overflow of the sum.
const PRECISION_BITS: u32 = 22;
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The weights of one direction: for each output position the first source position and its weights.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    from: usize,
    to: usize,
    taps: usize,
    first: Vec<usize>,
    count: Vec<usize>,
    weights: Vec<i32>,
}

impl Filter {
    /// Computes the weights from `from` to `to` pixels, with room for `longest` source pixels.
    pub(crate) fn prepare(&mut self, from: usize, to: usize, longest: usize) {
        grow(&mut self.weights, to * taps(longest.max(from), to));
        if (self.from, self.to) == (from, to) {
            return;
        }
        (self.from, self.to) = (from, to);
        let scale = from as f64 / to as f64;
        let support = scale.max(1.0);
        self.taps = taps(from, to);
        self.first.clear();
        self.count.clear();
        self.weights.clear();
        self.weights.resize(to * self.taps, 0);
        for position in 0..to {
            let centre = (position as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let weight = |source: usize| (1.0 - ((source as f64 - centre + 0.5) / support).abs()).max(0.0);
            let total: f64 = (first..end).map(weight).sum();
            let weights = &mut self.weights[position * self.taps..];
            for (slot, source) in weights.iter_mut().zip(first..end) {
                *slot = (weight(source) / total * f64::from(1 << PRECISION_BITS)).round() as i32;
            }
            self.first.push(first);
            self.count.push(end - first);
        }
    }

    pub(crate) fn weights(&self, position: usize) -> (usize, &[i32]) {
        (self.first[position], &self.weights[position * self.taps..][..self.count[position]])
    }

    /// Resizes one row of pixels, all of which are black outside `tissue`.
    #[inline(always)]
    pub(crate) fn across(&self, source: &[[u8; 4]], tissue: Range<usize>, out: &mut [u8]) {
        for (position, out) in out.chunks_exact_mut(3).enumerate() {
            let (first, weights) = self.weights(position);
            if first >= tissue.end || first + weights.len() <= tissue.start {
                out.fill(0);
                continue;
            }
            let mut sum = [HALF; 4];
            for (pixel, &weight) in source[first..].iter().zip(weights) {
                for channel in 0..4 {
                    sum[channel] += i32::from(pixel[channel]) * weight;
                }
            }
            for channel in 0..3 {
                out[channel] = to_byte(sum[channel]);
            }
        }
    }

    /// Resizes all columns; a row has `stride` bytes.
    pub(crate) fn down(&self, source: &[u8], stride: usize, sums: &mut [i32], out: &mut [u8]) {
        widest(
            #[inline(always)]
            || self.down_rows(source, stride, sums, out),
        );
    }

    #[inline(always)]
    fn down_rows(&self, source: &[u8], stride: usize, sums: &mut [i32], out: &mut [u8]) {
        for (position, out) in out.chunks_exact_mut(stride).enumerate() {
            let (first, weights) = self.weights(position);
            sums.fill(HALF);
            for (row, &weight) in source[first * stride..].chunks_exact(stride).zip(weights) {
                for (sum, &byte) in sums.iter_mut().zip(row) {
                    *sum += i32::from(byte) * weight;
                }
            }
            for (out, &sum) in out.iter_mut().zip(sums.iter()) {
                *out = to_byte(sum);
            }
        }
    }
}

/// Weights of one output position: twice the support of the filter, rounded up, and the middle.
fn taps(from: usize, to: usize) -> usize {
    (from as f64 / to as f64).max(1.0).ceil() as usize * 2 + 1
}

pub(crate) fn grow<T>(memory: &mut Vec<T>, length: usize) {
    memory.reserve(length.saturating_sub(memory.len()));
}

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}
