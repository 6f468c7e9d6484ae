//! The other commands, tried as a new user would.

use std::fs;

use anemia_vision::phantom::Phantom;
use anemia_vision::{Frame, read_picture};

use crate::support::{Kiosk, PHANTOMS, QUICK, Settings, anemiad, free_port, phantom, texts};

#[test]
fn the_demo_shows_exams_and_a_summary() {
    // Where a kiosk has the port of the page already, the log says so.
    let (stdout, stderr, code) = texts(&anemiad().args(["demo", "--exams", "2"]).output().unwrap());
    assert!(code == Some(0) && stderr.lines().all(|line| line.contains("kiosk.listen")), "{code:?} {stderr} {stdout}");
    assert!(stdout.contains("Screening aid, not a diagnosis."), "{stdout}");
    assert!(stdout.contains("2 exams in"), "{stdout}");
    let exams = stdout.lines().filter(|line| line.contains("/5") || line.contains("retake")).count();
    assert_eq!(exams, 2, "{stdout}");
}

#[test]
fn the_doctor_opens_the_library_and_asks_for_the_port_of_the_page() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("kiosk: {{listen: \"{}\"}}", taken.local_addr().unwrap());
    let mut kiosk = Kiosk::new(&Settings { port: free_port(), camera: PHANTOMS, exam: QUICK, more: &more });
    let doctor = |kiosk: &Kiosk, library: Option<&str>| {
        let mut command = anemiad();
        command.args(["doctor", "--config"]).arg(kiosk.config());
        texts(&command.envs(library.map(|path| ("ORT_DYLIB_PATH", path))).output().unwrap())
    };
    let (said, _, code) = doctor(&kiosk, None);
    assert!(code == Some(0) && said.contains("does not seem to be the daemon"), "{said}");
    let (said, _, code) = doctor(&kiosk, Some("/bin/true"));
    assert!(code == Some(1) && said.contains("not a usable ONNX Runtime"), "{said}");
    drop(taken);
    kiosk.start();
    let (said, _, code) = doctor(&kiosk, None);
    assert!(code == Some(0) && said.contains("ok    page               http://127.0.0.1:"), "{said}");
}

#[test]
fn phantoms_are_written_with_their_masks() {
    let folder = tempfile::tempdir().unwrap();
    let output = anemiad()
        .args(["phantom", "--count", "2", "--seed", "7", "--width", "320", "--height", "180", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    let mut expected = Frame::default();
    let roi = Phantom::from_seed(8).render(320, 180, &mut expected);
    let mut picture = Frame::default();
    read_picture(&folder.path().join("pictures/phantom-0008.png"), &mut picture).unwrap();
    assert_eq!(picture, expected);
    let mask = image::open(folder.path().join("masks/phantom-0008.png")).unwrap().into_luma8();
    assert_eq!(mask.as_raw(), &roi.to_mask(320, 180));
    let table = fs::read_to_string(folder.path().join("phantoms.csv")).unwrap();
    assert_eq!(table.lines().count(), 3);
}

#[test]
fn without_onnx_runtime_one_line_says_what_was_looked_for_and_how_to_install_it() {
    let folder = tempfile::tempdir().unwrap();
    phantom(&folder.path().join("eye.png"), 1);
    let nowhere = folder.path().join("libonnxruntime.so");
    let mut analyze = anemiad();
    analyze.env("ORT_DYLIB_PATH", &nowhere).arg("analyze").arg(folder.path());
    let kiosk = Kiosk::phantoms(free_port());
    let mut run = anemiad();
    run.env("ORT_DYLIB_PATH", &nowhere).args(["run", "--config"]).arg(kiosk.config());
    for (mut command, expected) in [(analyze, 1), (run, 78)] {
        let (_, stderr, code) = texts(&command.output().unwrap());
        assert_eq!(code, Some(expected));
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(&nowhere.display().to_string()) && stderr.contains("make deps"), "{stderr}");
    }
    // A file that is there and is no library.
    fs::write(&nowhere, b"no library").unwrap();
    let output = anemiad().env("ORT_DYLIB_PATH", &nowhere).arg("analyze").arg(folder.path()).output().unwrap();
    let (_, stderr, _) = texts(&output);
    assert!(stderr.contains("is not a usable ONNX Runtime") && stderr.lines().count() == 1, "{stderr}");
}
