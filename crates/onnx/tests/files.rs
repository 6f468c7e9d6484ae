//! Reading, writing and looking at ONNX files.

use anemia_onnx::proto::GraphProto;
use anemia_onnx::{decode, encode, float_tensor, float_value, model, node, read};
use proptest::prelude::*;

fn small() -> anemia_onnx::proto::ModelProto {
    model(GraphProto {
        node: vec![node("Relu", &["x"], &["a"]), node("Mul", &["a", "w"], &["y"])],
        initializer: vec![float_tensor("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0])],
        input: vec![float_value("x", &[2, 2])],
        output: vec![float_value("y", &[2, 2])],
        ..Default::default()
    })
}

#[test]
fn a_model_survives_writing_and_reading() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, encode(&small())).unwrap();
    assert_eq!(read(&path).unwrap(), small());
}

#[test]
fn what_is_not_a_model_is_refused() {
    assert!(decode(Vec::new()).unwrap_err().to_string().contains("not an ONNX model"));
    assert!(decode(b"plain text, nothing else".to_vec()).is_err());
    let missing = read("/does/not/exist.onnx".as_ref()).unwrap_err().to_string();
    assert!(missing.starts_with("/does/not/exist.onnx"), "{missing}");
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(bytes);
    }
}
