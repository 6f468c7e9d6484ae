//! Which range of a value is kept: everything, or less for the sake of a finer grid.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::grid::{Format, Grid};

/// Bins of a histogram, as in TensorRT and ModelOpt.
const BINS: usize = 2048;
/// Levels that a range is judged with: the magnitudes of a signed byte.
const LEVELS: usize = 128;

/// How a range is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RangeMethod {
    /// The least and the greatest value seen.
    Max,
    /// The range whose 128 levels keep most of the distribution: least Kullback-Leibler divergence (Migacz 2017, "8-bit
    /// Inference with TensorRT").
    Entropy,
    /// What holds 99.99 % of the values on either side (Wu et al. 2020, "Integer Quantization for Deep Learning Inference").
    Percentile,
    /// The range with the least squared error (Choukroun et al. 2019, "Low-bit Quantization of Neural Networks").
    Mse,
}

/// How often the values of one kind occur.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The least value.
    pub low: f32,
    /// The greatest value.
    pub high: f32,
    /// Counts of equal bins between the two.
    pub bins: Vec<u64>,
}

impl Histogram {
    /// Counts finite values, which come in parts.
    pub fn of<'a>(parts: impl ParallelIterator<Item = &'a [f32]> + Clone) -> Self {
        let wider = |a: (f32, f32), b: (f32, f32)| (a.0.min(b.0), a.1.max(b.1));
        let nothing = (f32::INFINITY, f32::NEG_INFINITY);
        let bounds = |part: &[f32]| part.iter().fold(nothing, |bounds, &x| wider(bounds, (x, x)));
        let (low, high) = parts.clone().map(bounds).reduce(|| nothing, wider);
        let (low, high) = if low <= high { (low, high) } else { (0.0, 0.0) };
        let per_unit = if high > low { BINS as f32 / (high - low) } else { 0.0 };
        let count = |mut bins: Vec<u64>, part: &[f32]| {
            part.iter().for_each(|x| bins[(((x - low) * per_unit) as usize).min(BINS - 1)] += 1);
            bins
        };
        let add = |mut a: Vec<u64>, b: Vec<u64>| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        };
        let bins = parts.fold(|| vec![0; BINS], count).reduce(|| vec![0; BINS], add);
        Self { low, high, bins }
    }

    /// The greatest magnitude.
    fn amax(&self) -> f32 {
        self.high.max(-self.low)
    }

    fn width(&self) -> f32 {
        (self.high - self.low) / BINS as f32
    }

    /// Middle and count of each bin that is not empty.
    pub fn filled(&self) -> impl Iterator<Item = (f32, u64)> {
        let filled = self.bins.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(at, &count)| (self.low + (at as f32 + 0.5) * self.width(), count))
    }

    /// The range that `method` keeps, for integers of `format`.
    pub fn range(&self, method: RangeMethod, format: Format) -> [f32; 2] {
        let everything = [self.low, self.high];
        if self.high <= self.low {
            return everything;
        }
        match method {
            RangeMethod::Max => everything,
            RangeMethod::Percentile => self.percentile(0.9999),
            RangeMethod::Entropy => self.shrunk(self.entropy()),
            RangeMethod::Mse => {
                let filled: Vec<(f32, f64)> = self.filled().map(|(x, count)| (x, count as f64)).collect();
                let with_error = |step: i32| {
                    let range = self.shrunk(1.0 - step as f32 * 0.01);
                    let grid = Grid::spanning(format, range);
                    let error = |&(x, count): &(f32, f64)| f64::from(grid.round(x) - x).powi(2) * count;
                    (filled.iter().map(error).sum::<f64>(), range)
                };
                let candidates: Vec<(f64, [f32; 2])> = (0..=70).into_par_iter().map(with_error).collect();
                let best = candidates.into_iter().min_by(|(a, _), (b, _)| a.total_cmp(b));
                best.map_or(everything, |(_, range)| range)
            }
        }
    }

    /// The range, limited to a share of the greatest magnitude.
    fn shrunk(&self, share: f32) -> [f32; 2] {
        let limit = self.amax() * share;
        [self.low.max(-limit), self.high.min(limit)]
    }

    fn percentile(&self, share: f64) -> [f32; 2] {
        let total: u64 = self.bins.iter().sum();
        let outside = ((1.0 - share) * total as f64) as u64;
        let skipped = |counts: &mut dyn Iterator<Item = &u64>| {
            let mut sum = 0;
            counts
                .take_while(|&&count| {
                    sum += count;
                    sum <= outside
                })
                .count() as f32
        };
        let (below, above) = (skipped(&mut self.bins.iter()), skipped(&mut self.bins.iter().rev()));
        [self.low + below * self.width(), self.high - above * self.width()]
    }

    /// The share of the greatest magnitude that 128 levels represent best.
    fn entropy(&self) -> f32 {
        let mut magnitudes = vec![0f64; BINS];
        let width = self.amax() / BINS as f32;
        for (x, count) in self.filled() {
            magnitudes[((x.abs() / width) as usize).min(BINS - 1)] += count as f64;
        }
        let divergence = |kept: usize| -> f64 {
            // What lies outside is clipped into the last bin.
            let mut wanted = magnitudes[..kept].to_vec();
            wanted[kept - 1] += magnitudes[kept..].iter().sum::<f64>();
            let mut got = vec![0.0; kept];
            for level in 0..LEVELS {
                let (from, to) = (level * kept / LEVELS, (level + 1) * kept / LEVELS);
                let bins = &magnitudes[from..to];
                let filled = bins.iter().filter(|count| **count > 0.0).count();
                let mean = bins.iter().sum::<f64>() / filled.max(1) as f64;
                (from..to).filter(|&at| magnitudes[at] > 0.0).for_each(|at| got[at] = mean);
            }
            let (sum_wanted, sum_got) = (wanted.iter().sum::<f64>(), got.iter().sum::<f64>());
            let term = |(p, q): (&f64, &f64)| {
                let (p, q) = (p / sum_wanted, (q / sum_got).max(1e-12));
                if p > 0.0 { p * (p / q).ln() } else { 0.0 }
            };
            wanted.iter().zip(&got).map(term).sum()
        };
        let best = (LEVELS..=BINS).step_by(16).min_by(|&a, &b| divergence(a).total_cmp(&divergence(b)));
        best.unwrap_or(BINS) as f32 / BINS as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [RangeMethod; 4] = [RangeMethod::Max, RangeMethod::Entropy, RangeMethod::Percentile, RangeMethod::Mse];

    /// A bell of 100,000 values up to 3, and one value at 40.
    fn with_outlier() -> Vec<f32> {
        let bell = |k: u32| (0..6).map(|n| ((k * 7919 + n * 104_729) % 1009) as f32 / 1009.0).sum::<f32>() - 3.0;
        (0..100_000).map(bell).chain([40.0]).collect()
    }

    #[test]
    fn one_outlier_is_kept_by_max_and_cut_by_the_others() {
        let histogram = Histogram::of(rayon::iter::once(&with_outlier()[..]));
        assert_eq!(histogram.range(RangeMethod::Max, Format::Signed)[1], 40.0);
        for method in &ALL[1..] {
            let [_, high] = histogram.range(*method, Format::Signed);
            assert!((0.5..30.0).contains(&high), "{method:?}: {high}");
        }
    }

    #[test]
    fn nothing_and_a_constant_have_a_range() {
        for values in [vec![], vec![0.0; 10], vec![-2.5; 4]] {
            for method in ALL {
                let [low, high] = Histogram::of(rayon::iter::once(&values[..])).range(method, Format::Unsigned);
                assert!(low <= high && low.is_finite() && high.is_finite());
            }
        }
    }
}
