//! The C interface of the shim, as `shim/anemia_tensorrt.h` declares it.

use std::ffi::{c_char, c_void};

use libloading::Library;

/// Of this file; the shim has the same number or is refused.
pub(crate) const ABI: i32 = 1;

pub(crate) const OK: i32 = 0;
pub(crate) const OUT_OF_MEMORY: i32 = 2;
pub(crate) const BAD_PLAN: i32 = 3;
pub(crate) const CANCELLED: i32 = 4;
pub(crate) const REFUSED: i32 = 5;

pub(crate) const ALLOW_FP16: u32 = 1;
pub(crate) const ALLOW_INT8: u32 = 2;

pub(crate) const FLOAT32: i32 = 1;

#[repr(C)]
pub(crate) struct Error {
    pub(crate) text: [c_char; 1024],
}

pub(crate) type Log = unsafe extern "C" fn(i32, *const c_char);
pub(crate) type Progress = unsafe extern "C" fn(*mut c_void, *const c_char, i32, i32) -> i32;

#[repr(C)]
pub(crate) struct Blob {
    pub(crate) data: *mut c_void,
    pub(crate) size: u64,
}

#[repr(C)]
#[derive(Default)]
pub(crate) struct Versions {
    pub(crate) headers: i32,
    pub(crate) library: i32,
    pub(crate) is_rtx: i32,
}

#[repr(C)]
#[derive(Default)]
pub(crate) struct Platform {
    pub(crate) fast_fp16: i32,
    pub(crate) fast_int8: i32,
    pub(crate) dla_cores: i32,
}

#[repr(C)]
pub(crate) struct Range {
    pub(crate) tensor: *const c_char,
    pub(crate) amax: f32,
}

#[repr(C)]
pub(crate) struct BuildOptions {
    pub(crate) flags: u32,
    pub(crate) compute_capability: i32,
    pub(crate) workspace_bytes: u64,
    pub(crate) timing_cache: *const c_void,
    pub(crate) timing_cache_size: u64,
    pub(crate) ranges: *const Range,
    pub(crate) range_count: u64,
    pub(crate) progress: Progress,
    pub(crate) progress_user: *mut c_void,
}

#[repr(C)]
pub(crate) struct Tensor {
    pub(crate) name: [c_char; 256],
    pub(crate) is_input: i32,
    pub(crate) kind: i32,
    pub(crate) rank: i32,
    pub(crate) reserved: i32,
    pub(crate) shape: [i64; 8],
}

/// Objects of the shim, which nothing here looks into.
#[repr(C)]
pub(crate) struct RawRuntime(c_void);
#[repr(C)]
pub(crate) struct RawEngine(c_void);
#[repr(C)]
pub(crate) struct RawContext(c_void);

/// Declares the table of the shim's functions and how it is filled.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// Every function of the shim. They stay valid as long as the library is open.
        pub(crate) struct Functions {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            /// Looks all of them up; the error is the name of one that is missing.
            pub(crate) fn of(library: &Library) -> Result<Self, &'static str> {
                $(
                    // SAFETY: the type is that of the function of this name in anemia_tensorrt.h. A library that has
                    // a function of this name and another type is told by its ABI number, which is asked for before.
                    #[allow(unsafe_code)]
                    let $name = *unsafe {
                        library.get::<unsafe extern "C" fn($($argument),*) $(-> $result)?>(stringify!($name))
                    }
                    .map_err(|_| stringify!($name))?;
                )*
                Ok(Self { $($name),* })
            }
        }
    };
}

functions! {
    att_get_versions: fn(*mut Versions);
    att_set_log: fn(Log);
    att_get_platform: fn(*mut Platform, *mut Error) -> i32;
    att_build: fn(*const BuildOptions, *const c_void, u64, *mut Blob, *mut Blob, *mut Error) -> i32;
    att_free: fn(*mut Blob);
    att_runtime_create: fn(*mut *mut RawRuntime, *mut Error) -> i32;
    att_runtime_destroy: fn(*mut RawRuntime);
    att_engine_load: fn(*mut RawRuntime, *const c_void, u64, *mut *mut RawEngine, *mut Error) -> i32;
    att_engine_destroy: fn(*mut RawEngine);
    att_engine_tensor_count: fn(*const RawEngine) -> i32;
    att_engine_tensor: fn(*const RawEngine, i32, *mut Tensor, *mut Error) -> i32;
    att_engine_inspect: fn(*mut RawEngine, *mut Blob, *mut Error) -> i32;
    att_context_create: fn(*mut RawEngine, *mut *mut RawContext, *mut Error) -> i32;
    att_context_destroy: fn(*mut RawContext);
    att_context_bind: fn(*mut RawContext, *const c_char, *mut c_void, *mut Error) -> i32;
    att_context_enqueue: fn(*mut RawContext, *mut c_void, *mut Error) -> i32;
}
