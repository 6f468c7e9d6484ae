//! Takes fine detail out of a cut-out: tissue is blurred with tissue.

use crate::widest::widest;

/// Weights are whole numbers of this part, so that the last digit of a machine's exponential does not matter.
const ONE: f32 = 4096.0;
/// Sum of the channels of a pixel of a cut-out, up to which it lies outside of the tissue: no tissue is as black.
pub const BLACK: u8 = 6;

/// A Gaussian of one width, and the memory that it takes.
#[derive(Debug, Default)]
pub(crate) struct Smooth {
    sigma: f32,
    /// From one end to the other.
    weights: Vec<f32>,
    /// Three channels and the share of tissue of one row, and nothing at both ends, as far as the weights reach; then its sums.
    row: Vec<[f32; 4]>,
    /// All rows after the first pass, and of nothing above and below.
    across: Vec<[f32; 4]>,
}

impl Smooth {
    /// Blurs the tissue in `pixels`, `width * height` of R, G, B, by a Gaussian of `sigma` pixels. Black, which is what lies
    /// around it, stays black and does not darken it: a normalised convolution (Knutsson and Westin, Normalized and Differential
    /// Convolution, CVPR 1993). Always in the same order, so that every machine gives the same.
    pub(crate) fn apply(&mut self, pixels: &mut [u8], width: usize, height: usize, sigma: f32) {
        let reach = (sigma * 3.0).ceil() as usize;
        if sigma != self.sigma {
            let sum: f32 = (0..=2 * reach).map(|at| weight(at.abs_diff(reach), sigma)).sum();
            self.weights.clear();
            self.weights
                .extend((0..=2 * reach).map(|at| (weight(at.abs_diff(reach), sigma) / sum * ONE).round() / ONE));
            self.sigma = sigma;
        }
        self.row.clear();
        self.row.resize(width + 2 * reach, [0.0; 4]);
        self.across.clear();
        self.across.resize(width * (height + 2 * reach), [0.0; 4]);
        widest(
            #[inline(always)]
            || self.blur(pixels, width, reach),
        );
    }

    #[inline(always)]
    fn blur(&mut self, pixels: &mut [u8], width: usize, reach: usize) {
        let rows = pixels.chunks_exact(width * 3).zip(self.across[reach * width..].chunks_exact_mut(width));
        for (pixels, across) in rows {
            let mut is_empty = true;
            for (values, pixel) in self.row[reach..].iter_mut().zip(pixels.chunks_exact(3)) {
                let share = f32::from(u8::from(is_tissue(pixel)));
                *values = [pixel[0], pixel[1], pixel[2], 1].map(|value| f32::from(value) * share);
                is_empty &= share == 0.0;
            }
            if !is_empty {
                for (at, &weight) in self.weights.iter().enumerate() {
                    add(across, &self.row[at..], weight);
                }
            }
        }
        for (row, pixels) in pixels.chunks_exact_mut(width * 3).enumerate() {
            let sums = &mut self.row[..width];
            sums.fill([0.0; 4]);
            for (across, &weight) in self.across[row * width..].chunks_exact(width).zip(&self.weights) {
                add(sums, across, weight);
            }
            for (pixel, &[red, green, blue, share]) in pixels.chunks_exact_mut(3).zip(&*sums) {
                // The pixel is tissue itself, so there is a share.
                let colour = [red, green, blue].map(|sum| (sum / share + 0.5) as u8);
                pixel.copy_from_slice(&if is_tissue(pixel) { colour } else { [0; 3] });
            }
        }
    }
}

#[inline(always)]
fn add(sums: &mut [[f32; 4]], values: &[[f32; 4]], weight: f32) {
    for (sum, value) in sums.as_flattened_mut().iter_mut().zip(values.as_flattened()) {
        *sum += value * weight;
    }
}

#[inline(always)]
pub(crate) fn is_tissue(pixel: &[u8]) -> bool {
    pixel.iter().map(|&value| i32::from(value)).sum::<i32>() > i32::from(BLACK)
}

fn weight(at: usize, sigma: f32) -> f32 {
    (-0.5 * (at as f32 / sigma).powi(2)).exp()
}
