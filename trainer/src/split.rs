//! Which pictures are trained on, which decide when to stop, and which are only measured.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use rand::seq::SliceRandom;
use rand_pcg::Pcg64;

use crate::dataset::Labelled;

/// The share of the training pictures that decides when to stop.
const INNER_SHARE: f64 = 0.15;

/// Refuses folds that cannot be trained or measured: fewer than two, or one with a single class.
pub(crate) fn check_folds(pictures: &[Labelled]) -> Result<BTreeSet<u32>> {
    let mut classes: BTreeMap<u32, [usize; 2]> = BTreeMap::new();
    for one in pictures {
        classes.entry(one.fold).or_default()[usize::from(one.anemic)] += 1;
    }
    ensure!(classes.len() > 1, "the pictures are all in one fold; expected at least two");
    for (fold, [healthy, anemic]) in &classes {
        ensure!(
            *healthy > 0 && *anemic > 0,
            "fold {fold} holds {anemic} anemic and {healthy} non-anemic pictures; expected both kinds in every fold"
        );
    }
    Ok(classes.into_keys().collect())
}

/// Indices of pictures.
#[derive(Debug, PartialEq)]
pub(crate) struct Split {
    pub(crate) train: Vec<usize>,
    pub(crate) validation: Vec<usize>,
    pub(crate) test: Vec<usize>,
}

/// Keeps `fold` for the test, and with `inner` puts a part of the other folds aside for early stopping.
///
/// `whole_photographs` keeps the files of a photograph on one side, as between the folds of the grouped protocol. Both
/// classes are split in the same share.
pub(crate) fn split(pictures: &[Labelled], fold: u32, inner: bool, whole_photographs: bool, seed: u64) -> Split {
    let (test, rest): (Vec<usize>, Vec<usize>) = (0..pictures.len()).partition(|&index| pictures[index].fold == fold);
    if !inner {
        return Split { train: rest, validation: Vec::new(), test };
    }
    let mut units: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for index in rest {
        let unit = if whole_photographs { pictures[index].photo_group } else { index as u64 };
        units.entry(unit).or_default().push(index);
    }
    let mut random = Pcg64::new(u128::from(seed), u128::from(fold));
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for anemic in [false, true] {
        let mut class: Vec<&Vec<usize>> = units.values().filter(|unit| pictures[unit[0]].anemic == anemic).collect();
        class.shuffle(&mut random);
        let wanted = (class.iter().map(|unit| unit.len()).sum::<usize>() as f64 * INNER_SHARE).round() as usize;
        let mut taken = 0;
        for unit in class {
            let target = if taken < wanted { &mut validation } else { &mut train };
            if taken < wanted {
                taken += unit.len();
            }
            target.extend(unit);
        }
    }
    train.sort_unstable();
    validation.sort_unstable();
    Split { train, validation, test }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures() -> Vec<Labelled> {
        let one = |k: u64| Labelled {
            picture: "p".into(),
            path: "p".into(),
            anemic: (k / 3).is_multiple_of(2),
            photo_group: k / 3,
            fold: (k / 3 % 5) as u32,
        };
        (0..300).map(one).collect()
    }

    #[test]
    fn the_three_parts_share_no_picture_and_leave_none_out() {
        for whole in [false, true] {
            let Split { train, validation, test } = split(&pictures(), 2, true, whole, 7);
            let mut all: Vec<_> = [&train[..], &validation[..], &test[..]].concat();
            all.sort_unstable();
            assert_eq!(all, (0..300).collect::<Vec<_>>());
            assert!((30..45).contains(&validation.len()), "{}", validation.len());
            assert_eq!(test.len(), 60);
        }
    }

    #[test]
    fn a_photograph_is_never_on_both_sides_of_a_grouped_split() {
        let Split { train, validation, .. } = split(&pictures(), 0, true, true, 1);
        let groups = |side: &[usize]| side.iter().map(|&k| pictures()[k].photo_group).collect::<Vec<_>>();
        let validation = groups(&validation);
        assert!(groups(&train).iter().all(|group| !validation.contains(group)));
    }

    #[test]
    fn the_same_seed_splits_the_same_way() {
        assert_eq!(split(&pictures(), 1, true, false, 3), split(&pictures(), 1, true, false, 3));
        assert_ne!(split(&pictures(), 1, true, false, 3), split(&pictures(), 1, true, false, 4));
        assert!(split(&pictures(), 1, false, true, 3).validation.is_empty());
    }
}
