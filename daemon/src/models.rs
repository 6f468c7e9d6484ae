//! Where the bundles that ship with the program are.

use std::path::PathBuf;

/// The environment variable that names the folder of the bundles.
pub const MODELS_VARIABLE: &str = "ANEMIAD_MODELS";

/// The classifier that ships: in the folder that [`MODELS_VARIABLE`] names, or where the package installs it, or in the
/// source folder whose `target` folder holds the program.
pub fn shipped_classifier() -> PathBuf {
    if let Some(folder) = std::env::var_os(MODELS_VARIABLE).filter(|folder| !folder.is_empty()) {
        return PathBuf::from(folder).join("pallor");
    }
    let installed = PathBuf::from("/usr/share/anemiad/models/pallor");
    match anemia_engine::source_folder().map(|source| source.join("models/pallor")).filter(|bundle| bundle.is_dir()) {
        Some(bundle) if !installed.is_dir() => bundle,
        _ => installed,
    }
}
