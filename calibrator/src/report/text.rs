//! The report as it is printed: the paper's tables and ours.

use anemia_evaluation::{Interval, Summary};

use super::measure::Measured;
use super::paper;
use crate::output::say;

/// A figure with its interval.
fn figure(found: Option<Interval>) -> String {
    found.map_or("–".into(), |Interval { value, low, high }| format!("{value:.4} ({low:.3} to {high:.3})"))
}

/// The columns of the paper's Table IV: loss, accuracy, precision, recall, F1, AUC.
pub(super) fn columns(summary: &Summary) -> [String; 6] {
    [summary.loss, summary.accuracy, summary.precision, summary.sensitivity, summary.f1, summary.auc].map(figure)
}

pub(super) fn print(measured: &Measured) {
    let Measured { run, protocol, size: [width, height], .. } = measured;
    say(format_args!("\n{protocol} protocol, {}, {width}×{height}", run.display()));
    say(
        "Table IV           loss                     accuracy                 precision                recall                   F1                       AUC                      verdicts kept",
    );
    for one in &measured.precisions {
        let cells: String = columns(&one.summary).map(|found| format!("{found:<25}")).concat();
        say(format_args!("{:<19}{cells}{:.4}", one.precision, one.agreement));
    }
    say("Table V              precision          bits  amax of the weights   the paper");
    for layers in &measured.layers {
        for weights in &layers.weights {
            let [low, high] = weights.amax;
            let theirs = paper::amax(&weights.layer, layers.precision);
            let theirs = theirs.map_or(String::new(), |[low, high]| format!("[{low:.4}, {high:.4}]"));
            say(format_args!(
                "{:<21}{:<19}{:<6}[{low:.4}, {high:.4}]      {theirs}",
                weights.layer, layers.precision, weights.bits
            ));
        }
    }
    say("Table VI           MB     of fp32  ms              of fp32  calibrated in");
    let Some(fp32) = measured.precisions.first() else { return };
    for one in &measured.precisions {
        say(format_args!(
            "{:<19}{:<7.2}{:<9.4}{:<6.2} ± {:<7.2}{:<9.2}{:.1} s",
            one.precision,
            one.bytes / 1e6,
            one.bytes / fp32.bytes,
            one.time.median,
            one.time.spread,
            one.time.median / fp32.time.median,
            one.seconds
        ));
    }
}

pub(super) fn print_paper() {
    say("\nthe paper (INT8 and INT4 emulated in floats; one protocol, copies of photographs on both sides)");
    say("            loss   accuracy  precision  recall  F1      AUC     MB     ms");
    for row in paper::ROWS {
        say(format_args!(
            "{:<10}  {:.4} {:.4}    {:.4}     {:.4}  {:.4}  {:.4}  {:<6} {} ± {}",
            row.precision,
            row.loss,
            row.accuracy,
            row.precision_of_anemic,
            row.sensitivity,
            row.f1,
            row.auc,
            row.megabytes,
            row.milliseconds,
            row.spread
        ));
    }
}
