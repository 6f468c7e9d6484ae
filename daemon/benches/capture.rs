//! Pictures of cameras to RGB: here, in libyuv and in GStreamer's videoconvert, in one run; and what capturing costs.
// A bench whose stage cannot be set may panic.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use anemia_vision::{Frame, RawFormat, RawPicture, RawReader, YuvColour};
use anemiad::capture::{self, Grab};
use anemiad::config;
use anemiad::stop::Stop;
use gstreamer as gst;
use gstreamer::prelude::*;
use rustix::time::{ClockId, clock_gettime};

const SIZE: (usize, usize) = (1280, 720);
const ROUNDS: usize = 300;

/// The median time of a call in milliseconds.
fn median(mut call: impl FnMut()) -> f64 {
    (0..20).for_each(|_| call());
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn ours(format: RawFormat, bytes: &[u8]) -> f64 {
    let (mut reader, mut frame) = (RawReader::new(), Frame::default());
    let stride = format.row_bytes(SIZE.0);
    median(|| {
        let picture = RawPicture::packed(format, SIZE, stride, YuvColour::default(), bytes).unwrap();
        reader.read(&picture, &mut frame).unwrap();
    })
}

type Nv12ToRaw = unsafe extern "C" fn(*const u8, i32, *const u8, i32, *mut u8, i32, i32, i32) -> i32;
type PackedToPacked = unsafe extern "C" fn(*const u8, i32, *mut u8, i32, i32, i32) -> i32;

/// NV12 and YUYV in libyuv; it has no way from YUYV to RGB but through ARGB, which is gone row by row to stay in the cache.
#[allow(unsafe_code)]
fn libyuv(bytes: &[u8]) -> Option<(f64, f64)> {
    let (width, height) = SIZE;
    let (wide, high) = (width as i32, height as i32);
    let mut rgb = vec![0_u8; width * height * 3];
    let mut argb = vec![0_u8; width * 4];
    // SAFETY: a library of pure functions, whose initialisers do nothing; the types are those of its header `convert_argb.h`, and
    // every buffer is as long as size and strides say.
    unsafe {
        let library = libloading::Library::new("libyuv.so.0").ok()?;
        let nv12: libloading::Symbol<'_, Nv12ToRaw> = library.get(b"NV12ToRAW").ok()?;
        let yuyv: libloading::Symbol<'_, PackedToPacked> = library.get(b"YUY2ToARGB").ok()?;
        let raw: libloading::Symbol<'_, PackedToPacked> = library.get(b"ARGBToRAW").ok()?;
        let chroma = bytes[width * height..].as_ptr();
        let nv12 = median(|| {
            nv12(bytes.as_ptr(), wide, chroma, wide, rgb.as_mut_ptr(), 3 * wide, wide, high);
        });
        let yuyv = median(|| {
            for y in 0..height {
                yuyv(bytes[y * width * 2..].as_ptr(), 2 * wide, argb.as_mut_ptr(), 4 * wide, wide, 1);
                raw(argb.as_ptr(), 4 * wide, rgb[y * width * 3..].as_mut_ptr(), 3 * wide, wide, 1);
            }
        });
        Some((nv12, yuyv))
    }
}

/// The mean time of a frame in videoconvert, in milliseconds: one frozen picture goes through it again and again.
fn videoconvert(format: &str) -> f64 {
    let (width, height) = SIZE;
    let frames = 300;
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=1 pattern=snow ! video/x-raw,format={format},width={width},height={height},framerate=30/1 ! \
         imagefreeze num-buffers={frames} ! videoconvert n-threads=1 ! video/x-raw,format=RGB ! fakesink sync=false"
    ))
    .unwrap();
    let bus = pipeline.bus().unwrap();
    let start = Instant::now();
    pipeline.set_state(gst::State::Playing).unwrap();
    bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::Eos, gst::MessageType::Error]);
    let time = start.elapsed();
    pipeline.set_state(gst::State::Null).unwrap();
    time.as_secs_f64() * 1e3 / f64::from(frames)
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Capture and conversion of a live source at 30 Hz: processor time of the camera's thread a frame, the oldest frame, the missed.
fn capture(format: &str) -> (f64, f64, u32) {
    let (width, height) = SIZE;
    let pipeline =
        format!("videotestsrc is-live=true ! video/x-raw,format={format},width={width},height={height},framerate=30/1");
    let gstreamer = config::GstreamerCamera::of(&pipeline);
    let mut camera =
        capture::open(&config::Camera { gstreamer: Some(gstreamer), ..config::Camera::default() }).unwrap();
    let (mut frame, stop) = (Frame::default(), Stop::new());
    camera.grab(&mut frame, &stop).unwrap();
    let (start, mut oldest, mut all) = (thread_time(), Duration::ZERO, 0);
    let frames = 150;
    for _ in 0..frames {
        let Grab::Frame { at, missed } = camera.grab(&mut frame, &stop).unwrap() else { panic!("no frame") };
        oldest = oldest.max(at.elapsed());
        all += missed;
    }
    ((thread_time() - start).as_secs_f64() * 1e3 / f64::from(frames), oldest.as_secs_f64() * 1e3, all)
}

fn main() {
    gst::init().unwrap();
    let bytes: Vec<u8> = (0..SIZE.0 * SIZE.1 * 2).map(|index| (index * 7919 % 251) as u8).collect();
    println!("1280×720 to RGB, one thread, ms");
    println!("{:6} {:>8} {:>8} {:>13}", "", "here", "libyuv", "videoconvert");
    let peer = libyuv(&bytes);
    for (name, format, gst_name, peer) in [
        ("NV12", RawFormat::Nv12, "NV12", peer.map(|peer| peer.0)),
        ("YUYV", RawFormat::Yuyv, "YUY2", peer.map(|peer| peer.1)),
    ] {
        let (ours, convert) = (ours(format, &bytes), videoconvert(gst_name));
        let peer = peer.map_or("missing".into(), |peer| format!("{peer:.3}"));
        println!("{name:6} {ours:>8.3} {peer:>8} {convert:>13.3}");
    }
    println!("\nvideotestsrc, 1280×720 at 30 Hz, 150 frames: processor time of a frame, the oldest, the missed");
    for format in ["NV12", "YUY2", "RGB"] {
        let (time, oldest, missed) = capture(format);
        println!("{format:6} {time:.2} ms, {oldest:.1} ms, {missed}");
    }
}
