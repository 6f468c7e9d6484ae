//! The receiver operating characteristic: what a threshold would have cost.

use serde::Serialize;

use crate::Judged;

/// One threshold and what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RocPoint {
    /// "Anemic" from this probability on.
    pub threshold: f64,
    /// Share of anemic pictures that are found.
    pub sensitivity: f64,
    /// Share of non-anemic pictures that are called so.
    pub specificity: f64,
}

/// One point for each probability that occurs, from the highest threshold to the lowest. Empty when a class is missing.
pub fn roc(judged: &[Judged]) -> Vec<RocPoint> {
    let mut order: Vec<&Judged> = judged.iter().collect();
    order.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let positives = judged.iter().filter(|one| one.anemic).count();
    let negatives = judged.len() - positives;
    if positives == 0 || negatives == 0 {
        return Vec::new();
    }
    let (mut found, mut wrong) = (0, 0);
    let mut points = vec![RocPoint { threshold: f64::INFINITY, sensitivity: 0.0, specificity: 1.0 }];
    for tied in order.chunk_by(|a, b| a.probability == b.probability) {
        let anemic = tied.iter().filter(|one| one.anemic).count();
        (found, wrong) = (found + anemic, wrong + tied.len() - anemic);
        points.push(RocPoint {
            threshold: tied[0].probability,
            sensitivity: found as f64 / positives as f64,
            specificity: 1.0 - wrong as f64 / negatives as f64,
        });
    }
    points
}

/// The best sensitivity at a specificity of at least `specificity`; `None` when a class is missing.
pub fn sensitivity_at(judged: &[Judged], specificity: f64) -> Option<f64> {
    let fits = |point: &&RocPoint| point.specificity >= specificity - 1e-12;
    roc(judged).iter().filter(fits).map(|point| point.sensitivity).reduce(f64::max)
}

/// The highest threshold that still finds `sensitivity` of the anemic pictures; `None` when a class is missing.
pub fn threshold_for(judged: &[Judged], sensitivity: f64) -> Option<RocPoint> {
    roc(judged).into_iter().find(|point| point.sensitivity >= sensitivity - 1e-12)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(probability: f64, anemic: bool) -> Judged {
        Judged { probability, anemic, group: 0 }
    }

    #[test]
    fn the_curve_goes_from_nothing_found_to_everything_found() {
        let all = [judged(0.9, true), judged(0.7, false), judged(0.7, true), judged(0.1, false)];
        let curve = roc(&all);
        let shares: Vec<_> = curve.iter().map(|point| (point.sensitivity, point.specificity)).collect();
        assert_eq!(shares, [(0.0, 1.0), (0.5, 1.0), (1.0, 0.5), (1.0, 0.0)]);
        assert_eq!(sensitivity_at(&all, 0.9), Some(0.5));
        assert_eq!(sensitivity_at(&all, 0.5), Some(1.0));
        assert_eq!(threshold_for(&all, 0.9).unwrap().threshold, 0.7);
        assert!(roc(&all[..1]).is_empty(), "one class alone has no curve");
    }
}
