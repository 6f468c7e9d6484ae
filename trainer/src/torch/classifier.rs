//! Learning to tell anemic tissue from other tissue.

use std::collections::HashMap;

use anemia_evaluation::{Confusion, Judged, auc, log_loss};
use rand::seq::{IndexedRandom, SliceRandom};
use rand_pcg::Pcg64;
use tch::{Kind, Reduction, Tensor};

use super::{Epoch, Mode, Task, Weights, augment, draw_pixels, forward, normalise};
use crate::network::{Network, Parameter, Role};
use crate::recipe::{Draw, Recipe};

/// All cut-outs of a data set as bytes, with their labels.
pub(crate) struct Pictures {
    /// `[n, 3, size, size]`, bytes, on the device that trains.
    pub(crate) pixels: Tensor,
    pub(crate) anemic: Vec<bool>,
    pub(crate) groups: Vec<u64>,
    /// The input of the network is `(byte / 255 − mean) / std`.
    pub(crate) mean: [f32; 3],
    pub(crate) std: [f32; 3],
}

impl Pictures {
    /// One judged picture.
    fn judged(&self, index: usize, logit: f32) -> Judged {
        let probability = 1.0 / (1.0 + (-f64::from(logit)).exp());
        Judged { probability, anemic: self.anemic[index], group: self.groups[index] }
    }

    pub(super) fn pixels(&self, indices: &[usize]) -> Tensor {
        let indices: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
        self.pixels.index_select(0, &Tensor::from_slice(&indices).to_device(self.pixels.device()))
    }
}

/// A classifier that learns from some of the pictures.
pub(crate) struct Classifier<'a> {
    network: &'a Network,
    recipe: &'a Recipe,
    pictures: &'a Pictures,
    /// What is drawn from: one list of files, or one for each photograph.
    units: Vec<Vec<usize>>,
    /// The pictures that decide when to stop; empty without early stopping.
    validation: Vec<usize>,
}

impl<'a> Classifier<'a> {
    /// Learns from the pictures `train`.
    pub(crate) fn new(
        network: &'a Network,
        recipe: &'a Recipe,
        pictures: &'a Pictures,
        train: &[usize],
        validation: Vec<usize>,
    ) -> Self {
        let mut places: HashMap<u64, usize> = HashMap::new();
        let mut units: Vec<Vec<usize>> = Vec::new();
        for &index in train {
            match recipe.draw {
                Draw::Files => units.push(vec![index]),
                Draw::Photographs => {
                    let place = *places.entry(pictures.groups[index]).or_insert(units.len());
                    if place == units.len() {
                        units.push(Vec::new());
                    }
                    units[place].push(index);
                }
            }
        }
        Self { network, recipe, pictures, units, validation }
    }
}

/// The logits of some pictures, unchanged, with the running statistics.
pub(crate) fn predict(network: &Network, pictures: &Pictures, weights: &Weights, indices: &[usize]) -> Vec<f32> {
    let _guard = tch::no_grad_guard();
    let mut logits = Vec::with_capacity(indices.len());
    for batch in indices.chunks(64) {
        let batch = normalise(&pictures.pixels(batch), pictures.mean, pictures.std);
        let found = forward(network, weights, &batch, Mode::MEASURE);
        logits.extend(Vec::<f32>::try_from(&found).expect("a classifier gives one 32-bit float for each picture"));
    }
    logits
}

impl Task for Classifier<'_> {
    fn rate(&self, parameter: &Parameter) -> f64 {
        if parameter.name.starts_with("classifier") { self.recipe.head_rate } else { 1.0 }
    }

    fn decay(&self, parameter: &Parameter) -> f64 {
        if matches!(parameter.role, Role::Kernel | Role::Matrix) { self.recipe.weight_decay } else { 0.0 }
    }

    fn batches(&self, random: &mut Pcg64) -> Vec<Vec<usize>> {
        let one = |unit: &Vec<usize>| *unit.choose(random).expect("every unit holds the picture that made it");
        let mut order: Vec<usize> = self.units.iter().map(one).collect();
        order.shuffle(random);
        let batches = order.chunks(self.recipe.batch as usize);
        // The statistics of a single picture are none.
        batches.filter(|batch| batch.len() > 1).map(<[usize]>::to_vec).collect()
    }

    fn loss(&self, weights: &Weights, batch: &[usize], random: &mut Pcg64) -> (Tensor, f64) {
        let recipe = self.recipe;
        let pictures = augment(&self.pictures.pixels(batch), &recipe.augmentation, random);
        let pictures = if recipe.pixels > 0 { draw_pixels(&pictures, recipe.pixels) } else { pictures };
        let pictures = normalise(&pictures, self.pictures.mean, self.pictures.std);
        let labels: Vec<f32> = batch.iter().map(|&index| f32::from(u8::from(self.pictures.anemic[index]))).collect();
        let labels = Tensor::from_slice(&labels).to_device(weights.trained.device());
        let targets = &labels * (1.0 - 2.0 * recipe.label_smoothing) + recipe.label_smoothing;
        let mode = Mode {
            batch_statistics: if recipe.frozen_statistics { |_| false } else { |_| true },
            dropout: recipe.dropout,
            apart: true,
        };
        // A row for each expert.
        let logits = forward(self.network, weights, &pictures, mode).view([-1, batch.len() as i64]);
        let (none, targets) = (None::<&Tensor>, targets.expand_as(&logits));
        let loss = logits.binary_cross_entropy_with_logits(&targets, none, none, Reduction::Mean);
        let hits = logits
            .mean_dim([0].as_slice(), false, None::<Kind>)
            .gt(0.0)
            .eq_tensor(&labels.gt(0.5))
            .sum(Kind::Float)
            .double_value(&[]);
        (loss, hits)
    }

    fn note(&self, mean: f64, row: &mut Epoch) {
        row.accuracy = Some(mean);
    }

    fn validate(&self, weights: &Weights, row: &mut Epoch) -> Option<f64> {
        if self.validation.is_empty() {
            return None;
        }
        let logits = predict(self.network, self.pictures, weights, &self.validation);
        let judged: Vec<Judged> =
            self.validation.iter().zip(logits).map(|(&index, logit)| self.pictures.judged(index, logit)).collect();
        let counts = Confusion::at(&judged, 0.5);
        row.validation_loss = log_loss(&judged);
        row.validation_accuracy = counts.accuracy();
        row.validation_f1 = counts.f1();
        row.validation_auc = auc(&judged);
        Some(self.recipe.select.score(row).unwrap_or(f64::NEG_INFINITY))
    }
}
