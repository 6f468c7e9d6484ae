//! Cameras, and the thread that owns one.

mod gstreamer;
mod pace;
mod phantom;
mod recovery;
mod replay;
pub mod v4l;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anemia_vision::Frame;

use self::recovery::{Recovery, Remedy};
use crate::board::{Board, CameraStatus};
use crate::config;
use crate::slot::Slot;
use crate::stop::Stop;

/// Something that gives frames.
pub trait Camera: Send {
    /// What it is and gives, in a line.
    fn describe(&self) -> String;

    /// Waits for the next frame and writes it into `frame`.
    ///
    /// Returns early with any result when `stop` is requested.
    fn grab(&mut self, frame: &mut Frame, stop: &Stop) -> Result<Grab, CameraError>;

    /// Keeps exposure, gain and white balance as they are (`true`), or lets the camera choose them again. A camera that
    /// cannot does nothing.
    fn hold(&mut self, _hold: bool) {}
}

/// What a camera gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grab {
    /// A new frame.
    Frame {
        /// When it was taken, by the driver's clock where it has one.
        at: Instant,
        /// Frames since the last one that nobody saw.
        missed: u32,
    },
    /// A picture that cannot be used, and why.
    Damaged(String),
    /// There are no more frames, and there will be none.
    Ended,
}

/// Why a camera gives no frames. The text is one line; the camera is opened again after a while.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CameraError(pub String);

/// Opens the configured camera.
pub fn open(camera: &config::Camera) -> Result<Box<dyn Camera>, CameraError> {
    let config::Camera { v4l, gstreamer, replay, phantom } = camera;
    match (v4l, gstreamer, replay, phantom) {
        (Some(settings), None, None, None) => Ok(Box::new(v4l::V4lCamera::open(settings)?)),
        (None, Some(settings), None, None) => Ok(Box::new(gstreamer::GstreamerCamera::open(settings)?)),
        (None, None, Some(settings), None) => Ok(Box::new(replay::ReplayCamera::open(settings)?)),
        (None, None, None, Some(settings)) => Ok(Box::new(phantom::PhantomCamera::new(settings))),
        _ => Err(CameraError("the configuration must name exactly one camera".into())),
    }
}

/// Damaged pictures in a row after which a camera is opened again.
const DAMAGED: u32 = 20;

/// The thread that owns the camera.
pub struct CameraThread {
    /// The configured camera.
    pub camera: config::Camera,
    /// Age from which on a frame is not judged.
    pub late: Duration,
    /// For what must survive a reboot.
    pub state_dir: PathBuf,
    /// Where frames go.
    pub slot: Arc<Slot>,
    /// Where its state is told.
    pub board: Arc<Board>,
    /// Ends it.
    pub stop: Arc<Stop>,
}

impl CameraThread {
    /// Starts the thread. It ends when a stop is requested, and for nothing that a camera does.
    pub fn start(self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("camera".into()).spawn(move || self.run())
    }

    fn run(self) {
        let mut recovery = Recovery::new(&self.camera);
        while !self.stop.is_requested() {
            // The libraries below take what a driver says for true, and panic where it is not.
            let outcome = catch_unwind(AssertUnwindSafe(|| self.open_and_watch(&mut recovery)));
            let outcome = outcome.unwrap_or_else(|_| Err(CameraError("the driver gave nonsense".into())));
            match outcome {
                _ if self.stop.is_requested() => {}
                Ok(()) => {
                    self.board.camera(CameraStatus::Ended, "");
                    self.stop.wait();
                }
                Err(error) => self.recover(&mut recovery, &error),
            }
        }
    }

    fn recover(&self, recovery: &mut Recovery, error: &CameraError) {
        let remedy = recovery.failed(Instant::now());
        let status = if recovery.is_resigned() { CameraStatus::GaveUp } else { CameraStatus::Lost };
        // Said once, not every second for a night.
        if self.board.camera(status, &error.0) && remedy != Remedy::GiveUp {
            tracing::warn!("camera: {error}; it is tried again and again");
        }
        let outcome = match remedy {
            Remedy::Wait(wait) => {
                self.stop.wait_for(wait);
                Ok(())
            }
            Remedy::RestartService => {
                tracing::error!("camera: {error}; the service that drives it is restarted");
                recovery::restart_service()
            }
            Remedy::Reboot => {
                tracing::error!("camera: {error}; the machine is rebooted");
                recovery::reboot(&self.state_dir)
            }
            Remedy::GiveUp => {
                tracing::error!("camera: {error}; nothing helped, and a person has to look at it");
                Ok(())
            }
        };
        if let Err(cause) = outcome {
            tracing::error!("camera: that cannot be done: {cause}");
        }
    }

    fn open_and_watch(&self, recovery: &mut Recovery) -> Result<(), CameraError> {
        let mut camera = open(&self.camera)?;
        tracing::info!("camera: {}", camera.describe());
        let outcome = self.watch(camera.as_mut(), recovery);
        // Whatever it was that ended: a camera remembers what it was told to hold.
        camera.hold(false);
        // Freed before the next one is opened: most cameras can be opened only once.
        drop(camera);
        outcome
    }

    /// Moves frames from the camera into the slot until the camera ends or fails.
    fn watch(&self, camera: &mut dyn Camera, recovery: &mut Recovery) -> Result<(), CameraError> {
        let (mut damaged, mut held) = (0, false);
        while !self.stop.is_requested() {
            let in_exam = self.board.is_in_exam();
            if in_exam != held {
                camera.hold(in_exam);
                held = in_exam;
            }
            let mut frame = self.slot.spare();
            match camera.grab(&mut frame, &self.stop) {
                Ok(Grab::Frame { at, missed }) => {
                    self.slot.put(frame, at);
                    self.board.captured(missed);
                    damaged = 0;
                    if at.elapsed() < self.late {
                        self.board.camera(CameraStatus::Streaming, "");
                    } else {
                        self.board.camera(CameraStatus::Late, "frames are too old to be judged when they come");
                    }
                    recovery.works(Instant::now());
                }
                other => {
                    self.slot.give_back(frame);
                    let Grab::Damaged(why) = other? else { return Ok(()) };
                    self.board.figures().damaged.inc();
                    damaged += 1;
                    if damaged == DAMAGED {
                        return Err(CameraError(format!("{damaged} damaged pictures in a row: {why}")));
                    }
                }
            }
        }
        Ok(())
    }
}
