//! Metrics of a classifier, with confidence intervals that respect which pictures belong together.

mod bootstrap;
mod metrics;

pub use bootstrap::{Interval, bootstrap};
pub use metrics::{Confusion, auc};

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
