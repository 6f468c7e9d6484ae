//! Quantizing the networks of anemiad, and proving what that costs: what `anemia-calibrate` does.

mod command_quantize;
pub mod commands;
mod exports;
mod files;
pub mod folds;
mod inspect;
pub mod network;
mod output;
pub mod pictures;
pub mod quantize;
mod recipe;
mod report;
pub mod write;

pub use recipe::Recipe;
