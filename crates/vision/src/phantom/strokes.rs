//! Thin curved things: lashes and vessels.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::noise::mix;
use super::paint::Canvas;
use super::{Phantom, View};

/// Draws a line of discs through `points` (eye units), from `thick` to `thin` pixels wide.
fn stroke(canvas: &mut Canvas, view: &View, points: &[(f32, f32)], width: (f32, f32), colour: [f32; 3], strength: f32) {
    let last = points.len().saturating_sub(1).max(1) as f32;
    for (index, pair) in points.windows(2).enumerate() {
        let (x0, y0) = view.to_pixel(pair[0].0, pair[0].1);
        let (x1, y1) = view.to_pixel(pair[1].0, pair[1].1);
        let steps = ((x1 - x0).hypot(y1 - y0) * 1.2).ceil().max(1.0);
        for step in 0..steps as usize {
            let t = step as f32 / steps;
            let radius = mix(width.0, width.1, (index as f32 + t) / last) / 2.0;
            let (x, y) = (mix(x0, x1, t), mix(y0, y1, t));
            let reach = radius.ceil() as isize + 1;
            for row in y as isize - reach..=y as isize + reach {
                for column in x as isize - reach..=x as isize + reach {
                    let distance = (column as f32 + 0.5 - x).hypot(row as f32 + 0.5 - y);
                    let cover = (radius + 0.5 - distance).clamp(0.0, 1.0);
                    if cover > 0.0 {
                        canvas.tint(column, row, colour, cover * strength * radius.clamp(0.35, 1.0));
                    }
                }
            }
        }
    }
}

/// Upper and lower lashes.
pub(super) fn lashes(phantom: &Phantom, view: &View, canvas: &mut Canvas) {
    let mut random = Pcg64::seed_from_u64(phantom.seed ^ 0x1A5E);
    let mut between = |low: f32, high: f32| random.random_range(low..high);
    let thick = view.scale * 0.013;
    for (count, upper) in [(95, true), (64, false)] {
        for lash in 0..count {
            let u = (lash as f32 + between(0.1, 0.9)) / count as f32 * 1.9 - 0.95;
            let root = if upper { phantom.upper_lid(u) } else { phantom.lid_edge(u) };
            let length = between(0.6, 1.0) * if upper { 0.27 } else { 0.15 } * (1.0 - 0.35 * u * u);
            let direction = if upper { -1.0 } else { 1.0 };
            let (lean, curl) = (u * 0.9 + between(-0.25, 0.25), between(0.2, 0.6) * direction);
            // From the rim first outwards, over the eyeball or the cheek, and then in a curl.
            let points: [(f32, f32); 9] = std::array::from_fn(|index| {
                let t = index as f32 / 8.0;
                let side = lean * t + between(-0.002, 0.002);
                let rise = if upper { -0.30 * t * (1.0 - t) * 2.0 + t * t * 1.1 } else { t * 0.9 };
                (u + side * length, root + direction * rise * length + curl * t * t * length * 0.25)
            });
            stroke(canvas, view, &points, (thick, thick * 0.25), [0.05, 0.035, 0.03], if upper { 0.95 } else { 0.8 });
        }
    }
}

/// Vessels on the white of the eye, from the corners inwards.
pub(super) fn vessels(phantom: &Phantom, view: &View, canvas: &mut Canvas) {
    let mut random = Pcg64::seed_from_u64(phantom.seed ^ 0xB10D);
    let thick = view.scale * 0.008;
    for vessel in 0..22 {
        let side = if vessel % 2 == 0 { -1.0 } else { 1.0 };
        let mut points = Vec::with_capacity(24);
        let mut u = side * random.random_range(0.55..0.97f32);
        let mut v = mix(phantom.upper_lid(u) * 0.6, phantom.fornix(u), random.random_range(0.2..1.0));
        let mut heading = random.random_range(-0.7..0.7f32);
        for _ in 0..random.random_range(8..24) {
            points.push((u, v));
            heading += random.random_range(-0.5..0.5f32) - heading * 0.15;
            u -= side * 0.022 * heading.cos();
            v += 0.022 * heading.sin();
            let [gaze_u, gaze_v] = phantom.gaze;
            let in_iris = (u - gaze_u).hypot(v - gaze_v) < 0.38;
            if in_iris || v > phantom.fornix(u) || v < phantom.upper_lid(u) + 0.05 {
                break;
            }
        }
        let strength = random.random_range(0.25..0.6) * mix(1.0, 0.6, phantom.pallor);
        stroke(canvas, view, &points, (thick, thick * 0.3), [0.74, 0.26, 0.25], strength);
    }
}
