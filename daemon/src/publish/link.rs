//! The link: the connection to the broker.
//!
//! Each connection is a new client with an empty queue, and the outbox is the only memory of what must be sent. So a
//! confirmation can never be taken for that of a message of an earlier connection.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Outgoing, Packet, QoS,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Outbox, OutboxError, Topics};
use crate::board::{Board, BrokerStatus, State};
use crate::config;

/// Results that are on their way at the same time.
const IN_FLIGHT: usize = 32;
/// Room for all of them, and for availability and state.
const CHANNEL: usize = IN_FLIGHT + 8;
/// A result or a state takes about 1 kB; texts in them are bounded.
const MAX_PACKET: usize = 64 << 10;
/// Shortest and longest wait before the next try.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How long a connection is waited for.
const CONNECT_TIMEOUT_S: u64 = 5;
/// A broker that confirms nothing for so long is as good as lost, whatever it answers to pings.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a goodbye may take that is said already.
const GOODBYE: Duration = Duration::from_millis(100);

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

/// What a message was, to know what its confirmation means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Result(Uuid),
    State,
    Availability,
}

/// Why a connection ended.
enum End {
    Closed,
    Lost(String),
}

impl Link {
    /// Keeps the connection until `close` holds `true` or its sender is gone. Then it sends what is left, says
    /// `stopped`, and waits at most `patience` for the confirmations.
    pub async fn run(self, mut close: watch::Receiver<bool>, patience: Duration) {
        let topics = Topics::new(&self.device_id);
        let mut wait = RETRY.0;
        loop {
            let end = match self.options(&topics) {
                Ok(options) => {
                    let (client, events) = AsyncClient::new(options, CHANNEL);
                    let mut session = Session::new(&self, &topics, client);
                    let end = session.run(events, &mut close, patience).await;
                    if session.proven {
                        wait = RETRY.0;
                    }
                    end
                }
                Err(reason) => End::Lost(reason),
            };
            let End::Lost(reason) = end else { return };
            let broker = format!("{}:{}", self.settings.host, self.settings.port);
            if *close.borrow() {
                tracing::warn!("broker {broker}: {reason}; what it has not confirmed is sent after the next start");
                return;
            }
            tracing::warn!("broker {broker}: {reason}; trying again in {:.1} s", wait.as_secs_f32());
            self.board.broker(BrokerStatus::Lost, &format!("{broker}: {reason}"));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = closed(&mut close) => return,
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    fn options(&self, topics: &Topics) -> Result<MqttOptions, String> {
        let settings = &self.settings;
        // The client puts host and port together as text, which for an IPv6 address needs brackets.
        let host = if settings.host.contains(':') { format!("[{}]", settings.host) } else { settings.host.clone() };
        let mut options = MqttOptions::new(settings.client_id(&self.device_id), host, settings.port);
        options.set_keep_alive(Duration::from_secs(settings.keep_alive_s.into()));
        options.set_inflight(CHANNEL as u16);
        options.set_max_packet_size(MAX_PACKET, MAX_PACKET);
        options.set_last_will(LastWill::new(&topics.availability, "offline", QoS::AtLeastOnce, true));
        if let Some(user) = &settings.username {
            options.set_credentials(user, settings.password()?);
        }
        Ok(options)
    }
}

/// Waits until the link is to be closed.
async fn closed(close: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which closes the link, too.
    let _ = close.wait_for(|close| *close).await;
}

/// One connection.
struct Session<'a> {
    link: &'a Link,
    topics: &'a Topics,
    client: AsyncClient,
    state: watch::Receiver<State>,
    connected: bool,
    /// The broker has confirmed something: it is more than a port that accepts connections.
    proven: bool,
    closing: bool,
    farewell_said: bool,
    /// Handed to the client and not numbered yet, in order.
    handed: VecDeque<Sent>,
    /// Numbered and not confirmed yet.
    unconfirmed: HashMap<u16, Sent>,
    /// Results that are handed over or numbered, or confirmed and still in the outbox because the disk refused.
    under_way: HashSet<Uuid>,
    /// Confirmed results that the disk refused to forget.
    to_remove: Vec<Uuid>,
    state_due: bool,
    last_confirmation: Instant,
}

impl<'a> Session<'a> {
    fn new(link: &'a Link, topics: &'a Topics, client: AsyncClient) -> Self {
        Self {
            link,
            topics,
            client,
            state: link.board.watch(),
            connected: false,
            proven: false,
            closing: false,
            farewell_said: false,
            handed: VecDeque::new(),
            unconfirmed: HashMap::new(),
            under_way: HashSet::new(),
            to_remove: Vec::new(),
            state_due: false,
            last_confirmation: Instant::now(),
        }
    }

    async fn run(&mut self, mut events: EventLoop, close: &mut watch::Receiver<bool>, patience: Duration) -> End {
        events.network_options.set_connection_timeout(CONNECT_TIMEOUT_S);
        let (event_in, mut event_out) = mpsc::channel(16);
        // Polled to its end, never dropped in the middle: the client is not made for that.
        let mut pump = pin!(pump(events, event_in));
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let mut deadline = None;
        loop {
            let step = tokio::select! {
                Some(event) = event_out.recv() => self.on_event(event).await,
                error = &mut pump => {
                    // What came before the failure counts still: confirmations above all.
                    while let Ok(event) = event_out.try_recv() {
                        let _ = self.on_event(event).await;
                    }
                    Err(words(&error))
                }
                () = closed(close), if !self.closing => {
                    if !self.connected {
                        // Nobody is there to say farewell to; what is in the outbox stays there.
                        return End::Closed;
                    }
                    self.closing = true;
                    deadline = Some(Instant::now() + patience);
                    self.send_results().await
                }
                () = sleep_until(deadline) => {
                    let _ = self.say_farewell();
                    Err("it did not confirm everything in time".into())
                }
                () = self.link.stored.notified() => self.send_results().await,
                Ok(()) = self.state.changed(), if !self.closing => {
                    self.state_due = true;
                    self.send_state()
                }
                _ = tick.tick() => self.on_tick().await,
            };
            let step = step
                .and_then(|()| if self.closing && !self.results_under_way() { self.say_farewell() } else { Ok(()) });
            let all_said = self.closing && self.handed.is_empty() && self.unconfirmed.is_empty();
            match step {
                Ok(()) if all_said => {
                    self.goodbye(pump).await;
                    return End::Closed;
                }
                Ok(()) => {}
                Err(reason) => {
                    if self.closing {
                        self.goodbye(pump).await;
                    }
                    return End::Lost(reason);
                }
            }
        }
    }

    /// Disconnects cleanly, which keeps the broker from publishing the last will.
    async fn goodbye(&mut self, pump: Pin<&mut impl Future<Output = ConnectionError>>) {
        if self.client.try_disconnect().is_ok() {
            let _ = tokio::time::timeout(GOODBYE, pump).await;
        }
    }

    async fn on_event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                self.connected = true;
                self.last_confirmation = Instant::now();
                self.link.board.broker(BrokerStatus::Connected, "");
                tracing::info!("broker {}:{}: connected", self.link.settings.host, self.link.settings.port);
                self.publish(&self.topics.availability, true, b"online".to_vec(), Sent::Availability)?;
                self.state_due = true;
                self.send_state()?;
                self.send_results().await
            }
            Event::Outgoing(Outgoing::Publish(number)) => {
                if let Some(sent) = self.handed.pop_front() {
                    self.unconfirmed.insert(number, sent);
                }
                Ok(())
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                self.proven = true;
                self.last_confirmation = Instant::now();
                match self.unconfirmed.remove(&ack.pkid) {
                    Some(Sent::Result(id)) => {
                        self.to_remove.push(id);
                        self.forget_confirmed().await;
                        self.send_results().await
                    }
                    Some(Sent::State) => self.send_state(),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    async fn on_tick(&mut self) -> Result<(), String> {
        let waiting = !self.handed.is_empty() || !self.unconfirmed.is_empty();
        if !waiting {
            self.last_confirmation = Instant::now();
        } else if self.last_confirmation.elapsed() > CONFIRM_TIMEOUT {
            return Err(format!("nothing was confirmed for {} s", CONFIRM_TIMEOUT.as_secs()));
        }
        // Only after a refusal of the disk is there anything to do.
        self.forget_confirmed().await;
        self.send_results().await
    }

    /// Takes confirmed results out of the outbox. What the disk refuses is tried again at the next tick.
    async fn forget_confirmed(&mut self) {
        while let Some(&id) = self.to_remove.last() {
            let removed = self.with_outbox(move |outbox| {
                outbox.remove(id)?;
                outbox.len()
            });
            let Some(waiting) = removed.await else { return };
            self.link.board.outbox(waiting);
            self.to_remove.pop();
            self.under_way.remove(&id);
        }
    }

    /// Hands over as many results as may be on their way.
    async fn send_results(&mut self) -> Result<(), String> {
        let (busy, limit) = (self.under_way.len(), IN_FLIGHT + self.to_remove.len());
        // A disk that does not forget what was confirmed would have it all sent again after a restart.
        if !self.connected || busy >= limit || self.to_remove.len() >= IN_FLIGHT {
            return Ok(());
        }
        // What is under way is among the first, or was confirmed and removed meanwhile.
        let Some(found) = self.with_outbox(move |outbox| outbox.first(limit)).await else { return Ok(()) };
        for (id, payload) in found {
            if self.under_way.len() < limit && self.under_way.insert(id) {
                self.publish(&self.topics.result, false, payload, Sent::Result(id))?;
            }
        }
        Ok(())
    }

    /// Sends the newest state, one at a time: what changes meanwhile goes out with the next one.
    fn send_state(&mut self) -> Result<(), String> {
        let is_state = |sent: &Sent| *sent == Sent::State;
        let busy = self.handed.iter().any(is_state) || self.unconfirmed.values().any(is_state);
        if !self.state_due || !self.connected || busy || self.closing {
            return Ok(());
        }
        let json = serde_json::to_vec(&*self.state.borrow_and_update()).map_err(|error| error.to_string())?;
        self.state_due = false;
        self.publish(&self.topics.state, true, json, Sent::State)
    }

    fn results_under_way(&self) -> bool {
        self.handed.iter().chain(self.unconfirmed.values()).any(|sent| matches!(sent, Sent::Result(_)))
    }

    /// Says `stopped`, once.
    fn say_farewell(&mut self) -> Result<(), String> {
        if std::mem::replace(&mut self.farewell_said, true) {
            return Ok(());
        }
        self.publish(&self.topics.availability, true, b"stopped".to_vec(), Sent::Availability)
    }

    fn publish(&mut self, topic: &str, retain: bool, payload: Vec<u8>, sent: Sent) -> Result<(), String> {
        self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload).map_err(|error| error.to_string())?;
        self.handed.push_back(sent);
        Ok(())
    }

    /// Works on the outbox beside the runtime. A refusal of the disk is shown and logged, and is no reason to leave
    /// the broker.
    async fn with_outbox<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outbox) -> Result<T, OutboxError> + Send + 'static,
    ) -> Option<T> {
        let outbox = self.link.outbox.clone();
        let error = match tokio::task::spawn_blocking(move || work(&outbox)).await {
            Ok(Ok(done)) => return Some(done),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!("outbox: {error}; trying again");
        self.link.board.outbox_trouble(&error);
        None
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
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

/// Why a connection failed, in words.
fn words(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword => "the broker refused the user name or password".into(),
            // What mosquitto answers to a wrong password, too.
            ConnectReturnCode::NotAuthorized => "the broker refused the user name or password (not authorized)".into(),
            ConnectReturnCode::BadClientId => "the broker refused the client id".into(),
            ConnectReturnCode::ServiceUnavailable => "the broker is not available".into(),
            other => format!("the broker refused the connection ({other:?})"),
        },
        ConnectionError::NetworkTimeout => format!("no answer within {CONNECT_TIMEOUT_S} s"),
        ConnectionError::Io(error) => error.to_string(),
        other => other.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    }
}
