//! `anemiad analyze`.

use std::fs;

use anemia_bundle::{Bundle, Precision};
use anemia_engine::EngineOptions;
use serde_json::Value;

use crate::support::{anemiad, data, phantom, project, texts};

fn lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn cp_anemic_gives_710_lines_and_the_probabilities_of_another_program() {
    let Some(folder) = data("cp-anemic") else { return };
    let analyze = |more: &[&str]| {
        let output = anemiad().args(["analyze", "--roi", "alpha", "--json"]).args(more).arg(&folder).output().unwrap();
        let (stdout, stderr, code) = texts(&output);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        lines(&stdout)
    };
    // Crops from telephones: many are as smooth as a picture that is out of focus.
    let rejected = analyze(&[]).iter().filter(|line| line["verdict"] == "retake").count();
    assert!((100..230).contains(&rejected), "the gate rejects {rejected} of 710 cut-outs");
    let lines = analyze(&["--no-gate"]);
    assert_eq!(lines.len(), 710);

    let peer = fs::read_to_string(project().join("tests/fixtures/cp-anemic-peer.csv")).unwrap();
    let mut compared = 0;
    for row in peer.lines().skip(1) {
        let (path, expected) = row.split_once(',').unwrap();
        let expected: f64 = expected.parse().unwrap();
        let line = lines.iter().find(|line| line["image"].as_str().unwrap().ends_with(path)).unwrap();
        let found = line["probability"].as_f64().unwrap();
        // The other program leaves reflections as they are.
        if line["quality"]["glare"] != 0.0 {
            continue;
        }
        compared += 1;
        assert!((found - expected).abs() < 0.002, "{path}: {found}, and the other program says {expected}");
    }
    assert!(compared >= 5, "{compared} pictures without reflections");
    let first = &lines[0];
    for key in ["image", "verdict", "probability", "roi", "quality", "model", "timing_ms"] {
        assert!(first.get(key).is_some(), "{key} is missing in {first}");
    }
    assert!(first["roi"]["area_fraction"].as_f64().unwrap() > 0.05);
    assert_eq!(first["model"]["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn whole_eyes_are_located_and_judged() {
    let Some(folder) = data("eyes-defy-india") else { return };
    let output = anemiad().args(["analyze", "--json"]).arg(folder.join("images")).output().unwrap();
    let (stdout, _, code) = texts(&output);
    assert_eq!(code, Some(0));
    let lines = lines(&stdout);
    assert_eq!(lines.len(), 60);
    assert!(lines.iter().all(|line| !line["roi"].is_null()), "every eye has a ROI");
}

#[test]
fn bad_pictures_get_a_line_each_and_the_good_ones_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    phantom(&folder.path().join("a-good.png"), 5);
    let good = fs::read(folder.path().join("a-good.png")).unwrap();
    write("b-cut.png", &good[..good.len() / 3]);
    write("c-empty.jpg", b"");
    write("d-text.png", b"no picture");
    write("e-cmyk.jpg", &fs::read(project().join("crates/vision/tests/fixtures/cmyk.jpg")).unwrap());
    let mut grey = Vec::new();
    image::DynamicImage::new_luma8(9, 9)
        .write_to(&mut std::io::Cursor::new(&mut grey), image::ImageFormat::Png)
        .unwrap();
    write("f-grey.png", &grey);
    let mut dot = Vec::new();
    image::DynamicImage::new_rgb8(1, 1).write_to(&mut std::io::Cursor::new(&mut dot), image::ImageFormat::Png).unwrap();
    write("g-dot.png", &dot);
    phantom(&folder.path().join("h-good.png"), 5);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("i-loop")).unwrap();

    let output = anemiad().args(["analyze", "--json"]).arg(folder.path()).output().unwrap();
    let (stdout, stderr, code) = texts(&output);
    assert_eq!((code, stderr.as_str()), (Some(1), ""), "unreadable pictures make the exit code 1");
    let lines = lines(&stdout);
    let error = |index: usize| lines[index]["error"].as_str().unwrap_or_else(|| panic!("{}", lines[index]));
    assert_eq!(lines.len(), 9);
    assert!(lines[0]["probability"].is_f64(), "{}", lines[0]);
    assert!(error(1).contains("damaged or cut short"));
    assert!(error(2).contains("empty"));
    assert!(error(3).contains("not a PNG or JPEG"));
    assert!(error(4).contains("CMYK"));
    assert!(error(5).contains("grey"));
    assert_eq!((lines[6]["verdict"].as_str(), lines[6]["reason"].as_str()), (Some("retake"), Some("no_conjunctiva")));
    assert_eq!(lines[7]["probability"], lines[0]["probability"], "the same picture gives the same number");
    assert!(error(8).contains("symbolic link leads back"));
}

#[test]
fn a_black_picture_is_too_dark_even_where_the_gate_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("black.png");
    image::RgbaImage::from_pixel(200, 100, image::Rgba([2, 2, 2, 255])).save(&picture).unwrap();
    let output = anemiad().args(["analyze", "--json", "--no-gate", "--roi", "alpha"]).arg(&picture).output().unwrap();
    let (stdout, stderr, code) = texts(&output);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let line = &lines(&stdout)[0];
    assert_eq!((line["verdict"].as_str(), line["reason"].as_str()), (Some("retake"), Some("too_dark")), "{line}");
}

#[test]
fn folders_without_pictures_and_missing_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = anemiad().arg("analyze").arg(folder.path()).arg("/does/not/exist.png").output().unwrap();
    let (stdout, _, code) = texts(&output);
    assert_eq!(code, Some(1));
    assert!(stdout.contains("the folder holds no .png, .jpg or .jpeg file"), "{stdout}");
    assert!(stdout.contains("/does/not/exist.png: No such file"), "{stdout}");
}

#[test]
fn masks_cut_outs_and_overlays_are_saved_beside_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("eye.png");
    phantom(&picture, 5);
    let original = fs::read(&picture).unwrap();
    let mut command = anemiad();
    command.arg("analyze").arg(&picture).arg(&picture);
    for option in ["--save-mask", "--save-cutout", "--save-overlay"] {
        command.arg(option).arg(folder.path());
    }
    let (stdout, stderr, code) = texts(&command.output().unwrap());
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let size = |name: &str| image::image_dimensions(folder.path().join(name)).unwrap();
    assert_eq!(size("eye.png-mask.png"), (640, 360));
    assert_eq!(size("eye.png-overlay.png"), (640, 360));
    assert_eq!(size("contact-sheet-1.png"), (640, 266), "two pictures beside each other");
    assert_eq!(size("eye.png-cutout.png"), (128, 128));
    assert_eq!(size("eye.png-2-cutout.png"), (128, 128), "the second picture does not overwrite the first");
    assert_eq!(fs::read(&picture).unwrap(), original, "the picture itself is never written to");

    // The saved cut-out is exactly what the network saw: given to it as it is, it makes the same number.
    let output = anemiad().args(["analyze", "--json", "--no-gate"]).arg(&picture).output().unwrap();
    let said = lines(&texts(&output).0)[0]["probability"].as_f64().unwrap();
    let bundle = Bundle::open(&project().join("models/pallor")).unwrap();
    let mut engine = anemia_engine::load(&bundle, Precision::Fp32, &EngineOptions::default()).unwrap();
    let cutout = image::open(folder.path().join("eye.png-cutout.png")).unwrap().to_rgb8();
    bundle.manifest().input.spec().write(&cutout, engine.input());
    let logit = engine.run().unwrap()[0];
    let point = bundle.model(Precision::Fp32).unwrap().operating_point.unwrap();
    assert_eq!(said as f32, anemiad::pipeline::probability(logit / point.temperature));
}

#[test]
fn a_table_is_for_people_and_a_closed_pipe_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    phantom(&folder.path().join("eye.png"), 5);
    let (stdout, _, _) = texts(&anemiad().arg("analyze").arg(folder.path()).output().unwrap());
    let rows: Vec<_> = stdout.lines().collect();
    assert_eq!(rows.len(), 2);
    assert!(rows[0].starts_with("verdict") && rows[1].ends_with("eye.png"), "{stdout}");

    use std::process::Stdio;
    let mut child = anemiad().arg("analyze").arg(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn nothing_is_collected_about_this_machine() {
    let home = tempfile::tempdir().unwrap();
    let picture = home.path().join("eye.png");
    phantom(&picture, 5);
    // ONNX Runtime would keep a number and a data base of events there, for its maker.
    let output = anemiad()
        .env("HOME", home.path())
        .env_remove("XDG_CACHE_HOME")
        .env_remove("ORT_DISABLE_TELEMETRY")
        .arg("analyze")
        .arg(&picture)
        .output()
        .unwrap();
    assert!(output.status.success());
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["eye.png"]);
}
