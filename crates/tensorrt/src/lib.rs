//! NVIDIA TensorRT, opened at run time, so that one program runs with and without it.
//!
//! TensorRT's interface is C++ and differs between the versions of the boards. A [`Shim`], one C++ file in `shim/`, gives it
//! one C interface; it is compiled on the board and opened with dlopen. A plan is built with [`Shim::build`]; [`Runtime`],
//! [`Engine`] and [`Context`] load and run it, each of which owns the one before. [`Device`] is the GPU below.

mod abi;
mod builder;
mod device;
mod error;
mod plan;
mod shim;

pub use builder::{BuildOptions, Built, Progress};
pub use device::{Device, Stream};
pub use error::TensorRtError;
pub use plan::{Context, Engine, Runtime, Tensor};
pub use shim::{FILE, LIBRARY_VARIABLE, Platform, Shim, Versions};

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
    /// From the single number of the shim, `major * 10000 + minor * 100 + patch`.
    fn from_number(number: i32) -> Self {
        let number = number.unsigned_abs();
        Self { major: number / 10_000, minor: number % 10_000 / 100, patch: number % 100 }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Ends the process at once, without what a normal end does: the destructors of TensorRT and CUDA's libraries would run under
/// a thread that still builds or waits for the GPU, and that cannot be stopped.
pub fn exit_at_once(code: u8) -> ! {
    // SAFETY: `_exit` does nothing but end the process.
    #[allow(unsafe_code)]
    unsafe {
        libc::_exit(code.into())
    }
}
