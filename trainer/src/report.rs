//! The report of a cross-validation: one HTML file that needs no other.

use std::path::Path;

use anemia_evaluation::{Confusion, Interval, Judged, Line, Prediction, Summary, plot, reliability, roc};
use anemia_vision::{CutOut, Frame, Roi, write_png};
use anyhow::{Context, Result};
use base64::Engine;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::dataset;
use crate::files::{read_rows, write_text};
use crate::predictions::{leaked, remembered};
use crate::torch::Epoch;

/// Examples of errors that are shown, of each kind.
const EXAMPLES: usize = 6;
const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .7rem;border-bottom:1px solid #ccc;text-align:right}\
td:first-child,th:first-child{text-align:left}figure{display:inline-block;margin:.5rem;text-align:center}\
.warning{border-left:.4rem solid #d55e00;padding-left:1rem}pre{background:#f4f4f4;padding:1rem;overflow:auto}";

/// Everything that a report shows.
pub(crate) struct Report<'a> {
    pub(crate) title: String,
    /// What the reader has to know before the figures.
    pub(crate) warning: &'a str,
    /// The settings of the run, as YAML.
    pub(crate) settings: String,
    pub(crate) predictions: &'a [Prediction],
    /// Names and folders of the single trainings, each with its `epochs.csv`.
    pub(crate) trainings: Vec<(String, std::path::PathBuf)>,
    /// Where the pictures are.
    pub(crate) data: &'a Path,
}

impl Report<'_> {
    /// Writes `report.html` and `report.json` into `folder`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let judged: Vec<Judged> = self.predictions.iter().map(Prediction::judged).collect();
        let pooled = Summary::of(&judged, 0.5);
        let mut folds: Vec<u32> = self.predictions.iter().map(|one| one.fold).collect();
        folds.sort_unstable();
        folds.dedup();
        let by_fold: Vec<(u32, Summary)> = folds
            .into_iter()
            .map(|fold| {
                let of_fold = self.predictions.iter().filter(|one| one.fold == fold).map(Prediction::judged);
                (fold, Summary::of(&of_fold.collect::<Vec<_>>(), 0.5))
            })
            .collect();
        let leaks = leaked(self.predictions).contains(&true);
        let memory = leaks.then(|| Summary::of(&remembered(self.predictions), 0.5));
        let json = serde_json::json!({
            "pooled": pooled,
            "memory": memory,
            "folds": by_fold.iter().map(|(fold, summary)| serde_json::json!({"fold": fold, "summary": summary})).collect::<Vec<_>>(),
        });
        write_text(&folder.join("report.json"), &serde_json::to_string_pretty(&json)?)?;
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head { meta charset="utf-8"; title { (self.title) } style { (PreEscaped(STYLE)) } }
                body {
                    h1 { (self.title) }
                    p.warning { (self.warning) }
                    h2 { "Figures" }
                    p {
                        (pooled.pictures) " pictures of " (pooled.photographs) " photographs, each judged by a network that "
                        "was not trained on its fold. Intervals are 95 % bootstrap intervals over photographs. Threshold 0.5."
                    }
                    (figures(&pooled, &by_fold, memory.as_ref()))
                    @if memory.is_some() {
                        p {
                            "The column “memory” is what somebody would reach who only remembers: the label of a copy of "
                            "the photograph in another fold, and otherwise how many pictures are anemic. No tissue is "
                            "judged in it. A figure that is not above it may come from recognising pictures alone."
                        }
                    }
                    h2 { "Confusion, all folds" }
                    (confusion(&pooled.counts))
                    h2 { "Curves" }
                    (PreEscaped(roc_plot(&judged, &pooled)))
                    (PreEscaped(reliability_plot(&judged)))
                    h2 { "Training" }
                    @for (name, folder) in &self.trainings { (PreEscaped(training_plots(name, folder)?)) }
                    h2 { "Errors" }
                    (self.errors(true, "Anemic, and called non-anemic with most certainty")?)
                    (self.errors(false, "Not anemic, and called anemic with most certainty")?)
                    h2 { "Settings" }
                    pre { (self.settings) }
                }
            }
        };
        write_text(&folder.join("report.html"), &page.into_string())
    }

    fn errors(&self, anemic: bool, title: &str) -> Result<Markup> {
        let mut wrong: Vec<&Prediction> =
            self.predictions.iter().filter(|one| one.anemic == anemic && (one.logit >= 0.0) != anemic).collect();
        wrong.sort_by(|a, b| b.logit.abs().total_cmp(&a.logit.abs()));
        // Copies of one photograph show the same mistake.
        let mut seen = std::collections::BTreeSet::new();
        wrong.retain(|one| seen.insert(one.photo_group));
        let shown = wrong.iter().take(EXAMPLES).map(|one| {
            let picture = thumbnail(&self.data.join(&one.path))?;
            let caption = format!("{}, {:.2}", one.path.display(), one.judged().probability);
            Ok(html! { figure { img src=(picture) width="160" height="80" alt=(caption); figcaption { (caption) } } })
        });
        let shown = shown.collect::<Result<Vec<_>>>()?;
        Ok(html! { h3 { (title) } @for one in shown { (one) } })
    }
}

fn figures(pooled: &Summary, by_fold: &[(u32, Summary)], memory: Option<&Summary>) -> Markup {
    let text = |found: Option<Interval>| match found {
        Some(Interval { value, low, high }) => format!("{value:.4} ({low:.4} to {high:.4})"),
        None => "–".into(),
    };
    let short = |found: Option<Interval>| found.map_or("–".into(), |found| format!("{:.4}", found.value));
    html! {
        table {
            tr { th { "" } th { "pooled" } @if memory.is_some() { th { "memory" } } @for (fold, _) in by_fold { th { "fold " (fold) } } }
            @for (row, (name, value)) in pooled.figures().into_iter().enumerate() {
                tr {
                    td { (name) } td { (text(value)) }
                    @if let Some(memory) = memory { td { (short(memory.figures()[row].1)) } }
                    @for (_, summary) in by_fold { td { (short(summary.figures()[row].1)) } }
                }
            }
        }
    }
}

fn confusion(counts: &Confusion) -> Markup {
    html! {
        table {
            tr { th { "" } th { "called anemic" } th { "called non-anemic" } }
            tr { td { "anemic" } td { (counts.true_positive) } td { (counts.false_negative) } }
            tr { td { "non-anemic" } td { (counts.false_positive) } td { (counts.true_negative) } }
        }
    }
}

fn roc_plot(judged: &[Judged], pooled: &Summary) -> String {
    let points = roc(judged).iter().map(|point| (1.0 - point.specificity, point.sensitivity)).collect();
    let name = pooled.auc.map_or("ROC".into(), |area| format!("AUC {:.3}", area.value));
    let lines = [Line::diagonal(), Line::new(name, points)];
    plot("ROC", ["1 − specificity", "sensitivity"], 0.0..1.0, 0.0..1.0, &lines)
}

fn reliability_plot(judged: &[Judged]) -> String {
    let bins = reliability(judged, 10);
    let points = bins.iter().filter(|bin| bin.pictures > 0).map(|bin| (bin.probability, bin.anemic)).collect();
    let lines = [Line::diagonal(), Line::new("measured", points)];
    plot("Reliability", ["probability", "share that is anemic"], 0.0..1.0, 0.0..1.0, &lines)
}

/// Loss and accuracy, training and inner validation, as in the paper's Figure 3.
fn training_plots(name: &str, folder: &Path) -> Result<String> {
    let rows: Vec<Epoch> = read_rows(&folder.join("epochs.csv"))?.unwrap_or_default();
    let last = rows.len().max(2) as f64;
    let line = |title: &str, value: &dyn Fn(&Epoch) -> Option<f64>| {
        Line::new(title, rows.iter().filter_map(|row| Some((f64::from(row.epoch), value(row)?))).collect())
    };
    let losses = [line("training", &|row| Some(row.loss)), line("validation", &|row| row.validation_loss)];
    let top = losses.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.1, f64::max) * 1.05;
    let shares = [
        line("training accuracy", &|row| row.accuracy),
        line("validation accuracy", &|row| row.validation_accuracy),
        line("validation F1", &|row| row.validation_f1),
        line("validation AUC", &|row| row.validation_auc),
    ];
    let drawn = |lines: &[Line]| lines.iter().filter(|line| !line.points.is_empty()).cloned().collect::<Vec<_>>();
    Ok(plot(&format!("{name}: loss"), ["epoch", "loss"], 1.0..last, 0.0..top, &drawn(&losses))
        + &plot(&format!("{name}: shares"), ["epoch", ""], 1.0..last, 0.0..1.0, &drawn(&shares)))
}

/// A cut-out of 160 × 80 pixels as a data URL.
fn thumbnail(picture: &Path) -> Result<String> {
    let (mut frame, mut roi, mut cutout) = (Frame::default(), Roi::default(), CutOut::new());
    dataset::read_cutout(picture, &mut frame, &mut roi)?;
    cutout.cut(&frame, &roi, 160, 80);
    let work = tempfile::tempdir()?;
    let file = work.path().join("thumbnail.png");
    write_png(&file, 160, 80, cutout.pixels()).context("a thumbnail cannot be written")?;
    let bytes = std::fs::read(&file)?;
    Ok(format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes)))
}
