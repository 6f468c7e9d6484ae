//! Bundles with a small network.
// Each test program uses a part of this.
#![allow(dead_code)]

use anemia_bundle::{
    Bundle, FORMAT_VERSION, Input, Manifest, ModelFile, Output, OutputKind, Precision, Sha256, Task, Training,
    write_bundle,
};
use anemia_onnx::proto::GraphProto;
use anemia_onnx::{encode, float_tensor, float_value, integer_tensor, model, node};

pub const SIDE: i64 = 8;

/// A network on 1×3×8×8 inputs: `operator` on the mean of all values, times `factor` and plus `shift`.
pub fn network(operator: &str, factor: f32, shift: f32) -> Vec<u8> {
    network_with(operator, factor, shift, "")
}

fn network_with(operator: &str, factor: f32, shift: f32, faults: &str) -> Vec<u8> {
    let graph = GraphProto {
        name: Some("test".into()),
        node: vec![
            node("ReduceMean", &["image"], &["mean"]),
            node("Mul", &["mean", "factor"], &["scaled"]),
            node("Add", &["scaled", "shift"], &["shifted"]),
            node(operator, &["shifted"], &["value"]),
            node("Reshape", &["value", "shape"], &["probability"]),
        ],
        initializer: vec![
            float_tensor("factor", &[], &[factor]),
            float_tensor("shift", &[], &[shift]),
            integer_tensor("shape", &[2], &[1, 1]),
        ],
        input: vec![float_value("image", &[1, 3, SIDE, SIDE])],
        output: vec![float_value("probability", &[1, 1])],
        ..Default::default()
    };
    let mut made = model(graph);
    // The fake TensorRT knows networks by this line, and gives the mean.
    made.doc_string = Some(format!("fake: image 1 3 8 8 -> probability 1 1 {faults};"));
    encode(&made)
}

/// The mean of all values, for which the fake TensorRT gives the same number. `faults` are words of fake_tensorrt.cpp.
pub fn mean(faults: &str) -> Vec<u8> {
    network_with("Identity", 1.0, 0.0, faults)
}

pub struct TestBundle {
    _folder: tempfile::TempDir,
    pub bundle: Bundle,
}

pub fn bundle(network: &[u8], edit: impl FnOnce(&mut Manifest)) -> TestBundle {
    bundle_with(network, &[], edit)
}

/// With more files than the network.
pub fn bundle_with(network: &[u8], files: &[(&str, &[u8])], edit: impl FnOnce(&mut Manifest)) -> TestBundle {
    let mut manifest = Manifest {
        format: FORMAT_VERSION,
        name: "test".into(),
        version: "0".into(),
        task: Task::Locate,
        input: Input {
            name: "image".into(),
            width: SIDE as u32,
            height: SIDE as u32,
            mean: [0.0; 3],
            std: [1.0; 3],
            rim: 0,
            smooth: 0.0,
        },
        output: Output { name: "probability".into(), kind: OutputKind::Probability },
        models: vec![ModelFile {
            precision: Precision::Fp32,
            path: "fp32.onnx".into(),
            sha256: Sha256::of(network),
            answers: Vec::new(),
            tensorrt: None,
            operating_point: None,
            metrics: Vec::new(),
        }],
        training: Training {
            data: String::new(),
            age_months: [6, 59],
            anemic_below_g_per_dl: 11.0,
            limits: String::new(),
        },
        selftest: Vec::new(),
        files: Vec::new(),
        tools: Vec::new(),
    };
    edit(&mut manifest);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    write_bundle(&path, &manifest, &[&[("fp32.onnx", network)], files].concat()).unwrap();
    TestBundle { bundle: Bundle::open(&path).unwrap(), _folder: folder }
}
