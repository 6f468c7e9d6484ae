//! The optimizer Adam (Kingma and Ba 2015), with decoupled weight decay (Loshchilov and Hutter 2019, AdamW).

use tch::{Tensor, no_grad};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Adam over one vector of numbers, as PyTorch computes it.
pub(crate) struct Adam {
    /// Moving mean of the gradient.
    pub(crate) mean: Tensor,
    /// Moving mean of its square.
    pub(crate) square: Tensor,
    /// Steps so far.
    pub(crate) steps: i64,
    /// What the learning rate is multiplied with, for each number.
    rates: Tensor,
    /// What share of itself a number loses in a step, before the learning rate is multiplied in; for each number.
    decays: Tensor,
}

impl Adam {
    pub(crate) fn new(numbers: &Tensor, rates: Tensor, decays: Tensor) -> Self {
        let zeros = numbers.detach().zeros_like();
        Self { mean: zeros.copy(), square: zeros, steps: 0, rates, decays }
    }

    /// Moves `numbers` against their gradient and clears it.
    pub(crate) fn step(&mut self, numbers: &mut Tensor, learning_rate: f64) {
        no_grad(|| {
            let mut gradient = numbers.grad();
            self.steps += 1;
            let correction_1 = 1.0 - BETA_1.powi(self.steps as i32);
            let correction_2 = 1.0 - BETA_2.powi(self.steps as i32);
            let _ = self.mean.lerp_(&gradient, 1.0 - BETA_1);
            self.square *= BETA_2;
            self.square += (&gradient * &gradient) * (1.0 - BETA_2);
            let root = self.square.sqrt() / correction_2.sqrt() + EPSILON;
            let step = &self.mean / root * (learning_rate / correction_1) + &self.decays * &*numbers * learning_rate;
            *numbers -= step * &self.rates;
            let _ = gradient.zero_();
        });
    }
}
