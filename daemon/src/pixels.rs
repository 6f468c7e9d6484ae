//! The thread that owns pixels, network and exam.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anemia_engine::EngineError;
use anemia_vision::{Frame, Rejection};
use tokio::sync::mpsc;

use crate::board::{Board, EngineStatus};
use crate::control::ExamOrder;
use crate::exam::{Exam, NotNow, Outcome};
use crate::kiosk::Preview;
use crate::pipeline::{Analysis, Pipeline};
use crate::records::{Finished, Notes};
use crate::report::ExamResult;
use crate::slot::{Slot, Taken};
use crate::stop::Stop;

/// How often it looks at the clock when no frames come.
const TICK: Duration = Duration::from_millis(50);
/// Inferences that may fail one after the other. After an error such as an illegal access CUDA gives nothing but errors for as
/// long as the process lives: only a new one helps.
const FAILURES: u32 = 50;

/// Everything that the thread works with.
pub(crate) struct Pixels {
    pub exam: Exam,
    pub pipeline: Pipeline,
    /// Where frames come from.
    pub slot: Arc<Slot>,
    pub board: Arc<Board>,
    /// Asks it to end after the exam in hand.
    pub drain: Arc<Stop>,
    pub orders: std::sync::mpsc::Receiver<ExamOrder>,
    pub preview: Arc<Preview>,
    /// Where finished exams go to.
    pub exams: mpsc::Sender<Finished>,
    pub notes: Notes,
    pub with_cutouts: bool,
    pub device_id: String,
    /// Frames that are older are not looked at.
    pub late: Duration,
    pub failing: Failing,
}

/// How often the engine has failed of late.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    /// One after the other.
    times: u32,
    /// The last failure was at a frame that had passed the gate.
    at_a_good_frame: bool,
}

impl Failing {
    /// Whether only a new process can help.
    fn is_lost(&self) -> bool {
        self.times >= FAILURES
    }
}

impl Pixels {
    /// Works until the slot is closed, or it is asked to end and no exam is in hand, or the engine is lost.
    pub(crate) fn run(mut self) {
        // A finished exam for which the keeper has no room yet.
        let mut unsent: Option<Finished> = None;
        loop {
            self.obey();
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
                    self.board.figures().late.inc();
                    self.exam.check_time(Instant::now())
                }
                Taken::Frame(frame, at) => self.look(frame, at),
            };
            let result = outcome.map(|outcome| ExamResult::new(&outcome, &self.device_id, &self.pipeline));
            // Before the keeper has it, who tells when it is on the disk.
            self.board.exam(self.exam.state(), result.as_ref().map(|result| result.id));
            if let Some(result) = result {
                unsent = Some(Finished { result, notes: std::mem::take(&mut self.notes) });
            }
            // Never waits for the disk: while it takes nothing more, frames are analysed and no exam starts.
            if let Some(finished) = unsent.take() {
                unsent = self.exams.try_send(finished).err().map(|full| full.into_inner());
            }
            let draining = self.drain.is_requested() || self.failing.is_lost();
            self.exam.set_accepting(unsent.is_none() && !draining);
            if draining && !self.exam.in_hand() && unsent.is_none() {
                if self.failing.is_lost() {
                    tracing::error!("the engine failed {FAILURES} times in a row; a new process has to try");
                }
                return;
            }
        }
    }

    /// Starts and cancels exams.
    fn obey(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            let (ExamOrder::Start(answer) | ExamOrder::Cancel(answer)) = &order;
            // Whoever stopped waiting was told that nothing happens.
            if answer.is_closed() {
                continue;
            }
            let (answer, done) = match order {
                ExamOrder::Start(answer) => (answer, self.start()),
                ExamOrder::Cancel(answer) => (answer, self.exam.cancel()),
            };
            let _ = answer.send(done);
        }
    }

    fn start(&mut self) -> Result<(), NotNow> {
        self.exam.start(Instant::now())?;
        // Those of an exam that was cancelled since the last frame.
        self.notes = Notes::default();
        Ok(())
    }

    /// Analyses the frame that the camera took at `at`; what the exam comes to, if it ends.
    fn look(&mut self, frame: Frame, at: Instant) -> Option<Outcome> {
        let now = Instant::now();
        let analysis = self.pipeline.analyse(&frame, at);
        if let Some(frame) = self.preview.offer(frame, self.pipeline.roi()) {
            self.slot.give_back(frame);
        }
        self.board.analysed(&analysis.times, &analysis.outcome);
        self.note_engine(&analysis);
        if let Some(outcome) = self.exam.part(now) {
            return Some(outcome);
        }
        let collecting = self.exam.state().phase;
        let cut = self.with_cutouts.then(|| self.pipeline.cutout());
        self.notes.frame(&analysis, collecting, cut, now);
        self.exam.observe(analysis.outcome, now)
    }

    fn note_engine(&mut self, analysis: &Analysis) {
        let failing = &mut self.failing;
        let is_fatal = analysis.outcome == Err(Rejection::EngineFailed);
        if is_fatal {
            failing.at_a_good_frame = !analysis.times.inference.is_zero();
            failing.times += u32::from(analysis.failure.as_ref().is_some_and(EngineError::may_pass));
        } else if analysis.outcome.is_ok() || !failing.at_a_good_frame {
            *failing = Failing::default();
        } else {
            // The network that judges is only used for good frames: only such a one says that it works again.
            return;
        }
        let (status, detail) = match &analysis.failure {
            Some(error) if is_fatal => (EngineStatus::Failing, error.to_string()),
            Some(error) => (EngineStatus::Fallback, error.to_string()),
            None => (EngineStatus::Ready, String::new()),
        };
        if self.board.engine(status, &detail) && !detail.is_empty() {
            tracing::error!("engine: {detail}");
        }
    }
}
