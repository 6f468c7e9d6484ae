//! The region of interest: the palpebral conjunctiva as a mask and its box.

use crate::Frame;

/// The conjunctiva in a frame: a box in frame pixels (origin top left) and, inside it, a mask.
///
/// The mask covers only the box and is tight: its first and last row and column each hold at least one pixel.
/// An empty ROI has area 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roi {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    area: usize,
    mask: Vec<u8>,
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

    /// Takes over the part of `inside` that lies in the given box, and tightens the box around it.
    ///
    /// `inside(x, y)` is asked once or twice for each frame pixel of the box `x0..x1`, `y0..y1`. Memory is reused.
    pub fn set_from(&mut self, x0: usize, y0: usize, x1: usize, y1: usize, inside: impl Fn(usize, usize) -> bool) {
        self.clear();
        let (mut left, mut right, mut top, mut bottom) = (usize::MAX, 0, usize::MAX, 0);
        for y in y0..y1 {
            let Some(first) = (x0..x1).find(|&x| inside(x, y)) else { continue };
            let last = (first..x1).rev().find(|&x| inside(x, y)).unwrap_or(first);
            left = left.min(first);
            right = right.max(last);
            top = top.min(y);
            bottom = y;
        }
        if top == usize::MAX {
            return;
        }
        (self.x, self.y) = (left, top);
        (self.width, self.height) = (right - left + 1, bottom - top + 1);
        for y in top..=bottom {
            self.mask.extend((left..=right).map(|x| if inside(x, y) { 255 } else { 0 }));
        }
        self.area = self.mask.iter().map(|&m| usize::from(m != 0)).sum();
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
