//! A camera that shows rendered eyes, with the small movements of a living one.

use std::time::Instant;

use anemia_vision::Frame;
use anemia_vision::phantom::Phantom;

use super::pace::Pacer;
use super::{Camera, CameraError, Grab};
use crate::config;
use crate::stop::Stop;

/// Greatest movement in pixels: the eye is rendered this much larger on each side.
const MARGIN: usize = 8;

/// Shows one eye after the other, with an empty view between two of them.
pub(super) struct PhantomCamera {
    width: usize,
    height: usize,
    pacer: Pacer,
    seed: u64,
    step: u64,
    eye: Frame,
    noise: u32,
}

impl PhantomCamera {
    pub(super) fn new(settings: &config::PhantomCamera) -> Self {
        Self {
            width: settings.width as usize,
            height: settings.height as usize,
            pacer: Pacer::new(&settings.pace),
            seed: u64::from(settings.seed),
            step: 0,
            eye: Frame::default(),
            noise: settings.seed | 1,
        }
    }

    /// The part of the eye that is in view at a step: a slow drift and a quick tremor.
    fn show(&mut self, frame: &mut Frame) {
        let time = self.step as f32;
        let offset = |slow: f32, quick: f32| {
            let drift = 0.6 * (time * slow).sin() + 0.4 * (time * quick).sin();
            (MARGIN as f32 * (1.0 + drift * 0.9)) as usize
        };
        let (left, top) = (offset(0.11, 1.7), offset(0.07, 2.3));
        frame.reset(self.width, self.height);
        for y in 0..self.height {
            let from = ((top + y) * self.eye.width() + left) * 3;
            let row = &mut frame.rgb_mut()[y * self.width * 3..][..self.width * 3];
            row.copy_from_slice(&self.eye.rgb()[from..][..self.width * 3]);
            // Fresh sensor noise in each frame (xorshift32, Marsaglia 2003): two bits a byte are enough to be seen.
            for bytes in row.chunks_mut(16) {
                self.noise ^= self.noise << 13;
                self.noise ^= self.noise >> 17;
                self.noise ^= self.noise << 5;
                let mut bits = self.noise;
                for byte in bytes {
                    *byte = byte.saturating_add((bits & 3) as u8);
                    bits >>= 2;
                }
            }
        }
    }
}

impl Camera for PhantomCamera {
    fn describe(&self) -> String {
        format!("rendered eyes, {}×{}", self.width, self.height)
    }

    fn grab(&mut self, frame: &mut Frame, stop: &Stop) -> Result<Grab, CameraError> {
        if self.step == 0 {
            let size = (self.width + 2 * MARGIN, self.height + 2 * MARGIN);
            Phantom::from_seed(self.seed).render(size.0, size.1, &mut self.eye);
            self.seed += 1;
        }
        self.pacer.wait(stop);
        if self.step < self.pacer.shown {
            self.show(frame);
        } else {
            frame.reset(self.width, self.height);
        }
        self.step = (self.step + 1) % (self.pacer.shown + self.pacer.gap);
        Ok(Grab::Frame { at: Instant::now(), missed: 0 })
    }
}
