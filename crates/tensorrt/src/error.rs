//! What can go wrong with TensorRT, in words for the person who has to mend it.

use std::path::PathBuf;

use crate::Version;

/// Why TensorRT cannot be used. The text is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorRtError {
    /// The shim is not installed.
    #[error(
        "libanemia_tensorrt.so is not installed: looked for {}; build it on this machine with \
         `sudo anemiad-tensorrt-build` of the package anemiad-tensorrt, or name the file in \
         model.tensorrt.library of the configuration",
        .looked_for.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Missing {
        /// Every place where it was looked for, in order.
        looked_for: Vec<PathBuf>,
    },
    /// The loader does not open the shim, most often because TensorRT itself is missing.
    #[error("{library}: cannot be opened: {cause}; on a Jetson TensorRT comes with JetPack")]
    NotOpened {
        /// The file.
        library: PathBuf,
        /// What the loader said.
        cause: String,
    },
    /// The file is something else.
    #[error("{library}: is not the TensorRT shim of anemiad: it has no {function}")]
    Foreign {
        /// The file.
        library: PathBuf,
        /// What it lacks.
        function: &'static str,
    },
    /// The shim belongs to another release of the daemon.
    #[error(
        "{library}: is the shim of another release (interface {found}, expected {expected}); build and install it again"
    )]
    OtherAbi {
        /// The file.
        library: PathBuf,
        /// Its number.
        found: i32,
        /// Ours.
        expected: i32,
    },
    /// The shim was compiled against another TensorRT than the one it found.
    #[error("{library}: was built for TensorRT {headers}, and {found} is installed; build and install it again")]
    OtherVersion {
        /// The file.
        library: PathBuf,
        /// What it was compiled against.
        headers: Version,
        /// What is there.
        found: Version,
    },
    /// There is no CUDA driver.
    #[error("there is no CUDA driver: the loader finds no libcuda.so")]
    NoDriver,
    /// CUDA failed.
    #[error("CUDA: {what}: {cause}")]
    Cuda {
        /// What was tried.
        what: &'static str,
        /// What the driver said.
        cause: String,
    },
    /// There is not enough memory.
    #[error("TensorRT ran out of memory: {0}")]
    OutOfMemory(String),
    /// The plan is damaged, or was made by another TensorRT or for another GPU.
    #[error("the plan cannot be used: {0}")]
    BadPlan(String),
    /// Whoever follows the build did not want it any more.
    #[error("the build was stopped")]
    Cancelled,
    /// TensorRT does not read or build the network.
    #[error("{0}")]
    Refused(String),
    /// Everything else, in TensorRT's words.
    #[error("{0}")]
    Failed(String),
}
