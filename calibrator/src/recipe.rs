//! How a network is quantized: every choice in one file.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::quantize::{RangeMethod, Rounding};

/// A recipe, as it stands in a file of `calibrator/recipes`. Each part can be switched on alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Which range of the values between two steps is kept.
    pub range: RangeMethod,
    /// Which integer each weight becomes.
    pub rounding: Rounding,
    /// Move factors between layers so that less is lost in the grids between them; at int8.
    pub equalise: bool,
    /// Move factors between layers so that less is lost in the weights, as AWQ does; at int4.
    pub scale_weights: bool,
    /// Let the weights of a layer make good what the layers before it lost.
    pub compensate: bool,
    /// Give every output the mean back that rounding took.
    pub correct_bias: bool,
    /// Move channels so that the background falls onto the grid; needs `correct_bias`, which takes shifts out again.
    pub align: bool,
    /// Fit temperature and offset of the logit to that of the fp32 network on the calibration pictures.
    pub refit: bool,
    /// Share of the multiplications of an int8 network that may stay in floats, for the values that 8 bits hurt most; 0 to 1.
    pub float_share: f64,
    /// Size of the int4 file as a share of the fp32 file that layers may be kept at 8 bits for, 0 to 1.
    pub int4_size: f64,
}

const PAPER: &str = include_str!("../recipes/paper.yaml");
const BEST: &str = include_str!("../recipes/best.yaml");

impl Recipe {
    /// The recipe called `paper` or `best`, or that of a YAML file.
    pub fn find(name: &str) -> Result<Self> {
        let text = match name {
            "paper" => PAPER.to_owned(),
            "best" => BEST.to_owned(),
            file => std::fs::read_to_string(Path::new(file))
                .with_context(|| format!("--recipe {file}: expected `paper`, `best` or a YAML file"))?,
        };
        let recipe: Self = serde_yaml::from_str(&text).with_context(|| format!("recipe {name}"))?;
        for (key, share) in [("float_share", recipe.float_share), ("int4_size", recipe.int4_size)] {
            ensure!((0.0..=1.0).contains(&share), "recipe {name}: {key}: {share}; expected 0 to 1");
        }
        ensure!(recipe.correct_bias || !recipe.align, "recipe {name}: align needs correct_bias");
        Ok(recipe)
    }
}
