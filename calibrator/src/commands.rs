//! The command line.

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The arguments of `anemia-calibrate`.
#[derive(Parser)]
#[command(name = "anemia-calibrate", version, about = "Quantizes the networks of anemiad and proves what that costs")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make fp16, int8 and int4 networks from the fp32 network of a bundle
    Quantize(crate::command_quantize::Quantize),
    /// Quantize the networks of cross-validations and measure them on what they have not seen
    Report(crate::report::Report),
    /// List the layers of an ONNX network that carry weights: format, shape, bytes
    Inspect(crate::inspect::Inspect),
}

impl Arguments {
    /// Does what was asked for.
    pub fn run(&self) -> Result<()> {
        match &self.command {
            Command::Quantize(quantize) => quantize.run(),
            Command::Report(report) => report.run(),
            Command::Inspect(inspect) => inspect.run(),
        }
    }
}
