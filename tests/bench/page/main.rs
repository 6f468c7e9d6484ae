//! What the page costs: its first paint, the processor for its pictures, and what exams take while many pages are open.
//!
//! `make bench-page`. The peer of an exam with pages is an exam without, in the same run, by turns.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, dead_code, unused_imports)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "../../kiosk/browser.rs"]
mod browser;
#[path = "../../system/mqtt.rs"]
mod mqtt;
#[path = "../../system/support.rs"]
mod support;

use browser::Browser;
use mqtt::{Broker, Subscriber};
use support::{Kiosk, Settings, free_port};

/// 30 frames a second, of which the pictures are 640×360.
const CAMERA: &str = "phantom: {width: 1280, height: 720, seed: 40, pace: {rate_hz: 30, show_s: 2, gap_s: 0.5}}";
const EXAM: &str = "{frames: 31, steady_frames: 2, timeout_s: 10, absent_s: 0.2}";
const PAGES: usize = 20;
const EXAMS: usize = 12;
const ROUNDS: usize = 3;

fn main() {
    let (broker, port) = (Broker::start(), free_port());
    let subscriber = Subscriber::new(broker.port);
    let more = format!("kiosk: {{listen: \"127.0.0.1:{port}\"}}");
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera: CAMERA, exam: EXAM, more: &more });
    kiosk.start();
    subscriber.result();

    paint(port);
    let one = Pages::open(port, 1);
    std::thread::sleep(Duration::from_secs(1));
    let (before, pictures, start) = (cpu(kiosk.pid(), "preview"), one.pictures(), Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    let seconds = start.elapsed().as_secs_f64();
    let (used, made) = (cpu(kiosk.pid(), "preview") - before, one.pictures() - pictures);
    println!(
        "pictures of 640×360: {:.1} a second, {:.1} % of a core, {:.1} kB each",
        made as f64 / seconds,
        100.0 * used / seconds,
        one.bytes() as f64 / one.pictures() as f64 / 1e3
    );
    drop(one);

    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.extend((0..EXAMS).map(|_| duration(&subscriber)));
        let pages = Pages::open(port, PAGES);
        subscriber.result();
        with.extend((0..EXAMS).map(|_| duration(&subscriber)));
        drop(pages);
        subscriber.result();
    }
    let (without, with) = (median(&mut without), median(&mut with));
    println!(
        "median exam of 31 frames: {without:.3} s without a page, {with:.3} s with {PAGES}: ratio {:.3}",
        with / without
    );
}

fn duration(subscriber: &Subscriber) -> f64 {
    subscriber.result()["duration_s"].as_f64().unwrap()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The first contentful paint of the page, ten times in one browser.
fn paint(port: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(browser) = Browser::open(1280, 800).await else { return };
        let mut paints = Vec::new();
        for _ in 0..10 {
            browser.client.goto(&format!("http://127.0.0.1:{port}/")).await.unwrap();
            browser.until("a paint", "return performance.getEntriesByName('first-contentful-paint').length > 0").await;
            let script = "return performance.getEntriesByName('first-contentful-paint')[0].startTime";
            paints.push(browser.run(script).await.as_f64().unwrap());
        }
        let worst = paints.iter().copied().fold(0.0, f64::max);
        println!("first contentful paint: {:.0} ms (median of 10), {worst:.0} ms at most", median(&mut paints));
    });
}

/// Seconds of a core that the thread of this name has used.
fn cpu(pid: u32, name: &str) -> f64 {
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let path = task.unwrap().path();
        if std::fs::read_to_string(path.join("comm")).unwrap().trim() == name {
            let schedule = std::fs::read_to_string(path.join("schedstat")).unwrap();
            return schedule.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9;
        }
    }
    panic!("no thread {name}");
}

/// Pages that look, without a browser around them.
struct Pages {
    ended: Arc<AtomicBool>,
    pictures: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Pages {
    fn open(port: u16, count: usize) -> Self {
        let (ended, pictures, bytes) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let threads = (0..count).map(|_| {
            let (ended, pictures, bytes) = (ended.clone(), pictures.clone(), bytes.clone());
            std::thread::spawn(move || look(port, &ended, &pictures, &bytes))
        });
        let threads = threads.collect();
        Self { ended, pictures, bytes, threads }
    }

    fn pictures(&self) -> u64 {
        self.pictures.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn look(port: u16, ended: &AtomicBool, pictures: &AtomicU64, bytes: &AtomicU64) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let upgrade = format!(
        "GET /live HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes()).unwrap();
    let wish = b"{\"look\":true}";
    let mut frame = vec![0x81, 0x80 | wish.len() as u8, 0, 0, 0, 0];
    frame.extend(wish);
    stream.write_all(&frame).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    // The state comes every second, so this ends.
    while !ended.load(Ordering::Relaxed) {
        let mut start = [0; 2];
        stream.read_exact(&mut start).unwrap();
        let length = match start[1] & 0x7f {
            126 => {
                let mut long = [0; 2];
                stream.read_exact(&mut long).unwrap();
                u64::from(u16::from_be_bytes(long))
            }
            127 => {
                let mut long = [0; 8];
                stream.read_exact(&mut long).unwrap();
                u64::from_be_bytes(long)
            }
            short => short.into(),
        };
        let mut content = vec![0; length as usize];
        stream.read_exact(&mut content).unwrap();
        if start[0] & 0x0f == 2 {
            pictures.fetch_add(1, Ordering::Relaxed);
            bytes.fetch_add(length, Ordering::Relaxed);
        }
    }
}
