//! From a frame to a number: locate, quality gate, cut-out, inference.
//!
//! `anemiad run` and `anemiad analyze` both go through [`Pipeline::analyse`]. Once warm it allocates nothing.

use std::time::{Duration, Instant};

use anemia_bundle::{Bundle, OperatingPoint, OutputKind, Task, Verdict};
use anemia_engine::{Engine, EngineError, EngineOptions, Follow};
use anemia_vision::{
    AlphaLocator, BoxLocator, ColourLocator, CutOut, Frame, GateThresholds, InputSpec, Locator, Quality, Rejection, Roi,
};

use crate::config::{self, WantedPrecision};
use crate::report::ModelIdentity;

/// The stages, the network and the memory that they work in.
pub struct Pipeline {
    locator: Box<dyn Locator>,
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
    /// What the engine said, when it failed.
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
    /// Opens the bundle, loads its network and proves it with the bundle's self-test, which also warms it up. `follow` is told
    /// how far the build of a plan is, and stops it with `false`.
    pub fn open(
        bundle: &std::path::Path,
        precision: WantedPrecision,
        options: &EngineOptions,
        roi: config::Roi,
        limits: GateThresholds,
        follow: &mut Follow<'_>,
    ) -> Result<Self, EngineError> {
        let bundle = Bundle::open(bundle)?;
        bundle.expect_task(Task::Classify)?;
        let engine = match precision.fixed() {
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
            locator: match roi {
                config::Roi::Auto => Box::new(ColourLocator::new()),
                config::Roi::Alpha => Box::new(AlphaLocator),
                config::Roi::Box(edges) => {
                    let [x, y, width, height] = edges.map(|edge| edge as usize);
                    Box::new(BoxLocator { x, y, width, height })
                }
            },
            limits,
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

    /// Takes one frame through all stages; a stage that rejects it ends the way.
    pub fn analyse(&mut self, frame: &Frame) -> Analysis {
        let mut times = StageTimes::default();
        let mut quality = Quality::default();
        let mut failure = None;
        let outcome = self.stages(frame, &mut quality, &mut times).map_err(|stop| match stop {
            Stop::Rejected(reason) => reason,
            Stop::Failed(error) => {
                failure = Some(error);
                Rejection::EngineFailed
            }
        });
        Analysis { quality, outcome, failure, times }
    }

    fn stages(&mut self, frame: &Frame, quality: &mut Quality, times: &mut StageTimes) -> Result<f32, Stop> {
        let mut watch = StopWatch(Instant::now());
        let found = self.locator.locate(frame, &mut self.roi);
        times.locate = watch.lap();
        if !found {
            return Err(Stop::Rejected(Rejection::NoConjunctiva));
        }
        *quality = Quality::measure(frame, &self.roi);
        times.quality = watch.lap();
        if let Some(reason) = quality.rejection(&self.limits) {
            return Err(Stop::Rejected(reason));
        }
        self.cutout.cut(frame, &self.roi, self.input.width, self.input.height);
        self.input.write(self.cutout.pixels(), self.engine.input());
        times.cutout = watch.lap();
        let output = self.engine.run().map(|values| values[0]);
        times.inference = watch.lap();
        output.map(|value| self.point.calibrate(self.output.to_logit(value))).map_err(Stop::Failed)
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
