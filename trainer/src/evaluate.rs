//! `anemia-train evaluate`: metrics of a bundle on labelled pictures.

use std::path::PathBuf;

use anemia_bundle::{Bundle, Precision, Task};
use anemia_engine::{Engine, EngineOptions};
use anemia_evaluation::{Confusion, Interval, Judged, auc, bootstrap};
use anemia_vision::{AlphaLocator, CutOut, Frame, Locator, Roi, read_picture};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::dataset::{self, Labelled};

/// Rounds of the bootstrap and its seed: fixed, so that two people get the same interval.
const ROUNDS: usize = 2000;
const SEED: u64 = 0;

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
    /// Which split the fold belongs to
    #[arg(long, value_enum, default_value_t = Protocol::Grouped)]
    protocol: Protocol,
    /// Measure only this fold; without it, all pictures, whether the model was trained on them or not
    #[arg(long)]
    fold: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The two ways of splitting pictures into folds.
#[derive(Clone, Copy, ValueEnum)]
enum Protocol {
    /// As in the paper: copies of one photograph can be in several folds
    Paper,
    /// No photograph is in two folds
    Grouped,
}

#[derive(Serialize)]
struct Report {
    pictures: usize,
    photographs: usize,
    threshold: f64,
    auc: Option<Interval>,
    accuracy: Option<Interval>,
    sensitivity: Option<Interval>,
    specificity: Option<Interval>,
    counts: Confusion,
}

impl Evaluate {
    #[allow(clippy::print_stdout)]
    pub(crate) fn run(&self) -> Result<()> {
        let bundle = Bundle::open(&self.bundle)?;
        bundle.expect_task(Task::Classify)?;
        let point = bundle.model(self.precision)?.operating_point.context("a classifier has an operating point")?;
        let mut engine = anemia_engine::load(&bundle, self.precision, &EngineOptions::default())?;
        let fold_of = |one: &Labelled| match self.protocol {
            Protocol::Paper => one.fold_random,
            Protocol::Grouped => one.fold_grouped,
        };
        let mut pictures = dataset::read(&self.data)?;
        pictures.retain(|one| self.fold.is_none_or(|fold| fold_of(one) == fold));
        ensure!(!pictures.is_empty(), "this fold has no pictures; folds.csv numbers them from 0");

        let judged = judge(&bundle, engine.as_mut(), &pictures)?;
        let threshold = f64::from(point.threshold);
        let interval = |metric: fn(&Confusion) -> Option<f64>| {
            bootstrap(&judged, ROUNDS, SEED, |sample| metric(&Confusion::at(sample, threshold)))
        };
        let mut groups: Vec<_> = judged.iter().map(|one| one.group).collect();
        groups.sort_unstable();
        groups.dedup();
        let report = Report {
            pictures: judged.len(),
            photographs: groups.len(),
            threshold,
            auc: bootstrap(&judged, ROUNDS, SEED, auc),
            accuracy: interval(Confusion::accuracy),
            sensitivity: interval(Confusion::sensitivity),
            specificity: interval(Confusion::specificity),
            counts: Confusion::at(&judged, threshold),
        };
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
            return Ok(());
        }
        println!("{} pictures of {} photographs, threshold {threshold}", report.pictures, report.photographs);
        let rows = [
            ("AUC", report.auc),
            ("accuracy", report.accuracy),
            ("sensitivity", report.sensitivity),
            ("specificity", report.specificity),
        ];
        for (name, interval) in rows {
            match interval {
                Some(Interval { value, low, high }) => println!("{name:<12} {value:.4}  95 % {low:.4} to {high:.4}"),
                None => println!("{name:<12} has no value: one class is missing"),
            }
        }
        Ok(())
    }
}

fn judge(bundle: &Bundle, engine: &mut dyn Engine, pictures: &[Labelled]) -> Result<Vec<Judged>> {
    let (manifest, spec) = (bundle.manifest(), bundle.manifest().input.spec());
    let point = bundle.model(engine.precision())?.operating_point.context("a classifier has an operating point")?;
    let (mut frame, mut roi, mut cutout) = (Frame::default(), Roi::default(), CutOut::new());
    let mut judge = |one: &Labelled| -> Result<Judged> {
        read_picture(&one.picture, &mut frame)?;
        ensure!(AlphaLocator.locate(&frame, &mut roi), "it has no alpha, which marks the conjunctiva");
        cutout.cut(&frame, &roi, spec.width, spec.height);
        spec.write(cutout.pixels(), engine.input());
        let logit = point.calibrate(manifest.output.kind.to_logit(engine.run()?[0]));
        let probability = f64::from(1.0 / (1.0 + (-logit).exp()));
        Ok(Judged { probability, anemic: one.anemic, group: one.photo_group })
    };
    pictures.iter().map(|one| judge(one).with_context(|| format!("{}", one.picture.display()))).collect()
}
