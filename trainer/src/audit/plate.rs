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
/// Samples that describe a point: 5 × 5.
const SIDE: usize = 5;
pub(super) const SAMPLES: usize = SIDE * SIDE;
/// One standard deviation of a point's samples.
const UNIT: f32 = 32.0;

/// How a picture is turned or mirrored around a point, one of eight: 1 mirrors x, 2 mirrors y, 4 then exchanges them.
pub(super) type Turn = u8;

/// Where a turn brings something that lies at (`x`, `y`) from the point.
pub(super) const fn turned(turn: Turn, x: i64, y: i64) -> (i64, i64) {
    let x = if turn & 1 != 0 { -x } else { x };
    let y = if turn & 2 != 0 { -y } else { y };
    if turn & 4 != 0 { (y, x) } else { (x, y) }
}

/// Where each turn brings each of the samples of a point.
const TURNED: [[u8; SAMPLES]; 8] = {
    let mut all = [[0; SAMPLES]; 8];
    let mut at = 0;
    while at < 8 * SAMPLES {
        let (turn, sample) = (at / SAMPLES, at % SAMPLES);
        let (x, y) = turned(turn as Turn, (sample % SIDE) as i64 - 2, (sample / SIDE) as i64 - 2);
        all[turn][sample] = ((y + 2) as usize * SIDE + (x + 2) as usize) as u8;
        at += 1;
    }
    all
};

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
    /// The grey levels around it, row by row; mean 0, standard deviation 32.
    samples: [i8; SAMPLES],
}

impl Point {
    /// The samples in an order that is the same for a turned or mirrored copy; standard deviation 1.
    ///
    /// Samples that such a turn exchanges form a set of 1, 4 or 8; each set is sorted. Sorting moves no sample further
    /// than noise has moved it, so that a copy that was compressed again gets nearly the same numbers.
    pub(super) fn numbers(&self) -> [f32; SAMPLES] {
        // The places of the 5 × 5 samples, set by set.
        const SETS: [&[usize]; 6] = [
            &[12],
            &[7, 11, 13, 17],
            &[6, 8, 16, 18],
            &[2, 10, 14, 22],
            &[1, 3, 5, 9, 15, 19, 21, 23],
            &[0, 4, 20, 24],
        ];
        let mut numbers = [0.0; SAMPLES];
        let mut filled = 0;
        for places in SETS {
            let set = &mut numbers[filled..filled + places.len()];
            set.iter_mut().zip(places).for_each(|(number, &at)| *number = f32::from(self.samples[at]) / UNIT);
            set.sort_unstable_by(f32::total_cmp);
            filled += places.len();
        }
        numbers
    }

    /// How `other` must be turned to look like this point, and the correlation of their samples then.
    pub(super) fn likest(&self, other: &Self) -> (Turn, f32) {
        let likeness = |turn: Turn| -> i32 {
            let samples = TURNED[turn as usize].iter().zip(&other.samples);
            samples.map(|(&there, &here)| i32::from(self.samples[there as usize]) * i32::from(here)).sum()
        };
        let (turn, sum) = (0..8).map(|turn| (turn, likeness(turn))).max_by_key(|one| one.1).unwrap_or_default();
        (turn, sum as f32 / (SAMPLES as f32 * UNIT * UNIT))
    }
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
    found.iter().map(|&(_, x, y)| Point { x, y, samples: sample(smooth, width, x, y) }).collect()
}

/// 5 × 5 samples around a point, every second pixel.
fn sample(smooth: &[f32], width: usize, x: usize, y: usize) -> [i8; SAMPLES] {
    let samples: [f32; SAMPLES] =
        std::array::from_fn(|at| smooth[(y + 2 * (at / SIDE) - REACH) * width + x + 2 * (at % SIDE) - REACH]);
    let mean = samples.iter().sum::<f32>() / SAMPLES as f32;
    let spread = (samples.iter().map(|n| (n - mean) * (n - mean)).sum::<f32>() / SAMPLES as f32).sqrt();
    samples.map(|sample| ((sample - mean) / spread.max(FAINT) * UNIT).round() as i8)
}
