//! A camera that shows pictures from disk.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Instant;

use anemia_vision::{Frame, read_picture};

use super::pace::Pacer;
use super::{Camera, CameraError, Grab};
use crate::config;
use crate::pictures;
use crate::stop::Stop;

/// Shows each picture for a while, with an empty view between two of them.
pub(super) struct ReplayCamera {
    pictures: Vec<PathBuf>,
    looping: bool,
    pacer: Pacer,
    at: usize,
    /// Frames that the picture in view was shown, gap included.
    step: u64,
    picture: Frame,
    unreadable: HashSet<PathBuf>,
}

impl ReplayCamera {
    pub(super) fn open(settings: &config::Replay) -> Result<Self, CameraError> {
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        for path in &settings.pictures {
            for picture in pictures::find(path) {
                match picture {
                    Ok(picture) => found.push(picture),
                    Err(error) => errors.push(error),
                }
            }
        }
        if let (true, Some(error)) = (found.is_empty(), errors.first()) {
            return Err(CameraError(error.to_string()));
        }
        for error in errors {
            tracing::warn!("camera: {error}; it is passed over");
        }
        let pacer = Pacer::new(&settings.pace);
        let looping = settings.looping;
        Ok(Self {
            pictures: found,
            looping,
            pacer,
            at: 0,
            step: 0,
            picture: Frame::default(),
            unreadable: HashSet::new(),
        })
    }

    /// Reads the next readable picture, and says whether there is one. One that cannot be read is named once and passed over;
    /// without any other, it is the camera's error, which is told once however often the camera is opened again.
    fn turn_page(&mut self, stop: &Stop) -> Result<bool, CameraError> {
        let mut news = Vec::new();
        for _ in 0..=self.pictures.len() {
            if stop.is_requested() {
                return Ok(false);
            }
            if self.at == self.pictures.len() {
                if !self.looping && self.unreadable.len() < self.pictures.len() {
                    return Ok(false);
                }
                self.at = 0;
            }
            let path = &self.pictures[self.at];
            self.at += 1;
            match read_picture(path, &mut self.picture) {
                Ok(()) => {
                    for error in news {
                        tracing::warn!("camera: {error}; it is passed over");
                    }
                    return Ok(true);
                }
                Err(error) => {
                    if self.unreadable.insert(path.clone()) {
                        news.push(format!("{}: {error}", path.display()));
                    }
                }
            }
        }
        let first = news.first().map(|error| format!("; the first: {error}")).unwrap_or_default();
        Err(CameraError(format!("none of the {} pictures can be read{first}", self.pictures.len())))
    }
}

impl Camera for ReplayCamera {
    fn describe(&self) -> String {
        format!("{} pictures from disk", self.pictures.len())
    }

    fn grab(&mut self, frame: &mut Frame, stop: &Stop) -> Result<Grab, CameraError> {
        if self.step == 0 && !self.turn_page(stop)? {
            return Ok(Grab::Ended);
        }
        self.pacer.wait(stop);
        if self.step < self.pacer.shown {
            frame.copy_from(&self.picture);
        } else {
            frame.reset(self.picture.width(), self.picture.height());
        }
        self.step = (self.step + 1) % (self.pacer.shown + self.pacer.gap);
        Ok(Grab::Frame { at: Instant::now(), missed: 0 })
    }
}
