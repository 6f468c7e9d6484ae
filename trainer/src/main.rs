//! `anemia-train`: from labelled pictures to a model bundle.

use std::process::ExitCode;

use clap::Parser;

#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    match anemia_trainer::commands::Arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anemia-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}
