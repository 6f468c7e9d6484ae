//! From the start of the process to READY, and the resident memory while exams run: with ONNX Runtime, and with a cached plan on the
//! TensorRT that the tests have in the place of a GPU.
//!
//! `make bench-start`. There is no peer: the limits are those of systemd's patience and of a board's memory.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, dead_code, unused_imports)]

use std::fs;
use std::time::Instant;

#[path = "../system/bundles.rs"]
mod bundles;
#[path = "../../crates/tensorrt/tests/fake/mod.rs"]
mod fake;
#[path = "../system/mqtt.rs"]
mod mqtt;
#[path = "../system/support.rs"]
mod support;

use mqtt::{Broker, Subscriber};
use support::{Kiosk, QUICK, Settings};

/// Pictures of a usual camera.
const CAMERA: &str = "phantom: {width: 1280, height: 720, seed: 40, pace: {rate_hz: 30, show_s: 0.8, gap_s: 0.4}}";
const STARTS: usize = 20;

fn main() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let settings = |roi| Settings { port: broker.port, camera: CAMERA, exam: QUICK, more: roi };

    let libraries = tempfile::tempdir().unwrap();
    fake::build_cuda(libraries.path());
    let shim = libraries.path().join("shim.so");
    fake::build_shim(802, &shim, &[]);
    // The network of the locator is too much for the stand-in of TensorRT.
    let mut board = Kiosk::new(&settings("roi: colour"));
    bundles::write(&board.folder.path().join("bundle"), &bundles::mean(""), 0.377);
    let tensorrt = format!("{{library: {}, cache: plans}}", shim.display());
    board.set_model(&format!("  bundle: bundle\n  engine: tensorrt\n  tensorrt: {tensorrt}\n"));
    board.environment.push(("LD_LIBRARY_PATH", libraries.path().to_owned()));
    // The plan is built once.
    board.start();
    stop(&mut board);

    for (name, mut kiosk) in [("TensorRT's stand-in, cached plan", board), ("ONNX Runtime", Kiosk::new(&settings("")))]
    {
        let mut times: Vec<f64> = (0..STARTS)
            .map(|_| {
                let start = Instant::now();
                kiosk.start();
                let time = start.elapsed().as_secs_f64();
                stop(&mut kiosk);
                time
            })
            .collect();
        times.sort_by(f64::total_cmp);
        kiosk.start();
        for _ in 0..10 {
            subscriber.result();
        }
        let status = fs::read_to_string(format!("/proc/{}/status", kiosk.pid())).unwrap();
        let memory = |key: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1e3
        };
        println!(
            "{name}: READY after {:.3} s (median of {STARTS}; longest {:.3} s); resident after 10 exams {:.1} MB, at most {:.1} MB",
            times[STARTS / 2],
            times[STARTS - 1],
            memory("VmRSS:"),
            memory("VmHWM:")
        );
        stop(&mut kiosk);
    }
}

fn stop(kiosk: &mut Kiosk) {
    kiosk.signal("TERM");
    assert!(kiosk.wait().0.success());
}
