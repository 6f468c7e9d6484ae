//! One connection to the broker, from its first message to its last.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, Publish};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::connection::{COMMANDS, IN_FLIGHT, words};
use super::link::closed;
use super::pace::Pace;
use super::{Kind, Link, Outbox, OutboxError, Stock, Stored, Topics, discovery};
use crate::board::{BrokerStatus, State};

/// A broker that confirms nothing for so long is as good as lost, whatever it answers to pings.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a goodbye may take that is said already.
const GOODBYE: Duration = Duration::from_millis(100);
/// The state changes with every frame of an exam; nobody reads faster than this.
const STATE_EVERY: Duration = Duration::from_millis(100);

/// Most bytes of what stands in a packet beside topic and message (MQTT 5, 3.3): kind and length 5, length of the topic 2, number 2,
/// properties 1.
const PACKET_HEAD: usize = 10;

/// What a message was, to know what its confirmation means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Stored(Kind, u64),
    State,
    Availability,
    Discovery,
}

/// What was to be taken out of the outbox, and what came of that.
type Removed = (Vec<(Kind, u64)>, Result<Stock, OutboxError>);

/// Why a connection ended.
pub(super) enum End {
    Closed,
    Lost(String),
}

/// One connection.
pub(super) struct Session<'a> {
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
    /// Messages of the outbox that are handed over or numbered.
    under_way: usize,
    /// Read from the outbox, in order, and next to be sent.
    next: VecDeque<(Kind, Stored)>,
    /// The last place of each kind that was read.
    read: HashMap<Kind, u64>,
    /// There may be more in the outbox than was read.
    more: bool,
    pace: Pace,
    /// When the pace lets the next message pass.
    paced: Option<Instant>,
    /// Confirmed, and still in the outbox.
    confirmed: Vec<(Kind, u64)>,
    removal: Option<JoinHandle<Removed>>,
    /// Commands that came and are not noted on the disk yet, in order.
    commands: VecDeque<Publish>,
    state_due: bool,
    state_sent: Instant,
    last_confirmation: Instant,
    since: Option<Instant>,
    /// Something was refused, and that was said.
    refusal_told: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(link: &'a Link, topics: &'a Topics, client: AsyncClient) -> Self {
        let now = Instant::now();
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
            under_way: 0,
            next: VecDeque::new(),
            read: HashMap::new(),
            more: true,
            pace: Pace::new(link.settings.replay_per_s, now),
            paced: None,
            confirmed: Vec::new(),
            removal: None,
            commands: VecDeque::new(),
            state_due: false,
            state_sent: now,
            last_confirmation: now,
            since: None,
            refusal_told: false,
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// How long the broker was there.
    pub(super) fn lasted(&self) -> Option<Duration> {
        self.since.map(|since| since.elapsed())
    }

    pub(super) async fn run(
        &mut self,
        events: EventLoop,
        close: &mut watch::Receiver<bool>,
        patience: Duration,
    ) -> End {
        let (event_in, mut event_out) = mpsc::channel(2 * IN_FLIGHT);
        // Polled to its end, never dropped in the middle: the client is not made for that. And by a task of its own: pings must go
        // out while something here waits for the disk.
        let mut client = JoinSet::new();
        client.spawn(pump(events, event_in));
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let mut deadline = None;
        loop {
            // While one is on its way, its confirmation sends the next.
            let next_state =
                (self.state_due && self.connected && !self.is_state_sent()).then(|| self.state_sent + STATE_EVERY);
            let step = tokio::select! {
                Some(event) = event_out.recv() => self.on_event(event).await,
                Some(ended) = client.join_next() => {
                    // What came before the failure counts still: confirmations above all.
                    while let Ok(event) = event_out.try_recv() {
                        let _ = self.on_event(event).await;
                    }
                    Err(match ended {
                        Ok(error) => words(&error, self.connected, self.link.settings.tls.is_some()),
                        Err(error) => error.to_string(),
                    })
                }
                () = closed(close), if !self.closing => {
                    if !self.connected {
                        // Nobody is there to say farewell to; what is in the outbox stays there.
                        return End::Closed;
                    }
                    self.closing = true;
                    deadline = Some(Instant::now() + patience);
                    self.send_stored().await
                }
                () = until(deadline) => {
                    let _ = self.say_farewell();
                    Err("it did not confirm everything in time".into())
                }
                () = self.link.stored.notified() => {
                    self.put_back();
                    self.send_stored().await
                }
                () = until(self.paced) => self.send_stored().await,
                Ok(()) = self.state.changed(), if !self.closing => {
                    self.state_due = true;
                    self.send_state()
                }
                () = until(next_state), if !self.closing => self.send_state(),
                done = finished(&mut self.removal) => {
                    self.on_removal(done);
                    self.send_stored().await
                }
                _ = tick.tick() => self.on_tick().await,
            };
            let step =
                step.and_then(|()| if self.closing && self.under_way == 0 { self.say_farewell() } else { Ok(()) });
            let all_said = self.closing && self.handed.is_empty() && self.unconfirmed.is_empty();
            match step {
                Ok(()) if all_said => {
                    self.goodbye(client).await;
                    return End::Closed;
                }
                Ok(()) => {}
                Err(reason) => {
                    if self.closing {
                        self.goodbye(client).await;
                    } else {
                        self.finish_removal().await;
                    }
                    return End::Lost(reason);
                }
            }
        }
    }

    /// Disconnects cleanly, which keeps the broker from publishing the last will.
    async fn goodbye(&mut self, mut client: JoinSet<ConnectionError>) {
        if self.client.try_disconnect().is_ok() {
            let _ = tokio::time::timeout(GOODBYE, client.join_next()).await;
        }
        self.finish_removal().await;
    }

    async fn on_event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Incoming(Packet::ConnAck(answer)) => {
                let most = answer.properties.and_then(|properties| properties.max_packet_size);
                self.on_connected(most).await
            }
            Event::Outgoing(Outgoing::Publish(number)) => {
                if let Some(sent) = self.handed.pop_front() {
                    self.unconfirmed.insert(number, sent);
                }
                Ok(())
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                self.last_confirmation = Instant::now();
                let Some(sent) = self.unconfirmed.remove(&ack.pkid) else { return Ok(()) };
                if let Sent::Stored(..) = sent {
                    self.under_way -= 1;
                }
                match ack.reason {
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers => self.proven = true,
                    refusal => self.on_refusal(sent, refusal)?,
                }
                match sent {
                    Sent::Stored(kind, key) => {
                        self.confirmed.push((kind, key));
                        self.remove_confirmed();
                        self.send_stored().await
                    }
                    Sent::State => self.send_state(),
                    Sent::Availability | Sent::Discovery => Ok(()),
                }
            }
            Event::Incoming(Packet::Publish(command)) => {
                let is_command = command.topic.starts_with(self.topics.command.as_bytes());
                // More can only be such as nobody waits for: those that must be confirmed keep to that number.
                if is_command && self.commands.len() < usize::from(COMMANDS) {
                    self.commands.push_back(command);
                }
                self.take_commands().await
            }
            Event::Incoming(Packet::SubAck(answer)) => {
                use rumqttc::v5::mqttbytes::v5::SubscribeReasonCode::Success;
                if let Some(refusal) = answer.return_codes.iter().find(|code| !matches!(code, Success(_))) {
                    tracing::warn!("the broker does not let this kiosk receive commands ({refusal:?})");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The broker does not take a message. A result stays in the outbox, and the connection ends, so that everybody sees why
    /// nothing comes; everything else is not worth that.
    fn on_refusal(&mut self, sent: Sent, refusal: PubAckReason) -> Result<(), String> {
        let (what, topic) = match sent {
            Sent::Stored(kind, _) => ("messages", self.topics.of(kind)),
            Sent::State => ("the state", self.topics.state.as_str()),
            Sent::Availability => ("the availability", self.topics.availability.as_str()),
            Sent::Discovery => ("the discovery message", self.topics.discovery.as_str()),
        };
        let words = format!("the broker does not take {what} of this kiosk ({refusal:?}); may it write to {topic}?");
        if let Sent::Stored(Kind::Result, _) = sent {
            // Or it would be tried again without a pause.
            self.proven = false;
            return Err(words);
        }
        if !std::mem::replace(&mut self.refusal_told, true) {
            tracing::warn!("{words}");
        }
        Ok(())
    }

    /// Birth: whoever was not there before learns everything. `most` is how many bytes the broker takes in a packet.
    async fn on_connected(&mut self, most: Option<u32>) -> Result<(), String> {
        self.connected = true;
        self.since = Some(Instant::now());
        self.last_confirmation = Instant::now();
        self.link.board.broker(BrokerStatus::Connected, "");
        tracing::info!("broker {}:{}: connected", self.link.settings.host, self.link.settings.port);
        self.publish(&self.topics.availability, true, b"online".to_vec(), Sent::Availability)?;
        if self.link.clerk.is_some() {
            let every = format!("{}+", self.topics.command);
            self.client.try_subscribe(every, QoS::AtLeastOnce).map_err(|error| error.to_string())?;
        }
        if self.link.settings.home_assistant {
            let device = discovery::message(&self.link.device_id, &self.link.settings, self.topics);
            let bytes = device.len() + self.topics.discovery.len() + PACKET_HEAD;
            if most.is_none_or(|most| bytes <= most as usize) {
                self.publish(&self.topics.discovery, true, device, Sent::Discovery)?;
            } else {
                // The client would end the connection over it, again and again, and no result would ever be sent.
                tracing::warn!("the broker takes no packet as large as the discovery message, of {bytes} bytes");
            }
        }
        self.state_due = true;
        self.state_sent = Instant::now() - STATE_EVERY;
        self.send_state()?;
        self.send_stored().await
    }

    /// Hands commands over, in their order. Only when one is on the disk does the broker hear that it came; where the disk refuses,
    /// it is tried again at the next tick.
    async fn take_commands(&mut self) -> Result<(), String> {
        while let (Some(clerk), Some(command)) = (&self.link.clerk, self.commands.front()) {
            let name = command.topic.strip_prefix(self.topics.command.as_bytes()).unwrap_or_default();
            // An empty one takes a retained one away, and asks for nothing.
            if !command.payload.is_empty() && !clerk.receive(&String::from_utf8_lossy(name), &command.payload).await {
                return Ok(());
            }
            self.client.try_ack(command).map_err(|error| error.to_string())?;
            self.commands.pop_front();
        }
        Ok(())
    }

    async fn on_tick(&mut self) -> Result<(), String> {
        let waiting = !self.handed.is_empty() || !self.unconfirmed.is_empty();
        if !waiting {
            self.last_confirmation = Instant::now();
        } else if self.last_confirmation.elapsed() > CONFIRM_TIMEOUT {
            return Err(format!("nothing was confirmed for {} s", CONFIRM_TIMEOUT.as_secs()));
        }
        // Only after a refusal of the disk is there anything to do.
        self.take_commands().await?;
        self.remove_confirmed();
        self.send_stored().await
    }

    /// Takes confirmed messages out of the outbox, all at once: while one batch is at the disk, the next gathers.
    fn remove_confirmed(&mut self) {
        if self.removal.is_some() || self.confirmed.is_empty() {
            return;
        }
        let (outbox, batch) = (self.link.outbox.clone(), std::mem::take(&mut self.confirmed));
        self.removal = Some(tokio::task::spawn_blocking(move || {
            let removed = outbox.remove(&batch);
            (batch, removed)
        }));
    }

    /// What the disk refuses is tried again at the next tick.
    fn on_removal(&mut self, (batch, removed): Removed) {
        match removed {
            Ok(stock) => {
                self.link.board.outbox(stock);
                self.remove_confirmed();
            }
            Err(error) => {
                self.confirmed.extend(batch);
                self.disk_refuses(&error.to_string());
            }
        }
    }

    /// What was confirmed shall not be sent again with the next connection, if the disk is quick enough.
    async fn finish_removal(&mut self) {
        let patience = Instant::now() + GOODBYE;
        self.remove_confirmed();
        while self.removal.is_some() {
            tokio::select! {
                done = finished(&mut self.removal) => self.on_removal(done),
                () = sleep_until(patience) => return,
            }
        }
    }

    /// Hands over as many messages of the outbox as may be on their way, and as fast as the pace allows.
    async fn send_stored(&mut self) -> Result<(), String> {
        self.paced = None;
        // A disk that does not forget what was confirmed would have it all sent again after a restart.
        while self.connected && self.under_way < IN_FLIGHT && self.confirmed.len() < IN_FLIGHT {
            if self.next.is_empty() {
                self.read_more().await;
            }
            let Some(&(kind, Stored { key, .. })) = self.next.front() else { break };
            // Somebody waits for an answer.
            if kind != Kind::Response
                && let Err(at) = self.pace.pass(Instant::now())
            {
                self.paced = Some(at);
                break;
            }
            let Some((_, Stored { payload, .. })) = self.next.pop_front() else { break };
            self.publish(self.topics.of(kind), false, payload, Sent::Stored(kind, key))?;
            self.under_way += 1;
        }
        Ok(())
    }

    /// What was read and not sent is read again, after what has become more urgent.
    fn put_back(&mut self) {
        if let Some((kind, first)) = self.next.front() {
            match first.key.checked_sub(1) {
                Some(before) => self.read.insert(*kind, before),
                None => self.read.remove(kind),
            };
        }
        self.next.clear();
        self.more = true;
    }

    async fn read_more(&mut self) {
        for kind in Kind::ALL {
            if !self.more {
                return;
            }
            let after = self.read.get(&kind).copied();
            let Some(found) = self.with_outbox(move |outbox| outbox.after(kind, after, IN_FLIGHT)).await else {
                return;
            };
            if let Some(last) = found.last() {
                self.read.insert(kind, last.key);
                self.next.extend(found.into_iter().map(|stored| (kind, stored)));
                return;
            }
        }
        self.more = false;
    }

    /// Whether a state is on its way to the broker.
    fn is_state_sent(&self) -> bool {
        let is_state = |sent: &Sent| *sent == Sent::State;
        self.handed.iter().any(is_state) || self.unconfirmed.values().any(is_state)
    }

    /// Sends the newest state, one at a time and not too often: what changes meanwhile goes out with the next one.
    fn send_state(&mut self) -> Result<(), String> {
        let early = self.state_sent.elapsed() < STATE_EVERY;
        if !self.state_due || !self.connected || self.is_state_sent() || early || self.closing {
            return Ok(());
        }
        let json = serde_json::to_vec(&*self.state.borrow_and_update()).map_err(|error| error.to_string())?;
        self.state_due = false;
        self.state_sent = Instant::now();
        self.publish(&self.topics.state, true, json, Sent::State)
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
        self.disk_refuses(&error);
        None
    }

    fn disk_refuses(&self, error: &str) {
        tracing::error!("outbox: {error}; trying again");
        self.link.board.outbox_trouble(error);
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The end of a task that may not be there.
async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> T {
    loop {
        match task {
            Some(running) => {
                let done = running.await;
                *task = None;
                // It neither panics nor is it cancelled; if it were, there would be nothing to say of it.
                if let Ok(done) = done {
                    return done;
                }
            }
            None => std::future::pending().await,
        }
    }
}

/// Polls the connection until it fails, and hands every event on.
async fn pump(mut events: EventLoop, out: mpsc::Sender<Event>) -> ConnectionError {
    loop {
        match events.poll().await {
            Ok(event) => {
                // Nobody listens any more only when the session is over, and then this task is, too.
                let _ = out.send(event).await;
            }
            Err(error) => return error,
        }
    }
}
