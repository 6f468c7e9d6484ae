//! Splitting pictures into folds.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;

/// Folds of both protocols.
pub(super) const FOLDS: usize = 5;

/// A fold for each picture: every class is dealt out evenly and at random, whatever photograph a file shows.
pub(super) fn random(anemic: &[bool], seed: u64) -> Vec<u32> {
    let mut random = Pcg64::seed_from_u64(seed);
    let mut folds = vec![0; anemic.len()];
    let mut next = 0;
    for class in [true, false] {
        let mut members: Vec<usize> = (0..anemic.len()).filter(|&index| anemic[index] == class).collect();
        members.shuffle(&mut random);
        for index in members {
            folds[index] = (next % FOLDS) as u32;
            next += 1;
        }
    }
    folds
}

/// A fold for each picture: all pictures of a group get the same one, and the classes are as even as that allows.
///
/// Large groups are placed first, each where it leaves the folds most alike; among groups of one size, at random.
pub(super) fn grouped(anemic: &[bool], groups: &[usize], seed: u64) -> Vec<u32> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, &group) in groups.iter().enumerate() {
        members.entry(group).or_default().push(index);
    }
    let mut order: Vec<&Vec<usize>> = members.values().collect();
    order.shuffle(&mut Pcg64::seed_from_u64(seed));
    order.sort_by_key(|group| std::cmp::Reverse(group.len()));
    let mut counts = [[0.0f64; 2]; FOLDS];
    let mut folds = vec![0; anemic.len()];
    for group in order {
        let positive = group.iter().filter(|&&index| anemic[index]).count() as f64;
        let adds = [group.len() as f64 - positive, positive];
        // The squares are least when every class is spread evenly.
        let cost = |fold: usize| -> f64 {
            counts[fold].iter().zip(adds).map(|(count, add)| (count + add).powi(2) - count.powi(2)).sum()
        };
        let best = (0..FOLDS).min_by(|&a, &b| cost(a).total_cmp(&cost(b))).unwrap_or(0);
        counts[best].iter_mut().zip(adds).for_each(|(count, add)| *count += add);
        group.iter().for_each(|&index| folds[index] = best as u32);
    }
    folds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_even_and_groups_stay_together() {
        let anemic: Vec<bool> = (0..400).map(|k| (k / 4) % 3 != 0).collect();
        let groups: Vec<usize> = (0..400).map(|k| k / 4).collect();
        for folds in [random(&anemic, 1), grouped(&anemic, &groups, 1)] {
            for fold in 0..FOLDS as u32 {
                let of_fold = || (0..400).filter(|&k| folds[k] == fold);
                let positive = of_fold().filter(|&k| anemic[k]).count();
                assert!((76..=84).contains(&of_fold().count()) && (48..=58).contains(&positive), "{positive}");
            }
        }
        let folds = grouped(&anemic, &groups, 1);
        assert!((0..400).all(|k| folds[k] == folds[k / 4 * 4]));
    }
}
