//! The rhythm of a camera that has no real time of its own.

use std::time::{Duration, Instant};

use crate::config;
use crate::stop::Stop;

/// Waits for the time of each frame, and knows how many frames a picture and a gap take.
#[derive(Debug)]
pub(super) struct Pacer {
    period: Duration,
    next: Option<Instant>,
    pub(super) shown: u64,
    pub(super) gap: u64,
}

impl Pacer {
    pub(super) fn new(pace: &config::Pace) -> Self {
        let frames = |seconds: f64| (seconds * pace.rate_hz).round() as u64;
        // Every picture is seen at least once.
        let (shown, gap) = (frames(pace.show_s).max(1), frames(pace.gap_s));
        Self { period: Duration::from_secs_f64(1.0 / pace.rate_hz), next: None, shown, gap }
    }

    /// Waits until the next frame is due. A camera that fell behind goes on from now instead of catching up.
    pub(super) fn wait(&mut self, stop: &Stop) {
        let now = Instant::now();
        let due = self.next.unwrap_or(now);
        if due > now {
            stop.wait_for(due - now);
        }
        self.next = Some(due.max(now) + self.period);
    }
}
