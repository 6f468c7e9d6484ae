//! Building a plan.

use std::ffi::{CStr, CString, c_char, c_void};

use crate::abi;
use crate::{Shim, TensorRtError};

/// How a plan is built.
#[derive(Clone, Debug)]
pub struct BuildOptions<'a> {
    /// TensorRT may compute in 16-bit floats. TensorRT 11 and TensorRT-RTX take the precision from the network alone.
    pub allow_fp16: bool,
    /// TensorRT may compute in 8-bit integers where the network rounds to them.
    pub allow_int8: bool,
    /// For TensorRT-RTX: the compute capability to build for, such as 80, without a GPU; 0 for the GPU of this machine.
    pub compute_capability: i32,
    /// Most bytes that an inference may use beside weights and values. TensorRT 8.2 has none unless it is told.
    pub workspace_bytes: u64,
    /// What an earlier build has learned; may be empty.
    pub timing_cache: &'a [u8],
    /// The greatest magnitude of tensors, by name, for networks that do not round themselves.
    pub ranges: &'a [(String, f32)],
}

impl Default for BuildOptions<'_> {
    fn default() -> Self {
        Self {
            allow_fp16: false,
            allow_int8: false,
            compute_capability: 0,
            workspace_bytes: 256 << 20,
            timing_cache: &[],
            ranges: &[],
        }
    }
}

/// What a build gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The plan. It fits this version of TensorRT and this GPU, and nothing else.
    pub plan: Vec<u8>,
    /// What the build has learned, for the next one; empty where this TensorRT has none.
    pub timing_cache: Vec<u8>,
}

/// How far a build is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// What TensorRT calls it.
    pub phase: &'a str,
    /// Steps that are done.
    pub step: u32,
    /// Steps of this phase.
    pub steps: u32,
}

/// Stands behind the `user` pointer of the callback.
struct Follower<'a>(&'a mut (dyn FnMut(Progress<'_>) -> bool + Send));

impl Shim {
    /// Builds a plan from the bytes of an ONNX file, which takes minutes on a board.
    ///
    /// `follow` is told of every step, where this TensorRT tells (10 and newer), on whatever thread, and stops the build with
    /// `false`.
    pub fn build(
        &self,
        onnx: &[u8],
        options: &BuildOptions<'_>,
        follow: &mut (dyn FnMut(Progress<'_>) -> bool + Send),
    ) -> Result<Built, TensorRtError> {
        let names: Vec<CString> = options.ranges.iter().map(|(name, _)| c_string(name)).collect::<Result<_, _>>()?;
        let ranges: Vec<abi::Range> = names
            .iter()
            .zip(options.ranges)
            .map(|(name, (_, amax))| abi::Range { tensor: name.as_ptr(), amax: *amax })
            .collect();
        let mut follower = Follower(follow);
        let raw = abi::BuildOptions {
            flags: u32::from(options.allow_fp16) * abi::ALLOW_FP16 + u32::from(options.allow_int8) * abi::ALLOW_INT8,
            compute_capability: options.compute_capability,
            workspace_bytes: options.workspace_bytes,
            timing_cache: options.timing_cache.as_ptr().cast(),
            timing_cache_size: options.timing_cache.len() as u64,
            ranges: ranges.as_ptr(),
            range_count: ranges.len() as u64,
            progress,
            progress_user: (&raw mut follower).cast(),
        };
        let [mut plan, mut timing_cache] = [(); 2].map(|()| abi::Blob { data: std::ptr::null_mut(), size: 0 });
        let outcome = self.call(|functions, error| {
            // SAFETY: every pointer is valid for the time of the call, after which the shim has let go of them: names and
            // ranges live in the vectors above, `follower` on this stack.
            #[allow(unsafe_code)]
            unsafe {
                (functions.att_build)(
                    &raw const raw,
                    onnx.as_ptr().cast(),
                    onnx.len() as u64,
                    &raw mut plan,
                    &raw mut timing_cache,
                    error,
                )
            }
        });
        // Also after a failure: a blob may be filled already.
        let built = Built { plan: self.take(plan), timing_cache: self.take(timing_cache) };
        outcome.map(|()| built)
    }
}

pub(crate) fn c_string(name: &str) -> Result<CString, TensorRtError> {
    CString::new(name).map_err(|_| TensorRtError::Failed(format!("the name {name:?} has a byte of 0")))
}

/// Called by TensorRT from its threads, one call after the other: the shim sees to that.
#[allow(unsafe_code)]
unsafe extern "C" fn progress(user: *mut c_void, phase: *const c_char, step: i32, steps: i32) -> i32 {
    // SAFETY: `user` is the follower on the stack of `build`, which waits for the build and touches it not; what it follows
    // with is `Send`, and no two calls overlap. `phase` is a C string for the time of the call.
    let (follower, phase) = unsafe { (&mut *user.cast::<Follower<'_>>(), CStr::from_ptr(phase)) };
    let number = |value: i32| u32::try_from(value).unwrap_or(0);
    let progress = Progress { phase: &phase.to_string_lossy(), step: number(step), steps: number(steps) };
    // A panic must not go through the C++ above: the build is stopped instead.
    let go_on = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (follower.0)(progress)));
    i32::from(go_on.unwrap_or(false))
}
