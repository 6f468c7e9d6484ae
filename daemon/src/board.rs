//! The board: what the daemon is doing, in the words that the log, MQTT, the page, the metrics and `anemiad status` share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;
use uuid::Uuid;

use anemia_vision::Rejection;

use crate::exam::{ExamState, Phase};
use crate::figures::Figures;
use crate::pipeline::StageTimes;
use crate::publish::Stock;
use crate::report::ModelIdentity;

/// The state, as published (retained) on `anemia/<device_id>/state`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct State {
    /// Version of the program.
    pub version: &'static str,
    /// The exam.
    pub exam: ExamState,
    /// Id of the result of the last exam, from when it is on the disk until the next exam begins: whoever shows a result to people
    /// shows this one and no other.
    pub result: Option<Uuid>,
    /// Id of the result of the last exam that is not on the disk yet.
    #[serde(skip)]
    unsaved: Option<Uuid>,
    /// The camera.
    pub camera: Camera,
    /// The network.
    pub engine: Part<EngineStatus>,
    /// The connection to the broker.
    pub broker: Part<BrokerStatus>,
    /// The results that wait for the broker.
    pub outbox: Outbox,
    /// The configuration.
    pub config: Part<ConfigStatus>,
    /// The last update of the model.
    pub update: Part<UpdateStatus>,
    /// For half a minute after the command `identify`: whoever stands at the kiosk can be told that it is this one.
    pub identify: bool,
    /// What judges.
    pub model: ModelIdentity,
}

/// The state of something outside the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Part<S> {
    /// In a word.
    pub status: S,
    /// What is wrong, in a line; empty when nothing is.
    pub detail: String,
}

/// The state of the camera.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Camera {
    /// In a word.
    pub status: CameraStatus,
    /// What is wrong, in a line; empty when nothing is.
    pub detail: String,
    /// When the last frame came, by the kiosk's clock, in UTC (RFC 3339); null while frames come, and when none ever came.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_frame_at: Option<jiff::Timestamp>,
}

/// The camera in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CameraStatus {
    /// It is being opened.
    #[default]
    Opening,
    /// Frames come.
    Streaming,
    /// Frames come, and are too old to be judged when they come.
    Late,
    /// It failed, and is opened again after a while.
    Lost,
    /// It failed, and nothing that the daemon can do helps: a person has to look at it. It is still opened now and then.
    GaveUp,
    /// A replay or a film came to its end.
    Ended,
}

impl CameraStatus {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Opening, Self::Streaming, Self::Late, Self::Lost, Self::GaveUp, Self::Ended];
}

/// The network in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineStatus {
    /// It gives answers.
    #[default]
    Ready,
    /// Its last answer was none.
    Failing,
    /// It gives answers, and the one that finds the conjunctiva does not: the fallback of the configuration finds it.
    Fallback,
    /// It is being built, which takes minutes on a board; no exam can start.
    Building,
}

impl EngineStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ready, Self::Failing, Self::Fallback, Self::Building];
}

/// The connection to the broker in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BrokerStatus {
    /// It is being built.
    #[default]
    Connecting,
    /// It stands.
    Connected,
    /// It failed, and is tried again after a while.
    Lost,
}

impl BrokerStatus {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Connecting, Self::Connected, Self::Lost];
}

/// The configuration in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConfigStatus {
    /// The file is in force.
    #[default]
    Applied,
    /// The file was changed and is being prepared, which can take minutes on a board; the one before is in force.
    Preparing,
    /// The file was changed and could not be used; the one before is in force.
    Refused,
}

/// The last update of the model in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpdateStatus {
    /// The model is that of the configuration.
    #[default]
    None,
    /// A newer model is being fetched and tried; the one before judges.
    Installing,
    /// A newer model judges, and has to prove itself.
    Proving,
    /// A newer model judges, and has proven itself.
    Installed,
    /// A newer model was refused or failed; the one before judges.
    RolledBack,
}

/// The results that wait for the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Outbox {
    /// How many.
    pub waiting: u64,
    /// Results that had to go unsent since this outbox was made, because they were too old or too much.
    pub lost: u64,
    /// What is wrong with the disk, in a line; empty when nothing is.
    pub detail: String,
    /// See [`Stock::look`].
    #[serde(skip)]
    look: u64,
}

/// The longest time between two attempts to open a camera, and what one may take.
const LOOKED_FOR: Duration = Duration::from_secs(60);

/// The board. Counting a frame takes no lock and allocates nothing.
#[derive(Debug)]
pub struct Board {
    state: watch::Sender<State>,
    figures: Figures,
    start: Instant,
    last_captured_ns: AtomicU64,
    last_camera_ns: AtomicU64,
    last_analysed_ns: AtomicU64,
}

impl Board {
    /// A fresh board.
    pub fn new(model: ModelIdentity) -> Self {
        let state = State {
            version: env!("CARGO_PKG_VERSION"),
            exam: ExamState::default(),
            result: None,
            unsaved: None,
            camera: Camera::default(),
            engine: Part::default(),
            broker: Part::default(),
            outbox: Outbox::default(),
            config: Part::default(),
            update: Part::default(),
            identify: false,
            model,
        };
        Self {
            state: watch::Sender::new(state),
            figures: Figures::default(),
            start: Instant::now(),
            last_captured_ns: AtomicU64::new(0),
            last_camera_ns: AtomicU64::new(0),
            last_analysed_ns: AtomicU64::new(0),
        }
    }

    /// What was counted.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// How long the daemon runs with this configuration.
    pub fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// Follows the state.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Tells the state of the exam, and the id of its result when it has just ended with one.
    pub fn exam(&self, exam: ExamState, ended: Option<Uuid>) {
        self.state.send_if_modified(|state| {
            let begins = matches!(exam.phase, Phase::Aligning | Phase::Collecting | Phase::Cancelled);
            if begins || ended.is_some() {
                state.unsaved = ended;
            }
            let hides = (begins || ended.is_some()) && state.result.take().is_some();
            std::mem::replace(&mut state.exam, exam) != exam || hides
        });
    }

    /// A result is on the disk. That of an exam that was not the last one is of somebody who left, and changes nothing.
    pub fn saved(&self, id: Uuid) {
        self.state.send_if_modified(|state| {
            let is_of_the_last = state.unsaved.take_if(|unsaved| *unsaved == id).is_some();
            if is_of_the_last {
                state.result = Some(id);
            }
            is_of_the_last
        });
    }

    /// The result of the last exam: one that is on the disk, and one that is not yet.
    pub fn result(&self) -> (Option<Uuid>, Option<Uuid>) {
        let state = self.state.borrow();
        (state.result, state.unsaved)
    }

    /// Goes on with the [result](Self::result) of the daemon before.
    pub fn carry_result(&self, (result, unsaved): (Option<Uuid>, Option<Uuid>)) {
        self.state.send_modify(|state| (state.result, state.unsaved) = (result, unsaved));
    }

    /// Whether good frames are being collected.
    pub fn is_in_exam(&self) -> bool {
        self.state.borrow().exam.phase == Phase::Collecting
    }

    /// Whether the camera is known to give nothing.
    pub fn is_camera_gone(&self) -> bool {
        matches!(self.state.borrow().camera.status, CameraStatus::Lost | CameraStatus::GaveUp | CameraStatus::Ended)
    }

    /// Whether the camera is known to give nothing that could be judged.
    pub fn is_blind(&self) -> bool {
        self.is_camera_gone() || self.state.borrow().camera.status == CameraStatus::Late
    }

    /// Tells the state of the camera, and whether that is news.
    pub fn camera(&self, status: CameraStatus, detail: &str) -> bool {
        self.last_camera_ns.store(self.start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        self.state.send_if_modified(|state| {
            let camera = &mut state.camera;
            if is_same((camera.status, &camera.detail), (status, detail)) {
                return false;
            }
            let frames_come = matches!(status, CameraStatus::Streaming | CameraStatus::Late);
            let last_frame_at = if frames_come { None } else { self.last_frame_at() };
            *camera = Camera { status, detail: line(detail), last_frame_at };
            true
        })
    }

    /// When the last frame came.
    fn last_frame_at(&self) -> Option<jiff::Timestamp> {
        let last = self.last_captured_ns.load(Ordering::Relaxed);
        let age = self.start.elapsed().saturating_sub(Duration::from_nanos(last));
        jiff::Timestamp::now().checked_sub(age).ok().filter(|_| last > 0)
    }

    /// Tells the state of the network, and whether that is news.
    pub fn engine(&self, status: EngineStatus, detail: &str) -> bool {
        self.state.send_if_modified(|state| state.engine.update(status, detail))
    }

    /// Tells the state of the connection to the broker.
    pub fn broker(&self, status: BrokerStatus, detail: &str) {
        self.state.send_if_modified(|state| state.broker.update(status, detail));
    }

    /// Tells whether the configuration file is in force.
    pub fn config(&self, status: ConfigStatus, detail: &str) {
        self.state.send_if_modified(|state| state.config.update(status, detail));
    }

    /// Tells of the last update of the model.
    pub fn update(&self, status: UpdateStatus, detail: &str) {
        self.state.send_if_modified(|state| state.update.update(status, detail));
    }

    /// Shows, or no longer, that it is this kiosk.
    pub fn identify(&self, identify: bool) {
        self.state.send_if_modified(|state| std::mem::replace(&mut state.identify, identify) != identify);
    }

    /// Tells what waits; the disk works.
    pub fn outbox(&self, stock: Stock) {
        self.state.send_if_modified(|state| {
            let outbox = &mut state.outbox;
            // One may look first and tell last.
            if stock.look < outbox.look {
                return false;
            }
            outbox.look = stock.look;
            let is_news = (outbox.waiting, outbox.lost) != (stock.results, stock.lost) || !outbox.detail.is_empty();
            (outbox.waiting, outbox.lost) = (stock.results, stock.lost);
            outbox.detail.clear();
            is_news
        });
    }

    /// Tells what is wrong with the disk.
    pub fn outbox_trouble(&self, detail: &str) {
        let detail = line(detail);
        self.state.send_if_modified(|state| std::mem::replace(&mut state.outbox.detail, detail.clone()) != detail);
    }

    /// Counts a frame of the camera, and those before it that nobody fetched in time.
    pub fn captured(&self, missed: u32) {
        self.figures.captured.inc();
        self.figures.missed.inc_by(missed.into());
        self.last_captured_ns.store(self.start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    /// Counts an analysed frame.
    pub fn analysed(&self, times: &StageTimes, outcome: &Result<f32, Rejection>) {
        self.figures.analysed(times, outcome);
        self.last_analysed_ns.store(self.start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    /// Whether the daemon does what it should: frames are analysed, or there are none for a reason that is known and
    /// shown. A camera that claims to stream and gives nothing is not such a reason.
    pub fn is_healthy(&self, stale: Duration) -> bool {
        let last = Duration::from_nanos(self.last_analysed_ns.load(Ordering::Relaxed));
        let fresh = self.start.elapsed().saturating_sub(last) < stale;
        let told = Duration::from_nanos(self.last_camera_ns.load(Ordering::Relaxed));
        // A camera that is looked for hangs when nothing more is heard of it, too.
        let is_looked_for = self.start.elapsed().saturating_sub(told) < stale + LOOKED_FOR;
        fresh
            || match self.state.borrow().camera.status {
                CameraStatus::Opening | CameraStatus::Streaming => false,
                CameraStatus::Late | CameraStatus::Lost | CameraStatus::GaveUp => is_looked_for,
                CameraStatus::Ended => true,
            }
    }
}

impl<S: PartialEq + Copy> Part<S> {
    /// Sets both fields, and says whether that changed anything. Allocates only then.
    fn update(&mut self, status: S, detail: &str) -> bool {
        let same = is_same((self.status, &self.detail), (status, detail));
        if !same {
            *self = Self { status, detail: line(detail) };
        }
        !same
    }
}

/// Whether a state is told again as it is. That is the common case, and costs nothing.
fn is_same<S: PartialEq>((status, detail): (S, &str), (new_status, new_detail): (S, &str)) -> bool {
    status == new_status && (detail == new_detail || detail == line(new_detail))
}

/// The text as one line of bounded length: the state must always fit into a message.
fn line(text: &str) -> String {
    const LONGEST: usize = 400;
    let mut line: String = text.lines().collect::<Vec<_>>().join("; ");
    if line.chars().count() > LONGEST {
        line = line.chars().take(LONGEST - 1).chain(['…']).collect();
    }
    line
}

#[cfg(test)]
mod tests {
    use anemia_bundle::Precision;

    use super::*;

    fn phase(phase: Phase) -> ExamState {
        ExamState { phase, ..ExamState::default() }
    }

    #[test]
    fn the_result_is_that_of_the_last_exam_however_late_the_disk_takes_it() {
        let board = Board::new(ModelIdentity::unknown(Precision::Fp32));
        let shown = || board.watch().borrow().result;
        let [first, second, third] = [1, 2, 3].map(Uuid::from_u128);
        board.exam(phase(Phase::Result), Some(first));
        assert_eq!(shown(), None, "not on the disk");
        board.saved(first);
        assert_eq!(shown(), Some(first));
        board.exam(phase(Phase::Idle), None);
        assert_eq!(shown(), Some(first), "it stays for the nurse");
        board.exam(phase(Phase::Aligning), None);
        assert_eq!(shown(), None, "somebody else came");
        board.exam(phase(Phase::Result), Some(second));
        board.exam(phase(Phase::Collecting), None);
        board.saved(second);
        assert_eq!(shown(), None, "late, in the exam of the third");
        board.exam(phase(Phase::Cancelled), None);
        board.saved(second);
        assert_eq!(shown(), None);
        // Who left in the middle has a result, too.
        board.exam(phase(Phase::Idle), Some(second));
        board.exam(phase(Phase::Result), Some(third));
        board.saved(second);
        assert_eq!(shown(), None, "late, after the exam of the third");

        // The configuration is read again before the disk has the third.
        let next = Board::new(ModelIdentity::unknown(Precision::Fp32));
        next.carry_result(board.result());
        next.exam(phase(Phase::Result), None);
        next.saved(third);
        assert_eq!(next.watch().borrow().result, Some(third));
    }

    #[test]
    fn who_looked_into_the_outbox_first_and_tells_last_is_not_believed() {
        let board = Board::new(ModelIdentity::unknown(Precision::Fp32));
        let stock = |results, look| Stock { results, look, ..Stock::default() };
        board.outbox(stock(1, 2));
        board.outbox(stock(0, 1));
        assert_eq!(board.watch().borrow().outbox.waiting, 1);
        board.outbox(stock(0, 3));
        assert_eq!(board.watch().borrow().outbox.waiting, 0);
    }
}
