//! `anemiad run`: the service, its signals and systemd.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::board::{ConfigStatus, UpdateStatus};
use crate::change;
use crate::commands::{Open, Order, Reason};
use crate::machine;
use crate::service::{Carried, Prepared, Refusal, Running};
use crate::starts::Starts;

/// Commands that wait for the service.
const ORDERS: usize = 4;
/// Microseconds for which systemd waits for a start that waits itself: that, and what the unit gives a start.
const PATIENCE_US: u32 = 90_000_000;
/// How long a newer model has to run without a failure until it is trusted.
const PROOF: Duration = Duration::from_secs(20);

/// What the daemon does next.
enum Next {
    Stop,
    /// Another configuration takes over; the command that asked for it.
    TakeOver(Box<Prepared>, Carried, Option<Open>),
}

/// Runs until SIGTERM or SIGINT. SIGHUP reads the configuration again.
pub async fn run(path: &Path) -> Result<(), Refusal> {
    let no_signals = |error| Refusal::Failure(format!("signals: {error}"));
    let mut stop = StopSignals::new().map_err(no_signals)?;
    let mut reload = signal(SignalKind::hangup()).map_err(no_signals)?;
    let (orders_in, mut orders) = mpsc::channel(ORDERS);
    let starts = Starts::count(machine::variable("RUNTIME_DIRECTORY").map(PathBuf::from));
    let first = tokio::select! {
        first = first(path, &starts) => first,
        () = stop.recv() => {
            starts.forget();
            return Ok(());
        }
    };
    // After any other refusal systemd does not start it again: a person does.
    if !matches!(first, Err(Refusal::Failure(_))) {
        starts.forget();
    }
    let mut prepared = Box::new(first?);
    let (mut carried, mut is_first, mut open) = (Carried::default(), true, None);
    loop {
        let started = Running::start(*prepared, carried, orders_in.clone())
            .map_err(|error| Refusal::Failure(format!("threads: {error}")))?;
        tracing::info!(device = started.config().device_id, config = %path.display(), "ready");
        tell(&[NotifyState::Ready, NotifyState::Status("running")]);
        if std::mem::take(&mut is_first) {
            started.clerk().answer_interrupted().await;
        }
        if let Some(open) = open.take() {
            let model = started.board().watch().borrow().model.clone();
            started.clerk().close(open, Ok(format!("{} {} judges", model.name, model.version))).await;
        }
        match serve(started, path, &mut stop, &mut reload, &mut orders).await? {
            Next::TakeOver(next, passed, asked) => {
                (prepared, carried, open) = (next, passed, asked);
                prepared.count_again().await;
            }
            Next::Stop => return Ok(()),
        }
    }
}

/// Prepares the first configuration, after a wait where many starts before this one failed.
async fn first(path: &Path, starts: &Starts) -> Result<Prepared, Refusal> {
    let wait = starts.wait();
    if !wait.is_zero() {
        let text = format!("{} starts in a row failed; this one waits {} s", starts.failed(), wait.as_secs());
        tracing::warn!("{text}");
        tell(&[NotifyState::Status(&text), NotifyState::ExtendTimeoutUsec(PATIENCE_US)]);
        tokio::time::sleep(wait).await;
    }
    change::first(path).await
}

/// Serves until the daemon is to end or another configuration is to take over.
async fn serve(
    running: Running,
    path: &Path,
    stop: &mut StopSignals,
    reload: &mut Signal,
    orders: &mut mpsc::Receiver<Open>,
) -> Result<Next, Refusal> {
    let mut watchdog = Watchdog::new();
    let mut confirming = None;
    let mut proof = tokio::time::interval_at(tokio::time::Instant::now() + PROOF, PROOF);
    loop {
        let open = tokio::select! {
            () = stop.recv() => {
                tell(&[NotifyState::Stopping]);
                tokio::select! {
                    _ = running.finish() => return Ok(Next::Stop),
                    () = stop.recv() => return Err(Refusal::Failure("stopped at once by a second signal".into())),
                }
            }
            _ = reload.recv() => None,
            Some(open) = orders.recv() => Some(open),
            part = running.broken() => return Err(broken(running, part).await),
            () = watchdog.due() => {
                watchdog.feed(running.is_healthy());
                continue;
            }
            _ = proof.tick() => {
                // A disk that hangs gets one of these at a time.
                if confirming.as_ref().is_none_or(JoinHandle::is_finished) {
                    confirming = change::confirm_trials(&running);
                }
                continue;
            }
        };
        let config_before = running.board().watch().borrow().config.clone();
        // systemd wants both in one message.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
        // Building a plan takes minutes, in which the daemon goes on with the old one.
        let next = {
            let (order, confirming) = (open.as_ref().map(|open| &open.order), confirming.take());
            let mut next = std::pin::pin!(async {
                // What it writes about the models is what the change reads.
                if let Some(confirming) = confirming {
                    let _ = confirming.await;
                }
                change::prepare(path, &running, order).await
            });
            loop {
                tokio::select! {
                    next = &mut next => break Ok(next),
                    () = watchdog.due() => watchdog.feed(running.is_healthy()),
                    () = stop.recv() => break Err(None),
                    part = running.broken() => break Err(Some(part)),
                }
            }
        };
        match next {
            Err(None) => {
                tell(&[NotifyState::Stopping]);
                running.finish().await;
                return Ok(Next::Stop);
            }
            Err(Some(part)) => return Err(broken(running, part).await),
            Ok(Ok(next)) => {
                tracing::info!("the configuration was read again and takes over");
                let mut finish = std::pin::pin!(running.finish());
                return tokio::select! {
                    carried = &mut finish => Ok(Next::TakeOver(Box::new(next), carried, open)),
                    () = stop.recv() => {
                        // It is on its way down already: it only must not come back.
                        tell(&[NotifyState::Stopping]);
                        finish.await;
                        Ok(Next::Stop)
                    }
                };
            }
            Ok(Err((reason, detail))) => {
                match &open {
                    None | Some(Open { order: Order::Reload, .. }) => {
                        running.board().config(ConfigStatus::Refused, &detail);
                    }
                    Some(Open { order, .. }) => {
                        if matches!(order, Order::ModelUpdate(_)) && reason != Reason::NotAllowed {
                            running.board().update(UpdateStatus::RolledBack, &detail);
                        }
                        running.board().config(config_before.status, &config_before.detail);
                    }
                }
                match open {
                    Some(open) => running.clerk().close(open, Err((reason, detail))).await,
                    None => tracing::error!("the new configuration is refused and the old one stays: {detail}"),
                }
                tell(&[NotifyState::Ready, NotifyState::Status("running; the last change is refused")]);
            }
        }
    }
}

/// Ends what is left of a daemon of which a part has ended: whatever still works brings its results home.
async fn broken(running: Running, part: &str) -> Refusal {
    change::roll_back_if(running.config(), &format!("{part} ended unexpectedly"), |trial| {
        trial.is_of_any(running.models())
    });
    running.finish().await;
    Refusal::Failure(format!("{part} ended unexpectedly"))
}

/// Tells systemd, if it started us.
pub(crate) fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd was not told: {error}");
    }
}

/// SIGTERM and SIGINT.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// systemd's watchdog, which restarts the daemon when it is not fed.
struct Watchdog {
    tick: Option<tokio::time::Interval>,
    hungry: bool,
}

impl Watchdog {
    fn new() -> Self {
        let tick = sd_notify::watchdog_enabled().map(|limit| tokio::time::interval(limit / 3));
        Self { tick, hungry: false }
    }

    async fn due(&mut self) {
        match &mut self.tick {
            Some(tick) => {
                tick.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    fn feed(&mut self, healthy: bool) {
        if healthy {
            tell(&[NotifyState::Watchdog]);
        } else if !self.hungry {
            tracing::error!("no frame was analysed for too long; systemd's watchdog is not fed any more");
        }
        self.hungry = !healthy;
    }
}
