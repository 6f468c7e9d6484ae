//! `anemia-calibrate inspect` on files that it wrote itself, and on the same files with faults.
// A test may panic.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/common.rs"]
mod common;

use std::path::Path;
use std::process::Command;

use anemia_calibrator::quantize::{self, Format};
use anemia_calibrator::{Recipe, network, pictures, write};
use anemia_onnx::proto::ModelProto;
use anemia_onnx::{float_tensor, node, raw_tensor};

const INT8: i32 = 3;

fn inspect(model: &ModelProto, folder: &Path) -> String {
    let path = folder.join("model.onnx");
    std::fs::write(&path, anemia_onnx::encode(model)).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_anemia-calibrate")).arg("inspect").arg(&path).output().unwrap();
    let (said, errors, code) = common::texts(&run);
    assert_eq!(code, Some(0), "{errors}");
    said
}

/// The shipped network as TensorRT wants it, and as ONNX Runtime does.
fn int8(folder: &Path) -> [ModelProto; 2] {
    let fp32 = anemia_onnx::read(&common::project().join("models/mobilenet/fp32.onnx")).unwrap();
    let network = network::read(&fp32).unwrap();
    for seed in 0..3 {
        common::cutout(seed, 0.5).save(folder.join(format!("{seed}.png"))).unwrap();
    }
    let [_, height, width] = network.shape;
    let spec = anemia_vision::InputSpec { width, height, mean: [0.5; 3], std: [0.5; 3], rim: 0, smooth: 0.0 };
    let maps = pictures::cut_out_all(&pictures::find(folder).unwrap(), &spec).unwrap();
    let recipe = Recipe::find("paper").unwrap();
    [Format::Signed, Format::Unsigned].map(|format| {
        let quantized = quantize::int8(&network, &maps, format, &recipe).unwrap();
        if format == Format::Signed { write::int8_tensorrt(&quantized) } else { write::int8_onnxruntime(&quantized) }
    })
}

#[test]
fn the_network_that_ships_follows_the_rules_of_boards() {
    let folder = tempfile::tempdir().unwrap();
    let board = anemia_onnx::read(&common::project().join("models/pallor/int8.tensorrt.onnx")).unwrap();
    let said = inspect(&board, folder.path());
    assert!(said.contains("TensorRT 8.2: the network follows") && said.contains("TensorRT 8.5: the network follows"));
    // Every layer's size is known: 128 channels of every fourth pixel.
    assert!(said.contains("128×32×32") && !said.contains(" ? "), "{said}");
}

#[test]
fn layers_are_listed_and_faults_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let [board, own] = int8(folder.path());
    let said = inspect(&board, folder.path());
    // 32 outputs of 3 × 3 × 3 weights at a stride of 2, from a picture between −1 and 1.
    let first = said.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(first[..3], ["features.0.0.linear", "Conv", "8"], "{said}");
    assert!(first.contains(&"32×3×3×3") && first.contains(&"-1.008"), "{said}");
    assert!(said.contains("53 layers"), "{said}");
    assert!(said.contains("TensorRT 8.2: the network follows") && said.contains("TensorRT 8.5: the network follows"));

    let said = inspect(&own, folder.path());
    // Its values have no names but numbers; its layers have.
    assert!(said.contains("TensorRT 8 refuses QuantizeLinear "), "{said}");
    assert!(said.contains("rounds to UINT8; expected INT8"), "{said}");
    assert!(said.lines().any(|line| line.starts_with("features.0.0  ")), "{said}");
    assert!(said.contains("TensorRT 8 is slower at Add "), "{said}");
    assert!(said.contains(": adds the rounded result of features.3.conv.2; without"), "{said}");

    let broken = |change: &dyn Fn(&mut anemia_onnx::proto::GraphProto), expected: &str| {
        let mut model = board.clone();
        change(model.graph.as_mut().unwrap());
        let said = inspect(&model, folder.path());
        assert!(said.contains(expected) && !said.contains("8.2: the network follows"), "{expected}: {said}");
    };
    let zero = |name: &str| raw_tensor(name, anemia_onnx::proto::tensor_proto::DataType::Int8, &[], vec![1]);
    broken(
        &|graph| {
            let constant = graph.initializer.iter_mut().find(|tensor| tensor.name() == "image.zero").unwrap();
            *constant = zero("image.zero");
        },
        "TensorRT 8 refuses QuantizeLinear image.quantized: has a zero point that is not 0",
    );
    broken(
        &|graph| {
            let constant = graph.initializer.iter_mut().find(|tensor| tensor.name() == "image.scale").unwrap();
            *constant = float_tensor("image.scale", &[], &[-0.5]);
        },
        "image.quantized: has the scale -0.5; expected more than 0",
    );
    broken(
        &|graph| {
            let constant = graph.initializer.iter_mut().find(|tensor| tensor.name() == "image.scale").unwrap();
            *constant = float_tensor("image.scale", &[3], &[0.1; 3]);
        },
        "image.quantized: has 3 scales for a value that is not a weight; expected one",
    );
    broken(
        &|graph| graph.node.insert(0, node("Relu", &["image"], &["a:b"])),
        "TensorRT 8 refuses Relu a:b: its result is called a:b: a colon breaks the calibration cache",
    );
    broken(
        &|graph| {
            let constant =
                graph.initializer.iter_mut().find(|tensor| tensor.name() == "features.0.0.weight.scale").unwrap();
            *constant = float_tensor("features.0.0.weight.scale", &[31], &[0.1; 31]);
        },
        "has 31 scales along axis 0 of [32, 3, 3, 3]",
    );

    // Only 8.2 wants the weights as floats.
    let mut stored = board.clone();
    let graph = stored.graph.as_mut().unwrap();
    let weights = graph.initializer.iter_mut().find(|tensor| tensor.name() == "features.0.0.weight").unwrap();
    (weights.data_type, weights.raw_data) = (Some(INT8), Some(vec![1; 32 * 27].into()));
    let dequantize = graph.node.iter_mut().find(|node| node.name() == "features.0.0.weight.float").unwrap();
    dequantize.input[0] = "features.0.0.weight".into();
    graph.node.retain(|node| node.name() != "features.0.0.weight.quantized");
    let said = inspect(&stored, folder.path());
    assert!(
        said.contains("TensorRT 8.2 refuses DequantizeLinear features.0.0.weight.float: stores integers"),
        "{said}"
    );
    assert!(said.contains("TensorRT 8.5: the network follows"), "{said}");
}
