//! `anemia-train pack`: an ONNX network becomes a bundle.

use std::path::{Path, PathBuf};

use anemia_bundle::{Input, OperatingPoint, Output, OutputKind, Task};
use anyhow::{Context, Result};
use clap::Args;

use crate::bundle::{self, Content};
use crate::output::say;

/// Puts an ONNX classifier into a bundle, with a self-test made from phantoms.
#[derive(Args)]
pub(crate) struct Pack {
    /// The network: input 1×3×height×width in RGB planes, output the probability of anemia
    #[arg(long)]
    onnx: PathBuf,
    /// Text file that becomes the model card, card.md
    #[arg(long)]
    card: PathBuf,
    /// YAML file with the `training` section of the manifest
    #[arg(long)]
    training: PathBuf,
    /// Name of the model
    #[arg(long, default_value = "pallor")]
    name: String,
    /// Version of the model
    #[arg(long)]
    model_version: String,
    /// Name of the network's input
    #[arg(long, default_value = "image")]
    input: String,
    /// Name of the network's output
    #[arg(long, default_value = "probability")]
    output: String,
    /// Width and height of the input in pixels
    #[arg(long, default_value_t = 224, value_parser = clap::value_parser!(u32).range(8..=4096))]
    size: u32,
    /// Probability from which a picture counts as anemic
    #[arg(long, default_value_t = 0.5)]
    threshold: f32,
    /// Lower end of the indeterminate band
    #[arg(long, default_value_t = 0.4)]
    indeterminate_from: f32,
    /// Upper end of the indeterminate band
    #[arg(long, default_value_t = 0.6)]
    indeterminate_to: f32,
    /// Folder of the new bundle; it must not exist yet
    #[arg(long)]
    out: PathBuf,
}

impl Pack {
    pub(crate) fn run(&self) -> Result<()> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("{}", path.display()));
        let (network, card) = (read(&self.onnx)?, read(&self.card)?);
        let training = bundle::read_training(&self.training)?;
        let operating_point = OperatingPoint {
            threshold: self.threshold,
            indeterminate: [self.indeterminate_from, self.indeterminate_to],
            temperature: 1.0,
        };
        let content = Content {
            name: self.name.clone(),
            version: self.model_version.clone(),
            task: Task::Classify,
            input: Input {
                name: self.input.clone(),
                width: self.size,
                height: self.size,
                mean: [0.5; 3],
                std: [0.5; 3],
                rim: 0,
                smooth: 0.0,
            },
            output: Output { name: self.output.clone(), kind: OutputKind::Probability },
            operating_point: Some(operating_point),
            metrics: Vec::new(),
            training,
            network,
            card,
        };
        bundle::write(&self.out, content)?;
        say(format_args!("{}: {} {} packed", self.out.display(), self.name, self.model_version));
        Ok(())
    }
}
