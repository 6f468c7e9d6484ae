//! Somebody who listens to a broker through everything that happens to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

/// Longer than anything takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Somebody who listens, through every restart of the broker, and counts how often each result came.
pub struct Collector {
    pub seen: Arc<Mutex<HashMap<String, u32>>>,
    /// The ids in the order in which they first came.
    pub order: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    pub fn new(port: u16) -> Self {
        let mut options = MqttOptions::new("collector", "127.0.0.1", port);
        options.set_clean_session(false).set_keep_alive(Duration::from_secs(5));
        let (client, mut connection) = Client::new(options, 64);
        let (seen, order) = (Arc::new(Mutex::new(HashMap::<String, u32>::new())), Arc::new(Mutex::new(Vec::new())));
        let (all, line, (subscribed, is_subscribed)) = (seen.clone(), order.clone(), std::sync::mpsc::channel());
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        client.try_subscribe("anemia/+/result", QoS::AtLeastOnce).unwrap();
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => drop(subscribed.send(())),
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        let json: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
                        let id = json["id"].as_str().unwrap().to_owned();
                        let mut all = all.lock().unwrap();
                        if !all.contains_key(&id) {
                            line.lock().unwrap().push(id.clone());
                        }
                        *all.entry(id).or_default() += 1;
                    }
                    Ok(_) => {}
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        });
        is_subscribed.recv_timeout(PATIENCE).unwrap();
        Self { seen, order }
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Waits until all of these came; says how many came more than once.
    pub fn wait_for(&self, ids: &[String]) -> usize {
        let start = Instant::now();
        loop {
            let seen = self.seen.lock().unwrap();
            let missing = ids.iter().filter(|id| !seen.contains_key(*id)).count();
            if missing == 0 {
                assert_eq!(seen.len(), ids.len(), "and nothing else came");
                return seen.values().filter(|&&times| times > 1).count();
            }
            drop(seen);
            assert!(start.elapsed() < PATIENCE, "{missing} of {} never came", ids.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
