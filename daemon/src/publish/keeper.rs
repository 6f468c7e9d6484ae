//! The keeper: a result is on disk before anybody sees it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::{Kind, Outbox};
use crate::board::Board;
use crate::history::History;
use crate::records::{Finished, Records};

/// Wait before a failed write is tried again: a full disk is not mended in milliseconds.
const RETRY: Duration = Duration::from_secs(1);

/// How often it looks for what is too old.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Writes every result into the outbox, wakes the link by `stored`, and keeps the record. Ends when no more results can come.
///
/// While the disk refuses, results stay in the channel: the state says so, and nothing is forgotten.
pub async fn keep(
    mut exams: mpsc::Receiver<Finished>,
    outbox: Arc<Outbox>,
    records: Records,
    board: Arc<Board>,
    history: Arc<History>,
    stored: Arc<Notify>,
) {
    // Beside the results, which must not wait for a month of records on a slow card. It ends with this task.
    let mut beside = JoinSet::new();
    let prune_soon = Arc::new(Notify::new());
    beside.spawn(prune_records(records.clone(), prune_soon.clone()));
    while let Some(finished) = exams.recv().await {
        let result = &finished.result;
        let (id, at, verdict) = (result.id, result.finished_at, result.verdict);
        let payload: Arc<[u8]> = match serde_json::to_vec(result) {
            Ok(payload) => payload.into(),
            Err(error) => {
                // Its fields are text and numbers, which can always be written.
                tracing::error!("result {} cannot be written as JSON: {error}", result.id);
                continue;
            }
        };
        loop {
            let (outbox, payload) = (outbox.clone(), payload.clone());
            let written = tokio::task::spawn_blocking(move || outbox.add(Kind::Result, &payload, at));
            match written.await {
                Ok(Ok(stock)) => {
                    board.outbox(stock);
                    break;
                }
                Ok(Err(error)) => {
                    tracing::error!(exam = %id, "result {id} is not on disk yet: {error}; trying again");
                    board.outbox_trouble(&error.to_string());
                }
                Err(error) => tracing::error!(exam = %id, "result {id} is not on disk yet: {error}; trying again"),
            }
            tokio::time::sleep(RETRY).await;
        }
        // Ids only: a verdict is about somebody's health, and logs travel.
        tracing::info!(exam = %result.id, "exam finished");
        board.figures().exam(verdict);
        history.add(finished.result.clone());
        stored.notify_one();
        // After the result, and once: a record that the disk does not take holds up nothing.
        let records = records.clone();
        match tokio::task::spawn_blocking(move || records.keep(&finished)).await {
            Ok(Ok(enough)) if enough => prune_soon.notify_one(),
            Ok(Err(error)) => tracing::warn!(exam = %id, "the record of exam {id} was not kept: {error}"),
            _ => {}
        }
    }
}

/// Removes old records: at once, every hour, and whenever it is asked to.
async fn prune_records(records: Records, soon: Arc<Notify>) {
    let mut hourly = tokio::time::interval(PRUNE_EVERY);
    hourly.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = hourly.tick() => {}
            () = soon.notified() => {}
        }
        let records = records.clone();
        let pruned = tokio::task::spawn_blocking(move || records.prune(jiff::Timestamp::now()));
        if let Ok(Err(error)) = pruned.await {
            tracing::warn!("old records were not removed: {error}");
        }
    }
}

/// Removes what waits for too long, once an hour for ever. Not at the start: the clock may not be set yet.
pub async fn prune_hourly(outbox: Arc<Outbox>, board: Arc<Board>) {
    loop {
        tokio::time::sleep(PRUNE_EVERY).await;
        let outbox = outbox.clone();
        match tokio::task::spawn_blocking(move || outbox.prune(jiff::Timestamp::now())).await {
            Ok(Ok(stock)) => board.outbox(stock),
            Ok(Err(error)) => board.outbox_trouble(&error.to_string()),
            Err(_) => return,
        }
    }
}
