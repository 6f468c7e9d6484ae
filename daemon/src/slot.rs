//! The slot of one between the camera and the pipeline: the newest frame replaces an unread one.
//!
//! Frames go round: the camera fills a spare one and puts it in, the pipeline takes it out and gives it back. Three
//! frames are enough for ever, four when a page looks, and after the first round nothing is allocated.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anemia_vision::Frame;

/// The slot. Shared by the camera thread and the pipeline thread.
#[derive(Debug, Default)]
pub struct Slot {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    newest: Option<(Frame, Instant)>,
    spare: Vec<Frame>,
    dropped: u64,
    closed: bool,
}

/// What the pipeline finds in the slot.
#[derive(Debug)]
pub enum Taken {
    /// A frame that was not seen before, and when it was taken.
    Frame(Frame, Instant),
    /// No new frame within the time.
    Nothing,
    /// The slot was closed: no frame comes any more.
    Closed,
}

impl Slot {
    /// An empty slot.
    pub fn new() -> Self {
        Self::default()
    }

    /// A frame to fill; its content is whatever was there before.
    pub fn spare(&self) -> Frame {
        self.lock().spare.pop().unwrap_or_default()
    }

    /// Puts a frame in that the camera took at `at`. One that was not fetched yet is dropped, and counted.
    pub fn put(&self, frame: Frame, at: Instant) {
        let mut state = self.lock();
        if let Some((unread, _)) = state.newest.replace((frame, at)) {
            state.dropped += 1;
            state.spare.push(unread);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Takes the newest frame out, waiting for it at most `patience`.
    pub fn take(&self, patience: Duration) -> Taken {
        let waiting = |state: &mut State| state.newest.is_none() && !state.closed;
        let (mut state, _) =
            self.filled.wait_timeout_while(self.lock(), patience, waiting).unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Taken::Closed;
        }
        match state.newest.take() {
            Some((frame, at)) => Taken::Frame(frame, at),
            None => Taken::Nothing,
        }
    }

    /// Gives a frame back after use.
    pub fn give_back(&self, frame: Frame) {
        self.lock().spare.push(frame);
    }

    /// Number of frames that were replaced before anybody looked at them.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Wakes the pipeline up for the last time.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two of its statements, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_frame_replaces_an_unread_one_and_is_counted() {
        let slot = Slot::new();
        let now = Instant::now();
        slot.put(Frame::new(1, 1), now);
        slot.put(Frame::new(2, 2), now);
        match slot.take(Duration::ZERO) {
            Taken::Frame(frame, at) => assert_eq!((frame.width(), at), (2, now)),
            other => panic!("expected a frame, found {other:?}"),
        }
        assert_eq!(slot.dropped(), 1);
        assert!(matches!(slot.take(Duration::ZERO), Taken::Nothing), "a frame is seen once");
    }

    #[test]
    fn frames_go_round() {
        let slot = Slot::new();
        slot.give_back(Frame::new(7, 7));
        assert_eq!(slot.spare().width(), 7);
        assert_eq!(slot.spare().width(), 0, "the next one is new");
    }

    #[test]
    fn a_closed_slot_wakes_the_reader() {
        let slot = std::sync::Arc::new(Slot::new());
        let reader = std::thread::spawn({
            let slot = slot.clone();
            move || matches!(slot.take(Duration::from_secs(60)), Taken::Closed)
        });
        slot.close();
        assert!(reader.join().unwrap());
    }
}
