//! The daemon, and all that is around it.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::camera::Camera;
use super::mqtt::{Broker, Subscriber};
use super::proxy::Proxy;
use super::support::{Kiosk, SmallDisk};

/// The stage of the soak.
pub struct Stage {
    pub kiosk: Kiosk,
    pub broker: Broker,
    pub proxy: Proxy,
    pub camera: Camera,
    pub subscriber: Subscriber,
    pub disk: SmallDisk,
    pub page: u16,
    pub commands: u32,
}

impl Stage {
    /// The exams that are on disk.
    pub fn recorded(&self) -> HashSet<String> {
        let Ok(entries) = fs::read_dir(self.kiosk.folder.path().join("state/exams")) else { return HashSet::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect()
    }

    /// Waits until so many exams are on disk.
    pub fn wait_exams(&self, count: usize) {
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

    /// Asks the page, and does not wait for an answer.
    pub fn get(&self, path: &str, headers: &str) -> Option<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.page)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n{headers}\r\n", self.page);
        stream.write_all(request.as_bytes()).ok()?;
        Some(stream)
    }
}
