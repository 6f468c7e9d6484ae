//! Pictures in which there is no conjunctiva: what a camera sees between two patients, and what a locator must leave alone.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::noise::{blend, cloud, hash, ramp, value};
use super::paint::{self, SKIN_DARK, SKIN_LIGHT};
use super::{Lids, Phantom};
use crate::Frame;

/// A kind of picture without a conjunctiva.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// A phantom with closed lids.
    ClosedLids,
    /// A phantom with open eyes whose lid nobody pulls down.
    RestingLids,
    /// Skin from nearby, more or less red.
    Skin,
    /// Woven cloth with folds, of any colour.
    Fabric,
    /// Noise, coarse or fine.
    Noise,
    /// Veined stone or wood, of any colour.
    Stone,
    /// Discs and bars, of any colour.
    Shapes,
    /// A wall in uneven light.
    Wall,
}

type Colour = [f32; 3];

impl Empty {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::ClosedLids,
        Self::RestingLids,
        Self::Skin,
        Self::Fabric,
        Self::Noise,
        Self::Stone,
        Self::Shapes,
        Self::Wall,
    ];
    /// The kinds that the locator learns from. The others show whether it learned more than these.
    pub const TAUGHT: [Self; 5] = [Self::ClosedLids, Self::RestingLids, Self::Skin, Self::Fabric, Self::Noise];

    /// Renders the picture of this kind with a number into `frame`, `width` × `height` pixels.
    pub fn render(self, seed: u64, width: usize, height: usize, frame: &mut Frame) {
        // Light, lens and sensor are a phantom's.
        let mut phantom = Phantom::from_seed(seed);
        let mut random = Pcg64::seed_from_u64(seed ^ 0xE3B7);
        let lids = match self {
            Self::ClosedLids => Some(Lids::Closed),
            Self::RestingLids => Some(Lids::Resting),
            _ => None,
        };
        if let Some(lids) = lids {
            phantom.lids = lids;
            phantom.gaze[1] += 0.22;
            phantom.render(width, height, frame);
            return;
        }
        let paint = Paint::new(&mut random, seed as u32);
        let mut canvas = paint::Canvas::new(width, height);
        for (at, pixel) in canvas.pixels.iter_mut().enumerate() {
            // In heights of the picture.
            let (x, y) = ((at % width) as f32 / height as f32, (at / width) as f32 / height as f32);
            *pixel = match self {
                Self::Fabric => paint.fabric(x, y),
                Self::Noise => paint.noise(x, y),
                Self::Stone => paint.stone(x, y),
                Self::Shapes => paint.shapes(x, y),
                Self::Wall => paint.wall(x, y),
                _ => paint.skin(x, y),
            };
        }
        paint::develop(&phantom, &mut canvas, frame);
    }
}

/// What varies from picture to picture.
struct Paint {
    seed: u32,
    colours: [Colour; 4],
    skin: f32,
    scale: f32,
    angle: f32,
}

impl Paint {
    fn new(random: &mut Pcg64, seed: u32) -> Self {
        // Every third colour is a red or a pink, which is what misleads.
        let colours = std::array::from_fn(|_| {
            let [a, b, c]: Colour = std::array::from_fn(|_| random.random_range(0.05..0.95f32));
            if random.random_range(0..3) == 0 { [a.max(b), b.min(a) * 0.6, c.min(a) * 0.6] } else { [a, b, c] }
        });
        Self {
            seed,
            colours,
            skin: random.random_range(0.0..1.0),
            scale: random.random_range(0.5f32.ln()..3.0f32.ln()).exp(),
            angle: random.random_range(0.0..std::f32::consts::TAU),
        }
    }

    /// Turned and scaled.
    fn place(&self, x: f32, y: f32) -> (f32, f32) {
        let (sine, cosine) = self.angle.sin_cos();
        ((x * cosine + y * sine) * self.scale, (y * cosine - x * sine) * self.scale)
    }

    fn skin(&self, x: f32, y: f32) -> Colour {
        let (u, v) = self.place(x, y);
        let tone = blend(SKIN_LIGHT, SKIN_DARK, self.skin);
        let mut shade =
            1.0 + 0.16 * cloud(u * 2.0, v * 2.0, self.seed) + 0.05 * cloud(u * 40.0, v * 44.0, self.seed ^ 1);
        // A fold or two, and fine lines along them.
        let fold = (v - 0.5 - 0.2 * cloud(u, 0.0, self.seed ^ 2)) / 0.03;
        shade -= 0.35 * (-fold * fold).exp();
        shade -= 0.06 * ramp(0.45, 0.75, value(u * 3.0, v * 40.0, self.seed ^ 3));
        let flush = 0.55 * ramp(0.1, 0.6, cloud(u * 1.5, v * 1.5, self.seed ^ 4));
        blend(tone, [0.72, 0.30, 0.28], flush).map(|channel| channel * shade)
    }

    fn fabric(&self, x: f32, y: f32) -> Colour {
        let (u, v) = self.place(x, y);
        let (warp, weft) = ((u * 90.0).sin(), (v * 90.0).sin());
        let stripe = ramp(0.45, 0.55, value(u * 5.0, 0.5, self.seed) * 0.5 + value(0.5, v * 5.0, self.seed ^ 1) * 0.5);
        let folds = 0.8 + 0.45 * cloud(u * 1.5 + v * 0.4, v * 0.6, self.seed ^ 2);
        let thread = 0.92 + 0.08 * if warp > weft { warp } else { weft };
        blend(self.colours[0], self.colours[1], stripe).map(|channel| channel * folds * thread)
    }

    fn noise(&self, x: f32, y: f32) -> Colour {
        let grain = 30.0 * self.scale * self.scale * self.scale;
        std::array::from_fn(|channel| value(x * grain, y * grain, self.seed ^ channel as u32))
    }

    fn stone(&self, x: f32, y: f32) -> Colour {
        let (u, v) = self.place(x, y);
        let bend = cloud(u * 2.0, v * 2.0, self.seed);
        let vein = (8.0 * (u + 0.6 * bend)).sin().abs().powi(2);
        let ground = blend(self.colours[0], self.colours[1], 0.5 + 0.5 * cloud(u * 3.0, v * 3.0, self.seed ^ 1));
        blend(ground, self.colours[2], 0.7 * vein)
    }

    fn shapes(&self, x: f32, y: f32) -> Colour {
        let mut colour = self.colours[0];
        for shape in 0..7 {
            let draw = |what: i32| hash(shape, what, self.seed);
            let (dx, dy) = (x - draw(0) * 1.6, y - draw(1));
            let (sine, cosine) = (draw(2) * std::f32::consts::TAU).sin_cos();
            let (along, across) = (dx * cosine + dy * sine, dy * cosine - dx * sine);
            let (long, short) = (0.08 + 0.3 * draw(3), 0.04 + 0.12 * draw(4));
            let inside = if shape % 2 == 0 {
                (along / long).powi(2) + (across / short).powi(2) < 1.0
            } else {
                along.abs() < long && across.abs() < short
            };
            if inside {
                let light = 0.75 + 0.25 * cloud(x * 4.0, y * 4.0, self.seed ^ 9);
                colour = self.colours[1 + shape as usize % 3].map(|channel| channel * light);
            }
        }
        colour
    }

    fn wall(&self, x: f32, y: f32) -> Colour {
        let (u, v) = self.place(x, y);
        let light = 0.7 + 0.5 * ramp(-1.5, 1.5, u) + 0.03 * cloud(u * 30.0, v * 30.0, self.seed);
        self.colours[0].map(|channel| channel * light)
    }
}
