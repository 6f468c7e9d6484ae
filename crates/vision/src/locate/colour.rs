//! The classical locator: the reddest band of the picture that has the shape of a pulled-down lid.
//!
//! On a grid of at most 192 cells, and for cells that are not in the dark, `redness = (a* + 0.1 b*) / (L* + 35)` in CIE L*a*b* (CIE 15, D65, sRGB
//! primaries of IEC 61966-2-1) separates wet tissue from skin and sclera; what is redder than 0.7 of the reddest
//! cells is cleaned, and the component with most redness above that limit is taken if its shape is plausible.
//! The constants are the best of a small grid on 60 photographs; docs/design/locator.md has the figures.

use super::cells::Cells;
use crate::{Frame, Locator, Roi};

/// Longest side of the grid in cells: a conjunctiva that fills a tenth of the picture still has a few hundred.
const GRID: usize = 192;
/// Limit between tissue and the rest, as a share of the reddest cells.
const SHARE_OF_PEAK: f32 = 0.7;
/// The reddest cells: this share of all cells is redder than the peak, so that a single red pixel is no peak.
const PEAK_SHARE: f32 = 0.005;
/// Least peak of redness: anything grey stays far below it. Warm skin alone can reach it.
const MIN_PEAK: f32 = 0.15;
/// Least and greatest share of the picture that a conjunctiva can cover.
const AREA: std::ops::RangeInclusive<f32> = 0.002..=0.35;
/// Least width of the box in heights. A crescent is wide, also when the head is tilted by 25°.
const MIN_ASPECT: f32 = 0.9;

/// Finds the conjunctiva by colour and shape, without a network.
#[derive(Debug)]
pub struct ColourLocator {
    linear: [f32; 256],
    columns: usize,
    rows: usize,
    sums: Vec<[u32; 3]>,
    redness: Vec<f32>,
    scratch: Vec<f32>,
    cells: Cells,
}

impl Default for ColourLocator {
    fn default() -> Self {
        Self::new()
    }
}

impl ColourLocator {
    /// A locator without memory yet.
    pub fn new() -> Self {
        let linear = std::array::from_fn(|byte| {
            let value = byte as f32 / 255.0;
            if value > 0.04045 { ((value + 0.055) / 1.055).powf(2.4) } else { value / 12.92 }
        });
        Self {
            linear,
            columns: 0,
            rows: 0,
            sums: Vec::new(),
            redness: Vec::new(),
            scratch: Vec::new(),
            cells: Cells::default(),
        }
    }

    /// Averages the frame into cells of `cell` × `cell` pixels and computes their redness.
    fn measure(&mut self, frame: &Frame, cell: usize) {
        (self.columns, self.rows) = (frame.width() / cell, frame.height() / cell);
        let cells = self.columns * self.rows;
        self.redness.clear();
        for row in 0..self.rows {
            self.sums.clear();
            self.sums.resize(self.columns, [0; 3]);
            for y in row * cell..(row + 1) * cell {
                let line = &frame.rgb()[y * frame.width() * 3..][..self.columns * cell * 3];
                for (sum, pixels) in self.sums.iter_mut().zip(line.chunks_exact(cell * 3)) {
                    for pixel in pixels.chunks_exact(3) {
                        for channel in 0..3 {
                            sum[channel] += u32::from(pixel[channel]);
                        }
                    }
                }
            }
            let count = (cell * cell) as u32;
            self.redness
                .extend(self.sums.iter().map(|sum| redness(&self.linear, sum.map(|total| (total / count) as u8))));
        }
        self.scratch.resize(cells, 0.0);
    }

    /// Binomial blur 1-2-1 in both directions; the outermost cells stay as they are.
    fn smooth(&mut self) {
        let (columns, rows) = (self.columns, self.rows);
        for _ in 0..2 {
            self.scratch.copy_from_slice(&self.redness);
            for row in 0..rows {
                for at in row * columns + 1..(row * columns + columns).saturating_sub(1) {
                    self.scratch[at] = (self.redness[at - 1] + 2.0 * self.redness[at] + self.redness[at + 1]) / 4.0;
                }
            }
            self.redness.copy_from_slice(&self.scratch);
            for at in columns..(rows * columns).saturating_sub(columns) {
                self.redness[at] =
                    (self.scratch[at - columns] + 2.0 * self.scratch[at] + self.scratch[at + columns]) / 4.0;
            }
        }
    }

    /// The redness that [`PEAK_SHARE`] of the cells exceed, by a histogram.
    fn peak(&self) -> f32 {
        const BINS: usize = 512;
        let mut counts = [0u32; BINS];
        for &redness in &self.redness {
            counts[((redness.max(0.0) * BINS as f32) as usize).min(BINS - 1)] += 1;
        }
        let mut left = (self.redness.len() as f32 * PEAK_SHARE) as u32;
        for (bin, &count) in counts.iter().enumerate().rev() {
            if count > left {
                return bin as f32 / BINS as f32;
            }
            left -= count;
        }
        0.0
    }

    /// Brings the mask of cells back to pixels.
    fn write_roi(&self, cell: usize, roi: &mut Roi) {
        if let Some(edges) = self.cells.edges() {
            let [left, top, right, bottom] = edges.map(|edge| edge * cell);
            roi.set_from(left, top, right, bottom, |x, y| self.cells.is_inside(y / cell * self.columns + x / cell));
        }
    }
}

impl Locator for ColourLocator {
    fn locate(&mut self, frame: &Frame, roi: &mut Roi) -> bool {
        roi.clear();
        roi.reserve(frame.width() * frame.height());
        let cell = frame.width().max(frame.height()).div_ceil(GRID).max(1);
        if frame.width() < cell * 8 || frame.height() < cell * 8 {
            return false;
        }
        self.measure(frame, cell);
        self.smooth();
        let peak = self.peak();
        if peak < MIN_PEAK {
            return false;
        }
        let limit = peak * SHARE_OF_PEAK;
        self.cells.set(self.columns, self.rows, |at| self.redness[at] > limit);
        for grow in [false, true] {
            self.cells.morph(grow);
        }
        let [part, _] = self.cells.strongest(|at| (self.redness[at] - limit).max(0.0));
        self.cells.keep(part);
        if !AREA.contains(&(part.cells as f32 / self.redness.len() as f32)) {
            return false;
        }
        for grow in [true, true, false, false] {
            self.cells.morph(grow);
        }
        self.cells.fill_holes();
        self.write_roi(cell, roi);
        if (roi.width() as f32) < MIN_ASPECT * roi.height() as f32 {
            roi.clear();
        }
        !roi.is_empty()
    }
}

fn redness(linear: &[f32; 256], rgb: [u8; 3]) -> f32 {
    let [r, g, b] = rgb.map(|byte| linear[usize::from(byte)]);
    let f = |t: f32| if t > 0.008_856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
    let x = f((0.412_456 * r + 0.357_576 * g + 0.180_437 * b) / 0.950_47);
    let y = f(0.212_673 * r + 0.715_152 * g + 0.072_175 * b);
    let z = f((0.019_334 * r + 0.119_192 * g + 0.950_304 * b) / 1.088_83);
    let (lightness, a, b) = (116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z));
    // In the dark a* is noise: it counts fully only from L* = 24 on.
    (a + 0.1 * b) / (lightness + 35.0) * ((lightness - 12.0) / 12.0).clamp(0.0, 1.0)
}
