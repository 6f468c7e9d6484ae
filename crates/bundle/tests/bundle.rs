//! A bundle is used only when it is whole.
// A test whose stage cannot be set may panic.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use anemia_bundle::{
    Bundle, BundleError, FORMAT_VERSION, FileEntry, Input, MANIFEST, Manifest, ModelFile, OperatingPoint, Output,
    OutputKind, Precision, SelfTest, Sha256, Task, Training, write_bundle,
};
use proptest::prelude::*;

const NETWORK: &[u8] = b"not a network, but a file";
const CARD: &[u8] = b"# Card\n";
const EYE: &[u8] = b"not a picture, but a file";
const FILES: [(&str, &[u8]); 3] = [("fp32.onnx", NETWORK), ("docs/card.md", CARD), ("selftest/eye.png", EYE)];

fn manifest() -> Manifest {
    Manifest {
        format: FORMAT_VERSION,
        name: "pallor".into(),
        version: "1.2.3".into(),
        task: Task::Classify,
        input: Input {
            name: "image".into(),
            width: 224,
            height: 224,
            mean: [0.5; 3],
            std: [0.5; 3],
            rim: 0,
            smooth: 0.0,
        },
        output: Output { name: "probability".into(), kind: OutputKind::Probability },
        models: vec![ModelFile {
            precision: Precision::Fp32,
            path: "fp32.onnx".into(),
            sha256: Sha256::of(NETWORK),
            answers: Vec::new(),
            tensorrt: None,
            operating_point: Some(OperatingPoint { threshold: 0.5, indeterminate: [0.4, 0.6], temperature: 1.0 }),
            metrics: Vec::new(),
        }],
        training: Training {
            data: "none".into(),
            age_months: [6, 59],
            anemic_below_g_per_dl: 11.0,
            limits: "a test".into(),
        },
        selftest: vec![SelfTest {
            path: "selftest/eye.png".into(),
            sha256: Sha256::of(EYE),
            expected: 0.5,
            tolerance: 0.02,
        }],
        files: vec![FileEntry { path: "docs/card.md".into(), sha256: Sha256::of(CARD) }],
        tools: Vec::new(),
    }
}

/// Writes a good bundle, lets `spoil` change it, and gives the message of opening it.
fn message_after(spoil: impl FnOnce(&Path)) -> String {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("bundle");
    write_bundle(&folder, &manifest(), &FILES).unwrap();
    spoil(&folder);
    let verified = Bundle::open(&folder).and_then(|bundle| bundle.verify());
    let message = verified.expect_err("a spoilt bundle must be refused").to_string();
    assert!(!message.contains('\n') && message.contains("bundle"), "{message}");
    message
}

fn edit_manifest(folder: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(folder.join(MANIFEST)).unwrap();
    assert!(text.contains(from), "the manifest has no {from:?}");
    fs::write(folder.join(MANIFEST), text.replacen(from, to, 1)).unwrap();
}

#[test]
fn what_is_written_is_read_again() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("bundle");
    write_bundle(&folder, &manifest(), &FILES).unwrap();
    let bundle = Bundle::open(&folder).unwrap();
    assert_eq!(*bundle.manifest(), manifest());
    assert_eq!(bundle.model(Precision::Fp32).unwrap().path, "fp32.onnx");
    assert_eq!(*bundle.sha256(), Sha256::of_file(&folder.join(MANIFEST)).unwrap());
    let refused = bundle.model(Precision::Int8).unwrap_err().to_string();
    assert!(refused.ends_with("has no int8 model; it has fp32"), "{refused}");
    assert!(matches!(bundle.expect_task(Task::Locate), Err(BundleError::Task { .. })));
    bundle.verify().unwrap();
    fs::write(folder.join("fp32.onnx"), b"something else").unwrap();
    let read = Bundle::open(&folder).unwrap().read_model(bundle.model(Precision::Fp32).unwrap());
    assert!(matches!(read, Err(BundleError::Hash { .. })), "{read:?}");
    let left = fs::read_dir(parent.path()).unwrap().count();
    assert_eq!(left, 1, "nothing is left beside the bundle");
}

#[test]
fn every_kind_of_damage_is_named() {
    let changed = message_after(|folder| fs::write(folder.join("fp32.onnx"), b"something else").unwrap());
    assert!(changed.contains("fp32.onnx is not the file that the manifest names"), "{changed}");
    let missing = message_after(|folder| fs::remove_file(folder.join("docs/card.md")).unwrap());
    assert!(missing.contains("docs/card.md is missing from the bundle"), "{missing}");
    let gone = message_after(|folder| fs::remove_file(folder.join(MANIFEST)).unwrap());
    assert!(gone.contains("no model bundle here"), "{gone}");
    let newer = message_after(|folder| edit_manifest(folder, "format: 1", "format: 2"));
    assert!(newer.contains("is bundle format 2, and this program reads format 1"), "{newer}");
    let unknown = message_after(|folder| edit_manifest(folder, "name: pallor", "nmae: pallor"));
    assert!(unknown.contains("unknown field `nmae`") && unknown.contains("line 2"), "{unknown}");
    let band = message_after(|folder| edit_manifest(folder, "threshold: 0.5", "threshold: 0.9"));
    assert!(band.contains("expected 0 < indeterminate[0] ≤ threshold"), "{band}");
    let std = message_after(|folder| edit_manifest(folder, "std:\n  - 0.5", "std:\n  - 0.0"));
    assert!(std.contains("std greater than 0"), "{std}");
    let untested = message_after(|folder| {
        let text = fs::read_to_string(folder.join(MANIFEST)).unwrap();
        let (before, after) = (text.split("selftest:").next().unwrap(), text.split("files:").nth(1).unwrap());
        fs::write(folder.join(MANIFEST), format!("{before}selftest: []\nfiles:{after}")).unwrap();
    });
    assert!(untested.contains("a classifier needs at least one picture"), "{untested}");
    let huge = message_after(|folder| fs::write(folder.join(MANIFEST), vec![b' '; 2 << 20]).unwrap());
    assert!(huge.contains("too many for a manifest"), "{huge}");
}

#[test]
fn a_manifest_names_only_files_of_its_own_folder() {
    for path in ["../fp32.onnx", "/etc/passwd", "a/../../b", ""] {
        let message = message_after(|folder| edit_manifest(folder, "path: fp32.onnx", &format!("path: {path:?}")));
        assert!(message.contains("is not a path inside the bundle"), "{message}");
    }
}

#[test]
fn a_bundle_is_never_written_over_another_or_with_other_files_than_it_names() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("bundle");
    assert!(write_bundle(&folder, &manifest(), &FILES[..1]).is_err(), "the card is missing");
    assert!(!folder.exists());
    write_bundle(&folder, &manifest(), &FILES).unwrap();
    assert!(write_bundle(&folder, &manifest(), &FILES).is_err(), "it is there already");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever stands in a manifest: an error, never a panic.
    #[test]
    fn any_manifest_is_survived(text in "\\PC{0,200}", at in 0usize..1200, cut in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let mut whole = serde_yaml::to_string(&manifest()).unwrap();
        let at = (0..=at.min(whole.len())).rev().find(|&at| whole.is_char_boundary(at)).unwrap_or(0);
        if cut { whole.truncate(at) } else { whole.insert_str(at, &text) }
        fs::write(folder.path().join(MANIFEST), &whole).unwrap();
        prop_assert!(Bundle::open(folder.path()).is_err(), "the network file is not even there");
    }
}
