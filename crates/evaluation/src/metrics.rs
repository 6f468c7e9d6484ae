//! Metrics of judged pictures.

use serde::Serialize;

use crate::Judged;

/// Area under the ROC curve: the share of pairs of an anemic and a non-anemic picture that are in the right order,
/// ties counting half (Hanley and McNeil 1982). `None` when one class is missing.
pub fn auc(judged: &[Judged]) -> Option<f64> {
    let mut order: Vec<&Judged> = judged.iter().collect();
    order.sort_by(|a, b| a.probability.total_cmp(&b.probability));
    let positives = judged.iter().filter(|one| one.anemic).count() as f64;
    let negatives = judged.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    // The sum of the ranks of the anemic pictures; pictures with the same probability share their mean rank.
    let mut rank_sum = 0.0;
    let mut start = 0;
    for tied in order.chunk_by(|a, b| a.probability == b.probability) {
        let mean_rank = start as f64 + (tied.len() as f64 + 1.0) / 2.0;
        rank_sum += mean_rank * tied.iter().filter(|one| one.anemic).count() as f64;
        start += tied.len();
    }
    Some((rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// Counts of right and wrong verdicts at a threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Anemic and called so.
    pub true_positive: usize,
    /// Not anemic and called anemic.
    pub false_positive: usize,
    /// Not anemic and called so.
    pub true_negative: usize,
    /// Anemic and missed.
    pub false_negative: usize,
}

impl Confusion {
    /// Counts with "anemic" from `threshold` on.
    pub fn at(judged: &[Judged], threshold: f64) -> Self {
        let mut counts = Self::default();
        for one in judged {
            *match (one.anemic, one.probability >= threshold) {
                (true, true) => &mut counts.true_positive,
                (false, true) => &mut counts.false_positive,
                (false, false) => &mut counts.true_negative,
                (true, false) => &mut counts.false_negative,
            } += 1;
        }
        counts
    }

    /// Share of right verdicts; `None` without pictures, as for the other shares.
    pub fn accuracy(&self) -> Option<f64> {
        let right = self.true_positive + self.true_negative;
        share(right, right + self.false_positive + self.false_negative)
    }

    /// Share of anemic pictures that were found.
    pub fn sensitivity(&self) -> Option<f64> {
        share(self.true_positive, self.true_positive + self.false_negative)
    }

    /// Share of the pictures called anemic that are; the positive predictive value.
    pub fn precision(&self) -> Option<f64> {
        share(self.true_positive, self.true_positive + self.false_positive)
    }

    /// Harmonic mean of precision and sensitivity (recall).
    pub fn f1(&self) -> Option<f64> {
        share(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)
    }

    /// Share of non-anemic pictures that were called so.
    pub fn specificity(&self) -> Option<f64> {
        share(self.true_negative, self.true_negative + self.false_positive)
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judged(probability: f64, anemic: bool) -> Judged {
        Judged { probability, anemic, group: 0 }
    }

    #[test]
    fn a_perfect_order_gives_one_and_ties_give_half() {
        let perfect = [judged(0.1, false), judged(0.2, false), judged(0.8, true)];
        assert_eq!(auc(&perfect), Some(1.0));
        assert_eq!(auc(&[judged(0.5, false), judged(0.5, true)]), Some(0.5));
        assert_eq!(auc(&perfect[..2]), None, "one class alone has no order");
    }

    #[test]
    fn the_threshold_itself_counts_as_anemic() {
        let counts =
            Confusion::at(&[judged(0.5, true), judged(0.5, false), judged(0.4, true), judged(0.1, false)], 0.5);
        assert_eq!(counts, Confusion { true_positive: 1, false_positive: 1, true_negative: 1, false_negative: 1 });
        assert_eq!(counts.accuracy(), Some(0.5));
        assert_eq!(Confusion::default().sensitivity(), None);
    }

    proptest! {
        /// The rank formula against the definition: counting every pair.
        #[test]
        fn auc_counts_pairs(values in prop::collection::vec((0u8..8, any::<bool>()), 2..40)) {
            let all: Vec<Judged> = values.iter().map(|&(p, anemic)| judged(f64::from(p) / 8.0, anemic)).collect();
            let (mut score, mut pairs) = (0.0, 0.0);
            for a in all.iter().filter(|one| one.anemic) {
                for b in all.iter().filter(|one| !one.anemic) {
                    pairs += 1.0;
                    score += if a.probability > b.probability { 1.0 } else if a.probability == b.probability { 0.5 } else { 0.0 };
                }
            }
            match auc(&all) {
                Some(value) => prop_assert!((value - score / pairs).abs() < 1e-12),
                None => prop_assert_eq!(pairs, 0.0),
            }
        }
    }
}
