//! Cameras of Linux (V4L2, Video for Linux), through the crate `v4l`.

mod colour;
mod controls;
mod find;
mod formats;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::v4l::buffer::{Flags, Metadata, Type};
use ::v4l::capability;
use ::v4l::device::Device;
use ::v4l::io::mmap::Stream;
use ::v4l::io::traits::{CaptureStream, Stream as _};
use ::v4l::video::Capture;
use ::v4l::video::capture::Parameters;
use anemia_vision::{Frame, RawFormat, RawPicture, RawReader, YuvColour};
use rustix::time::{ClockId, clock_gettime};

pub use self::controls::{Control, controls};
pub use self::find::{Found, list};
pub use self::formats::{Offer, offers};

use self::controls::Held;
use self::formats::Wish;
use super::{Camera, CameraError, Grab};
use crate::config;
use crate::stop::Stop;

/// Buffers that the driver fills in turn: one is being read, one is being written, and two are for a thread that comes late.
const BUFFERS: u32 = 4;
/// A camera that gives nothing for so long, or for ten of its frames, has stopped. Some need two seconds for the first one.
const SILENCE: Duration = Duration::from_secs(3);
/// How often a wait looks whether it is still wanted.
const TICK: i32 = 100;

/// A camera that streams.
pub struct V4lCamera {
    // Before the device: whoever keeps a buffer mapped keeps the device itself, which then comes back under another number.
    stream: Stream<'static>,
    device: Device,
    path: PathBuf,
    layout: Layout,
    rate_hz: Option<f64>,
    silence: Duration,
    reader: RawReader,
    held: Held,
    sequence: Option<u32>,
    last: Instant,
}

/// How pictures lie in a buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Layout {
    format: RawFormat,
    size: (usize, usize),
    stride: usize,
    colour: YuvColour,
}

impl V4lCamera {
    /// Opens the device, agrees on a format and starts the stream.
    pub fn open(settings: &config::V4lCamera) -> Result<Self, CameraError> {
        let (path, device) = opened(settings)?;
        let failed = |what: &str, error: io::Error| CameraError(explain(&path, what, &error));
        let wish = Wish {
            format: settings.format.fixed(),
            size: (settings.width, settings.height),
            rate_hz: settings.rate_hz,
        };
        let (layout, rate_hz) = agree(&device, &wish).map_err(|error| failed("set the format of", error))?;
        let held = Held::new(&device, settings);
        let mut stream = Stream::with_buffers(&device, Type::VideoCapture, BUFFERS)
            .map_err(|error| failed("get buffers from", error))?;
        start(&mut stream).map_err(|error| failed("start", error))?;
        let silence = rate_hz.map_or(SILENCE, |rate| SILENCE.max(Duration::from_secs_f64(10.0 / rate)));
        Ok(Self {
            stream,
            device,
            layout,
            rate_hz,
            silence,
            reader: RawReader::new(),
            held,
            sequence: None,
            last: Instant::now(),
            path,
        })
    }

    /// Waits for a picture; `false` when a stop was requested.
    fn wait(&self, stop: &Stop) -> Result<bool, CameraError> {
        while !stop.is_requested() {
            match self.device.handle().poll(libc::POLLIN, TICK) {
                Ok(0) if self.last.elapsed() >= self.silence => {
                    let text = format!("{}: no picture for {:.0} s", self.path.display(), self.silence.as_secs_f64());
                    return Err(CameraError(text));
                }
                Ok(0) => {}
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CameraError(explain(&self.path, "wait for", &error))),
            }
        }
        Ok(false)
    }
}

impl Camera for V4lCamera {
    fn describe(&self) -> String {
        let Layout { format, size: (width, height), colour, .. } = self.layout;
        let rate = self.rate_hz.map_or(String::new(), |rate| format!(" at {rate:.1} Hz"));
        let colour = match format {
            RawFormat::Yuyv | RawFormat::Nv12 => format!(", {colour}"),
            _ => String::new(),
        };
        let name = formats::name(format);
        format!("{}: {width}×{height} {name}{rate}{colour}; {}", self.path.display(), self.held)
    }

    fn grab(&mut self, frame: &mut Frame, stop: &Stop) -> Result<Grab, CameraError> {
        if !self.wait(stop)? {
            return Ok(Grab::Ended);
        }
        let handle = self.device.handle();
        let Self { stream, reader, layout, path, .. } = self;
        let mut newer = 0;
        loop {
            let (bytes, about) = stream.next().map_err(|error| CameraError(explain(path, "read from", &error)))?;
            // A thread that came late finds several pictures, and only the newest is of use.
            newer += 1;
            if newer < BUFFERS && matches!(handle.poll(libc::POLLIN, 0), Ok(1)) {
                continue;
            }
            let now = Instant::now();
            self.last = now;
            let missed = self.sequence.map_or(0, |last| about.sequence.wrapping_sub(last).saturating_sub(1));
            // A number that jumps further was set anew.
            let missed = if missed < 1 << 16 { missed } else { 0 };
            self.sequence = Some(about.sequence);
            if about.flags.contains(Flags::ERROR) {
                return Ok(Grab::Damaged("the driver says so".into()));
            }
            let filled = if about.bytesused == 0 { bytes.len() } else { bytes.len().min(about.bytesused as usize) };
            let picture =
                RawPicture::packed(layout.format, layout.size, layout.stride, layout.colour, &bytes[..filled]);
            return Ok(match picture.and_then(|picture| reader.read(&picture, frame)) {
                Ok(()) => Grab::Frame { at: taken(about, now), missed },
                Err(error) => Grab::Damaged(error.to_string()),
            });
        }
    }

    fn hold(&mut self, hold: bool) {
        self.held.hold(&self.device, hold);
    }
}

/// The configured device, to ask it about itself.
pub fn device(settings: &config::V4lCamera) -> Result<Device, CameraError> {
    opened(settings).map(|(_, device)| device)
}

/// The configured device and its path.
fn opened(settings: &config::V4lCamera) -> Result<(PathBuf, Device), CameraError> {
    let path = find::resolve(&settings.device).map_err(CameraError)?;
    let device = open_capture(&path).map_err(|error| CameraError(explain(&path, "open", &error)))?;
    Ok((path, device))
}

/// Opens a device that gives pictures.
fn open_capture(path: &Path) -> io::Result<Device> {
    let device = Device::with_path(path)?;
    let able = device.query_caps()?.capabilities;
    if !able.contains(capability::Flags::VIDEO_CAPTURE | capability::Flags::STREAMING) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it is no camera that streams"));
    }
    Ok(device)
}

/// Sets the format and the rate that are nearest to the wish, and says what the driver made of it.
fn agree(device: &Device, wish: &Wish) -> io::Result<(Layout, Option<f64>)> {
    let offers = offers(device)?;
    let Some(offer) = formats::choose(&offers, wish) else {
        let there = formats::names(device)?.join(", ");
        let wanted = wish.format.map_or("YUYV, NV12, MJPG, RGB3 or BGR3", formats::name);
        return Err(io::Error::other(format!("it offers {there}, and none of them is {wanted}")));
    };
    let (format, size) = (offer.format, offer.nearest(wish.size));
    let asked = ::v4l::Format {
        field_order: ::v4l::format::FieldOrder::Progressive,
        ..::v4l::Format::new(size.0, size.1, formats::fourcc(format))
    };
    let got = device.set_format(&asked)?;
    let format = formats::of(got.fourcc)
        .ok_or_else(|| io::Error::other(format!("the driver chose {}, which cannot be read", got.fourcc)))?;
    let size = (got.width as usize, got.height as usize);
    let layout = Layout { format, size, stride: got.stride as usize, colour: colour::of(device)? };
    // Not every driver has rates: then it keeps its own.
    let rate = device.set_params(&Parameters::with_fps(wish.rate_hz.round() as u32)).or_else(|_| device.params());
    let rate = rate.ok().map(|got| f64::from(got.interval.denominator) / f64::from(got.interval.numerator));
    Ok((layout, rate.filter(|rate| rate.is_finite() && *rate > 0.0)))
}

/// Starts the stream. The first buffer stays with us, as [`CaptureStream::next`] expects of a stream that runs.
fn start(stream: &mut Stream<'_>) -> io::Result<()> {
    CaptureStream::queue(stream, 1)?;
    // How many buffers there are is the driver's choice.
    for index in 2..32 {
        if CaptureStream::queue(stream, index).is_err() {
            break;
        }
    }
    stream.start()
}

/// When a picture was taken: by the driver, where it uses the clock that does not jump.
fn taken(about: &Metadata, now: Instant) -> Instant {
    if about.flags & Flags::TIMESTAMP_MASK != Flags::TIMESTAMP_MONOTONIC {
        return now;
    }
    let clock = clock_gettime(ClockId::Monotonic);
    let clock = Duration::new(clock.tv_sec.max(0) as u64, clock.tv_nsec.max(0) as u32);
    let taken = Duration::new(about.timestamp.sec.max(0) as u64, about.timestamp.usec.max(0) as u32 * 1000);
    now.checked_sub(clock.saturating_sub(taken)).unwrap_or(now)
}

/// What went wrong, and what to do about it.
fn explain(path: &Path, what: &str, error: &io::Error) -> String {
    let advice = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            " (is the camera plugged in? `anemiad camera list` shows what is there)"
        }
        // Also for a moment after it was plugged in, until udev has given it to the group.
        Some(libc::EACCES | libc::EPERM) => " (the user must be in the group video)",
        Some(libc::EBUSY) => " (another program uses it)",
        _ => "",
    };
    format!("{}: cannot {what} the camera: {error}{advice}", path.display())
}
