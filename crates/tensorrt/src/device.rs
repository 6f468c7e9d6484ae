//! The GPU: context, streams, events, and memory that both processors see.
//!
//! Only calls of the driver that CUDA 10.2 has, which is what a TX2 NX runs; tests/run.rs holds them against a driver with
//! nothing else.

use std::ffi::{c_int, c_uint};
use std::ptr::NonNull;
use std::sync::OnceLock;

use cudarc::driver::result::stream::StreamKind;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use crate::TensorRtError;

/// The first GPU with its primary context, which lives as long as the process: to give it back, CUDA 10.2 has another call
/// than the versions after it.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    number: sys::CUdevice,
    context: Handle<sys::CUcontext>,
}

/// A handle that CUDA lets every thread use.
#[derive(Clone, Copy, Debug)]
struct Handle<T>(T);

// SAFETY: contexts, streams and events of the driver may be used by every thread (CUDA driver API, "Context management"); a thread only
// has to make the context current before.
#[allow(unsafe_code)]
unsafe impl<T> Send for Handle<T> {}
// SAFETY: see above.
#[allow(unsafe_code)]
unsafe impl<T> Sync for Handle<T> {}

impl Device {
    /// Finds the first GPU and makes its context current for this thread.
    pub fn first() -> Result<Self, TensorRtError> {
        static FIRST: OnceLock<Device> = OnceLock::new();
        let device = match FIRST.get() {
            Some(device) => *device,
            None => {
                // Two threads may both open it: for a primary context that is a count too high, and no more.
                let opened = Self::open()?;
                *FIRST.get_or_init(|| opened)
            }
        };
        device.make_current()?;
        Ok(device)
    }

    fn open() -> Result<Self, TensorRtError> {
        // SAFETY: opens the driver's library under its own name and closes it again.
        #[allow(unsafe_code)]
        if !unsafe { sys::is_culib_present() } {
            return Err(TensorRtError::NoDriver);
        }
        result::init().map_err(cuda("start the driver"))?;
        let number = result::device::get(0).map_err(cuda("find a GPU"))?;
        // SAFETY: the device was just given by the driver.
        #[allow(unsafe_code)]
        let context = unsafe { result::primary_ctx::retain(number) }.map_err(cuda("open the GPU"))?;
        Ok(Self { number, context: Handle(context) })
    }

    /// Makes its context current for this thread: what every call to TensorRT needs. It costs nothing when it is already.
    pub fn make_current(&self) -> Result<(), TensorRtError> {
        // SAFETY: the primary context is kept for the life of the process.
        #[allow(unsafe_code)]
        unsafe { result::ctx::set_current(self.context.0) }.map_err(cuda("use the GPU on this thread"))
    }

    /// Its name, such as `Xavier`.
    pub fn name(&self) -> Result<String, TensorRtError> {
        result::device::get_name(self.number).map_err(cuda("ask the GPU for its name"))
    }

    /// Its compute capability, such as 6.2.
    pub fn compute_capability(&self) -> Result<(u32, u32), TensorRtError> {
        use sys::CUdevice_attribute_enum::{
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
        };
        let number = |attribute| {
            // SAFETY: the device was given by the driver.
            #[allow(unsafe_code)]
            let value = unsafe { result::device::get_attribute(self.number, attribute) };
            value.map(c_int::unsigned_abs).map_err(cuda("ask the GPU for its compute capability"))
        };
        Ok((number(MAJOR)?, number(MINOR)?))
    }

    /// The version of CUDA that the driver can do, such as 10.2.
    pub fn driver_version(&self) -> Result<(u32, u32), TensorRtError> {
        let mut version = 0;
        // SAFETY: the function writes one number.
        #[allow(unsafe_code)]
        unsafe { sys::cuDriverGetVersion(&raw mut version).result() }
            .map_err(cuda("ask the driver for its version"))?;
        let version = version.unsigned_abs();
        Ok((version / 1000, version % 1000 / 10))
    }
}

fn cuda(what: &'static str) -> impl Fn(DriverError) -> TensorRtError {
    move |error| {
        let text = |found: Result<&std::ffi::CStr, DriverError>| {
            found.map_or_else(|_| format!("{:?}", error.0), |text| text.to_string_lossy().into_owned())
        };
        TensorRtError::Cuda { what, cause: format!("{} ({:?})", text(error.error_string()), error.0) }
    }
}

/// A queue of work for the GPU, with the event that says that everything in it is done.
pub struct Stream {
    queue: Handle<sys::CUstream>,
    done: Handle<sys::CUevent>,
}

impl Stream {
    /// A stream on the GPU whose context is current.
    pub fn new(_: &Device) -> Result<Self, TensorRtError> {
        // Who waits for the event sleeps. A wait for the stream itself may spin, and a board has few cores.
        let flags = sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC as c_uint
            | sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as c_uint;
        let mut done = std::ptr::null_mut();
        // SAFETY: the function writes one handle. (The safe call takes one flag only.)
        #[allow(unsafe_code)]
        unsafe { sys::cuEventCreate(&raw mut done, flags).result() }.map_err(cuda("make an event"))?;
        let done = Handle(done);
        match result::stream::create(StreamKind::NonBlocking) {
            Ok(queue) => Ok(Self { queue: Handle(queue), done }),
            Err(error) => {
                destroy(done);
                Err(cuda("make a stream")(error))
            }
        }
    }

    pub(crate) fn raw(&self) -> sys::CUstream {
        self.queue.0
    }

    /// Waits, asleep, until everything in it is done.
    pub fn wait(&self) -> Result<(), TensorRtError> {
        // SAFETY: stream and event are alive and of the same context.
        #[allow(unsafe_code)]
        unsafe {
            result::event::record(self.done.0, self.queue.0).and_then(|()| result::event::synchronize(self.done.0))
        }
        .map_err(cuda("wait for the GPU"))
    }
}

fn destroy(event: Handle<sys::CUevent>) {
    // SAFETY: who owned it gives it up. What the driver says of it helps nobody any more.
    #[allow(unsafe_code)]
    let _ = unsafe { result::event::destroy(event.0) };
}

impl Drop for Stream {
    fn drop(&mut self) {
        destroy(self.done);
        // SAFETY: it was created here and is destroyed once. What the driver says of it helps nobody any more.
        #[allow(unsafe_code)]
        let _ = unsafe { result::stream::destroy(self.queue.0) };
    }
}

/// Numbers in pinned memory that the processor and the GPU both address: on a Jetson, where both share one memory, nothing has
/// to be copied.
pub(crate) struct Mapped {
    host: NonNull<f32>,
    device: sys::CUdeviceptr,
    length: usize,
}

// SAFETY: the memory belongs to this value alone, and the driver frees it from any thread.
#[allow(unsafe_code)]
unsafe impl Send for Mapped {}

impl Mapped {
    /// `length` zeros on the GPU whose context is current.
    pub(crate) fn zeros(_: &Device, length: usize) -> Result<Self, TensorRtError> {
        let failed = cuda("get memory that the GPU sees");
        let Some(bytes) = length.max(1).checked_mul(size_of::<f32>()) else {
            return Err(TensorRtError::OutOfMemory(format!("{length} numbers")));
        };
        // SAFETY: the bytes are set before anybody reads them.
        #[allow(unsafe_code)]
        let host = unsafe { result::malloc_host(bytes, sys::CU_MEMHOSTALLOC_DEVICEMAP) }.map_err(&failed)?;
        let Some(host) = NonNull::new(host.cast::<f32>()) else {
            return Err(TensorRtError::OutOfMemory(format!("{bytes} bytes of pinned memory")));
        };
        // SAFETY: the driver just gave that many bytes, aligned to a page.
        #[allow(unsafe_code)]
        unsafe {
            host.as_ptr().write_bytes(0, length.max(1));
        }
        // From here on dropping frees it.
        let mut mapped = Self { host, device: 0, length };
        // SAFETY: the memory was allocated with the flag that this call asks for; the function writes one pointer.
        #[allow(unsafe_code)]
        unsafe { sys::cuMemHostGetDevicePointer_v2(&raw mut mapped.device, host.as_ptr().cast(), 0).result() }
            .map_err(&failed)?;
        Ok(mapped)
    }

    /// The numbers.
    pub(crate) fn values(&mut self) -> &mut [f32] {
        // SAFETY: `length` numbers were set at `host` and belong to this value, of which `&mut` says that nobody else looks.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.host.as_ptr(), self.length)
        }
    }

    pub(crate) fn device_pointer(&self) -> sys::CUdeviceptr {
        self.device
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was allocated by the driver and is freed once. What the driver says of it helps nobody any more.
        #[allow(unsafe_code)]
        let _ = unsafe { result::free_host(self.host.as_ptr().cast()) };
    }
}
