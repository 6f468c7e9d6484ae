//! Plans on disk. To build one takes minutes on a board; it is kept under a key of everything that it depends on.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// Limit of the workspace in MiB.
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
    /// That it gave wrong answers, so that it is not built again at every start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
}

/// That a plan gave wrong answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The bundle whose self-test it did not pass.
    pub bundle_sha256: Sha256,
    /// What the self-test said.
    pub cause: String,
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
    /// The description of a plan.
    pub(crate) fn description(&self, key: &PlanKey) -> PathBuf {
        self.0.join(format!("{}.json", key.name()))
    }

    /// A plan whose key and hash hold. Anything else counts as none.
    pub(crate) fn find(&self, key: &PlanKey) -> Option<(KeptPlan, Vec<u8>)> {
        let path = self.description(key);
        let kept: KeptPlan = serde_json::from_slice(&fs::read(&path).ok()?)
            .inspect_err(|error| tracing::warn!("{}: {error}; the plan is built again", path.display()))
            .ok()?;
        let path = path.with_extension("plan");
        let plan = fs::read(&path)
            .inspect_err(|error| tracing::warn!("{}: {error}; the plan is built again", path.display()))
            .ok()?;
        let whole = kept.key == *key && kept.plan_sha256 == Sha256::of(&plan);
        if !whole {
            tracing::warn!("{}: is damaged; the plan is built again", path.display());
        }
        whole.then_some((kept, plan))
    }

    /// Says before a build when its result cannot be kept.
    pub(crate) fn check_writable(&self) {
        let path = self.0.join("written");
        let tried = fs::create_dir_all(self.0)
            .and_then(|()| write_file(&path, b"whether it can be"))
            .and_then(|()| fs::remove_file(&path));
        if let Err(error) = tried {
            self.tell_unwritable(&error);
        }
    }

    fn tell_unwritable(&self, error: &std::io::Error) {
        tracing::warn!(
            "{}: the plan cannot be kept and is built again at the next start: {error}; free the disk, or let \
             model.tensorrt.cache of the configuration name a folder that can be written",
            self.0.display()
        );
    }

    /// Keeps a plan. A cache that cannot be written costs a build at every start, and nothing else.
    pub(crate) fn keep(&self, kept: &KeptPlan, plan: &[u8]) {
        let text = serde_json::to_string_pretty(kept).expect("it is made of texts and numbers");
        let path = self.description(&kept.key);
        // The plan first: without the description it is not found.
        let written = write_file(&path.with_extension("plan"), plan).and_then(|()| write_file(&path, text.as_bytes()));
        if let Err(error) = written {
            self.tell_unwritable(&error);
        }
    }

    /// What earlier builds with this TensorRT on this GPU have learned; empty without one.
    pub(crate) fn timing(&self, key: &PlanKey) -> Vec<u8> {
        fs::read(self.0.join(key.timing_name())).unwrap_or_default()
    }

    /// Keeps what a build has learned.
    pub(crate) fn keep_timing(&self, key: &PlanKey, timing: &[u8]) {
        // TensorRT-RTX learns nothing that could be kept.
        if timing.is_empty() {
            return;
        }
        let path = self.0.join(key.timing_name());
        if let Err(error) = write_file(&path, timing) {
            tracing::debug!("{}: {error}", path.display());
        }
    }

    /// Waits until no other process builds; while it does, `go_on` is asked every half second, and `Err` stands for its no.
    ///
    /// `Ok(None)` where there can be no lock: then two may build the same plan, and the later one stays.
    pub(crate) fn lock(&self, go_on: &mut dyn FnMut() -> bool) -> Result<Option<File>, Cancelled> {
        let path = self.0.join("lock");
        // It may belong to another user, whose folder this one can only read.
        let opened = fs::create_dir_all(self.0)
            .and_then(|()| File::options().create(true).append(true).open(&path).or_else(|_| File::open(&path)));
        let Ok(file) = opened else { return Ok(None) };
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) if go_on() => std::thread::sleep(Duration::from_millis(500)),
                Err(TryLockError::WouldBlock) => return Err(Cancelled),
                Err(TryLockError::Error(error)) => {
                    tracing::warn!("{}: cannot be locked: {error}", path.display());
                    return Ok(None);
                }
            }
        }
    }
}

/// Nobody wants the plan any more.
pub(crate) struct Cancelled;

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
