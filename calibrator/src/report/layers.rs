//! What quantization does inside of one network: noise by layer, ranges, weights.

use anemia_evaluation::Line;
use serde::Serialize;

use super::paper;
use crate::network::Network;
use crate::quantize::{Grid, Histogram, Quantized};

/// Points of a plotted distribution.
const BINS: usize = 96;

/// One network of one precision.
#[derive(Serialize)]
pub(super) struct Layers {
    pub(super) precision: &'static str,
    /// Every value with its noise, from the picture to the logit.
    pub(super) values: Vec<Value>,
    /// Weights of the layers that the paper names.
    pub(super) weights: Vec<Weights>,
}

/// A value between two steps.
#[derive(Serialize)]
pub(super) struct Value {
    pub(super) name: String,
    /// Signal to quantization noise in dB of everything up to here; `null` without noise.
    pub(super) sqnr: f64,
    /// Least and greatest value seen, and the range of the grid; `null` where it stays a float.
    pub(super) range: Option<Ranges>,
    /// The least signal to noise among the values that it is made from.
    #[serde(skip)]
    pub(super) before: f64,
    /// The distribution before and after rounding.
    #[serde(skip)]
    pub(super) plot: Option<[Line; 2]>,
}

#[derive(Serialize)]
pub(super) struct Ranges {
    pub(super) seen: [f32; 2],
    pub(super) kept: [f32; 2],
    pub(super) step: f32,
}

/// The weights of one layer.
#[derive(Serialize)]
pub(super) struct Weights {
    pub(super) layer: String,
    pub(super) bits: u8,
    /// Least and greatest amax of the outputs (8 bits) or blocks (4 bits), as in the paper's Table V.
    pub(super) amax: [f32; 2],
    /// The distribution at fp32 and quantized.
    #[serde(skip)]
    pub(super) plot: [Line; 2],
}

impl Layers {
    pub(super) fn of(precision: &'static str, fp32: &Network, quantized: &Quantized) -> Self {
        let value = |(at, value): (usize, &crate::quantize::Value)| Value {
            name: quantized.network.value_name(at).to_owned(),
            sqnr: value.sqnr,
            before: at.checked_sub(1).map_or(f64::INFINITY, |at| {
                let inputs = quantized.network.steps[at].inputs.iter();
                inputs.map(|&input| quantized.values[input].sqnr).fold(f64::INFINITY, f64::min)
            }),
            range: value.seen.as_ref().zip(value.grid).map(|(seen, grid)| Ranges {
                seen: [seen.low, seen.high],
                kept: grid.range(),
                step: grid.scale,
            }),
            plot: value.seen.as_ref().zip(value.grid).map(|(seen, grid)| before_and_after(seen, &grid)),
        };
        let named = paper::AMAX.iter().filter(|(_, precision, _)| *precision == "int8").map(|(layer, ..)| *layer);
        Self {
            precision,
            values: quantized.values.iter().enumerate().map(value).collect(),
            weights: named.filter_map(|layer| weights(layer, fp32, quantized)).collect(),
        }
    }

    /// The noise of every value, as a line over the number of the value.
    pub(super) fn noise(&self) -> Line {
        let points = self.values.iter().enumerate().filter(|(_, value)| value.sqnr.is_finite());
        Line::new(self.precision, points.map(|(at, value)| (at as f64, value.sqnr)).collect())
    }
}

fn weights(layer: &str, fp32: &Network, quantized: &Quantized) -> Option<Weights> {
    let at = quantized.network.steps.iter().position(|step| step.name == layer)?;
    let (integers, own) = (quantized.weights[at].as_ref()?, quantized.network.conv(at)?);
    let limit = ((1 << (integers.bits - 1)) - 1) as f32;
    let amax = integers.scales.iter().map(|scale| scale * limit);
    let bounds = amax.fold([f32::INFINITY, 0.0], |[low, high], amax| [low.min(amax), high.max(amax)]);
    let plot = [("fp32", &fp32.conv(at)?.weights), ("quantized", &own.weights)]
        .map(|(name, weights)| Line::new(name, shares(&Histogram::of(rayon::iter::once(&weights[..])), |x| x)));
    Some(Weights { layer: layer.to_owned(), bits: integers.bits, amax: bounds, plot })
}

/// The distribution of a value, and what the grid makes of it.
fn before_and_after(seen: &Histogram, grid: &Grid) -> [Line; 2] {
    let before = Line::new("before", shares(seen, |x| x));
    [before, Line::new("after", shares(seen, |x| grid.round(x)))]
}

/// Share of the values in each of [`BINS`] bins from the least to the greatest, as log₁₀; bins with nothing are left out.
fn shares(histogram: &Histogram, change: impl Fn(f32) -> f32) -> Vec<(f64, f64)> {
    let (low, high) = (histogram.low, histogram.high);
    let width = ((high - low) * (1.0 + 1e-6) / BINS as f32).max(f32::MIN_POSITIVE);
    let mut counts = [0u64; BINS];
    let mut total = 0;
    for (x, count) in histogram.filled() {
        let at = ((change(x) - low) / width).clamp(0.0, (BINS - 1) as f32) as usize;
        counts[at] += count;
        total += count;
    }
    let point = |(at, &count): (usize, &u64)| {
        let x = f64::from(low + (at as f32 + 0.5) * width);
        (count > 0).then(|| (x, (count as f64 / total as f64).log10()))
    };
    counts.iter().enumerate().filter_map(point).collect()
}
