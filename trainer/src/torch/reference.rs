//! The forward pass and one training step against PyTorch. `tests/fixtures/reference.py` made the expected numbers, in
//! 64-bit floats; the step is made in them, too, and the forward pass also in the 32-bit floats of a real training.

use std::collections::HashMap;

use serde::Deserialize;
use tch::{Device, Kind, Reduction, Tensor};

use super::{Adam, Mode, Weights, forward};
use crate::network::{Parameter, Role, mobilenet_v2};

#[derive(Deserialize)]
struct Expected {
    logits_before: Vec<f64>,
    logits_while_training: Vec<f64>,
    loss: f64,
    logits_after: Vec<f64>,
    gradient_norms: HashMap<String, f64>,
    running_mean_of_the_stem: Vec<f64>,
}

fn noise(length: i64, phase: f64) -> Tensor {
    let waves = (Tensor::arange(length, (Kind::Double, Device::Cpu)) * 12.9898 + phase).sin() * 43758.5453;
    (&waves - waves.floor()) * 2.0 - 1.0
}

/// The formulas of the script.
fn values(one: &Parameter) -> Tensor {
    let flat = noise(one.size(), (one.name.len() % 7) as f64);
    let flat = match (one.role, &one.shape[..]) {
        (Role::Kernel, &[_, i, h, w]) => flat * (6.0 / (i * h * w) as f64).sqrt(),
        (Role::Matrix, _) => flat * 0.05,
        (Role::Scale | Role::RunningVariance, _) => flat * 0.2 + 1.0,
        _ => flat * 0.1,
    };
    flat.view(&one.shape[..])
}

fn assert_close(what: &str, found: &Tensor, expected: &[f64]) {
    let found = Vec::<f64>::try_from(&found.to_kind(Kind::Double)).unwrap();
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{what}: {found} and not {expected}");
    }
}

#[test]
fn forward_pass_and_training_step_are_those_of_pytorch() {
    let expected: Expected = serde_json::from_str(include_str!("../../tests/fixtures/reference.json")).unwrap();
    let network = mobilenet_v2(1e-3);
    let mut weights = Weights::random(&network, Device::Cpu, 0);
    tch::no_grad(|| {
        let views = weights.views(&weights.trained.detach(), &weights.running);
        for (one, mut view) in network.parameters().iter().zip(views) {
            view.copy_(&values(one));
        }
    });
    let pictures = noise(4 * 3 * 96 * 96, 0.5).view([4, 3, 96, 96]);
    let labels = Tensor::from_slice(&[1.0, 0.0, 0.0, 1.0]);
    let train = Mode { batch_statistics: |_| true, dropout: 0.0, apart: false };
    let run = |weights: &Weights, mode| {
        let pictures = pictures.to_kind(weights.trained.kind());
        forward(&network, weights, &pictures, mode)
    };

    let running = weights.running.copy();
    assert_close("before, 32 bits", &run(&weights, Mode::MEASURE), &expected.logits_before);
    assert_close("while training, 32 bits", &run(&weights, train), &expected.logits_while_training);

    weights.trained = weights.trained.detach().to_kind(Kind::Double).set_requires_grad(true);
    weights.running = running.to_kind(Kind::Double);
    assert_close("before", &run(&weights, Mode::MEASURE), &expected.logits_before);
    let logits = run(&weights, train);
    assert_close("while training", &logits, &expected.logits_while_training);
    let loss = logits.binary_cross_entropy_with_logits(&labels, None::<Tensor>, None::<Tensor>, Reduction::Mean);
    assert_close("loss", &loss.view(1), &[expected.loss]);
    loss.backward();

    let gradients = weights.views(&weights.trained.grad(), &weights.running);
    let mut compared = 0;
    for (one, gradient) in network.parameters().iter().zip(gradients) {
        if let Some(&norm) = expected.gradient_norms.get(&one.name) {
            let found = gradient.norm().double_value(&[]);
            assert!((found - norm).abs() < 1e-4 * norm.max(1e-6), "gradient of {}: {found} and not {norm}", one.name);
            compared += 1;
        }
    }
    assert_eq!(compared, expected.gradient_norms.len());

    let (rates, decays) = (weights.spread(|_| 1.0), weights.spread(|_| 0.0));
    Adam::new(&weights.trained, rates, decays).step(&mut weights.trained, 1e-4);
    assert_close("after one step", &run(&weights, Mode::MEASURE), &expected.logits_after);
    assert_close("running mean", &weights.running.narrow(0, 0, 6), &expected.running_mean_of_the_stem);
}
