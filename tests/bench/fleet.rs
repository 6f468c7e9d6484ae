//! Many kiosks and one broker on this machine: each with an outbox on the disk and a connection of its own, by the daemon's own
//! publish path. A result and telemetry a minute each, a broker that goes away in the middle, and somebody who listens.
//!
//! `make bench-fleet`; KIOSKS and MINUTES change its size.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anemia_bundle::Precision;
use anemiad::board::Board;
use anemiad::config;
use anemiad::publish::{Kind, Link, Outbox};
use anemiad::report::ModelIdentity;
use jiff::Timestamp;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{Client, Event, MqttOptions};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

/// What a message takes beside its id and time.
const REST: usize = 900;
/// How long the broker is away, in the middle of the run.
const OUTAGE: Duration = Duration::from_secs(20);

struct Kiosk {
    outbox: Arc<Outbox>,
    stored: Arc<Notify>,
    _close: watch::Sender<bool>,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn main() {
    let (kiosks, minutes) = (number("KIOSKS", 2000) as usize, number("MINUTES", 3));
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut broker = start_broker(folder.path(), port);
    let seen = listen(port);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sent = runtime.block_on(async {
        let start = Instant::now();
        let mut fleet = Vec::new();
        for number in 0..kiosks {
            fleet.push(kiosk(&folder.path().join(format!("{number:05}")), port, number));
            // They are not switched on all at once.
            if number % 50 == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        println!("{kiosks} kiosks started in {:.1} s", start.elapsed().as_secs_f64());
        let sent = Arc::new(Mutex::new(Vec::new()));
        let end = Instant::now() + Duration::from_secs(60 * minutes);
        let mut tasks = tokio::task::JoinSet::new();
        for kiosk in fleet {
            let sent = sent.clone();
            tasks.spawn(async move {
                tokio::time::sleep(Duration::from_secs_f64(rand::random_range(0.0..60.0))).await;
                while Instant::now() < end {
                    for kind in [Kind::Result, Kind::Telemetry] {
                        let (id, outbox) = (Uuid::now_v7().to_string(), kiosk.outbox.clone());
                        let payload = payload(&id);
                        if kind == Kind::Result {
                            sent.lock().unwrap().push(id);
                        }
                        let add = move || outbox.add(kind, payload.as_bytes(), Timestamp::now());
                        tokio::task::spawn_blocking(add).await.unwrap().unwrap();
                        kiosk.stored.notify_one();
                    }
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                kiosk
            });
        }
        tokio::time::sleep(Duration::from_secs(30 * minutes)).await;
        let steady = seen.lock().unwrap().clone();
        report("while the broker was there", &steady);
        broker.kill().unwrap();
        broker.wait().unwrap();
        tokio::time::sleep(OUTAGE).await;
        broker = start_broker(folder.path(), port);
        println!("the broker was away for {:.0} s, and forgot everything", OUTAGE.as_secs_f64());
        let fleet = tasks.join_all().await;
        let patience = Instant::now() + Duration::from_secs(120);
        while fleet.iter().any(|kiosk| kiosk.outbox.stock().unwrap().results > 0) {
            assert!(Instant::now() < patience, "results are still waiting");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // Until the last ones have come to the listener.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let sent = sent.lock().unwrap().clone();
        drop(fleet);
        sent
    });
    let seen = seen.lock().unwrap();
    report("over all, with the outage", &seen);
    let lost = sent.iter().filter(|id| !seen.contains_key(*id)).count();
    let repeated = sent.iter().filter(|id| seen.get(*id).is_some_and(|(times, _)| *times > 1)).count();
    println!("{} results: {lost} lost, {repeated} came more than once", sent.len());
    broker.kill().unwrap();
    broker.wait().unwrap();
    assert_eq!(lost, 0);
}

fn payload(id: &str) -> String {
    let at = Timestamp::now().as_microsecond();
    format!("{{\"id\":\"{id}\",\"at_us\":{at},\"more\":\"{}\"}}", "x".repeat(REST))
}

fn kiosk(folder: &Path, port: u16, number: usize) -> Kiosk {
    let outbox = Arc::new(Outbox::open(folder, config::Outbox::default()).unwrap());
    let (stored, (close, seen)) = (Arc::new(Notify::new()), watch::channel(false));
    let link = Link {
        settings: serde_yaml::from_str(&format!("{{host: 127.0.0.1, port: {port}}}")).unwrap(),
        device_id: format!("fleet-{number:05}"),
        outbox: outbox.clone(),
        board: Arc::new(Board::new(ModelIdentity::unknown(Precision::Fp32))),
        stored: stored.clone(),
        clerk: None,
    };
    tokio::spawn(link.run(seen, Duration::from_millis(600)));
    Kiosk { outbox, stored, _close: close }
}

fn start_broker(folder: &Path, port: u16) -> Child {
    let conf = folder.join("mosquitto.conf");
    // Nothing is dropped for a listener that is slow for a moment.
    let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n");
    std::fs::write(&conf, text).unwrap();
    let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
    let broker = Command::new(program).arg("-c").arg(&conf).stderr(Stdio::null()).spawn().unwrap();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    broker
}

/// How often each message came, and how long after it was made.
type Seen = Arc<Mutex<HashMap<String, (u32, Duration)>>>;

fn listen(port: u16) -> Seen {
    let mut options = MqttOptions::new("listener", "127.0.0.1", port);
    options.set_max_packet_size(Some(1 << 20));
    let (client, mut connection) = Client::new(options, 16);
    let seen = Seen::default();
    let (all, (subscribed, is_subscribed)) = (seen.clone(), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    for kind in ["result", "telemetry"] {
                        client.try_subscribe(format!("anemia/+/{kind}"), QoS::AtLeastOnce).unwrap();
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => drop(subscribed.send(())),
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    let json: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
                    let age = Timestamp::now().as_microsecond() - json["at_us"].as_i64().unwrap();
                    let age = Duration::from_micros(age.max(0) as u64);
                    let mut all = all.lock().unwrap();
                    all.entry(json["id"].as_str().unwrap().to_owned()).or_insert((0, age)).0 += 1;
                }
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    });
    is_subscribed.recv_timeout(Duration::from_secs(10)).unwrap();
    seen
}

fn report(when: &str, seen: &HashMap<String, (u32, Duration)>) {
    let mut ages: Vec<f64> = seen.values().map(|(_, age)| age.as_secs_f64() * 1e3).collect();
    ages.sort_by(f64::total_cmp);
    let at = |share: f64| ages.get(((ages.len() as f64 - 1.0) * share) as usize).copied().unwrap_or_default();
    println!(
        "{when}: {} messages; from the exam to the listener, with the disk: median {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        ages.len(),
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0)
    );
}
