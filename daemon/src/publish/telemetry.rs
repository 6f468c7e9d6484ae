//! Telemetry: figures about the kiosk, every minute or so, for dashboards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Notify;

use super::{Kind, Outbox, Stock};
use crate::board::Board;
use crate::figures::Stage;
use crate::machine;
use crate::slot::Slot;

/// Figures about the kiosk, as published on `anemia/<device_id>/telemetry`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Telemetry {
    /// Version of these fields; 1.
    pub schema: u32,
    /// The kiosk.
    pub device_id: String,
    /// When they were read, by the kiosk's clock, in UTC (RFC 3339).
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// Seconds since the daemon began with its configuration.
    pub uptime_s: u64,
    /// Frames that were analysed in a second, since the last telemetry.
    pub fps: f64,
    /// Frames since the daemon began with its configuration.
    pub frames: Frames,
    /// Mean time of each stage in milliseconds, since the last telemetry; null for one that was not reached.
    pub latency_ms: Latency,
    /// Temperatures in °C, by the names that Linux gives its thermal zones.
    pub temperatures_c: BTreeMap<String, f64>,
    /// Memory of the daemon in MiB.
    pub memory_mib: f64,
    /// What waits for the broker.
    pub outbox: Waiting,
}

/// Frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Frames {
    /// The camera gave them.
    pub captured: u64,
    /// They went through the pipeline.
    pub analysed: u64,
    /// A newer one came before anybody looked.
    pub dropped: u64,
    /// The camera took them, and nobody fetched them in time.
    pub missed: u64,
    /// They could not be read.
    pub damaged: u64,
    /// They were too old to be judged.
    pub late: u64,
}

/// Mean times of the stages in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Latency {
    /// Finding the conjunctiva.
    pub locate: Option<f64>,
    /// Measuring the quality.
    pub quality: Option<f64>,
    /// Making the cut-out.
    pub cutout: Option<f64>,
    /// Running the network.
    pub inference: Option<f64>,
}

/// What waits for the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Waiting {
    /// Results.
    pub waiting: u64,
    /// Telemetry.
    pub telemetry: u64,
    /// Bytes of all that waits.
    pub bytes: u64,
    /// Results that had to go unsent.
    pub lost: u64,
}

/// Where the figures come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Counts and times.
    pub board: Arc<Board>,
    /// Frames that were replaced.
    pub slot: Arc<Slot>,
    /// What waits.
    pub outbox: Arc<Outbox>,
}

/// The counts at the last reading, from which rates and means are taken.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    at: Instant,
    analysed: u64,
    stages: [(u64, u64); Stage::ALL.len()],
}

/// Writes telemetry into the outbox for ever, and rings `stored` each time.
pub async fn report(sources: Sources, device_id: String, every: Duration, stored: Arc<Notify>) {
    let mut meter = Meter::new(&sources);
    loop {
        tokio::time::sleep(every).await;
        let (from, device_id) = (sources.clone(), device_id.clone());
        let done = tokio::task::spawn_blocking(move || {
            let stock = from.outbox.stock()?;
            let telemetry = meter.read(&from, device_id, stock);
            // Its fields are text and numbers, which can always be written.
            let payload = serde_json::to_vec(&telemetry).unwrap_or_default();
            from.outbox.add(Kind::Telemetry, &payload, telemetry.at).map(|_| meter)
        });
        match done.await {
            Ok(Ok(read)) => meter = read,
            Ok(Err(error)) => tracing::warn!("telemetry: {error}"),
            Err(_) => return,
        }
        stored.notify_one();
    }
}

impl Meter {
    /// The counts as they are now.
    pub fn new(sources: &Sources) -> Self {
        let figures = sources.board.figures();
        let stages = std::array::from_fn(|stage| figures.stages[stage].sum());
        Self { at: Instant::now(), analysed: figures.analysed.get(), stages }
    }

    /// The figures since the last reading.
    pub fn read(&mut self, sources: &Sources, device_id: String, stock: Stock) -> Telemetry {
        let figures = sources.board.figures();
        let last = std::mem::replace(self, Self::new(sources));
        let mean = |stage: Stage| {
            let ((sum, count), (sum_before, count_before)) = (self.stages[stage as usize], last.stages[stage as usize]);
            let count = count - count_before;
            (count > 0).then(|| rounded((sum - sum_before) as f64 / count as f64 / 1e6, 1000.0))
        };
        let seconds = (self.at - last.at).as_secs_f64().max(1e-3);
        Telemetry {
            schema: 1,
            device_id,
            at: Timestamp::now(),
            uptime_s: sources.board.uptime().as_secs(),
            fps: rounded((self.analysed - last.analysed) as f64 / seconds, 10.0),
            frames: Frames {
                captured: figures.captured.get(),
                analysed: self.analysed,
                dropped: sources.slot.dropped(),
                missed: figures.missed.get(),
                damaged: figures.damaged.get(),
                late: figures.late.get(),
            },
            latency_ms: Latency {
                locate: mean(Stage::Locate),
                quality: mean(Stage::Quality),
                cutout: mean(Stage::Cutout),
                inference: mean(Stage::Inference),
            },
            temperatures_c: machine::temperatures(),
            memory_mib: rounded(machine::memory() as f64 / f64::from(1 << 20), 10.0),
            outbox: Waiting {
                waiting: stock.results,
                telemetry: stock.telemetry,
                bytes: stock.bytes,
                lost: stock.lost,
            },
        }
    }
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}
