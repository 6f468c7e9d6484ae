//! Cameras of GStreamer, really opened; and what is said where there is no camera. (V4L2 cameras need a kernel with its test
//! driver: tests/hil has them.)
// A test whose stage cannot be set may panic.
#![allow(clippy::unwrap_used)]

#[path = "common.rs"]
mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anemia_vision::Frame;
use anemiad::capture::{self, Camera, Grab};
use anemiad::config;
use anemiad::stop::Stop;

fn open(pipeline: &str) -> Result<Box<dyn Camera>, String> {
    let gstreamer = config::GstreamerCamera::of(pipeline);
    let camera = config::Camera { gstreamer: Some(gstreamer), ..config::Camera::default() };
    capture::open(&camera).map_err(|error| error.to_string())
}

fn grab(camera: &mut dyn Camera, frame: &mut Frame) -> Result<Grab, String> {
    camera.grab(frame, &Stop::new()).map_err(|error| error.to_string())
}

/// A live source of one colour, 0xAARRGGBB, in a format.
fn source(format: &str, more: &str, colour: u32) -> String {
    format!(
        "videotestsrc is-live=true pattern=solid-color foreground-color={colour} ! \
         video/x-raw,format={format},width=322,height=180,framerate=30/1{more}"
    )
}

#[test]
fn every_format_of_the_sink_shows_the_right_colour() {
    let colour = 0xFFC8_6478_u32;
    for (format, more) in [
        ("RGB", ""),
        ("BGR", ""),
        ("BGRx", ""),
        ("NV12", ",colorimetry=bt601"),
        ("NV12", ",colorimetry=bt709"),
        ("YUY2", ",colorimetry=bt601"),
        ("YUY2", ",colorimetry=bt709"),
        ("GRAY8", ""),
    ] {
        let mut frame = Frame::default();
        let mut camera = open(&source(format, more, colour)).unwrap();
        let grab = grab(camera.as_mut(), &mut frame).unwrap();
        let Grab::Frame { at, .. } = grab else { panic!("{format}: {grab:?}") };
        assert!(at.elapsed() < Duration::from_millis(500), "a live frame has its own time");
        assert_eq!((frame.width(), frame.height()), (322, 180));
        for (x, y) in [(0, 0), (321, 179), (160, 90)] {
            let found = frame.pixel(x, y);
            if format == "GRAY8" {
                assert_eq!([found[0]; 3], found);
                continue;
            }
            for (found, expected) in found.iter().zip([0xC8, 0x64, 0x78]) {
                assert!(found.abs_diff(expected) <= 4, "{format}{more} at {x},{y}: {:?}", frame.pixel(x, y));
            }
        }
    }
}

#[test]
fn frames_that_nobody_fetched_are_missed_and_counted() {
    let mut frame = Frame::default();
    let mut camera = open(&source("RGB", "", 0)).unwrap();
    grab(camera.as_mut(), &mut frame).unwrap();
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    let Grab::Frame { at, missed } = grab(camera.as_mut(), &mut frame).unwrap() else { panic!("a frame") };
    // 30 a second: about 15 came, and the newest is no older than two of them.
    let most = (start.elapsed().as_secs_f32() * 30.0) as u32 + 2;
    assert!((5..=most).contains(&missed), "{missed} missed");
    assert!(at.elapsed() < Duration::from_millis(200), "the frame is {:?} old", at.elapsed());
}

#[test]
fn a_film_is_played_in_its_own_time_and_ends() {
    let start = Instant::now();
    let mut camera = open("videotestsrc num-buffers=20 ! video/x-raw,width=64,height=48,framerate=20/1").unwrap();
    let (mut frame, mut frames) = (Frame::default(), 0);
    loop {
        match grab(camera.as_mut(), &mut frame).unwrap() {
            Grab::Frame { missed, .. } => frames += 1 + missed,
            Grab::Ended => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(frames, 20);
    assert!(start.elapsed() > Duration::from_millis(800), "a second of film took {:?}", start.elapsed());
}

#[test]
fn what_is_wrong_with_a_pipeline_is_said() {
    let error = |pipeline: &str| match open(pipeline) {
        Ok(mut camera) => grab(camera.as_mut(), &mut Frame::default()).unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error("nosuchsrc ! videoconvert"), "GStreamer: camera.gstreamer.pipeline: no element \"nosuchsrc\"");
    let missing = error("v4l2src device=/dev/video99 ! videoconvert");
    assert!(missing.contains("/dev/video99") && missing.contains("No such file or directory"), "{missing}");
    // NVMM memory and the like, which only other elements can read.
    let strange = error("videotestsrc is-live=true ! video/x-raw,format=v210,width=64,height=48");
    assert!(strange.contains("not-negotiated") || strange.contains("could not link"), "{strange}");
}

/// What comes after the last frame.
fn end_of(camera: &mut dyn Camera) -> Result<Grab, String> {
    let mut frame = Frame::default();
    loop {
        match grab(camera, &mut frame) {
            Ok(Grab::Frame { .. }) => {}
            other => return other,
        }
    }
}

#[test]
fn a_live_stream_that_ends_or_falls_silent_is_lost() {
    let mut frame = Frame::default();
    let mut camera = open("videotestsrc is-live=true num-buffers=3 ! video/x-raw,framerate=30/1").unwrap();
    assert_eq!(end_of(camera.as_mut()).unwrap_err(), "GStreamer: the stream ended");
    // A camera on the network, whose source does not say that it is live.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut client, _) = server.accept().unwrap();
        std::io::Write::write_all(&mut client, &[100; 64 * 48 * 3 * 5]).unwrap();
    });
    let raw = "rawvideoparse format=rgb width=64 height=48 framerate=30/1";
    let mut camera = open(&format!("tcpclientsrc host=127.0.0.1 port={port} ! {raw}")).unwrap();
    assert_eq!(end_of(camera.as_mut()).unwrap_err(), "GStreamer: the stream ended");
    // The same from a disk is a film.
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join("film");
    fs::write(&film, [100; 64 * 48 * 3 * 5]).unwrap();
    let mut camera = open(&format!("filesrc location={} ! {raw}", film.display())).unwrap();
    assert_eq!(end_of(camera.as_mut()).unwrap(), Grab::Ended);
    // A valve that lets nothing through.
    let mut camera =
        open("videotestsrc is-live=true ! video/x-raw,framerate=30/1 ! valve name=valve drop=true").unwrap();
    assert_eq!(grab(camera.as_mut(), &mut frame).unwrap_err(), "GStreamer: no frame for 10 s");
}

#[test]
fn a_pipeline_opens_again_and_again_without_leaving_anything() {
    let open_files = || fs::read_dir("/proc/self/fd").unwrap().count();
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let cycle = || {
        let mut camera = open(&source("NV12", "", 0)).unwrap();
        let seen = grab(camera.as_mut(), &mut Frame::default()).unwrap();
        assert!(matches!(seen, Grab::Frame { .. }));
    };
    cycle();
    // Other tests of this program run beside this one, with a few of each.
    let before = (open_files(), threads());
    (0..50).for_each(|_| cycle());
    let after = (open_files(), threads());
    assert!(after.0 < before.0 + 40 && after.1 < before.1 + 40, "files and threads: {before:?}, then {after:?}");
}

#[test]
fn a_stop_is_not_kept_waiting_by_a_camera_that_gives_nothing() {
    let mut camera = open("videotestsrc is-live=true ! video/x-raw,framerate=30/1 ! valve drop=true").unwrap();
    let stop = Stop::new();
    let start = Instant::now();
    let grab = std::thread::scope(|threads| {
        let grab = threads.spawn(|| camera.grab(&mut Frame::default(), &stop));
        std::thread::sleep(Duration::from_millis(100));
        stop.request();
        grab.join().unwrap()
    });
    assert_eq!(grab.unwrap(), Grab::Ended);
    drop(camera);
    assert!(start.elapsed() < Duration::from_secs(2), "it took {:?}", start.elapsed());
}

fn run(arguments: &[&str], folder: &Path) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anemiad"));
    common::with_library(&mut command);
    command.env("ANEMIAD_MODELS", common::project().join("models")).current_dir(folder);
    common::texts(&command.arg("camera").args(arguments).output().unwrap())
}

#[test]
fn a_picture_of_a_camera_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = source("YUY2", "", 0xFFC8_6478);
    let (out, error, code) = run(&["grab", "--pipeline", &pipeline, "--out", "eye.png"], folder.path());
    assert_eq!(code, Some(0), "{error}");
    let mut lines = out.lines();
    assert_eq!(lines.next().unwrap(), format!("GStreamer: {pipeline}"));
    let line = lines.next().unwrap();
    assert!(line.starts_with("322×180, ") && line.ends_with(" damaged; eye.png"), "{line}");
    let picture = image::open(folder.path().join("eye.png")).unwrap().into_rgb8();
    assert!(picture.get_pixel(100, 100).0[0].abs_diff(0xC8) <= 4);
}

#[test]
fn a_device_that_is_not_there_or_no_camera_is_named_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let (_, error, code) = run(&["show", "--device", "/dev/video77"], folder.path());
    assert_eq!(code, Some(1));
    assert!(error.contains("/dev/video77: cannot open the camera: No such file") && error.contains("camera list"));
    let file = folder.path().join("video");
    fs::write(&file, "").unwrap();
    let (_, error, _) = run(&["grab", "--device", file.to_str().unwrap()], folder.path());
    assert!(error.contains("Inappropriate ioctl for device"), "{error}");
    let (_, error, _) = run(&["show", "--device", "/dev/null*"], folder.path());
    assert!(error.contains("/dev/null*: no camera: /dev/null: Inappropriate ioctl"), "{error}");
}
