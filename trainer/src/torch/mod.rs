//! Training with libtorch: what the feature `torch` adds.

mod adam;
mod augment;
mod classifier;
#[cfg(test)]
mod exported;
mod forward;
mod locator;
mod memory;
mod pretrained;
#[cfg(test)]
mod reference;
mod student;
mod training;
mod weights;

pub(crate) use adam::Adam;
pub(crate) use augment::{augment, draw_pixels, normalise};
pub(crate) use classifier::{Classifier, Pictures, predict};
pub(crate) use forward::{Mode, forward};
pub(crate) use locator::{Eyes, Locator, locate};
use memory::keep_freed_memory;
pub(crate) use pretrained::{Conventions, Pretrained};
pub(crate) use student::Student;
pub(crate) use training::{Epoch, INTERRUPTED, Plan, Task, train};
pub(crate) use weights::{Weights, read_tensors, write_tensors};

use anyhow::{Context, Result};
use std::sync::Once;
use std::sync::atomic::Ordering;
use tch::Device;

/// The version of libtorch: `torch-sys` does not build with another one.
pub(crate) const LIBTORCH: &str = "2.13.0";

/// Sets up memory, threads and SIGINT, before anything is computed.
pub(crate) fn set_up(threads: u32) -> Result<()> {
    keep_freed_memory();
    tch::set_num_threads(threads as i32);
    static LISTENING: Once = Once::new();
    let mut result = Ok(());
    LISTENING.call_once(|| result = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)));
    result.context("cannot listen to SIGINT")
}

/// The first GPU, or else the processor.
pub(crate) fn device() -> Device {
    Device::cuda_if_available()
}
