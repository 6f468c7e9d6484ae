//! An inference allocates nothing on the Rust side.
// A test whose stage cannot be set may panic.
#![allow(clippy::unwrap_used)]

mod fake;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use anemia_tensorrt::{BuildOptions, Device, Runtime, Shim, Stream};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it is.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: see above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: see above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn an_inference_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fake::use_cuda(folder.path());
    for version in [802, 1100] {
        let path = folder.path().join(format!("shim-{version}.so"));
        fake::build_shim(version, &path, &[]);
        let shim = Shim::open(Some(&path)).unwrap();
        let built = shim.build(&fake::network(""), &BuildOptions::default(), &mut |_| true).unwrap();
        let device = Device::first().unwrap();
        let stream = Stream::new(&device).unwrap();
        let mut context = Runtime::new(&shim).unwrap().load(&built.plan).unwrap().into_context().unwrap();
        let [input, output] = ["image", "logit"].map(|name| context.bind(name, &device).unwrap());
        context.run(&stream).unwrap();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for step in 0..100u8 {
            context.values(input).fill(f32::from(step));
            device.make_current().unwrap();
            context.run(&stream).unwrap();
            assert_eq!(context.values(output)[0], f32::from(step));
        }
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before, "TensorRT {version}");
    }
}
