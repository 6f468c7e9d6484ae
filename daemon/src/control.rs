//! Starting and cancelling an exam from outside: a command, the page, a terminal.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::board::Board;
use crate::exam::NotNow;

/// The pixel thread looks at what it is asked for with every frame.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the pixel thread is asked for.
#[derive(Debug)]
pub enum ExamOrder {
    /// Start an exam.
    Start(oneshot::Sender<Result<(), NotNow>>),
    /// Cancel the one that is running.
    Cancel(oneshot::Sender<Result<(), NotNow>>),
}

/// The way to the exam that runs in the pixel thread.
#[derive(Clone, Debug)]
pub struct ExamControl {
    board: Arc<Board>,
    orders: Sender<ExamOrder>,
}

impl ExamControl {
    /// The control, and what the pixel thread receives.
    pub fn new(board: Arc<Board>) -> (Self, Receiver<ExamOrder>) {
        let (orders, receiver) = channel();
        (Self { board, orders }, receiver)
    }

    /// Starts an exam at once.
    pub async fn start(&self) -> Result<(), NotNow> {
        if self.board.is_blind() {
            return Err(NotNow::Camera);
        }
        self.ask(ExamOrder::Start).await
    }

    /// Ends the exam that is running, without a result.
    pub async fn cancel(&self) -> Result<(), NotNow> {
        self.ask(ExamOrder::Cancel).await
    }

    async fn ask(&self, order: impl FnOnce(oneshot::Sender<Result<(), NotNow>>) -> ExamOrder) -> Result<(), NotNow> {
        let (answer, answered) = oneshot::channel();
        if self.orders.send(order(answer)).is_err() {
            return Err(NotNow::Closed);
        }
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(done)) => done,
            _ => Err(NotNow::Busy),
        }
    }
}
