//! The loop of a training: epochs, validation, early stopping, checkpoints.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use rand::SeedableRng;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use super::{Adam, Weights, read_tensors, write_tensors};
use crate::files::{read_rows, write_rows};
use crate::network::Parameter;

/// Set by SIGINT: a run ends after the step in hand.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A checkpoint is written after an epoch, but not more often than this: an epoch of a small network takes a second.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
const CHECKPOINT: &str = "checkpoint.safetensors";
const EPOCHS: &str = "epochs.csv";

/// What is learned: a classifier, a locator, or a classifier whose values are rounded.
pub(crate) trait Task {
    /// What the learning rate of a parameter is multiplied with.
    fn rate(&self, parameter: &Parameter) -> f64;
    /// The weight decay of a parameter.
    fn decay(&self, parameter: &Parameter) -> f64;
    /// The pictures of one epoch, as indices, step by step.
    fn batches(&self, random: &mut Pcg64) -> Vec<Vec<usize>>;
    /// The mean loss of one step, and how good its answers were: the sum over its pictures of what [`Task::note`] gets
    /// the mean of.
    fn loss(&self, weights: &Weights, batch: &[usize], random: &mut Pcg64) -> (Tensor, f64);
    /// Fills the mean over an epoch of how good the answers were into the row.
    fn note(&self, mean: f64, row: &mut Epoch);
    /// Measures on pictures that are not trained on and fills in the row; gives what early stopping compares.
    fn validate(&self, weights: &Weights, row: &mut Epoch) -> Option<f64>;
}

/// How long and how fast.
pub(crate) struct Plan<'a> {
    pub(crate) epochs: u32,
    /// See [`crate::recipe::Recipe::patience`].
    pub(crate) patience: Option<u32>,
    pub(crate) learning_rate: f64,
    /// The share of all steps in which the learning rate rises from 0.
    pub(crate) warm_up: f64,
    /// Whether it falls to 0 along half a cosine after that.
    pub(crate) cosine: bool,
    /// Decay per step of the moving average; 0 for none.
    pub(crate) average: f64,
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
    pub(crate) accuracy: Option<f64>,
    /// Intersection over union, of a locator.
    pub(crate) iou: Option<f64>,
    /// Share of verdicts that rounding left, of a network that learns to be rounded.
    pub(crate) kept: Option<f64>,
    pub(crate) validation_loss: Option<f64>,
    pub(crate) validation_accuracy: Option<f64>,
    pub(crate) validation_f1: Option<f64>,
    pub(crate) validation_auc: Option<f64>,
    pub(crate) seconds: f64,
}

/// Trains until the plan says stop, from the last checkpoint in its folder where there is one; gives the best weights.
pub(crate) fn train(task: &impl Task, plan: &Plan<'_>, start: Weights) -> Result<Weights> {
    let mut training = Training::new(task, plan, start);
    training.resume()?;
    let mut saved = Instant::now();
    plan.bar.set_position(training.epoch as u64);
    while !training.is_done() {
        training.run_epoch()?;
        plan.bar.inc(1);
        if saved.elapsed() >= CHECKPOINT_EVERY || training.is_done() {
            training.save()?;
            saved = Instant::now();
        }
    }
    Ok(training.best)
}

struct Training<'a, T: Task> {
    task: &'a T,
    plan: &'a Plan<'a>,
    weights: Weights,
    adam: Adam,
    /// Moving average of the weights; the weights themselves when the plan has none.
    average: Weights,
    best: Weights,
    best_score: f64,
    best_epoch: i64,
    epoch: i64,
    log: Vec<Epoch>,
}

impl<'a, T: Task> Training<'a, T> {
    fn new(task: &'a T, plan: &'a Plan<'a>, weights: Weights) -> Self {
        let adam =
            Adam::new(&weights.trained, weights.spread(|one| task.rate(one)), weights.spread(|one| task.decay(one)));
        let (average, best) = (weights.copy(), weights.copy());
        let (best_score, best_epoch, epoch) = (f64::NEG_INFINITY, 0, 0);
        Self { task, plan, weights, adam, average, best, best_score, best_epoch, epoch, log: Vec::new() }
    }

    fn is_done(&self) -> bool {
        let waited = self.epoch - self.best_epoch;
        self.epoch >= i64::from(self.plan.epochs)
            || self.plan.patience.is_some_and(|patience| waited > i64::from(patience))
    }

    /// The random numbers of an epoch depend on nothing but the seed, so that a resumed run draws the same ones.
    fn random(&self) -> Pcg64 {
        let mut random = Pcg64::seed_from_u64(self.plan.seed);
        random.advance((u128::from(self.plan.stream) << 64) | ((self.epoch as u128) << 40));
        random
    }

    fn run_epoch(&mut self) -> Result<()> {
        let (plan, start) = (self.plan, Instant::now());
        let mut random = self.random();
        // Dropout and noise come from libtorch's own generator.
        tch::manual_seed((plan.seed ^ plan.stream.rotate_left(32)).wrapping_add(self.epoch as u64) as i64);
        let batches = self.task.batches(&mut random);
        let (mut losses, mut right, mut drawn, mut rate) = (0.0, 0.0, 0.0, plan.learning_rate);
        for (step, batch) in batches.iter().enumerate() {
            if INTERRUPTED.load(Ordering::Relaxed) {
                bail!("interrupted; the same command goes on from the last checkpoint in {}", plan.folder.display());
            }
            let steps = batches.len() as f64;
            rate = plan.rate((self.epoch as f64 * steps + step as f64) / (steps * f64::from(plan.epochs)));
            let (loss, hits) = self.task.loss(&self.weights, batch, &mut random);
            loss.backward();
            let loss = loss.double_value(&[]);
            ensure!(
                loss.is_finite(),
                "the loss is {loss} in epoch {}, step {}; a smaller learning_rate may help; the last good state is in {}",
                self.epoch + 1,
                step + 1,
                plan.folder.display()
            );
            self.adam.step(&mut self.weights.trained, rate);
            self.follow();
            losses += loss * batch.len() as f64;
            right += hits;
            drawn += batch.len() as f64;
        }
        self.epoch += 1;
        let loss = losses / drawn;
        let mut row = Epoch { epoch: self.epoch as u32, learning_rate: rate, loss, ..Epoch::default() };
        self.task.note(right / drawn, &mut row);
        // Without a validation the last state is the best.
        let score = self.task.validate(&self.average, &mut row).unwrap_or(self.epoch as f64);
        if score > self.best_score || self.best_epoch == 0 {
            (self.best_score, self.best_epoch, self.best) = (score, self.epoch, self.average.copy());
        }
        row.seconds = start.elapsed().as_secs_f64();
        plan.bar.set_message(match row.validation_auc {
            Some(auc) => format!("loss {loss:.3}, validation AUC {auc:.3}"),
            None => format!("loss {loss:.3}"),
        });
        self.log.push(row);
        Ok(())
    }

    /// Moves the average after the weights.
    fn follow(&mut self) {
        // The average of the first steps is a plain one: the start is not remembered for ever.
        let steps = self.adam.steps as f64;
        let weight =
            if self.plan.average > 0.0 { 1.0 - self.plan.average.min((1.0 + steps) / (10.0 + steps)) } else { 1.0 };
        no_grad(|| {
            let _ = self.average.trained.lerp_(&self.weights.trained, weight);
            let _ = self.average.running.lerp_(&self.weights.running, weight);
        });
    }

    fn save(&self) -> Result<()> {
        let folder = self.plan.folder;
        let progress = Tensor::from_slice(&[self.epoch, self.best_epoch, self.adam.steps]);
        let score = Tensor::from_slice(&[self.best_score]);
        let trained = self.weights.trained.detach();
        let tensors = [
            ("trained", &trained),
            ("running", &self.weights.running),
            ("adam.mean", &self.adam.mean),
            ("adam.square", &self.adam.square),
            ("average.trained", &self.average.trained),
            ("average.running", &self.average.running),
            ("best.trained", &self.best.trained),
            ("best.running", &self.best.running),
            ("progress", &progress),
            ("score", &score),
        ];
        write_rows(&folder.join(EPOCHS), &self.log)?;
        write_tensors(&folder.join(CHECKPOINT), &tensors)
    }

    fn resume(&mut self) -> Result<()> {
        let path = self.plan.folder.join(CHECKPOINT);
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
        take("average.trained", &mut self.average.trained)?;
        take("average.running", &mut self.average.running)?;
        take("best.trained", &mut self.best.trained)?;
        take("best.running", &mut self.best.running)?;
        let numbers = |name: &str| found.get(name).with_context(context);
        let progress = Vec::<i64>::try_from(numbers("progress")?).with_context(context)?;
        let [epoch, best_epoch, steps] = progress[..] else { bail!(context()) };
        (self.epoch, self.best_epoch, self.adam.steps) = (epoch, best_epoch, steps);
        let score = Vec::<f64>::try_from(numbers("score")?).with_context(context)?;
        self.best_score = *score.first().with_context(context)?;
        self.log = read_rows(&self.plan.folder.join(EPOCHS))?.unwrap_or_default();
        // The table is written before the checkpoint: a kill between the two leaves rows of epochs that come again.
        self.log.truncate(usize::try_from(epoch).unwrap_or(0));
        Ok(())
    }
}

impl Plan<'_> {
    /// The learning rate when `progress`, 0 to 1, of all steps are done.
    fn rate(&self, progress: f64) -> f64 {
        if progress < self.warm_up {
            return self.learning_rate * (progress / self.warm_up).max(0.01);
        }
        let after = (progress - self.warm_up) / (1.0 - self.warm_up);
        if self.cosine {
            self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * after).cos())
        } else {
            self.learning_rate
        }
    }
}
