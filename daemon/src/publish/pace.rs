//! The rate at which messages leave the outbox.

use std::time::Duration;

use tokio::time::Instant;

/// So many may go at once; what is fresh never waits.
const BURST: f64 = 32.0;

/// Lets so many messages a second pass (a token bucket).
#[derive(Debug)]
pub struct Pace {
    per_s: f64,
    allowance: f64,
    at: Instant,
}

impl Pace {
    /// At its start it lets a burst pass.
    pub fn new(per_s: u32, now: Instant) -> Self {
        Self { per_s: per_s.into(), allowance: BURST, at: now }
    }

    /// Whether one may pass now; if not, when.
    pub fn pass(&mut self, now: Instant) -> Result<(), Instant> {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        // At high rates, a burst is what the timer misses between two of its ticks.
        let most = BURST.max(self.per_s / 50.0);
        self.allowance = (self.allowance + since * self.per_s).min(most);
        self.at = now;
        if self.allowance >= 1.0 {
            self.allowance -= 1.0;
            return Ok(());
        }
        Err(now + Duration::from_secs_f64((1.0 - self.allowance) / self.per_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(10, start);
        assert!((0..32).all(|_| pace.pass(start).is_ok()));
        let next = pace.pass(start).unwrap_err();
        assert_eq!((next - start).as_millis(), 100);
        // Ten seconds, looked at as often as it says.
        let (mut now, mut passed) = (start, 0);
        while now < start + Duration::from_secs(10) {
            match pace.pass(now) {
                Ok(()) => passed += 1,
                Err(next) => now = next.max(now + Duration::from_micros(1)),
            }
        }
        assert!((99..=100).contains(&passed), "{passed}");
    }

    #[test]
    fn what_was_saved_up_is_bounded() {
        let start = Instant::now();
        let mut pace = Pace::new(10, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..1000).filter(|_| pace.pass(later).is_ok()).count(), 32);
    }
}
