//! Training one classifier: epochs, inner validation, early stopping, checkpoints.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anemia_evaluation::{Confusion, Judged, auc, log_loss};
use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use rand::SeedableRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor, no_grad};

use super::{Adam, Weights, augment, forward, normalise, read_tensors, write_tensors};
use crate::network::{Network, Role};
use crate::recipe::{Draw, Recipe, Select};
use crate::files::{read_rows, write_rows};

/// Set by SIGINT: a run ends after the step in hand.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A checkpoint is written after an epoch, but not more often than this: an epoch of a small network takes a second.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
const CHECKPOINT: &str = "checkpoint.safetensors";
const EPOCHS: &str = "epochs.csv";

/// All pictures of a data set as bytes, with their labels.
pub(crate) struct Pictures {
    /// `[n, 3, size, size]`, bytes, on the device that trains.
    pub(crate) pixels: Tensor,
    pub(crate) anemic: Vec<bool>,
    pub(crate) groups: Vec<u64>,
    /// The input of the network is `(byte / 255 − mean) / std`.
    pub(crate) mean: [f32; 3],
    pub(crate) std: [f32; 3],
}

/// What one training needs.
pub(crate) struct Job<'a> {
    pub(crate) network: &'a Network,
    pub(crate) recipe: &'a Recipe,
    pub(crate) pictures: &'a Pictures,
    /// Indices of the pictures that are trained on.
    pub(crate) train: Vec<usize>,
    /// Indices of those that decide when to stop; empty without early stopping.
    pub(crate) validation: Vec<usize>,
    pub(crate) seed: u64,
    /// Tells the random numbers of one training from those of another with the same seed.
    pub(crate) stream: u64,
    /// Where checkpoints go.
    pub(crate) folder: &'a Path,
    pub(crate) bar: &'a ProgressBar,
}

/// One row of `epochs.csv`; what was not measured is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Epoch {
    pub(crate) epoch: u32,
    pub(crate) learning_rate: f64,
    pub(crate) loss: f64,
    pub(crate) accuracy: f64,
    pub(crate) validation_loss: Option<f64>,
    pub(crate) validation_accuracy: Option<f64>,
    pub(crate) validation_f1: Option<f64>,
    pub(crate) validation_auc: Option<f64>,
    pub(crate) seconds: f64,
}

/// Numbers that are good enough to be used.
pub(crate) struct State {
    pub(crate) trained: Tensor,
    pub(crate) running: Tensor,
}

/// Trains until the recipe says stop, from the last checkpoint in the folder where there is one.
pub(crate) fn train(job: &Job<'_>, start: Weights) -> Result<State> {
    let mut training = Training::new(job, start);
    training.resume()?;
    let recipe = job.recipe;
    let mut saved = Instant::now();
    let done = |training: &Training<'_>| {
        training.epoch >= i64::from(recipe.epochs)
            || recipe.patience.is_some_and(|patience| training.epoch - training.best_epoch > i64::from(patience))
    };
    job.bar.set_position(training.epoch as u64);
    while !done(&training) {
        training.run_epoch()?;
        job.bar.inc(1);
        if saved.elapsed() >= CHECKPOINT_EVERY || done(&training) {
            training.save()?;
            saved = Instant::now();
        }
    }
    Ok(training.result())
}

struct Training<'a> {
    job: &'a Job<'a>,
    weights: Weights,
    adam: Adam,
    /// Moving average of the weights; the weights themselves when the recipe has none.
    average: Tensor,
    best: State,
    best_score: f64,
    best_epoch: i64,
    epoch: i64,
    log: Vec<Epoch>,
    /// What is drawn from: one list of files, or one for each photograph.
    units: Vec<Vec<usize>>,
}

impl<'a> Training<'a> {
    fn new(job: &'a Job<'a>, weights: Weights) -> Self {
        let rates = weights.spread(|one| if one.name.starts_with("classifier") { job.recipe.head_rate } else { 1.0 });
        let decays = weights.spread(|one| match one.role {
            Role::Kernel | Role::Matrix => job.recipe.weight_decay,
            _ => 0.0,
        });
        let units = match job.recipe.draw {
            Draw::Files => job.train.iter().map(|&index| vec![index]).collect(),
            Draw::Photographs => {
                let mut order: Vec<u64> = Vec::new();
                let mut groups: HashMap<u64, Vec<usize>> = HashMap::new();
                for &index in &job.train {
                    let group = job.pictures.groups[index];
                    groups.entry(group).or_insert_with(|| {
                        order.push(group);
                        Vec::new()
                    });
                    groups.entry(group).or_default().push(index);
                }
                order.iter().map(|group| groups[group].clone()).collect()
            }
        };
        let best = State { trained: weights.trained.detach().copy(), running: weights.running.copy() };
        let adam = Adam::new(&weights.trained, rates, decays);
        let average = weights.trained.detach().copy();
        Self {
            job,
            weights,
            adam,
            average,
            best,
            best_score: f64::NEG_INFINITY,
            best_epoch: 0,
            epoch: 0,
            log: Vec::new(),
            units,
        }
    }

    /// The random numbers of an epoch depend on nothing but the seed, so that a resumed run draws the same ones.
    fn random(&self) -> Pcg64 {
        let mut random = Pcg64::seed_from_u64(self.job.seed);
        random.advance((u128::from(self.job.stream) << 64) | ((self.epoch as u128) << 40));
        random
    }

    fn run_epoch(&mut self) -> Result<()> {
        let (job, recipe, start) = (self.job, self.job.recipe, Instant::now());
        let mut random = self.random();
        // Dropout draws from libtorch's own generator.
        tch::manual_seed((job.seed ^ job.stream.rotate_left(32)).wrapping_add(self.epoch as u64) as i64);
        let mut order: Vec<usize> = self
            .units
            .iter()
            .map(|unit| *unit.choose(&mut random).expect("every unit holds the picture that made it"))
            .collect();
        order.shuffle(&mut random);
        let batches: Vec<&[usize]> = order.chunks(recipe.batch as usize).filter(|batch| batch.len() > 1).collect();
        let steps_in_all = batches.len() as f64 * f64::from(recipe.epochs);
        let (mut losses, mut right, mut rate) = (0.0, 0.0, recipe.learning_rate);
        for (step, batch) in batches.iter().enumerate() {
            if INTERRUPTED.load(Ordering::Relaxed) {
                bail!("interrupted; the same command goes on from the last checkpoint, {}", job.folder.display());
            }
            if recipe.cosine {
                let progress = (self.epoch as f64 * batches.len() as f64 + step as f64) / steps_in_all;
                rate = recipe.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
            }
            let (loss, hits) = self.step(batch, rate, &mut random);
            ensure!(
                loss.is_finite(),
                "the loss is {loss} in epoch {}, step {}; a smaller learning_rate may help; the last good state is in {}",
                self.epoch + 1,
                step + 1,
                job.folder.display()
            );
            losses += loss * batch.len() as f64;
            right += hits;
        }
        let drawn: usize = batches.iter().map(|batch| batch.len()).sum();
        self.epoch += 1;
        let mut row = Epoch {
            epoch: self.epoch as u32,
            learning_rate: rate,
            loss: losses / drawn as f64,
            accuracy: right / drawn as f64,
            ..Epoch::default()
        };
        self.validate(&mut row);
        row.seconds = start.elapsed().as_secs_f64();
        job.bar.set_message(match row.validation_auc {
            Some(auc) => format!("loss {:.3}, validation AUC {auc:.3}", row.loss),
            None => format!("loss {:.3}", row.loss),
        });
        self.log.push(row);
        Ok(())
    }

    /// One step; gives the mean loss and how many pictures were on their side of the threshold.
    fn step(&mut self, batch: &[usize], rate: f64, random: &mut Pcg64) -> (f64, f64) {
        let (job, recipe) = (self.job, self.job.recipe);
        let device = self.weights.trained.device();
        let indices: Vec<i64> = batch.iter().map(|&index| index as i64).collect();
        let pixels = job.pictures.pixels.index_select(0, &Tensor::from_slice(&indices).to_device(device));
        let pictures = augment(&pixels, &recipe.augmentation, random);
        let pictures = normalise(&pictures, job.pictures.mean, job.pictures.std);
        let labels: Vec<f32> = batch.iter().map(|&index| f32::from(u8::from(job.pictures.anemic[index]))).collect();
        let labels = Tensor::from_slice(&labels).to_device(device);
        let targets = &labels * (1.0 - 2.0 * recipe.label_smoothing) + recipe.label_smoothing;

        let train = !recipe.frozen_statistics;
        let logits = forward(job.network, &self.weights, &self.weights.trained, &pictures, train, recipe.dropout);
        let loss = logits.binary_cross_entropy_with_logits(&targets, None::<&Tensor>, None::<&Tensor>, Reduction::Mean);
        loss.backward();
        self.adam.step(&mut self.weights.trained, rate);
        no_grad(|| {
            if recipe.average > 0.0 {
                // The average of the first steps is a plain one: the start is not remembered for ever.
                let steps = self.adam.steps as f64;
                let decay = recipe.average.min((1.0 + steps) / (10.0 + steps));
                let _ = self.average.lerp_(&self.weights.trained, 1.0 - decay);
            } else {
                let _ = self.average.copy_(&self.weights.trained);
            }
        });
        let hits = logits.gt(0.0).eq_tensor(&labels.gt(0.5)).sum(Kind::Float).double_value(&[]);
        (loss.double_value(&[]), hits)
    }

    /// Measures on the inner validation and remembers the best state; without one, the last state is the best.
    fn validate(&mut self, row: &mut Epoch) {
        let job = self.job;
        let score = if job.validation.is_empty() {
            f64::from(row.epoch)
        } else {
            let logits = predict(job, &self.weights, &self.average, &job.validation);
            let judged: Vec<Judged> =
                job.validation.iter().zip(logits).map(|(&k, z)| job.pictures.judged(k, z)).collect();
            let counts = Confusion::at(&judged, 0.5);
            row.validation_loss = log_loss(&judged);
            row.validation_accuracy = counts.accuracy();
            row.validation_f1 = counts.f1();
            row.validation_auc = auc(&judged);
            match job.recipe.select {
                Select::F1 => row.validation_f1,
                Select::Auc => row.validation_auc,
                Select::Loss => row.validation_loss.map(|loss| -loss),
            }
            .unwrap_or(f64::NEG_INFINITY)
        };
        if score > self.best_score || self.best_epoch == 0 {
            (self.best_score, self.best_epoch) = (score, self.epoch);
            self.best = State { trained: self.average.copy(), running: self.weights.running.copy() };
        }
    }

    fn save(&self) -> Result<()> {
        let folder = self.job.folder;
        let progress = Tensor::from_slice(&[self.epoch, self.best_epoch, self.adam.steps]);
        let score = Tensor::from_slice(&[self.best_score]);
        let trained = self.weights.trained.detach();
        let tensors = [
            ("trained", &trained),
            ("running", &self.weights.running),
            ("adam.mean", &self.adam.mean),
            ("adam.square", &self.adam.square),
            ("average", &self.average),
            ("best.trained", &self.best.trained),
            ("best.running", &self.best.running),
            ("progress", &progress),
            ("score", &score),
        ];
        write_rows(&folder.join(EPOCHS), &self.log)?;
        write_tensors(&folder.join(CHECKPOINT), &tensors)
    }

    fn resume(&mut self) -> Result<()> {
        let path = self.job.folder.join(CHECKPOINT);
        if !path.exists() {
            return Ok(());
        }
        let found: HashMap<String, Tensor> = read_tensors(&path)?.into_iter().collect();
        let context = || format!("{}: not a checkpoint of this run; remove it to start again", path.display());
        let take = |name: &str, target: &mut Tensor| -> Result<()> {
            let source = found.get(name).filter(|source| source.size() == target.size()).with_context(context)?;
            no_grad(|| target.copy_(source));
            Ok(())
        };
        take("trained", &mut self.weights.trained)?;
        take("running", &mut self.weights.running)?;
        take("adam.mean", &mut self.adam.mean)?;
        take("adam.square", &mut self.adam.square)?;
        take("average", &mut self.average)?;
        take("best.trained", &mut self.best.trained)?;
        take("best.running", &mut self.best.running)?;
        let numbers = |name: &str| found.get(name).with_context(context);
        let progress = Vec::<i64>::try_from(numbers("progress")?).with_context(context)?;
        let [epoch, best_epoch, steps] = progress[..] else { bail!(context()) };
        (self.epoch, self.best_epoch, self.adam.steps) = (epoch, best_epoch, steps);
        self.best_score =
            *Vec::<f64>::try_from(numbers("score")?).with_context(context)?.first().with_context(context)?;
        self.log = read_rows(&self.job.folder.join(EPOCHS))?.unwrap_or_default();
        // The table is written before the checkpoint: a kill between the two leaves rows of epochs that come again.
        self.log.truncate(usize::try_from(epoch).unwrap_or(0));
        Ok(())
    }

    fn result(self) -> State {
        self.best
    }
}

impl Pictures {
    /// One judged picture.
    pub(crate) fn judged(&self, index: usize, logit: f32) -> Judged {
        let probability = 1.0 / (1.0 + (-f64::from(logit)).exp());
        Judged { probability, anemic: self.anemic[index], group: self.groups[index] }
    }
}

/// The logits of some pictures, unchanged, with the running statistics.
pub(crate) fn predict(job: &Job<'_>, weights: &Weights, trained: &Tensor, indices: &[usize]) -> Vec<f32> {
    let _guard = tch::no_grad_guard();
    let mut logits = Vec::with_capacity(indices.len());
    for batch in indices.chunks(64) {
        let batch: Vec<i64> = batch.iter().map(|&index| index as i64).collect();
        let pixels = job.pictures.pixels.index_select(0, &Tensor::from_slice(&batch).to_device(trained.device()));
        let pictures = normalise(&pixels, job.pictures.mean, job.pictures.std);
        let found = forward(job.network, weights, trained, &pictures, false, 0.0);
        logits.extend(Vec::<f32>::try_from(&found).expect("a classifier gives one 32-bit float for each picture"));
    }
    logits
}
