//! Somebody outside who receives what the kiosk publishes, for as long as the scenario runs.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anemiad::report::ExamResult;
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use uuid::Uuid;

use crate::common::wait;

/// A message, and when it came.
#[derive(Clone, Debug)]
pub struct Message {
    pub at: Instant,
    pub topic: String,
    pub payload: Vec<u8>,
}

/// All messages so far.
#[derive(Clone, Default)]
pub struct Receiver {
    messages: Arc<Mutex<Vec<Message>>>,
    /// When the broker confirmed the last subscription.
    subscribed: Arc<Mutex<Option<Instant>>>,
}

impl Receiver {
    /// Connects, and connects again whenever the broker was away.
    pub fn start(host: &str, port: u16) -> Self {
        let receiver = Self::default();
        let mut options = MqttOptions::new("hil-receiver", host, port);
        options.set_keep_alive(Duration::from_secs(5)).set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = Client::new(options, 64);
        let (messages, subscribed) = (receiver.messages.clone(), receiver.subscribed.clone());
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    // Nothing but the end of the program ends this, and then a lost subscription is no matter.
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        let _ = client.try_subscribe("anemia/#", QoS::AtLeastOnce);
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => *locked(&subscribed) = Some(Instant::now()),
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        let (topic, payload) = (message.topic, message.payload.to_vec());
                        locked(&messages).push(Message { at: Instant::now(), topic, payload });
                    }
                    Ok(_) => {}
                    Err(_) => std::thread::sleep(Duration::from_millis(100)),
                }
            }
        });
        receiver
    }

    /// Waits until the broker confirms a subscription that was made after `since`.
    pub fn wait_subscribed(&self, since: Instant, patience: Duration) -> bool {
        wait(patience, || locked(&self.subscribed).filter(|at| *at >= since)).is_some()
    }

    /// The results that came after `since`, repeats included.
    pub fn results(&self, since: Instant) -> Vec<(Instant, ExamResult)> {
        let messages = locked(&self.messages);
        let of_exams = messages.iter().filter(|message| message.at >= since && message.topic.ends_with("/result"));
        of_exams.filter_map(|message| Some((message.at, serde_json::from_slice(&message.payload).ok()?))).collect()
    }

    /// The exams of all results so far.
    pub fn exams(&self, since: Instant) -> HashSet<Uuid> {
        self.results(since).into_iter().map(|(_, result)| result.id).collect()
    }

    /// The state as it was published last.
    pub fn state(&self) -> Value {
        let messages = locked(&self.messages);
        let last = messages.iter().rev().find(|message| message.topic.ends_with("/state"));
        last.and_then(|message| serde_json::from_slice(&message.payload).ok()).unwrap_or(Value::Null)
    }

    /// What was said last about being there, after `since`.
    pub fn availability(&self, since: Instant) -> Option<String> {
        let messages = locked(&self.messages);
        let of_kiosk = |message: &&Message| message.at >= since && message.topic.ends_with("/availability");
        let last = messages.iter().rev().find(of_kiosk)?;
        String::from_utf8(last.payload.clone()).ok()
    }

    /// Waits for a state that is as wanted, published after `since`.
    pub fn wait_state(&self, since: Instant, patience: Duration, wanted: impl Fn(&Value) -> bool) -> Option<Instant> {
        wait(patience, || {
            let messages = locked(&self.messages);
            let states = messages.iter().filter(|message| message.at >= since && message.topic.ends_with("/state"));
            let mut parsed =
                states.filter_map(|message| Some((message.at, serde_json::from_slice(&message.payload).ok()?)));
            parsed.find(|(_, state)| wanted(state)).map(|(at, _)| at)
        })
    }

    /// Waits for the first result after `since` that has a verdict.
    pub fn wait_result(&self, since: Instant, patience: Duration) -> Option<(Instant, ExamResult)> {
        wait(patience, || self.results(since).into_iter().find(|(_, result)| result.probability.is_some()))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
