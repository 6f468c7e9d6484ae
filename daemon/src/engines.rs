//! `anemiad engine`: building, listing and measuring the engines of a model.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Instant;

use anemia_bundle::{Bundle, Precision};
use anemia_engine::{Building, EngineOptions, kept_plans, load_following, measure, self_test};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::config::{self, EngineKind, Model, TensorRt, WantedPrecision};
use crate::models;
use crate::output::say;
use crate::service::Refusal;

/// Build, list and measure the engines of a model
#[derive(Args)]
pub struct Engines {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the plans of a model, so that the next start does not have to
    Build(Choice),
    /// List the plans that are kept
    List(List),
    /// Measure how long one inference takes at each precision
    Bench(Bench),
}

/// Which model, and what runs it.
#[derive(Args)]
struct Choice {
    /// The configuration file; without it, and where there is none, the model that ships with the program
    #[arg(long, default_value = config::FILE)]
    config: PathBuf,
    /// Folder of the model bundle, instead of model.bundle of the configuration
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// What runs the network, instead of model.engine of the configuration
    #[arg(long)]
    engine: Option<EngineKind>,
    /// The precisions; without it, every one that the bundle has and the board can run
    #[arg(long, value_delimiter = ',')]
    precision: Vec<Precision>,
}

#[derive(Args)]
struct List {
    /// The configuration file, whose model.tensorrt.cache is looked into
    #[arg(long, default_value = config::FILE)]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Bench {
    #[command(flatten)]
    choice: Choice,
    /// Inferences that are measured, after some that are not
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What one precision takes.
#[derive(Serialize)]
struct Row {
    precision: Precision,
    engine: String,
    /// Seconds until the network was ready, with the build of a plan where there was none.
    ready_s: f64,
    median_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
}

impl Engines {
    /// Does what was asked for.
    pub fn run(&self) -> Result<(), Refusal> {
        match &self.command {
            Command::Build(choice) => choice.build(),
            Command::List(list) => list.run(),
            Command::Bench(bench) => bench.run(),
        }
    }
}

/// The model of a configuration; where the usual file is not there, what ships with the program.
fn model_of(file: &Path) -> Result<Model, Refusal> {
    if file == Path::new(config::FILE) && !file.exists() {
        return Ok(Model {
            bundle: models::shipped_classifier(),
            engine: EngineKind::default(),
            precision: WantedPrecision::default(),
            threads: 1,
            onnxruntime: None,
            tensorrt: TensorRt::default(),
            updates: None,
        });
    }
    let config = config::load(file).map_err(|error| Refusal::Configuration(error.to_string()))?;
    config.check_installed().map_err(Refusal::Failure)?;
    Ok(Model { bundle: config.classifier(), ..config.model })
}

impl Choice {
    fn model(&self) -> Result<Model, Refusal> {
        let mut model = model_of(&self.config)?;
        if let Some(bundle) = &self.bundle {
            model.bundle.clone_from(bundle);
        }
        if let Some(engine) = self.engine {
            model.engine = engine;
        }
        Ok(model)
    }

    fn open(&self) -> Result<(Bundle, EngineOptions, Vec<Precision>), Refusal> {
        let model = self.model()?;
        let refuse = |error: anemia_bundle::BundleError| Refusal::Configuration(error.to_string());
        let (bundle, options) = (Bundle::open(&model.bundle).map_err(refuse)?, model.engine_options());
        let mut precisions = self.precision.clone();
        for &precision in &precisions {
            anemia_engine::check(&bundle, Some(precision), &options)?;
        }
        if precisions.is_empty() {
            anemia_engine::check(&bundle, None, &options)?;
            precisions.extend(bundle.manifest().models.iter().map(|model| model.precision));
            precisions.retain(|&precision| match anemia_engine::check(&bundle, Some(precision), &options) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!("{precision} is left out: {error}");
                    false
                }
            });
        }
        Ok((bundle, options, precisions))
    }

    fn build(&self) -> Result<(), Refusal> {
        let (bundle, options, precisions) = self.open()?;
        if options.tensorrt.is_none() {
            return Err(Refusal::Configuration(
                "model.engine is onnxruntime, which needs no plans; set it to tensorrt, or give --engine tensorrt"
                    .into(),
            ));
        }
        for precision in precisions {
            let start = Instant::now();
            let mut engine = load_following(&bundle, precision, &options, &mut follow)?;
            self_test(&bundle, engine.as_mut())?;
            say(format_args!("{precision}: {} is ready after {:.1} s", engine.name(), start.elapsed().as_secs_f64()));
        }
        Ok(())
    }
}

impl List {
    fn run(&self) -> Result<(), Refusal> {
        let Model { engine, tensorrt: TensorRt { cache, .. }, .. } = model_of(&self.config)?;
        let plans = match kept_plans(&cache) {
            Ok(plans) => plans,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Refusal::Failure(format!("{}: {error}", cache.display()))),
        };
        if self.json {
            return print_json(&plans);
        }
        if plans.is_empty() {
            let how = match engine {
                EngineKind::Tensorrt => "`anemiad engine build` makes them",
                EngineKind::Onnxruntime => "ONNX Runtime, which the configuration names, needs none",
            };
            say(format_args!("{}: no plans; {how}", cache.display()));
        }
        for plan in plans {
            let (key, megabytes) = (&plan.key, plan.bytes as f64 / 1e6);
            say(format_args!(
                "{:<20} {:<5} {}, {}, {megabytes:.1} MB, built in {:.1} s{}",
                plan.model,
                key.precision,
                key.tensorrt,
                key.board,
                plan.seconds,
                plan.refused.map_or(String::new(), |refusal| format!("; WRONG: {}", refusal.cause))
            ));
        }
        Ok(())
    }
}

impl Bench {
    fn run(&self) -> Result<(), Refusal> {
        let (bundle, options, precisions) = self.choice.open()?;
        let mut rows = Vec::new();
        for precision in precisions {
            let start = Instant::now();
            let mut engine = load_following(&bundle, precision, &options, &mut follow)?;
            // It is slow and right, or it is nothing. It also fills the input with a picture.
            self_test(&bundle, engine.as_mut())?;
            let ready_s = start.elapsed().as_secs_f64();
            let found = measure(engine.as_mut(), self.runs as usize)?;
            let [median_ms, p95_ms, p99_ms] = [found.median, found.p95, found.p99].map(|time| time.as_secs_f64() * 1e3);
            rows.push(Row { precision, engine: engine.name().to_owned(), ready_s, median_ms, p95_ms, p99_ms });
        }
        if self.json {
            return print_json(&rows);
        }
        say("precision  median ms   p95 ms   p99 ms  ready after s  engine");
        for row in rows {
            say(format_args!(
                "{:<10} {:>9.3} {:>8.3} {:>8.3} {:>14.1}  {}",
                row.precision.to_string(),
                row.median_ms,
                row.p95_ms,
                row.p99_ms,
                row.ready_s,
                row.engine
            ));
        }
        Ok(())
    }
}

/// Shows how far a build is.
#[allow(clippy::print_stderr)]
pub(crate) fn follow(building: Building<'_>) -> bool {
    static WAITING: Once = Once::new();
    match building {
        // Told every half second, and said once.
        Building::Waiting => WAITING.call_once(|| eprintln!("another process builds a plan; waiting for it")),
        Building::Started(precision) => eprintln!("building the {precision} plan, which takes minutes on a board"),
        Building::Step { phase, step, steps, .. } => eprintln!("{phase}: {step} of {steps}"),
        Building::Ended(_) => {}
    }
    true
}

fn print_json(rows: &impl Serialize) -> Result<(), Refusal> {
    say(serde_json::to_string_pretty(rows).map_err(|error| Refusal::Failure(error.to_string()))?);
    Ok(())
}
