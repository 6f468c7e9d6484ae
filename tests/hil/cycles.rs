//! On the kiosk itself: opens a camera again and again in one process, and looks at what is left.

use std::fs;

use anemia_vision::Frame;
use anemiad::capture::{self, Grab};
use anemiad::config;
use anemiad::stop::Stop;
use anyhow::{Context, Result, bail};

/// Open files, mapped memory areas, and resident memory in kB.
fn footprint() -> Result<[u64; 3]> {
    let files = fs::read_dir("/proc/self/fd")?.count() as u64;
    let areas = fs::read_to_string("/proc/self/maps")?.lines().count() as u64;
    let status = fs::read_to_string("/proc/self/status")?;
    let memory =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    Ok([files, areas, memory.context("VmRSS is not told")?])
}

/// Opens the device `count` times and takes a frame each time.
pub fn open_often(device: &str, count: u32) -> Result<()> {
    let camera = config::Camera { v4l: Some(config::V4lCamera::of(device)), ..config::Camera::default() };
    let mut frame = Frame::default();
    let mut cycle = || -> Result<()> {
        let mut camera = capture::open(&camera)?;
        match camera.grab(&mut frame, &Stop::new())? {
            Grab::Frame { .. } => Ok(()),
            other => bail!("{other:?} instead of a frame"),
        }
    };
    for _ in 0..20.min(count) {
        cycle()?;
    }
    let before = footprint()?;
    for _ in 0..count {
        cycle()?;
    }
    let after = footprint()?;
    println!("files, areas, kB: {before:?} before, {after:?} after {count} times");
    if after[0] > before[0] || after[1] > before[1] + 2 || after[2] > before[2] + 2048 {
        bail!("something is left behind");
    }
    println!("nothing is left behind");
    Ok(())
}
