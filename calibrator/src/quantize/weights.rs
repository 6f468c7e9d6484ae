//! Integers that stand for the weights of a convolution.

use crate::network::Conv;

/// Weights that share one scale in a 4-bit convolution, along the flattened inputs of one output.
pub const BLOCK: usize = 128;

/// Quantized weights: `value · scale`, the scale by row and block.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// 4 or 8.
    pub bits: u8,
    /// Weights of one output.
    pub row: usize,
    /// Weights that share a scale; `row` where each output has one.
    pub block: usize,
    /// The integers, row after row.
    pub values: Vec<i8>,
    /// The scales, row after row, block after block.
    pub scales: Vec<f32>,
}

impl Weights {
    /// Blocks of one row.
    pub fn blocks(&self) -> usize {
        self.row.div_ceil(self.block)
    }

    /// Multiplies every row by a factor.
    pub fn multiply(&mut self, factors: &[f32]) {
        let blocks = self.blocks();
        self.scales.iter_mut().enumerate().for_each(|(at, scale)| *scale *= factors[at / blocks]);
    }

    /// The weights that the integers stand for.
    pub fn floats(&self) -> Vec<f32> {
        let rows = self.values.chunks_exact(self.row).zip(self.scales.chunks_exact(self.blocks()));
        let row = |(values, scales): (&[i8], &[f32])| {
            values.iter().enumerate().map(|(at, &q)| f32::from(q) * scales[at / self.block]).collect::<Vec<_>>()
        };
        rows.flat_map(row).collect()
    }
}

/// How a convolution's weights become integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightFormat {
    /// 4 or 8.
    pub bits: u8,
    /// Whether any two weights that a processor multiplies in one instruction stay within what 16 bits hold, and scales are
    /// 16-bit floats, as far as these reach.
    pub pairs: bool,
    /// Whether each product of an integer and its scale is a 16-bit float, so that a board that has no such integers can
    /// expand the file without another error.
    pub halves: bool,
}

impl WeightFormat {
    /// The greatest integer; the least is its negative.
    pub fn limit(self) -> i32 {
        (1 << (self.bits - 1)) - 1
    }

    /// Weights that share a scale.
    pub fn block(self, conv: &Conv) -> usize {
        if self.bits == 4 { BLOCK.min(conv.row()) } else { conv.row() }
    }

    /// The scales of a row: where `search` is set those with the least error of the result, otherwise the greatest weight.
    /// `importance` holds the variance of what each weight reads.
    pub(super) fn scales(self, conv: &Conv, row: &[f32], importance: &[f64], search: bool) -> Vec<f32> {
        let block = self.block(conv);
        let scale = |(weights, importance): (&[f32], &[f64])| {
            let limit = self.limit() as f32;
            let amax = weights.iter().fold(0f32, |amax, w| amax.max(w.abs()));
            let amax = if self.pairs { amax.max(pair_max(conv, weights) * limit / PAIR as f32) } else { amax };
            let full = (amax / limit).max(1e-12);
            // A finer grid would let pairs saturate.
            if !search || self.pairs {
                return self.storable(full);
            }
            let error = |scale: f32| -> f64 {
                let one = |(w, h): (&f32, &f64)| {
                    let q = (w / scale).round_ties_even().clamp(-limit, limit);
                    f64::from(w - q * scale).powi(2) * h
                };
                weights.iter().zip(importance).map(one).sum()
            };
            let steps = if self.bits == 4 { 12 } else { 4 };
            let candidates = (0..=steps).map(|step| self.storable(full * (1.0 - 0.04 * step as f32)));
            candidates.min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap_or(full)
        };
        row.chunks(block).zip(importance.chunks(block)).map(scale).collect()
    }

    /// The scale rounded up to the eleven binary digits of a 16-bit float, or to as few as leave room for an integer among them.
    /// Smaller than those reach, the weights of a block are as good as 0.
    fn storable(self, scale: f32) -> f32 {
        if !self.halves && !self.pairs {
            return scale;
        }
        let digits = if self.halves { u32::from(12 - self.bits) } else { 11 };
        let rest = (1u32 << (24 - digits)) - 1;
        let short = f32::from_bits((scale.to_bits() + rest) & !rest);
        if !self.halves {
            return short;
        }
        // 16-bit floats are multiples of 2⁻²⁴ and end below 2¹⁶.
        short.clamp(2f32.powi(digits as i32 - 25), 32_768.0 / (self.limit() + 1) as f32)
    }
}

/// The greatest sum of two weights of one sign that `VPMADDUBSW` multiplies by bytes up to 255 without saturating:
/// 255 · 128 < 2¹⁵.
pub(super) const PAIR: i32 = 128;

/// The greatest sum of magnitudes of two weights of one sign that are multiplied together.
fn pair_max(conv: &Conv, row: &[f32]) -> f32 {
    if conv.is_depthwise() {
        return 0.0;
    }
    let pair = |a: f32, b: f32| if a * b > 0.0 { (a + b).abs() } else { 0.0 };
    if conv.kernel == 1 {
        return row.chunks_exact(2).fold(0.0, |most, two| most.max(pair(two[0], two[1])));
    }
    // In what order a larger kernel is laid out is the runtime's business: any two may meet.
    let mut sorted = row.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    match sorted[..] {
        [a, b, .., c, d] => pair(a, b).max(pair(c, d)),
        _ => 0.0,
    }
}

/// The integers that weight `at` may become, when `done` holds those of the same row that are decided.
pub(super) fn allowed(conv: &Conv, format: WeightFormat, done: &[Option<i8>], at: usize) -> (i32, i32) {
    let limit = format.limit();
    if !format.pairs || conv.is_depthwise() {
        return (-limit, limit);
    }
    let (mut low, mut high) = (-limit, limit);
    let mut meet = |other: Option<i8>| {
        let other = i32::from(other.unwrap_or(0));
        high = high.min(PAIR - other.max(0));
        low = low.max(-PAIR - other.min(0));
    };
    if conv.kernel == 1 {
        meet(done.get(at ^ 1).copied().flatten());
    } else {
        done.iter().enumerate().filter(|(other, _)| *other != at).for_each(|(_, other)| meet(*other));
    }
    (low, high)
}
