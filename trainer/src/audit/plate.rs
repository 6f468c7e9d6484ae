//! What the search for duplicates sees of a picture: fine texture, and points that would be found again in a copy.

use anemia_vision::{AlphaLocator, BoxLocator, Frame, Locator, Roi};

/// Half the side of the square of pixels that describes a point.
const REACH: usize = 4;
/// Half the side of the square whose mean is taken away: what is coarser is light and shape, and looks alike in all eyes.
/// It reaches no further than the surroundings of a point, so that another outline does not change the point.
const COARSE: usize = 3;
/// The most points of a picture.
const POINTS: usize = 96;
/// Texture weaker than this, in grey levels, is noise.
const FAINT: f32 = 0.5;
/// Numbers that describe a point: 5 × 5 samples.
pub(super) const NUMBERS: usize = 25;

/// A picture without colour, size of its surroundings and light.
pub struct Plate {
    pub(super) width: usize,
    pub(super) height: usize,
    /// The mean of red, green and blue.
    pub(super) grey: Vec<u8>,
    /// Grey minus the mean of its surroundings, in quarters of a grey level.
    pub(super) texture: Vec<i8>,
    /// 1 where there is tissue.
    pub(super) mask: Vec<u8>,
    pub(super) area: usize,
    pub(super) points: Vec<Point>,
}

/// A place with strong texture around it.
pub(super) struct Point {
    pub(super) x: usize,
    pub(super) y: usize,
    /// The grey levels around it, in an order that is the same for a turned or mirrored copy.
    pub(super) numbers: [f32; NUMBERS],
}

impl Plate {
    /// Looks at the tissue of a cut-out, or at the whole picture when it has no alpha. `None` when nothing is left.
    pub fn of(frame: &Frame) -> Option<Self> {
        let mut roi = Roi::default();
        let found = if frame.alpha().is_some() {
            AlphaLocator.locate(frame, &mut roi)
        } else {
            BoxLocator { x: 0, y: 0, width: frame.width(), height: frame.height() }.locate(frame, &mut roi)
        };
        if !found {
            return None;
        }
        let (width, height) = (roi.width(), roi.height());
        let mask: Vec<u8> = roi.mask().iter().map(|&inside| u8::from(inside != 0)).collect();
        let grey = |at: usize| {
            let [r, g, b] = frame.pixel(roi.x() + at % width, roi.y() + at / width);
            (f32::from(r) + f32::from(g) + f32::from(b)) / 3.0 * f32::from(mask[at])
        };
        let grey: Vec<f32> = (0..width * height).map(grey).collect();
        let smooth = blur(&grey, &mask, width, height, 1);
        let coarse = blur(&grey, &mask, width, height, COARSE);
        let texture: Vec<f32> = smooth.iter().zip(&coarse).map(|(fine, coarse)| fine - coarse).collect();
        let points = points(&texture, &smooth, &mask, width, height);
        let texture = texture.iter().map(|value| (value * 4.0).clamp(-127.0, 127.0) as i8).collect();
        let grey = grey.iter().map(|value| *value as u8).collect();
        Some(Self { width, height, grey, texture, area: roi.area(), mask, points })
    }
}

/// The mean of the tissue in a square of `2 * reach + 1` pixels; 0 outside the tissue.
fn blur(grey: &[f32], mask: &[u8], width: usize, height: usize, reach: usize) -> Vec<f32> {
    let stride = width + 1;
    let mut sums = vec![(0.0f64, 0u32); stride * (height + 1)];
    for y in 0..height {
        let mut row = (0.0, 0);
        for x in 0..width {
            row.0 += f64::from(grey[y * width + x]);
            row.1 += u32::from(mask[y * width + x]);
            let above = sums[y * stride + x + 1];
            sums[(y + 1) * stride + x + 1] = (above.0 + row.0, above.1 + row.1);
        }
    }
    let mean = |at: usize| {
        if mask[at] == 0 {
            return 0.0;
        }
        let (x, y) = (at % width, at / width);
        let (left, right) = (x.saturating_sub(reach), (x + reach + 1).min(width));
        let (top, bottom) = (y.saturating_sub(reach), (y + reach + 1).min(height));
        let corner = |x: usize, y: usize| sums[y * stride + x];
        let ((a, na), (b, nb), (c, nc), (d, nd)) =
            (corner(left, top), corner(right, top), corner(left, bottom), corner(right, bottom));
        ((d - b - c + a) / f64::from(nd + na - nb - nc)) as f32
    };
    (0..width * height).map(mean).collect()
}

/// The strongest extremes of the texture whose surroundings are all tissue.
fn points(texture: &[f32], smooth: &[f32], mask: &[u8], width: usize, height: usize) -> Vec<Point> {
    let margin = REACH + 1;
    let mut found: Vec<(f32, usize, usize)> = Vec::new();
    for y in margin..height.saturating_sub(margin) {
        for x in margin..width.saturating_sub(margin) {
            let value = texture[y * width + x].abs();
            if value < FAINT || mask[y * width + x] == 0 {
                continue;
            }
            let around = |reach: usize| {
                (y - reach..=y + reach).flat_map(move |y| (x - reach..=x + reach).map(move |x| y * width + x))
            };
            let is_extreme = around(2).all(|at| texture[at].abs() <= value);
            if is_extreme && around(margin).all(|at| mask[at] != 0) {
                found.push((value, x, y));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.2, a.1).cmp(&(b.2, b.1))));
    found.truncate(POINTS);
    found.iter().map(|&(_, x, y)| Point { x, y, numbers: describe(smooth, width, x, y) }).collect()
}

/// 5 × 5 samples around a point, the same for all eight ways of turning and mirroring a picture.
///
/// Samples that such a turn exchanges form a set of 1, 4 or 8; each set is sorted. Sorting moves no number further than
/// noise has moved it, so that a copy that was compressed again gets nearly the same numbers.
fn describe(smooth: &[f32], width: usize, x: usize, y: usize) -> [f32; NUMBERS] {
    let sample = |i: i64, j: i64| smooth[(y as i64 + 2 * j) as usize * width + (x as i64 + 2 * i) as usize];
    let mut numbers = [0.0; NUMBERS];
    let mut filled = 0;
    for i in 0..=2i64 {
        for j in 0..=i {
            let turned = [(i, j), (j, i), (-i, j), (j, -i), (i, -j), (-j, i), (-i, -j), (-j, -i)];
            let mut places = turned.to_vec();
            places.sort_unstable();
            places.dedup();
            let set = &mut numbers[filled..filled + places.len()];
            set.iter_mut().zip(&places).for_each(|(number, &(i, j))| *number = sample(i, j));
            set.sort_by(f32::total_cmp);
            filled += places.len();
        }
    }
    let mean = numbers.iter().sum::<f32>() / NUMBERS as f32;
    let spread = (numbers.iter().map(|n| (n - mean) * (n - mean)).sum::<f32>() / NUMBERS as f32).sqrt();
    numbers.map(|number| (number - mean) / spread.max(FAINT))
}
