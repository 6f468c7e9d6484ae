//! The configuration file: every mistake is named, and nothing that stands in it makes the program panic.

use std::fs;

use anemiad::config::{self, Problem};
use proptest::prelude::*;

use crate::support::{anemiad, texts};

const GOOD: &str = "device_id: kiosk-1
camera:
  phantom: {}
model:
  bundle: models/pallor
mqtt:
  host: localhost
";

fn problems(text: &str) -> Vec<Problem> {
    config::parse(text).expect_err("this configuration has mistakes")
}

/// The one problem of `GOOD` with `from` replaced by `to`.
fn problem(from: &str, to: &str) -> Problem {
    assert!(GOOD.contains(from));
    let mut found = problems(&GOOD.replace(from, to));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn a_minimal_file_is_enough() {
    let config = config::parse(GOOD).unwrap();
    assert_eq!((config.exam.frames, config.mqtt.port, config.roi), (5, 1883, config::Roi::Auto));
}

#[test]
fn a_mistake_has_line_column_key_and_what_was_expected() {
    let found = problem("host: localhost", "host: localhost\n  port: 70000");
    assert_eq!(found.to_string(), "line 8 column 3: mqtt.port: found 70000; expected an integer from 1 to 65535");
    let found = problem("host: localhost", "host: localhost\n  prot: 1884");
    assert_eq!(found.to_string(), "line 8 column 3: mqtt.prot: unknown key; did you mean port?");
    let found = problem("phantom: {}", "phantom: {pace: {rate_hz: fast}}");
    assert_eq!(
        found.to_string(),
        "line 3 column 20: camera.phantom.pace.rate_hz: found \"fast\"; expected a number from 0.1 to 120"
    );
    let found = problem("bundle: models/pallor", "precision: int8");
    assert_eq!(found.to_string(), "line 4 column 1: model: the key bundle is missing; expected text");
    let found = problem("device_id: kiosk-1", "device_id: kiosk/1");
    assert!(found.to_string().contains("expected 1 to 64 letters, digits, _ or -"), "{found}");
    let found = problem("  phantom: {}", "  phantom: {}\n  replay: {pictures: [a]}");
    assert!(found.to_string().contains("expected exactly one of the keys v4l, gstreamer, replay, phantom"), "{found}");
    let found = problem("device_id: kiosk-1", "device_id: kiosk-1\nroi: 1,2,3,4");
    assert!(found.to_string().contains("expected auto, colour or alpha"), "{found}");
    let found = problem("device_id: kiosk-1", "device_id: kiosk-1\nquality: {min_exposure: 0.9, max_exposure: 0.2}");
    assert_eq!(found.to_string(), "line 2 column 11: quality.min_exposure: 0.9 is not below max_exposure (0.2)");
}

/// Keys that are right one by one, and not together.
#[test]
fn keys_that_contradict_each_other_are_mistakes() {
    for (more, key) in [
        ("kiosk: {listen: '0.0.0.0:8480'}", "kiosk.listen"),
        ("kiosk: {listen: '[::]:8480', token_file: token}", "kiosk.listen"),
        ("kiosk: {listen: '192.168.1.7:8480', tls: {certificate: a, key: b}}", "kiosk.listen"),
        ("metrics: {listen: '0.0.0.0:9480'}", "metrics.listen"),
        ("health: {stale_frame_s: 1}\ncamera: {phantom: {pace: {rate_hz: 1}}}", "health.stale_frame_s"),
        ("quality: {min_red: 3, max_red: 2}", "quality.min_red"),
        ("quality: {min_blue: 2, max_blue: 2}", "quality.min_blue"),
        ("mqtt: {host: broker, password_file: secret}", "mqtt.password_file"),
        ("mqtt: {host: broker, tls: {ca: ca, certificate: mine}}", "mqtt.tls"),
        ("mqtt: {host: 'fe80::1', tls: {ca: ca}}", "mqtt.host"),
    ] {
        let kept: Vec<_> =
            ["device_id: kiosk-1", "camera: {phantom: {}}", "model: {bundle: x}", "mqtt: {host: broker}"]
                .into_iter()
                .filter(|line| !more.lines().any(|own| own.split(':').next() == line.split(':').next()))
                .collect();
        let found = problems(&format!("{}\n{more}\n", kept.join("\n")));
        let keys: Vec<_> = found.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, [key], "{more}: {found:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let found = problems("device_id: 7\ncamera: {}\nmodel: {bundle: x, threads: 0}\nmqtt: {host: ''}\nextra: 1\n");
    let keys: Vec<_> = found.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["device_id", "camera", "model.threads", "mqtt.host", "extra"]);
}

#[test]
fn text_that_is_no_yaml_has_a_position_too() {
    let found = problems("device_id: [1\nb");
    assert!(found[0].position.is_some() && !found[0].text.contains('\n'), "{found:?}");
    let twice = problems("a: 1\nb:\n  - {c: 1}\n  - c: 2\n    d: x\n    d: y\n");
    assert!(twice[0].text.contains("duplicate"), "{twice:?}");
    assert_eq!(twice[0].position, Some((6, 5)), "of the second one");
    assert_eq!(problems("a: 1\nb: {c: null, d: 1.5, e: -1, f: true}\na: 2\n")[0].position, Some((3, 1)));
    assert!(problems("")[0].text.contains("found nothing"));
}

#[test]
fn the_commands_exit_with_78_and_a_line_for_each_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    fs::write(&file, GOOD.replace("phantom", "fantom").replace("localhost", "''")).unwrap();
    for command in ["run", "check"] {
        let (_, stderr, code) = texts(&anemiad().args([command, "--config"]).arg(&file).output().unwrap());
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.lines().count() >= 2, "{stderr}");
        assert!(
            stderr.lines().all(|line| line.starts_with("anemiad: ") && line.contains("bad.yaml: line ")),
            "{stderr}"
        );
        assert!(stderr.contains("did you mean phantom?"), "{stderr}");
    }
    let (_, stderr, code) = texts(&anemiad().args(["check", "--config", "/does/not/exist"]).output().unwrap());
    assert_eq!(code, Some(78));
    assert!(stderr.contains("/does/not/exist: cannot be read"), "{stderr}");
    let (_, _, code) = texts(&anemiad().args(["run", "--no-such-option"]).output().unwrap());
    assert_eq!(code, Some(2));
}

/// Else the models of the configuration would be checked in place of those in use, without a word.
#[test]
fn check_says_that_it_cannot_look_for_installed_models() {
    let folder = tempfile::tempdir().unwrap();
    // Root may look into every folder, so it is a file here.
    fs::write(folder.path().join("models"), "").unwrap();
    let file = folder.path().join("anemiad.yaml");
    fs::write(&file, format!("{GOOD}state_dir: {}\n", folder.path().display())).unwrap();
    let (_, stderr, code) = texts(&anemiad().arg("check").arg("--config").arg(&file).output().unwrap());
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains(&*folder.path().to_string_lossy()) && stderr.contains("or as root"), "{stderr}");
}

proptest! {
    /// Anything in place of a value, and any text at all: mistakes with positions, never a panic.
    #[test]
    fn any_text_is_survived(text in "\\PC{0,60}", line in 0usize..7, yaml in "[-a-z0-9:\\[\\]{}&*!|>'\"#%\\n ]{0,80}") {
        let mut lines: Vec<&str> = GOOD.lines().collect();
        let changed = format!("{}: {text}", lines[line].split(':').next().unwrap());
        lines[line] = &changed;
        for candidate in [lines.join("\n"), text.clone(), yaml] {
            if let Err(problems) = config::parse(&candidate) {
                prop_assert!(!problems.is_empty());
                prop_assert!(problems.iter().all(|problem| !problem.to_string().is_empty()));
            }
        }
    }
}
