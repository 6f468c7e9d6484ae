//! From labelled pictures to a model bundle: what `anemia-train` does.

pub mod audit;
mod dataset;
mod evaluate;
mod network;
mod pack;
mod recipe;
mod run_folder;
mod split;

#[cfg(feature = "torch")]
mod cv;
#[cfg(feature = "torch")]
mod torch;

pub mod commands;
