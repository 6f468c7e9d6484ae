//! The last results, for the page: in memory only, and without pictures.

use std::sync::Arc;

use tokio::sync::watch;

use crate::report::ExamResult;

/// Results that are kept.
const MOST: usize = 20;

/// The results since the daemon was started, the newest first.
#[derive(Debug)]
pub struct History {
    results: watch::Sender<Vec<Arc<ExamResult>>>,
}

impl Default for History {
    fn default() -> Self {
        Self { results: watch::Sender::new(Vec::new()) }
    }
}

impl History {
    /// Adds a result, which is on the disk.
    pub fn add(&self, result: ExamResult) {
        self.results.send_modify(|results| {
            results.insert(0, Arc::new(result));
            results.truncate(MOST);
        });
    }

    /// Follows them.
    pub fn watch(&self) -> watch::Receiver<Vec<Arc<ExamResult>>> {
        self.results.subscribe()
    }
}
