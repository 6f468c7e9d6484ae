//! Following the build of a plan: in the log, in the state, and for systemd, which would lose patience.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anemia_engine::Building;
use sd_notify::NotifyState;

use crate::board::{Board, ConfigStatus};
use crate::run::tell;

/// Microseconds for which systemd waits on; it is asked again long before.
const PATIENCE_US: u32 = 60_000_000;

/// The builds of one configuration that is being prepared.
#[derive(Default)]
pub(crate) struct Builds {
    /// Of a daemon that goes on meanwhile.
    board: Option<Arc<Board>>,
    building: AtomicBool,
    stopped: AtomicBool,
}

impl Builds {
    pub(crate) fn new(board: Option<Arc<Board>>) -> Arc<Self> {
        Arc::new(Self { board, ..Self::default() })
    }

    /// Tells how far a build is, and whether it is still wanted.
    pub(crate) fn follow(&self, building: Building<'_>) -> bool {
        let Building { precision, phase, step, steps } = building;
        let text = match steps {
            0 => format!("building the {precision} plan"),
            _ => format!("building the {precision} plan: {phase}, {step} of {steps}"),
        };
        if steps == 0 || (step * 10 / steps) != (step.saturating_sub(1) * 10 / steps) {
            tracing::info!("{text}");
        }
        self.building.store(true, Ordering::Relaxed);
        tell(&[NotifyState::Status(&text), NotifyState::ExtendTimeoutUsec(PATIENCE_US)]);
        if let Some(board) = &self.board {
            board.config(ConfigStatus::Preparing, &text);
        }
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
