//! Takes the rim of the tissue away: there it is mixed with black, and whoever drew the outline decided what lies there.

use crate::smooth::is_tissue;
use crate::widest::widest;

/// Takes a pixel of tissue away at a time, and keeps the memory that this takes.
#[derive(Debug, Default)]
pub(crate) struct Rim {
    /// 1 for tissue and 0 for black, a row and a column of black on every side.
    tissue: Vec<u8>,
    less: Vec<u8>,
}

impl Rim {
    /// Blackens the tissue in `pixels`, `width * height` of R, G, B, as far as it lies within `rim` pixels of black or of the
    /// border, across, down or aslant. It stops before less than a quarter of the tissue would be left: a narrow strip keeps its
    /// middle.
    pub(crate) fn take_away(&mut self, pixels: &mut [u8], width: usize, height: usize, rim: u32) {
        widest(
            #[inline(always)]
            || self.shrink(pixels, width, height, rim),
        );
    }

    #[inline(always)]
    fn shrink(&mut self, pixels: &mut [u8], width: usize, height: usize, rim: u32) {
        let wide = width + 2;
        let inner = |row: usize| (row + 1) * wide + 1..(row + 1) * wide + 1 + width;
        self.tissue.clear();
        self.tissue.resize(wide * (height + 2), 0);
        self.less.clear();
        self.less.resize(self.tissue.len(), 0);
        for (row, pixels) in pixels.chunks_exact(width * 3).enumerate() {
            for (tissue, pixel) in self.tissue[inner(row)].iter_mut().zip(pixels.chunks_exact(3)) {
                *tissue = u8::from(is_tissue(pixel));
            }
        }
        let count = |tissue: &[u8]| tissue.iter().map(|&one| usize::from(one)).sum::<usize>();
        let whole = count(&self.tissue);
        for _ in 0..rim {
            for row in 0..height {
                let above = &self.tissue[row * wide..][..3 * wide];
                for (column, less) in self.less[inner(row)].iter_mut().enumerate() {
                    let three = |row: usize| {
                        let three = &above[row * wide + column..][..3];
                        three[0] & three[1] & three[2]
                    };
                    *less = three(0) & three(1) & three(2);
                }
            }
            if count(&self.less) * 4 < whole {
                break;
            }
            std::mem::swap(&mut self.tissue, &mut self.less);
        }
        for (row, pixels) in pixels.chunks_exact_mut(width * 3).enumerate() {
            for (&tissue, pixel) in self.tissue[inner(row)].iter().zip(pixels.chunks_exact_mut(3)) {
                pixel.iter_mut().for_each(|value| *value *= tissue);
            }
        }
    }
}
