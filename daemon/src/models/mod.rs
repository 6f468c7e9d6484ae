//! Models: those that ship with the program, and newer ones that were installed later.

mod command;
mod fetch;
mod install;
mod slots;
mod unpack;

use std::path::PathBuf;

use crate::machine;

pub use command::Models;
pub use install::install;
pub use slots::{Slots, Trial};
use unpack::unpack;

/// The environment variable that names the folder of the bundles.
pub const MODELS_VARIABLE: &str = "ANEMIAD_MODELS";

/// The classifier that ships with the program.
pub fn shipped_classifier() -> PathBuf {
    shipped("pallor")
}

/// The locator that ships with the program.
pub fn shipped_locator() -> PathBuf {
    shipped("locator")
}

/// A bundle in the folder that [`MODELS_VARIABLE`] names, or where the package installs it, or in the source folder whose
/// `target` folder holds the program.
fn shipped(name: &str) -> PathBuf {
    if let Some(folder) = machine::variable(MODELS_VARIABLE) {
        return PathBuf::from(folder).join(name);
    }
    let installed = PathBuf::from("/usr/share/anemiad/models").join(name);
    let source = anemia_engine::source_folder().map(|source| source.join("models").join(name));
    match source.filter(|bundle| bundle.is_dir()) {
        Some(bundle) if !installed.is_dir() => bundle,
        _ => installed,
    }
}
