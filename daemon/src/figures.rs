//! What is counted and measured while the daemon runs. Telemetry and Prometheus read it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anemia_bundle::Verdict;
use anemia_vision::Rejection;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use crate::pipeline::StageTimes;

/// Upper bounds of the stage times, in seconds: 0.25 ms, and twice as much each time, up to 2 s.
const BOUNDS: (f64, f64, u16) = (0.000_25, 2.0, 14);

/// Counts since the start, which only grow.
#[derive(Debug)]
pub struct Figures {
    /// Frames that the camera gave.
    pub captured: Counter,
    /// Frames that the camera took and nobody fetched in time.
    pub missed: Counter,
    /// Pictures of the camera that could not be used.
    pub damaged: Counter,
    /// Frames that were too old to be judged.
    pub late: Counter,
    /// Frames that were analysed.
    pub analysed: Counter,
    /// Rejected frames, by [`Rejection::ALL`].
    pub rejected: [Counter; Rejection::ALL.len()],
    /// Exams that came to an end, by [`Verdict::ALL`].
    pub exams: [Counter; Verdict::ALL.len()],
    /// Times of the stages, in the order of [`Stage::ALL`].
    pub stages: [Times; Stage::ALL.len()],
}

/// A stage of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Finding the conjunctiva.
    Locate,
    /// Measuring the quality.
    Quality,
    /// Making the cut-out.
    Cutout,
    /// Running the network.
    Inference,
}

impl Stage {
    /// In the order of the pipeline.
    pub const ALL: [Self; 4] = [Self::Locate, Self::Quality, Self::Cutout, Self::Inference];

    /// Its name in telemetry and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Locate => "locate",
            Self::Quality => "quality",
            Self::Cutout => "cutout",
            Self::Inference => "inference",
        }
    }
}

/// How long a stage took, each time.
#[derive(Debug)]
pub struct Times {
    /// The distribution, in seconds.
    pub histogram: Histogram,
    sum_ns: AtomicU64,
    count: AtomicU64,
}

impl Times {
    fn new() -> Self {
        let bounds = std::iter::successors(Some(BOUNDS.0), |bound| Some(bound * BOUNDS.1)).take(BOUNDS.2.into());
        Self { histogram: Histogram::new(bounds), sum_ns: AtomicU64::new(0), count: AtomicU64::new(0) }
    }

    fn add(&self, time: Duration) {
        self.histogram.observe(time.as_secs_f64());
        self.sum_ns.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Sum in nanoseconds, and how many.
    pub fn sum(&self) -> (u64, u64) {
        (self.sum_ns.load(Ordering::Relaxed), self.count.load(Ordering::Relaxed))
    }

    /// The mean in milliseconds.
    pub fn mean_ms(&self) -> f64 {
        let (sum, count) = self.sum();
        sum as f64 / count.max(1) as f64 / 1e6
    }
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            captured: Counter::default(),
            missed: Counter::default(),
            damaged: Counter::default(),
            late: Counter::default(),
            analysed: Counter::default(),
            rejected: Default::default(),
            exams: Default::default(),
            stages: std::array::from_fn(|_| Times::new()),
        }
    }
}

impl Figures {
    /// Counts an analysed frame. A stage that a rejected frame did not reach took no time, and is not counted.
    pub fn analysed(&self, times: &StageTimes, outcome: &Result<f32, Rejection>) {
        self.analysed.inc();
        if let Err(reason) = outcome {
            self.rejected[*reason as usize].inc();
        }
        let all = [times.locate, times.quality, times.cutout, times.inference];
        for (stage, time) in self.stages.iter().zip(all).filter(|(_, time)| !time.is_zero()) {
            stage.add(time);
        }
    }

    /// Counts an exam that came to an end.
    pub fn exam(&self, verdict: Verdict) {
        self.exams[verdict as usize].inc();
    }
}
