//! Phantoms: rendered eyes with the lower lid pulled down, a known mask and a known pallor.
//!
//! A phantom tests the machine, never the medicine: it is not a patient, and no figure about screening may come
//! from it. All shapes live in *eye units*: the inner and the outer corner of the eye are at (−1, 0) and (1, 0),
//! v grows downwards. From top to bottom, the curves `upper lid`, `fornix`, `lid margin` and `lid edge` bound the
//! eyeball, the palpebral conjunctiva and the rim of the lid.

mod empty;
mod noise;
mod paint;
mod strokes;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

pub use empty::Empty;

use crate::{Frame, Roi};

/// What the lids of a phantom do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lids {
    /// The lower one is pulled down: the conjunctiva is to be seen.
    Pulled,
    /// The eye is open, and nobody pulls.
    Resting,
    /// The eye is closed.
    Closed,
}

/// A rendered eye: everything that can vary, drawn from a seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Phantom {
    /// Textures, lashes, vessels and noise.
    pub seed: u64,
    /// How pale the conjunctiva is, 0 (well perfused) to 1 (white).
    pub pallor: f32,
    /// Centre of the eye as a share of the picture, 0.5 being the middle.
    pub centre: [f32; 2],
    /// Half the width of the eye as a share of the picture's width.
    pub half_width: f32,
    /// Rotation in radians, clockwise.
    pub angle: f32,
    /// Skin from 0 (light) to 1 (dark).
    pub skin: f32,
    /// Iris from 0 (dark brown) to 1 (light).
    pub iris: f32,
    /// Direction of the gaze, in eye units from the middle of the eye.
    pub gaze: [f32; 2],
    /// What the lids do; those of a seed are pulled.
    pub lids: Lids,
    /// How far the lid is pulled down, 0.8 to 1.2.
    pub pull: f32,
    /// Strength of the reflections on wet tissue, 0 to 1.
    pub glare: f32,
    /// Passes of a 1-2-1 blur over the finished picture.
    pub blur: u32,
    /// Standard deviation of the sensor noise in 1/255.
    pub noise: f32,
    /// Overall brightness, 1 being normal.
    pub exposure: f32,
    /// Warmth of the light: gain of red and loss of blue, −0.1 to 0.1.
    pub warmth: f32,
}

impl Phantom {
    /// The phantom of a seed: the same seed always gives the same eye.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut between = |low: f32, high: f32| random.random_range(low..high);
        Self {
            seed,
            pallor: between(0.0, 1.0),
            centre: [between(0.46, 0.54), between(0.40, 0.48)],
            half_width: between(0.30, 0.38),
            angle: between(-0.16, 0.16),
            skin: between(0.0, 1.0),
            iris: between(0.0, 1.0).powi(3),
            gaze: [between(-0.14, 0.14), between(-0.30, -0.20)],
            lids: Lids::Pulled,
            pull: between(0.85, 1.15),
            glare: between(0.1, 0.8),
            blur: between(0.0, 2.99) as u32,
            noise: between(1.0, 3.5),
            exposure: between(0.85, 1.10),
            warmth: between(-0.07, 0.07),
        }
    }

    /// Renders the eye into `frame`, `width` × `height` pixels, and gives the exact mask of the conjunctiva.
    ///
    /// Lashes and reflections that lie over the conjunctiva belong to the mask, as they do in pictures that people
    /// outline.
    pub fn render(&self, width: usize, height: usize, frame: &mut Frame) -> Roi {
        let view = View::new(self, width, height);
        let mut canvas = paint::Canvas::new(width, height);
        paint::surfaces(self, &view, &mut canvas);
        strokes::vessels(self, &view, &mut canvas);
        paint::reflections(self, &view, &mut canvas);
        strokes::lashes(self, &view, &mut canvas);
        paint::develop(self, &mut canvas, frame);
        let mut roi = Roi::default();
        roi.set_from(0, 0, width, height, |x, y| {
            let (u, v) = view.to_eye(x as f32 + 0.5, y as f32 + 0.5);
            self.tissue_depth(u, v).is_some()
        });
        roi
    }

    fn upper_lid(&self, u: f32) -> f32 {
        match self.lids {
            Lids::Pulled | Lids::Resting => -0.40 * arch(u, 2.2) - 0.05 * u * arch(u, 2.0),
            Lids::Closed => self.lid_margin(u),
        }
    }

    fn fornix(&self, u: f32) -> f32 {
        match self.lids {
            Lids::Pulled => 0.30 * self.pull * arch(u, 2.0),
            Lids::Resting | Lids::Closed => self.lid_margin(u),
        }
    }

    fn lid_margin(&self, u: f32) -> f32 {
        match self.lids {
            Lids::Pulled => 0.62 * self.pull * arch(u, 2.6),
            Lids::Resting => 0.24 * self.pull * arch(u, 2.2),
            Lids::Closed => 0.16 * self.pull * arch(u, 2.2),
        }
    }

    fn lid_edge(&self, u: f32) -> f32 {
        self.lid_margin(u) + 0.055 * arch(u, 6.0) + 0.012
    }

    /// Where in the conjunctiva a point lies, 0 at the fornix and 1 at the lid margin, or `None` outside.
    fn tissue_depth(&self, u: f32, v: f32) -> Option<f32> {
        if u.abs() >= 0.97 {
            return None;
        }
        let (top, bottom) = (self.fornix(u), self.lid_margin(u));
        (v > top && v < bottom).then(|| (v - top) / (bottom - top))
    }
}

/// 1 in the middle of the eye, 0 at its corners.
fn arch(u: f32, power: f32) -> f32 {
    1.0 - u.abs().min(1.0).powf(power)
}

/// The way from pixels to eye units and back.
struct View {
    centre: [f32; 2],
    scale: f32,
    sine: f32,
    cosine: f32,
}

impl View {
    fn new(phantom: &Phantom, width: usize, height: usize) -> Self {
        let (sine, cosine) = phantom.angle.sin_cos();
        // A portrait picture shows as much eye as a landscape one of the same height does.
        let reach = (width as f32).min(height as f32 * 16.0 / 9.0);
        Self {
            centre: [phantom.centre[0] * width as f32, phantom.centre[1] * height as f32],
            scale: phantom.half_width * reach,
            sine,
            cosine,
        }
    }

    fn to_eye(&self, x: f32, y: f32) -> (f32, f32) {
        let (dx, dy) = ((x - self.centre[0]) / self.scale, (y - self.centre[1]) / self.scale);
        (dx * self.cosine + dy * self.sine, dy * self.cosine - dx * self.sine)
    }

    fn to_pixel(&self, u: f32, v: f32) -> (f32, f32) {
        let (dx, dy) = (u * self.cosine - v * self.sine, u * self.sine + v * self.cosine);
        (self.centre[0] + dx * self.scale, self.centre[1] + dy * self.scale)
    }
}
