//! `anemia-train evaluate`: metrics of a bundle on labelled pictures.

use std::path::PathBuf;

use anemia_bundle::{Bundle, Precision, Task};
use anemia_engine::{Engine, EngineOptions};
use anemia_evaluation::{Judged, Summary};
use anemia_vision::{CutOut, Frame, Roi};
use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::dataset::{self, Labelled, Protocol};
use crate::output::say;

/// Measures a bundle on labelled pictures.
#[derive(Args)]
pub(crate) struct Evaluate {
    /// The bundle
    #[arg(long)]
    bundle: PathBuf,
    /// Folder with the pictures and folds.csv
    #[arg(long)]
    data: PathBuf,
    /// The precision to measure
    #[arg(long, default_value = "fp32")]
    precision: Precision,
    /// Which split the fold belongs to: `paper`, `grouped`, or a file with the columns path, remark, photo_group and fold
    #[arg(long, default_value = "grouped")]
    protocol: Protocol,
    /// Measure only this fold; without it, all pictures, whether the model was trained on them or not
    #[arg(long)]
    fold: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Evaluate {
    pub(crate) fn run(&self) -> Result<()> {
        let bundle = Bundle::open_for(&self.bundle, Task::Classify)?;
        let point = bundle.model(self.precision)?.operating_point.context("a classifier has an operating point")?;
        let mut engine = anemia_engine::load(&bundle, self.precision, &EngineOptions::default())?;
        let mut pictures = dataset::read(&self.data, &self.protocol)?;
        pictures.retain(|one| self.fold.is_none_or(|fold| one.fold == fold));
        ensure!(!pictures.is_empty(), "this fold has no pictures; folds.csv numbers them from 0");

        let judged = judge(&bundle, engine.as_mut(), &pictures)?;
        let summary = Summary::of(&judged, f64::from(point.threshold));
        if self.json {
            say(serde_json::to_string(&summary)?);
            return Ok(());
        }
        let Summary { pictures, photographs, threshold, .. } = summary;
        say(format_args!("{pictures} pictures of {photographs} photographs, threshold {threshold}"));
        for (name, interval) in summary.figures() {
            match interval {
                Some(found) => say(format_args!("{name:<31} {found}")),
                None => say(format_args!("{name:<31} has no value: one class is missing")),
            }
        }
        Ok(())
    }
}

fn judge(bundle: &Bundle, engine: &mut dyn Engine, pictures: &[Labelled]) -> Result<Vec<Judged>> {
    let (manifest, spec) = (bundle.manifest(), bundle.manifest().input.spec());
    let point = bundle.model(engine.precision())?.operating_point.context("a classifier has an operating point")?;
    let (mut frame, mut roi, mut cutout) = (Frame::default(), Roi::default(), CutOut::new());
    let judge = |one: &Labelled| -> Result<Judged> {
        dataset::cut_out(&one.picture, &spec, &mut frame, &mut roi, &mut cutout)?;
        spec.write(cutout.pixels(), engine.input());
        let logit = point.calibrate(manifest.output.kind.to_logit(engine.run()?[0]));
        let probability = f64::from(1.0 / (1.0 + (-logit).exp()));
        Ok(Judged { probability, anemic: one.anemic, group: one.photo_group })
    };
    pictures.iter().map(judge).collect()
}
