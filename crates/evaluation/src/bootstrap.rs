//! Confidence intervals by resampling whole groups.

use std::collections::BTreeMap;
use std::fmt;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::Serialize;

/// Rounds of every bootstrap that is reported.
pub const ROUNDS: usize = 2000;
/// Its seed: the same predictions always give the same interval.
pub const SEED: u64 = 0;

/// A value with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The value on all pictures.
    pub value: f64,
    /// Lower end: the 2.5th percentile of the resampled values.
    pub low: f64,
    /// Upper end: the 97.5th percentile.
    pub high: f64,
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}  95 % {:.4} to {:.4}", self.value, self.low, self.high)
    }
}

/// The percentile interval of a cluster bootstrap (Davison and Hinkley 1997, section 3.8).
///
/// Draws as many groups as there are, with replacement, `rounds` times; `group` tells which one an element belongs to.
/// Pictures of one photograph repeat each other, so resampling single pictures would make the interval too narrow.
/// Rounds in which `metric` has no value are left out; `None` if it has none on all pictures. The same seed gives the
/// same interval.
pub fn bootstrap<T: Clone>(
    all: &[T],
    group: impl Fn(&T) -> u64,
    rounds: usize,
    seed: u64,
    metric: impl Fn(&[T]) -> Option<f64>,
) -> Option<Interval> {
    let value = metric(all)?;
    let mut groups: BTreeMap<u64, Vec<T>> = BTreeMap::new();
    for one in all {
        groups.entry(group(one)).or_default().push(one.clone());
    }
    let groups: Vec<_> = groups.into_values().collect();
    let mut random = Pcg64::seed_from_u64(seed);
    let mut sample = Vec::with_capacity(all.len() * 2);
    let mut values = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        sample.clear();
        for _ in 0..groups.len() {
            sample.extend_from_slice(&groups[random.random_range(0..groups.len())]);
        }
        values.extend(metric(&sample));
    }
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get((share * (values.len().saturating_sub(1)) as f64).round() as usize).copied();
    Some(Interval { value, low: at(0.025).unwrap_or(value), high: at(0.975).unwrap_or(value) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Judged, auc};

    fn interval(judged: &[Judged], rounds: usize, seed: u64) -> Option<Interval> {
        bootstrap(judged, |one| one.group, rounds, seed, auc)
    }

    fn pictures(copies: u64) -> Vec<Judged> {
        let one = |photo: u64| Judged {
            probability: (photo * 7 % 23) as f64 / 23.0,
            anemic: photo.is_multiple_of(3),
            group: photo,
        };
        (0..60).flat_map(|photo| (0..copies).map(move |_| one(photo))).collect()
    }

    #[test]
    fn copies_of_a_photograph_do_not_narrow_the_interval() {
        let once = interval(&pictures(1), 500, 1).expect("both classes are there");
        let often = interval(&pictures(8), 500, 1).expect("both classes are there");
        assert!(once.low < once.value && once.value < once.high);
        assert!((once.high - once.low) - (often.high - often.low) < 1e-9, "{once:?} {often:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        assert_eq!(interval(&pictures(2), 100, 9), interval(&pictures(2), 100, 9));
        assert_eq!(interval(&[], 100, 9), None);
    }
}
