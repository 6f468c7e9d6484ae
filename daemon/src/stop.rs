//! Asking a thread to stop, and waiting in a way that such a request ends.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A request to stop that is made once and stays.
#[derive(Debug, Default)]
pub struct Stop {
    requested: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Not requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests it; every wait ends.
    pub fn request(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    /// Whether it was requested.
    pub fn is_requested(&self) -> bool {
        *self.lock()
    }

    /// Waits for the request, at most `time`.
    pub fn wait_for(&self, time: Duration) {
        drop(self.changed.wait_timeout_while(self.lock(), time, |requested| !*requested));
    }

    /// Waits for the request.
    pub fn wait(&self) {
        drop(self.changed.wait_while(self.lock(), |requested| !*requested));
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.requested.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
