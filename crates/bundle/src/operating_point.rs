//! From the number of a network to a verdict.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a probability becomes a verdict.
///
/// The logit is divided by `temperature` first (temperature scaling, Guo et al. 2017, "On Calibration of Modern
/// Neural Networks"). A calibrated probability from `indeterminate[0]` up to but not including `indeterminate[1]`
/// is indeterminate; below it is non-anemic, from there on anemic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatingPoint {
    /// The probability that separates the classes when a yes or no is forced, as in the tables of metrics.
    pub threshold: f32,
    /// The band around the threshold in which the answer is "confirm with a blood test".
    pub indeterminate: [f32; 2],
    /// Divides the logit, 0.01 to 100; 1 leaves it as it is.
    pub temperature: f32,
}

/// What a person is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The colour of the tissue suggests anemia: confirm with a blood test.
    Anemic,
    /// The colour does not suggest anemia.
    NonAnemic,
    /// The picture is good and the answer is not clear: confirm with a blood test.
    Indeterminate,
    /// No picture was good enough: take it again.
    Retake,
}

impl Verdict {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Anemic, Self::NonAnemic, Self::Indeterminate, Self::Retake];

    /// The verdict as it is written in JSON and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anemic => "anemic",
            Self::NonAnemic => "non_anemic",
            Self::Indeterminate => "indeterminate",
            Self::Retake => "retake",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(self.as_str())
    }
}

impl OperatingPoint {
    /// The calibrated logit of a raw one.
    pub fn calibrate(&self, logit: f32) -> f32 {
        logit / self.temperature
    }

    /// The same for a network whose logits are `temperature` times as large.
    pub fn cooled(self, temperature: f32) -> Self {
        Self { temperature: self.temperature * temperature, ..self }
    }

    /// The verdict for a calibrated logit.
    ///
    /// `disagreement`, in logits and 0 for a single frame, widens the indeterminate band on both sides.
    pub fn verdict(&self, logit: f32, disagreement: f32) -> Verdict {
        let [low, high] = self.indeterminate.map(logit_of);
        if logit < low - disagreement {
            Verdict::NonAnemic
        } else if logit >= high + disagreement {
            Verdict::Anemic
        } else {
            Verdict::Indeterminate
        }
    }

    pub(crate) fn is_valid(&self) -> bool {
        let [low, high] = self.indeterminate;
        low > 0.0
            && low <= self.threshold
            && self.threshold <= high
            && high < 1.0
            && (0.01..=100.0).contains(&self.temperature)
    }
}

/// ln(p / (1 − p)), kept finite for probabilities that were rounded to 0 or 1.
pub(crate) fn logit_of(probability: f32) -> f32 {
    let p = probability.clamp(1e-7, 1.0 - 1e-7);
    (p / (1.0 - p)).ln()
}

impl super::OutputKind {
    /// The logit of a raw network output.
    pub fn to_logit(self, output: f32) -> f32 {
        match self {
            Self::Probability => logit_of(output),
            Self::Logit => output,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OutputKind;

    const POINT: OperatingPoint = OperatingPoint { threshold: 0.5, indeterminate: [0.4, 0.6], temperature: 2.0 };

    fn verdict(probability: f32, disagreement: f32) -> Verdict {
        POINT.verdict(logit_of(probability), disagreement)
    }

    #[test]
    fn the_band_is_indeterminate_and_its_upper_end_is_anemic() {
        assert_eq!(verdict(0.399, 0.0), Verdict::NonAnemic);
        assert_eq!(verdict(0.401, 0.0), Verdict::Indeterminate);
        assert_eq!(verdict(0.599, 0.0), Verdict::Indeterminate);
        assert_eq!(verdict(0.6, 0.0), Verdict::Anemic);
    }

    #[test]
    fn frames_that_disagree_widen_the_band() {
        assert_eq!(verdict(0.7, 0.0), Verdict::Anemic);
        assert_eq!(verdict(0.7, 1.0), Verdict::Indeterminate);
        assert_eq!(verdict(0.3, 1.0), Verdict::Indeterminate);
    }

    #[test]
    fn certain_probabilities_have_finite_logits() {
        assert!(OutputKind::Probability.to_logit(1.0).is_finite());
        assert!(OutputKind::Probability.to_logit(0.0).is_finite());
        assert_eq!(OutputKind::Logit.to_logit(3.5), 3.5);
        assert_eq!(POINT.calibrate(3.0), 1.5);
    }
}
