//! Out-of-fold predictions: what networks said about pictures of a fold that they were not trained on.

use std::path::PathBuf;

use anemia_evaluation::Judged;
use serde::{Deserialize, Serialize};

/// One row of `predictions.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Prediction {
    pub(crate) path: PathBuf,
    pub(crate) anemic: bool,
    pub(crate) photo_group: u64,
    pub(crate) fold: u32,
    pub(crate) logit: f32,
}

/// What somebody would say who only remembers the training pictures: the share of anemic ones among the files of the same
/// photograph in other folds; where there are none, among all files of other folds.
///
/// No tissue is judged in this. A network that is not better than it may have learned nothing but to recognise pictures.
pub(crate) fn remembered(predictions: &[Prediction]) -> Vec<Judged> {
    let share = |of: &dyn Fn(&Prediction) -> bool| {
        let labels: Vec<bool> = predictions.iter().filter(|one| of(one)).map(|one| one.anemic).collect();
        let anemic = labels.iter().filter(|anemic| **anemic).count();
        (!labels.is_empty()).then(|| anemic as f64 / labels.len() as f64)
    };
    let remember = |one: &Prediction| {
        let copies = share(&|other| other.photo_group == one.photo_group && other.fold != one.fold);
        let probability = copies.or_else(|| share(&|other| other.fold != one.fold)).unwrap_or(0.5);
        Judged { probability, anemic: one.anemic, group: one.photo_group }
    };
    predictions.iter().map(remember).collect()
}

impl Prediction {
    /// What the network said, as a probability.
    pub(crate) fn judged(&self) -> Judged {
        let probability = 1.0 / (1.0 + (-f64::from(self.logit)).exp());
        Judged { probability, anemic: self.anemic, group: self.photo_group }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_in_another_fold_is_remembered_and_one_in_the_same_fold_is_not() {
        let one = |photo_group: u64, fold: u32, anemic: bool| Prediction {
            path: "p".into(),
            anemic,
            photo_group,
            fold,
            logit: 0.0,
        };
        let all = [one(1, 0, true), one(1, 1, false), one(1, 1, true), one(2, 0, false), one(2, 0, false)];
        let found: Vec<f64> = remembered(&all).iter().map(|one| one.probability).collect();
        assert_eq!(found, [0.5, 1.0, 1.0, 0.5, 0.5]);
    }
}
