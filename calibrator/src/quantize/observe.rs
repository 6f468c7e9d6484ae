//! The float network on the calibration pictures: what its values and the inputs of its convolutions look like.

use anyhow::{Result, bail};
use rayon::prelude::*;

use super::grid::Format;
use super::moments::Moments;
use super::ranges::{Histogram, RangeMethod};
use super::rounding::Covariance;
use crate::network::{Map, Network, Op, Step, run_all};

/// What was seen of a network.
pub struct Observed {
    /// For each value the greatest magnitude of each channel.
    pub peaks: Vec<Vec<f32>>,
    /// For each step that is a convolution, how its inputs vary.
    pub covariances: Vec<Option<Covariance>>,
}

/// Runs the network on all pictures.
pub fn observe(network: &Network, pictures: &[Map]) -> Result<Observed> {
    let mut observed = Observed { peaks: vec![peaks(pictures)], covariances: Vec::new() };
    let mut values: Vec<Vec<Map>> = vec![pictures.to_vec()];
    for (at, step) in network.steps.iter().enumerate() {
        observed.covariances.push(match &step.op {
            Op::Conv(conv) => {
                let seen: Vec<&Map> = values[step.inputs[0]].iter().collect();
                Some(Moments::of(conv, &seen, &seen).covariance)
            }
            _ => None,
        });
        let result = run_all(step, &values);
        check_finite(step, &result, "")?;
        observed.peaks.push(peaks(&result));
        values.push(result);
        network.forget(&mut values, at);
    }
    Ok(observed)
}

/// The greatest magnitude that `method` keeps of each value of a network, which stays as it is.
pub fn ranges(network: &Network, pictures: &[Map], method: RangeMethod) -> Result<Vec<f32>> {
    let amax = |maps: &[Map]| {
        let seen = Histogram::of(maps.par_iter().map(|map| &map.values[..]));
        let [low, high] = seen.range(method, Format::Signed);
        high.max(-low)
    };
    let (mut found, mut values) = (vec![amax(pictures)], vec![pictures.to_vec()]);
    for (at, step) in network.steps.iter().enumerate() {
        let result = run_all(step, &values);
        check_finite(step, &result, "")?;
        found.push(amax(&result));
        values.push(result);
        network.forget(&mut values, at);
    }
    Ok(found)
}

/// Refuses values that no integer can stand for.
pub(super) fn check_finite(step: &Step, maps: &[Map], when: &str) -> Result<()> {
    let wrong = |(picture, map): (usize, &Map)| {
        // Without a way out in the middle, which the compiler could not do for several at once.
        let is_finite = |values: &&[f32]| values.iter().fold(true, |all, value| all & value.is_finite());
        let wrong = map.values.chunks(64).find(|values| !is_finite(values))?.iter().find(|value| !value.is_finite())?;
        Some((picture + 1, *wrong))
    };
    if let Some((picture, wrong)) = maps.par_iter().enumerate().find_map_first(wrong) {
        let cause = match step.op {
            Op::Log => "a logarithm of a number that is not greater than 0",
            Op::Root => "a root of a number below 0",
            Op::Divide => "a division by 0, or by nearly 0",
            _ => "an overflow",
        };
        bail!(
            "node {:?} gives {wrong} for calibration picture {picture}{when}: {cause}; the network cannot be quantized",
            step.name
        );
    }
    Ok(())
}

fn peaks(maps: &[Map]) -> Vec<f32> {
    let channels = maps.first().map_or(0, |map| map.shape[0]);
    let mut peaks = vec![0f32; channels];
    for map in maps {
        for (peak, channel) in peaks.iter_mut().zip(map.channels()) {
            *peak = channel.iter().fold(*peak, |peak, x| peak.max(x.abs()));
        }
    }
    peaks
}
