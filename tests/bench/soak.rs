//! What a busy kiosk sees in 24 hours, without the idle time between: exams, and every kind of fault that can be made on one
//! machine. Nothing may be lost, and the daemon may not grow.
//!
//! `make soak`; EXAMS changes how long it is. With UPDATE_DOCS=1 it writes docs/reference/soak.md.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, dead_code, unused_imports)]

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anemia_vision::Frame;
use anemia_vision::phantom::Phantom;

#[path = "../system/collector.rs"]
mod collector;
#[path = "../system/mqtt.rs"]
mod mqtt;
#[path = "../system/proxy.rs"]
mod proxy;
#[path = "../system/support.rs"]
mod support;

use collector::Collector;
use mqtt::{Broker, Subscriber};
use proxy::{Network, Proxy};
use support::{Kiosk, QUICK, Settings, SmallDisk, free_port};

const SIZE: (usize, usize) = (640, 360);
const RATE_HZ: f64 = 25.0;

/// A network camera: whoever connects gets raw pictures, an eye for 0.8 s and nothing for 0.4 s.
struct Camera {
    port: u16,
    /// 0: pictures; 1: connected, and no pictures; 2: hangs up.
    fault: Arc<AtomicU8>,
}

impl Camera {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, fault) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU8::new(0)));
        let eyes: Vec<Vec<u8>> = (40..52)
            .map(|seed| {
                let mut frame = Frame::default();
                Phantom::from_seed(seed).render(SIZE.0, SIZE.1, &mut frame);
                frame.rgb().to_vec()
            })
            .collect();
        let (eyes, state) = (Arc::new(eyes), fault.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), eyes, state) = (client, eyes.clone(), state.clone()) else { continue };
                std::thread::spawn(move || play(client, &eyes, &state));
            }
        });
        Self { port, fault }
    }

    fn during(&self, fault: u8, time: Duration) {
        self.fault.store(fault, Ordering::Relaxed);
        std::thread::sleep(time);
        self.fault.store(0, Ordering::Relaxed);
    }
}

fn play(mut client: TcpStream, eyes: &[Vec<u8>], fault: &AtomicU8) {
    let nothing = vec![0; eyes[0].len()];
    let (start, mut tick) = (Instant::now(), 0_u32);
    loop {
        let due = start + Duration::from_secs_f64(f64::from(tick) / RATE_HZ);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (turn, at) = (tick / 30, tick % 30);
        tick += 1;
        match fault.load(Ordering::Relaxed) {
            1 => continue,
            2 => return drop(client.shutdown(Shutdown::Both)),
            _ => {}
        }
        let picture = if at < 20 { &eyes[turn as usize % eyes.len()] } else { &nothing };
        if client.write_all(picture).is_err() {
            return;
        }
    }
}

/// Resident memory in kB, open files, threads.
#[derive(Clone, Copy, Debug)]
struct Sample {
    exams: usize,
    rss_kb: u64,
    files: usize,
    threads: usize,
}

fn sample(pid: u32, exams: usize) -> Sample {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let number = |key: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    Sample { exams, rss_kb: number("VmRSS:"), files, threads: number("Threads:") as usize }
}

struct Stage {
    kiosk: Kiosk,
    broker: Broker,
    proxy: Proxy,
    camera: Camera,
    subscriber: Subscriber,
    disk: SmallDisk,
    page: u16,
    commands: u32,
}

impl Stage {
    fn recorded(&self) -> HashSet<String> {
        let Ok(entries) = fs::read_dir(self.kiosk.folder.path().join("state/exams")) else { return HashSet::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect()
    }

    fn wait_exams(&self, count: usize) {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let now = self.recorded().len();
            if now >= count {
                return;
            }
            if now > last {
                (last, since) = (now, Instant::now());
            }
            assert!(since.elapsed() < Duration::from_secs(120), "{now} exams, and no more come; {}", self.kiosk.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn get(&self, path: &str, headers: &str) -> Option<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.page)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n{headers}\r\n", self.page);
        stream.write_all(request.as_bytes()).ok()?;
        Some(stream)
    }
}

/// A kind of fault, and what makes it and takes it away again.
type Fault = (&'static str, fn(&mut Stage));

fn pause(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}

const FAULTS: &[Fault] = &[
    ("connection to the broker cut", |stage| stage.proxy.cut()),
    ("network stalls for 2 s", |stage| {
        stage.proxy.set(Network::Stalled);
        pause(2.0);
    }),
    ("half-open connection for 2 s", |stage| {
        stage.proxy.set(Network::HalfOpen);
        pause(2.0);
        stage.proxy.cut();
    }),
    ("confirmations are swallowed for 2 s", |stage| {
        stage.proxy.set(Network::Deaf);
        pause(2.0);
        stage.proxy.cut();
    }),
    ("33 kB a second, for 3 s", |stage| {
        stage.proxy.set(Network::Slow);
        pause(3.0);
    }),
    ("connections are refused for 2 s", |stage| {
        stage.proxy.set(Network::Refusing);
        stage.proxy.cut();
        pause(2.0);
    }),
    ("broker restarts", |stage| {
        stage.broker.stop();
        pause(1.0);
        stage.broker.start_again();
        stage.subscriber = Subscriber::new(stage.broker.port);
    }),
    ("camera hangs up", |stage| stage.camera.during(2, Duration::from_millis(200))),
    ("camera is away for 3 s", |stage| stage.camera.during(2, Duration::from_secs(3))),
    ("camera gives no pictures for 6 s", |stage| stage.camera.during(1, Duration::from_secs(6))),
    ("disk full for 3 s", |stage| {
        stage.disk.fill();
        pause(3.0);
        stage.disk.free();
    }),
    ("configuration with a mistake", |stage| {
        let good = fs::read_to_string(stage.kiosk.config()).unwrap();
        fs::write(stage.kiosk.config(), format!("{good}mistake: 1\n")).unwrap();
        stage.kiosk.signal("HUP");
        pause(1.0);
        fs::write(stage.kiosk.config(), good).unwrap();
    }),
    ("50 commands and 50 messages that are none", |stage| {
        for number in 0..50 {
            stage.commands += 1;
            let id = format!("soak-{}", stage.commands);
            stage.subscriber.send("cancel", &format!("{{\"id\": \"{id}\", \"number\": {number}}}"));
            stage.subscriber.send("identify", "{\"id\": 1, nonsense");
        }
    }),
    ("30 pages come, half of them leave in the middle", |stage| {
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
        let streams: Vec<_> = (0..30).filter_map(|_| stage.get("/live", upgrade)).collect();
        assert_eq!(streams.len(), 30);
        pause(1.0);
        for (number, mut stream) in streams.into_iter().enumerate() {
            let mut bytes = [0; 4096];
            if number % 2 == 0 {
                assert!(stream.read(&mut bytes).unwrap() > 0);
            }
        }
    }),
    ("50 questions at the local socket", |stage| {
        for _ in 0..50 {
            let mut command = support::anemiad();
            command.args(["status", "--config"]).arg(stage.kiosk.config());
            assert!(command.output().unwrap().status.success());
        }
    }),
];

/// Networks are loaded anew each time, while the old ones serve.
const RELOADS: usize = 30;

const ENDS: &[Fault] = &[
    ("killed", |stage| {
        stage.kiosk.signal("KILL");
        stage.kiosk.wait();
        stage.kiosk.start();
    }),
    ("restarted", |stage| {
        stage.kiosk.signal("TERM");
        stage.kiosk.wait();
        stage.kiosk.start();
    }),
];

fn main() {
    let exams: usize = std::env::var("EXAMS").map_or(500, |text| text.parse().unwrap());
    let disk = SmallDisk::mount(64).expect("the right to mount a small disk, which one of the faults fills");
    let broker = Broker::that_remembers(free_port());
    let (proxy, camera, page) = (Proxy::to(broker.port), Camera::start(), free_port());
    let collector = Collector::new(broker.port);
    let pipeline = format!(
        "tcpclientsrc host=127.0.0.1 port={} do-timestamp=true ! rawvideoparse format=rgb width={} height={} framerate=25/1",
        camera.port, SIZE.0, SIZE.1
    );
    let mut kiosk = Kiosk::new(&Settings {
        port: proxy.port,
        camera: &format!("gstreamer: {{pipeline: \"{pipeline}\"}}"),
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
    stage.camera.fault.store(1, Ordering::Relaxed);
    pause(3.0);
    let recorded = stage.recorded();
    support::eventually("all results", || {
        let seen = collector.seen.lock().unwrap();
        recorded.iter().all(|id| seen.contains_key(id)).then_some(())
    });
    let seen = collector.seen.lock().unwrap();
    let repeated = seen.values().filter(|times| **times > 1).count();

    // After the first fifth: caches are full, and the allocator has what it keeps.
    let settled: Vec<Sample> = samples.iter().copied().filter(|sample| sample.exams * 5 >= steady).collect();
    let (slope, error) = slope(&settled);
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
        "resident memory after a fifth, at the end",
        format!("{:.1} MB, {:.1} MB", settled[0].rss_kb as f64 / 1e3, last.rss_kb as f64 / 1e3),
    );
    row("slope of the resident memory", format!("{slope:.2} ± {:.2} kB an exam (two standard errors)", 2.0 * error));
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
    let growth_kb = (slope + 2.0 * error) * last.exams as f64;
    assert!(growth_kb < 2000.0, "the daemon grows by up to {growth_kb:.0} kB");
    assert!(thirds[2] < thirds[1] + 2.0, "the daemon grows when it reads its configuration again");
    assert!(files(&settled[half..]) <= files(&settled[..half]), "open files are left behind");
    assert!(threads(&settled[half..]) <= threads(&settled[..half]) + 1, "threads are left behind");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        write_report(&table, &samples);
    }
}

/// Least squares of resident memory in kB over exams: the slope and its standard error.
fn slope(samples: &[Sample]) -> (f64, f64) {
    let points: Vec<(f64, f64)> = samples.iter().map(|sample| (sample.exams as f64, sample.rss_kb as f64)).collect();
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
    let rest: f64 = points.iter().map(|point| (point.1 - y - slope * (point.0 - x)).powi(2)).sum();
    (slope, (rest / (count - 2.0) / spread).sqrt())
}

fn write_report(table: &str, samples: &[Sample]) {
    let mut text = String::from(
        "# Soak\n\n`make soak` gives a kiosk what a busy one sees in 24 hours, one exam in three minutes, without the idle time between\n\
         them, and every kind of fault that can be made on one machine. The daemon is the release build; its pictures come from a\n\
         network camera (GStreamer over TCP) that shows phantoms; its broker is mosquitto; its disk has 64 MiB. This page is\n\
         written by `UPDATE_DOCS=1 make soak`.\n\n",
    );
    writeln!(text, "Measured on {}. Not on a board.\n\n| | |\n|---|---|\n{table}", machine()).unwrap();
    text.push_str("## Faults\n\n");
    let mut names: Vec<&str> = FAULTS.iter().map(|(name, _)| *name).collect();
    names.push("configuration read again");
    names.extend(ENDS.iter().map(|(name, _)| *name));
    writeln!(text, "{}.\n", names.join("; ")).unwrap();
    text.push_str(
        "Each is followed by at least two exams. Not among them, because one machine cannot make them, or not without more rights:\n\
         a USB camera that is pulled out, a clock that jumps, a hang that systemd ends, and a power cut. `make vm-test` has those.\n\n\
         ## Memory and files\n\n| exams | resident memory, kB | open files | threads |\n|---|---|---|---|\n",
    );
    for Sample { exams, rss_kb, files, threads } in samples.iter().step_by((samples.len() / 16).max(1)) {
        writeln!(text, "| {exams} | {rss_kb} | {files} | {threads} |").unwrap();
    }
    fs::write(support::project().join("docs/reference/soak.md"), text).unwrap();
}

fn machine() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap();
    let name = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": a processor");
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    format!("{cores} cores of {}", name.trim_start_matches(['\t', ' ', ':']))
}
