//! NVIDIA TensorRT, opened at run time, so that one program runs with and without it.
//!
//! So far this crate finds the library and its version. Building and running engines comes with a C++ shim, because
//! TensorRT's interface is C++ and differs between the versions of the boards.

use std::path::{Path, PathBuf};

/// The names under which TensorRT installs its library, newest first.
const NAMES: [&str; 4] = ["libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so.8", "libnvinfer.so"];

/// Why TensorRT cannot be used. The text is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorRtError {
    /// It is not installed.
    #[error(
        "TensorRT is not installed: the loader knows none of {}; on a Jetson it comes with JetPack",
        .looked_for.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Missing {
        /// What the loader was asked for, in order.
        looked_for: Vec<PathBuf>,
    },
    /// A library was found and is not TensorRT.
    #[error("{library} is not TensorRT: it has no getInferLibVersion")]
    Foreign {
        /// The file.
        library: PathBuf,
    },
}

/// A version of TensorRT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third.
    pub patch: u32,
}

impl Version {
    /// From the single number of `getInferLibVersion`: since TensorRT 10 `major * 10000 + minor * 100 + patch`, before
    /// `major * 1000 + minor * 100 + patch` (NvInferVersion.h).
    fn from_number(number: u32) -> Self {
        let thousands = if number >= 100_000 { 10_000 } else { 1000 };
        Self { major: number / thousands, minor: number % thousands / 100, patch: number % 100 }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The version of the TensorRT that is installed: at `path`, or where the loader finds it.
pub fn installed_version(path: Option<&Path>) -> Result<Version, TensorRtError> {
    let candidates: Vec<PathBuf> = match path {
        Some(path) => vec![path.to_owned()],
        None => NAMES.iter().map(PathBuf::from).collect(),
    };
    for candidate in &candidates {
        // SAFETY: loading runs the library's initialisers. The file was named by the administrator of this machine, or
        // is the one that the loader finds under TensorRT's own name, as for any program that links with it.
        #[allow(unsafe_code)]
        let Ok(library) = (unsafe { libloading::Library::new(candidate) }) else { continue };
        // SAFETY: `int32_t getInferLibVersion() noexcept` has C linkage in every version of NvInferRuntime.h.
        #[allow(unsafe_code)]
        let version =
            unsafe { library.get::<unsafe extern "C" fn() -> i32>(c"getInferLibVersion").map(|number| number()) };
        return match version {
            Ok(number) => Ok(Version::from_number(number.unsigned_abs())),
            Err(_) => Err(TensorRtError::Foreign { library: candidate.clone() }),
        };
    }
    Err(TensorRtError::Missing { looked_for: candidates })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_both_forms_are_read() {
        assert_eq!(Version::from_number(8201).to_string(), "8.2.1");
        assert_eq!(Version::from_number(8502).to_string(), "8.5.2");
        assert_eq!(Version::from_number(101_603).to_string(), "10.16.3");
        assert_eq!(Version::from_number(110_100).to_string(), "11.1.0");
    }

    #[test]
    fn what_is_missing_and_what_is_foreign_is_named() {
        let missing = installed_version(Some("/nowhere/libnvinfer.so".as_ref())).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/libnvinfer.so"), "{missing}");
        // Every Linux machine has this library.
        let foreign = installed_version(Some("libc.so.6".as_ref())).unwrap_err().to_string();
        assert!(foreign.contains("libc.so.6 is not TensorRT"), "{foreign}");
    }
}
