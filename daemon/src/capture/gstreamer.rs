//! Whatever GStreamer can open.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use ::gstreamer as gst;
use anemia_vision::{Frame, RawFormat, RawPicture, RawReader, YuvColour, YuvMatrix};
use gst::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks};
use gstreamer_video::{
    VideoCapsBuilder, VideoColorMatrix, VideoColorRange, VideoFormat, VideoFrameExt, VideoFrameRef, VideoInfo,
};

use super::{Camera, CameraError, Grab};
use crate::config;
use crate::stop::Stop;

/// What the sink takes, the best first.
const FORMATS: [(VideoFormat, RawFormat); 6] = [
    (VideoFormat::Rgb, RawFormat::Rgb),
    (VideoFormat::Bgr, RawFormat::Bgr),
    (VideoFormat::Bgrx, RawFormat::Bgrx),
    (VideoFormat::Nv12, RawFormat::Nv12),
    (VideoFormat::Yuy2, RawFormat::Yuyv),
    (VideoFormat::Gray8, RawFormat::Grey),
];

/// How long a pipeline may take to start, and to its first frame: a network camera, or Argus after a restart.
const START: Duration = Duration::from_secs(5);
const FIRST: Duration = Duration::from_secs(10);
/// A camera that gives nothing for so long has stopped.
const SILENCE: Duration = Duration::from_secs(3);
/// How long the end of the stream may take to arrive, and the whole stop.
const END: gst::ClockTime = gst::ClockTime::from_mseconds(500);
const STOP: Duration = Duration::from_millis(1500);
/// How often a wait looks whether it is still wanted.
const TICK: Duration = Duration::from_millis(100);

/// The newest frame, and how many before it nobody fetched. (The sink can drop, too, and does not count.)
#[derive(Default)]
struct Newest {
    state: Mutex<(Option<gst::Sample>, u32)>,
    arrived: Condvar,
}

impl Newest {
    fn put(&self, sample: gst::Sample) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 += u32::from(state.0.replace(sample).is_some());
        drop(state);
        self.arrived.notify_one();
    }

    /// Waits for a frame for a moment.
    fn take(&self) -> Option<(gst::Sample, u32)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_empty = |state: &mut (Option<gst::Sample>, u32)| state.0.is_none();
        let (mut state, _) =
            self.arrived.wait_timeout_while(state, TICK, is_empty).unwrap_or_else(PoisonError::into_inner);
        Some((state.0.take()?, std::mem::take(&mut state.1)))
    }
}

/// A pipeline that plays.
pub(super) struct GstreamerCamera {
    pipeline: gst::Pipeline,
    sink: AppSink,
    description: String,
    newest: Arc<Newest>,
    is_live: bool,
    info: Option<VideoInfo>,
    caps: Option<gst::Caps>,
    reader: RawReader,
    last: Instant,
}

impl GstreamerCamera {
    pub(super) fn open(settings: &config::GstreamerCamera) -> Result<Self, CameraError> {
        let wrong = |text: String| CameraError(format!("GStreamer: {text}"));
        gst::init().map_err(|error| wrong(error.to_string()))?;
        let description = format!("{} ! appsink name=anemiad", settings.pipeline);
        let flags = gst::ParseFlags::FATAL_ERRORS;
        let pipeline = gst::parse::launch_full(&description, None, flags)
            .map_err(|error| wrong(format!("camera.gstreamer.pipeline: {}", without_passwords(error.message()))))?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| wrong("it is no pipeline".into()))?;
        let sink = pipeline.by_name("anemiad").and_then(|sink| sink.downcast::<AppSink>().ok());
        let sink = sink.ok_or_else(|| wrong("the pipeline has lost its sink".into()))?;
        let formats = FORMATS.map(|(format, _)| format);
        sink.set_caps(Some(&VideoCapsBuilder::new().format_list(formats).build()));
        // No waiting for a first frame while it starts: in that state, a source that fails keeps everything locked.
        sink.set_async(false);
        let newest = Arc::new(Newest::default());
        let to = newest.clone();
        let put = move |sink: &AppSink| {
            to.put(sink.pull_sample().map_err(|_| gst::FlowError::Eos)?);
            Ok(gst::FlowSuccess::Ok)
        };
        sink.set_callbacks(AppSinkCallbacks::builder().new_sample(put).build());
        let camera = Self {
            is_live: false,
            info: None,
            caps: None,
            reader: RawReader::new(),
            last: Instant::now(),
            description: settings.pipeline.clone(),
            pipeline,
            sink,
            newest,
        };
        camera.start()
    }

    fn start(mut self) -> Result<Self, CameraError> {
        let (pipeline, sink) = (self.pipeline.clone(), self.sink.clone());
        let started = in_time(START, "to start", move || {
            let paused = pipeline.set_state(gst::State::Paused)?;
            // A camera has its own time; a film is played in ours.
            let is_live = paused == gst::StateChangeSuccess::NoPreroll;
            sink.set_sync(!is_live);
            pipeline.set_state(gst::State::Playing).map(|_| is_live)
        })?;
        // The cause is on the bus.
        self.is_live =
            started.map_err(|_| self.fault().unwrap_or_else(|| CameraError("GStreamer: it does not start".into())))?;
        self.last = Instant::now();
        Ok(self)
    }

    /// Whether the pictures can be wound back. Those of a camera on the network cannot, and not every source of them says
    /// that it is live.
    fn is_film(&self) -> bool {
        let can_seek = |format| {
            let mut query = gst::query::Seeking::new(format);
            self.pipeline.query(&mut query) && query.result().0
        };
        !self.is_live && (can_seek(gst::Format::Time) || can_seek(gst::Format::Bytes))
    }

    /// An error that an element told.
    fn fault(&self) -> Option<CameraError> {
        let message = self.pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
        let gst::MessageView::Error(error) = message.view() else { return None };
        let element = error.src().map_or_else(|| "pipeline".into(), |source| source.name().to_string());
        // GStreamer's own file and line come first, the cause last.
        let more = error.debug().and_then(|debug| debug.lines().last().map(str::to_owned)).unwrap_or_default();
        let text = format!("GStreamer: {element}: {} ({more})", error.error().message());
        Some(CameraError(without_passwords(&text)))
    }

    /// The newest frame, and how many were missed before it; `None` at the end, or when a stop was requested.
    fn wait(&self, stop: &Stop) -> Result<Option<(gst::Sample, u32)>, CameraError> {
        let patience = if self.info.is_none() { FIRST } else { SILENCE };
        while !stop.is_requested() {
            let found = self.newest.take();
            // Also when frames come: what is not an error goes from the bus by this, and would pile up there.
            if let Some(fault) = self.fault() {
                return Err(fault);
            }
            if found.is_some() {
                return Ok(found);
            }
            if self.sink.is_eos() {
                // A film ends; a camera that does so was unplugged, or its server was stopped.
                return if self.is_film() { Ok(None) } else { Err(CameraError("GStreamer: the stream ended".into())) };
            }
            if self.last.elapsed() >= patience {
                return Err(CameraError(format!("GStreamer: no frame for {} s", patience.as_secs())));
            }
        }
        Ok(None)
    }

    /// Takes over the format when it is new.
    fn follow(&mut self, sample: &gst::Sample) -> Result<(), CameraError> {
        let caps = sample.caps().ok_or_else(|| CameraError("GStreamer: a frame without a format".into()))?;
        if self.caps.as_ref().is_some_and(|known| known.as_ref() == caps) {
            return Ok(());
        }
        let info = VideoInfo::from_caps(caps).map_err(|error| CameraError(format!("GStreamer: {error}")))?;
        let kind = if self.is_live { "live" } else { "not live" };
        tracing::info!("camera: {}×{} {}, {kind}", info.width(), info.height(), info.format());
        (self.caps, self.info) = (Some(caps.to_owned()), Some(info));
        Ok(())
    }

    /// When a frame was taken: by its time stamp where the source is a camera.
    fn taken(&self, sample: &gst::Sample, now: Instant) -> Instant {
        let running = || {
            let time = sample.buffer()?.pts()?;
            let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
            self.pipeline.current_running_time()?.checked_sub(segment.to_running_time(time)?)
        };
        let age = if self.is_live { running() } else { None };
        age.and_then(|age| now.checked_sub(age.into())).unwrap_or(now)
    }
}

impl Camera for GstreamerCamera {
    fn describe(&self) -> String {
        format!("GStreamer: {}", without_passwords(&self.description))
    }

    fn grab(&mut self, frame: &mut Frame, stop: &Stop) -> Result<Grab, CameraError> {
        let Some((sample, missed)) = self.wait(stop)? else { return Ok(Grab::Ended) };
        self.last = Instant::now();
        self.follow(&sample)?;
        let at = self.taken(&sample, self.last);
        let (Some(buffer), Some(info)) = (sample.buffer(), &self.info) else {
            return Ok(Grab::Damaged("a frame without pixels".into()));
        };
        // Mapped where it is, and converted from there: the frame is written once.
        let Ok(mapped) = VideoFrameRef::from_buffer_ref_readable(buffer, info) else {
            return Ok(Grab::Damaged("its memory cannot be read".into()));
        };
        Ok(match picture(&mapped).map(|picture| self.reader.read(&picture, frame)) {
            Some(Ok(())) => Grab::Frame { at, missed },
            Some(Err(error)) => Grab::Damaged(error.to_string()),
            None => Grab::Damaged(format!("{} cannot be read", mapped.format())),
        })
    }

    fn hold(&mut self, hold: bool) {
        // Exposure and white balance of NVIDIA's camera source.
        for element in self.pipeline.iterate_recurse().into_iter().flatten() {
            for lock in ["aelock", "awblock"] {
                if element.find_property(lock).is_some_and(|lock| lock.value_type() == bool::static_type()) {
                    element.set_property(lock, hold);
                }
            }
        }
    }
}

impl Drop for GstreamerCamera {
    /// The end of the stream first, and then the state NULL: a camera source that is just dropped leaves Argus wedged.
    fn drop(&mut self) {
        let pipeline = self.pipeline.clone();
        // What never gave a frame can hang in the sending, and has nothing to end.
        let has_played = self.info.is_some();
        let stopped = in_time(STOP, "to stop", move || {
            if has_played
                && pipeline.send_event(gst::event::Eos::new())
                && let Some(bus) = pipeline.bus()
            {
                bus.timed_pop_filtered(END, &[gst::MessageType::Eos, gst::MessageType::Error]);
            }
            pipeline.set_state(gst::State::Null)
        });
        match stopped {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!("camera: GStreamer does not stop cleanly: {error}"),
            Err(error) => {
                tracing::error!("camera: {error}");
                // What still plays must not be freed.
                std::mem::forget(self.pipeline.clone());
            }
        }
    }
}

/// Properties of elements that hold a secret.
const SECRETS: [&str; 5] = ["user-pw", "proxy-pw", "passphrase", "password", "secret"];

/// The text without what stands before the `@` of an address, and without the values of secrets: it goes to the log and to the
/// broker.
fn without_passwords(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || c == '"' || c == '\'';
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // A password may hold a slash; what is hidden too much does no harm.
        let (address, rest) = part.split_at(part.find(ends).unwrap_or(part.len()));
        shown.push_str("://");
        shown.push_str(address.rsplit('@').next().unwrap_or(address));
        shown.push_str(rest);
    }
    SECRETS.iter().fold(shown, |text, name| without_value(&text, name))
}

/// The text with `…` for the values of a property, as `gst-launch` writes them: `name=value`, `name = "a value"`.
fn without_value(text: &str, name: &str) -> String {
    let mut pieces = text.split(name);
    let mut shown = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        shown.push_str(name);
        let Some(value) = piece.trim_start().strip_prefix('=').map(str::trim_start) else {
            shown.push_str(piece);
            continue;
        };
        let end = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].find(quote).map(|end| end + 2),
            _ => value.find(char::is_whitespace),
        };
        shown.push_str("=…");
        shown.push_str(&value[end.unwrap_or(value.len())..]);
    }
    shown
}

/// The planes of a mapped frame.
fn picture<'a>(mapped: &'a VideoFrameRef<&'a gst::BufferRef>) -> Option<RawPicture<'a>> {
    let (_, format) = *FORMATS.iter().find(|(format, _)| *format == mapped.format())?;
    let plane = |index: u32| {
        let stride = *mapped.plane_stride().get(index as usize)?;
        Some((mapped.plane_data(index).ok()?, usize::try_from(stride).ok()?))
    };
    let first = plane(0)?;
    Some(RawPicture {
        format,
        size: (mapped.width() as usize, mapped.height() as usize),
        colour: colour(mapped.info()),
        planes: [first, plane(1).unwrap_or((&[], 0))],
    })
}

fn colour(info: &VideoInfo) -> YuvColour {
    let colorimetry = info.colorimetry();
    let matrix = match colorimetry.matrix() {
        VideoColorMatrix::Bt709 => YuvMatrix::Bt709,
        VideoColorMatrix::Bt2020 => YuvMatrix::Bt2020,
        _ => YuvMatrix::Bt601,
    };
    YuvColour { matrix, full_range: colorimetry.range() == VideoColorRange::Range0_255 }
}

/// Calls that did not come back.
static STUCK: AtomicUsize = AtomicUsize::new(0);

/// Does something that hangs for ever when Argus is wedged. What hangs is left behind in its thread, and until it comes back
/// nothing else is begun.
fn in_time<T: Send + 'static>(
    limit: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CameraError> {
    if STUCK.load(Ordering::SeqCst) > 0 {
        return Err(CameraError("GStreamer: it still hangs in an earlier call".into()));
    }
    let (done, outcome) = mpsc::channel();
    let is_left = Arc::new(AtomicBool::new(false));
    let left = is_left.clone();
    let thread = std::thread::Builder::new().name("gstreamer".into()).spawn(move || {
        // Nobody may be waiting any more.
        let _ = done.send(work());
        if left.swap(true, Ordering::SeqCst) {
            STUCK.fetch_sub(1, Ordering::SeqCst);
        }
    });
    thread.map_err(|error| CameraError(format!("GStreamer: no thread {what}: {error}")))?;
    outcome.recv_timeout(limit).map_err(|_| {
        // Whoever of the two comes second knows that the other was here: the call is stuck only while it has not ended.
        STUCK.fetch_add(1, Ordering::SeqCst);
        if is_left.swap(true, Ordering::SeqCst) {
            STUCK.fetch_sub(1, Ordering::SeqCst);
        }
        CameraError(format!("GStreamer: it took more than {} s {what}", limit.as_secs_f32()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_not_told() {
        let text = "rtspsrc location=rtsp://user:secret@10.0.0.7:554/live latency=0 ! decodebin";
        assert_eq!(without_passwords(text), "rtspsrc location=rtsp://10.0.0.7:554/live latency=0 ! decodebin");
        assert_eq!(without_passwords("a://b@c"), "a://c");
        assert_eq!(without_passwords("v4l2src ! queue"), "v4l2src ! queue");
        assert_eq!(without_passwords("src location=\"rtsp://a:b/c@d/e\" x"), "src location=\"rtsp://d/e\" x");
        let given = "rtspsrc user-id=a user-pw=b proxy-pw = 'c d' ! srtsrc passphrase=\"e f\" ! x password=";
        let told = "rtspsrc user-id=a user-pw=… proxy-pw=… ! srtsrc passphrase=… ! x password=…";
        assert_eq!(without_passwords(given), told);
        assert_eq!(without_passwords("no such property \"user-pw\""), "no such property \"user-pw\"");
    }

    #[test]
    fn what_hangs_is_left_behind_and_nothing_is_begun_until_it_comes_back() {
        let (release, wait) = mpsc::channel::<()>();
        let moment = Duration::from_millis(50);
        let hangs = in_time(moment, "to hang", move || wait.recv());
        assert_eq!(hangs.unwrap_err().0, "GStreamer: it took more than 0.05 s to hang");
        assert_eq!(in_time(moment, "to go on", || ()).unwrap_err().0, "GStreamer: it still hangs in an earlier call");
        release.send(()).unwrap();
        let start = Instant::now();
        while in_time(Duration::from_secs(5), "to go on", || ()).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "it came back, and nothing goes on");
            std::thread::sleep(moment);
        }
    }
}
