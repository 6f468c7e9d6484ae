//! The keeper: a result is on disk before anybody sees it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::Outbox;
use crate::board::Board;
use crate::report::ExamResult;

/// Wait before a failed write is tried again: a full disk is not mended in milliseconds.
const RETRY: Duration = Duration::from_secs(1);

/// Writes every result into the outbox and then wakes the link by `stored`. Ends when no more results can come.
///
/// While the disk refuses, results stay in the channel: the state says so, and nothing is forgotten.
pub async fn keep(
    mut results: mpsc::Receiver<ExamResult>,
    outbox: Arc<Outbox>,
    board: Arc<Board>,
    stored: Arc<Notify>,
) {
    while let Some(result) = results.recv().await {
        let payload: Arc<[u8]> = match serde_json::to_vec(&result) {
            Ok(payload) => payload.into(),
            Err(error) => {
                // Its fields are text and numbers, which can always be written.
                tracing::error!("result {} cannot be written as JSON: {error}", result.id);
                continue;
            }
        };
        loop {
            let (outbox, payload) = (outbox.clone(), payload.clone());
            let written = tokio::task::spawn_blocking(move || {
                outbox.add(result.id, &payload)?;
                outbox.len()
            });
            match written.await {
                Ok(Ok(waiting)) => {
                    board.outbox(waiting);
                    break;
                }
                Ok(Err(error)) => {
                    tracing::error!("result {} is not on disk yet: {error}; trying again", result.id);
                    board.outbox_trouble(&error.to_string());
                }
                Err(error) => tracing::error!("result {} is not on disk yet: {error}; trying again", result.id),
            }
            tokio::time::sleep(RETRY).await;
        }
        // Ids only: a verdict is about somebody's health, and logs travel.
        tracing::info!(id = %result.id, "exam finished");
        stored.notify_one();
    }
}
