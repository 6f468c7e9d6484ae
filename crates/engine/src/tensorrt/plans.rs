//! Plans on disk. To build one takes minutes on a board; it is kept under a key of everything that it depends on.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anemia_bundle::{Precision, Sha256, write_file};
use serde::{Deserialize, Serialize};

/// What a plan depends on. TensorRT promises nothing for a plan when one of these differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanKey {
    /// Hash of the network that TensorRT is given.
    pub network_sha256: Sha256,
    /// The precision it may compute in.
    pub precision: Precision,
    /// Version of TensorRT, with its kind.
    pub tensorrt: String,
    /// Version of CUDA that the driver can do.
    pub cuda: String,
    /// Name of the board.
    pub board: String,
    /// Name of the GPU.
    pub gpu: String,
    /// Its compute capability.
    pub compute_capability: (u32, u32),
    /// Limit of the workspace in MiB; 0 for none.
    pub workspace_mib: u32,
}

/// A plan that is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptPlan {
    /// Name and version of the model.
    pub model: String,
    /// What the plan depends on.
    pub key: PlanKey,
    /// Hash of the plan: TensorRT itself may crash on a damaged one.
    pub plan_sha256: Sha256,
    /// Its size in bytes.
    pub bytes: u64,
    /// Seconds that the build took.
    pub seconds: f64,
}

/// The folder of the plans.
pub(crate) struct Plans<'a>(pub(crate) &'a Path);

impl PlanKey {
    /// The name of the plan's files.
    fn name(&self) -> String {
        let text = serde_json::to_string(self).expect("a key is made of texts and numbers");
        Sha256::of(text.as_bytes()).to_string()[..24].to_owned()
    }

    /// The name of the timing cache, which holds for all networks.
    fn timing_name(&self) -> String {
        let (major, minor) = self.compute_capability;
        let text = format!("timing-{}-sm_{major}{minor}.cache", self.tensorrt);
        text.replace(|letter: char| !letter.is_ascii_alphanumeric() && !['.', '-', '_'].contains(&letter), "-")
    }
}

impl Plans<'_> {
    fn path(&self, key: &PlanKey, end: &str) -> PathBuf {
        self.0.join(format!("{}.{end}", key.name()))
    }

    /// A plan whose key and hash hold. Anything else counts as none.
    pub(crate) fn find(&self, key: &PlanKey) -> Option<Vec<u8>> {
        let path = self.path(key, "json");
        let kept: KeptPlan = serde_json::from_slice(&fs::read(&path).ok()?)
            .inspect_err(|error| tracing::warn!("{}: {error}; the plan is built again", path.display()))
            .ok()?;
        let path = self.path(key, "plan");
        let plan = fs::read(&path)
            .inspect_err(|error| tracing::warn!("{}: {error}; the plan is built again", path.display()))
            .ok()?;
        let whole = kept.key == *key && kept.plan_sha256 == Sha256::of(&plan);
        if !whole {
            tracing::warn!("{}: is damaged; the plan is built again", path.display());
        }
        whole.then_some(plan)
    }

    /// Keeps a plan. A cache that cannot be written costs a build at every start, and nothing else.
    pub(crate) fn keep(&self, kept: &KeptPlan, plan: &[u8]) {
        let text = serde_json::to_string_pretty(kept).expect("it is made of texts and numbers");
        // The plan first: without the description it is not found.
        let written = write_file(&self.path(&kept.key, "plan"), plan)
            .and_then(|()| write_file(&self.path(&kept.key, "json"), text.as_bytes()));
        if let Err(error) = written {
            tracing::warn!(
                "{}: the plan cannot be kept and is built again at the next start: {error}; free the disk, or let \
                 model.tensorrt.cache of the configuration name a folder that can be written",
                self.0.display()
            );
        }
    }

    /// Removes a plan that did not prove itself.
    pub(crate) fn forget(&self, key: &PlanKey) {
        // Description first, for the same reason. What is not there need not go.
        let _ = fs::remove_file(self.path(key, "json"));
        let _ = fs::remove_file(self.path(key, "plan"));
    }

    /// What earlier builds with this TensorRT on this GPU have learned; empty without one.
    pub(crate) fn timing(&self, key: &PlanKey) -> Vec<u8> {
        fs::read(self.0.join(key.timing_name())).unwrap_or_default()
    }

    /// Keeps what a build has learned.
    pub(crate) fn keep_timing(&self, key: &PlanKey, timing: &[u8]) {
        let path = self.0.join(key.timing_name());
        if let Err(error) = write_file(&path, timing) {
            tracing::debug!("{}: {error}", path.display());
        }
    }

    /// Waits until no other process builds. `None` where the folder cannot be written: then nobody else keeps plans either.
    pub(crate) fn lock(&self) -> Option<File> {
        let path = self.0.join("lock");
        fs::create_dir_all(self.0).ok()?;
        let file = File::options().create(true).append(true).open(&path).ok()?;
        match file.try_lock() {
            Ok(()) => Some(file),
            Err(TryLockError::WouldBlock) => {
                tracing::info!("{}: another process builds a plan; waiting for it", self.0.display());
                file.lock().ok().map(|()| file)
            }
            Err(TryLockError::Error(_)) => None,
        }
    }
}

/// The plans that are kept in a folder, by model and precision; files that are none are left out.
pub fn kept_plans(folder: &Path) -> std::io::Result<Vec<KeptPlan>> {
    let mut plans = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "json") {
            plans.extend(fs::read(&path).ok().and_then(|text| serde_json::from_slice::<KeptPlan>(&text).ok()));
        }
    }
    plans.sort_by(|a, b| (&a.model, a.key.precision).cmp(&(&b.model, b.key.precision)));
    Ok(plans)
}
