//! NVIDIA's own parser and builder, TensorRT-RTX, read the networks of the bundles and build plans from them, without a
//! GPU. `make test-tensorrt-rtx` fetches it and names its shim in ANEMIA_TENSORRT_RTX.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::Write;
use std::path::{Path, PathBuf};

use anemia_bundle::{Bundle, Precision};
use anemia_onnx::{decode, encode, expand};
use anemia_tensorrt::{BuildOptions, Shim};

/// The GPUs that TensorRT-RTX builds for start at Turing; 80 is Ampere.
const COMPUTE_CAPABILITY: i32 = 80;

#[test]
fn tensorrt_rtx_builds_plans_from_every_precision() {
    let Some(library) = std::env::var_os("ANEMIA_TENSORRT_RTX").map(PathBuf::from) else {
        // Past the test harness, which keeps what passing tests print to itself.
        let why = "ANEMIA_TENSORRT_RTX does not name a shim; `make test-tensorrt-rtx` does";
        let _ = writeln!(std::io::stderr(), "skipped: {why}");
        return;
    };
    let shim = Shim::open(Some(&library)).unwrap();
    assert!(shim.versions().is_rtx);
    println!("TensorRT-RTX {}", shim.versions().library);

    for (name, least) in [("pallor", 10_000), ("mobilenet", 1_000_000)] {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
        let bundle = Bundle::open(&models.join(name)).unwrap();
        for precision in [Precision::Fp32, Precision::Fp16, Precision::Int8, Precision::Int4] {
            let model = bundle.model(precision).unwrap();
            let onnx = match &model.tensorrt {
                Some(file) => bundle.read_file(&file.path, &file.sha256).unwrap(),
                None => bundle.read_model(model).unwrap(),
            };
            // As the daemon hands them over. Blocks of 128 do not divide every layer, which ONNX allows and TensorRT does not.
            let onnx = match precision {
                Precision::Fp16 | Precision::Int4 => encode(&expand(&decode(onnx).unwrap()).unwrap()),
                Precision::Fp32 | Precision::Int8 => onnx,
            };
            let options = BuildOptions { compute_capability: COMPUTE_CAPABILITY, ..BuildOptions::default() };
            let built = shim.build(&onnx, &options, &mut |_| true);
            let built = built.unwrap_or_else(|error| panic!("{name} {precision}: {error}"));
            assert!(built.plan.len() > least, "{name} {precision}: {} bytes", built.plan.len());
            println!("{name} {precision}: a plan of {} bytes", built.plan.len());
        }
    }
    // And it refuses what it cannot read, in its own words.
    let error = shim.build(b"no network", &BuildOptions::default(), &mut |_| true).unwrap_err().to_string();
    assert!(error.contains("does not read the network"), "{error}");
}
