//! The command line.

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The arguments of `anemia-train`.
#[derive(Parser)]
#[command(name = "anemia-train", version, about = "Makes and measures the models of anemiad")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find copies and contradictions in a data set, and make folds without leaks
    Audit(crate::audit::Audit),
    /// Train one network for each fold and measure it on what it has not seen
    #[cfg(feature = "torch")]
    Cv(crate::cv::Cv),
    /// Teach the networks of all folds to be rounded
    #[cfg(feature = "torch")]
    Qat(crate::qat::Qat),
    /// Train on everything, fit the operating point, write a bundle
    #[cfg(feature = "torch")]
    Fit(crate::fit::Fit),
    /// Train the network that finds the conjunctiva, write a bundle
    #[cfg(feature = "torch")]
    Locate(crate::locate::Locate),
    /// Put an ONNX network into a model bundle
    Pack(crate::pack::Pack),
    /// Measure a bundle on labelled pictures
    Evaluate(crate::evaluate::Evaluate),
}

impl Arguments {
    /// Does what was asked for.
    pub fn run(&self) -> Result<()> {
        match &self.command {
            Command::Audit(audit) => audit.run(),
            #[cfg(feature = "torch")]
            Command::Cv(cv) => cv.run(),
            #[cfg(feature = "torch")]
            Command::Qat(qat) => qat.run(),
            #[cfg(feature = "torch")]
            Command::Fit(fit) => fit.run(),
            #[cfg(feature = "torch")]
            Command::Locate(locate) => locate.run(),
            Command::Pack(pack) => pack.run(),
            Command::Evaluate(evaluate) => evaluate.run(),
        }
    }
}
