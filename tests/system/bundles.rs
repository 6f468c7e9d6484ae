//! Bundles that must not be used, and networks that fail in use.

use std::fs;
use std::path::Path;

use anemia_bundle::{
    Bundle, Input, MANIFEST, Manifest, ModelFile, OperatingPoint, Output, OutputKind, Precision, SelfTest, Sha256,
    Task, Training, write_bundle,
};
use anemia_onnx::proto::GraphProto;
use anemia_onnx::{encode, float_tensor, float_value, integer, integer_tensor, model, node};
use image::{ImageFormat, Rgb, RgbImage};

use crate::mqtt::{Broker, Subscriber};
use crate::support::{Kiosk, PHANTOMS, QUICK, Settings, anemiad, free_port, project, texts};

/// √(mean of all values + shift), whose root is NaN for a picture that is dark enough.
fn network(shift: f32) -> Vec<u8> {
    let graph = GraphProto {
        name: Some("root".into()),
        node: vec![
            node("ReduceMean", &["image"], &["mean"]),
            node("Add", &["mean", "shift"], &["shifted"]),
            node("Sqrt", &["shifted"], &["root"]),
            node("Reshape", &["root", "shape"], &["probability"]),
        ],
        initializer: vec![float_tensor("shift", &[], &[shift]), integer_tensor("shape", &[2], &[1, 1])],
        input: vec![float_value("image", &[1, 3, 32, 32])],
        output: vec![float_value("probability", &[1, 1])],
        ..Default::default()
    };
    encode(&model(graph))
}

/// The mean of all values, which the fake TensorRT gives for every network; `faults` are words of fake_tensorrt.cpp.
pub fn mean(faults: &str) -> Vec<u8> {
    let graph = GraphProto {
        name: Some("mean".into()),
        node: vec![node("ReduceMean", &["image"], &["mean"]), node("Reshape", &["mean", "shape"], &["probability"])],
        initializer: vec![integer_tensor("shape", &[2], &[1, 1])],
        input: vec![float_value("image", &[1, 3, 32, 32])],
        output: vec![float_value("probability", &[1, 1])],
        ..Default::default()
    };
    let mut made = model(graph);
    made.doc_string = Some(format!("fake: image 1 3 32 32 -> probability 1 1 {faults};"));
    encode(&made)
}

/// A red picture with a fine pattern, brighter or darker.
fn tissue(side: u32, brightness: f32) -> Vec<u8> {
    let picture = RgbImage::from_fn(side, side, |x, y| {
        let pattern = if (x / 2 + y / 2) % 2 == 0 { 1.0 } else { 0.8 };
        Rgb([180.0, 70.0, 70.0].map(|channel: f32| (channel * pattern * brightness) as u8))
    });
    let mut bytes = Vec::new();
    picture.write_to(&mut std::io::Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
    bytes
}

/// A map for a locator, which is there for a black picture and an error for any other.
fn failing_locator() -> Vec<u8> {
    let whole =
        anemia_onnx::proto::NodeProto { attribute: vec![integer("to", 7)], ..node("Cast", &["mean"], &["whole"]) };
    let graph = GraphProto {
        name: Some("failing".into()),
        node: vec![
            node("ReduceSum", &["image"], &["mean"]),
            whole,
            node("Reshape", &["whole", "shape"], &["index"]),
            node("Gather", &["maps", "index"], &["mask"]),
        ],
        initializer: vec![float_tensor("maps", &[1, 1, 8, 8], &[-9.0; 64]), integer_tensor("shape", &[1], &[1])],
        input: vec![float_value("image", &[1, 3, 32, 32])],
        output: vec![float_value("mask", &[1, 1, 8, 8])],
        ..Default::default()
    };
    encode(&model(graph))
}

/// A bundle around a network whose self-test is the bright tissue and expects `expected`.
pub fn write(folder: &Path, network: &[u8], expected: f32) {
    let picture = tissue(32, 1.0);
    let selftest = SelfTest { path: "bright.png".into(), sha256: Sha256::of(&picture), expected, tolerance: 0.02 };
    let manifest = Manifest { selftest: vec![selftest], ..manifest(network) };
    write_bundle(folder, &manifest, &[("fp32.onnx", network), ("bright.png", &picture)]).unwrap();
}

fn manifest(network: &[u8]) -> Manifest {
    Manifest {
        format: 1,
        name: "root".into(),
        version: "0".into(),
        task: Task::Classify,
        input: Input {
            name: "image".into(),
            width: 32,
            height: 32,
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
            operating_point: Some(OperatingPoint { threshold: 0.5, indeterminate: [0.4, 0.6], temperature: 1.0 }),
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
    }
}

/// What the bright tissue gives with a shift of −0.2: its mean is 0.377.
const BRIGHT: f32 = 0.42;

#[test]
fn a_network_that_gives_nan_for_a_picture_gives_an_error_for_it_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle");
    write(&bundle, &network(-0.2), BRIGHT);
    for (name, brightness) in [("a-bright", 1.0), ("b-dark", 0.5), ("c-bright", 1.0)] {
        fs::write(folder.path().join(name).with_extension("png"), tissue(64, brightness)).unwrap();
    }
    let mut command = anemiad();
    command
        .args(["analyze", "--json", "--no-gate", "--roi", "0,0,64,64", "--bundle"])
        .arg(&bundle)
        .arg(folder.path().join("a-bright.png"));
    let output =
        command.arg(folder.path().join("b-dark.png")).arg(folder.path().join("c-bright.png")).output().unwrap();
    let (stdout, stderr, code) = texts(&output);
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
    let lines: Vec<serde_json::Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["probability"].is_f64() && lines[2]["probability"].is_f64(), "{stdout}");
    assert!(lines[1]["error"].as_str().unwrap().contains("not a number to judge by"), "{stdout}");
}

#[test]
fn a_network_that_gives_nan_in_an_exam_ends_in_retake() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().unwrap());
    write(&folder.path().join("bundle"), &network(-0.2), BRIGHT);
    // Fully opaque pictures: the whole picture is tissue.
    let dark = image::load_from_memory(&tissue(64, 0.5)).unwrap().into_rgba8();
    dark.save(folder.path().join("dark.png")).unwrap();
    let camera = format!(
        "replay: {{pictures: [{}], pace: {{rate_hz: 20, show_s: 4, gap_s: 0}}}}",
        folder.path().join("dark.png").display()
    );
    let exam = "{frames: 2, steady_frames: 2, timeout_s: 1, absent_s: 0.2}";
    let more = "roi: alpha\nquality: {min_exposure: 0.05}";
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera: &camera, exam, more });
    kiosk.set_model(&format!("  bundle: {}\n", folder.path().join("bundle").display()));
    let subscriber = Subscriber::new(broker.port);
    kiosk.start();
    let state = subscriber.state("a failing engine", |state| state["engine"]["status"] == "failing");
    assert!(state["engine"]["detail"].as_str().unwrap().contains("not a number"), "{state}");
    let result = subscriber.result();
    assert_eq!((result["verdict"].as_str(), result["reason"].as_str()), (Some("retake"), Some("engine_failed")));
    assert!(result["probability"].is_null());
}

#[test]
fn a_network_that_fails_its_self_test_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("nan"), &network(-0.9), BRIGHT);
    write(&folder.path().join("other"), &network(0.4), BRIGHT);
    for (bundle, words) in [("nan", "not a number to judge by"), ("other", "self-test failed on bright.png")] {
        let output =
            anemiad().args(["analyze", "--bundle"]).arg(folder.path().join(bundle)).arg("x.png").output().unwrap();
        let (_, stderr, code) = texts(&output);
        assert_eq!(code, Some(1));
        assert!(stderr.contains(words) && stderr.lines().count() == 1, "{stderr}");
    }
}

#[test]
fn the_daemon_refuses_a_damaged_bundle_with_78_and_one_line() {
    let kiosk = Kiosk::phantoms(free_port());
    let copy = kiosk.folder.path().join("pallor");
    let shipped = Bundle::open(&project().join("models/pallor")).unwrap();
    for (path, _) in shipped.manifest().all_files() {
        fs::create_dir_all(copy.join(path).parent().unwrap()).unwrap();
        fs::copy(shipped.path_of(path), copy.join(path)).unwrap();
    }
    fs::copy(shipped.path_of(MANIFEST), copy.join(MANIFEST)).unwrap();
    kiosk.set_model("  bundle: pallor\n");

    let refused_by = |commands: &[&str], words: &str| {
        for command in commands {
            let output = anemiad().args([command, "--config"]).arg(kiosk.config()).output().unwrap();
            let (_, stderr, code) = texts(&output);
            assert_eq!(code, Some(78), "{command}: {stderr}");
            assert!(stderr.contains(words) && stderr.lines().count() == 1, "{command}: {stderr}");
        }
    };
    let refused = |words: &str| refused_by(&["run", "check"], words);
    let network = copy.join("fp32.onnx");
    let whole = fs::read(&network).unwrap();
    fs::write(&network, b"another network").unwrap();
    refused("fp32.onnx is not the file that the manifest names");
    fs::write(&network, whole).unwrap();
    // Nothing that runs: the daemon does not look into it.
    let card = copy.join("card.md");
    let whole = fs::read(&card).unwrap();
    fs::write(&card, b"another card").unwrap();
    refused_by(&["check"], "card.md is not the file that the manifest names");
    fs::remove_file(&card).unwrap();
    refused("card.md is missing from the bundle");
    fs::write(&card, whole).unwrap();
    fs::remove_file(copy.join(MANIFEST)).unwrap();
    refused("no model bundle here");
}

#[test]
fn a_locator_that_is_not_there_or_is_none_is_refused_with_78() {
    let classifier = project().join("models/pallor");
    for (bundle, words) in
        [("nowhere".to_owned(), "no model bundle here"), (classifier.display().to_string(), "is made to Classify")]
    {
        let more = format!("locator: {{bundle: {bundle}}}");
        let kiosk = Kiosk::new(&Settings { port: free_port(), camera: PHANTOMS, exam: QUICK, more: &more });
        for command in ["run", "check"] {
            let output = anemiad().args([command, "--config"]).arg(kiosk.config()).output().unwrap();
            let (_, stderr, code) = texts(&output);
            assert_eq!(code, Some(78), "{command}: {stderr}");
            assert!(stderr.contains(words) && stderr.lines().count() == 1, "{command}: {stderr}");
        }
    }
}

#[test]
fn a_locator_that_fails_in_use_leaves_the_exam_to_its_fallback() {
    let (broker, network) = (Broker::start(), failing_locator());
    let more = "locator: {bundle: locator, fallback: colour}";
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera: PHANTOMS, exam: QUICK, more });
    let mut manifest = Manifest { task: Task::Locate, ..manifest(&network) };
    manifest.output = Output { name: "mask".into(), kind: OutputKind::Logit };
    manifest.models[0].operating_point = None;
    write_bundle(&kiosk.folder.path().join("locator"), &manifest, &[("fp32.onnx", &network)]).unwrap();
    let subscriber = Subscriber::new(broker.port);
    kiosk.start();
    let state = subscriber.state("the fallback", |state| state["engine"]["status"] == "fallback");
    assert!(state["engine"]["detail"].as_str().unwrap().contains("inference failed"), "{state}");
    assert!(subscriber.result()["probability"].is_f64(), "exams go on");
    // Without one, they end as retake.
    let text = fs::read_to_string(kiosk.config()).unwrap().replace(", fallback: colour", "");
    fs::write(kiosk.config(), text).unwrap();
    kiosk.signal("HUP");
    subscriber.state("no fallback", |state| state["engine"]["status"] == "failing");
}
