//! The region of interest: the palpebral conjunctiva as a mask and its box.

use crate::Frame;

/// The conjunctiva in a frame: a box in frame pixels (origin top left) and, inside it, a mask.
///
/// The mask covers only the box and is tight: its first and last row and column each hold at least one pixel.
/// An empty ROI has area 0.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Roi {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    area: usize,
    mask: Vec<u8>,
}

impl Clone for Roi {
    fn clone(&self) -> Self {
        let mut copy = Self::default();
        copy.clone_from(self);
        copy
    }

    /// Memory is reused.
    fn clone_from(&mut self, other: &Self) {
        let Self { x, y, width, height, area, ref mask } = *other;
        (self.x, self.y, self.width, self.height, self.area) = (x, y, width, height, area);
        self.mask.clone_from(mask);
    }
}

impl Roi {
    /// Left edge of the box, in frame pixels.
    pub fn x(&self) -> usize {
        self.x
    }

    /// Top edge of the box, in frame pixels.
    pub fn y(&self) -> usize {
        self.y
    }

    /// Width of the box in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height of the box in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Number of pixels in the mask.
    pub fn area(&self) -> usize {
        self.area
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.area == 0
    }

    /// The share of the frame that the mask covers, 0 to 1.
    pub fn area_fraction(&self, frame: &Frame) -> f32 {
        self.area as f32 / (frame.width() * frame.height()).max(1) as f32
    }

    /// The mask, `width * height` bytes, 255 inside and 0 outside.
    pub fn mask(&self) -> &[u8] {
        &self.mask
    }

    /// One row of the mask, counted from the top of the box.
    pub fn row(&self, row: usize) -> &[u8] {
        &self.mask[row * self.width..][..self.width]
    }

    /// Whether the frame pixel `x`, `y` belongs to the ROI; anything outside the box does not.
    pub fn contains(&self, x: usize, y: usize) -> bool {
        x >= self.x
            && y >= self.y
            && x < self.x + self.width
            && y < self.y + self.height
            && self.mask[(y - self.y) * self.width + x - self.x] != 0
    }

    /// The mask of the whole frame of `width` × `height` pixels, 255 inside and 0 outside.
    pub fn to_mask(&self, width: usize, height: usize) -> Vec<u8> {
        (0..width * height).map(|at| if self.contains(at % width, at / width) { 255 } else { 0 }).collect()
    }

    /// Makes room for a ROI that covers a whole frame of `pixels`, so that no later one has to.
    pub fn reserve(&mut self, pixels: usize) {
        self.mask.reserve(pixels.saturating_sub(self.mask.len()));
    }

    /// Makes the ROI empty. Memory is kept.
    pub fn clear(&mut self) {
        (self.x, self.y, self.width, self.height, self.area) = (0, 0, 0, 0, 0);
        self.mask.clear();
    }

    /// Takes over the part of `inside` that lies in the given box, and tightens the box around it. Memory is reused.
    ///
    /// `inside(x, y)` is asked once for each frame pixel of the box `x0..x1`, `y0..y1`.
    pub fn set_from(&mut self, x0: usize, y0: usize, x1: usize, y1: usize, inside: impl Fn(usize, usize) -> bool) {
        self.set_rows([x0, y0, x1, y1], |y, mask| {
            for (pixel, x) in mask.iter_mut().zip(x0..) {
                *pixel = if inside(x, y) { 255 } else { 0 };
            }
        });
    }

    /// The same row by row: `draw(y, mask)` writes 255 for every pixel of a row of the box that is inside, and 0 for the others.
    pub(crate) fn set_rows(&mut self, [x0, y0, x1, y1]: [usize; 4], mut draw: impl FnMut(usize, &mut [u8])) {
        self.clear();
        let (width, height) = (x1.saturating_sub(x0), y1.saturating_sub(y0));
        self.mask.resize(width * height, 0);
        let (mut left, mut right, mut top, mut bottom) = (usize::MAX, 0, usize::MAX, 0);
        if width > 0 {
            for (row, mask) in self.mask.chunks_exact_mut(width).enumerate() {
                draw(y0 + row, mask);
                let Some(first) = mask.iter().position(|&inside| inside != 0) else { continue };
                let last = mask.iter().rposition(|&inside| inside != 0).unwrap_or(first);
                (left, right) = (left.min(first), right.max(last));
                (top, bottom) = (top.min(row), row);
            }
        }
        if top == usize::MAX {
            self.clear();
            return;
        }
        (self.x, self.y) = (x0 + left, y0 + top);
        (self.width, self.height) = (right - left + 1, bottom - top + 1);
        // To the front, row by row: what a row is moved over was moved before.
        for row in 0..self.height {
            let from = (top + row) * width + left;
            self.mask.copy_within(from..from + self.width, row * self.width);
        }
        self.mask.truncate(self.width * self.height);
        self.area = self.mask.iter().map(|&inside| usize::from(inside != 0)).sum();
    }

    /// Moves it by whole pixels, to the right and down; empty if it would leave a frame of that width and height.
    pub(crate) fn shift(&mut self, [right, down]: [isize; 2], [width, height]: [usize; 2]) {
        match (self.x.checked_add_signed(right), self.y.checked_add_signed(down)) {
            (Some(x), Some(y)) if x + self.width <= width && y + self.height <= height => (self.x, self.y) = (x, y),
            _ => self.clear(),
        }
    }

    /// Intersection over union with another ROI of the same frame, 0 to 1; 0 when both are empty.
    pub fn overlap(&self, other: &Roi) -> f32 {
        let mut both = 0usize;
        for row in 0..self.height {
            for (column, &inside) in self.row(row).iter().enumerate() {
                both += usize::from(inside != 0 && other.contains(self.x + column, self.y + row));
            }
        }
        let either = self.area + other.area - both;
        if either == 0 { 0.0 } else { both as f32 / either as f32 }
    }
}
