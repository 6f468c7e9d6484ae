//! How far probabilities can be believed, and making them believable.

use serde::Serialize;

use crate::Judged;

/// Mean binary cross-entropy in nats; `None` without pictures. Probabilities are kept 1e-7 away from 0 and 1.
pub fn log_loss(judged: &[Judged]) -> Option<f64> {
    let loss = |one: &Judged| {
        let p = one.probability.clamp(1e-7, 1.0 - 1e-7);
        if one.anemic { -p.ln() } else { -(1.0 - p).ln() }
    };
    (!judged.is_empty()).then(|| judged.iter().map(loss).sum::<f64>() / judged.len() as f64)
}

/// One bin of a reliability diagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ReliabilityBin {
    /// Pictures whose probability falls into the bin.
    pub pictures: usize,
    /// Their mean probability.
    pub probability: f64,
    /// The share of them that is anemic.
    pub anemic: f64,
}

/// `bins` bins of equal width from 0 to 1.
pub fn reliability(judged: &[Judged], bins: usize) -> Vec<ReliabilityBin> {
    let mut all = vec![ReliabilityBin::default(); bins];
    for one in judged {
        let bin = &mut all[((one.probability * bins as f64) as usize).min(bins - 1)];
        bin.pictures += 1;
        bin.probability += one.probability;
        bin.anemic += f64::from(u8::from(one.anemic));
    }
    for bin in all.iter_mut().filter(|bin| bin.pictures > 0) {
        bin.probability /= bin.pictures as f64;
        bin.anemic /= bin.pictures as f64;
    }
    all
}

/// Expected calibration error over ten bins (Naeini, Cooper, Hauskrecht 2015): the mean distance between probability
/// and share of anemic pictures, weighted by the pictures in a bin. `None` without pictures.
pub fn calibration_error(judged: &[Judged]) -> Option<f64> {
    let gap = |bin: &ReliabilityBin| bin.pictures as f64 * (bin.probability - bin.anemic).abs();
    (!judged.is_empty()).then(|| reliability(judged, 10).iter().map(gap).sum::<f64>() / judged.len() as f64)
}

/// The temperature, 0.05 to 20, that divides the logits so that the log loss is least (Guo et al. 2017, "On Calibration
/// of Modern Neural Networks").
pub fn fit_temperature(judged: &[Judged]) -> f64 {
    let loss = |log_temperature: f64| {
        let scaled: Vec<Judged> = judged
            .iter()
            .map(|one| Judged { probability: scale(one.probability, log_temperature.exp()), ..*one })
            .collect();
        log_loss(&scaled).unwrap_or(0.0)
    };
    // The loss is convex in 1 / temperature, so it has one valley: golden-section search.
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (0.05f64.ln(), 20f64.ln());
    for _ in 0..60 {
        let (a, b) = (high - golden * (high - low), low + golden * (high - low));
        if loss(a) < loss(b) { high = b } else { low = a }
    }
    ((low + high) / 2.0).exp()
}

/// The probability whose logit is that of `probability` divided by `temperature`.
pub fn scale(probability: f64, temperature: f64) -> f64 {
    let p = probability.clamp(1e-12, 1.0 - 1e-12);
    1.0 / (1.0 + (-(p / (1.0 - p)).ln() / temperature).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1000 pictures whose shares are exactly what their probabilities say.
    fn calibrated() -> Vec<Judged> {
        let level = |percent: u32| {
            let one = move |k| Judged { probability: f64::from(percent) / 100.0, anemic: k < percent, group: 0 };
            (0..100).map(one)
        };
        (0..10).flat_map(|k| level(5 + 10 * k)).collect()
    }

    #[test]
    fn calibrated_probabilities_have_no_error_and_temperature_one() {
        assert!(calibration_error(&calibrated()).unwrap() < 1e-9);
        assert!((fit_temperature(&calibrated()) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn too_sure_probabilities_are_cooled_down_again() {
        let sure: Vec<_> =
            calibrated().iter().map(|one| Judged { probability: scale(one.probability, 0.4), ..*one }).collect();
        assert!(calibration_error(&sure).unwrap() > 0.1);
        assert!((fit_temperature(&sure) - 2.5).abs() < 0.01, "{}", fit_temperature(&sure));
    }

    #[test]
    fn log_loss_of_a_coin_is_ln_2() {
        let coin = [Judged { probability: 0.5, anemic: true, group: 0 }];
        assert!((log_loss(&coin).unwrap() - 2f64.ln()).abs() < 1e-12);
        assert_eq!(log_loss(&[]), None);
        assert_eq!(calibration_error(&[]), None);
    }
}
