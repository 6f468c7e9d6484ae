//! `anemia-train`: from labelled pictures to a model bundle.

mod dataset;
mod evaluate;
mod pack;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "anemia-train", version, about = "Makes and measures the models of anemiad")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put an ONNX network into a model bundle
    Pack(pack::Pack),
    /// Measure a bundle on labelled pictures
    Evaluate(evaluate::Evaluate),
}

#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Pack(pack) => pack.run(),
        Command::Evaluate(evaluate) => evaluate.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anemia-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}
