//! Which pictures are trained on, which decide when to stop, and which are only measured.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use rand::seq::SliceRandom;
use rand_pcg::Pcg64;

use crate::dataset::{Labelled, Protocol};

/// The share of the training pictures that decides when to stop.
const INNER_SHARE: f64 = 0.15;

/// Refuses folds that cannot be trained or measured: fewer than two, one with a single class, and, with any protocol but that of
/// the paper, a photograph in two folds: its answers would be remembered, and reported as judged.
pub(crate) fn check_folds(pictures: &[Labelled], protocol: &Protocol) -> Result<BTreeSet<u32>> {
    let mut classes: BTreeMap<u32, [usize; 2]> = BTreeMap::new();
    let mut homes: BTreeMap<u64, u32> = BTreeMap::new();
    for one in pictures {
        classes.entry(one.fold).or_default()[usize::from(one.anemic)] += 1;
        let home = *homes.entry(one.photo_group).or_insert(one.fold);
        ensure!(
            home == one.fold || *protocol == Protocol::Paper,
            "{}: photograph {} is in folds {home} and {}; expected each in one fold, as in `fold_grouped` (`--protocol paper` \
             is for folds of files)",
            one.path.display(),
            one.photo_group,
            one.fold
        );
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

impl Split {
    /// Refuses one of which nothing could be learned, or nothing told about when to stop.
    pub(crate) fn check_inner(&self, pictures: &[Labelled]) -> Result<()> {
        for (side, what) in [(&self.train, "are trained on"), (&self.validation, "decide when to stop")] {
            let anemic = side.iter().filter(|&&index| pictures[index].anemic).count();
            ensure!(
                anemic > 0 && anemic < side.len(),
                "of the pictures that {what} {anemic} are anemic and {} not; expected both kinds: give more photographs, or leave \
                 `patience` out of the recipe",
                side.len() - anemic
            );
        }
        Ok(())
    }
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
    fn a_photograph_in_two_folds_is_refused_but_by_the_protocol_of_the_paper() {
        let mut pictures = pictures();
        check_folds(&pictures, &Protocol::Grouped).unwrap();
        pictures[0].fold = 1;
        for protocol in [Protocol::Grouped, Protocol::File("mine.csv".into())] {
            let error = check_folds(&pictures, &protocol).unwrap_err().to_string();
            assert!(error.contains("photograph 0 is in folds 1 and 0"), "{error}");
        }
        check_folds(&pictures, &Protocol::Paper).unwrap();
    }

    #[test]
    fn too_few_photographs_to_tell_when_to_stop_are_refused() {
        let mut pictures = pictures();
        split(&pictures, 2, true, true, 7).check_inner(&pictures).unwrap();
        // One photograph of the anemic is left outside fold 2.
        pictures.retain(|one| !one.anemic || one.fold == 2 || one.photo_group == 0);
        let error = split(&pictures, 2, true, true, 7).check_inner(&pictures).unwrap_err().to_string();
        assert!(error.contains("expected both kinds"), "{error}");
    }

    #[test]
    fn the_same_seed_splits_the_same_way() {
        assert_eq!(split(&pictures(), 1, true, false, 3), split(&pictures(), 1, true, false, 3));
        assert_ne!(split(&pictures(), 1, true, false, 3), split(&pictures(), 1, true, false, 4));
        assert!(split(&pictures(), 1, false, true, 3).validation.is_empty());
    }
}
