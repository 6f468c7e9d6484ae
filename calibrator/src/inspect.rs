//! `anemia-calibrate inspect`: what a network is made of.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::output::say;

/// Lists the layers of an ONNX network that carry weights: format, shape, bytes.
#[derive(Args)]
pub(crate) struct Inspect {
    /// The network
    model: PathBuf,
}

impl Inspect {
    pub(crate) fn run(&self) -> Result<()> {
        let model = anemia_onnx::read(&self.model)?;
        let graph = model.graph.as_ref().context("the model has no graph")?;
        let layers = anemia_onnx::layers(graph);
        say(format_args!("{:<16} {:<8} {:>10}  {:<20} name", "operator", "format", "bytes", "shape"));
        for layer in &layers {
            let shape = layer.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×");
            say(format_args!(
                "{:<16} {:<8} {:>10}  {shape:<20} {}",
                layer.operator, layer.format, layer.bytes, layer.name
            ));
        }
        let bytes: u64 = layers.iter().map(|layer| layer.bytes).sum();
        say(format_args!("{} nodes, {} with weights, {bytes} bytes of weights", graph.node.len(), layers.len()));
        Ok(())
    }
}
