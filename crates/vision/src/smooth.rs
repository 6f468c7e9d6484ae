//! Takes fine detail out of a cut-out: tissue is blurred with tissue.

/// Weights are whole numbers of this part, so that the last digit of a machine's exponential does not matter.
const ONE: f32 = 4096.0;
/// Sum of the channels of a pixel, up to which it lies outside of the tissue.
const BLACK: i32 = 6;

/// A Gaussian of one width, and the memory that it takes.
#[derive(Debug, Default)]
pub(crate) struct Smooth {
    sigma: f32,
    /// From the middle outwards.
    weights: Vec<f32>,
    /// Three channels and the share of tissue, after the first pass.
    across: Vec<[f32; 4]>,
    /// The same of one row, after the second.
    sums: Vec<[f32; 4]>,
}

impl Smooth {
    /// Blurs the tissue in `pixels`, `width * height` of R, G, B, by a Gaussian of `sigma` pixels. Black, which is what lies
    /// around it, stays black and does not darken it: a normalised convolution (Knutsson and Westin, Normalized and Differential
    /// Convolution, CVPR 1993). Always in the same order, so that every machine gives the same.
    pub(crate) fn apply(&mut self, pixels: &mut [u8], width: usize, height: usize, sigma: f32) {
        if sigma != self.sigma {
            let reach = (sigma * 3.0).ceil() as usize;
            let sum: f32 = (0..=reach).map(|at| weight(at, sigma) * if at == 0 { 1.0 } else { 2.0 }).sum();
            self.weights.clear();
            self.weights.extend((0..=reach).map(|at| (weight(at, sigma) / sum * ONE).round() / ONE));
            self.sigma = sigma;
        }
        let reach = self.weights.len() - 1;
        self.across.clear();
        self.across.resize(width * height, [0.0; 4]);
        for (row, out) in pixels.chunks_exact(width * 3).zip(self.across.chunks_exact_mut(width)) {
            for (at, pixel) in row.chunks_exact(3).enumerate() {
                if is_tissue(pixel) {
                    let values = [f32::from(pixel[0]), f32::from(pixel[1]), f32::from(pixel[2]), 1.0];
                    // To all places that this pixel reaches: itself and those after it, and those before it.
                    let after = out[at..].iter_mut().zip(&self.weights);
                    after.for_each(|(out, &weight)| add(out, values, weight));
                    let before = out[..at].iter_mut().rev().zip(&self.weights[1..]);
                    before.for_each(|(out, &weight)| add(out, values, weight));
                }
            }
        }
        for at in 0..height {
            self.sums.clear();
            self.sums.resize(width, [0.0; 4]);
            for row in at.saturating_sub(reach)..(at + reach + 1).min(height) {
                let weight = self.weights[row.abs_diff(at)];
                for (sum, values) in self.sums.iter_mut().zip(&self.across[row * width..][..width]) {
                    add(sum, *values, weight);
                }
            }
            for (pixel, sum) in pixels[at * width * 3..][..width * 3].chunks_exact_mut(3).zip(&self.sums) {
                if !is_tissue(pixel) {
                    pixel.fill(0);
                    continue;
                }
                // The pixel is tissue itself, so there is a share.
                for (value, channel) in pixel.iter_mut().zip(sum) {
                    *value = (channel / sum[3] + 0.5) as u8;
                }
            }
        }
    }
}

fn is_tissue(pixel: &[u8]) -> bool {
    pixel.iter().map(|&value| i32::from(value)).sum::<i32>() > BLACK
}

fn weight(at: usize, sigma: f32) -> f32 {
    (-0.5 * (at as f32 / sigma).powi(2)).exp()
}

fn add(sums: &mut [f32; 4], values: [f32; 4], weight: f32) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value * weight;
    }
}
