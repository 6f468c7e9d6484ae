//! Whatever networks, brokers and power do: every result arrives, and once when repeated ids are dropped.
//!
//! These drive the daemon's own publish path (outbox and link), without cameras and networks, to do it thousands of times.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anemia_bundle::Precision;
use anemiad::board::Board;
use anemiad::config;
use anemiad::publish::{Kind, Link, Outbox};
use anemiad::report::ModelIdentity;
use jiff::Timestamp;
use rand::RngExt;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::collector::Collector;
use crate::mqtt::Broker;
use crate::proxy::{Network, Proxy};
use crate::support::free_port;

/// Longer than any of this takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Outbox and link of a kiosk, on a runtime of their own.
struct Publisher {
    outbox: Arc<Outbox>,
    stored: Arc<Notify>,
    close: watch::Sender<bool>,
    link: std::thread::JoinHandle<()>,
}

impl Publisher {
    fn start(folder: &Path, port: u16) -> Self {
        Self::at_a_rate(folder, port, 100_000)
    }

    fn at_a_rate(folder: &Path, port: u16, replay_per_s: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outbox = Arc::new(Outbox::open(folder, config::Outbox::default()).unwrap());
        let (stored, (close, seen)) = (Arc::new(Notify::new()), watch::channel(false));
        let text = format!("{{host: 127.0.0.1, port: {port}, keep_alive_s: 5, replay_per_s: {replay_per_s}}}");
        let link = Link {
            settings: serde_yaml::from_str(&text).unwrap(),
            device_id: "faults".into(),
            outbox: outbox.clone(),
            board: Arc::new(Board::new(ModelIdentity::unknown(Precision::Fp32))),
            stored: stored.clone(),
            clerk: None,
        };
        let link = std::thread::spawn(move || runtime.block_on(link.run(seen, Duration::from_millis(600))));
        Self { outbox, stored, close, link }
    }

    /// What the keeper does with a result.
    fn add(&self) -> String {
        let id = Uuid::now_v7().to_string();
        let payload = format!("{{\"id\":\"{id}\",\"more\":\"{}\"}}", "x".repeat(900));
        self.outbox.add(Kind::Result, payload.as_bytes(), Timestamp::now()).unwrap();
        self.stored.notify_one();
        id
    }

    fn wait_until_empty(&self) {
        let start = Instant::now();
        while self.outbox.stock().unwrap().results > 0 {
            assert!(start.elapsed() < PATIENCE, "{:?} is left", self.outbox.stock());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(self) {
        let _ = self.close.send(true);
        self.link.join().unwrap();
    }
}

#[test]
fn a_backlog_comes_in_order_and_at_the_rate_that_was_set() {
    let broker = Broker::that_remembers(free_port());
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens at this port.
    let publisher = Publisher::start(folder.path(), free_port());
    let ids: Vec<String> = (0..500).map(|_| publisher.add()).collect();
    publisher.stop();
    let collector = Collector::new(broker.port);
    let start = Instant::now();
    let publisher = Publisher::at_a_rate(folder.path(), broker.port, 200);
    publisher.wait_until_empty();
    // All but the first burst.
    let least = Duration::from_secs_f64((500.0 - 32.0) / 200.0);
    assert!(start.elapsed() >= least, "{:?}", start.elapsed());
    assert_eq!(collector.wait_for(&ids), 0, "nothing came twice");
    assert_eq!(*collector.order.lock().unwrap(), ids);
    publisher.stop();
}

#[test]
fn each_fault_of_a_network_costs_nothing() {
    let broker = Broker::that_remembers(free_port());
    let collector = Collector::new(broker.port);
    let proxy = Proxy::to(broker.port);
    let folder = tempfile::tempdir().unwrap();
    let publisher = Publisher::start(folder.path(), proxy.port);
    let mut ids = Vec::new();
    let mut add = |count: usize| ids.extend((0..count).map(|_| publisher.add()));
    add(20);
    publisher.wait_until_empty();

    let faults: [(&str, &(dyn Fn() + Sync)); 6] = [
        ("cut", &|| proxy.cut()),
        ("stalled", &|| {
            proxy.set(Network::Stalled);
            std::thread::sleep(Duration::from_millis(500));
        }),
        // Longer than the keep-alive: only that notices.
        ("half open", &|| {
            proxy.set(Network::HalfOpen);
            std::thread::sleep(Duration::from_secs(12));
        }),
        ("slow", &|| {
            proxy.set(Network::Slow);
            std::thread::sleep(Duration::from_secs(1));
        }),
        ("refusing", &|| {
            proxy.set(Network::Refusing);
            proxy.cut();
            std::thread::sleep(Duration::from_secs(1));
        }),
        // The broker has them, and the kiosk never hears of it.
        ("deaf", &|| {
            proxy.set(Network::Deaf);
            std::thread::sleep(Duration::from_millis(300));
            proxy.cut();
        }),
    ];
    for (name, fault) in faults {
        let before = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(fault);
            add(30);
        });
        proxy.set(Network::Good);
        add(5);
        publisher.wait_until_empty();
        println!("{name}: all delivered after {:.1} s", before.elapsed().as_secs_f32());
    }
    let repeated = collector.wait_for(&ids);
    assert!(repeated > 0, "without the confirmations, the kiosk had to send them again");
    publisher.stop();
}

#[test]
fn restarts_of_the_broker_cost_nothing() {
    for remembers in [true, false] {
        let port = free_port();
        let mut broker = if remembers { Broker::that_remembers(port) } else { Broker::at(port) };
        let collector = Collector::new(port);
        let folder = tempfile::tempdir().unwrap();
        let publisher = Publisher::start(folder.path(), port);
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.extend((0..20).map(|_| publisher.add()));
            // What a broker without memory has confirmed and not passed on is nobody's any more.
            while !remembers && collector.count() < ids.len() {
                std::thread::sleep(Duration::from_millis(5));
            }
            broker.stop();
            ids.extend((0..20).map(|_| publisher.add()));
            broker.start_again();
            // Nor does it know its subscribers.
            std::thread::sleep(Duration::from_millis(if remembers { 0 } else { 1500 }));
        }
        collector.wait_for(&ids);
        publisher.wait_until_empty();
        publisher.stop();
    }
}

/// 10 000 results, and something bad every 50.
#[test]
fn ten_thousand_results_survive_two_hundred_faults() {
    let broker = Broker::that_remembers(free_port());
    let collector = Collector::new(broker.port);
    let proxy = Proxy::to(broker.port);
    let folder = tempfile::tempdir().unwrap();
    let publisher = Publisher::start(folder.path(), proxy.port);
    let seed = Uuid::now_v7().as_u128() as u64;
    println!("seed {seed}");
    let mut random = rand_pcg::Pcg32::new(seed, 1);
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.extend((0..50).map(|_| publisher.add()));
        let [short, long] = [30, 200].map(|most| Duration::from_millis(random.random_range(0..most)));
        match random.random_range(0..5) {
            0 => proxy.cut(),
            1 => {
                proxy.set(Network::Stalled);
                std::thread::sleep(long);
            }
            2 => {
                proxy.set(Network::Deaf);
                std::thread::sleep(short);
                proxy.cut();
            }
            3 => {
                proxy.set(Network::Slow);
                std::thread::sleep(long);
            }
            _ => {
                proxy.set(Network::HalfOpen);
                std::thread::sleep(short);
                proxy.cut();
            }
        }
        proxy.set(Network::Good);
        // Now and then the connection comes back before the next fault.
        if random.random_range(0..4) == 0 {
            publisher.wait_until_empty();
        }
    }
    publisher.wait_until_empty();
    let repeated = collector.wait_for(&ids);
    println!("10000 results, 200 faults: none lost, {repeated} came more than once");
    publisher.stop();
}

/// The environment variables by which this test program is told that it is the process to kill.
const FOLDER: &str = "ANEMIA_PUBLISHER_FOLDER";
const PORT: &str = "ANEMIA_PUBLISHER_PORT";

/// Not a test of its own: publishes until it is killed, and says each id when it is on the disk.
#[test]
#[allow(clippy::print_stdout)]
fn publisher_process() {
    let (Ok(folder), Ok(port)) = (std::env::var(FOLDER), std::env::var(PORT)) else { return };
    let publisher = Publisher::start(Path::new(&folder), port.parse().unwrap());
    loop {
        println!("stored {}", publisher.add());
    }
}

#[test]
fn two_hundred_kills_in_the_middle_of_publishing_cost_nothing() {
    let broker = Broker::that_remembers(free_port());
    let collector = Collector::new(broker.port);
    let folder = tempfile::tempdir().unwrap();
    let mut random = rand_pcg::Pcg32::new(Uuid::now_v7().as_u128() as u64, 1);
    let mut ids = Vec::new();
    for _ in 0..200 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "faults::publisher_process", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(PORT, broker.port.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let id_of = |line: String| line.strip_prefix("stored ").map(str::to_owned);
        // From its first result on, so that most kills meet the connection, too.
        let first = lines.by_ref().map_while(Result::ok).find_map(id_of);
        ids.push(first.expect("the publisher runs"));
        std::thread::sleep(Duration::from_millis(random.random_range(0..150)));
        child.kill().unwrap();
        ids.extend(lines.map_while(Result::ok).filter_map(id_of));
        child.wait().unwrap();
    }
    // The one that was being stored when the kill came may have come, too: it is nobody's loss and nobody's surprise.
    let publisher = Publisher::start(folder.path(), broker.port);
    publisher.wait_until_empty();
    let start = Instant::now();
    loop {
        let seen = collector.seen.lock().unwrap();
        let missing = ids.iter().filter(|id| !seen.contains_key(*id)).count();
        if missing == 0 {
            println!(
                "{} results and 200 kills: none lost, {} came more than once",
                ids.len(),
                seen.values().filter(|&&n| n > 1).count()
            );
            break;
        }
        drop(seen);
        assert!(start.elapsed() < PATIENCE, "{missing} of {} are lost", ids.len());
        std::thread::sleep(Duration::from_millis(50));
    }
    publisher.stop();
}
