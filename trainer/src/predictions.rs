//! Out-of-fold predictions: what networks said about pictures of a fold that they were not trained on.

use std::collections::{BTreeSet, HashMap};

use anemia_evaluation::{Judged, Prediction};

/// What somebody would say who only remembers the training pictures: the share of anemic ones among the files of the same
/// photograph in other folds; where there are none, among all files of other folds.
///
/// No tissue is judged in this. A network that is not better than it may have learned nothing but to recognise pictures.
pub(crate) fn remembered(predictions: &[Prediction]) -> Vec<Judged> {
    // Anemic pictures and all pictures: of a photograph, of it within a fold, of a fold, and of everything.
    let (mut photograph, mut within, mut fold) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut everything = Tally::default();
    for one in predictions {
        let places = [
            photograph.entry(one.photo_group).or_default(),
            within.entry((one.photo_group, one.fold)).or_default(),
            fold.entry(one.fold).or_default(),
            &mut everything,
        ];
        for tally in places {
            tally.anemic += usize::from(one.anemic);
            tally.all += 1;
        }
    }
    let remember = |one: &Prediction| {
        let copies = photograph[&one.photo_group].share_without(within[&(one.photo_group, one.fold)]);
        let probability = copies.or_else(|| everything.share_without(fold[&one.fold])).unwrap_or(0.5);
        Judged { probability, anemic: one.anemic, group: one.photo_group }
    };
    predictions.iter().map(remember).collect()
}

/// Whether each picture has a copy in another fold.
pub(crate) fn leaked(predictions: &[Prediction]) -> Vec<bool> {
    let mut folds: HashMap<u64, BTreeSet<u32>> = HashMap::new();
    for one in predictions {
        folds.entry(one.photo_group).or_default().insert(one.fold);
    }
    predictions.iter().map(|one| folds[&one.photo_group].len() > 1).collect()
}

#[derive(Clone, Copy, Default)]
struct Tally {
    anemic: usize,
    all: usize,
}

impl Tally {
    /// The share of anemic pictures among those that are not in `part`; `None` when nothing is left.
    fn share_without(self, part: Self) -> Option<f64> {
        let (anemic, all) = (self.anemic - part.anemic, self.all - part.all);
        (all > 0).then(|| anemic as f64 / all as f64)
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
