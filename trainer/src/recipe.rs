//! How a classifier is trained: every choice in one file.

use std::path::Path;

use anemia_vision::InputSpec;
use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use crate::network::{Network, colours, mobilenet_v2};
use crate::torch::{Epoch, Plan};

/// The recipes that need no file.
const PRESETS: [(&str, &str); 3] = [
    ("best", include_str!("../recipes/best.yaml")),
    ("mobilenet", include_str!("../recipes/mobilenet.yaml")),
    ("paper", include_str!("../recipes/paper.yaml")),
];

/// A recipe, as it stands in a file of `trainer/recipes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What is trained; recipes of earlier versions do not say it.
    #[serde(default)]
    pub network: Kind,
    /// Width and height of the network's input in pixels; a multiple of 32.
    pub size: u32,
    /// Width, in pixels of the input, of the rim of tissue that every cut-out loses; 0 to 16.
    #[serde(default)]
    pub rim: u32,
    /// Standard deviation, in pixels of the input, of the Gaussian that takes fine detail out of every cut-out; 0 to 16.
    #[serde(default)]
    pub smooth: f32,
    /// Width and height of the square that as many pixels of tissue make, drawn anew in every step, which the network learns from
    /// instead of the picture; only for a network to which their places are all the same. 0 for the picture.
    #[serde(default)]
    pub pixels: u32,
    /// Most passes over the training pictures.
    pub epochs: u32,
    /// Stop when the inner validation did not get better for more than so many epochs, and go back to its best; without
    /// it, all epochs are trained and the last state counts.
    #[serde(default)]
    pub patience: Option<u32>,
    /// What "better" means for `patience`.
    #[serde(default)]
    pub select: Select,
    /// Pictures in one step.
    pub batch: u32,
    /// What is drawn in an epoch.
    pub draw: Draw,
    /// Step size of Adam.
    pub learning_rate: f64,
    /// The last layer's step size is this many times larger.
    pub head_rate: f64,
    /// Whether the step size falls to 0 along half a cosine.
    pub cosine: bool,
    /// Decoupled weight decay of kernels and matrices.
    pub weight_decay: f64,
    /// Share of features that the last layer loses while training.
    pub dropout: f64,
    /// Labels 0 and 1 become this and 1 minus this.
    pub label_smoothing: f64,
    /// Decay per step of the moving average of the weights that is used in the end; 0 uses the weights themselves.
    pub average: f64,
    /// Whether the batch normalisations keep the statistics of the pretrained network.
    pub frozen_statistics: bool,
    /// What is done to pictures while training.
    pub augmentation: Augmentation,
}

/// A kind of classifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// MobileNetV2, from pretrained weights.
    #[default]
    MobilenetV2,
    /// The network of colours, from random numbers.
    Colours,
}

impl Kind {
    /// The network itself; `epsilon` is that of its normalisations.
    pub(crate) fn network(self, epsilon: f64) -> Network {
        match self {
            Self::MobilenetV2 => mobilenet_v2(epsilon),
            Self::Colours => colours(epsilon),
        }
    }
}

/// Which figure of the inner validation decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The F1 score, as in the paper.
    #[default]
    F1,
    /// The area under the ROC curve.
    Auc,
    /// The loss.
    Loss,
}

impl Select {
    /// The figure of an epoch, higher being better; `None` when it was not measured.
    pub(crate) fn score(self, epoch: &Epoch) -> Option<f64> {
        match self {
            Self::F1 => epoch.validation_f1,
            Self::Auc => epoch.validation_auc,
            Self::Loss => epoch.validation_loss.map(|loss| -loss),
        }
    }
}

/// What is drawn in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Draw {
    /// Every file once.
    Files,
    /// Every photograph once, by one of its files.
    Photographs,
}

/// How pictures are changed while training, each within its range and at random.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Mirror left and right in half of the cases.
    pub mirror: bool,
    /// Mirror up and down in half of the cases.
    pub upside_down: bool,
    /// Turn by at most this, both ways.
    pub rotation_degrees: f32,
    /// Move by at most this share of the picture, each way.
    pub shift: f32,
    /// Scale between these.
    pub scale: [f32; 2],
    /// Make brighter or darker by at most this factor's logarithm.
    #[serde(default)]
    pub light: f32,
    /// Make each channel brighter or darker, on its own, by at most this factor's logarithm.
    #[serde(default)]
    pub tint: f32,
    /// Blur tissue with tissue by a Gaussian of at most so many pixels.
    #[serde(default)]
    pub blur: f32,
    /// Add noise to the tissue whose standard deviation is at most this, of 255.
    #[serde(default)]
    pub noise: f32,
}

impl Augmentation {
    /// Whether pictures stay where they are.
    pub(crate) fn is_still(&self) -> bool {
        let Self { mirror, upside_down, rotation_degrees, shift, scale, .. } = *self;
        !mirror && !upside_down && [rotation_degrees, shift] == [0.0; 2] && scale == [1.0; 2]
    }
}

impl Recipe {
    /// A preset, or a file.
    pub fn find(name: &str) -> Result<Self> {
        let (origin, text) = match PRESETS.iter().find(|(preset, _)| *preset == name) {
            Some((preset, text)) => (format!("recipe {preset}"), (*text).to_owned()),
            None => {
                let names: Vec<&str> = PRESETS.iter().map(|(preset, _)| *preset).collect();
                let read = std::fs::read_to_string(Path::new(name));
                let context = || format!("{name}: neither a file nor one of the recipes {}", names.join(", "));
                (name.to_owned(), read.with_context(context)?)
            }
        };
        let recipe: Self = serde_yaml::from_str(&text).with_context(|| origin.clone())?;
        recipe.check().with_context(|| origin)?;
        Ok(recipe)
    }

    /// The same in the words of the training loop.
    pub(crate) fn plan<'a>(&self, seed: u64, stream: u64, folder: &'a Path, bar: &'a ProgressBar) -> Plan<'a> {
        Plan {
            epochs: self.epochs,
            patience: self.patience,
            learning_rate: self.learning_rate,
            warm_up: 0.0,
            cosine: self.cosine,
            average: self.average,
            seed,
            stream,
            folder,
            bar,
        }
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.size.is_multiple_of(32) && (32..=1024).contains(&self.size),
            "size: {}; expected a multiple of 32 from 32 to 1024",
            self.size
        );
        let most = InputSpec::MOST_RIM;
        ensure!(self.rim <= most, "rim: {}; expected 0 to {most}", self.rim);
        let most = InputSpec::MOST_SMOOTH;
        ensure!((0.0..=most).contains(&self.smooth), "smooth: {}; expected 0 to {most}", self.smooth);
        ensure!(
            self.pixels == 0 || (self.network == Kind::Colours && self.pixels <= self.size),
            "pixels: {}; expected 0, or, for a network of colours, at most {}",
            self.pixels,
            self.size
        );
        ensure!(
            !self.frozen_statistics || self.network == Kind::MobilenetV2,
            "frozen_statistics: true; expected false, or a network with pretrained statistics"
        );
        ensure!(self.epochs > 0 && self.batch > 1, "epochs must be at least 1 and batch at least 2");
        let rates = [self.learning_rate, self.head_rate];
        ensure!(rates.iter().all(|rate| *rate > 0.0), "learning_rate and head_rate must be greater than 0");
        let shares = [self.dropout, self.average, self.label_smoothing * 2.0];
        ensure!(
            shares.iter().all(|share| (0.0..1.0).contains(share)),
            "dropout and average must be in 0 to 1, label_smoothing in 0 to 0.5"
        );
        ensure!(self.weight_decay >= 0.0, "weight_decay must not be negative");
        let how = &self.augmentation;
        ensure!(
            how.scale[0] > 0.0 && how.scale[0] <= how.scale[1] && how.scale[1] <= 10.0,
            "augmentation: scale must be a rising pair above 0, and at most 10"
        );
        for (key, value, most) in [
            ("rotation_degrees", how.rotation_degrees, 360.0),
            ("shift", how.shift, 1.0),
            ("light", how.light, 2.0),
            ("tint", how.tint, 1.0),
            ("blur", how.blur, 8.0),
            ("noise", how.noise, 64.0),
        ] {
            ensure!((0.0..=most).contains(&value), "augmentation: {key}: {value}; expected 0 to {most}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_can_be_read_and_a_wrong_file_is_named() {
        for (preset, _) in PRESETS {
            Recipe::find(preset).unwrap();
        }
        let error = format!("{:#}", Recipe::find("/does/not/exist.yaml").unwrap_err());
        assert!(error.contains("/does/not/exist.yaml") && error.contains("paper"), "{error}");
    }

    #[test]
    fn statistics_that_nobody_trained_are_not_kept() {
        let recipe = Recipe { frozen_statistics: true, ..Recipe::find("best").unwrap() };
        assert!(recipe.check().unwrap_err().to_string().contains("frozen_statistics"));
    }

    #[test]
    fn what_a_camera_never_does_is_refused() {
        let mut recipe = Recipe::find("best").unwrap();
        for (blur, light) in [(-0.1, 0.0), (9.0, 0.0), (f32::NAN, 0.0), (0.0, 3.0)] {
            (recipe.augmentation.blur, recipe.augmentation.light) = (blur, light);
            assert!(recipe.check().unwrap_err().to_string().contains("augmentation"));
        }
        for (rotation, scale) in [(f32::INFINITY, 1.0), (0.0, f32::INFINITY), (-1.0, 1.0)] {
            let mut recipe = Recipe::find("best").unwrap();
            (recipe.augmentation.rotation_degrees, recipe.augmentation.scale[1]) = (rotation, scale);
            assert!(recipe.check().unwrap_err().to_string().contains("augmentation"));
        }
    }
}
