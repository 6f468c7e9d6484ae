//! What leaves the daemon: results and state, as JSON. docs/reference holds their schemas, made from these types.

use anemia_bundle::{Precision, Verdict};
use anemia_vision::Rejection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::exam::Outcome;
use crate::pipeline::Pipeline;

/// Version of the result's fields. It grows when a field changes its meaning or goes away.
pub const RESULT_VERSION: u32 = 1;

/// Said with every result.
pub const NOTICE: &str = "Screening aid, not a diagnosis.";

/// The result of one exam, as published on `anemia/<device_id>/result`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExamResult {
    /// Version of these fields; 1.
    pub schema: u32,
    /// Identifies the exam (UUIDv7, RFC 9562). A receiver that sees it again drops the repeat.
    pub id: Uuid,
    /// The kiosk.
    pub device_id: String,
    /// When the exam ended, by the kiosk's clock, in UTC (RFC 3339).
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub finished_at: jiff::Timestamp,
    /// What the person is told.
    pub verdict: Verdict,
    /// Calibrated probability of anemia, 0 to 1; null for "retake".
    pub probability: Option<f32>,
    /// How far the frames disagree, in logits (median absolute deviation); null for "retake".
    pub disagreement: Option<f32>,
    /// Why the exam must be repeated; null for every other verdict.
    pub reason: Option<Rejection>,
    /// What to do next, in words.
    pub advice: String,
    /// Frames that were used and rejected.
    pub frames: FrameCounts,
    /// Seconds from the first frame of the exam to its end.
    pub duration_s: f32,
    /// What judged.
    pub model: ModelIdentity,
    /// The network that is to find the conjunctiva; null where the configuration names another way.
    pub locator: Option<LocatorIdentity>,
    /// What this result is not.
    pub notice: String,
}

/// Frames of one exam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FrameCounts {
    /// Good frames, which made the result.
    pub good: u32,
    /// Rejected frames.
    pub rejected: u32,
}

/// The model behind a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelIdentity {
    /// Name of the bundle.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its manifest, which names the hash of the network and holds threshold, band and temperature.
    pub sha256: String,
    /// Number format of the network.
    pub precision: Precision,
    /// What runs it.
    pub engine: String,
    /// Ages in months that the model was trained for, from and to.
    pub age_months: [u32; 2],
}

impl ModelIdentity {
    /// What is said while nothing but the number format is known.
    pub fn unknown(precision: Precision) -> Self {
        Self {
            name: String::new(),
            version: String::new(),
            sha256: String::new(),
            precision,
            engine: String::new(),
            age_months: [0; 2],
        }
    }
}

/// The network that found the conjunctiva.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocatorIdentity {
    /// Name of the bundle.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its manifest.
    pub sha256: String,
}

impl ExamResult {
    /// The result of an exam that ended just now.
    pub fn new(outcome: &Outcome, device_id: &str, pipeline: &Pipeline) -> Self {
        Self {
            schema: RESULT_VERSION,
            id: Uuid::now_v7(),
            device_id: device_id.to_owned(),
            finished_at: jiff::Timestamp::now(),
            verdict: outcome.verdict,
            probability: outcome.probability,
            disagreement: outcome.disagreement,
            reason: outcome.reason,
            advice: advice(outcome).to_owned(),
            frames: FrameCounts { good: outcome.good, rejected: outcome.rejected },
            duration_s: outcome.duration.as_secs_f32(),
            model: pipeline.identity().clone(),
            locator: pipeline.locator().cloned(),
            notice: NOTICE.to_owned(),
        }
    }
}

fn advice(outcome: &Outcome) -> &'static str {
    match (outcome.verdict, outcome.reason) {
        (Verdict::Anemic | Verdict::Indeterminate, _) => "confirm with a blood test",
        (Verdict::NonAnemic, _) => "no sign of anemia in the colour; test anyway if there are other signs",
        (Verdict::Retake, Some(reason)) => reason.words().1,
        (Verdict::Retake, None) => "repeat the exam",
    }
}

/// The JSON Schema of a message, as docs/reference holds it.
pub fn schema_of<T: JsonSchema>() -> String {
    let schema = schemars::schema_for!(T);
    // A schema is plain JSON: turning it into text cannot fail.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
