//! The service: signals, systemd, what it needs, and what it says of its camera.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::mqtt::{Broker, Subscriber};
use crate::support::{Kiosk, PHANTOMS, QUICK, Settings, anemiad, eventually, free_port, texts};

#[test]
fn sigterm_finishes_the_exam_in_hand_within_5_seconds() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    // Ten frames a second and 15 frames: an exam takes 1.7 s.
    let camera = "phantom: {width: 640, height: 360, seed: 40, pace: {rate_hz: 10, show_s: 60, gap_s: 1}}";
    let exam = "{frames: 15, steady_frames: 2, timeout_s: 20, absent_s: 0.5}";
    // A slow machine must not leave out frames for which there is no time any more.
    let more = "health: {late_frame_ms: 1000}";
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera, exam, more });
    kiosk.start();
    subscriber.state("an exam in hand", |state| state["exam"]["phase"] == "collecting" && state["exam"]["good"] != 0);
    kiosk.signal("TERM");
    kiosk.systemd.wait_for("STOPPING=1");
    let result = subscriber.result();
    assert_eq!(result["frames"]["good"], 15, "the exam ended with all its frames");
    subscriber.availability("stopped");
    let (status, took) = kiosk.wait();
    assert!(status.success() && took < Duration::from_secs(5), "{status}, {took:?}");
}

#[test]
fn starts_that_fail_one_after_the_other_wait_and_a_good_one_ends_that() {
    let mut kiosk = Kiosk::phantoms(free_port());
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    kiosk.environment.push(("RUNTIME_DIRECTORY", folder.path().to_owned()));
    kiosk.start();
    assert!(!starts.exists(), "it is ready");
    let another = |config: &Path| {
        let mut command = anemiad();
        command.args(["run", "--config"]).arg(config).env("RUNTIME_DIRECTORY", folder.path());
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    // The outbox is taken.
    for failed in 0..6 {
        let start = Instant::now();
        let (_, error, code) = texts(&another(&kiosk.config()).wait_with_output().unwrap());
        assert_eq!(code, Some(1), "{error}");
        assert_eq!(error.contains("5 starts in a row failed; this one waits 1 s"), failed == 5, "{error}");
        assert!(failed < 5 || start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
    }
    // A mistake in the configuration is for a person to mend, who does not wait afterwards.
    let bad = folder.path().join("bad.yaml");
    fs::write(&bad, "device_id: kiosk-1\n").unwrap();
    assert_eq!(another(&bad).wait().unwrap().code(), Some(78));
    assert!(!starts.exists());
    // Nor does whoever stops it.
    fs::write(&starts, "50").unwrap();
    let mut waiting = another(&kiosk.config());
    eventually("the next start", || (fs::read_to_string(&starts).ok()? == "51").then_some(()));
    let start = Instant::now();
    assert!(Command::new("kill").arg(waiting.id().to_string()).status().unwrap().success());
    assert!(waiting.wait().unwrap().success() && start.elapsed() < Duration::from_secs(5));
    assert!(!starts.exists());
}

#[test]
fn an_exam_that_cannot_end_does_not_hold_up_a_stop() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let camera = "phantom: {width: 640, height: 360, seed: 40, pace: {rate_hz: 2, show_s: 600, gap_s: 1}}";
    let exam = "{frames: 31, steady_frames: 1, timeout_s: 600, absent_s: 0.5}";
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera, exam, more: "" });
    kiosk.start();
    subscriber.state("an exam in hand", |state| state["exam"]["phase"] == "collecting");
    kiosk.signal("INT");
    let (status, took) = kiosk.wait();
    assert!(status.success() && took < Duration::from_secs(5), "{status}, {took:?}");
    subscriber.availability("stopped");

    kiosk.start();
    subscriber.state("an exam in hand", |state| state["exam"]["phase"] == "collecting");
    kiosk.signal("TERM");
    kiosk.systemd.wait_for("STOPPING=1");
    kiosk.signal("TERM");
    assert_eq!(kiosk.wait().0.code(), Some(1), "a second signal does not wait");
    assert!(kiosk.log().contains("stopped at once by a second signal"), "{}", kiosk.log());
}

#[test]
fn sighup_applies_a_good_file_and_keeps_the_old_one_over_a_bad_one() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = Kiosk::phantoms(broker.port);
    kiosk.start();
    assert_eq!(subscriber.result()["frames"]["good"], 3);

    let good = fs::read_to_string(kiosk.config()).unwrap();
    fs::write(kiosk.config(), good.replace("frames: 3", "frames: 99")).unwrap();
    kiosk.signal("HUP");
    kiosk.systemd.wait_for("RELOADING=1");
    kiosk.systemd.wait_for("READY=1");
    let state = subscriber.state("the refusal", |state| state["config"]["status"] == "refused");
    let detail = state["config"]["detail"].as_str().unwrap();
    assert!(detail.contains("exam.frames: found 99; expected an integer from 1 to 31"), "{detail}");
    assert_eq!(subscriber.result()["frames"]["good"], 3, "the old configuration goes on");

    fs::write(kiosk.config(), good.replace("pallor", "nothing-here")).unwrap();
    kiosk.signal("HUP");
    subscriber.state("the refusal of the bundle", |state| {
        state["config"]["detail"].as_str().unwrap().contains("no model bundle here")
    });

    fs::write(kiosk.config(), good.replace("frames: 3", "frames: 4")).unwrap();
    kiosk.signal("HUP");
    let reloading = kiosk.systemd.wait_for("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "systemd wants both in one message: {reloading}");
    kiosk.systemd.wait_for("READY=1");
    subscriber.availability("online");
    let result = subscriber.wait_for("a result of four frames", |message| {
        message.topic.ends_with("/result") && message.json()["frames"]["good"] == 4
    });
    assert_eq!(result.json()["device_id"], "test-kiosk");
    assert!(kiosk.is_running());
}

#[test]
fn the_watchdog_is_fed_while_frames_are_analysed() {
    let mut kiosk = Kiosk::phantoms(free_port()).with_watchdog();
    kiosk.start();
    for _ in 0..3 {
        kiosk.systemd.wait_for("WATCHDOG=1");
    }
}

#[test]
fn the_watchdog_starves_when_frames_stop_and_not_when_the_camera_is_known_to_be_gone() {
    use anemiad::board::{Board, CameraStatus};
    let board = Board::new(anemiad::report::ModelIdentity::unknown(anemia_bundle::Precision::Fp32));
    board.camera(CameraStatus::Streaming, "");
    assert!(board.is_healthy(Duration::from_secs(60)), "it has just started");
    assert!(!board.is_healthy(Duration::ZERO), "the camera claims to stream, and nothing is analysed");
    board.camera(CameraStatus::Lost, "unplugged");
    assert!(board.is_healthy(Duration::ZERO), "a restart would not bring the camera back");
}

#[test]
fn a_camera_without_pictures_is_lost_and_comes_back() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let folder = tempfile::tempdir().unwrap();
    let camera = format!(
        "replay: {{pictures: [{}], looping: true, pace: {{rate_hz: 20, show_s: 1, gap_s: 0.4}}}}",
        folder.path().display()
    );
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera: &camera, exam: QUICK, more: "" });
    kiosk.start();
    let state = subscriber.state("a lost camera", |state| state["camera"]["status"] == "lost");
    assert!(state["camera"]["detail"].as_str().unwrap().contains("holds no .png"), "{state}");
    fs::write(folder.path().join("a.png"), b"not a picture").unwrap();
    subscriber.state("no picture", |state| {
        state["camera"]["detail"].as_str().unwrap().contains("none of the 1 pictures can be read; the first: ")
    });
    // It is opened again each second.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(kiosk.log().matches("a.png").count(), 1, "told once: {}", kiosk.log());
    crate::support::phantom(&folder.path().join("b.png"), 5);
    assert_eq!(subscriber.result()["frames"]["good"], 3, "the unreadable picture is passed over");
    assert!(kiosk.log().contains("a.png: not a PNG or JPEG picture"), "{}", kiosk.log());
    assert!(kiosk.is_running());
}

#[test]
fn no_exam_starts_at_a_replay_that_is_over() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let folder = tempfile::tempdir().unwrap();
    crate::support::phantom(&folder.path().join("a.png"), 5);
    let camera =
        format!("replay: {{pictures: [{}], pace: {{rate_hz: 20, show_s: 1, gap_s: 0.4}}}}", folder.path().display());
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera: &camera, exam: QUICK, more: "" });
    kiosk.start();
    subscriber.state("the end", |state| state["camera"]["status"] == "ended");
    let answer = subscriber.command("start", "late", "");
    assert_eq!((&answer["outcome"], &answer["detail"]), (&"refused".into(), &"the camera gives no pictures".into()));
}

#[test]
fn a_camera_of_gstreamer_leads_to_results() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let folder = tempfile::tempdir().unwrap();
    crate::support::phantom(&folder.path().join("eye.png"), 5);
    // A photograph that is shown for ever, as a camera shows it.
    let camera = format!(
        "gstreamer: {{pipeline: 'filesrc location={}/eye.png ! pngdec ! imagefreeze is-live=true ! videoconvert ! \
         video/x-raw,format=NV12,framerate=15/1'}}",
        folder.path().display()
    );
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera: &camera, exam: QUICK, more: "" });
    kiosk.start();
    let result = subscriber.result();
    assert_eq!(result["frames"]["good"], 3, "{result}");
    assert!(kiosk.log().contains("640×360 NV12, live"), "{}", kiosk.log());
    kiosk.signal("TERM");
    let (status, time) = kiosk.wait();
    assert!(status.success() && time < Duration::from_secs(5), "{status} after {time:?}");
    assert!(!kiosk.log().contains("did not end in time"), "{}", kiosk.log());
}

#[test]
fn frames_that_are_too_old_are_not_judged_and_that_is_told() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    // A queue that keeps every frame for 300 ms.
    let camera = "gstreamer: {pipeline: 'videotestsrc is-live=true ! video/x-raw,width=640,height=360,framerate=30/1 ! \
                  queue min-threshold-time=300000000 max-size-buffers=0 max-size-bytes=0'}";
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera, exam: QUICK, more: "" });
    kiosk.start();
    let state = subscriber.state("late frames", |state| state["camera"]["status"] == "late");
    assert_eq!(state["camera"]["detail"], "frames are too old to be judged when they come");
    std::thread::sleep(Duration::from_millis(500));
    kiosk.signal("TERM");
    assert!(kiosk.wait().0.success());
    let log = kiosk.log();
    let counted = |name: &str| -> u64 {
        let at = log.rfind(&format!(" {name}=")).unwrap_or_else(|| panic!("{name} is not in {log}"));
        let digits = log[at + name.len() + 2..].chars().take_while(char::is_ascii_digit);
        digits.collect::<String>().parse().unwrap()
    };
    assert_eq!(counted("analysed"), 0);
    assert!(counted("late") >= 10 && counted("captured") >= counted("late"), "{log}");
}

#[test]
fn two_daemons_do_not_share_a_state_folder() {
    let mut kiosk = Kiosk::phantoms(free_port());
    kiosk.start();
    let output = anemiad().args(["run", "--config"]).arg(kiosk.config()).output().unwrap();
    let (_, stderr, code) = texts(&output);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("another anemiad is using it"), "{stderr}");
}

#[test]
fn memory_stays_below_150_megabytes() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let camera = PHANTOMS.replace("640", "1280").replace("360", "720");
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera: &camera, exam: QUICK, more: "" });
    kiosk.start();
    for _ in 0..3 {
        subscriber.result();
    }
    let status = fs::read_to_string(format!("/proc/{}/status", kiosk.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").trim().parse().unwrap();
    println!("peak resident memory {kilobytes} kB");
    assert!(kilobytes < 150_000, "peak resident memory {kilobytes} kB");
}

#[test]
fn the_exam_state_is_followed() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = Kiosk::phantoms(broker.port);
    kiosk.start();
    for phase in ["collecting", "result", "idle"] {
        subscriber.state(phase, |state| state["exam"]["phase"] == phase);
    }
    eventually("a log without verdicts", || kiosk.log().contains("exam finished").then_some(()));
    assert!(!kiosk.log().contains("anemic"), "a verdict is not for the log: {}", kiosk.log());
}
