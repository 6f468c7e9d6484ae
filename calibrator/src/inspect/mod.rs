//! `anemia-calibrate inspect`: what a network is made of, and whether TensorRT takes it.

mod graph;
mod layers;
mod rules;

use std::path::PathBuf;

use anemia_onnx::label;
use anyhow::{Context, Result};
use clap::Args;

use crate::output::say;
use graph::Graph;
use layers::Layer;
use rules::{Effect, Finding};

/// Lists the layers of an ONNX network that carry weights, and checks it against the rules of TensorRT 8.2 and 8.5.
#[derive(Args)]
pub(crate) struct Inspect {
    /// The network
    model: PathBuf,
}

impl Inspect {
    pub(crate) fn run(&self) -> Result<()> {
        let model = anemia_onnx::read(&self.model)?;
        let graph = Graph::of(&model, model.graph.as_ref().context("the model has no graph")?);
        let layers = layers::layers(&graph, &model);
        let rows = layers.iter().map(row).collect::<Vec<_>>();
        print(&["layer", "", "bits", "bytes", "amax", "reads", "weights", "result", "MACs"].map(str::to_owned), &rows);
        let bytes: usize = layers.iter().map(|layer| layer.bytes).sum();
        let macs: i64 = layers.iter().filter_map(|layer| layer.macs).fold(0, i64::saturating_add);
        say(format_args!(
            "{} nodes of operator set {}, {} layers with {bytes} bytes, {:.1} million MACs for one picture",
            graph.nodes.len(),
            graph.opset,
            layers.len(),
            macs as f64 / 1e6
        ));
        rules(&graph);
        Ok(())
    }
}

fn row(layer: &Layer<'_>) -> [String; 9] {
    let product = |shape: &[i64]| shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×");
    let known = |text: Option<String>| text.unwrap_or_else(|| "?".into());
    [
        label(layer.node).to_owned(),
        layer.node.op_type().to_owned(),
        layer.bits.to_string(),
        layer.bytes.to_string(),
        known(layer.amax.map(|amax| format!("{amax:.3}"))),
        layer.reads.map_or("floats".into(), |[low, high]| format!("{low:.3} to {high:.3}")),
        product(&layer.weights),
        known(layer.result.as_deref().map(product)),
        known(layer.macs.map(|macs| macs.to_string())),
    ]
}

/// A table whose columns are as wide as they must be.
fn print<const N: usize>(titles: &[String; N], rows: &[[String; N]]) {
    let rows = || std::iter::once(titles).chain(rows);
    let widths: [usize; N] = std::array::from_fn(|at| rows().map(|row| row[at].chars().count()).max().unwrap_or(0));
    for row in rows() {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        say(cells.join("  ").trim_end());
    }
}

/// Nodes with one fault that are named.
const NAMES: usize = 4;

fn rules(graph: &Graph<'_>) {
    if !graph.nodes.iter().any(|node| matches!(node.op_type(), "QuantizeLinear" | "DequantizeLinear")) {
        say("TensorRT: nothing is rounded, no rule to check");
        return;
    }
    let findings = rules::check(graph);
    // What many nodes do wrong in the same way is one line.
    let mut told: Vec<(Effect, &str, &str)> = Vec::new();
    for Finding { operator, effect, text, .. } in &findings {
        if told.contains(&(*effect, operator, text)) {
            continue;
        }
        told.push((*effect, operator, text));
        let alike =
            findings.iter().filter(|other| (other.effect, &other.operator, &other.text) == (*effect, operator, text));
        let names: Vec<&str> = alike.map(|finding| finding.node.as_str()).collect();
        let who = match effect {
            Effect::Refused => "TensorRT 8 refuses",
            Effect::RefusedBy82 => "TensorRT 8.2 refuses",
            Effect::Slower => "TensorRT 8 is slower at",
        };
        let shown = names.len().min(NAMES);
        let more = if names.len() > shown { format!(" and {} more", names.len() - shown) } else { String::new() };
        say(format_args!("{who} {operator} {}{more}: {text}", names[..shown].join(", ")));
    }
    let count = |effects: &[Effect]| findings.iter().filter(|finding| effects.contains(&finding.effect)).count();
    for (version, effects) in [("8.2", &[Effect::Refused, Effect::RefusedBy82][..]), ("8.5", &[Effect::Refused])] {
        match count(effects) {
            0 => say(format_args!("TensorRT {version}: the network follows its rules for Q/DQ")),
            count => say(format_args!("TensorRT {version}: {count} faults")),
        }
    }
}
