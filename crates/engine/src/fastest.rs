//! How fast the precisions of a bundle are on this machine, and which is the fastest.

use std::time::{Duration, Instant};

use anemia_bundle::Bundle;

use crate::{Engine, EngineError, EngineOptions, Follow, check, load_following, self_test};

/// Runs before the clock counts.
const WARM: usize = 10;
/// Runs that decide which precision is the fastest.
const RUNS: usize = 50;

/// Time of one inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Half of the runs took less.
    pub median: Duration,
    /// 95 % took less.
    pub p95: Duration,
    /// 99 % took less.
    pub p99: Duration,
}

/// Runs a network `runs` times, at least once, after it got warm.
pub fn measure(engine: &mut dyn Engine, runs: usize) -> Result<Measured, EngineError> {
    let mut times = Vec::with_capacity(runs.max(1));
    for run in 0..WARM + runs.max(1) {
        let start = Instant::now();
        engine.run()?;
        if run >= WARM {
            times.push(start.elapsed());
        }
    }
    times.sort_unstable();
    let quantile = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    Ok(Measured { median: quantile(50), p95: quantile(95), p99: quantile(99) })
}

/// Loads every precision of `bundle` that this machine can run, and keeps the fastest of those whose answers pass the self-test.
pub fn load_fastest(
    bundle: &Bundle,
    options: &EngineOptions,
    follow: &mut Follow<'_>,
) -> Result<Box<dyn Engine>, EngineError> {
    // What is wrong with the machine is told once and as it is, not for every precision.
    check(bundle, None, options)?;
    let mut best: Option<(Duration, Box<dyn Engine>)> = None;
    let mut refused = Vec::new();
    for precision in bundle.manifest().models.iter().map(|model| model.precision) {
        let mut one = || -> Result<(Duration, Box<dyn Engine>), EngineError> {
            let mut engine = load_following(bundle, precision, options, follow)?;
            self_test(bundle, engine.as_mut())?;
            Ok((measure(engine.as_mut(), RUNS)?.median, engine))
        };
        match one() {
            Ok((time, engine)) => {
                tracing::info!("{precision} takes {:.2} ms", time.as_secs_f64() * 1e3);
                if best.as_ref().is_none_or(|(fastest, _)| time < *fastest) {
                    best = Some((time, engine));
                }
            }
            Err(error) => {
                tracing::info!("{precision} is left out: {error}");
                refused.push((precision, error));
            }
        }
    }
    best.map(|(_, engine)| engine).ok_or_else(|| EngineError::none_of(&refused))
}
