//! From labelled pictures to a model bundle: what `anemia-train` does.

pub mod audit;
mod bundle;
mod dataset;
mod evaluate;
mod files;
mod output;
mod pack;
mod predictions;

// What needs libtorch.
#[cfg(feature = "torch")]
mod cv;
#[cfg(feature = "torch")]
mod fit;
#[cfg(feature = "torch")]
mod locate;
#[cfg(feature = "torch")]
mod network;
#[cfg(feature = "torch")]
mod qat;
#[cfg(feature = "torch")]
mod recipe;
#[cfg(feature = "torch")]
mod report;
#[cfg(feature = "torch")]
mod run_folder;
#[cfg(feature = "torch")]
mod split;
#[cfg(feature = "torch")]
mod torch;

pub mod commands;
#[cfg(feature = "torch")]
pub mod speed;
