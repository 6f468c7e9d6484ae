//! The daemon put together: one thread owns the camera, one owns pixels and network, and the tokio runtime owns the
//! disk, the broker and the signals.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anemia_bundle::Task;
use anemia_engine::{EngineError, Follow};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;
use uuid::Uuid;

use crate::board::{Board, UpdateStatus};
use crate::capture::CameraThread;
use crate::commands::{Clerk, Open};
use crate::config::Config;
use crate::control::ExamControl;
use crate::exam::{Exam, Phase};
use crate::history::History;
use crate::kiosk::{self, Kiosk, Preview};
use crate::local;
use crate::metrics;
use crate::models::Slots;
use crate::pipeline::Pipeline;
use crate::pixels::{Failing, Pixels};
use crate::port;
use crate::publish::telemetry::{self, Sources};
use crate::publish::{Link, Outbox, Stock, keep, prune_hourly};
use crate::records::{Notes, Records};
use crate::slot::Slot;
use crate::stop::Stop;

/// How long the parts of a stop may take, one after the other: the exam in hand, the disk, the broker, and four times a
/// little for what should end at once. Together 5.1 seconds at the most; the unit gives a stop more.
const EXAM_PATIENCE: Duration = Duration::from_millis(2700);
const DISK_PATIENCE: Duration = Duration::from_millis(600);
pub(crate) const BROKER_PATIENCE: Duration = Duration::from_millis(600);
const GRACE: Duration = Duration::from_millis(300);
/// How long the camera may take to end, beside disk and broker: GStreamer ends its stream first.
const CAMERA_PATIENCE: Duration = Duration::from_millis(1800);
/// Finished exams that may wait for the disk.
const UNSAVED: usize = 64;

/// A configuration whose bundle, network and outbox are opened and proven: it can be started without failing.
pub struct Prepared {
    config: Config,
    pipeline: Pipeline,
    outbox: Arc<Outbox>,
    stock: Stock,
}

/// Why a configuration cannot be started. The text is one line.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The configuration, or a file that it names, must be mended by a person: exit code 78.
    #[error("{0}")]
    Configuration(String),
    /// The model must be mended, or another one taken: exit code 78, too.
    #[error("{0}")]
    Model(String),
    /// Something that may be better the next time: exit code 1.
    #[error("{0}")]
    Failure(String),
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        match () {
            () if error.may_pass() => Self::Failure(error.to_string()),
            () if error.is_of_model() => Self::Model(error.to_string()),
            () => Self::Configuration(error.to_string()),
        }
    }
}

/// Looks at the files of what runs beside the exams: the page, and the updates of models.
pub fn check_beside(config: &Config) -> Result<(), Refusal> {
    if let Some(updates) = &config.model.updates {
        anemia_bundle::read_public_key(&updates.key).map_err(Refusal::Configuration)?;
    }
    if config.kiosk.page {
        kiosk::check(&config.kiosk).map_err(Refusal::Configuration)?;
    }
    Ok(())
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
            Some(outbox) if outbox.is_in(&config.state_dir) => {
                // At a first start the kiosk goes on without a broker, and says why. What runs is not given up for files that
                // cannot be used.
                Link::check(&config.mqtt, &config.device_id).map_err(Refusal::Configuration)?;
                outbox.clone()
            }
            // Results in the old folder would be forgotten without a word.
            Some(_) => return Err(Refusal::Configuration("state_dir: another folder needs a restart".into())),
            None => {
                let opened = Outbox::open(&config.state_dir, config.outbox);
                Arc::new(opened.map_err(|error| Refusal::Failure(error.to_string()))?)
            }
        };
        Ok(Self { config, outbox })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What waits for the broker; nothing where the disk does not tell.
    pub fn stock(&self) -> Stock {
        self.outbox.stock().unwrap_or_default()
    }

    /// A connection to the broker for this configuration, before there is anything that could be commanded.
    pub fn link(&self, board: Arc<Board>, stored: Arc<Notify>) -> Link {
        link(&self.config, &self.outbox, board, stored, None)
    }

    /// Loads the network. `follow` is told how far the build of a plan is, and stops it with `false`.
    pub fn load(self, follow: &mut Follow<'_>) -> Result<Prepared, Refusal> {
        let Self { config, outbox } = self;
        let pipeline = Pipeline::open(&config.parts(), follow)?;
        // Counted here, where waiting for a slow disk holds up nothing.
        let stock = outbox.stock().map_err(|error| Refusal::Failure(error.to_string()))?;
        Ok(Prepared { config, pipeline, outbox, stock })
    }
}

impl Prepared {
    /// Counts once more what waits: the daemon before this one may have stored a result while it ended. A disk that hangs holds
    /// nothing up for long.
    pub async fn count_again(&mut self) {
        let outbox = self.outbox.clone();
        if let Ok(Ok(Ok(stock))) = timeout(DISK_PATIENCE, tokio::task::spawn_blocking(move || outbox.stock())).await {
            self.stock = stock;
        }
    }
}

fn link(
    config: &Config,
    outbox: &Arc<Outbox>,
    board: Arc<Board>,
    stored: Arc<Notify>,
    clerk: Option<Arc<Clerk>>,
) -> Link {
    let (settings, device_id) = (config.mqtt.clone(), config.device_id.clone());
    Link { settings, device_id, outbox: outbox.clone(), board, stored, clerk }
}

/// What passes from one daemon to the next when the configuration is read again.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    /// Where the exam was, and when it ended: a patient may be in view who has a result already, and must leave before the next exam.
    exam: Option<(Phase, Instant)>,
    /// The last results, for the page.
    history: Arc<History>,
    /// That of the last exam, see [`Board::result`].
    result: (Option<Uuid>, Option<Uuid>),
}

/// Starts the thread that makes pictures for the page.
fn spawn_preview(preview: &Arc<Preview>, slot: &Arc<Slot>) -> std::io::Result<JoinHandle<()>> {
    let (preview, slot) = (preview.clone(), slot.clone());
    std::thread::Builder::new().name("preview".into()).spawn(move || preview.run(&slot))
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
    clerk: Arc<Clerk>,
    /// Hashes of the manifests of classifier and locator.
    models: [String; 2],
    preview: Arc<Preview>,
    pictures: JoinHandle<()>,
    history: Arc<History>,
    /// The page, telemetry, metrics, pruning: they end whenever the daemon does.
    beside: tokio::task::JoinSet<()>,
}

impl Running {
    /// Starts all threads and tasks. To be called in a tokio runtime.
    ///
    /// `service` gets the commands that concern the daemon as a whole.
    pub fn start(prepared: Prepared, carried: Carried, service: mpsc::Sender<Open>) -> std::io::Result<Self> {
        let Carried { exam, history, result } = carried;
        let Prepared { config, pipeline, outbox, stock } = prepared;
        let board = Arc::new(Board::new(pipeline.identity().clone()));
        let locator = pipeline.locator().map(|locator| locator.sha256.clone());
        let models = [pipeline.identity().sha256.clone(), locator.unwrap_or_default()];
        let (slot, camera_stop, drain) = (Arc::new(Slot::new()), Arc::new(Stop::new()), Arc::new(Stop::new()));
        let (exams_in, exams_out) = mpsc::channel(UNSAVED);
        let (alive, pixels_ended) = oneshot::channel();
        let (close, close_seen) = watch::channel(false);
        let stored = Arc::new(Notify::new());
        let (control, orders) = ExamControl::new(board.clone());
        let preview = Arc::new(Preview::default());
        outbox.set_limits(config.outbox);
        board.outbox(stock);
        board.carry_result(result);
        show_update(&board, &config);

        let records = Records::new(&config.state_dir, config.records);
        let pixels = Pixels {
            exam: Exam::new(config.exam, pipeline.operating_point(), exam),
            pipeline,
            slot: slot.clone(),
            board: board.clone(),
            drain: drain.clone(),
            orders,
            preview: preview.clone(),
            exams: exams_in,
            notes: Notes::default(),
            with_cutouts: records.with_cutouts(),
            device_id: config.device_id.clone(),
            late: config.health.late_frame(),
            failing: Failing::default(),
        };
        let pixels = std::thread::Builder::new().name("pixels".into()).spawn(move || {
            // Dropped when the thread ends, also by a panic: the receiver notices.
            let _alive: oneshot::Sender<()> = alive;
            pixels.run();
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
        let keeper =
            tokio::spawn(keep(exams_out, outbox.clone(), records, board.clone(), history.clone(), stored.clone()));
        let clerk = Arc::new(Clerk {
            outbox: outbox.clone(),
            stored: stored.clone(),
            board: board.clone(),
            control: control.clone(),
            service,
            identified: AtomicU64::new(0),
        });
        let commanded = config.mqtt.commands.then(|| clerk.clone());
        let link = link(&config, &outbox, board.clone(), stored.clone(), commanded);
        let link = tokio::spawn(link.run(close_seen, BROKER_PATIENCE));
        let mut beside = tokio::task::JoinSet::new();
        beside.spawn(prune_hourly(outbox.clone(), board.clone()));
        beside.spawn(follow(history.clone(), board.clone(), stored.clone()));
        let sources = Sources { board: board.clone(), slot: slot.clone(), outbox: outbox.clone() };
        if config.mqtt.telemetry_s > 0 {
            let every = Duration::from_secs(config.mqtt.telemetry_s.into());
            beside.spawn(telemetry::report(sources.clone(), config.device_id.clone(), every, stored));
        }
        beside.spawn(local::serve(
            config.state_dir.clone(),
            config.device_id.clone(),
            sources.clone(),
            control.clone(),
        ));
        let pictures = spawn_preview(&preview, &slot)?;
        // Open before anybody is told that the daemon is ready. Exams are worth more than page and figures: without them it goes on.
        if config.kiosk.page {
            let kiosk = Kiosk {
                device_id: config.device_id.clone(),
                board: board.clone(),
                history: history.clone(),
                preview: preview.clone(),
                control,
            };
            let settings = config.kiosk.clone();
            let first = kiosk::open(&settings);
            beside.spawn(async move {
                let page = port::opened("there is no page", first, move || kiosk::open(&settings)).await;
                kiosk::serve(page, kiosk).await;
            });
        }
        if let Some(address) = config.metrics.listen {
            let first = metrics::open(address);
            beside.spawn(async move {
                let door = port::opened("there are no metrics", first, move || metrics::open(address)).await;
                metrics::serve(door, sources).await;
            });
        }
        Ok(Self {
            config,
            board,
            outbox,
            slot,
            camera_stop,
            drain,
            close,
            camera,
            pixels,
            pixels_ended,
            keeper,
            link,
            clerk,
            models,
            preview,
            pictures,
            history,
            beside,
        })
    }

    /// Hashes of the manifests of classifier and locator.
    pub fn models(&self) -> &[String; 2] {
        &self.models
    }

    /// Who answers commands.
    pub fn clerk(&self) -> &Arc<Clerk> {
        &self.clerk
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
    /// Takes 5.1 seconds at the most; what hangs longer is left behind and logged. Gives what whoever takes over needs.
    pub async fn finish(mut self) -> Carried {
        self.drain.request();
        if timeout(EXAM_PATIENCE, self.pixels_ended).await.is_err() {
            tracing::warn!("the exam in hand did not end in time and is given up");
        }
        let looked = Instant::now();
        self.slot.close();
        self.preview.close();
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
        // Whoever takes over opens the same ports.
        let _ = timeout(GRACE, self.beside.shutdown()).await;
        let threads = tokio::task::spawn_blocking(move || {
            [("pixel", self.pixels.join()), ("camera", self.camera.join()), ("preview", self.pictures.join())]
        });
        match timeout(GRACE.max(camera_end.saturating_duration_since(Instant::now())), threads).await {
            Ok(Ok(ends)) => {
                for (name, _) in ends.into_iter().filter(|(_, end)| end.is_err()) {
                    tracing::error!("the {name} thread had panicked");
                }
            }
            _ => tracing::error!("a thread did not end in time"),
        }
        // Closing the outbox waits for the disk, too.
        let rest = (self.outbox, self.clerk);
        let _ = timeout(GRACE, tokio::task::spawn_blocking(move || drop(rest))).await;
        let figures = self.board.figures();
        let [captured, analysed, missed, late, damaged] =
            [&figures.captured, &figures.analysed, &figures.missed, &figures.late, &figures.damaged]
                .map(|counter| counter.get());
        tracing::info!(captured, analysed, dropped = self.slot.dropped(), missed, late, damaged, "stopped");
        let phase = self.board.watch().borrow().exam.phase;
        Carried { exam: Some((phase, looked)), history: self.history, result: self.board.result() }
    }
}

/// Tells whenever a result is on the disk. The keeper that wrote it may be that of the daemon before, which the disk held up.
async fn follow(history: Arc<History>, board: Arc<Board>, stored: Arc<Notify>) {
    let mut results = history.watch();
    loop {
        let saved: Vec<_> = results.borrow_and_update().iter().map(|result| result.id).collect();
        saved.into_iter().for_each(|id| board.saved(id));
        stored.notify_one();
        if results.changed().await.is_err() {
            return;
        }
    }
}

/// Shows what came of the last update of a model.
fn show_update(board: &Board, config: &Config) {
    let slots = [Task::Classify, Task::Locate].map(|task| Slots::new(&config.state_dir, task));
    if let Some(trial) = slots.iter().find_map(Slots::trial) {
        return board.update(UpdateStatus::Proving, &trial.model);
    }
    if let Some((_, last)) = slots.iter().filter_map(Slots::last).max_by_key(|(noted, _)| *noted) {
        let status = if last.rolled_back { UpdateStatus::RolledBack } else { UpdateStatus::Installed };
        board.update(status, &last.detail);
    }
}
