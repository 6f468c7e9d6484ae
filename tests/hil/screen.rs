//! The screen of the emulated kiosk, a pointer and a keyboard: qemu's own protocol (QMP) at a socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use serde_json::{Value, json};

/// A connection to qemu.
pub struct Screen {
    reader: BufReader<UnixStream>,
    folder: PathBuf,
    shots: u32,
}

impl Screen {
    /// Connects. Pictures of the screen stay in a folder.
    pub fn connect(socket: &Path, folder: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut screen = Self { reader: BufReader::new(stream), folder: folder.to_owned(), shots: 0 };
        screen.reader.read_line(&mut String::new())?;
        screen.command("qmp_capabilities", json!({}))?;
        Ok(screen)
    }

    fn command(&mut self, name: &str, arguments: Value) -> Result<()> {
        let line = json!({"execute": name, "arguments": arguments}).to_string() + "\n";
        self.reader.get_mut().write_all(line.as_bytes())?;
        // Events come between the answers.
        loop {
            let mut line = String::new();
            ensure!(self.reader.read_line(&mut line)? > 0, "qemu is gone");
            let answer: Value = serde_json::from_str(&line)?;
            ensure!(answer.get("error").is_none(), "qemu, {name}: {}", answer["error"]);
            if answer.get("return").is_some() {
                return Ok(());
            }
        }
    }

    /// What is on the screen now.
    pub fn picture(&mut self) -> Result<RgbImage> {
        self.shots += 1;
        let path = self.folder.join(format!("screen-{:02}.png", self.shots));
        self.command("screendump", json!({"filename": path, "format": "png"}))?;
        Ok(image::open(&path).with_context(|| path.display().to_string())?.to_rgb8())
    }

    /// Keys together, by qemu's names for them.
    pub fn keys(&mut self, keys: &[&str]) -> Result<()> {
        let keys: Vec<Value> = keys.iter().map(|key| json!({"type": "qcode", "data": key})).collect();
        self.command("send-key", json!({"keys": keys, "hold-time": 300}))?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    }

    /// A click at a place, in shares of width and height.
    pub fn click(&mut self, x: f64, y: f64) -> Result<()> {
        let axis =
            |axis: &str, share: f64| json!({"type": "abs", "data": {"axis": axis, "value": (share * 32767.0) as u32}});
        self.command("input-send-event", json!({"events": [axis("x", x), axis("y", y)]}))?;
        for down in [true, false] {
            std::thread::sleep(Duration::from_millis(300));
            let button = json!({"type": "btn", "data": {"down": down, "button": "left"}});
            self.command("input-send-event", json!({"events": [button]}))?;
        }
        Ok(())
    }
}

/// The share of the pixels that have a colour, and the middle of them in shares of width and height.
pub fn find(picture: &RgbImage, colour: [u8; 3]) -> (f64, f64, f64) {
    let (mut count, mut x, mut y) = (0.0, 0.0, 0.0);
    for (column, row, pixel) in picture.enumerate_pixels() {
        if pixel.0.iter().zip(colour).all(|(&found, wanted)| found.abs_diff(wanted) < 12) {
            (count, x, y) = (count + 1.0, x + f64::from(column), y + f64::from(row));
        }
    }
    let [width, height] = [picture.width(), picture.height()].map(f64::from);
    (count / width / height, x / count / width, y / count / height)
}
