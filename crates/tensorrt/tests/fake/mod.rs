//! TensorRT and CUDA on the processor, built by the compiler of this machine: see the files beside this one.
// Each test program uses a part of this.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Every version whose interface differs from the one before, as major * 100 + minor.
pub const VERSIONS: [u32; 6] = [802, 804, 805, 806, 1000, 1100];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .find_map(|up| {
            let found = [up.join("tests/fake"), up.join("crates/tensorrt/tests/fake")];
            found.into_iter().find(|folder| folder.join("fake_tensorrt.cpp").is_file())
        })
        .expect("the fakes are in crates/tensorrt/tests/fake")
}

fn run(command: &mut Command) {
    let output = command.output().expect("a C and C++ compiler, which `make deps` installs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.is_empty(), "{command:?}: {text}");
}

/// Builds the real shim against the fake TensorRT of a version into `target`, with more arguments for the compiler.
pub fn build_shim(version: u32, target: &Path, more: &[&str]) {
    let fake = folder();
    let shim = fake.join("../../shim");
    let mut command = Command::new("c++");
    command
        .args(["-std=c++14", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-Wl,-z,defs", "-pthread"])
        .arg(format!("-DFAKE_VERSION={version}"))
        .args(more)
        .arg("-I")
        .arg(&fake)
        .arg(shim.join("anemia_tensorrt.cpp"))
        .arg(fake.join("fake_tensorrt.cpp"))
        .arg("-o")
        .arg(target);
    run(&mut command);
}

/// Builds the fake driver as `libcuda.so` in `folder`.
pub fn build_cuda(folder_of_library: &Path) -> PathBuf {
    let target = folder_of_library.join("libcuda.so");
    let mut command = Command::new("cc");
    command
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-Wl,-soname,libcuda.so", "-Wl,-z,defs"])
        .arg(folder().join("fake_cuda.c"))
        .arg("-o")
        .arg(&target);
    run(&mut command);
    target
}

/// Opens the fake driver, so that this process finds it under its name from now on; it stays open.
#[allow(unsafe_code)]
pub fn use_cuda(folder_of_library: &Path) {
    let library = build_cuda(folder_of_library);
    // SAFETY: it is the file that was just built, and has no initialisers.
    let opened = unsafe { libloading::Library::new(library) }.expect("the fake driver can be opened");
    std::mem::forget(opened);
}

/// What the fake TensorRT takes for a network on 1×3×8×8 numbers; `faults` are words of fake_tensorrt.cpp.
pub fn network(faults: &str) -> Vec<u8> {
    format!("fake: image 1 3 8 8 -> logit 1 1 {faults};").into_bytes()
}
