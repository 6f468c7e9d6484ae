//! A real broker, and somebody who listens to it.

use std::collections::HashSet;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

use crate::support::{PATIENCE, eventually, free_port};

/// A mosquitto of our own.
pub struct Broker {
    folder: tempfile::TempDir,
    pub port: u16,
    process: Option<Child>,
    /// What its configuration names.
    more: Option<tempfile::TempDir>,
}

impl Broker {
    pub fn start() -> Self {
        Self::at(free_port())
    }

    /// A broker on a port that was chosen before.
    pub fn at(port: u16) -> Self {
        Self::with("allow_anonymous true\n", port)
    }

    /// A broker that remembers sessions and messages when it is started again, and drops nothing for a slow subscriber.
    pub fn that_remembers(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let settings = format!(
            "allow_anonymous true\npersistence true\npersistence_location {}/\nmax_queued_messages 0\nmax_inflight_messages 0\n",
            folder.path().display()
        );
        let mut broker = Self::with(&settings, port);
        broker.more = Some(folder);
        broker
    }

    /// A broker that knows one user.
    pub fn with_user(user: &str, password: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        let done = Command::new("mosquitto_passwd").arg("-b").arg("-c").arg(&file).args([user, password]).status();
        assert!(done.expect("mosquitto_passwd is installed (make deps)").success());
        // mosquitto gives up its rights and must still be able to read the file.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let settings = format!("allow_anonymous false\npassword_file {}\n", file.display());
        let mut broker = Self::with(&settings, free_port());
        broker.more = Some(folder);
        broker
    }

    /// A broker with lines of its own in the configuration.
    pub fn with(settings: &str, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("conf"), format!("listener {port} 127.0.0.1\n{settings}")).unwrap();
        let mut broker = Self { folder, port, process: None, more: None };
        broker.start_again();
        broker
    }

    pub fn start_again(&mut self) {
        let conf = self.folder.path().join("conf");
        let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let mut command = Command::new(program);
        command.arg("-c").arg(&conf).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("mosquitto is installed (make deps)"));
        eventually("mosquitto", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// Ends it as systemd does: it writes down what it remembers.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = process.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
            process.wait().unwrap();
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One message as a subscriber got it.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retained: bool,
}

impl Message {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

/// Everything that is published below `anemia/`, or another filter.
pub struct Subscriber {
    messages: Receiver<Message>,
    client: Client,
}

impl Subscriber {
    pub fn new(port: u16) -> Self {
        Self::login(port, None)
    }

    pub fn login(port: u16, user: Option<(&str, &str)>) -> Self {
        Self::of("anemia/#", port, user)
    }

    pub fn of(filter: &str, port: u16, user: Option<(&str, &str)>) -> Self {
        let mut options = MqttOptions::new(format!("test-{}", uuid::Uuid::now_v7()), "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        if let Some((user, password)) = user {
            options.set_credentials(user, password);
        }
        // A broker with several listeners opens one after the other.
        eventually("a listener of the broker", || TcpStream::connect(("127.0.0.1", port)).ok());
        let (client, mut connection) = Client::new(options, 16);
        client.subscribe(filter, QoS::AtLeastOnce).unwrap();
        let (out, messages) = channel();
        let (subscribed, is_subscribed) = channel();
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let (topic, retained) = (publish.topic, publish.retain);
                        if out.send(Message { topic, payload: publish.payload.to_vec(), retained }).is_err() {
                            return;
                        }
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => drop(subscribed.send(())),
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        });
        is_subscribed.recv_timeout(PATIENCE).expect("the subscription is confirmed");
        Self { messages, client }
    }

    /// The next message for which `wanted` holds; the others are passed over.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.messages.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(message) if wanted(&message) => return message,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("waited too long for {what}"),
                Err(RecvTimeoutError::Disconnected) => panic!("lost the broker while waiting for {what}"),
            }
        }
    }

    pub fn result(&self) -> Value {
        self.wait_for("a result", |message| message.topic.ends_with("/result")).json()
    }

    pub fn availability(&self, word: &str) -> Message {
        self.wait_for(word, |message| message.topic.ends_with("/availability") && message.text() == word)
    }

    /// The next state for which `wanted` holds.
    pub fn state(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(what, |message| message.topic.ends_with("/state") && wanted(&message.json())).json()
    }

    /// Sends a command to the kiosk of the tests, wanted for a minute, and gives its answer.
    pub fn command(&self, name: &str, id: &str, more: &str) -> Value {
        self.ask(name, id, more);
        self.response(id)
    }

    /// The same, and waits for no answer.
    pub fn ask(&self, name: &str, id: &str, more: &str) {
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(1);
        self.send(name, &format!("{{\"id\":\"{id}\",\"expires_at\":\"{end}\"{more}}}"));
    }

    /// Sends the message of a command as it is.
    pub fn send(&self, name: &str, payload: &str) {
        let topic = format!("anemia/test-kiosk/command/{name}");
        self.client.publish(topic, QoS::AtLeastOnce, false, payload.as_bytes()).unwrap();
    }

    /// The answer to the command with this id.
    pub fn response(&self, id: &str) -> Value {
        let what = format!("the answer to {id}");
        self.wait_for(&what, |message| message.topic.ends_with("/response") && message.json()["id"] == id).json()
    }

    /// Nothing for which `unwanted` holds comes for a while.
    pub fn none(&self, time: std::time::Duration, unwanted: impl Fn(&Message) -> bool) {
        let end = Instant::now() + time;
        loop {
            match self.messages.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(message) => assert!(!unwanted(&message), "{message:?}"),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => panic!("nothing can come: the subscriber has ended"),
            }
        }
    }

    /// The ids of the results that came before the broker went away.
    pub fn rest(&self) -> HashSet<String> {
        let results = self.messages.iter().filter(|message| message.topic.ends_with("/result"));
        results.map(|message| message.json()["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The ids of the results that come until there are `count` different ones.
    pub fn distinct_results(&self, count: usize) -> HashSet<String> {
        let mut ids = HashSet::new();
        while ids.len() < count {
            ids.insert(self.result()["id"].as_str().unwrap().to_owned());
        }
        ids
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.client.try_disconnect();
    }
}
