//! The things around the program: folders, pictures, a small disk, a stand-in for systemd, and a kiosk of all that.

#[path = "../common.rs"]
mod common;

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anemia_vision::phantom::Phantom;
use anemia_vision::{Frame, write_png};

pub use common::{SmallDisk, data, free_port, project, skipped, texts};

/// Longer than anything takes on a slow machine; only a failing test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The program with the models and the library of the source folder.
pub fn anemiad() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anemiad"));
    command.env("ANEMIAD_MODELS", project().join("models"));
    common::with_library(&mut command);
    command
}

/// A phantom that the shipped model judges, as a picture file.
pub fn phantom(path: &Path, seed: u64) {
    let mut frame = Frame::default();
    Phantom { pallor: 0.3, skin: 0.3, glare: 0.2, ..Phantom::from_seed(seed) }.render(640, 360, &mut frame);
    write_png(path, frame.width(), frame.height(), frame.rgb()).unwrap();
}

/// Waits until `ready` gives something.
pub fn eventually<T>(what: &str, ready: impl FnMut() -> Option<T>) -> T {
    common::wait(PATIENCE, ready).unwrap_or_else(|| panic!("waited too long for {what}"))
}

/// What systemd would hear. It listens all the time: who tells it something waits until it does.
pub struct Systemd {
    heard: Receiver<String>,
    path: PathBuf,
}

impl Systemd {
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (out, heard) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = socket.recv(&mut bytes) {
                if out.send(String::from_utf8_lossy(&bytes[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { heard, path }
    }

    /// Whether nothing with `word` is heard for a while.
    pub fn is_silent_about(&self, word: &str, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut heard = false;
        loop {
            match self.heard.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(text) => heard |= text.contains(word),
                Err(RecvTimeoutError::Timeout) => return !heard,
                Err(RecvTimeoutError::Disconnected) => panic!("nobody listens for systemd any more"),
            }
        }
    }

    /// Waits for a message that contains `word`, and gives it.
    pub fn wait_for(&self, word: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.heard.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(text) if text.contains(word) => return text,
                Ok(_) => {}
                Err(error) => panic!("waiting for {word}: {error}"),
            }
        }
    }
}

/// A kiosk: a folder with a configuration, and the daemon when it runs.
pub struct Kiosk {
    pub folder: tempfile::TempDir,
    pub process: Option<Child>,
    pub systemd: Systemd,
    watchdog: bool,
    /// More variables for the daemon.
    pub environment: Vec<(&'static str, PathBuf)>,
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
        let kiosk = Self { folder, process: None, systemd, watchdog: false, environment: Vec::new() };
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
        // Kiosks of other tests have this machine's usual port.
        let page = if more.contains("kiosk:") { "" } else { "kiosk: {page: false}\n" };
        let bundle = project().join("models/pallor");
        let text = format!(
            "device_id: test-kiosk\nstate_dir: state\ncamera:\n  {camera}\nmodel:\n  bundle: {}\nexam: {exam}\n\
             mqtt:\n  host: 127.0.0.1\n  port: {port}\n{more}\n{page}",
            bundle.display()
        );
        fs::write(self.config(), text).unwrap();
    }

    /// Puts other lines in the place of the model's one, each indented by two spaces.
    pub fn set_model(&self, lines: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        let shipped = format!("  bundle: {}\n", project().join("models/pallor").display());
        assert!(text.contains(&shipped), "{text}");
        fs::write(self.config(), text.replace(&shipped, lines)).unwrap();
    }

    /// Puts the state folder onto a small disk.
    pub fn keep_state_on(&self, disk: &SmallDisk) {
        let text = fs::read_to_string(self.config()).unwrap();
        let state = format!("state_dir: {}/state", disk.folder.path().display());
        fs::write(self.config(), text.replace("state_dir: state", &state)).unwrap();
    }

    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = anemiad();
        command.arg("run").arg("--config").arg(self.config()).env("NOTIFY_SOCKET", &self.systemd.path);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
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
