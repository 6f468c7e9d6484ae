//! The clerk: takes commands, sees that each is carried out at most once and answered once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};

use super::{Command, ModelUpdate, Outcome, Reason, Refused, Response, Verb, parse};
use crate::board::Board;
use crate::control::ExamControl;
use crate::exam::NotNow;
use crate::publish::{Accepted, Outbox};

/// How long the kiosk shows that it is the one.
const IDENTIFY: Duration = Duration::from_secs(30);
/// How often an answer is tried that the disk refuses.
const RETRY: Duration = Duration::from_secs(1);
/// A name that nobody knows can be of any length.
const LONGEST_NAME: usize = 64;

/// What the service is asked for: it takes long, and may end the daemon as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Read the configuration again.
    Reload,
    /// Build the plans again.
    EngineRebuild,
    /// Install a newer model.
    ModelUpdate(ModelUpdate),
}

/// An order that must be answered.
#[derive(Debug)]
pub struct Open {
    /// What is to be done.
    pub order: Order,
    id: String,
    name: &'static str,
}

/// The clerk of a running daemon.
#[derive(Debug)]
pub struct Clerk {
    /// Where commands are noted and answers go to.
    pub outbox: Arc<Outbox>,
    /// Rings when an answer is there.
    pub stored: Arc<Notify>,
    /// What the kiosk shows.
    pub board: Arc<Board>,
    /// Start and cancel.
    pub control: ExamControl,
    /// To the service.
    pub service: mpsc::Sender<Open>,
    /// How often it was asked which kiosk it is.
    pub identified: AtomicU64,
}

impl Clerk {
    /// Takes the message that came for the command `name`. It is noted when this returns, and answered later. `false` when
    /// the disk refused, so that it must come again; a refusal needs no note, and is worth no second try.
    pub async fn receive(self: &Arc<Self>, name: &str, payload: &[u8]) -> bool {
        let now = Timestamp::now();
        let name: String = name.chars().take(LONGEST_NAME).collect();
        let command = match parse(&name, payload, now) {
            Ok(command) => command,
            Err(Refused { id, reason, detail }) => {
                tracing::warn!("the command {name:?} is refused: {detail}");
                let response = response(id, name, Outcome::Refused, Some(reason), detail);
                // It was never noted, so no id of a noted one can be taken for it.
                self.store(None, &response).await;
                return true;
            }
        };
        let (id, verb, expires) = (command.id.clone(), command.verb.name(), command.expires_at);
        let noted = self.with_outbox(move |outbox| outbox.accept(&id, verb, expires, now)).await;
        match noted {
            None => return false,
            Some(Accepted::Repeat) => {
                tracing::info!(command = command.id, "the command {name} came again and is passed over")
            }
            Some(Accepted::TooMany) => {
                let detail = "too many commands are remembered until they expire".to_owned();
                let response = response(Some(command.id), name, Outcome::Refused, Some(Reason::Busy), detail);
                self.store(None, &response).await;
            }
            Some(Accepted::New) => {
                tracing::info!(command = command.id, "command {name}");
                let clerk = self.clone();
                tokio::spawn(async move { clerk.carry_out(command).await });
            }
        }
        true
    }

    async fn carry_out(self: &Arc<Self>, command: Command) {
        let Command { id, verb, .. } = command;
        let name = verb.name();
        let order = match verb {
            Verb::Start => return self.tell(id, name, self.control.start().await).await,
            Verb::Cancel => return self.tell(id, name, self.control.cancel().await).await,
            Verb::Identify => {
                self.answer(id, name, Outcome::Done, None, String::new()).await;
                let turn = self.identified.fetch_add(1, Ordering::Relaxed) + 1;
                self.board.identify(true);
                tokio::time::sleep(IDENTIFY).await;
                // Whoever asked again since has the whole time, too.
                if self.identified.load(Ordering::Relaxed) == turn {
                    self.board.identify(false);
                }
                return;
            }
            Verb::Reload => Order::Reload,
            Verb::EngineRebuild => Order::EngineRebuild,
            Verb::ModelUpdate(update) => Order::ModelUpdate(update),
        };
        if let Err(full) = self.service.try_send(Open { order, id, name }) {
            let Open { id, name, .. } = full.into_inner();
            let detail = "other commands that take long are under way".to_owned();
            self.answer(id, name, Outcome::Refused, Some(Reason::Busy), detail).await;
        }
    }

    async fn tell(self: &Arc<Self>, id: String, name: &'static str, done: Result<(), NotNow>) {
        match done {
            Ok(()) => self.answer(id, name, Outcome::Done, None, String::new()).await,
            Err(NotNow::Busy) => {
                self.answer(id, name, Outcome::Failed, Some(Reason::Failed), NotNow::Busy.to_string()).await;
            }
            Err(refusal) => {
                self.answer(id, name, Outcome::Refused, Some(Reason::NotNow), refusal.to_string()).await;
            }
        }
    }

    /// Answers an order of the service.
    pub async fn close(self: &Arc<Self>, open: Open, done: Result<String, (Reason, String)>) {
        let (outcome, reason, detail) = match done {
            Ok(detail) => (Outcome::Done, None, detail),
            Err((reason @ (Reason::NotAllowed | Reason::NotNow | Reason::Busy), detail)) => {
                (Outcome::Refused, Some(reason), detail)
            }
            Err((reason, detail)) => (Outcome::Failed, Some(reason), detail),
        };
        self.answer(open.id, open.name, outcome, reason, detail).await;
    }

    /// Answers the commands that were begun before the program or the power ended.
    pub async fn answer_interrupted(self: &Arc<Self>) {
        let Some(open) = self.with_outbox(Outbox::unanswered).await else { return };
        for (id, name) in open {
            let detail = "the program or the power ended before it was done".to_owned();
            let response = response(Some(id.clone()), name, Outcome::Failed, Some(Reason::Interrupted), detail);
            self.keep(id, response).await;
        }
    }

    async fn answer(
        self: &Arc<Self>,
        id: String,
        name: &str,
        outcome: Outcome,
        reason: Option<Reason>,
        detail: String,
    ) {
        if outcome != Outcome::Done {
            tracing::warn!(command = id, "the command {name} was not carried out: {detail}");
        }
        let response = response(Some(id.clone()), name.to_owned(), outcome, reason, detail);
        self.keep(id, response).await;
    }

    /// Stores the answer to a command that is noted. Where the disk refuses, it is tried until it is there: otherwise the next start
    /// would tell that the command was interrupted.
    async fn keep(self: &Arc<Self>, id: String, response: Response) {
        if self.store(Some(id.clone()), &response).await {
            return;
        }
        let clerk = self.clone();
        tokio::spawn(async move {
            let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + RETRY, RETRY);
            loop {
                tick.tick().await;
                if clerk.store(Some(id.clone()), &response).await {
                    return;
                }
            }
        });
    }

    async fn store(&self, id: Option<String>, response: &Response) -> bool {
        let Ok(payload) = serde_json::to_vec(response) else { return true };
        let at = response.at;
        let stored = self.with_outbox(move |outbox| outbox.answer(id.as_deref(), &payload, at)).await.is_some();
        self.stored.notify_one();
        stored
    }

    async fn with_outbox<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outbox) -> Result<T, crate::publish::OutboxError> + Send + 'static,
    ) -> Option<T> {
        let outbox = self.outbox.clone();
        match tokio::task::spawn_blocking(move || work(&outbox)).await {
            Ok(Ok(done)) => Some(done),
            Ok(Err(error)) => {
                tracing::error!("outbox: {error}");
                self.board.outbox_trouble(&error.to_string());
                None
            }
            Err(_) => None,
        }
    }
}

fn response(id: Option<String>, command: String, outcome: Outcome, reason: Option<Reason>, detail: String) -> Response {
    /// A response must always fit into a message.
    const LONGEST: usize = 1000;
    let detail = detail.chars().take(LONGEST).collect();
    Response { schema: 1, id, command, outcome, reason, detail, at: Timestamp::now() }
}
