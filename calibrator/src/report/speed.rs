//! How long a network takes, measured so that others can repeat it.

use std::time::Instant;

use anemia_engine::Engine;
use anyhow::Result;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// Rounds before the clock counts, and rounds that count.
const WARM: usize = 20;
const ROUNDS: usize = 200;

/// Milliseconds for one picture.
#[derive(Clone, Copy, Default, Serialize)]
pub(super) struct Time {
    pub(super) median: f64,
    /// Median distance from the median.
    pub(super) spread: f64,
}

/// Times the networks on one thread that stays on one core. They take turns, so that a slower moment hits all of them.
pub(super) fn times(engines: &mut [Box<dyn Engine>]) -> Result<Vec<Time>> {
    let before = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    let core = (0..CpuSet::MAX_CPU).rev().find(|&core| before.is_set(core)).unwrap_or(0);
    one.set(core);
    sched_setaffinity(None, &one)?;
    let found = take_turns(engines);
    sched_setaffinity(None, &before)?;
    found
}

fn take_turns(engines: &mut [Box<dyn Engine>]) -> Result<Vec<Time>> {
    let mut all = vec![Vec::with_capacity(ROUNDS); engines.len()];
    for round in 0..WARM + ROUNDS {
        for (engine, times) in engines.iter_mut().zip(&mut all) {
            let start = Instant::now();
            engine.run()?;
            if round >= WARM {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(all.into_iter().map(summary).collect())
}

fn summary(mut times: Vec<f64>) -> Time {
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let middle = median(&mut times);
    let mut distances: Vec<f64> = times.iter().map(|time| (time - middle).abs()).collect();
    Time { median: middle, spread: median(&mut distances) }
}
