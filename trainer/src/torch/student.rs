//! Learning to say what another network says although everything is rounded to 8 bits: quantization-aware training.
//!
//! Weights and values are rounded on the way forward, and the gradient passes as if they were not (the straight-through
//! estimator; Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
//! Inference"). What is learned is not the labels but the logit of the float network (Hinton et al. 2015, "Distilling the
//! Knowledge in a Neural Network"): the verdicts are to stay, wrong ones too.

use std::cell::RefCell;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;
use tch::{Kind, Reduction, Tensor, no_grad};

use super::forward::{Between, forward_between};
use super::{Epoch, Mode, Pictures, Task, Weights, augment, forward, normalise};
use crate::network::{Network, Op, Parameter};
use crate::recipe::Augmentation;

/// Integers from −127 to 127, as TensorRT has them: half as fine as those of ONNX Runtime where nothing is below 0.
const MOST: i64 = 127;

/// A network that learns to be rounded.
pub(crate) struct Student<'a> {
    network: &'a Network,
    pictures: &'a Pictures,
    train: &'a [usize],
    augmentation: &'a Augmentation,
    batch: usize,
    /// The same network before the training.
    teacher: Weights,
    /// The greatest magnitude of each value that a convolution reads, at the start, in the mean over the pictures; `None` for the
    /// others.
    amax: Vec<Option<f64>>,
}

impl<'a> Student<'a> {
    /// `network` has no batch normalisations; `start` is what both teacher and student begin with.
    pub(crate) fn new(
        network: &'a Network,
        start: &Weights,
        pictures: &'a Pictures,
        train: &'a [usize],
        augmentation: &'a Augmentation,
        batch: usize,
    ) -> Self {
        let mut amax = vec![None; network.steps.len() + 1];
        for step in network.steps.iter().filter(|step| matches!(step.op, Op::Conv(_) | Op::Linear { .. })) {
            amax[step.inputs[0]] = Some(0.0);
        }
        let seen = Seen(RefCell::new(amax));
        no_grad(|| {
            for batch in train.chunks(64) {
                let pictures = normalise(&pictures.pixels(batch), pictures.mean, pictures.std);
                let _ = forward_between(network, start, &pictures, Mode::MEASURE, &seen);
            }
        });
        let mut amax = seen.0.into_inner();
        amax.iter_mut().flatten().for_each(|sum| *sum /= train.len().max(1) as f64);
        Self { network, pictures, train, augmentation, batch, teacher: start.copy(), amax }
    }

    /// Pictures as the network is given them: turned and moved, and half of them mixed with another one, so that there are
    /// pictures between the classes too, where verdicts change.
    fn draw(&self, batch: &[usize], random: &mut Pcg64) -> Tensor {
        let pictures = augment(&self.pictures.pixels(batch), self.augmentation, random);
        let shares: Vec<f32> =
            batch.iter().map(|_| if random.random_bool(0.5) { 1.0 } else { random.random_range(0.0..1.0) }).collect();
        let shares = Tensor::from_slice(&shares).view([-1, 1, 1, 1]).to_device(pictures.device());
        let mixed = &pictures * &shares + pictures.roll([1], [0]) * (1.0 - &shares);
        normalise(&mixed, self.pictures.mean, self.pictures.std)
    }
}

impl Task for Student<'_> {
    fn rate(&self, _: &Parameter) -> f64 {
        1.0
    }

    fn decay(&self, _: &Parameter) -> f64 {
        0.0
    }

    fn batches(&self, random: &mut Pcg64) -> Vec<Vec<usize>> {
        let mut order = self.train.to_vec();
        order.shuffle(random);
        order.chunks(self.batch).map(<[usize]>::to_vec).collect()
    }

    fn loss(&self, weights: &Weights, batch: &[usize], random: &mut Pcg64) -> (Tensor, f64) {
        let pictures = self.draw(batch, random);
        let wanted = no_grad(|| forward(self.network, &self.teacher, &pictures, Mode::MEASURE));
        let rounded = Rounded { amax: &self.amax };
        let logits = forward_between(self.network, weights, &pictures, Mode::MEASURE, &rounded);
        let loss = logits.mse_loss(&wanted, Reduction::Mean);
        let kept = logits.gt(0.0).eq_tensor(&wanted.gt(0.0)).sum(Kind::Float).double_value(&[]);
        (loss, kept)
    }

    fn note(&self, mean: f64, row: &mut Epoch) {
        row.kept = Some(mean);
    }

    fn validate(&self, _: &Weights, _: &mut Epoch) -> Option<f64> {
        None
    }
}

/// Looks at the values that are to be rounded.
struct Seen(RefCell<Vec<Option<f64>>>);

impl Between for Seen {
    fn value(&self, at: usize, value: Tensor) -> Tensor {
        if let Some(sum) = &mut self.0.borrow_mut()[at] {
            let pictures = value.size()[0];
            let amax = value.abs().reshape([pictures, -1]).amax([1].as_slice(), false);
            *sum += amax.sum(Kind::Double).double_value(&[]);
        }
        value
    }
}

/// Rounds weights and values to 8 bits.
struct Rounded<'a> {
    amax: &'a [Option<f64>],
}

impl Between for Rounded<'_> {
    /// One scale for each output.
    fn weights(&self, weights: Tensor) -> Tensor {
        let rows = weights.size()[0];
        let amax = weights.detach().reshape([rows, -1]).abs().amax([1].as_slice(), false);
        let scale = amax.clamp_min(1e-12) / MOST as f64;
        let zero = Tensor::zeros([rows], (Kind::Int, weights.device()));
        weights.fake_quantize_per_channel_affine(&scale, &zero, 0, -MOST, MOST)
    }

    fn value(&self, at: usize, value: Tensor) -> Tensor {
        match self.amax[at] {
            Some(amax) if amax > 0.0 => value.fake_quantize_per_tensor_affine(amax / MOST as f64, 0, -MOST, MOST),
            _ => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_gives_values_of_the_grid_and_lets_the_gradient_through() {
        let amax = [Some(1.27), None];
        let rounded = Rounded { amax: &amax };
        let weights =
            Tensor::from_slice(&[1.27f32, 0.504, -0.016, 2.54, -1.0, 0.0]).view([2, 3]).set_requires_grad(true);
        let found = rounded.weights(weights.shallow_clone());
        // A row has the step 0.01, the other 0.02.
        let expected = Tensor::from_slice(&[1.27f32, 0.50, -0.02, 2.54, -1.0, 0.0]).view([2, 3]);
        assert!(found.allclose(&expected, 1e-5, 1e-6, false), "{found:?}");
        found.sum(Kind::Float).backward();
        assert!(weights.grad().allclose(&Tensor::ones([2, 3], (Kind::Float, tch::Device::Cpu)), 0.0, 0.0, false));

        let value = || Tensor::from_slice(&[0.128f32, 3.0]);
        assert!(rounded.value(0, value()).allclose(&Tensor::from_slice(&[0.13f32, 1.27]), 1e-5, 1e-6, false));
        assert!(rounded.value(1, value()).equal(&value()), "what no convolution reads stays as it is");
    }
}
