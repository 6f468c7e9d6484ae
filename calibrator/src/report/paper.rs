//! What the paper says of its own network, to be printed beside ours.

use serde::Serialize;

/// One row of the paper's tables IV and VI. INT8 and INT4 were emulated in floats.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Row {
    pub(super) precision: &'static str,
    pub(super) loss: f64,
    pub(super) accuracy: f64,
    pub(super) precision_of_anemic: f64,
    pub(super) sensitivity: f64,
    pub(super) f1: f64,
    pub(super) auc: f64,
    pub(super) megabytes: f64,
    pub(super) milliseconds: f64,
    pub(super) spread: f64,
}

const fn row(precision: &'static str, metrics: [f64; 6], [megabytes, milliseconds, spread]: [f64; 3]) -> Row {
    let [loss, accuracy, precision_of_anemic, sensitivity, f1, auc] = metrics;
    Row { precision, loss, accuracy, precision_of_anemic, sensitivity, f1, auc, megabytes, milliseconds, spread }
}

/// Tables IV and VI.
pub(super) const ROWS: [Row; 4] = [
    row("fp32", [0.2141, 0.9313, 0.9374, 0.9500, 0.9428, 0.9657], [9.13, 48.6, 0.235]),
    row("fp16", [0.2149, 0.9250, 0.9370, 0.9400, 0.9377, 0.9654], [4.61, 37.4, 1.01]),
    row("int8", [0.7441, 0.7125, 0.7697, 0.7519, 0.7607, 0.9005], [9.24, 91.9, 1.92]),
    row("int4", [2.3136, 0.4313, 0.2000, 0.0100, 0.0196, 0.6387], [17.75, 49.5, 1.34]),
];

/// Table V: layer, precision, least and greatest amax of its weights.
pub(super) const AMAX: [(&str, &str, [f64; 2]); 6] = [
    ("features.0.0", "int8", [0.0039, 1.4840]),
    ("features.1.conv.0.0", "int8", [0.0036, 2.6928]),
    ("features.10.conv.1.0", "int8", [0.0103, 0.6126]),
    ("features.0.0", "int4", [0.0005, 1.4840]),
    ("features.1.conv.0.0", "int4", [0.0014, 2.6928]),
    ("features.10.conv.1.0", "int4", [0.0035, 0.5219]),
];

/// What Table V says of a layer at a precision.
pub(super) fn amax(layer: &str, precision: &str) -> Option<[f64; 2]> {
    let found = AMAX.iter().find(|(name, kind, _)| (*name, *kind) == (layer, precision));
    found.map(|(.., range)| *range)
}
