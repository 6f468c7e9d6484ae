//! Moving factors between the convolutions that make a value and those that read it, so that less is lost in its grid.
//!
//! A channel may be multiplied by `t` where the weights that read it are divided by `t` (cross-layer equalisation, Nagel et al.
//! 2019). Values that are summed take the same factors. Through ReLU6 it holds as long as the channel stays below 6; so a
//! channel that comes near 6 is left alone, and no other is raised above [`ROOM`].

use super::observe::Observed;
use crate::network::{Activation, Network, Op};

/// As high as a channel may be raised: less than 6, since another picture may be brighter than those of the calibration.
const ROOM: f32 = 4.5;
/// The greatest factor; a channel that is nearly dead stays so.
const MOST: f32 = 64.0;
/// The exponents that are tried, as in AWQ (Lin et al. 2024, "Activation-aware Weight Quantization").
const ALPHAS: [f32; 11] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

/// Where channels may be given factors: values that are summed with each other, who makes them, and who reads them.
#[derive(Debug)]
struct Seam {
    values: Vec<usize>,
    makers: Vec<usize>,
    readers: Vec<usize>,
    activation: Activation,
}

/// Gives every channel between convolutions the factor with the least error in sum: of the weights that read it, of `bits`
/// bits, and where `rounds_values` is set of the 8-bit grid of the values themselves.
pub fn equalise(network: &mut Network, observed: &mut Observed, bits: u8, rounds_values: bool) {
    for seam in seams(network) {
        let factors = seam.best_factors(network, observed, f64::from((1i32 << (bits - 1)) - 1), rounds_values);
        seam.multiply(network, observed, &factors);
    }
}

/// What belongs together, from the picture to the output; only where every maker and reader is a convolution.
fn seams(network: &Network) -> Vec<Seam> {
    let mut seams: Vec<Seam> = Vec::new();
    let mut done = vec![false; network.steps.len() + 1];
    for first in 1..network.steps.len() {
        if done[first] {
            continue;
        }
        // Everything that sums tie together.
        let mut values = vec![first];
        let mut at = 0;
        while at < values.len() {
            let value = values[at];
            let mut tied: Vec<usize> = Vec::new();
            // The picture, which has no step, may be summed, too.
            if let Some(step) = value.checked_sub(1).map(|at| &network.steps[at]).filter(|step| step.op == Op::Add) {
                tied.extend(&step.inputs);
            }
            for reader in
                network.readers(value).into_iter().filter(|&reader| matches!(network.steps[reader].op, Op::Add))
            {
                tied.push(reader + 1);
                tied.extend(&network.steps[reader].inputs);
            }
            for value in tied {
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            at += 1;
        }
        values.iter().for_each(|&value| done[value] = true);
        let maker = |&value: &usize| value.checked_sub(1).filter(|&at| !matches!(network.steps[at].op, Op::Add));
        let makers: Vec<usize> = values.iter().filter_map(maker).collect();
        let mut readers: Vec<usize> = values.iter().flat_map(|&value| network.readers(value)).collect();
        readers.retain(|&reader| !matches!(network.steps[reader].op, Op::Add));
        readers.sort_unstable();
        readers.dedup();
        let activation = network.steps[first - 1].activation;
        let all_convs = values.iter().all(|&value| value > 0)
            && makers.iter().chain(&readers).all(|&at| network.conv(at).is_some())
            && !readers.is_empty()
            && !values.contains(&network.steps.len());
        let mut steps = values.iter().filter_map(|value| value.checked_sub(1));
        let alike = steps.all(|at| network.steps[at].activation == activation);
        // A sum that is cut afterwards has values on both sides of the cut.
        if all_convs && alike && (values.len() == 1 || activation == Activation::None) {
            seams.push(Seam { values, makers, readers, activation });
        }
    }
    seams
}

impl Seam {
    /// The greatest magnitude of each channel in any of the values.
    fn peaks(&self, observed: &Observed) -> Vec<f32> {
        let channels = observed.peaks[self.values[0]].len();
        let peak = |at: usize| self.values.iter().fold(0f32, |most, &value| most.max(observed.peaks[value][at]));
        (0..channels).map(peak).collect()
    }

    fn best_factors(&self, network: &Network, observed: &Observed, limit: f64, rounds_values: bool) -> Vec<f32> {
        let peaks = self.peaks(observed);
        let most = peaks.iter().fold(0f32, |most, peak| most.max(*peak));
        let bounds = |peak: f32| match self.activation {
            _ if peak <= most * 1e-6 => [1.0, 1.0],
            Activation::Relu6 if peak >= ROOM => [1.0, 1.0],
            Activation::Relu6 => [1.0 / MOST, (ROOM / peak).min(MOST)],
            Activation::Relu | Activation::None => [1.0 / MOST, MOST],
        };
        let weights = self.column_weights(network, peaks.len());
        let only_depthwise = self.readers.iter().all(|&at| network.conv(at).is_some_and(|conv| conv.is_depthwise()));
        let candidate = |alpha: f32| -> Vec<f32> {
            // Rows of depthwise weights have scales of their own: there the channel may as well fill the grid.
            let alpha = if only_depthwise { 1.0 } else { alpha };
            let raw: Vec<f32> = (0..peaks.len())
                .map(|at| weights[at].max(1e-9).powf(1.0 - alpha) / peaks[at].max(1e-9).powf(alpha))
                .collect();
            // Factors say nothing but for their ratios: the greatest value keeps its size.
            let after = raw.iter().zip(&peaks).fold(0f32, |most, (t, peak)| most.max(t * peak)).max(f32::MIN_POSITIVE);
            let fitted = |(t, peak): (&f32, &f32)| {
                let [low, high] = bounds(*peak);
                (t * most / after).clamp(low, high)
            };
            raw.iter().zip(&peaks).map(fitted).collect()
        };
        let untouched = vec![1.0; peaks.len()];
        let candidates: Vec<Vec<f32>> = ALPHAS.into_iter().map(candidate).chain([untouched]).collect();
        // What each reader makes does not depend on the factors.
        let signal = |&reader: &usize| match (network.conv(reader), &observed.covariances[reader]) {
            (Some(conv), Some(covariance)) => covariance.energy(&conv.weights).max(1e-30),
            _ => 1.0,
        };
        let signals: Vec<f64> = self.readers.iter().map(signal).collect();
        let error = |factors: &[f32]| self.error(network, observed, factors, limit, rounds_values, &signals);
        let best = candidates.into_iter().map(|factors| (error(&factors), factors)).min_by(|a, b| a.0.total_cmp(&b.0));
        best.map(|best| best.1).unwrap_or_default()
    }

    /// Mean magnitude of the weights that read each channel.
    fn column_weights(&self, network: &Network, channels: usize) -> Vec<f32> {
        let mut sums = vec![0f32; channels];
        let mut counts = vec![0f32; channels];
        for conv in self.readers.iter().filter_map(|&reader| network.conv(reader)) {
            for (at, weight) in conv.weights.iter().enumerate() {
                let channel = conv.channel_of(at);
                sums[channel] += weight.abs();
                counts[channel] += 1.0;
            }
        }
        sums.iter().zip(&counts).map(|(sum, count)| sum / count.max(1.0)).collect()
    }

    /// Expected square error of what the readers make, each as a share of what it makes.
    fn error(
        &self,
        network: &Network,
        observed: &Observed,
        factors: &[f32],
        limit: f64,
        rounds_values: bool,
        signals: &[f64],
    ) -> f64 {
        let most = self.peaks(observed).iter().zip(factors).fold(0f32, |most, (peak, t)| most.max(peak * t));
        let sides = if self.activation == Activation::None { 2.0 } else { 1.0 };
        let value_step = if rounds_values { sides * f64::from(most) / 255.0 } else { 0.0 };
        let mut sum = 0.0;
        for (&reader, signal) in self.readers.iter().zip(signals) {
            let (Some(conv), Some(covariance)) = (network.conv(reader), observed.covariances[reader].as_ref()) else {
                continue;
            };
            let row = conv.row();
            let (mut noise, mut diagonal) = (0.0, Vec::new());
            for (output, weights) in conv.weights.chunks_exact(row).enumerate() {
                let factor = |at: usize| f64::from(factors[conv.channel_of(output * row + at)]);
                let amax = (0..row).fold(0f64, |amax, at| amax.max((f64::from(weights[at]) / factor(at)).abs()));
                let step = amax / limit;
                if output == 0 || conv.is_depthwise() {
                    diagonal = covariance.diagonal_of(output);
                }
                for at in 0..row {
                    noise += (step * factor(at)).powi(2) * diagonal[at];
                    noise += (value_step * f64::from(weights[at]) / factor(at)).powi(2);
                }
            }
            sum += noise / signal;
        }
        sum
    }

    fn multiply(&self, network: &mut Network, observed: &mut Observed, factors: &[f32]) {
        for &maker in &self.makers {
            if let Some(conv) = network.conv_mut(maker) {
                conv.multiply_outputs(factors);
            }
        }
        for &reader in &self.readers {
            if let Some(conv) = network.conv_mut(reader) {
                conv.divide_inputs(factors);
            }
            if let Some(covariance) = observed.covariances[reader].as_mut() {
                covariance.multiply(factors);
            }
        }
        for &value in &self.values {
            observed.peaks[value].iter_mut().zip(factors).for_each(|(peak, factor)| *peak *= factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Conv, Map, Step};
    use crate::quantize::observe::observe;

    /// Expand, depthwise, project, and the sum with the input of a block before it.
    fn network() -> Network {
        let mut seed = 1u32;
        let mut conv = |inputs: usize, outputs: usize, kernel: usize, groups: usize| {
            let mut next = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
            };
            let weights = (0..outputs * inputs / groups * kernel * kernel).map(|_| next()).collect();
            let bias = (0..outputs).map(|_| next() * 0.2).collect();
            Op::Conv(Conv { inputs, outputs, kernel, stride: 1, pad: kernel / 2, groups, weights, bias })
        };
        let ops = [conv(3, 4, 1, 1), conv(4, 8, 1, 1), conv(8, 8, 3, 8), conv(8, 4, 1, 1), Op::Add, conv(4, 1, 1, 1)];
        let inputs = [vec![0], vec![1], vec![2], vec![3], vec![1, 4], vec![5]];
        let relu6 = [false, true, true, false, false, false];
        let steps = ops.into_iter().zip(inputs).zip(relu6).enumerate().map(|(at, ((op, inputs), cut))| Step {
            name: format!("step{at}"),
            op,
            inputs,
            activation: if cut { Activation::Relu6 } else { Activation::None },
        });
        let steps = steps.collect();
        Network { input: "image".into(), shape: [3, 8, 8], output: "out".into(), output_shape: vec![1, 1, 8, 8], steps }
    }

    fn result(network: &Network, picture: &Map) -> Map {
        network.values(picture, |_, _| ()).pop().unwrap()
    }

    #[test]
    fn factors_change_the_weights_and_not_the_results() {
        let plain = network();
        let picture = |k: usize| {
            let values = (0..3 * 64).map(|at| ((at * 37 + k * 101) % 97) as f32 / 48.0 - 1.0).collect();
            Map { shape: [3, 8, 8], values }
        };
        let pictures: Vec<Map> = (0..6).map(picture).collect();
        for rounds_values in [false, true] {
            let mut network = plain.clone();
            let mut observed = observe(&network, &pictures).unwrap();
            equalise(&mut network, &mut observed, 4, rounds_values);
            assert_ne!(network, plain);
            for picture in &pictures {
                let (was, is) = (result(&plain, picture), result(&network, picture));
                let apart = was.values.iter().zip(&is.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-4, "{apart}");
            }
        }
    }
}
