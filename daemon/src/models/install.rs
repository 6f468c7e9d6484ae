//! Installing a model: fetched, checked, tried on this machine, and only then taken into use.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anemia_bundle::{Bundle, SIGNATURE, Sha256, Task, read_public_key, verify_signature};
use anemia_engine::Follow;

use super::fetch::{check_hash, fetch};
use super::{Slots, unpack};
use crate::config::{Config, Roi, Updates};
use crate::pipeline::Pipeline;

/// Installs the model at `source`: a folder, a file, or a URL with `file:` or `https:`. `sha256` is that of the file, and must
/// be there for `https:`. `follow` is told how far the build of a plan is, and stops everything with `false`.
///
/// The model in use goes on meanwhile. It is replaced when the new one is signed by the key of the configuration, is whole, and
/// gives the right answers on this machine with this configuration; the daemon takes it with the next start or reload, and it
/// then has to prove itself. Gives its name and version.
pub fn install(config: &Config, source: &str, sha256: Option<&str>, follow: &mut Follow<'_>) -> Result<String, String> {
    let Some(updates) = &config.model.updates else {
        return Err("model.updates is not in the configuration: no newer models are accepted".into());
    };
    // What the bundle is for is known when it is there; until then it is with the classifiers.
    let slots = Slots::new(&config.state_dir, Task::Classify);
    let _lock = slots.lock().map_err(|error| format!("{}: {error}", config.state_dir.display()))?;
    let staging = slots.staging().map_err(|error| format!("{}: {error}", config.state_dir.display()))?;
    let done = stage(config, updates, source, sha256, &staging, follow);
    let done = done.and_then(|(task, model, sha256)| {
        let slots = Slots::new(&config.state_dir, task);
        if let Some(trial) = slots.trial() {
            // Or what has not proven itself would be what is rolled back to.
            return Err(format!(
                "{} is in use and has not proven itself yet: wait, or roll it back first",
                trial.model
            ));
        }
        let failed = |error: std::io::Error| format!("{}: {error}", config.state_dir.display());
        let staged = if task == Task::Classify { staging.clone() } else { slots.staging().map_err(failed)? };
        if staged != staging {
            fs::rename(&staging, &staged).map_err(failed)?;
        }
        slots.switch(&staged, &model, &sha256).map_err(failed)?;
        Ok(model)
    });
    if done.is_err() {
        // What is left of it takes room, and nothing else.
        let _ = fs::remove_dir_all(&staging);
    }
    done
}

fn stage(
    config: &Config,
    updates: &Updates,
    source: &str,
    sha256: Option<&str>,
    staging: &Path,
    follow: &mut Follow<'_>,
) -> Result<(Task, String, String), String> {
    if sha256.is_some_and(|sha256| !Sha256::is_form_of(sha256)) {
        return Err("the sha256 has 64 hexadecimal digits".into());
    }
    if source.split_once("://").is_some_and(|(scheme, _)| !["https", "file"].contains(&scheme)) {
        return Err(format!("{source}: expected https://, file:// or a path"));
    }
    let archive = staging.join("incoming.anemia");
    let path = if source.starts_with("https://") {
        let Some(sha256) = sha256 else { return Err("a model from the network needs its sha256".into()) };
        fetch(source, &updates.ca, &archive)?;
        check_hash(&archive, sha256)?;
        archive.clone()
    } else {
        let path = PathBuf::from(source.strip_prefix("file://").unwrap_or(source));
        if let Some(sha256) = sha256 {
            check_hash(&path, sha256)?;
        }
        path
    };
    if path.is_dir() {
        copy(&path, staging)?;
    } else {
        let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        unpack(file, staging)?;
        if path == archive {
            fs::remove_file(&archive).map_err(|error| format!("{}: {error}", archive.display()))?;
        }
    }
    let key = read_public_key(&updates.key)?;
    // What is told names what was asked for, and not where it was unpacked.
    let named = |error: String| error.replace(&staging.display().to_string(), source);
    verify_signature(staging, &key).map_err(named)?;
    let bundle = Bundle::open(staging).map_err(|error| error.to_string())?;
    bundle.verify().map_err(|error| error.to_string())?;
    only_named(&bundle)?;
    let manifest = bundle.manifest();
    let (task, model) = (manifest.task, format!("{} {}", manifest.name, manifest.version));
    if task == Task::Locate && config.roi != Roi::Auto {
        return Err(format!("{model} finds the conjunctiva, and with this `roi` no network does"));
    }
    let mut parts = config.parts();
    match task {
        Task::Classify => parts.bundle = staging.to_owned(),
        Task::Locate => parts.locator.bundle = Some(staging.to_owned()),
    }
    // Opening loads, and for TensorRT builds, the network and proves it by its self-test.
    Pipeline::open(&parts, follow).map_err(|error| format!("{model} does not run here: {error}"))?;
    Ok((task, model, bundle.sha256().to_string()))
}

/// What no signature covers does not come in.
fn only_named(bundle: &Bundle) -> Result<(), String> {
    let named: Vec<_> = bundle.manifest().all_files().map(|(file, _)| bundle.path_of(file)).collect();
    for entry in walkdir::WalkDir::new(bundle.folder()).follow_links(false) {
        let entry = entry.map_err(|error| error.to_string())?;
        let own =
            entry.depth() == 1 && [anemia_bundle::MANIFEST, SIGNATURE].map(Some).contains(&entry.file_name().to_str());
        if !entry.file_type().is_dir() && !own && !named.iter().any(|path| path == entry.path()) {
            return Err(format!("{}: the manifest does not name it", entry.path().display()));
        }
    }
    Ok(())
}

/// Copies the regular files of a folder.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    for entry in walkdir::WalkDir::new(from).follow_links(false) {
        let entry = entry.map_err(|error| error.to_string())?;
        let target = to.join(entry.path().strip_prefix(from).unwrap_or(entry.path()));
        let done = if entry.file_type().is_dir() {
            fs::create_dir_all(&target)
        } else if entry.file_type().is_file() {
            fs::copy(entry.path(), &target).map(drop)
        } else {
            return Err(format!("{} is neither a file nor a folder", entry.path().display()));
        };
        done.map_err(|error| format!("{}: {error}", target.display()))?;
    }
    Ok(())
}
