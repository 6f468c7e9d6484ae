//! A network of colours: what colours the tissue has, and not where.
//!
//! Every pixel is judged on its own by two layers; mean and standard deviation over the tissue are what is left of it (Zaheer
//! et al. 2017, "Deep Sets"). So it can learn neither the outline nor the sharpness of a picture, which are the camera's and
//! the hand's, and hardly recognises a photograph that it has seen.

use anemia_vision::BLACK;

use super::{Builder, Conv, Network, Op};

/// The input is `(byte / 255 − MEAN) / STD`: greater than 0, so that it has a logarithm, and about 1.
pub const MEAN: f32 = -0.02;
/// See [`MEAN`].
pub const STD: f32 = 0.25;

/// Numbers of a pixel: see [`Op::Colours`].
pub(crate) const COLOURS: usize = 6;
/// How far the network goes from pixel to pixel: a cut-out that was smoothed has nothing new in between.
pub(crate) const STRIDE: i64 = 2;
/// Channels of the two layers.
const CHANNELS: [i64; 2] = [64, 128];
/// Numbers between the statistics and the answer.
const HIDDEN: i64 = 32;

/// The classifier.
pub fn colours(epsilon: f64) -> Network {
    let mut build = Builder::default();
    let tissue = build.step(Op::Tissue, &[0]);
    let mut at = build.step(Op::Colours, &[0]);
    let mut inputs = COLOURS as i64;
    for (layer, outputs) in CHANNELS.into_iter().enumerate() {
        let name = format!("colours.{layer}");
        let conv = Conv { name, norm: None, inputs, outputs, kernel: 1, stride: 1, groups: 1, relu6: true };
        at = build.conv(conv, at);
        inputs = outputs;
    }
    at = build.step(Op::Statistics, &[at, tissue]);
    let [norm, hidden, answer] = ["classifier.0", "classifier.1", "classifier.2"].map(str::to_owned);
    let (inputs, outputs) = (inputs * 2, HIDDEN);
    at = build.step(Op::Linear { name: hidden, norm: Some(norm), inputs, outputs, relu6: true }, &[at]);
    build.step(Op::Linear { name: answer, norm: None, inputs: HIDDEN, outputs: 1, relu6: false }, &[at]);
    build.finish(epsilon)
}

/// The weights of [`Op::Tissue`], one for each channel, and its bias: 6 or more of a pixel whose bytes add up to more than
/// `BLACK`, less than 0 of others.
pub(crate) fn tissue() -> ([f32; 3], f32) {
    // The sum of the bytes is 255 · (STD · (r + g + b) + 3 · MEAN).
    const PER_BYTE: f32 = 12.0;
    let bias = PER_BYTE * (255.0 * 3.0 * MEAN - f32::from(BLACK) - 0.5);
    ([PER_BYTE * 255.0 * STD; 3], bias)
}

/// The matrix of [`Op::Colours`] by rows, for the three channels and their three logarithms, and its biases.
pub(crate) fn colour_matrix() -> ([f32; COLOURS * COLOURS], [f32; COLOURS]) {
    const THIRD: f32 = 1.0 / 3.0;
    #[rustfmt::skip]
    let matrix = [
        1.0, 0.0, 0.0,   0.0,   0.0,   0.0,
        0.0, 1.0, 0.0,   0.0,   0.0,   0.0,
        0.0, 0.0, 1.0,   0.0,   0.0,   0.0,
        // Colours of tissue differ by a few per cent.
        0.0, 0.0, 0.0,   3.0,  -3.0,   0.0,
        0.0, 0.0, 0.0,   0.0,  -3.0,   3.0,
        0.0, 0.0, 0.0, THIRD, THIRD, THIRD,
    ];
    (matrix, [-2.0, -2.0, -2.0, 0.0, 0.0, -0.4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tiny() {
        // Two layers, a normalisation of 256 numbers, and two matrices, each with its biases.
        let expected = (6 * 64 + 64) + (64 * 128 + 128) + 2 * 256 + (256 * 32 + 32) + (32 + 1);
        assert_eq!(colours(1e-5).trained_numbers(), expected);
    }
}
