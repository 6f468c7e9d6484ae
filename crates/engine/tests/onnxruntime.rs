//! Real networks in the real ONNX Runtime: small ones made here, and the one that ships.
// A test whose stage cannot be set may panic.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use anemia_bundle::{Bundle, Precision, write_bundle};
use anemia_engine::{Engine, EngineError, EngineOptions, find_library, load, self_test};
use support::{bundle, network};

fn error_of(outcome: Result<Box<dyn Engine>, EngineError>) -> String {
    let message = outcome.err().expect("this network must be refused").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn what_is_written_into_the_input_is_what_the_network_sees_each_time() {
    let test = bundle(&network("Identity", 2.0, 1.0), |_| {});
    let mut engine = load(&test.bundle, Precision::Fp32, &EngineOptions::default()).unwrap();
    assert_eq!(engine.run().unwrap(), [1.0], "a fresh input is zero");
    for value in [0.25, -3.0, 0.25] {
        engine.input().fill(value);
        assert_eq!(engine.run().unwrap(), [value * 2.0 + 1.0]);
    }
    assert!(engine.name().starts_with("onnxruntime 1."), "{}", engine.name());
    assert_eq!((engine.precision(), engine.input().len()), (Precision::Fp32, 192));
}

#[test]
fn a_network_that_gives_nan_gives_no_number() {
    // The root of a negative number.
    let test = bundle(&network("Sqrt", 1.0, -1.0), |_| {});
    let mut engine = load(&test.bundle, Precision::Fp32, &EngineOptions::default()).unwrap();
    assert!(matches!(engine.run(), Err(EngineError::NoNumber(_))));
    engine.input().fill(5.0);
    assert_eq!(engine.run().unwrap(), [2.0], "and it goes on when the input is good again");
}

#[test]
fn a_network_that_does_not_fit_its_manifest_is_refused() {
    let good = network("Identity", 1.0, 0.0);
    let options = EngineOptions::default();
    let size = bundle(&good, |manifest| manifest.input.width = 16);
    let message = error_of(load(&size.bundle, Precision::Fp32, &options));
    assert!(message.contains("input is Float32 of shape [1, 3, 8, 8]"), "{message}");
    let name = bundle(&good, |manifest| manifest.output.name = "logit".into());
    let message = error_of(load(&name.bundle, Precision::Fp32, &options));
    assert!(message.contains("output is named probability"), "{message}");
    let foreign = bundle(b"this is no network", |_| {});
    let message = error_of(load(&foreign.bundle, Precision::Fp32, &options));
    assert!(message.contains("fp32.onnx: cannot be loaded"), "{message}");
    let precision = bundle(&good, |_| {});
    let message = error_of(load(&precision.bundle, Precision::Int4, &options));
    assert!(message.contains("has no int4 model; it has fp32"), "{message}");
}

#[test]
fn a_missing_library_is_named_with_the_command_that_installs_it() {
    let wanted = Path::new("/nowhere/libonnxruntime.so");
    let message = find_library(Some(wanted)).unwrap_err().to_string();
    assert!(message.contains("/nowhere/libonnxruntime.so") && message.contains("make deps"), "{message}");
}

#[test]
fn the_shipped_model_passes_its_self_test_and_a_wrong_one_fails_it() {
    let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/pallor");
    let bundle = Bundle::open(&shipped).unwrap();
    let answers = &bundle.model(Precision::Int8).unwrap().answers;
    let logits = answers.iter().map(|&answer| bundle.manifest().output.kind.to_logit(answer));
    let [low, high] = logits.fold([f32::MAX, f32::MIN], |[low, high], one| [low.min(one), high.max(one)]);
    // The same networks with other expectations, as if other networks had been put in their place. One that says the same of all
    // pictures is off by half of what lies between the answers.
    let off = high - low;
    for (precision, too_far, near_enough) in [(Precision::Fp32, 0.5, 0.05), (Precision::Int8, off * 0.4, off * 0.1)] {
        let mut engine = load(&bundle, precision, &EngineOptions::default()).unwrap();
        self_test(&bundle, engine.as_mut()).unwrap();
        let [(_near, near), (_far, far)] = [near_enough, too_far].map(|difference| off_by(difference, &bundle));
        self_test(&near, engine.as_mut()).unwrap();
        let message = self_test(&far, engine.as_mut()).unwrap_err().to_string();
        assert!(message.contains("self-test failed on selftest/phantom-2.png"), "{precision}: {message}");
    }
}

/// The bundle with another answer to the second picture at every precision, and the folder that it is in.
fn off_by(difference: f32, bundle: &Bundle) -> (tempfile::TempDir, Bundle) {
    let mut manifest = bundle.manifest().clone();
    manifest.selftest[1].expected += difference;
    for model in manifest.models.iter_mut().filter(|model| !model.answers.is_empty()) {
        model.answers[1] += difference;
    }
    let files: Vec<(String, Vec<u8>)> =
        manifest.all_files().map(|(path, _)| (path.to_owned(), std::fs::read(bundle.path_of(path)).unwrap())).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    let folder = tempfile::tempdir().unwrap();
    write_bundle(&folder.path().join("wrong"), &manifest, &files).unwrap();
    let wrong = Bundle::open(&folder.path().join("wrong")).unwrap();
    (folder, wrong)
}
