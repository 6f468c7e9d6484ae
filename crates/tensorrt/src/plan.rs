//! Loading and running a plan: runtime, engine, context, each of which owns the one before.

use std::ffi::c_void;
use std::ptr::NonNull;

use crate::abi;
use crate::builder::c_string;
use crate::device::{Device, Mapped, Stream};
use crate::{Shim, TensorRtError};

/// TensorRT's runtime.
pub struct Runtime {
    raw: NonNull<abi::RawRuntime>,
    shim: Shim,
}

/// A loaded plan.
pub struct Engine {
    raw: NonNull<abi::RawEngine>,
    tensors: Vec<Tensor>,
    /// Behind `raw`, which is let go of first.
    runtime: Runtime,
}

/// A plan with memory to run in.
pub struct Context {
    raw: NonNull<abi::RawContext>,
    engine: Engine,
    /// What it reads and writes: as long as the context lives.
    bound: Vec<Mapped>,
}

/// An input or output of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name in the network.
    pub name: String,
    /// Whether the plan reads it.
    pub is_input: bool,
    /// Whether it holds 32-bit floats.
    pub is_float32: bool,
    /// Its sizes; −1 where one is not fixed.
    pub shape: Vec<i64>,
}

// SAFETY: TensorRT's objects may be used by any thread, by one at a time (TensorRT developer guide, "Threading"). They are
// moved as a whole, together with what they are made from, and none of the types is `Sync`.
#[allow(unsafe_code)]
unsafe impl Send for Runtime {}
// SAFETY: see above.
#[allow(unsafe_code)]
unsafe impl Send for Engine {}
// SAFETY: see above.
#[allow(unsafe_code)]
unsafe impl Send for Context {}

/// What a function of the shim made; it is not null when the function gave no error.
fn made<T>(raw: *mut T) -> Result<NonNull<T>, TensorRtError> {
    NonNull::new(raw).ok_or_else(|| TensorRtError::Failed("the shim gave nothing and no error".into()))
}

impl Runtime {
    /// Starts the runtime. A CUDA context must be current, see [`crate::Device::make_current`].
    pub fn new(shim: &Shim) -> Result<Self, TensorRtError> {
        let mut raw = std::ptr::null_mut();
        shim.call(|functions, error| {
            // SAFETY: the pointers are valid for the time of the call.
            #[allow(unsafe_code)]
            unsafe {
                (functions.att_runtime_create)(&raw mut raw, error)
            }
        })?;
        Ok(Self { raw: made(raw)?, shim: shim.clone() })
    }

    /// Loads a plan.
    pub fn load(self, plan: &[u8]) -> Result<Engine, TensorRtError> {
        let mut raw = std::ptr::null_mut();
        self.shim.call(|functions, error| {
            // SAFETY: the runtime is alive, and TensorRT copies what it needs of the plan.
            #[allow(unsafe_code)]
            unsafe {
                (functions.att_engine_load)(
                    self.raw.as_ptr(),
                    plan.as_ptr().cast(),
                    plan.len() as u64,
                    &raw mut raw,
                    error,
                )
            }
        })?;
        let mut engine = Engine { raw: made(raw)?, tensors: Vec::new(), runtime: self };
        // SAFETY: the engine is alive.
        #[allow(unsafe_code)]
        let count = unsafe { (engine.runtime.shim.functions().att_engine_tensor_count)(engine.raw.as_ptr()) };
        engine.tensors = (0..count).map(|index| engine.tensor(index)).collect::<Result<_, _>>()?;
        Ok(engine)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // SAFETY: it was created by the shim and is destroyed once; engines own their runtime, so none is left.
        #[allow(unsafe_code)]
        unsafe {
            (self.shim.functions().att_runtime_destroy)(self.raw.as_ptr());
        }
    }
}

impl Engine {
    /// Its inputs and outputs.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    fn tensor(&self, index: i32) -> Result<Tensor, TensorRtError> {
        let mut raw = abi::Tensor { name: [0; 256], is_input: 0, kind: 0, rank: 0, reserved: 0, shape: [0; 8] };
        self.runtime.shim.call(|functions, error| {
            // SAFETY: the engine is alive, and the function fills in the struct and keeps no pointer to it.
            #[allow(unsafe_code)]
            unsafe {
                (functions.att_engine_tensor)(self.raw.as_ptr(), index, &raw mut raw, error)
            }
        })?;
        let name: Vec<u8> = raw.name.iter().map(|&byte| byte.to_ne_bytes()[0]).take_while(|&byte| byte != 0).collect();
        let rank = usize::try_from(raw.rank).unwrap_or(0).min(raw.shape.len());
        Ok(Tensor {
            name: String::from_utf8_lossy(&name).into_owned(),
            is_input: raw.is_input != 0,
            is_float32: raw.kind == abi::FLOAT32,
            shape: raw.shape[..rank].to_vec(),
        })
    }

    /// Its layers, as TensorRT fused them, in JSON.
    pub fn inspect(&mut self) -> Result<String, TensorRtError> {
        let mut json = abi::Blob { data: std::ptr::null_mut(), size: 0 };
        let shim = &self.runtime.shim;
        shim.call(|functions, error| {
            // SAFETY: the engine is alive, and the pointers are valid for the time of the call.
            #[allow(unsafe_code)]
            unsafe {
                (functions.att_engine_inspect)(self.raw.as_ptr(), &raw mut json, error)
            }
        })?;
        Ok(String::from_utf8_lossy(&shim.take(json)).into_owned())
    }

    /// Gives it memory to run in.
    pub fn into_context(self) -> Result<Context, TensorRtError> {
        let mut raw = std::ptr::null_mut();
        self.runtime.shim.call(|functions, error| {
            // SAFETY: the engine is alive and outlives the context, which owns it.
            #[allow(unsafe_code)]
            unsafe {
                (functions.att_context_create)(self.raw.as_ptr(), &raw mut raw, error)
            }
        })?;
        Ok(Context { raw: made(raw)?, engine: self, bound: Vec::new() })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: it was loaded by the shim and is destroyed once; a context owns its engine, so none is left.
        #[allow(unsafe_code)]
        unsafe {
            (self.runtime.shim.functions().att_engine_destroy)(self.raw.as_ptr());
        }
    }
}

impl Context {
    /// Lets the input or output of that name, of 32-bit floats and a fixed size, lie in memory of its size. Gives the place of
    /// its values among the bound ones.
    pub fn bind(&mut self, name: &str, device: &Device) -> Result<usize, TensorRtError> {
        let tensor = self.engine.tensors.iter().find(|tensor| tensor.name == name);
        let tensor = tensor.ok_or_else(|| TensorRtError::Failed(format!("the plan has no tensor {name:?}")))?;
        let length = tensor.shape.iter().try_fold(1usize, |all, &size| all.checked_mul(usize::try_from(size).ok()?));
        let (true, Some(length)) = (tensor.is_float32, length) else {
            let shape = &tensor.shape;
            return Err(TensorRtError::Failed(format!(
                "{name:?} of shape {shape:?} is not of 32-bit floats and a fixed size"
            )));
        };
        let memory = Mapped::zeros(device, length)?;
        let name = c_string(name)?;
        let device = memory.device_pointer() as *mut c_void;
        self.engine.runtime.shim.call(|functions, error| {
            // SAFETY: the context is alive. The memory is as well, as long as the context is: it owns it from here on.
            #[allow(unsafe_code)]
            unsafe {
                (functions.att_context_bind)(self.raw.as_ptr(), name.as_ptr(), device, error)
            }
        })?;
        self.bound.push(memory);
        Ok(self.bound.len() - 1)
    }

    /// The values of what was bound.
    pub fn values(&mut self, bound: usize) -> &mut [f32] {
        self.bound[bound].values()
    }

    /// Runs the plan and waits for it. Allocates nothing.
    pub fn run(&mut self, stream: &Stream) -> Result<(), TensorRtError> {
        let queue = stream.raw().cast();
        let queued = self.engine.runtime.shim.call(|functions, error| {
            // SAFETY: context and stream are alive, and what is bound is, too. Nobody looks at the memory meanwhile: `&mut
            // self` keeps `values` away until the stream is through.
            #[allow(unsafe_code)]
            unsafe {
                (functions.att_context_enqueue)(self.raw.as_ptr(), queue, error)
            }
        });
        // Also after a failure: a part of the work may be in the stream already.
        let done = stream.wait();
        queued.and(done)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it was created by the shim and is destroyed once, before the engine and the memory that it uses.
        #[allow(unsafe_code)]
        unsafe {
            (self.engine.runtime.shim.functions().att_context_destroy)(self.raw.as_ptr());
        }
    }
}
