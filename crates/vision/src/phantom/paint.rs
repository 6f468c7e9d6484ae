//! The surfaces of the eye, the light on them, and the camera that takes the picture.

use super::noise::{blend, cloud, hash, mix, ramp, value};
use super::{Phantom, View};
use crate::Frame;

/// A picture in floating point, 0 to 1 a channel.
pub(super) struct Canvas {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) pixels: Vec<[f32; 3]>,
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![[0.0; 3]; width * height] }
    }

    /// Blends `colour` into a pixel; anything outside the picture is ignored.
    pub(super) fn tint(&mut self, x: isize, y: isize, colour: [f32; 3], strength: f32) {
        if x >= 0 && y >= 0 && (x as usize) < self.width && (y as usize) < self.height {
            let pixel = &mut self.pixels[y as usize * self.width + x as usize];
            *pixel = blend(*pixel, colour, strength.clamp(0.0, 1.0));
        }
    }
}

pub(super) const SKIN_LIGHT: [f32; 3] = [0.86, 0.68, 0.58];
pub(super) const SKIN_DARK: [f32; 3] = [0.36, 0.24, 0.18];
const SCLERA: [f32; 3] = [0.90, 0.88, 0.86];
const TISSUE_RED: [f32; 3] = [0.76, 0.26, 0.27];
const TISSUE_PALE: [f32; 3] = [0.87, 0.64, 0.60];
const IRIS_DARK: [f32; 3] = [0.20, 0.11, 0.06];
const IRIS_LIGHT: [f32; 3] = [0.42, 0.50, 0.48];

/// Paints skin, eyeball, conjunctiva and lid rim.
pub(super) fn surfaces(phantom: &Phantom, view: &View, canvas: &mut Canvas) {
    let seed = phantom.seed as u32;
    let edge = 1.2 / view.scale;
    let width = canvas.width;
    for (at, pixel) in canvas.pixels.iter_mut().enumerate() {
        let (u, v) = view.to_eye((at % width) as f32 + 0.5, (at / width) as f32 + 0.5);
        let (upper, fornix) = (phantom.upper_lid(u), phantom.fornix(u));
        let (margin, rim) = (phantom.lid_margin(u), phantom.lid_edge(u));
        let open = u.abs() < 1.0;
        if !open || v < upper - edge || v > rim + edge {
            *pixel = skin(phantom, u, v, upper, rim, seed);
            continue;
        }
        // Top to bottom; each boundary is a pixel wide, so that edges are smooth.
        let mut colour = eyeball(phantom, u, v, upper, fornix, seed);
        if v > fornix - edge && margin > fornix {
            let depth = ((v - fornix) / (margin - fornix).max(1e-3)).clamp(0.0, 1.0);
            colour = blend(colour, tissue(phantom, u, v, depth, seed), ramp(fornix - edge, fornix + edge, v));
        }
        if v > margin - edge {
            let wet = blend(skin_tone(phantom), [0.84, 0.55, 0.51], 0.62);
            let shade = 0.88 + 0.16 * ramp(margin, rim, v) + 0.06 * cloud(u * 14.0, v * 14.0, seed ^ 5);
            colour = blend(colour, wet.map(|c| c * shade), ramp(margin - edge, margin + 2.0 * edge, v));
        }
        let outside = 1.0 - ramp(upper - edge, upper + edge, v) * (1.0 - ramp(rim - edge, rim + edge, v));
        let corner = ramp(0.985, 1.0, u.abs());
        if outside > 0.0 || corner > 0.0 {
            colour = blend(colour, skin(phantom, u, v, upper, rim, seed), outside.max(corner));
        }
        *pixel = colour;
    }
}

fn skin_tone(phantom: &Phantom) -> [f32; 3] {
    blend(SKIN_LIGHT, SKIN_DARK, phantom.skin)
}

fn skin(phantom: &Phantom, u: f32, v: f32, upper: f32, rim: f32, seed: u32) -> [f32; 3] {
    let mut shade = 1.0 + 0.10 * cloud(u * 3.0, v * 3.0, seed ^ 1) + 0.05 * cloud(u * 26.0, v * 30.0, seed ^ 2);
    // Fine lines run along the lids.
    let above = upper - v;
    let below = v - rim;
    let along = if above > 0.0 { above } else { below.max(0.0) };
    shade -= 0.06 * ramp(0.45, 0.75, value(u * 2.5, along * 26.0, seed ^ 3)) * (1.0 - ramp(0.1, 0.7, along));
    if above > 0.0 || u.abs() >= 1.0 {
        // The fold of the upper lid, and the shadow under the brow.
        let fold = (above - 0.20 - 0.05 * u * u) / 0.030;
        shade -= 0.30 * (-fold * fold).exp() * ramp(1.25, 0.7, u.abs());
        shade -= 0.22 * ramp(0.45, 1.1, above);
        shade += 0.06 * ramp(0.02, 0.10, above) * (1.0 - ramp(0.10, 0.18, above));
    }
    if below > 0.0 {
        // The pulled lid bulges, and below it the skin lies in the shadow of the fold.
        shade += 0.10 * ramp(0.0, 0.06, below) * (1.0 - ramp(0.08, 0.22, below)) * ramp(1.2, 0.8, u.abs());
        let fold = (below - 0.30 - 0.06 * u * u) / 0.05;
        shade -= 0.16 * (-fold * fold).exp() * ramp(1.2, 0.5, u.abs());
    }
    let corner = ((u.abs() - 1.0).powi(2) + v * v).sqrt();
    let rims = (1.0 - ramp(0.0, 0.12, below.abs().min(above.abs()))) * ramp(1.12, 0.98, u.abs());
    let pink = 0.35 * (1.0 - ramp(0.0, 0.16, corner)) + 0.14 * rims;
    blend(skin_tone(phantom), [0.66, 0.34, 0.30], pink).map(|channel| channel * shade)
}

fn eyeball(phantom: &Phantom, u: f32, v: f32, upper: f32, fornix: f32, seed: u32) -> [f32; 3] {
    let [gaze_u, gaze_v] = phantom.gaze;
    let round = 1.0 - 0.34 * (u * u * 0.9 + (v - 0.05) * (v - 0.05) * 1.2);
    // The eyeball reddens towards the corners and towards the fornix, and lies in the shadow of the upper lid.
    let blood = 0.10 + 0.34 * ramp(0.45, 1.0, u.abs()) + 0.42 * ramp(fornix - 0.16, fornix, v);
    let mut colour = blend(SCLERA, [0.84, 0.52, 0.50], blood.min(0.8) * mix(1.0, 0.55, phantom.pallor));
    colour = colour.map(|channel| channel * (1.0 + 0.04 * cloud(u * 6.0, v * 6.0, seed ^ 7)));
    let (du, dv) = (u - gaze_u, v - gaze_v);
    let distance = (du * du + dv * dv).sqrt();
    const IRIS: f32 = 0.33;
    if distance < IRIS + 0.03 {
        let angle = dv.atan2(du);
        let pupil = 0.13 + 0.02 * hash(3, 5, seed);
        let fibres =
            value(angle * 22.0, distance * 9.0, seed ^ 8) * 0.6 + value(angle * 50.0, distance * 5.0, seed ^ 9) * 0.4;
        let mut iris = blend(IRIS_DARK, IRIS_LIGHT, phantom.iris).map(|channel| channel * (0.70 + 0.65 * fibres));
        iris = iris.map(|channel| channel * (1.0 - 0.55 * ramp(IRIS - 0.07, IRIS, distance)));
        iris = blend([0.015, 0.012, 0.012], iris, ramp(pupil - 0.012, pupil + 0.012, distance));
        colour = blend(iris, colour, ramp(IRIS - 0.02, IRIS + 0.02, distance));
    }
    let shadow = 0.52 * (1.0 - ramp(0.0, 0.17, v - upper));
    colour.map(|channel| channel * round * (1.0 - shadow))
}

fn tissue(phantom: &Phantom, u: f32, v: f32, depth: f32, seed: u32) -> [f32; 3] {
    let base = blend(TISSUE_RED, TISSUE_PALE, phantom.pallor);
    // Fine vessels run from the fornix to the lid margin; a pale eye shows fewer.
    let vessel = value(u * 46.0 + 1.5 * cloud(u * 8.0, v * 8.0, seed ^ 11), v * 5.0, seed ^ 12);
    let vessels = ramp(0.62, 0.95, vessel) * mix(0.34, 0.14, phantom.pallor);
    let mut colour = blend(base, [0.62, 0.12, 0.16], vessels);
    // Reddest in the lower half, lighter at the margin where the tarsal plate lies under it.
    colour = blend(colour, base.map(|channel| channel * 1.13), 0.5 * ramp(0.70, 1.0, depth));
    let mut shade = 1.0 + 0.11 * cloud(u * 5.0, v * 7.0, seed ^ 13) + 0.05 * cloud(u * 24.0, v * 24.0, seed ^ 14);
    // The fold at the fornix is in the shadow of the eyeball; the tissue bulges below it.
    shade *= 0.72 + 0.28 * ramp(0.0, 0.16, depth);
    shade *= 1.0 - 0.10 * ((depth - 0.52) * 2.2).powi(2);
    shade *= 1.0 - 0.18 * ramp(0.55, 1.0, u.abs());
    colour.map(|channel| channel * shade)
}

/// Adds the reflections of the lamp on the cornea and on wet tissue.
pub(super) fn reflections(phantom: &Phantom, view: &View, canvas: &mut Canvas) {
    let seed = phantom.seed as u32;
    let [gaze_u, gaze_v] = phantom.gaze;
    let mut spots = vec![(gaze_u + 0.10, gaze_v + 0.06, 0.040, 1.0), (gaze_u - 0.09, gaze_v + 0.12, 0.018, 0.7)];
    let count = (14.0 * phantom.glare) as i32;
    for spot in 0..count {
        let along = hash(spot, 1, seed) * 1.5 - 0.75;
        let depth = 0.05 + 0.9 * hash(spot, 2, seed);
        let v = mix(phantom.fornix(along), phantom.lid_margin(along), depth);
        spots.push((along, v, 0.004 + 0.014 * hash(spot, 3, seed).powi(2), 0.35 + 0.6 * hash(spot, 4, seed)));
    }
    for (u, v, radius, strength) in spots {
        let (cx, cy) = view.to_pixel(u, v);
        let size = radius * view.scale;
        let reach = (size * 2.5).ceil() as isize + 1;
        for y in cy as isize - reach..=cy as isize + reach {
            for x in cx as isize - reach..=cx as isize + reach {
                let (eye_u, eye_v) = view.to_eye(x as f32 + 0.5, y as f32 + 0.5);
                if eye_v < phantom.upper_lid(eye_u) {
                    continue;
                }
                // Reflections on the moist curve of the lid are drawn out sideways.
                let (du, dv) = ((eye_u - u) / (radius * 1.6), (eye_v - v) / radius);
                let light = strength * (1.0 - ramp(0.35, 1.1, (du * du + dv * dv).sqrt()));
                canvas.tint(x, y, [1.0, 0.995, 0.985], light);
            }
        }
    }
}

/// Takes the picture: light, lens and sensor.
pub(super) fn develop(phantom: &Phantom, canvas: &mut Canvas, frame: &mut Frame) {
    for _ in 0..phantom.blur {
        soften(canvas);
    }
    let (width, height) = (canvas.width, canvas.height);
    frame.reset(width, height);
    let gains = [1.0 + phantom.warmth, 1.0, 1.0 - phantom.warmth].map(|gain| gain * phantom.exposure);
    let grain = (phantom.seed >> 32) as u32 ^ phantom.seed as u32 ^ 0x5EED;
    for (at, (bytes, pixel)) in frame.rgb_mut().chunks_exact_mut(3).zip(&canvas.pixels).enumerate() {
        let (x, y) = (at % width, at / width);
        let (dx, dy) = (x as f32 / width as f32 - 0.5, y as f32 / height as f32 - 0.5);
        let light = 1.04 - 0.55 * (dx * dx + dy * dy);
        for channel in 0..3 {
            // The sum of three uniform numbers is close enough to a normal one, with variance 1/4.
            let (column, row) = (x as i32 * 3 + channel as i32, y as i32);
            let uniform = hash(column, row, grain) + hash(column, row, grain ^ 1) + hash(column, row, grain ^ 2) - 1.5;
            let value = pixel[channel] * gains[channel] * light * 255.0 + uniform * 2.0 * phantom.noise;
            bytes[channel] = value.round().clamp(0.0, 255.0) as u8;
        }
    }
}

/// One 1-2-1 pass in both directions.
fn soften(canvas: &mut Canvas) {
    let (width, height) = (canvas.width, canvas.height);
    let average = |a: [f32; 3], b: [f32; 3], c: [f32; 3]| std::array::from_fn(|i| (a[i] + 2.0 * b[i] + c[i]) / 4.0);
    for row in canvas.pixels.chunks_exact_mut(width) {
        let mut before = row[0];
        for x in 0..width {
            let here = row[x];
            row[x] = average(before, here, row[(x + 1).min(width - 1)]);
            before = here;
        }
    }
    let mut before = canvas.pixels[..width].to_vec();
    for y in 0..height {
        for (x, above) in before.iter_mut().enumerate() {
            let here = canvas.pixels[y * width + x];
            let below = canvas.pixels[(y + 1).min(height - 1) * width + x];
            canvas.pixels[y * width + x] = average(*above, here, below);
            *above = here;
        }
    }
}
