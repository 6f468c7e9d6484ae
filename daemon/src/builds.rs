//! Following the build of a plan: in the log, in the state, and for systemd, which would lose patience.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anemia_engine::Building;
use sd_notify::NotifyState;
use tokio::sync::Notify;

use crate::board::{Board, ConfigStatus, EngineStatus};
use crate::run::tell;

/// Microseconds for which systemd waits on; it is asked again long before.
const PATIENCE_US: u32 = 60_000_000;

/// The builds of one configuration that is being prepared.
#[derive(Default)]
pub(crate) struct Builds {
    /// Whose state tells of them.
    board: Option<Arc<Board>>,
    /// Whether there is no network yet that could go on meanwhile.
    is_first: bool,
    /// Rings when something begins that takes its time.
    pub(crate) begun: Notify,
    building: AtomicBool,
    stopped: AtomicBool,
}

impl Builds {
    pub(crate) fn new(board: Option<Arc<Board>>, is_first: bool) -> Arc<Self> {
        Arc::new(Self { board, is_first, ..Self::default() })
    }

    /// Tells how far a build is, and whether it is still wanted.
    pub(crate) fn follow(&self, building: Building<'_>) -> bool {
        // What is over may hang afterwards, in the self-test: that is what systemd's patience is measured for.
        let goes_on = !matches!(building, Building::Ended(_));
        let was_going_on = self.building.swap(goes_on, Ordering::Relaxed);
        let text = match building {
            Building::Waiting => "waiting for another process that builds a plan".to_owned(),
            Building::Started(precision) => format!("building the {precision} plan, which takes minutes on a board"),
            Building::Step { precision, phase, step, steps } => {
                format!("building the {precision} plan: {phase}, {step} of {steps}")
            }
            Building::Ended(precision) => format!("the {precision} plan is built"),
        };
        let is_news = match building {
            Building::Waiting => !was_going_on,
            Building::Started(_) => true,
            Building::Step { step, steps, .. } => {
                let tenth = |step: u32| step * 10 / steps.max(1);
                tenth(step) != tenth(step.saturating_sub(1))
            }
            Building::Ended(_) => false,
        };
        if is_news {
            tracing::info!("{text}");
        }
        let patience = goes_on.then_some(NotifyState::ExtendTimeoutUsec(PATIENCE_US));
        tell(&[Some(NotifyState::Status(&text)), patience].into_iter().flatten().collect::<Vec<_>>());
        match &self.board {
            Some(board) if self.is_first => {
                board.engine(EngineStatus::Building, &text);
            }
            Some(board) => board.config(ConfigStatus::Preparing, &text),
            None => {}
        }
        self.begun.notify_one();
        !self.stopped.load(Ordering::Relaxed)
    }

    /// Keeps systemd waiting while something is built; TensorRT before version 10 does not tell how far it is.
    pub(crate) fn ask_for_patience(&self) {
        if self.building.load(Ordering::Relaxed) {
            tell(&[NotifyState::ExtendTimeoutUsec(PATIENCE_US)]);
        }
    }
}

/// Stops the builds when nobody waits for them any more.
pub(crate) struct StopOnDrop(pub(crate) Arc<Builds>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }
}
