//! The things around the program: folders, pictures, a broker, a subscriber, a stand-in for systemd.

use std::collections::HashSet;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anemia_vision::phantom::Phantom;
use anemia_vision::{Frame, write_png};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

/// Longer than anything takes on a slow machine; only a failing test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The folder of a development data set, or `None` with a line that says so.
pub fn data(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ANEMIA_DATA").map(PathBuf::from);
    let folder = root.unwrap_or_else(|| project().join("../shared/data")).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no data ({name} is not in ANEMIA_DATA)");
    None
}

/// The program with the models and the library of the source folder.
pub fn anemiad() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anemiad"));
    command.env("ANEMIAD_MODELS", project().join("models"));
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        command.env("ORT_DYLIB_PATH", project().join(".deps/onnxruntime/libonnxruntime.so"));
    }
    command
}

/// Standard output, standard error and exit code.
pub fn texts(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// A phantom that the shipped model judges, as a picture file.
pub fn phantom(path: &Path, seed: u64) {
    let mut frame = Frame::default();
    Phantom { pallor: 0.3, skin: 0.3, glare: 0.2, ..Phantom::from_seed(seed) }.render(640, 360, &mut frame);
    write_png(path, frame.width(), frame.height(), frame.rgb()).unwrap();
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until `ready` gives something.
pub fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A mosquitto of our own.
pub struct Broker {
    folder: tempfile::TempDir,
    pub port: u16,
    process: Option<Child>,
}

impl Broker {
    pub fn start() -> Self {
        Self::at(free_port())
    }

    /// A broker on a port that was chosen before.
    pub fn at(port: u16) -> Self {
        Self::with("allow_anonymous true\n", port)
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
        broker.folder = folder;
        broker
    }

    fn with(settings: &str, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("conf"), format!("listener {port} 127.0.0.1\npersistence false\n{settings}"))
            .unwrap();
        let mut broker = Self { folder, port, process: None };
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

/// Everything that is published below `anemia/`.
pub struct Subscriber {
    messages: Receiver<Message>,
    client: Client,
}

impl Subscriber {
    pub fn new(port: u16) -> Self {
        Self::login(port, None)
    }

    pub fn login(port: u16, user: Option<(&str, &str)>) -> Self {
        let mut options = MqttOptions::new(format!("test-{}", uuid::Uuid::now_v7()), "127.0.0.1", port);
        if let Some((user, password)) = user {
            options.set_credentials(user, password);
        }
        let (client, mut connection) = Client::new(options, 16);
        client.subscribe("anemia/#", QoS::AtLeastOnce).unwrap();
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

/// What systemd would hear.
pub struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Systemd {
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path }
    }

    /// Waits for a message that contains `word`, and gives it.
    pub fn wait_for(&self, word: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut bytes = [0; 4096];
        while Instant::now() < end {
            let length = self.socket.recv(&mut bytes).unwrap_or_else(|error| panic!("waiting for {word}: {error}"));
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.contains(word) {
                return text;
            }
        }
        panic!("waited too long for {word}");
    }
}

/// A kiosk: a folder with a configuration, and the daemon when it runs.
pub struct Kiosk {
    pub folder: tempfile::TempDir,
    pub process: Option<Child>,
    pub systemd: Systemd,
    watchdog: bool,
}

/// Keys of a configuration that tests change.
pub struct Settings<'a> {
    pub port: u16,
    pub camera: &'a str,
    pub exam: &'a str,
    pub more: &'a str,
}

/// A phantom in view for 0.8 s and away for 0.4 s.
pub const PHANTOMS: &str = "phantom: {width: 640, height: 360, seed: 40, pace: {rate_hz: 25, show_s: 0.8, gap_s: 0.4}}";
/// Two frames to start, three for the result.
pub const QUICK: &str = "{frames: 3, steady_frames: 2, timeout_s: 5, absent_s: 0.15}";

impl Kiosk {
    pub fn new(settings: &Settings<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let systemd = Systemd::new(folder.path());
        let kiosk = Self { folder, process: None, systemd, watchdog: false };
        kiosk.configure(settings);
        kiosk
    }

    pub fn phantoms(port: u16) -> Self {
        Self::new(&Settings { port, camera: PHANTOMS, exam: QUICK, more: "" })
    }

    pub fn with_watchdog(mut self) -> Self {
        self.watchdog = true;
        self
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("anemiad.yaml")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn configure(&self, settings: &Settings<'_>) {
        let Settings { port, camera, exam, more } = settings;
        let bundle = project().join("models/pallor");
        let text = format!(
            "device_id: test-kiosk\nstate_dir: state\ncamera:\n  {camera}\nmodel:\n  bundle: {}\nexam: {exam}\n\
             mqtt:\n  host: 127.0.0.1\n  port: {port}\n{more}\n",
            bundle.display()
        );
        fs::write(self.config(), text).unwrap();
    }

    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = anemiad();
        command.arg("run").arg("--config").arg(self.config()).env("NOTIFY_SOCKET", &self.systemd.path);
        if self.watchdog {
            command.env("WATCHDOG_USEC", "600000");
        }
        self.process = Some(command.stderr(log).stdout(Stdio::null()).spawn().unwrap());
        self.systemd.wait_for("READY=1");
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the daemon runs").id()
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap().success());
    }

    /// Waits for the end, and gives exit status and how long it took.
    pub fn wait(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        let mut process = self.process.take().expect("the daemon runs");
        let status = eventually("the daemon's end", || process.try_wait().unwrap());
        (status, start.elapsed())
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.try_wait().unwrap().is_none())
    }
}

impl Drop for Kiosk {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            println!("the daemon's log:\n{}", self.log());
        }
    }
}
