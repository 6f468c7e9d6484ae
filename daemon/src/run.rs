//! `anemiad run`: the service, its signals and systemd.

use std::path::Path;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::board::ConfigStatus;
use crate::builds::{Builds, StopOnDrop};
use crate::config;
use crate::early::Early;
use crate::service::{Opened, Prepared, Refusal, Running};

/// Runs until SIGTERM or SIGINT. SIGHUP reads the configuration again.
pub async fn run(path: &Path) -> Result<(), Refusal> {
    let no_signals = |error| Refusal::Failure(format!("signals: {error}"));
    let mut stop = StopSignals::new().map_err(no_signals)?;
    let mut reload = signal(SignalKind::hangup()).map_err(no_signals)?;
    let mut prepared = tokio::select! {
        prepared = prepare(path, None) => prepared?,
        () = stop.recv() => return Ok(()),
    };
    let mut patient_done = false;
    loop {
        let started =
            Running::start(prepared, patient_done).map_err(|error| Refusal::Failure(format!("threads: {error}")))?;
        tracing::info!(device = started.config().device_id, config = %path.display(), "ready");
        tell(&[NotifyState::Ready, NotifyState::Status("running")]);
        match serve(started, path, &mut stop, &mut reload).await? {
            Some(next) => (prepared, patient_done) = next,
            None => return Ok(()),
        }
    }
}

/// Serves until the daemon is to end (`None`) or another configuration is to take over; with it comes whether a
/// patient is in view who has a result already.
async fn serve(
    running: Running,
    path: &Path,
    stop: &mut StopSignals,
    reload: &mut Signal,
) -> Result<Option<(Prepared, bool)>, Refusal> {
    let mut watchdog = Watchdog::new();
    loop {
        tokio::select! {
            () = stop.recv() => {
                tell(&[NotifyState::Stopping]);
                tokio::select! {
                    _ = running.finish() => return Ok(None),
                    () = stop.recv() => return Err(Refusal::Failure("stopped at once by a second signal".into())),
                }
            }
            _ = reload.recv() => {
                // systemd wants both in one message.
                match NotifyState::monotonic_usec_now() {
                    Ok(now) => tell(&[NotifyState::Reloading, now]),
                    Err(_) => tell(&[NotifyState::Reloading]),
                }
                // Building a plan takes minutes, in which the daemon goes on with the old one.
                let next = {
                    let mut next = std::pin::pin!(prepare(path, Some(&running)));
                    loop {
                        tokio::select! {
                            next = &mut next => break Ok(next),
                            () = watchdog.due() => watchdog.feed(running.is_healthy()),
                            () = stop.recv() => break Err(None),
                            part = running.broken() => break Err(Some(part)),
                        }
                    }
                };
                let next = match next {
                    Ok(next) => next,
                    Err(None) => {
                        tell(&[NotifyState::Stopping]);
                        running.finish().await;
                        return Ok(None);
                    }
                    Err(Some(part)) => return Err(broken(running, part).await),
                };
                match next {
                    Ok(next) => {
                        tracing::info!("the configuration was read again and takes over");
                        let mut finish = std::pin::pin!(running.finish());
                        return tokio::select! {
                            patient_done = &mut finish => Ok(Some((next, patient_done))),
                            () = stop.recv() => {
                                // It is on its way down already: it only must not come back.
                                tell(&[NotifyState::Stopping]);
                                finish.await;
                                Ok(None)
                            }
                        };
                    }
                    Err(refusal) => {
                        tracing::error!("the new configuration is refused and the old one stays: {refusal}");
                        running.board().config(ConfigStatus::Refused, &refusal.to_string());
                        tell(&[NotifyState::Ready, NotifyState::Status("running; the new configuration is refused")]);
                    }
                }
            }
            part = running.broken() => {
                return Err(broken(running, part).await);
            }
            () = watchdog.due() => {
                watchdog.feed(running.is_healthy());
            }
        }
    }
}

/// Ends what is left of a daemon of which a part has ended: whatever still works brings its results home.
async fn broken(running: Running, part: &str) -> Refusal {
    running.finish().await;
    Refusal::Failure(format!("{part} ended unexpectedly"))
}

/// Opens everything that the configuration names. While a plan is built, systemd is asked for patience, and the broker is told.
async fn prepare(path: &Path, current: Option<&Running>) -> Result<Prepared, Refusal> {
    let failed = |error: tokio::task::JoinError| Refusal::Failure(error.to_string());
    let (path, outbox) = (path.to_owned(), current.map(Running::outbox).cloned());
    let open = tokio::task::spawn_blocking(move || {
        let config = config::load(&path).map_err(|error| Refusal::Configuration(error.to_string()))?;
        let opened = Opened::new(config, outbox.as_ref())?;
        // Only for a first start: later there is a daemon that tells.
        let early = if outbox.is_none() { Early::new(&opened) } else { None };
        Ok::<_, Refusal>((opened, early))
    });
    let (opened, mut early) = open.await.map_err(failed)??;
    let board = early.as_ref().map(Early::board).or(current.map(Running::board)).cloned();
    let builds = Builds::new(board, early.is_some());
    // When nobody waits any more, nobody needs the plan.
    let _stop = StopOnDrop(builds.clone());
    let follower = builds.clone();
    let mut load = tokio::task::spawn_blocking(move || opened.load(&mut |building| follower.follow(building)));
    let mut tick = tokio::time::interval(Duration::from_secs(10));
    let prepared = loop {
        tokio::select! {
            done = &mut load => break done.map_err(failed)?,
            _ = tick.tick() => builds.ask_for_patience(),
            () = builds.begun.notified() => {
                if let Some(early) = &mut early {
                    early.start();
                }
            }
        }
    };
    if let Some(early) = early {
        early.end().await;
    }
    prepared
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
