//! `make bench`: time of every stage, on one core, and pictures per second from disk.
//!
//! Frames are phantoms of 1280×720 pixels. Real cut-outs and photographs are measured where they are at hand
//! (`ANEMIA_DATA`, or `../shared/data` beside the source folder). Figures are of the machine that runs this.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anemia_engine::EngineOptions;
use anemia_vision::phantom::Phantom;
use anemia_vision::{Frame, read_picture};
use anemiad::config::{self, WantedPrecision};
use anemiad::pipeline::{Parts, Pipeline, StageTimes};

const FRAMES: u64 = 20;
const ROUNDS: usize = 20;

fn main() {
    let models = std::env::var_os(anemiad::models::MODELS_VARIABLE).map(PathBuf::from);
    let models = models.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../models"));
    let open = |roi| {
        let parts = Parts {
            bundle: models.join("pallor"),
            precision: WantedPrecision::Int8,
            options: EngineOptions::default(),
            roi,
            locator: config::Locator { bundle: Some(models.join("locator")), fallback: None },
            limits: config::Quality::default().thresholds(),
        };
        Pipeline::open(&parts, &mut |_| true).expect("the shipped models load")
    };
    let mut pipeline = open(config::Roi::Auto);
    let frames: Vec<Frame> = (0..FRAMES)
        .map(|seed| {
            let mut frame = Frame::default();
            Phantom::from_seed(seed).render(1280, 720, &mut frame);
            frame
        })
        .collect();
    // Each eye twice in a row: looked for at first sight, and then followed.
    let (mut times, mut tracked) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        for frame in &frames {
            pipeline.forget();
            let analysis = pipeline.analyse(frame, Instant::now());
            // The first round warms up.
            if round > 0 && analysis.outcome.is_ok() {
                times.push(analysis.times);
                tracked.push(pipeline.analyse(frame, Instant::now()).times);
            }
        }
    }
    println!(
        "{} judged frames of 1280×720 at first sight, {}, int8, one thread",
        times.len(),
        pipeline.identity().engine
    );
    table(&times);
    println!("\nthe same frames, followed");
    table(&tracked);

    let data = std::env::var_os("ANEMIA_DATA").map(PathBuf::from);
    let data = data.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"));
    from_disk("cut-outs of CP-AnemiC", &data.join("cp-anemic"), &mut open(config::Roi::Alpha));
    from_disk("photographs of 1200×1600", &data.join("eyes-defy-india/images"), &mut pipeline);
}

fn from_disk(what: &str, folder: &Path, pipeline: &mut Pipeline) {
    if !folder.is_dir() {
        println!("\nskipped: no data ({what})");
        return;
    }
    let pictures: Vec<PathBuf> = anemiad::pictures::find(folder).into_iter().flatten().collect();
    let mut frame = Frame::default();
    let (mut times, mut decode) = (Vec::new(), Duration::ZERO);
    let start = Instant::now();
    for picture in &pictures {
        let began = Instant::now();
        read_picture(picture, &mut frame).expect("a picture of the data set can be read");
        decode += began.elapsed();
        times.push(pipeline.analyse(&frame, Instant::now()).times);
    }
    let rate = pictures.len() as f64 / start.elapsed().as_secs_f64();
    println!("\n{} {what}: {rate:.0} pictures per second end to end", pictures.len());
    println!("{:<18} {:>8.2} ms mean", "decode", decode.as_secs_f64() * 1e3 / pictures.len() as f64);
    table(&times);
}

/// One line of the table.
type Stage = (&'static str, fn(&StageTimes) -> Duration);

fn table(times: &[StageTimes]) {
    println!("{:<18} {:>8} {:>8} {:>8}", "ms", "median", "p95", "p99");
    let stages: [Stage; 6] = [
        ("locate", |t| t.locate),
        ("quality", |t| t.quality),
        ("cut-out", |t| t.cutout),
        ("inference", |t| t.inference),
        ("quality + cut-out", |t| t.quality + t.cutout),
        ("all", StageTimes::total),
    ];
    for (name, stage) in stages {
        let mut sorted: Vec<f64> = times.iter().map(|time| stage(time).as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
        println!("{name:<18} {:>8.2} {:>8.2} {:>8.2}", at(0.5), at(0.95), at(0.99));
    }
}
