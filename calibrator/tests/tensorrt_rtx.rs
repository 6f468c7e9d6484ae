//! NVIDIA's own parser and builder, TensorRT-RTX, read what the calibrator writes and build plans from it, without a GPU.
//! `make test-tensorrt-rtx` fetches it and names its shim in ANEMIA_TENSORRT_RTX.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../tests/common.rs"]
mod common;

use std::path::PathBuf;

use anemia_bundle::{Bundle, Precision};
use anemia_calibrator::quantize::{self, Format};
use anemia_calibrator::{Recipe, network, pictures, write};
use anemia_onnx::{encode, expand};
use anemia_tensorrt::{BuildOptions, Shim};

/// The GPUs that TensorRT-RTX builds for start at Turing; 80 is Ampere.
const COMPUTE_CAPABILITY: i32 = 80;

#[test]
fn tensorrt_rtx_builds_plans_from_every_precision() {
    let Some(library) = std::env::var_os("ANEMIA_TENSORRT_RTX").map(PathBuf::from) else {
        println!("skipped: ANEMIA_TENSORRT_RTX does not name a shim; `make test-tensorrt-rtx` does");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..12u64 {
        common::cutout(seed, seed as f32 / 12.0).save(folder.path().join(format!("{seed:03}.png"))).unwrap();
    }
    let bundle = Bundle::open(&common::project().join("models/pallor")).unwrap();
    let fp32 = bundle.read_model(bundle.model(Precision::Fp32).unwrap()).unwrap();
    let network = network::read(&anemia_onnx::decode(fp32.clone()).unwrap()).unwrap();
    let found = pictures::find(folder.path()).unwrap();
    let maps = pictures::cut_out_all(&found, &bundle.manifest().input.spec()).unwrap();
    let recipe = Recipe::find("best").unwrap();
    let fp16 = write::fp16(&quantize::fp16(&network, &maps, &recipe).unwrap());
    let int8 = write::int8_tensorrt(&quantize::int8(&network, &maps, Format::Signed, &recipe).unwrap());
    let int4 = write::int4(&quantize::int4(&network, &maps, fp32.len(), &recipe).unwrap());

    let shim = Shim::open(Some(&library)).unwrap();
    assert!(shim.versions().is_rtx);
    println!("TensorRT-RTX {}", shim.versions().library);
    let files = [
        ("fp32", fp32),
        ("fp16 for boards", encode(&expand(&fp16).unwrap())),
        ("fp16", encode(&fp16)),
        ("int8 for TensorRT", encode(&int8)),
        // As the daemon hands it over: blocks of 128 do not divide every layer, which ONNX allows and TensorRT does not.
        ("int4 for boards", encode(&expand(&int4).unwrap())),
    ];
    for (name, onnx) in files {
        let options = BuildOptions { compute_capability: COMPUTE_CAPABILITY, ..BuildOptions::default() };
        let built = shim.build(&onnx, &options, &mut |_| true).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(built.plan.len() > 100_000, "{name}: {} bytes", built.plan.len());
        println!("{name}: a plan of {} bytes", built.plan.len());
    }
    // And it refuses what it cannot read, in its own words.
    let error = shim.build(b"no network", &BuildOptions::default(), &mut |_| true).unwrap_err().to_string();
    assert!(error.contains("does not read the network"), "{error}");
}
