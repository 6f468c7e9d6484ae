//! The cut-out: exactly what the classifier is trained on and what it sees on the kiosk.
//!
//! The resize is that of `resample.rs`, horizontally and then vertically, rounded to 8 bits after each pass. Integers make the
//! result the same on every machine, and a cut-out that was saved as PNG is exactly what the network saw.

use crate::quality::{SPECULAR, is_specular};
use crate::resample::{Filter, grow};
use crate::rim::Rim;
use crate::smooth::{Smooth, is_tissue};
use crate::widest::widest;
use crate::{Frame, Roi};

/// What a network expects: size, rim and smoothness in pixels, and per channel `value = (byte / 255 − mean) / std`, planes R, G, B.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InputSpec {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Subtracted from each channel in 0 to 1.
    pub mean: [f32; 3],
    /// Divides each channel after the subtraction; never 0.
    pub std: [f32; 3],
    /// Width, in pixels, of the rim that a cut-out loses.
    pub rim: u32,
    /// Standard deviation, in pixels, of the Gaussian that takes fine detail out of a cut-out; 0 leaves it in.
    pub smooth: f32,
}

impl InputSpec {
    /// Most pixels of `rim`.
    pub const MOST_RIM: u32 = 16;
    /// Most pixels of `smooth`.
    pub const MOST_SMOOTH: f32 = 16.0;

    /// Number of values of one input: `3 * height * width`.
    pub fn len(&self) -> usize {
        3 * self.width * self.height
    }

    /// Writes `width * height` pixels of R, G, B as a network input, in planes R, G, B, into `len()` values.
    pub fn write(&self, pixels: &[u8], input: &mut [f32]) {
        assert_eq!(pixels.len(), self.len(), "the picture has another size than the input");
        assert_eq!(input.len(), self.len(), "the input buffer has another size than the input");
        for (channel, plane) in input.chunks_exact_mut(self.width * self.height).enumerate() {
            let (scale, shift) = (1.0 / (255.0 * self.std[channel]), self.mean[channel] / self.std[channel]);
            for (value, pixel) in plane.iter_mut().zip(pixels.chunks_exact(3)) {
                *value = f32::from(pixel[channel]) * scale - shift;
            }
        }
    }

    /// Whether the input has no pixels, which no valid network has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Makes cut-outs, and keeps the memory that this takes.
///
/// Nothing is allocated once a frame of the same size or a larger one was cut.
#[derive(Debug, Default)]
pub struct CutOut {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    horizontal: Filter,
    vertical: Filter,
    masked_row: Vec<[u8; 4]>,
    narrow: Vec<u8>,
    sums: Vec<i32>,
    rim: Rim,
    smooth: Smooth,
}

impl CutOut {
    /// An empty cut-out.
    pub fn new() -> Self {
        Self::default()
    }

    /// Composites the ROI over black, fills reflections, crops to its box, and resizes to `width` × `height` pixels.
    ///
    /// Panics if the ROI is empty or does not lie in the frame: the caller has asked a locator before.
    pub fn cut(&mut self, frame: &Frame, roi: &Roi, width: usize, height: usize) {
        assert!(!roi.is_empty() && width > 0 && height > 0, "a cut-out needs a ROI and a size");
        assert!(roi.x() + roi.width() <= frame.width() && roi.y() + roi.height() <= frame.height());
        (self.width, self.height) = (width, height);
        // Room for the largest ROI of such a frame, so that a larger one than the last does not allocate.
        grow(&mut self.narrow, frame.height() * width * 3);
        grow(&mut self.masked_row, frame.width());
        self.horizontal.prepare(roi.width(), width, frame.width());
        self.vertical.prepare(roi.height(), height, frame.height());
        self.narrow.resize(roi.height() * width * 3, 0);
        self.masked_row.clear();
        self.masked_row.resize(roi.width(), [0; 4]);
        widest(
            #[inline(always)]
            || self.narrow_rows(frame, roi),
        );
        self.pixels.resize(width * height * 3, 0);
        self.sums.resize(width * 3, 0);
        self.vertical.down(&self.narrow, width * 3, &mut self.sums, &mut self.pixels);
    }

    /// The first half of the work: every row of the ROI over black and in the width of the cut-out.
    #[inline(always)]
    fn narrow_rows(&mut self, frame: &Frame, roi: &Roi) {
        let mut before = 0..0;
        for row in 0..roi.height() {
            let mask = roi.row(row);
            let first = mask.iter().position(|&inside| inside != 0).unwrap_or(roi.width());
            let end = mask.iter().rposition(|&inside| inside != 0).map_or(first, |last| last + 1);
            // Most of a box lies outside: a strip hangs in it like a bow.
            self.masked_row[before].fill([0; 4]);
            let from = ((roi.y() + row) * frame.width() + roi.x() + first) * 3;
            let source = frame.rgb()[from..].chunks_exact(3);
            let mut brightest = 0;
            for ((out, source), &inside) in self.masked_row[first..end].iter_mut().zip(source).zip(&mask[first..end]) {
                // `inside` is 0 or 255: a plain AND is the composite over black. Four wide, for the vector unit.
                *out = [source[0] & inside, source[1] & inside, source[2] & inside, 0];
                brightest = brightest.max(out[0].min(out[1]).min(out[2]));
            }
            // Most rows have none, and are not looked through once more.
            if brightest >= SPECULAR {
                fill_reflections(&mut self.masked_row, mask);
            }
            let out = &mut self.narrow[row * self.width * 3..][..self.width * 3];
            self.horizontal.across(&self.masked_row, first..end, out);
            before = first..end;
        }
    }

    /// The cut-out that a network expects: as [`CutOut::cut`], without its rim, and smoothed.
    pub fn cut_for(&mut self, spec: &InputSpec, frame: &Frame, roi: &Roi) {
        self.cut(frame, roi, spec.width, spec.height);
        if spec.rim > 0 {
            self.rim.take_away(&mut self.pixels, spec.width, spec.height, spec.rim);
        }
        if spec.smooth > 0.0 {
            self.smooth.apply(&mut self.pixels, spec.width, spec.height, spec.smooth);
        }
    }

    /// The last cut-out, `width * height * 3` bytes of R, G, B.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Whether at least a hundredth of the last cut-out is not black, as [`BLACK`](crate::BLACK) has it: a network that takes the
    /// mean over the tissue has nothing to judge otherwise. What is asked is every fourth pixel of every fourth row, since no
    /// network looks at fewer.
    pub fn has_tissue(&self) -> bool {
        let rows = self.pixels.chunks_exact(3 * self.width.max(1)).step_by(4);
        let [tissue, all] = rows
            .flat_map(|row| row.chunks_exact(3).step_by(4))
            .fold([0, 0], |[tissue, all], pixel| [tissue + usize::from(is_tissue(pixel)), all + 1]);
        tissue > 0 && tissue * 100 >= all
    }

    /// Width of the last cut-out in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height of the last cut-out in pixels.
    pub fn height(&self) -> usize {
        self.height
    }
}

/// Puts what lies beside them in the place of reflections: the lamp says nothing about the tissue.
///
/// Each run of them in a row, and a pixel more at both ends, becomes a straight line between the tissue to its left and to
/// its right. docs/design/quality.md shows what that is worth.
fn fill_reflections(row: &mut [[u8; 4]], mask: &[u8]) {
    let is_reflection =
        |pixel: &[u8; 4]| is_specular(pixel[0].min(pixel[1]).min(pixel[2]), pixel[0].max(pixel[1]).max(pixel[2]));
    let mut at = 0;
    while let Some(found) = row[at..].iter().position(is_reflection) {
        let (start, mut end) = ((at + found).saturating_sub(1).max(at), at + found + 1);
        // Runs that nearly touch are one.
        while row[end..].iter().take(3).any(is_reflection) {
            end += 1;
        }
        end = (end + 1).min(row.len());
        let is_tissue = |at: usize| mask[at] != 0;
        let before = start.checked_sub(1).filter(|&at| is_tissue(at)).map(|at| row[at]);
        let after = (end < row.len() && is_tissue(end)).then(|| row[end]);
        if let (Some(left), Some(right)) = (before.or(after), after.or(before)) {
            let length = (end - start + 1) as i32;
            for (step, pixel) in (1..length).zip(&mut row[start..end]) {
                // Outside of the mask it stays black.
                if *pixel != [0; 4] {
                    for channel in 0..3 {
                        let (left, right) = (i32::from(left[channel]), i32::from(right[channel]));
                        pixel[channel] = ((left * (length - step) + right * step) / length) as u8;
                    }
                }
            }
        }
        at = end;
    }
}
