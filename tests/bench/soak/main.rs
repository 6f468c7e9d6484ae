//! What a busy kiosk sees in 24 hours, without the idle time between: exams, and every kind of fault that can be made on one
//! machine. Nothing may be lost, and the daemon may not grow.
//!
//! `make soak`; EXAMS changes how long it is. With UPDATE_DOCS=1 it writes docs/reference/soak.md.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, dead_code, unused_imports)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

mod camera;
#[path = "../../system/collector.rs"]
mod collector;
mod faults;
mod memory;
#[path = "../../system/mqtt.rs"]
mod mqtt;
#[path = "../../system/proxy.rs"]
mod proxy;
mod report;
mod stage;
#[path = "../../system/support.rs"]
mod support;

use camera::{Camera, Conduct};
use collector::Collector;
use faults::{ENDS, FAULTS};
use memory::{Sample, drift, level, sample, steps};
use mqtt::{Broker, Subscriber};
use proxy::{Network, Proxy};
use stage::Stage;
use support::{Kiosk, QUICK, Settings, SmallDisk, free_port};

/// Networks are loaded anew each time, while the old ones serve.
const RELOADS: usize = 30;

fn main() {
    let exams: usize = std::env::var("EXAMS").map_or(500, |text| text.parse().unwrap());
    let disk = SmallDisk::mount(64).expect("the right to mount a small disk, which one of the faults fills");
    let broker = Broker::that_remembers(free_port());
    let (proxy, camera, page) = (Proxy::to(broker.port), Camera::start(), free_port());
    let collector = Collector::new(broker.port);
    let mut kiosk = Kiosk::new(&Settings {
        port: proxy.port,
        camera: &format!("gstreamer: {{pipeline: \"{}\"}}", camera.pipeline()),
        exam: QUICK,
        // Of telemetry, too, as much as in a day.
        more: &format!("  keep_alive_s: 5\n  telemetry_s: 1\nkiosk: {{listen: \"127.0.0.1:{page}\"}}"),
    });
    std::os::unix::fs::symlink(disk.folder.path(), kiosk.folder.path().join("state")).unwrap();
    kiosk.start();
    let subscriber = Subscriber::new(broker.port);
    let mut stage = Stage { kiosk, broker, proxy, camera, subscriber, disk, page, commands: 0 };

    let (start, mut samples, mut made) = (Instant::now(), Vec::new(), 0);
    // The last fifth is for reloads, and for ends of the process, after which there is another one to look at.
    let steady = exams * 8 / 10;
    let rounds = (steady / (FAULTS.len() * 8)).max(1);
    let every = steady / (FAULTS.len() * rounds + 1);
    for round in 0..rounds {
        for (number, (name, fault)) in FAULTS.iter().enumerate() {
            stage.wait_exams((round * FAULTS.len() + number + 1) * every);
            fault(&mut stage);
            stage.proxy.set(Network::Good);
            made += 1;
            let before = stage.recorded().len();
            stage.wait_exams(before + 2);
            let now = sample(stage.kiosk.pid(), stage.recorded().len());
            println!(
                "{:6.0} s  {:4} exams  {:6} kB  {:3} files  {name}",
                start.elapsed().as_secs_f64(),
                now.exams,
                now.rss_kb,
                now.files
            );
            samples.push(now);
        }
    }
    stage.wait_exams(steady);
    let last = sample(stage.kiosk.pid(), steady);
    samples.push(last);
    let mut reloads = Vec::new();
    for _ in 0..RELOADS {
        stage.kiosk.signal("HUP");
        let before = stage.recorded().len();
        stage.wait_exams(before + 2);
        reloads.push(sample(stage.kiosk.pid(), stage.recorded().len()));
        made += 1;
    }
    let steady = stage.recorded().len();
    let exams = exams.max(steady + 20);
    let repeats = 5;
    for turn in 0..repeats * ENDS.len() {
        let (name, end) = ENDS[turn % ENDS.len()];
        end(&mut stage);
        made += 1;
        println!("{:6.0} s  {name}", start.elapsed().as_secs_f64());
        stage.wait_exams(steady + (exams - steady) * (turn + 1) / (repeats * ENDS.len()));
    }
    let seconds = start.elapsed().as_secs_f64();

    // Nothing more is examined; what waits goes out.
    stage.camera.set(Conduct::Silent);
    std::thread::sleep(Duration::from_secs(3));
    let recorded = stage.recorded();
    support::eventually("all results", || {
        let seen = collector.seen.lock().unwrap();
        recorded.iter().all(|id| seen.contains_key(id)).then_some(())
    });
    let seen = collector.seen.lock().unwrap();
    let repeated = seen.values().filter(|times| **times > 1).count();

    // Once each kind of fault came: caches are full, and the allocator has what it keeps.
    let settled = &samples[FAULTS.len().min(samples.len() / 2)..];
    let (drift, error) = drift(settled);
    let steps = steps(settled);
    let files = |samples: &[Sample]| {
        let mut files: Vec<usize> = samples.iter().map(|sample| sample.files).collect();
        files.sort_unstable();
        files[files.len() / 2]
    };
    let half = settled.len() / 2;
    let threads = |samples: &[Sample]| {
        let mut threads: Vec<usize> = samples.iter().map(|sample| sample.threads).collect();
        threads.sort_unstable();
        threads[threads.len() / 2]
    };
    let thirds: Vec<f64> = reloads
        .chunks(RELOADS / 3)
        .map(|third| third.iter().map(|sample| sample.rss_kb as f64).sum::<f64>() / third.len() as f64 / 1e3)
        .collect();
    let mut table = String::new();
    let mut row = |what: &str, found: String| writeln!(table, "| {what} | {found} |").unwrap();
    row("exams", format!("{} in {:.1} minutes", recorded.len(), seconds / 60.0));
    row("faults", format!("{made}, of {} kinds", FAULTS.len() + 1 + ENDS.len()));
    row("results lost", recorded.iter().filter(|id| !seen.contains_key(*id)).count().to_string());
    row("results that came more than once, with one id", repeated.to_string());
    row(
        "resident memory after each kind of fault came once, at the end",
        format!("{:.1} MB, {:.1} MB", settled[0].rss_kb as f64 / 1e3, last.rss_kb as f64 / 1e3),
    );
    let (median, most) = (steps[steps.len() / 2], steps[steps.len() - 1]);
    let flat = steps.iter().filter(|step| **step <= 0).count() as f64 / steps.len() as f64;
    row("growth of the resident memory", format!("{drift:.2} ± {:.2} kB an exam (two standard errors)", 2.0 * error));
    row(
        "growth of the resident memory from one sample to the next, some eight exams later",
        format!("median {median} kB, greatest {most} kB; none in {:.0} % of them", flat * 100.0),
    );
    let run = level(settled);
    row(
        "longest stretch in which the resident memory never rose above where it began",
        format!("{} exams, {} faults", run[run.len() - 1].exams - run[0].exams, run.len() - 1),
    );
    row(
        "open files, median of the first and the second half",
        format!("{}, {}", files(&settled[..half]), files(&settled[half..])),
    );
    row(
        "threads, median of the first and the second half",
        format!("{}, {}", threads(&settled[..half]), threads(&settled[half..])),
    );
    row(
        "resident memory over thirty times of reading the configuration again, mean of ten",
        format!("{:.1} MB, {:.1} MB, {:.1} MB", thirds[0], thirds[1], thirds[2]),
    );
    println!("\n{table}");
    // More than chance, and more than a few buffers that were used for the first time.
    let proven_kb = (drift - 2.0 * error) * last.exams as f64;
    assert!(proven_kb < 300.0, "the daemon grows by {drift:.2} ± {:.2} kB an exam", 2.0 * error);
    assert_eq!(median, 0, "the daemon grows all the time, in kB: {steps:?}");
    assert!(last.rss_kb < settled[0].rss_kb + 1000, "the daemon grew by more than 1 MB");
    assert!(thirds[2] < thirds[1] + 2.0, "the daemon grows when it reads its configuration again");
    assert!(files(&settled[half..]) <= files(&settled[..half]), "open files are left behind");
    assert!(threads(&settled[half..]) <= threads(&settled[..half]) + 1, "threads are left behind");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        report::write(&table, &samples);
    }
}
