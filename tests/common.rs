//! What every test program needs: the source folder, data sets, the texts of a program.
// Each test program uses a part of this.
#![allow(dead_code)]

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anemia_vision::Frame;
use anemia_vision::phantom::Phantom;
use image::{Rgba, RgbaImage};

pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Says that a test did nothing, and why. Past the test harness, which keeps what passing tests print to itself.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// The folder of a development data set, or `None` with a line that says so.
pub fn data(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ANEMIA_DATA").map(PathBuf::from);
    let folder = root.unwrap_or_else(|| project().join("../shared/data")).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    skipped(&format!("no data ({name} is not in ANEMIA_DATA)"));
    None
}

/// Lets a program find the ONNX Runtime that `make deps` fetched, unless the environment names another one.
pub fn with_library(command: &mut Command) {
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        command.env("ORT_DYLIB_PATH", project().join(".deps/onnxruntime/libonnxruntime.so"));
    }
}

/// A port that nobody listens at.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Looks again and again until there is something, at most for `patience`.
pub fn wait<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let found = look();
        if found.is_some() || start.elapsed() >= patience {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Standard output, standard error and exit code.
pub fn texts(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// The cut-out of a phantom: its tissue, and nothing around it.
pub fn cutout(seed: u64, pallor: f32) -> RgbaImage {
    let mut frame = Frame::default();
    let roi = Phantom { pallor, blur: 0, ..Phantom::from_seed(seed) }.render(480, 270, &mut frame);
    RgbaImage::from_fn(roi.width() as u32, roi.height() as u32, |x, y| {
        let (x, y) = (roi.x() + x as usize, roi.y() + y as usize);
        if roi.contains(x, y) {
            let [r, g, b] = frame.pixel(x, y);
            Rgba([r, g, b, 255])
        } else {
            Rgba([0; 4])
        }
    })
}

/// A disk of our own that can be full.
pub struct SmallDisk {
    pub folder: tempfile::TempDir,
}

impl SmallDisk {
    /// A disk of so many MiB, or `None` with a line that says so: mounting needs rights.
    pub fn mount(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        let size = format!("size={mebibytes}m");
        command.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).stderr(Stdio::null());
        if command.status().is_ok_and(|status| status.success()) {
            return Some(Self { folder });
        }
        skipped("no right to mount a small disk");
        None
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }

    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
    }

    pub fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).status();
    }
}
