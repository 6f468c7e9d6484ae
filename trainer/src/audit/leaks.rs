//! What copies on both sides of a split were worth to the networks that were measured with it.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anemia_evaluation::{Confusion, Judged, Prediction, ROUNDS, SEED, auc, bootstrap};
use anyhow::{Context, Result};

use crate::files::read_rows;
use crate::predictions::{leaked, remembered};

/// The AUC of `predictions` on all pictures, on those without a copy in another fold, and on those with one.
///
/// `groups` are the photographs that the audit found, by path. Intervals are over these photographs.
pub(super) fn tell(predictions: &Path, groups: &HashMap<PathBuf, usize>) -> Result<String> {
    let mut rows: Vec<Prediction> =
        read_rows(predictions)?.with_context(|| format!("{}: there is no such file", predictions.display()))?;
    for one in &mut rows {
        let found = groups
            .get(&one.path)
            .with_context(|| format!("{}: {} is not in this data set", predictions.display(), one.path.display()))?;
        one.photo_group = *found as u64;
    }
    let mut parts: [Vec<Judged>; 2] = Default::default();
    for (one, leaked) in rows.iter().zip(leaked(&rows)) {
        parts[usize::from(leaked)].push(one.judged());
    }
    let [clean, leaked] = &parts;
    let mut text = format!("{} of {} pictures have a copy in another fold\n", leaked.len(), rows.len());
    let all = parts.concat();
    for (name, part) in [("all pictures", &all), ("those without such a copy", clean), ("those with one", leaked)] {
        let figure = match bootstrap(part, |one| one.group, ROUNDS, SEED, auc) {
            Some(found) => found.to_string(),
            None => "has no value: one class is missing".into(),
        };
        let _ = writeln!(text, "  AUC of {name:<26} {figure}");
    }
    if !leaked.is_empty() {
        let memory = remembered(&rows);
        let counts = Confusion::at(&memory, 0.5);
        let number = |value: Option<f64>| value.map_or("none".into(), |value| format!("{value:.4}"));
        let _ = writeln!(
            text,
            "  answering with the labels of copies in other folds, without looking at any tissue: accuracy {}, F1 {}, AUC {}",
            number(counts.accuracy()),
            number(counts.f1()),
            number(auc(&memory))
        );
    }
    Ok(text)
}
