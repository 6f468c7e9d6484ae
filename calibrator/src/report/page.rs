//! The report as a web page.

use std::path::Path;

use anemia_evaluation::{Line, plot};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::layers::Layers;
use super::measure::{Figures, Measured};
use super::paper;
use super::text::columns;

/// Flips that are shown with their picture, of each precision.
const SHOWN: usize = 12;
/// Values whose ranges are plotted, of each precision: those that add most noise.
const RANGES: usize = 4;
const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;margin:1rem 0;font-size:.9rem}td,th{padding:.2rem .6rem;border-bottom:1px solid #ccc;\
text-align:right}td:first-child,th:first-child{text-align:left}figure{display:inline-block;margin:.5rem;font-size:.8rem;\
text-align:center}img{height:6rem}pre{background:#f4f4f4;padding:1rem}.warning{border-left:.4rem solid #d55e00;padding-left:1rem}";

pub(super) fn page(all: &[Measured], recipe: &str, pictures: u32, data: &Path) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "What quantization costs" } style { (PreEscaped(STYLE)) } }
            body {
                h1 { "What quantization costs" }
                p {
                    "Every picture is judged by a network that was not trained on its fold and was calibrated with "
                    (pictures) " pictures that it was trained on. Intervals are 95 % bootstrap intervals over photographs. "
                    "Verdict at probability 0.5. Ran in ONNX Runtime on this machine, not on a board."
                }
                @if all.len() == 1 {
                    p.warning { "This is one protocol alone. Give a run of the paper's and one of the grouped protocol." }
                }
                @for one in all { (protocol(one, data)) }
                h2 { "The paper" }
                p { "INT8 and INT4 were emulated in floats; copies of photographs were on both sides of its split." }
                table {
                    tr { @for name in ["", "loss", "accuracy", "precision", "recall", "F1", "AUC", "MB", "ms"] { th { (name) } } }
                    @for row in paper::ROWS {
                        tr {
                            td { (row.precision) } td { (row.loss) } td { (row.accuracy) } td { (row.precision_of_anemic) }
                            td { (row.sensitivity) } td { (row.f1) } td { (row.auc) } td { (row.megabytes) }
                            td { (row.milliseconds) " ± " (row.spread) }
                        }
                    }
                }
                h2 { "Recipe" }
                pre { (recipe) }
            }
        }
    }
}

fn protocol(measured: &Measured, data: &Path) -> Markup {
    let lines: Vec<Line> = measured.layers.iter().map(Layers::noise).collect();
    let points = lines.iter().flat_map(|line| &line.points);
    let (last, low, high) =
        points.fold((1f64, 0f64, 1f64), |(last, low, high), (x, y)| (last.max(*x), low.min(*y), high.max(*y)));
    html! {
        h2 { (measured.protocol) " protocol" }
        p { (measured.run.display()) ", " (measured.size[0]) "×" (measured.size[1]) " pixels" }
        (table_four(&measured.precisions))
        (table_six(&measured.precisions))
        h3 { "Noise by layer" }
        p {
            "The network of the first fold on its calibration pictures: power of the fp32 value by that of what is lost up to "
            "there, in dB. The last point is the logit."
        }
        (PreEscaped(plot("signal to quantization noise", ["value", "dB"], 0.0..last, low..high * 1.05, &lines)))
        (table_five(&measured.layers))
        h3 { "Weights" }
        @for layers in &measured.layers { @for weights in &layers.weights {
            (distribution(&format!("{}, {}, {} bits", weights.layer, layers.precision, weights.bits), "weight", &weights.plot))
        } }
        h3 { "Ranges" }
        p { "The values with most noise among those that become integers, before and after rounding." }
        @for layers in &measured.layers { @for (name, lines) in noisiest(layers) {
            (distribution(&format!("{name}, {}", layers.precision), "value", lines))
        } }
        h3 { "Verdicts that changed" }
        @for one in &measured.precisions { @if !one.flips.is_empty() { (flips(one, data)) } }
    }
}

fn table_four(precisions: &[Figures]) -> Markup {
    html! {
        table {
            tr { @for name in ["Table IV", "loss", "accuracy", "precision", "recall", "F1", "AUC", "verdicts kept"] { th { (name) } } }
            @for one in precisions {
                tr {
                    td { (one.precision) }
                    @for found in columns(&one.summary) { td { (found) } }
                    td { (format!("{:.4}", one.agreement)) }
                }
            }
        }
    }
}

fn table_six(precisions: &[Figures]) -> Markup {
    let Some(fp32) = precisions.first() else { return html! {} };
    html! {
        table {
            tr { @for name in ["Table VI", "MB", "of fp32", "ms on one core", "of fp32", "calibrated in"] { th { (name) } } }
            @for one in precisions {
                tr {
                    td { (one.precision) }
                    td { (format!("{:.3}", one.bytes / 1e6)) }
                    td { (format!("{:.4}", one.bytes / fp32.bytes)) }
                    td { (format!("{:.2} ± {:.2}", one.time.median, one.time.spread)) }
                    td { (format!("{:.2}", one.time.median / fp32.time.median)) }
                    td { (format!("{:.1} s", one.seconds)) }
                }
            }
        }
    }
}

fn table_five(layers: &[Layers]) -> Markup {
    let range = |[low, high]: [f64; 2]| format!("[{low:.4}, {high:.4}]");
    html! {
        table {
            tr { @for name in ["Table V", "precision", "bits", "amax of the weights", "the paper"] { th { (name) } } }
            @for one in layers { @for weights in &one.weights {
                @let theirs = paper::amax(&weights.layer, one.precision);
                tr {
                    td { (weights.layer) } td { (one.precision) } td { (weights.bits) }
                    td { (range(weights.amax.map(f64::from))) }
                    td { (theirs.map_or(String::new(), range)) }
                }
            } }
        }
    }
}

/// The values that become integers and lose most against the one before.
fn noisiest(layers: &Layers) -> Vec<(&str, &[Line; 2])> {
    let mut found: Vec<(f64, &str, &[Line; 2])> = layers
        .values
        .iter()
        .skip(1)
        .filter_map(|value| {
            let lost = value.before - value.sqnr;
            Some((lost, value.name.as_str(), value.plot.as_ref()?))
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.into_iter().take(RANGES).map(|(_, name, lines)| (name, lines)).collect()
}

/// Shares on a logarithmic scale.
fn distribution(title: &str, axis: &str, lines: &[Line; 2]) -> Markup {
    let points = || lines.iter().flat_map(|line| &line.points);
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        points().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)))
    };
    let ((left, right), (bottom, top)) = (bounds(|point| point.0), bounds(|point| point.1));
    PreEscaped(plot(title, [axis, "log₁₀ of the share"], left..right, bottom..top, lines))
}

fn flips(one: &Figures, data: &Path) -> Markup {
    html! {
        h4 { (one.precision) ": " (one.flips.len()) " of " (one.summary.pictures) }
        @for flip in one.flips.iter().take(SHOWN) {
            figure {
                img src=(data.join(&flip.path).display()) alt=(flip.path.display());
                figcaption {
                    (flip.path.display()) br;
                    @if flip.anemic { "anemic" } @else { "not anemic" }
                    (format!(", {:.3} → {:.3}", flip.fp32, flip.now))
                }
            }
        }
        @if one.flips.len() > SHOWN { p { (one.flips.len() - SHOWN) " more in the JSON" } }
    }
}
