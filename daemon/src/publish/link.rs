//! The link: the connection to the broker.
//!
//! Each connection is a new client with an empty queue, and the outbox is the only memory of what must be sent. So a
//! confirmation can never be taken for that of a message of an earlier connection.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Outgoing, Packet, QoS,
};
use tokio::sync::{Notify, mpsc, watch};
use uuid::Uuid;

use super::{Outbox, Topics};
use crate::board::{Board, BrokerStatus, State};
use crate::config;

/// Results that are on their way at the same time.
const IN_FLIGHT: usize = 32;
/// Room for all of them, and for availability and state.
const CHANNEL: usize = IN_FLIGHT + 32;
/// Shortest and longest wait before the next try.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How long a connection is waited for.
const CONNECT_TIMEOUT_S: u64 = 5;

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
}

/// What the link is asked to say when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// The daemon ends: `stopped`.
    Stopped,
    /// It comes back at once with another configuration: nothing.
    Silent,
}

/// What a message was, to know what its confirmation means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Result(Uuid),
    Other,
}

/// Why a connection ended.
enum End {
    Closed,
    Lost(String),
}

impl Link {
    /// Keeps the connection until `close` holds a farewell; gives up waiting for the broker `patience` after that.
    pub async fn run(self, mut close: watch::Receiver<Option<Farewell>>, patience: Duration) {
        let topics = Topics::new(&self.device_id);
        let mut wait = RETRY.0;
        loop {
            self.board.broker(BrokerStatus::Connecting, "");
            let end = match self.options(&topics) {
                Ok(options) => {
                    let (client, events) = AsyncClient::new(options, CHANNEL);
                    let mut session = Session::new(&self, &topics, client);
                    let end = session.run(events, &mut close, patience).await;
                    if session.connected {
                        wait = RETRY.0;
                    }
                    end
                }
                Err(reason) => End::Lost(reason),
            };
            let End::Lost(reason) = end else { return };
            if close.borrow().is_some() {
                tracing::warn!("broker: {reason}; what it has not confirmed is sent after the next start");
                return;
            }
            self.lost(&reason, wait);
            if pause(wait, &mut close).await {
                return;
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    fn lost(&self, reason: &str, wait: Duration) {
        let broker = format!("{}:{}", self.settings.host, self.settings.port);
        tracing::warn!("broker {broker}: {reason}; trying again in {:.1} s", wait.as_secs_f32());
        self.board.broker(BrokerStatus::Lost, &format!("{broker}: {reason}"));
    }

    fn options(&self, topics: &Topics) -> Result<MqttOptions, String> {
        let settings = &self.settings;
        let mut options = MqttOptions::new(settings.client_id(&self.device_id), &settings.host, settings.port);
        options.set_keep_alive(Duration::from_secs(settings.keep_alive_s.into()));
        options.set_inflight(CHANNEL as u16);
        options.set_last_will(LastWill::new(&topics.availability, "offline", QoS::AtLeastOnce, true));
        if let Some(user) = &settings.username {
            let password = settings.password_file.as_deref().map(read_password).transpose()?.unwrap_or_default();
            options.set_credentials(user, password);
        }
        Ok(options)
    }
}

/// Waits; `true` if the link is to be closed.
async fn pause(wait: Duration, close: &mut watch::Receiver<Option<Farewell>>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(wait) => false,
        _ = close.wait_for(Option::is_some) => true,
    }
}

fn read_password(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("password file {}: {error}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// One connection.
struct Session<'a> {
    link: &'a Link,
    topics: &'a Topics,
    client: AsyncClient,
    state: watch::Receiver<State>,
    connected: bool,
    /// Handed to the client and not numbered yet, in order.
    handed: VecDeque<Sent>,
    /// Numbered and not confirmed yet.
    unconfirmed: HashMap<u16, Sent>,
    /// The last result that was handed over on this connection.
    last: Option<Uuid>,
    closing: bool,
}

impl<'a> Session<'a> {
    fn new(link: &'a Link, topics: &'a Topics, client: AsyncClient) -> Self {
        Self {
            link,
            topics,
            client,
            state: link.board.watch(),
            connected: false,
            handed: VecDeque::new(),
            unconfirmed: HashMap::new(),
            last: None,
            closing: false,
        }
    }

    async fn run(
        &mut self,
        mut events: EventLoop,
        close: &mut watch::Receiver<Option<Farewell>>,
        patience: Duration,
    ) -> End {
        events.network_options.set_connection_timeout(CONNECT_TIMEOUT_S);
        let (event_in, mut event_out) = mpsc::channel(16);
        // Polled to its end, never dropped in the middle: the client is not made for that.
        let mut pump = pin!(pump(events, event_in));
        // Far away until the farewell is said.
        let mut deadline = pin!(tokio::time::sleep(Duration::from_secs(365 * 24 * 3600)));
        loop {
            let step = tokio::select! {
                error = &mut pump => Err(words(&error)),
                Some(event) = event_out.recv() => self.on_event(event).await,
                () = self.link.stored.notified() => self.send_results().await,
                Ok(()) = self.state.changed(), if self.connected && !self.closing => self.send_state(),
                Ok(farewell) = wait_for_farewell(close), if !self.closing => {
                    self.closing = true;
                    deadline.as_mut().reset(tokio::time::Instant::now() + patience);
                    if !self.connected {
                        // Nobody is there to say farewell to; what is in the outbox stays there.
                        return End::Closed;
                    }
                    self.say_farewell(farewell).await
                }
                () = &mut deadline => return End::Lost("it did not confirm everything in time".into()),
            };
            if let Err(reason) = step {
                return End::Lost(reason);
            }
            if self.closing && self.handed.is_empty() && self.unconfirmed.is_empty() {
                // A clean goodbye keeps the broker from publishing the last will.
                let _ = self.client.try_disconnect();
                let _ = tokio::time::timeout(Duration::from_millis(200), pump).await;
                return End::Closed;
            }
        }
    }

    async fn on_event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                self.connected = true;
                self.link.board.broker(BrokerStatus::Connected, "");
                tracing::info!("broker {}:{}: connected", self.link.settings.host, self.link.settings.port);
                self.publish(&self.topics.availability.clone(), true, b"online".to_vec(), Sent::Other)?;
                self.send_state()?;
                self.send_results().await
            }
            Event::Outgoing(Outgoing::Publish(number)) => {
                if let Some(sent) = self.handed.pop_front() {
                    self.unconfirmed.insert(number, sent);
                }
                Ok(())
            }
            Event::Incoming(Packet::PubAck(ack)) => match self.unconfirmed.remove(&ack.pkid) {
                Some(Sent::Result(id)) => self.confirmed(id).await,
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    async fn confirmed(&mut self, id: Uuid) -> Result<(), String> {
        let waiting = self.with_outbox(move |outbox| {
            outbox.remove(id)?;
            outbox.len()
        });
        let waiting = waiting.await?;
        self.link.board.outbox(waiting, "");
        self.send_results().await
    }

    /// Hands over as many results as may be on their way.
    async fn send_results(&mut self) -> Result<(), String> {
        let is_result = |sent: &&Sent| matches!(sent, Sent::Result(_));
        let under_way =
            self.handed.iter().filter(is_result).count() + self.unconfirmed.values().filter(is_result).count();
        if !self.connected || under_way >= IN_FLIGHT {
            return Ok(());
        }
        let after = self.last;
        let batch = self.with_outbox(move |outbox| outbox.next(after, IN_FLIGHT - under_way)).await?;
        for (id, payload) in batch {
            self.publish(&self.topics.result.clone(), false, payload, Sent::Result(id))?;
            self.last = Some(id);
        }
        Ok(())
    }

    fn send_state(&mut self) -> Result<(), String> {
        let json = serde_json::to_vec(&*self.state.borrow_and_update()).map_err(|error| error.to_string())?;
        // The newest state is what counts: with the queue full, the next change brings it.
        if self.handed.len() + self.unconfirmed.len() < CHANNEL - 4 {
            self.publish(&self.topics.state.clone(), true, json, Sent::Other)?;
        }
        Ok(())
    }

    async fn say_farewell(&mut self, farewell: Farewell) -> Result<(), String> {
        self.send_results().await?;
        if farewell == Farewell::Stopped {
            self.publish(&self.topics.availability.clone(), true, b"stopped".to_vec(), Sent::Other)?;
        }
        Ok(())
    }

    fn publish(&mut self, topic: &str, retain: bool, payload: Vec<u8>, sent: Sent) -> Result<(), String> {
        self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload).map_err(|error| error.to_string())?;
        self.handed.push_back(sent);
        Ok(())
    }

    async fn with_outbox<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outbox) -> Result<T, super::OutboxError> + Send + 'static,
    ) -> Result<T, String> {
        let outbox = self.link.outbox.clone();
        let done = tokio::task::spawn_blocking(move || work(&outbox)).await.map_err(|error| error.to_string())?;
        done.map_err(|error| {
            self.link.board.outbox(self.state.borrow().outbox.waiting, &error.to_string());
            error.to_string()
        })
    }
}

/// Polls the connection until it fails, and hands every event on.
async fn pump(mut events: EventLoop, out: mpsc::Sender<Event>) -> ConnectionError {
    loop {
        match events.poll().await {
            Ok(event) => {
                // Nobody listens any more only when the session is over, and then this future is, too.
                let _ = out.send(event).await;
            }
            Err(error) => return error,
        }
    }
}

async fn wait_for_farewell(close: &mut watch::Receiver<Option<Farewell>>) -> Result<Farewell, watch::error::RecvError> {
    // A dropped sender means that the daemon is going down without a word: the same farewell holds.
    Ok(close.wait_for(Option::is_some).await?.unwrap_or(Farewell::Stopped))
}

/// Why a connection failed, in words.
fn words(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword => "the broker refused the user name or password".into(),
            ConnectReturnCode::NotAuthorized => "the broker does not allow this client (not authorized)".into(),
            ConnectReturnCode::BadClientId => "the broker refused the client id".into(),
            ConnectReturnCode::ServiceUnavailable => "the broker is not available".into(),
            other => format!("the broker refused the connection ({other:?})"),
        },
        ConnectionError::NetworkTimeout => format!("no answer within {CONNECT_TIMEOUT_S} s"),
        ConnectionError::Io(error) => error.to_string(),
        other => other.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    }
}
