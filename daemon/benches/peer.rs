//! `make bench-peer`: the daemon's work on a frame beside that of a Python service with OpenCV and ONNX Runtime
//! (`tests/bench/python`), in one run, on the same frames, with one thread each.
//!
//! Run as `peer MODELS FRAMES WIDTH HEIGHT COUNT` by `scripts/bench-peer.sh`, it prints what the service prints.
//! As `peer --render FRAMES WIDTH HEIGHT COUNT` it renders the frames.
#![allow(clippy::print_stderr)]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use anemia_engine::EngineOptions;
use anemia_vision::Frame;
use anemia_vision::phantom::Phantom;
use anemiad::config::{self, WantedPrecision};
use anemiad::pipeline::{Parts, Pipeline};

const ROUNDS: usize = 5;

fn main() -> std::io::Result<()> {
    anemiad::allocator::keep_little();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [first, frames, width, height, count, rest @ ..] = &arguments[..] else {
        eprintln!("skipped: run it by `make bench-peer`");
        return Ok(());
    };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let (width, height, count) = (number(width), number(height), number(count));
    if first == "--render" {
        return render(Path::new(frames), width, height, count);
    }
    let models = Path::new(first);
    let parts = Parts {
        bundle: models.join("pallor"),
        precision: WantedPrecision::Int8,
        options: EngineOptions::default(),
        roi: config::Roi::Auto,
        locator: config::Locator { bundle: Some(models.join("locator")), fallback: None },
        limits: config::Quality::default().thresholds(),
    };
    let mut pipeline = Pipeline::open(&parts, &mut |_| true).expect("the shipped models load");
    // Unrelated frames are looked at anew; of a steady eye, most frames are followed only.
    let anew = rest.is_empty();
    let (mut file, mut frame) = (File::open(frames)?, Frame::new(width, height));
    file.read_exact(frame.rgb_mut())?;
    pipeline.analyse(&frame, Instant::now());
    let (mut judged, mut spent) = (0, 0.0);
    for _ in 0..ROUNDS {
        file.seek(SeekFrom::Start(0))?;
        for _ in 0..count {
            file.read_exact(frame.rgb_mut())?;
            if anew {
                pipeline.forget();
            }
            let start = cpu_seconds();
            judged += usize::from(pipeline.analyse(&frame, Instant::now()).outcome.is_ok());
            spent += cpu_seconds() - start;
        }
    }
    let frames = (ROUNDS * count) as f64;
    println!(
        "{{\"cpu_ms\": {:.3}, \"memory_mib\": {:.1}, \"judged\": {:.3}}}",
        spent / frames * 1e3,
        peak_memory(),
        judged as f64 / frames
    );
    Ok(())
}

fn render(path: &Path, width: usize, height: usize, count: usize) -> std::io::Result<()> {
    let (mut file, mut frame) = (File::create(path)?, Frame::default());
    for seed in 0..count as u64 {
        Phantom::from_seed(seed).render(width, height, &mut frame);
        file.write_all(frame.rgb())?;
    }
    Ok(())
}

/// CPU time of this process so far.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// The greatest resident memory of this process in MiB, as the kernel tells (proc_pid_status(5)).
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}
