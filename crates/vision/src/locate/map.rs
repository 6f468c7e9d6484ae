//! From the map of a locator's network to the conjunctiva.
//!
//! The network gives for each cell of a coarse grid over the frame the logit of being tissue. Of the cells above 0, the
//! strongest connected part is taken if it looks like the strip of a pulled-down lid; docs/design/locator.md shows the
//! measurements behind the constants.

use super::cells::{Cells, Part};
use crate::{Frame, Rejection, Roi};

/// Least and greatest share of the frame that a conjunctiva can cover.
const AREA: std::ops::RangeInclusive<f32> = 0.006..=0.35;
/// Least width of the box in heights. A strip is wide, also when the head is tilted by 25°.
const MIN_ASPECT: f32 = 0.9;
/// Least mean logit of the cells that are inside: a network that is not sure of them has seen something else.
const MIN_MEAN_LOGIT: f32 = 3.0;
/// A second part with this share of the weight of the first, and beside it, is a second eye.
const SECOND_EYE: f32 = 0.35;
/// Two parts with a gap between them of at most this share of the width of the first are of the same eye.
const SAME_EYE: f32 = 0.2;
/// Bend from which on something is no strip of a lower lid, and from which on it is one the wrong way round, see [`bend`].
const FLAT: f32 = -0.15;
const WRONG_WAY: f32 = 0.25;
/// Least share of red in the mean colour, grey being a third.
const MIN_RED: f32 = 0.345;
/// Logit of cells that do not belong to the strip.
const OUTSIDE: f32 = -3.0;

/// Reads the maps of a locator's network, and keeps the memory that this takes.
#[derive(Debug, Default)]
pub struct MapReader {
    cells: Cells,
    logits: Vec<f32>,
    near: Vec<bool>,
    line: Vec<f32>,
    across: Vec<(usize, f32)>,
}

impl MapReader {
    /// A reader without memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the conjunctiva into `roi`, or says why there is none to be judged; `roi` is empty then.
    ///
    /// `map` has `columns` logits in each of its rows, which together cover `frame` from edge to edge. Nothing is allocated
    /// for a frame and a map of sizes that were seen before.
    pub fn read(&mut self, frame: &Frame, map: &[f32], columns: usize, roi: &mut Roi) -> Result<(), Rejection> {
        roi.clear();
        roi.reserve(frame.width() * frame.height());
        let rows = map.len() / columns.max(1);
        if rows < 2 || columns < 2 || map.iter().any(|logit| !logit.is_finite()) {
            return Err(Rejection::NoConjunctiva);
        }
        // Of one cell, in pixels.
        let size = [frame.width() as f32 / columns as f32, frame.height() as f32 / rows as f32];
        self.cells.set(columns, rows, |at| map[at] > 0.0);
        // A lash or a reflection across the strip makes no two strips of it.
        for grow in [true, true, false, false] {
            self.cells.morph(grow);
        }
        let [part, second] = self.cells.strongest(|at| map[at].max(0.0));
        if !is_plausible(part, map.len(), size) {
            return Err(Rejection::NoConjunctiva);
        }
        let gap = second.edges[0].saturating_sub(part.edges[2]).max(part.edges[0].saturating_sub(second.edges[2]));
        let near = gap as f32 <= SAME_EYE * (part.edges[2] - part.edges[0]) as f32;
        if second.weight > SECOND_EYE * part.weight && !near && is_plausible(second, map.len(), size) {
            return Err(Rejection::SeveralEyes);
        }
        self.cells.keep(part);
        self.cells.fill_holes();
        match bend(&self.cells, part.edges, columns, size) {
            bend if bend > WRONG_WAY => return Err(Rejection::UpsideDown),
            bend if bend > FLAT => return Err(Rejection::NoConjunctiva),
            _ => {}
        }
        self.shape(map, columns, rows);
        self.draw(frame, part.edges, columns, rows, roi);
        if roi.is_empty() || red(frame, roi) < MIN_RED {
            roi.clear();
            return Err(Rejection::NoConjunctiva);
        }
        Ok(())
    }

    /// The logits of the strip alone: what the strip encloses is inside, and whatever does not touch it is outside.
    fn shape(&mut self, map: &[f32], columns: usize, rows: usize) {
        self.near.clear();
        self.near.resize(map.len(), false);
        for row in 0..rows {
            for column in 0..columns {
                if self.cells.is_inside(row * columns + column) {
                    for y in row.saturating_sub(1)..(row + 2).min(rows) {
                        for x in column.saturating_sub(1)..(column + 2).min(columns) {
                            self.near[y * columns + x] = true;
                        }
                    }
                }
            }
        }
        self.logits.clear();
        self.logits.extend(map.iter().enumerate().map(|(at, &logit)| {
            if self.cells.is_inside(at) {
                logit.max(0.5)
            } else if self.near[at] {
                logit.min(0.0)
            } else {
                OUTSIDE
            }
        }));
    }

    /// Draws where the logits, bilinear between the middles of the cells, are above 0: a smooth edge.
    fn draw(&mut self, frame: &Frame, edges: [usize; 4], columns: usize, rows: usize, roi: &mut Roi) {
        let scale = [frame.width() as f32 / columns as f32, frame.height() as f32 / rows as f32];
        let pixel = |edge: usize, axis: usize| (edge as f32 * scale[axis]) as usize;
        let [left, right] = [pixel(edges[0].saturating_sub(1), 0), pixel((edges[2] + 1).min(columns), 0)];
        let [top, bottom] = [pixel(edges[1].saturating_sub(1), 1), pixel((edges[3] + 1).min(rows), 1)];
        let between = |place: usize, scale: f32, count: usize| {
            let at = ((place as f32 + 0.5) / scale - 0.5).clamp(0.0, (count - 1) as f32);
            let first = (at as usize).min(count - 2);
            (first, at - first as f32)
        };
        self.across.clear();
        self.across.reserve(frame.width());
        self.across.extend((left..right).map(|x| between(x, scale[0], columns)));
        self.line.resize(columns, 0.0);
        roi.set_rows([left, top, right, bottom], |y, mask| {
            let (first, share) = between(y, scale[1], rows);
            let (above, below) = self.logits[first * columns..].split_at(columns);
            for ((line, above), below) in self.line.iter_mut().zip(above).zip(below) {
                *line = above + (below - above) * share;
            }
            for (inside, &(column, share)) in mask.iter_mut().zip(&self.across) {
                let logit = self.line[column] + (self.line[column + 1] - self.line[column]) * share;
                *inside = if logit > 0.0 { 255 } else { 0 };
            }
        });
    }
}

/// Whether a part has the size and the shape of a strip, and the network is sure of it. `size` is that of a cell in pixels.
fn is_plausible(part: Part, cells: usize, size: [f32; 2]) -> bool {
    let [left, top, right, bottom] = part.edges;
    AREA.contains(&(part.cells as f32 / cells as f32))
        && part.weight >= MIN_MEAN_LOGIT * part.cells as f32
        && (right - left) as f32 * size[0] >= MIN_ASPECT * (bottom - top) as f32 * size[1]
}

/// How the strip hangs: the factor of the square in the parabola through the middles of its columns, in its widths.
///
/// The lower lid of an upright eye gives −0.9 to −2.2 on photographs: its ends are higher than its middle. Tilting the head
/// changes the linear term only.
fn bend(cells: &Cells, [left, top, right, bottom]: [usize; 4], columns: usize, size: [f32; 2]) -> f32 {
    let width = (right - left) as f64;
    // The least squares of y on 1, t, t², by the sums of the powers of t, with the middle of the box at t = 0.
    let (mut powers, mut moments) = ([0.0f64; 5], [0.0f64; 3]);
    for column in left..right {
        let inside = (top..bottom).filter(|row| cells.is_inside(row * columns + column));
        let (count, sum) = inside.fold((0u32, 0usize), |(count, sum), row| (count + 1, sum + row));
        if count == 0 {
            continue;
        }
        let (t, y) = ((column as f64 + 0.5 - left as f64) / width - 0.5, sum as f64 / f64::from(count));
        let mut power = 1.0;
        for (index, sum) in powers.iter_mut().enumerate() {
            *sum += power;
            if let Some(moment) = moments.get_mut(index) {
                *moment += power * y;
            }
            power *= t;
        }
    }
    let [s0, s1, s2, s3, s4] = powers;
    let [m0, m1, m2] = moments;
    // Cramer's rule.
    let whole = s0 * (s2 * s4 - s3 * s3) - s1 * (s1 * s4 - s2 * s3) + s2 * (s1 * s3 - s2 * s2);
    let square = s0 * (s2 * m2 - m1 * s3) - s1 * (s1 * m2 - m1 * s2) + m0 * (s1 * s3 - s2 * s2);
    if whole.abs() < 1e-9 { 0.0 } else { (square / whole) as f32 * size[1] / (width as f32 * size[0]) }
}

/// The share of red in the mean colour of the tissue.
fn red(frame: &Frame, roi: &Roi) -> f32 {
    let mut sums = [0u64; 3];
    // A few thousand pixels are enough for a mean.
    let pace = ((roi.area() as f32 / 4000.0).sqrt() as usize).max(1);
    for row in (0..roi.height()).step_by(pace) {
        let start = ((roi.y() + row) * frame.width() + roi.x()) * 3;
        let pixels = frame.rgb()[start..].chunks_exact(3);
        for (pixel, _) in pixels.zip(roi.row(row)).step_by(pace).filter(|(_, inside)| **inside != 0) {
            (0..3).for_each(|channel| sums[channel] += u64::from(pixel[channel]));
        }
    }
    sums[0] as f32 / sums.iter().sum::<u64>().max(1) as f32
}
