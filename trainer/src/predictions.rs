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

impl Prediction {
    /// What the network said, as a probability.
    pub(crate) fn judged(&self) -> Judged {
        let probability = 1.0 / (1.0 + (-f64::from(self.logit)).exp());
        Judged { probability, anemic: self.anemic, group: self.photo_group }
    }
}
