//! Cameras, and the thread that owns one.

mod pace;
mod phantom;
mod replay;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anemia_vision::Frame;

use crate::board::{Board, CameraStatus};
use crate::config;
use crate::slot::Slot;
use crate::stop::Stop;

/// Something that gives frames.
pub trait Camera: Send {
    /// Waits for the next frame and writes it into `frame`.
    ///
    /// Returns early with any result when `stop` is requested.
    fn grab(&mut self, frame: &mut Frame, stop: &Stop) -> Result<Grab, CameraError>;
}

/// What a camera gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grab {
    /// A new frame.
    Frame,
    /// There are no more frames, and there will be none.
    Ended,
}

/// Why a camera gives no frames. The text is one line; the camera is opened again after a while.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CameraError(pub String);

/// Opens the configured camera.
fn open(camera: &config::Camera) -> Result<Box<dyn Camera>, CameraError> {
    match (&camera.replay, &camera.phantom) {
        (Some(replay), None) => Ok(Box::new(replay::ReplayCamera::open(replay)?)),
        (None, Some(phantom)) => Ok(Box::new(phantom::PhantomCamera::new(phantom))),
        _ => Err(CameraError("the configuration must name exactly one camera".into())),
    }
}

/// Shortest and longest wait before a camera is opened again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Starts the thread that owns the camera. It ends when `stop` is requested.
pub fn start(
    camera: config::Camera,
    slot: Arc<Slot>,
    board: Arc<Board>,
    stop: Arc<Stop>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("camera".into()).spawn(move || {
        let mut wait = RETRY.0;
        while !stop.is_requested() {
            let outcome = open(&camera).and_then(|mut camera| watch(camera.as_mut(), &slot, &board, &stop, &mut wait));
            match outcome {
                Ok(()) if stop.is_requested() => {}
                Ok(()) => {
                    board.camera(CameraStatus::Ended, "");
                    stop.wait();
                }
                Err(error) => {
                    tracing::warn!("camera: {error}; trying again in {:.1} s", wait.as_secs_f32());
                    board.camera(CameraStatus::Lost, &error.0);
                    stop.wait_for(wait);
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    })
}

/// Moves frames from the camera into the slot until the camera ends or fails.
fn watch(
    camera: &mut dyn Camera,
    slot: &Slot,
    board: &Board,
    stop: &Stop,
    wait: &mut Duration,
) -> Result<(), CameraError> {
    while !stop.is_requested() {
        let mut frame = slot.spare();
        match camera.grab(&mut frame, stop)? {
            Grab::Frame => {
                slot.put(frame);
                board.captured();
                board.camera(CameraStatus::Streaming, "");
                *wait = RETRY.0;
            }
            Grab::Ended => {
                slot.give_back(frame);
                return Ok(());
            }
        }
    }
    Ok(())
}
