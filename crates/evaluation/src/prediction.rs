//! What a cross-validation leaves of each picture.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Judged;

/// One row of `predictions.csv`: what a network said about a picture of a fold that it was not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Path of the picture in the data set.
    pub path: PathBuf,
    /// The label.
    pub anemic: bool,
    /// Pictures of one group show one photograph.
    pub photo_group: u64,
    /// The fold that the picture belongs to.
    pub fold: u32,
    /// What the network of that fold said.
    pub logit: f32,
}

impl Prediction {
    /// The same as a probability.
    pub fn judged(&self) -> Judged {
        let probability = 1.0 / (1.0 + (-f64::from(self.logit)).exp());
        Judged { probability, anemic: self.anemic, group: self.photo_group }
    }
}
