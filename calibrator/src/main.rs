//! `anemia-calibrate`: what a network is made of. Quantizing is not there yet.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "anemia-calibrate", version, about = "Looks at the networks of anemiad")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the layers of an ONNX network that carry weights: format, shape, bytes
    Inspect {
        /// The network
        model: PathBuf,
    },
}

#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    let Command::Inspect { model } = Arguments::parse().command;
    match inspect(&model) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anemia-calibrate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout)]
fn inspect(path: &Path) -> Result<()> {
    let model = anemia_onnx::read(path)?;
    let graph = model.graph.as_ref().context("the model has no graph")?;
    let layers = anemia_onnx::layers(graph);
    println!("{:<10} {:<8} {:>10}  {:<20} name", "operator", "format", "bytes", "shape");
    for layer in &layers {
        let shape = layer.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×");
        println!("{:<10} {:<8} {:>10}  {shape:<20} {}", layer.operator, layer.format, layer.bytes, layer.name);
    }
    let bytes: u64 = layers.iter().map(|layer| layer.bytes).sum();
    println!("{} nodes, {} with weights, {bytes} bytes of weights", graph.node.len(), layers.len());
    Ok(())
}
