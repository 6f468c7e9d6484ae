//! What this board is, and which precisions it can run: asked before anything is built.

use std::path::Path;

use anemia_bundle::Precision;
use anemia_tensorrt::{Device, TensorRtError, Version};
use serde::Serialize;

use crate::EngineError;

/// A machine with an NVIDIA GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Board {
    /// What the device tree calls it, such as `NVIDIA Jetson Xavier NX Developer Kit`; the name of the GPU where there is none.
    pub name: String,
    /// The name of the GPU.
    pub gpu: String,
    /// Its compute capability, such as 7.2.
    pub compute_capability: (u32, u32),
    /// The version of Jetson Linux, such as `32.7.4`; `None` on other machines.
    pub jetson_linux: Option<String>,
    /// Memory in GiB.
    memory_gib: u64,
}

impl Board {
    /// Looks at this machine.
    pub fn detect(device: &Device) -> Result<Self, TensorRtError> {
        Ok(Self::read(Path::new("/"), device.name()?, device.compute_capability()?))
    }

    fn read(root: &Path, gpu: String, compute_capability: (u32, u32)) -> Self {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).ok();
        let name = text("proc/device-tree/model").map(|name| name.trim_end_matches('\0').trim().to_owned());
        let memory = text("proc/meminfo").and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
        Self {
            name: name.filter(|name| !name.is_empty()).unwrap_or_else(|| gpu.clone()),
            gpu,
            compute_capability,
            jetson_linux: text("etc/nv_tegra_release").as_deref().and_then(jetson_linux),
            // The kernel keeps a part for itself.
            memory_gib: memory.unwrap_or(0).div_ceil(1 << 20),
        }
    }

    /// The JetPack that the version of Jetson Linux belongs to.
    pub fn jetpack(&self) -> Option<&'static str> {
        let (release, revision) = self.jetson_linux.as_ref()?.split_once('.')?;
        Some(match (release, revision.split('.').next()?) {
            ("32", "6") => "4.6",
            ("32", "7") => "4.6.1 or newer",
            ("35", "1") => "5.0.2",
            ("35", _) => "5.1",
            ("36", _) => "6",
            _ => return None,
        })
    }

    /// Whether the GPU can run a precision.
    pub fn can_run(&self, precision: Precision) -> bool {
        match precision {
            Precision::Fp32 | Precision::Fp16 => true,
            // Stored in 4 bits, computed in 16.
            Precision::Int4 => true,
            // DP4A came with 6.1 and is not in 6.0 and 6.2; TensorRT refuses networks that round there.
            Precision::Int8 => self.compute_capability >= (6, 1) && self.compute_capability != (6, 2),
        }
    }

    /// Refuses what the GPU cannot run, and names what it can.
    pub(super) fn check(&self, precision: Precision) -> Result<(), EngineError> {
        if self.can_run(precision) {
            return Ok(());
        }
        let (major, minor) = self.compute_capability;
        let board = format!("{} (sm_{major}{minor})", self.name);
        Err(EngineError::Board { board, precision })
    }

    /// What is known to go wrong with this board and a version of TensorRT, in a line.
    pub fn known_fault(&self, tensorrt: Version) -> Option<&'static str> {
        let old = (tensorrt.major, tensorrt.minor, tensorrt.patch) == (8, 2, 1);
        // NVIDIA/TensorRT issue 1866: "Unknown embedded device detected".
        (old && self.name.contains("Xavier NX") && self.memory_gib > 8)
            .then_some("TensorRT 8.2.1 may not know a Xavier NX with 16 GB and then builds nothing; JetPack 5.1 does")
    }
}

/// From a line such as `# R32 (release), REVISION: 7.4, GCID: 33514132, BOARD: t186ref, …`.
fn jetson_linux(text: &str) -> Option<String> {
    let release = text.split_whitespace().nth(1)?.strip_prefix('R')?;
    let revision = text.split("REVISION:").nth(1)?.split(',').next()?.trim();
    Some(format!("{release}.{revision}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(compute_capability: (u32, u32)) -> Board {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("proc/device-tree/model", "NVIDIA Jetson Xavier NX Developer Kit\0"),
            ("proc/meminfo", "MemTotal:       15992000 kB\n"),
            ("etc/nv_tegra_release", "# R35 (release), REVISION: 6.1, GCID: 1, BOARD: t186ref, EABI: aarch64"),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Board::read(root.path(), "Xavier".into(), compute_capability)
    }

    #[test]
    fn a_jetson_is_known_by_its_files() {
        let board = board((7, 2));
        assert_eq!(board.name, "NVIDIA Jetson Xavier NX Developer Kit");
        assert_eq!((board.jetson_linux.as_deref(), board.jetpack()), (Some("35.6.1"), Some("5.1")));
        assert!(board.known_fault(Version { major: 8, minor: 2, patch: 1 }).is_some());
        assert!(board.known_fault(Version { major: 8, minor: 5, patch: 2 }).is_none());
        let pc = Board::read(Path::new("/nowhere"), "RTX".into(), (8, 9));
        assert_eq!((pc.name.as_str(), pc.jetson_linux), ("RTX", None));
    }

    #[test]
    fn int8_is_refused_where_the_gpu_has_none() {
        for (capability, int8) in [((5, 3), false), ((6, 1), true), ((6, 2), false), ((7, 2), true), ((8, 7), true)] {
            let board = board(capability);
            assert_eq!(board.can_run(Precision::Int8), int8, "{capability:?}");
            assert!(board.check(Precision::Fp16).is_ok() && board.check(Precision::Int4).is_ok());
        }
        let error = board((6, 2)).check(Precision::Int8).unwrap_err().to_string();
        assert!(error.contains("Xavier NX Developer Kit (sm_62) cannot run int8") && error.contains("fp16"), "{error}");
    }
}
