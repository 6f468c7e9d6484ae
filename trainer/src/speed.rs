//! One epoch of the paper's recipe on made-up pictures: what `make bench-train` compares with PyTorch.

use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::ProgressBar;
use tch::{Device, Kind, Tensor};

use crate::network::mobilenet_v2;
use crate::recipe::Recipe;
use crate::torch::{self, Classifier, Pictures, Weights, train};

/// Trains one epoch of `pictures` noise pictures of 224 × 224 on the processor, after one that warms up, and gives its
/// time.
pub fn epoch(pictures: usize, threads: u32) -> Result<Duration> {
    torch::set_up(threads)?;
    let mut recipe = Recipe::find("paper")?;
    (recipe.epochs, recipe.patience) = (1, None);
    let size = i64::from(recipe.size);
    let noise = Pictures {
        pixels: Tensor::randint(256, [pictures as i64, 3, size, size], (Kind::Uint8, Device::Cpu)),
        anemic: (0..pictures).map(|index| index % 2 == 0).collect(),
        groups: (0..pictures as u64).collect(),
        mean: [0.5; 3],
        std: [0.5; 3],
    };
    let network = mobilenet_v2(1e-5);
    let all: Vec<usize> = (0..pictures).collect();
    let classifier = Classifier::new(&network, &recipe, &noise, &all, Vec::new());
    let once = || -> Result<Duration> {
        let folder = tempfile::tempdir()?;
        let bar = ProgressBar::hidden();
        let start = Instant::now();
        train(&classifier, &recipe.plan(0, 0, folder.path(), &bar), Weights::random(&network, Device::Cpu, 0))?;
        Ok(start.elapsed())
    };
    once()?;
    once()
}
