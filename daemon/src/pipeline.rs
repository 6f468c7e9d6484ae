//! From a frame to a number: locate, quality gate, cut-out, inference.
//!
//! `anemiad run` and `anemiad analyze` both go through [`Pipeline::analyse`]. Once warm it allocates nothing.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anemia_bundle::{Bundle, OperatingPoint, OutputKind, Task, Verdict};
use anemia_engine::{Engine, EngineError, EngineOptions, Follow};
use anemia_vision::{CutOut, Frame, GateThresholds, InputSpec, Quality, Rejection, Roi};

use crate::config::{self, WantedPrecision};
use crate::locator::{Finder, NotFound};
use crate::models;
use crate::report::{LocatorIdentity, ModelIdentity};

/// What a pipeline is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Folder of the classifier's bundle.
    pub bundle: PathBuf,
    /// Number format of its network.
    pub precision: WantedPrecision,
    /// What runs networks.
    pub options: EngineOptions,
    /// How the conjunctiva is found.
    pub roi: config::Roi,
    /// The network that finds it, for [`config::Roi::Auto`].
    pub locator: config::Locator,
    /// The quality gate.
    pub limits: GateThresholds,
}

impl Default for Parts {
    /// The models that ship, and the gate of a kiosk.
    fn default() -> Self {
        Self {
            bundle: models::shipped_classifier(),
            precision: WantedPrecision::default(),
            options: EngineOptions::default(),
            roi: config::Roi::default(),
            locator: config::Locator::default(),
            limits: config::Quality::default().thresholds(),
        }
    }
}

/// The stages, the networks and the memory that they work in.
pub struct Pipeline {
    finder: Finder,
    /// When the last frame was taken.
    last: Option<Instant>,
    limits: GateThresholds,
    engine: Box<dyn Engine>,
    input: InputSpec,
    output: OutputKind,
    point: OperatingPoint,
    roi: Roi,
    cutout: CutOut,
    identity: ModelIdentity,
}

/// What was found in one frame.
#[derive(Debug)]
pub struct Analysis {
    /// Measured on the tissue; all zero when none was found.
    pub quality: Quality,
    /// The calibrated logit, or why there is none.
    pub outcome: Result<f32, Rejection>,
    /// What an engine said, when it failed; the outcome can be good where another way leads to it.
    pub failure: Option<EngineError>,
    /// Where the time went.
    pub times: StageTimes,
}

/// Time spent in each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Finding the conjunctiva.
    pub locate: Duration,
    /// Measuring the quality.
    pub quality: Duration,
    /// Making the cut-out and writing it into the network's input.
    pub cutout: Duration,
    /// Running the network.
    pub inference: Duration,
}

impl StageTimes {
    /// The sum of all stages.
    pub fn total(&self) -> Duration {
        self.locate + self.quality + self.cutout + self.inference
    }
}

impl Pipeline {
    /// Opens the bundles, loads their networks and proves them with their self-tests, which also warms them up. `follow` is
    /// told how far the build of a plan is, and stops it with `false`.
    pub fn open(parts: &Parts, follow: &mut Follow<'_>) -> Result<Self, EngineError> {
        let options = &parts.options;
        let bundle = Bundle::open_for(&parts.bundle, Task::Classify)?;
        let finder = Finder::open(parts.roi, &parts.locator, options, follow)?;
        let engine = match parts.precision.fixed() {
            Some(precision) => {
                let mut engine = anemia_engine::load_following(&bundle, precision, options, follow)?;
                anemia_engine::self_test(&bundle, engine.as_mut())?;
                engine
            }
            None => anemia_engine::load_fastest(&bundle, options, follow)?,
        };
        let (precision, manifest) = (engine.precision(), bundle.manifest());
        let point = bundle.model(precision)?.operating_point.expect("an opened classifier has an operating point");
        Ok(Self {
            finder,
            last: None,
            limits: parts.limits,
            input: manifest.input.spec(),
            output: manifest.output.kind,
            point,
            roi: Roi::default(),
            cutout: CutOut::new(),
            identity: ModelIdentity {
                name: manifest.name.clone(),
                version: manifest.version.clone(),
                sha256: bundle.sha256().to_string(),
                precision,
                engine: engine.name().to_owned(),
                age_months: manifest.training.age_months,
            },
            engine,
        })
    }

    /// Takes one frame, which the camera took at `at`, through all stages; a stage that rejects it ends the way.
    pub fn analyse(&mut self, frame: &Frame, at: Instant) -> Analysis {
        let since = self.last.replace(at).map_or(Duration::ZERO, |last| at.saturating_duration_since(last));
        let mut times = StageTimes::default();
        let mut quality = Quality::default();
        let mut failure = None;
        let outcome = self.stages(frame, since, &mut quality, &mut times).map_err(|stop| match stop {
            Stop::Rejected(reason) => reason,
            Stop::Failed(error) => {
                failure = Some(error);
                Rejection::EngineFailed
            }
        });
        Analysis { quality, outcome, failure: failure.or_else(|| self.finder.take_fault()), times }
    }

    fn stages(
        &mut self,
        frame: &Frame,
        since: Duration,
        quality: &mut Quality,
        times: &mut StageTimes,
    ) -> Result<f32, Stop> {
        let mut watch = StopWatch(Instant::now());
        let found = self.finder.find(frame, &mut self.roi);
        times.locate = watch.lap();
        let moved = found.map_err(|not_found| match not_found {
            NotFound::Rejected(reason) => Stop::Rejected(reason),
            NotFound::Failed(error) => Stop::Failed(error),
        })?;
        // Two frames at the same moment are no measure of speed.
        let motion = moved / since.as_secs_f32().max(0.001);
        *quality = Quality { motion, ..Quality::measure(frame, &self.roi) };
        times.quality = watch.lap();
        if let Some(reason) = quality.rejection(&self.limits) {
            return Err(Stop::Rejected(reason));
        }
        self.cutout.cut_for(&self.input, frame, &self.roi);
        // Also where the gate is open to every picture: a network that looks at tissue has none to look at.
        if !self.cutout.has_tissue() {
            return Err(Stop::Rejected(Rejection::TooDark));
        }
        self.input.write(self.cutout.pixels(), self.engine.input());
        times.cutout = watch.lap();
        let output = self.engine.run().map(|values| values[0]);
        times.inference = watch.lap();
        output.map(|value| self.point.calibrate(self.output.to_logit(value))).map_err(Stop::Failed)
    }

    /// The next frame has nothing to do with the last: it is another picture, not the next one of a camera.
    pub fn forget(&mut self) {
        self.last = None;
        self.finder.forget();
    }

    /// The ROI of the last frame; empty when none was found.
    pub fn roi(&self) -> &Roi {
        &self.roi
    }

    /// The cut-out of the last frame that passed the gate.
    pub fn cutout(&self) -> &CutOut {
        &self.cutout
    }

    /// What every result says about the model.
    pub fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    /// The bundle of the network that finds the conjunctiva; `None` where no network does.
    pub fn locator(&self) -> Option<&LocatorIdentity> {
        self.finder.identity()
    }

    /// How logits become verdicts.
    pub fn operating_point(&self) -> OperatingPoint {
        self.point
    }
}

enum Stop {
    Rejected(Rejection),
    Failed(EngineError),
}

struct StopWatch(Instant);

impl StopWatch {
    /// The time since the last lap.
    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }
}

/// The probability of a calibrated logit.
pub fn probability(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

impl Analysis {
    /// Verdict and probability of this frame alone.
    pub fn verdict(&self, point: &OperatingPoint) -> (Verdict, Option<f32>) {
        match self.outcome {
            Ok(logit) => (point.verdict(logit, 0.0), Some(probability(logit))),
            Err(_) => (Verdict::Retake, None),
        }
    }
}
