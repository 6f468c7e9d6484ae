//! Following the conjunctiva from frame to frame: a steady eye is not looked for again.
//!
//! The surroundings of the ROI are kept as a patch of cells. In the next frame the patch is searched for at every shift of up
//! to `REACH` cells, by the sum of squared differences of the green channel, which has most of the luma and least of the
//! noise; a parabola through the best sum and its neighbours gives the fraction of a cell.

use crate::resample::grow;
use crate::{Frame, Roi};

/// Cells across the patch.
const COLUMNS: usize = 64;
/// Most cells down.
const ROWS: usize = 48;
/// Cells in every direction in which the patch is searched for.
const REACH: usize = 6;
/// Cells of it that the frame has room for in any case.
const ROOM: usize = 2;
/// Width of the surroundings on each side of the ROI, in its widths and heights.
const MARGIN: f32 = 0.2;
/// Greatest mean square of the differences of a patch that is still the same, in its variance, and at least the square of so
/// many levels of 255.
const SAME: f32 = 0.1;
const SAME_LEVELS: f32 = 2.0;
/// Frames after which the conjunctiva is looked for again in any case: a lid slips slowly.
const FRESH: u32 = 10;

/// What became of the conjunctiva of the frame before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Followed {
    /// Whether it is still there, and its ROI was moved along; otherwise it must be looked for.
    pub is_there: bool,
    /// How far it moved since the frame before, in its widths; 1 where it was lost, and 0 where there was none before.
    pub moved: f32,
}

/// Follows a conjunctiva, and keeps the memory that this takes.
#[derive(Debug, Default)]
pub struct Tracker {
    kept: Option<Kept>,
    patch: Vec<u8>,
    search: Vec<u8>,
    sums: Vec<u32>,
    roi: Roi,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Size of the frame.
    frame: [usize; 2],
    /// Left and top edge of the patch in the frame, and the size of a cell, in pixels.
    at: [usize; 2],
    cell: usize,
    /// Cells across and down.
    size: [usize; 2],
    /// The last shift, in pixels.
    shift: [f32; 2],
    frames: u32,
}

impl Tracker {
    /// A tracker that follows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Follows nothing any more: the next picture has nothing to do with the last.
    pub fn forget(&mut self) {
        self.kept = None;
    }

    /// Follows what was found in `frame`; nothing, if `roi` is empty.
    pub fn remember(&mut self, frame: &Frame, roi: &Roi) {
        self.kept = None;
        // Room for the largest of all, so that no later one allocates.
        self.roi.reserve(frame.width() * frame.height());
        grow(&mut self.patch, COLUMNS * ROWS);
        grow(&mut self.search, (COLUMNS + 2 * REACH) * (ROWS + 2 * REACH));
        grow(&mut self.sums, (2 * REACH + 1).pow(2));
        if roi.is_empty() {
            return;
        }
        self.roi.clone_from(roi);
        let (across, down) = ((roi.width() as f32 * MARGIN) as usize, (roi.height() as f32 * MARGIN) as usize);
        let cell = (roi.width() + 2 * across).div_ceil(COLUMNS).max((roi.height() + 2 * down).div_ceil(ROWS)).max(1);
        // At the edges of the frame there must be room for a shift.
        let room = ROOM * cell;
        let (left, top) = (roi.x().saturating_sub(across).max(room), roi.y().saturating_sub(down).max(room));
        let right = (roi.x() + roi.width() + across).min(frame.width().saturating_sub(room));
        let bottom = (roi.y() + roi.height() + down).min(frame.height().saturating_sub(room));
        let size = [right.saturating_sub(left) / cell, bottom.saturating_sub(top) / cell];
        if size[0] < 8 || size[1] < 4 {
            return;
        }
        average(frame, [left, top], cell, size, &mut self.patch);
        let frame = [frame.width(), frame.height()];
        self.kept = Some(Kept { frame, at: [left, top], cell, size, shift: [0.0; 2], frames: 0 });
    }

    /// Looks where the conjunctiva went. If it is still there, `roi` is its place in `frame`.
    pub fn follow(&mut self, frame: &Frame, roi: &mut Roi) -> Followed {
        let Some(mut kept) = self.kept.filter(|kept| kept.frame == [frame.width(), frame.height()]) else {
            return Followed { is_there: false, moved: 0.0 };
        };
        let Some(shift) = self.search(frame, &kept) else {
            self.kept = None;
            return Followed { is_there: false, moved: 1.0 };
        };
        let moved = (shift[0] - kept.shift[0]).hypot(shift[1] - kept.shift[1]) / self.roi.width() as f32;
        kept.shift = shift;
        kept.frames += 1;
        self.kept = Some(kept);
        // At the edge of the frame the next shift could be beyond what is searched.
        if kept.frames >= FRESH || shift.iter().any(|pixels| pixels.abs() > kept.cell as f32) {
            return Followed { is_there: false, moved };
        }
        roi.clone_from(&self.roi);
        roi.shift(shift.map(|pixels| pixels.round() as isize), kept.frame);
        Followed { is_there: !roi.is_empty(), moved }
    }

    /// The shift in pixels at which the patch looks most like it did; `None` if it does not.
    fn search(&mut self, frame: &Frame, kept: &Kept) -> Option<[f32; 2]> {
        let Kept { at, cell, size: [columns, rows], .. } = *kept;
        // As far as the frame goes.
        let before = at.map(|edge| (edge / cell).min(REACH));
        let room = |axis: usize, size: usize| (kept.frame[axis] - at[axis]) / cell - size;
        let shifts = [before[0] + room(0, columns).min(REACH) + 1, before[1] + room(1, rows).min(REACH) + 1];
        let wide = columns + shifts[0] - 1;
        let from = [at[0] - before[0] * cell, at[1] - before[1] * cell];
        average(frame, from, cell, [wide, rows + shifts[1] - 1], &mut self.search);

        let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
        let level = (sum(&self.patch) / self.patch.len() as u32) as i32;
        // The light may have changed, and the camera's exposure with it: by the mean where the patch was last.
        let last = [0, 1].map(|axis| {
            let cells = (kept.shift[axis] / cell as f32).round() as isize;
            before[axis].saturating_add_signed(cells).min(shifts[axis] - 1)
        });
        let there: u32 = (0..rows).map(|row| sum(&self.search[(row + last[1]) * wide + last[0]..][..columns])).sum();
        let brighter = (there / self.patch.len() as u32) as i32 - level;
        self.sums.clear();
        for down in 0..shifts[1] {
            for across in 0..shifts[0] {
                let mut sum = 0;
                for (row, patch) in self.patch.chunks_exact(columns).enumerate() {
                    let there = &self.search[(row + down) * wide + across..][..columns];
                    let difference = |(&then, &now): (&u8, &u8)| {
                        let difference = i32::from(now) - i32::from(then) - brighter;
                        (difference * difference) as u32
                    };
                    sum += patch.iter().zip(there).map(difference).sum::<u32>();
                }
                self.sums.push(sum);
            }
        }
        let (best, &least) = self.sums.iter().enumerate().min_by_key(|(_, sum)| **sum)?;
        let contrast: u32 = self.patch.iter().map(|&byte| (i32::from(byte) - level).pow(2) as u32).sum();
        let limit = (contrast as f32 * SAME).max(SAME_LEVELS * SAME_LEVELS * self.patch.len() as f32);
        if least as f32 > limit {
            return None;
        }
        let (across, down) = (best % shifts[0], best / shifts[0]);
        let is_inner = |at: usize, count: usize| at > 0 && at + 1 < count;
        if !is_inner(across, shifts[0]) || !is_inner(down, shifts[1]) {
            return None;
        }
        let sum = |across: usize, down: usize| self.sums[down * shifts[0] + across] as f32;
        let fraction = |low: f32, here: f32, high: f32| {
            let curve = low + high - 2.0 * here;
            if curve > 0.0 { ((low - high) / (2.0 * curve)).clamp(-0.5, 0.5) } else { 0.0 }
        };
        let here = sum(across, down);
        let x = across as f32 - before[0] as f32 + fraction(sum(across - 1, down), here, sum(across + 1, down));
        let y = down as f32 - before[1] as f32 + fraction(sum(across, down - 1), here, sum(across, down + 1));
        Some([x * cell as f32, y * cell as f32])
    }
}

/// The mean of the green channel in each cell. Of large cells, only some of the pixels are looked at.
fn average(frame: &Frame, [left, top]: [usize; 2], cell: usize, [columns, rows]: [usize; 2], out: &mut Vec<u8>) {
    out.clear();
    // 8 × 8 pixels of a cell are enough against noise and lashes.
    let pace = cell.div_ceil(8);
    let count = cell.div_ceil(pace).pow(2) as u32;
    for row in 0..rows {
        for column in 0..columns {
            let mut sum = 0;
            for y in (0..cell).step_by(pace) {
                let start = ((top + row * cell + y) * frame.width() + left + column * cell) * 3;
                let line = &frame.rgb()[start..][..cell * 3];
                sum += line.chunks_exact(3).step_by(pace).map(|pixel| u32::from(pixel[1])).sum::<u32>();
            }
            out.push((sum / count) as u8);
        }
    }
}
