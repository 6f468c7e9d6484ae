//! A backlog of 100 000 results: how long the outbox takes to open, how fast the daemon's own link empties it into a mosquitto
//! of this machine, and what memory that takes. The peer is mosquitto_pub, which keeps nothing on a disk, with the same messages.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anemia_bundle::Precision;
use anemiad::board::Board;
use anemiad::publish::{Kind, Link, Outbox};
use anemiad::report::ModelIdentity;
use anemiad::{config, machine};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

const RESULTS: usize = 100_000;
/// What a result takes as JSON.
const BYTES: usize = 1000;

fn payload() -> String {
    let id = Uuid::now_v7();
    format!("{{\"id\":\"{id}\",\"more\":\"{}\"}}", "x".repeat(BYTES - 58))
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    {
        let outbox = Outbox::open(folder.path(), config::Outbox::default()).unwrap();
        for _ in 0..RESULTS {
            outbox.add(Kind::Result, payload().as_bytes(), Timestamp::now()).unwrap();
        }
    }
    let added = start.elapsed().as_secs_f64();
    let file = folder.path().join("outbox.redb").metadata().unwrap().len() as f64 / 1e6;
    println!(
        "{RESULTS} results of {BYTES} bytes stored one by one: {:.0} a second, file {file:.0} MB",
        RESULTS as f64 / added
    );

    // As after a power cut: the file is what a process left that never closed it.
    let cut = tempfile::tempdir().unwrap();
    {
        let outbox = Outbox::open(folder.path(), config::Outbox::default()).unwrap();
        outbox.add(Kind::Result, payload().as_bytes(), Timestamp::now()).unwrap();
        std::fs::copy(folder.path().join("outbox.redb"), cut.path().join("outbox.redb")).unwrap();
    }
    for (name, folder) in [("closed in order", folder.path()), ("after a power cut", cut.path())] {
        let start = Instant::now();
        let outbox = Outbox::open(folder, config::Outbox::default()).unwrap();
        let stock = outbox.stock().unwrap();
        println!("opened, {name}: {:.3} s ({} results wait)", start.elapsed().as_secs_f64(), stock.results);
    }

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let conf = folder.path().join("mosquitto.conf");
    std::fs::write(&conf, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).unwrap();
    let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
    let mut broker = Command::new(program).arg("-c").arg(&conf).stderr(Stdio::null()).spawn().unwrap();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }

    let replayed = replay(folder.path(), port);
    let peer = peer(folder.path(), port);
    println!(
        "mosquitto_pub, from a file that it does not empty: {peer:.0} a second; the link: {:.2} of that",
        replayed / peer
    );
    broker.kill().unwrap();
    broker.wait().unwrap();
}

/// Messages a second from the outbox to the broker.
fn replay(folder: &Path, port: u16) -> f64 {
    let outbox = Arc::new(Outbox::open(folder, config::Outbox::default()).unwrap());
    let (stored, (close, seen)) = (Arc::new(Notify::new()), watch::channel(false));
    let text = format!("{{host: 127.0.0.1, port: {port}, replay_per_s: 100000}}");
    let link = Link {
        settings: serde_yaml::from_str(&text).unwrap(),
        device_id: "bench".into(),
        outbox: outbox.clone(),
        board: Arc::new(Board::new(ModelIdentity::unknown(Precision::Fp32))),
        stored,
        clerk: None,
    };
    let before = machine::memory();
    let start = Instant::now();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(link.run(seen, Duration::from_millis(600)));
    });
    let mut most = before;
    loop {
        let left = outbox.stock().unwrap().results;
        most = most.max(machine::memory());
        if left == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let rate = RESULTS as f64 / start.elapsed().as_secs_f64();
    let _ = close.send(true);
    thread.join().unwrap();
    println!("replayed and confirmed: {rate:.0} a second; memory grew by {:.1} MB", (most - before) as f64 / 1e6);
    rate
}

fn peer(folder: &Path, port: u16) -> f64 {
    let path = folder.join("lines");
    let mut lines = BufWriter::new(File::create(&path).unwrap());
    for _ in 0..RESULTS {
        writeln!(lines, "{}", payload()).unwrap();
    }
    lines.into_inner().unwrap().sync_all().unwrap();
    let start = Instant::now();
    let mut command = Command::new("mosquitto_pub");
    command.args(["-p", &port.to_string(), "-q", "1", "-t", "anemia/peer/result", "-l"]);
    assert!(command.stdin(File::open(&path).unwrap()).status().unwrap().success());
    RESULTS as f64 / start.elapsed().as_secs_f64()
}
