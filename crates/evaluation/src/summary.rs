//! All figures of one set of judged pictures, each with its interval.

use serde::Serialize;

use crate::{Confusion, Interval, Judged, ROUNDS, SEED, auc, bootstrap, calibration_error, log_loss, sensitivity_at};

/// The specificity at which sensitivities are compared.
pub const FIXED_SPECIFICITY: f64 = 0.8;

/// The figures of the paper's Table IV and those that a clinic asks for, with 95 % intervals over photographs.
/// A figure is `None` where it has no value, as the AUC when one class is missing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Number of pictures.
    pub pictures: usize,
    /// Number of different photographs among them.
    pub photographs: usize,
    /// The threshold of accuracy, precision, sensitivity, specificity and F1.
    pub threshold: f64,
    /// Mean binary cross-entropy in nats.
    pub loss: Option<Interval>,
    /// Share of right verdicts.
    pub accuracy: Option<Interval>,
    /// Share of the pictures called anemic that are.
    pub precision: Option<Interval>,
    /// Share of anemic pictures that were found; the paper calls it recall.
    pub sensitivity: Option<Interval>,
    /// Share of non-anemic pictures that were called so.
    pub specificity: Option<Interval>,
    /// Harmonic mean of precision and sensitivity.
    pub f1: Option<Interval>,
    /// Area under the ROC curve.
    pub auc: Option<Interval>,
    /// Sensitivity where the specificity is [`FIXED_SPECIFICITY`].
    pub sensitivity_at_fixed_specificity: Option<Interval>,
    /// Expected calibration error over ten bins.
    pub calibration_error: Option<Interval>,
    /// Verdicts at the threshold.
    pub counts: Confusion,
}

impl Summary {
    /// Measures `judged` with "anemic" from `threshold` on.
    pub fn of(judged: &[Judged], threshold: f64) -> Self {
        let interval =
            |metric: &dyn Fn(&[Judged]) -> Option<f64>| bootstrap(judged, |one| one.group, ROUNDS, SEED, metric);
        let at_threshold =
            |metric: fn(&Confusion) -> Option<f64>| interval(&|sample| metric(&Confusion::at(sample, threshold)));
        let mut groups: Vec<_> = judged.iter().map(|one| one.group).collect();
        groups.sort_unstable();
        groups.dedup();
        Self {
            pictures: judged.len(),
            photographs: groups.len(),
            threshold,
            loss: interval(&log_loss),
            accuracy: at_threshold(Confusion::accuracy),
            precision: at_threshold(Confusion::precision),
            sensitivity: at_threshold(Confusion::sensitivity),
            specificity: at_threshold(Confusion::specificity),
            f1: at_threshold(Confusion::f1),
            auc: interval(&auc),
            sensitivity_at_fixed_specificity: interval(&|sample| sensitivity_at(sample, FIXED_SPECIFICITY)),
            calibration_error: interval(&calibration_error),
            counts: Confusion::at(judged, threshold),
        }
    }

    /// Name and value of every figure, in the order of a table.
    pub fn figures(&self) -> [(&'static str, Option<Interval>); 9] {
        [
            ("loss", self.loss),
            ("accuracy", self.accuracy),
            ("precision", self.precision),
            ("sensitivity", self.sensitivity),
            ("specificity", self.specificity),
            ("F1", self.f1),
            ("AUC", self.auc),
            ("sensitivity at specificity 0.8", self.sensitivity_at_fixed_specificity),
            ("calibration error", self.calibration_error),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_lies_in_its_interval() {
        let one =
            |k: u64| Judged { probability: (k * 7 % 41) as f64 / 41.0, anemic: !k.is_multiple_of(3), group: k / 2 };
        let judged: Vec<_> = (0..120).map(one).collect();
        let summary = Summary::of(&judged, 0.5);
        assert_eq!((summary.pictures, summary.photographs), (120, 60));
        for (name, interval) in summary.figures() {
            let Interval { value, low, high } = interval.unwrap_or_else(|| panic!("{name} has no value"));
            assert!(
                low <= high && (low..=high).contains(&value) || name == "calibration error",
                "{name}: {interval:?}"
            );
        }
        assert_eq!(Summary::of(&[], 0.5).auc, None);
    }
}
