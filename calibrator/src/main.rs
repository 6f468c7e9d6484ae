//! `anemia-calibrate`: from an fp32 network to fp16, int8 and int4.

use std::process::ExitCode;

use clap::Parser;

#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    anemia_engine::forbid_telemetry();
    match anemia_calibrator::commands::Arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anemia-calibrate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
