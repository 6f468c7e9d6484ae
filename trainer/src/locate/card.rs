//! How well the locator found what people outlined, and the model card that says so.

use std::path::PathBuf;

use anemia_bundle::{Metric, Training};
use anemia_evaluation::{Interval, ROUNDS, SEED, bootstrap};
use serde::{Deserialize, Serialize};

use super::eyes::{EMPTY, PHANTOMS};
use super::{Locate, SIZE};

/// One row of `overlaps.csv`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Overlap {
    pub(super) image: PathBuf,
    /// Who it shows.
    pub(super) person: u64,
    pub(super) fold: u32,
    pub(super) iou: f64,
}

/// What is told about the overlaps of all held-out pictures.
pub(super) struct Figures {
    /// With a 95 % bootstrap interval over people.
    mean: Interval,
    /// Mean of the worst tenth.
    worst_tenth: f64,
    tenth_percentile: f64,
}

impl Figures {
    /// `None` when there is no picture.
    pub(super) fn of(overlaps: &[Overlap]) -> Option<Self> {
        let mean =
            |all: &[Overlap]| (!all.is_empty()).then(|| all.iter().map(|one| one.iou).sum::<f64>() / all.len() as f64);
        let mut sorted = overlaps.to_vec();
        sorted.sort_by(|a, b| a.iou.total_cmp(&b.iou));
        let tenth = &sorted[..sorted.len().div_ceil(10)];
        Some(Self {
            mean: bootstrap(overlaps, |one| one.person, ROUNDS, SEED, mean)?,
            worst_tenth: mean(tenth)?,
            tenth_percentile: tenth.last()?.iou,
        })
    }

    pub(super) fn line(&self) -> String {
        let Interval { value, low, high } = self.mean;
        format!(
            "mean IoU {value:.3} (95 % {low:.3} to {high:.3}), mean of the worst tenth {:.3}, tenth percentile {:.3}",
            self.worst_tenth, self.tenth_percentile
        )
    }

    pub(super) fn metrics(&self, pictures: usize) -> Vec<Metric> {
        let data = format!("cross-validation by person, {pictures} pictures, each by a network that has not seen it");
        let Interval { value, low, high } = self.mean;
        vec![Metric { name: "mean IoU".into(), data, value, interval: [low, high] }]
    }
}

pub(super) fn card(
    locate: &Locate,
    training: &Training,
    figures: &Figures,
    overlaps: &[Overlap],
    numbers: i64,
) -> String {
    let Interval { value, low, high } = figures.mean;
    let mut worst = overlaps.to_vec();
    worst.sort_by(|a, b| a.iou.total_cmp(&b.iou));
    let worst: Vec<String> =
        worst.iter().take(3).map(|one| format!("{} ({:.2})", one.image.display(), one.iou)).collect();
    format!(
        "# Model card: locator {}\n\nFinds the palpebral conjunctiva in a picture of a whole eye with the lower lid pulled \
         down. It says nothing about anemia.\n\n| | |\n|---|---|\n| what | first five stages of MobileNetV2 with a feature \
         pyramid, {numbers} trained numbers; one logit for each 2×2 pixels |\n| input | the whole picture squeezed to \
         {SIZE}×{SIZE} RGB |\n| trained on | {}, {PHANTOMS} phantoms, and {EMPTY} rendered pictures without a conjunctiva; turned \
         upside down, eyes count as such, too |\n\n## What was measured\n\nOverlap (intersection \
         over union, IoU) with outlines that people drew, at the size of the photograph, in a cross-validation with {} \
         folds: no person is in training and test. The network in this bundle was trained on all of them.\n\n| figure | \
         value |\n|---|---|\n| mean IoU | {:.3} (95 % {low:.3} to {high:.3}) |\n| mean of the worst tenth | {:.3} |\n| tenth \
         percentile | {:.3} |\n\nThe worst: {}.\n\n## Limits\n\n{}\n",
        locate.model_version,
        training.data,
        locate.folds,
        value,
        figures.worst_tenth,
        figures.tenth_percentile,
        worst.join(", "),
        training.limits
    )
}
