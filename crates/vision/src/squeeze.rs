//! The whole frame in the size of a network's input, whatever its shape: what the locator looks at.

use crate::Frame;
use crate::resample::{Filter, grow};
use crate::widest::widest;

/// Squeezes frames, and keeps the memory that this takes.
///
/// The filter is that of the cut-out, but vertically first and there with weights of 8 bits: four times as fast, and a value
/// can be a few off. A locator does not mind, and trainer and daemon do it alike.
#[derive(Debug, Default)]
pub struct Squeeze {
    pixels: Vec<u8>,
    horizontal: Filter,
    vertical: Filter,
    sums: Vec<u16>,
    row: Vec<[u8; 4]>,
}

impl Squeeze {
    /// Nothing squeezed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Squeezes the frame to `width` × `height` pixels and gives them, R, G, B. The frame must not be empty.
    pub fn squeeze(&mut self, frame: &Frame, width: usize, height: usize) -> &[u8] {
        assert!(frame.width() > 0 && frame.height() > 0, "an empty frame cannot be squeezed");
        let stride = frame.width() * 3;
        self.horizontal.prepare(frame.width(), width, frame.width());
        self.vertical.prepare(frame.height(), height, frame.height());
        grow(&mut self.row, frame.width());
        self.row.resize(frame.width(), [0; 4]);
        self.sums.resize(stride, 0);
        self.pixels.resize(width * height * 3, 0);
        widest(
            #[inline(always)]
            || self.rows(frame, width),
        );
        &self.pixels
    }

    #[inline(always)]
    fn rows(&mut self, frame: &Frame, width: usize) {
        let stride = frame.width() * 3;
        for (position, out) in self.pixels.chunks_exact_mut(width * 3).enumerate() {
            let (first, weights) = self.vertical.weights(position);
            self.sums.fill(128);
            let mut before = 0;
            for (row, &weight) in frame.rgb()[first * stride..].chunks_exact(stride).zip(weights) {
                // The sum up to here is rounded, not each weight: so they always come to 256.
                let until = before + weight;
                let weight = (eighth(until) - eighth(before)) as u16;
                before = until;
                for (sum, &byte) in self.sums.iter_mut().zip(row) {
                    // At most 255 × 256 and a half come together.
                    *sum += u16::from(byte) * weight;
                }
            }
            for (pixel, sums) in self.row.iter_mut().zip(self.sums.chunks_exact(3)) {
                *pixel = [sums[0], sums[1], sums[2], 0].map(|sum| (sum >> 8) as u8);
            }
            self.horizontal.across(&self.row, 0..frame.width(), out);
        }
    }
}

/// A sum of weights, of 22 fractional bits, in 8.
fn eighth(sum: i32) -> i32 {
    ((sum + (1 << 13)) >> 14).clamp(0, 256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BoxLocator, CutOut, Locator, Roi};

    #[test]
    fn it_is_the_cut_out_of_the_whole_frame_but_for_rounding() {
        let (mut squeeze, mut cutout, mut roi) = (Squeeze::new(), CutOut::new(), Roi::default());
        for (width, height) in [(1280, 720), (640, 480), (3840, 2160), (300, 1000), (40, 30), (1, 1)] {
            let mut frame = Frame::new(width, height);
            let mut state = 1u32;
            frame.rgb_mut().fill_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Nothing as bright as a reflection, which a cut-out fills.
                if state >> 31 == 0 { 199 } else { (state >> 24) as u8 % 200 }
            });
            BoxLocator { x: 0, y: 0, width, height }.locate(&frame, &mut roi);
            cutout.cut(&frame, &roi, 192, 192);
            let squeezed = squeeze.squeeze(&frame, 192, 192);
            let furthest = squeezed.iter().zip(cutout.pixels()).map(|(a, b)| a.abs_diff(*b)).max();
            // Weights of 8 bits are rougher the more rows come together, and then less depends on each.
            assert!(furthest.is_some_and(|furthest| furthest <= 8), "{width}×{height}: {furthest:?}");
        }
        let mut white = Frame::new(333, 217);
        white.rgb_mut().fill(255);
        assert!(squeeze.squeeze(&white, 192, 192).iter().all(|&byte| byte == 255));
    }
}
