//! The link: the connection to the broker, made again whenever it is lost.
//!
//! Each connection is a new client with an empty queue, and the outbox is the only memory of what must be sent. So a
//! confirmation can never be taken for that of a message of an earlier connection.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::AsyncClient;
use tokio::sync::{Notify, watch};

use super::connection::{self, CHANNEL};
use super::session::{End, Session};
use super::{Outbox, Topics};
use crate::board::{Board, BrokerStatus};
use crate::commands::Clerk;
use crate::config;

/// Shortest and longest wait before the next try.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// A connection that was there for so short a time, so often in a row, is taken away by somebody.
const FLEETING: (Duration, u32) = (Duration::from_secs(3), 10);
/// The wait before the next try is then at least this.
const FLEETING_RETRY: Duration = Duration::from_secs(1);

/// Everything that the link needs.
#[derive(Debug)]
pub struct Link {
    /// The broker.
    pub settings: config::Mqtt,
    /// The name of the kiosk.
    pub device_id: String,
    /// What must be sent.
    pub outbox: Arc<Outbox>,
    /// Where the state comes from and goes to.
    pub board: Arc<Board>,
    /// Rings when something new is in the outbox.
    pub stored: Arc<Notify>,
    /// Who takes commands; without one, none is received.
    pub clerk: Option<Arc<Clerk>>,
}

impl Link {
    /// Whether a connection could be made as far as the files of this kiosk are concerned, or what is wrong with them.
    pub fn check(settings: &config::Mqtt, device_id: &str) -> Result<(), String> {
        connection::options(settings, device_id, &Topics::new(device_id)).map(drop)
    }

    /// Keeps the connection until `close` holds `true` or its sender is gone. Then it sends what is left, says
    /// `stopped`, and waits at most `patience` for the confirmations.
    pub async fn run(self, mut close: watch::Receiver<bool>, patience: Duration) {
        let topics = Topics::new(&self.device_id);
        let (mut wait, mut fleeting) = (RETRY.0, 0);
        loop {
            let end = match connection::options(&self.settings, &self.device_id, &topics) {
                Ok(options) => {
                    let (client, events) = AsyncClient::new(options, CHANNEL);
                    let mut session = Session::new(&self, &topics, client);
                    let end = session.run(events, &mut close, patience).await;
                    if session.is_proven() {
                        wait = RETRY.0;
                    }
                    let short = session.lasted().is_some_and(|lasted| lasted < FLEETING.0);
                    fleeting = if short { fleeting + 1 } else { 0 };
                    end
                }
                Err(reason) => End::Lost(reason),
            };
            let End::Lost(mut reason) = end else { return };
            if fleeting >= FLEETING.1 {
                wait = wait.max(2 * FLEETING_RETRY);
                reason += "; this happens again and again: is there another kiosk with this device_id?";
            }
            let broker = format!("{}:{}", self.settings.host, self.settings.port);
            if *close.borrow() {
                tracing::warn!("broker {broker}: {reason}; what it has not confirmed is sent after the next start");
                return;
            }
            // Kiosks that lost the same broker at the same moment must not come back at the same moment.
            let pause = wait.mul_f64(rand::random_range(0.5..1.0));
            tracing::warn!("broker {broker}: {reason}; trying again in {:.1} s", pause.as_secs_f32());
            self.board.broker(BrokerStatus::Lost, &format!("{broker}: {reason}"));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = closed(&mut close) => return,
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }
}

/// Waits until the link is to be closed.
pub(super) async fn closed(close: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which closes the link, too.
    let _ = close.wait_for(|close| *close).await;
}
