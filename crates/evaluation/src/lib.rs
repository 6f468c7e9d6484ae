//! Metrics of a classifier, with confidence intervals that respect which pictures belong together, and plots of them.

mod bootstrap;
mod calibration;
mod metrics;
mod plot;
mod prediction;
mod roc;
mod summary;

pub use bootstrap::{Interval, ROUNDS, SEED, bootstrap};
pub use calibration::{ReliabilityBin, calibration_error, fit_temperature, log_loss, reliability, scale};
pub use metrics::{Confusion, auc};
pub use plot::{Line, plot};
pub use prediction::Prediction;
pub use roc::{RocPoint, roc, sensitivity_at, threshold_for};
pub use summary::{FIXED_SPECIFICITY, Summary};

/// One judged picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Probability of anemia, 0 to 1.
    pub probability: f64,
    /// The label.
    pub anemic: bool,
    /// Pictures of the same group show the same photograph, and are drawn together.
    pub group: u64,
}
