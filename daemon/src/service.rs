//! The daemon put together: one thread owns the camera, one owns pixels and network, and the tokio runtime owns the
//! disk, the broker and the signals.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anemia_engine::{EngineError, Follow};
use anemia_vision::Rejection;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::board::{Board, EngineStatus};
use crate::capture::CameraThread;
use crate::config::Config;
use crate::exam::{Exam, Phase};
use crate::pipeline::Pipeline;
use crate::publish::{Link, Outbox, keep};
use crate::records::{Finished, Notes, Records};
use crate::report::ExamResult;
use crate::slot::{Slot, Taken};
use crate::stop::Stop;

/// How long the parts of a stop may take, one after the other: the exam in hand, the disk, the broker, and twice a
/// little for what should end at once. Together less than the 5 seconds that a stop takes at most.
const EXAM_PATIENCE: Duration = Duration::from_millis(2700);
const DISK_PATIENCE: Duration = Duration::from_millis(600);
pub(crate) const BROKER_PATIENCE: Duration = Duration::from_millis(600);
const GRACE: Duration = Duration::from_millis(300);
/// How long the camera may take to end, beside disk and broker: GStreamer ends its stream first.
const CAMERA_PATIENCE: Duration = Duration::from_millis(1800);
/// How often the pixel thread looks at the clock when no frames come.
const TICK: Duration = Duration::from_millis(50);
/// Inferences that may fail one after the other. After an error such as an illegal access CUDA gives nothing but errors for as
/// long as the process lives: only a new one helps.
const FAILURES: u32 = 50;
/// Finished exams that may wait for the disk.
const UNSAVED: usize = 64;

/// A configuration whose bundle, network and outbox are opened and proven: it can be started without failing.
pub struct Prepared {
    config: Config,
    pipeline: Pipeline,
    outbox: Arc<Outbox>,
    waiting: u64,
}

/// Why a configuration cannot be started. The text is one line.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The configuration, or a file that it names, must be mended by a person: exit code 78.
    #[error("{0}")]
    Configuration(String),
    /// Something that may be better the next time: exit code 1.
    #[error("{0}")]
    Failure(String),
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        if error.may_pass() { Self::Failure(error.to_string()) } else { Self::Configuration(error.to_string()) }
    }
}

/// A configuration whose outbox is open: what comes before the network, which can take minutes.
pub struct Opened {
    config: Config,
    outbox: Arc<Outbox>,
}

impl Opened {
    /// Opens the outbox. `current` is that of a daemon that is already running here.
    pub fn new(config: Config, current: Option<&Arc<Outbox>>) -> Result<Self, Refusal> {
        let outbox = match current {
            Some(outbox) if outbox.is_in(&config.state_dir) => outbox.clone(),
            // Results in the old folder would be forgotten without a word.
            Some(_) => return Err(Refusal::Configuration("state_dir: another folder needs a restart".into())),
            None => Arc::new(Outbox::open(&config.state_dir).map_err(|error| Refusal::Failure(error.to_string()))?),
        };
        Ok(Self { config, outbox })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Results that wait for the broker; 0 where the disk does not tell.
    pub fn waiting(&self) -> u64 {
        self.outbox.len().unwrap_or(0)
    }

    /// A connection to the broker for this configuration.
    pub fn link(&self, board: Arc<Board>, stored: Arc<Notify>) -> Link {
        link(&self.config, &self.outbox, board, stored)
    }

    /// Loads the network. `follow` is told how far the build of a plan is, and stops it with `false`.
    pub fn load(self, follow: &mut Follow<'_>) -> Result<Prepared, Refusal> {
        let Self { config, outbox } = self;
        let pipeline = Pipeline::open(&config.parts(), follow)?;
        // Counted here, where waiting for a slow disk holds up nothing.
        let waiting = outbox.len().map_err(|error| Refusal::Failure(error.to_string()))?;
        Ok(Prepared { config, pipeline, outbox, waiting })
    }
}

fn link(config: &Config, outbox: &Arc<Outbox>, board: Arc<Board>, stored: Arc<Notify>) -> Link {
    let (settings, device_id) = (config.mqtt.clone(), config.device_id.clone());
    Link { settings, device_id, outbox: outbox.clone(), board, stored }
}

/// A running daemon.
pub struct Running {
    config: Config,
    board: Arc<Board>,
    outbox: Arc<Outbox>,
    slot: Arc<Slot>,
    camera_stop: Arc<Stop>,
    drain: Arc<Stop>,
    close: watch::Sender<bool>,
    camera: JoinHandle<()>,
    pixels: JoinHandle<()>,
    pixels_ended: oneshot::Receiver<()>,
    keeper: tokio::task::JoinHandle<()>,
    link: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Starts all threads and tasks. To be called in a tokio runtime.
    ///
    /// `patient_done`: a patient may be in view who has a result already, and must leave before the next exam.
    pub fn start(prepared: Prepared, patient_done: bool) -> std::io::Result<Self> {
        let Prepared { config, pipeline, outbox, waiting } = prepared;
        let board = Arc::new(Board::new(pipeline.identity().clone()));
        let (slot, camera_stop, drain) = (Arc::new(Slot::new()), Arc::new(Stop::new()), Arc::new(Stop::new()));
        let (exams_in, exams_out) = mpsc::channel(UNSAVED);
        let (alive, pixels_ended) = oneshot::channel();
        let (close, close_seen) = watch::channel(false);
        let stored = Arc::new(Notify::new());
        board.outbox(waiting);

        let records = Records::new(&config.state_dir, config.records);
        let pixel_thread = PixelThread {
            exam: Exam::new(config.exam, pipeline.operating_point(), patient_done),
            pipeline,
            slot: slot.clone(),
            board: board.clone(),
            drain: drain.clone(),
            exams: exams_in,
            notes: Notes::default(),
            with_cutouts: records.with_cutouts(),
            device_id: config.device_id.clone(),
            late: config.health.late_frame(),
        };
        let pixels = std::thread::Builder::new().name("pixels".into()).spawn(move || {
            // Dropped when the thread ends, also by a panic: the receiver notices.
            let _alive: oneshot::Sender<()> = alive;
            pixel_thread.run();
        })?;
        let camera = CameraThread {
            camera: config.camera.clone(),
            late: config.health.late_frame(),
            state_dir: config.state_dir.clone(),
            slot: slot.clone(),
            board: board.clone(),
            stop: camera_stop.clone(),
        };
        let camera = camera.start()?;
        let keeper = tokio::spawn(keep(exams_out, outbox.clone(), records, board.clone(), stored.clone()));
        let link = link(&config, &outbox, board.clone(), stored);
        let link = tokio::spawn(link.run(close_seen, BROKER_PATIENCE));
        Ok(Self { config, board, outbox, slot, camera_stop, drain, close, camera, pixels, pixels_ended, keeper, link })
    }

    /// What the daemon is doing.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Whether the daemon does what it should, see [`Board::is_healthy`].
    pub fn is_healthy(&self) -> bool {
        self.board.is_healthy(Duration::from_secs_f64(self.config.health.stale_frame_s))
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The results that wait.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Frames that nobody looked at, because a newer one was there.
    pub fn dropped(&self) -> u64 {
        self.slot.dropped()
    }

    /// Waits until a part of the daemon ends that should not, and names it.
    pub async fn broken(&self) -> &'static str {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let parts = [
                ("the pixel thread", self.pixels.is_finished()),
                ("the camera thread", self.camera.is_finished()),
                ("the keeper of the results", self.keeper.is_finished()),
                ("the link to the broker", self.link.is_finished()),
            ];
            if let Some((name, _)) = parts.into_iter().find(|(_, finished)| *finished) {
                return name;
            }
        }
    }

    /// Stops in the order of the data: the exam in hand ends or times out, its result is written and sent.
    ///
    /// Takes at most 5 seconds; what hangs longer is left behind and logged. Says whether a patient is in view who
    /// has a result already.
    pub async fn finish(self) -> bool {
        self.drain.request();
        if timeout(EXAM_PATIENCE, self.pixels_ended).await.is_err() {
            tracing::warn!("the exam in hand did not end in time and is given up");
        }
        self.slot.close();
        self.camera_stop.request();
        let camera_end = Instant::now() + CAMERA_PATIENCE;
        // The pixel thread is the only sender: when it is gone, the keeper writes what is left and ends.
        if timeout(DISK_PATIENCE, self.keeper).await.is_err() {
            tracing::error!("finished results could not be written to disk in time");
        }
        let _ = self.close.send(true);
        if timeout(BROKER_PATIENCE + GRACE, self.link).await.is_err() {
            tracing::error!("the link to the broker did not end in time");
        }
        let threads =
            tokio::task::spawn_blocking(move || [("pixel", self.pixels.join()), ("camera", self.camera.join())]);
        match timeout(GRACE.max(camera_end.saturating_duration_since(Instant::now())), threads).await {
            Ok(Ok(ends)) => {
                for (name, _) in ends.into_iter().filter(|(_, end)| end.is_err()) {
                    tracing::error!("the {name} thread had panicked");
                }
            }
            _ => tracing::error!("a thread did not end in time"),
        }
        // Closing the outbox waits for the disk, too.
        let outbox = self.outbox;
        let _ = timeout(GRACE, tokio::task::spawn_blocking(move || drop(outbox))).await;
        let counts = self.board.counts();
        let dropped = self.slot.dropped();
        let crate::board::Counts { captured, analysed, missed, damaged, late, .. } = counts;
        tracing::info!(captured, analysed, dropped, missed, late, damaged, "stopped");
        self.board.watch().borrow().exam.phase == Phase::Result
    }
}

/// The thread that owns pixels, network and exam.
struct PixelThread {
    exam: Exam,
    pipeline: Pipeline,
    slot: Arc<Slot>,
    board: Arc<Board>,
    drain: Arc<Stop>,
    exams: mpsc::Sender<Finished>,
    notes: Notes,
    with_cutouts: bool,
    device_id: String,
    late: Duration,
}

impl PixelThread {
    fn run(mut self) {
        // A finished exam for which the keeper has no room yet.
        let mut unsent: Option<Finished> = None;
        let mut failures = 0;
        loop {
            let outcome = match self.slot.take(TICK) {
                Taken::Closed => {
                    if let Some(finished) = unsent {
                        let id = finished.result.id;
                        tracing::error!("result {id} is lost: the disk took nothing before the end");
                    }
                    return;
                }
                Taken::Nothing if self.board.is_camera_gone() => self.exam.see_nothing(Instant::now()),
                Taken::Nothing => self.exam.check_time(Instant::now()),
                Taken::Frame(frame, at) if at.elapsed() >= self.late => {
                    self.slot.give_back(frame);
                    self.board.late();
                    self.exam.check_time(Instant::now())
                }
                Taken::Frame(frame, at) => {
                    let now = Instant::now();
                    let analysis = self.pipeline.analyse(&frame, at);
                    self.slot.give_back(frame);
                    self.board.analysed(&analysis.times, analysis.outcome.is_ok());
                    if let Some(error) = &analysis.failure {
                        failures += u32::from(error.may_pass() && analysis.outcome == Err(Rejection::EngineFailed));
                        let is_news = self.board.engine(EngineStatus::Failing, &error.to_string());
                        if is_news {
                            tracing::error!("engine: {error}");
                        }
                    } else if analysis.outcome.is_ok() {
                        failures = 0;
                        self.board.engine(EngineStatus::Ready, "");
                    }
                    let collecting = self.exam.state().phase;
                    let cut = self.with_cutouts.then(|| self.pipeline.cutout());
                    self.notes.frame(&analysis, collecting, cut, now);
                    self.exam.observe(analysis.outcome, now)
                }
            };
            if let Some(outcome) = outcome {
                let result = ExamResult::new(&outcome, &self.device_id, &self.pipeline);
                unsent = Some(Finished { result, notes: std::mem::take(&mut self.notes) });
            }
            // Never waits for the disk: while it takes nothing more, frames are analysed and no exam starts.
            if let Some(finished) = unsent.take() {
                unsent = self.exams.try_send(finished).err().map(|full| full.into_inner());
            }
            self.board.exam(self.exam.state());
            let is_lost = failures >= FAILURES;
            let draining = self.drain.is_requested() || is_lost;
            self.exam.set_accepting(unsent.is_none() && !draining);
            if draining && !self.exam.in_hand() && unsent.is_none() {
                if is_lost {
                    tracing::error!("the engine failed {failures} times in a row; a new process has to try");
                }
                return;
            }
        }
    }
}
