//! The daemon put together: one thread owns the camera, one owns pixels and network, and the tokio runtime owns the
//! disk, the broker and the signals.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anemia_engine::EngineOptions;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::board::{Board, EngineStatus};
use crate::capture;
use crate::config::Config;
use crate::exam::Exam;
use crate::pipeline::Pipeline;
use crate::publish::{Farewell, Link, Outbox, keep};
use crate::report::ExamResult;
use crate::slot::{Slot, Taken};
use crate::stop::Stop;

/// How long an exam in hand may go on after the daemon was asked to stop, and how long the broker may then take.
/// Together they are the 5 seconds that a stop takes at most.
const EXAM_PATIENCE: Duration = Duration::from_millis(3800);
const BROKER_PATIENCE: Duration = Duration::from_millis(1000);
/// How often the pixel thread looks at the clock when no frames come.
const TICK: Duration = Duration::from_millis(50);
/// Finished exams that may wait for the disk.
const UNSAVED: usize = 64;

/// A configuration whose bundle, network and outbox are opened and proven: it can be started without failing.
pub struct Prepared {
    config: Config,
    pipeline: Pipeline,
    outbox: Arc<Outbox>,
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

impl Prepared {
    /// Opens everything that `config` names. `current` is the outbox of a daemon that is already running here.
    pub fn new(config: Config, current: Option<&Arc<Outbox>>) -> Result<Self, Refusal> {
        let model = &config.model;
        let options = EngineOptions { library: model.onnxruntime.clone(), threads: model.threads.into() };
        let limits = config.quality.thresholds();
        let pipeline = Pipeline::open(&model.bundle, model.precision, &options, config.roi, limits)
            .map_err(|error| Refusal::Configuration(error.to_string()))?;
        let outbox = match current {
            Some(outbox) if outbox.is_in(&config.state_dir) => outbox.clone(),
            _ => Arc::new(Outbox::open(&config.state_dir).map_err(|error| Refusal::Failure(error.to_string()))?),
        };
        Ok(Self { config, pipeline, outbox })
    }
}

/// A running daemon.
pub struct Running {
    config: Config,
    board: Arc<Board>,
    outbox: Arc<Outbox>,
    slot: Arc<Slot>,
    camera_stop: Arc<Stop>,
    drain: Arc<Stop>,
    close: watch::Sender<Option<Farewell>>,
    camera: JoinHandle<()>,
    pixels: JoinHandle<()>,
    pixels_ended: oneshot::Receiver<()>,
    keeper: tokio::task::JoinHandle<()>,
    link: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Starts all threads and tasks. To be called in a tokio runtime.
    pub fn start(prepared: Prepared) -> std::io::Result<Self> {
        let Prepared { config, pipeline, outbox } = prepared;
        let board = Arc::new(Board::new(pipeline.identity().clone()));
        let (slot, camera_stop, drain) = (Arc::new(Slot::new()), Arc::new(Stop::new()), Arc::new(Stop::new()));
        let (results_in, results_out) = mpsc::channel(UNSAVED);
        let (alive, pixels_ended) = oneshot::channel();
        let (close, close_seen) = watch::channel(None);
        let stored = Arc::new(Notify::new());
        if let Ok(waiting) = outbox.len() {
            board.outbox(waiting, "");
        }

        let pixel_thread = PixelThread {
            exam: Exam::new(config.exam, pipeline.operating_point()),
            pipeline,
            slot: slot.clone(),
            board: board.clone(),
            drain: drain.clone(),
            results: results_in,
            device_id: config.device_id.clone(),
        };
        let pixels = std::thread::Builder::new().name("pixels".into()).spawn(move || {
            // Dropped when the thread ends, also by a panic: the receiver notices.
            let _alive: oneshot::Sender<()> = alive;
            pixel_thread.run();
        })?;
        let camera = capture::start(config.camera.clone(), slot.clone(), board.clone(), camera_stop.clone())?;
        let keeper = tokio::spawn(keep(results_out, outbox.clone(), board.clone(), stored.clone()));
        let link = Link {
            settings: config.mqtt.clone(),
            device_id: config.device_id.clone(),
            outbox: outbox.clone(),
            board: board.clone(),
            stored,
        };
        let link = tokio::spawn(link.run(close_seen, BROKER_PATIENCE));
        Ok(Self { config, board, outbox, slot, camera_stop, drain, close, camera, pixels, pixels_ended, keeper, link })
    }

    /// What the daemon is doing.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
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
    pub async fn broken(&mut self) -> &'static str {
        tokio::select! {
            _ = &mut self.pixels_ended => "the pixel thread ended",
            _ = &mut self.keeper => "the keeper of the results ended",
            _ = &mut self.link => "the link to the broker ended",
            () = thread_end(&self.camera) => "the camera thread ended",
        }
    }

    /// Stops in the order of the data: the exam in hand ends or times out, its result is written and sent.
    pub async fn finish(self, farewell: Farewell) {
        self.drain.request();
        if tokio::time::timeout(EXAM_PATIENCE, self.pixels_ended).await.is_err() {
            tracing::warn!("the exam in hand did not end in time and is given up");
        }
        self.slot.close();
        self.camera_stop.request();
        let threads =
            tokio::task::spawn_blocking(move || [("pixels", self.pixels.join()), ("camera", self.camera.join())]);
        match threads.await {
            Ok(ends) => ends.into_iter().filter(|(_, end)| end.is_err()).for_each(|(name, _)| {
                tracing::error!("the {name} thread had panicked");
            }),
            Err(error) => tracing::error!("the threads could not be joined: {error}"),
        }
        // The pixel thread is gone and with it the only sender: the keeper writes what is left and ends.
        if tokio::time::timeout(BROKER_PATIENCE, self.keeper).await.is_err() {
            tracing::error!("a finished result could not be written to disk before the end");
        }
        let _ = self.close.send(Some(farewell));
        let _ = self.link.await;
        let counts = self.board.counts();
        tracing::info!(
            captured = counts.captured,
            analysed = counts.analysed,
            dropped = self.slot.dropped(),
            "stopped"
        );
    }
}

async fn thread_end(thread: &JoinHandle<()>) {
    while !thread.is_finished() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The thread that owns pixels, network and exam.
struct PixelThread {
    exam: Exam,
    pipeline: Pipeline,
    slot: Arc<Slot>,
    board: Arc<Board>,
    drain: Arc<Stop>,
    results: mpsc::Sender<ExamResult>,
    device_id: String,
}

impl PixelThread {
    fn run(mut self) {
        loop {
            let outcome = match self.slot.take(TICK) {
                Taken::Closed => return,
                Taken::Nothing => self.exam.check_time(Instant::now()),
                Taken::Frame(frame) => {
                    let analysis = self.pipeline.analyse(&frame);
                    self.slot.give_back(frame);
                    self.board.analysed(&analysis.times, analysis.times.inference > Duration::ZERO);
                    match &analysis.failure {
                        Some(error) => self.board.engine(EngineStatus::Failing, &error.to_string()),
                        None if analysis.outcome.is_ok() => self.board.engine(EngineStatus::Ready, ""),
                        None => {}
                    }
                    self.exam.observe(analysis.outcome, Instant::now())
                }
            };
            if let Some(outcome) = outcome {
                let result = ExamResult::new(&outcome, &self.device_id, self.pipeline.identity());
                if self.results.blocking_send(result).is_err() {
                    return;
                }
            }
            self.board.exam(self.exam.state());
            if self.drain.is_requested() {
                self.exam.accept_no_more();
                if !self.exam.in_hand() {
                    return;
                }
            }
        }
    }
}
