//! The daemon before its network is there: the first build of a plan takes minutes on a board, and whoever watches the kiosk
//! shall see why it is silent.

use std::sync::Arc;
use std::time::Duration;

use anemia_bundle::{Bundle, Precision};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::board::{Board, EngineStatus};
use crate::config::EngineKind;
use crate::publish::Link;
use crate::report::ModelIdentity;
use crate::service::{BROKER_PATIENCE, Opened};

/// What can be told of a configuration before its network is there.
pub(crate) struct Early {
    board: Arc<Board>,
    /// Until it is started.
    link: Option<Link>,
    running: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

impl Early {
    /// Prepares the connection, but does not build it yet: most starts build nothing, and those without TensorRT never do.
    pub(crate) fn new(opened: &Opened) -> Option<Self> {
        let model = &opened.config().model;
        if model.engine != EngineKind::Tensorrt {
            return None;
        }
        let precision = model.precision.fixed().unwrap_or(Precision::Fp32);
        // A bundle that cannot be opened is told of in a moment.
        let identity = Bundle::open(&opened.config().classifier()).ok().map(|bundle| ModelIdentity {
            name: bundle.manifest().name.clone(),
            version: bundle.manifest().version.clone(),
            sha256: bundle.sha256().to_string(),
            precision,
            engine: String::new(),
            age_months: bundle.manifest().training.age_months,
        });
        let board = Arc::new(Board::new(identity.unwrap_or_else(|| ModelIdentity::unknown(precision))));
        board.engine(EngineStatus::Building, "");
        board.outbox(opened.stock());
        let link = opened.link(board.clone(), Arc::new(Notify::new()));
        Some(Self { board, link: Some(link), running: None })
    }

    /// What is published.
    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Connects to the broker, once. Results that wait from before are sent, too.
    pub(crate) fn start(&mut self) {
        if let Some(link) = self.link.take() {
            let (close, seen) = watch::channel(false);
            self.running = Some((close, tokio::spawn(link.run(seen, BROKER_PATIENCE))));
        }
    }

    /// Leaves the broker to the daemon proper.
    pub(crate) async fn end(self) {
        if let Some((close, link)) = self.running {
            let _ = close.send(true);
            let _ = tokio::time::timeout(BROKER_PATIENCE + Duration::from_millis(300), link).await;
        }
    }
}
