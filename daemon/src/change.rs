//! What takes over from what runs: another configuration, plans that were built again, a newer model.
//!
//! It is prepared beside the running daemon, which goes on until it is ready; when it fails, everything is as it was before.

use std::path::Path;
use std::time::Duration;

use anemia_bundle::Task;
use tokio::task::JoinHandle;

use crate::board::{EngineStatus, UpdateStatus};
use crate::builds::{Builds, StopOnDrop};
use crate::commands::{Order, Reason};
use crate::config::{self, Config, EngineKind};
use crate::early::Early;
use crate::models::{Slots, Trial, install};
use crate::rebuild::PlansAside;
use crate::service::{Opened, Prepared, Refusal, Running, check_beside};

/// What a command that took long is answered with.
type Failed = (Reason, String);

/// Waits for the disk on a thread of its own: broker and page go on meanwhile.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(error) => {
            tracing::error!("{error}");
            None
        }
    }
}

fn slots(config: &Config) -> [Slots; 2] {
    [Task::Classify, Task::Locate].map(|task| Slots::new(&config.state_dir, task))
}

/// Prepares the first start. A newer model that does not load is rolled back.
pub(crate) async fn first(path: &Path) -> Result<Prepared, Refusal> {
    let first = open(path, None, nothing_beside).await;
    if let Err(Refusal::Model(reason)) = &first {
        let (file, reason) = (path.to_owned(), reason.clone());
        let roll_back = move || config::load(&file).is_ok_and(|config| roll_back_if(&config, &reason, |_| true));
        if on_disk(roll_back).await == Some(true) {
            return open(path, None, nothing_beside).await;
        }
    }
    first
}

/// Prepares what takes over from `running`: what the configuration says now, after `order` was carried out.
pub(crate) async fn prepare(path: &Path, running: &Running, order: Option<&Order>) -> Result<Prepared, Failed> {
    let next = |outcome: Result<Prepared, Refusal>| outcome.map_err(|refusal| (Reason::Failed, refusal.to_string()));
    match order {
        None | Some(Order::Reload) => {
            let prepared = open(path, Some(running), check_beside).await;
            if let Err(Refusal::Model(reason)) = &prepared {
                // A model that was installed since, and cannot be loaded.
                let (file, reason, used) = (path.to_owned(), reason.clone(), running.models().clone());
                on_disk(move || {
                    let is_new = |trial: &Trial| !trial.is_of_any(&used);
                    config::load(&file).is_ok_and(|config| roll_back_if(&config, &reason, is_new))
                })
                .await;
            }
            next(prepared)
        }
        Some(Order::EngineRebuild) => {
            let model = &running.config().model;
            if model.engine != EngineKind::Tensorrt {
                return Err((Reason::NotNow, "model.engine is onnxruntime, which needs no plans".into()));
            }
            let disk = |error: std::io::Error| (Reason::Failed, format!("{}: {error}", model.tensorrt.cache.display()));
            let cache = model.tensorrt.cache.clone();
            let gone = || (Reason::Failed, "the disk thread ended".to_owned());
            let aside = on_disk(move || PlansAside::new(&cache)).await.ok_or_else(gone)?.map_err(disk)?;
            let prepared = next(open(path, Some(running), nothing_beside).await)?;
            on_disk(|| aside.discard()).await.ok_or_else(gone)?.map_err(disk)?;
            Ok(prepared)
        }
        Some(Order::ModelUpdate(update)) => {
            let config = running.config().clone();
            if config.model.updates.is_none() {
                let detail = "model.updates is not in the configuration: no newer models are accepted";
                return Err((Reason::NotAllowed, detail.into()));
            }
            running.board().update(UpdateStatus::Installing, &update.url);
            let builds = Builds::new(Some(running.board().clone()), false);
            let _stop = StopOnDrop(builds.clone());
            let (update, trying) = (update.clone(), config.clone());
            let installed = tokio::task::spawn_blocking(move || {
                install(&trying, &update.url, Some(&update.sha256), &mut |building| builds.follow(building))
            });
            let installed = match installed.await {
                Ok(installed) => installed,
                Err(error) => Err(error.to_string()),
            };
            if let Err(detail) = installed {
                let refused = detail.clone();
                on_disk(move || {
                    if let Err(error) = Slots::new(&config.state_dir, Task::Classify).refuse(&refused) {
                        tracing::warn!("{}: {error}", config.state_dir.display());
                    }
                })
                .await;
                return Err((Reason::Failed, detail));
            }
            let prepared = next(open(path, Some(running), nothing_beside).await);
            if let Err((_, detail)) = &prepared {
                let (detail, used) = (detail.clone(), running.models().clone());
                on_disk(move || roll_back_if(&config, &detail, |trial| !trial.is_of_any(&used))).await;
            }
            prepared
        }
    }
}

/// Takes newer models that still have to prove themselves, and for which `is_meant`, out of use; says whether there were any.
pub(crate) fn roll_back_if(config: &Config, reason: &str, is_meant: impl Fn(&Trial) -> bool) -> bool {
    let mut any = false;
    for slots in slots(config).iter().filter(|slots| slots.trial().is_some_and(|trial| is_meant(&trial))) {
        match slots.roll_back(reason) {
            Ok(detail) => {
                tracing::error!("{detail}");
                any = true;
            }
            Err(error) => tracing::error!("a newer model cannot be rolled back: {error}"),
        }
    }
    any
}

/// A newer model that ran for a while, and whose network gives answers, is trusted. Nobody waits for that.
pub(crate) fn confirm_trials(running: &Running) -> Option<JoinHandle<()>> {
    let (board, used) = (running.board().clone(), running.models().clone());
    if board.watch().borrow().engine.status != EngineStatus::Ready {
        return None;
    }
    let all = slots(running.config());
    Some(tokio::task::spawn_blocking(move || {
        for slots in all {
            // One that was installed since is not the one that works here.
            let Some(trial) = slots.trial().filter(|trial| trial.is_of_any(&used)) else { continue };
            match slots.confirm() {
                Ok(()) => {
                    tracing::info!("{} has proven itself", trial.model);
                    board.update(UpdateStatus::Installed, &trial.model);
                }
                Err(error) => tracing::warn!("{} is still on trial: {error}", trial.model),
            }
        }
    }))
}

fn count_start(config: &Config) {
    for slots in slots(config) {
        match slots.count_start() {
            Ok(None) => {}
            Ok(Some(detail)) => tracing::error!("{detail}"),
            Err(error) => tracing::warn!("{}: {error}", config.state_dir.display()),
        }
    }
}

/// At a start, page and updates may be missing, and a newer model is not to blame for them.
fn nothing_beside(_: &Config) -> Result<(), Refusal> {
    Ok(())
}

/// Opens everything that the configuration names, and looks at it with `beside`. While a plan is built, systemd is asked for
/// patience, and the broker is told.
async fn open(
    path: &Path,
    current: Option<&Running>,
    beside: fn(&Config) -> Result<(), Refusal>,
) -> Result<Prepared, Refusal> {
    let failed = |error: tokio::task::JoinError| Refusal::Failure(error.to_string());
    let (path, outbox) = (path.to_owned(), current.map(Running::outbox).cloned());
    let open = tokio::task::spawn_blocking(move || {
        let config = config::load(&path).map_err(|error| Refusal::Configuration(error.to_string()))?;
        beside(&config)?;
        let opened = Opened::new(config, outbox.as_ref())?;
        if outbox.is_some() {
            return Ok((opened, None));
        }
        // Only when nobody else has the outbox is this the daemon of this kiosk.
        count_start(opened.config());
        let cache = &opened.config().model.tensorrt.cache;
        if let Err(error) = PlansAside::recover(cache) {
            tracing::warn!("plans that were set aside do not come back: {}: {error}", cache.display());
        }
        // Later there is a daemon that tells.
        let early = Early::new(&opened);
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
