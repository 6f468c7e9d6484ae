//! A network of colours: what colours the tissue has, and not where.
//!
//! Every pixel is judged on its own by two layers; mean and standard deviation over the tissue are what is left of it (Zaheer
//! et al. 2017, "Deep Sets"). So it can learn neither the outline nor the sharpness of a picture, which are the camera's and
//! the hand's, and hardly recognises a photograph that it has seen.
//!
//! Two experts do so, and the answer is the mean of theirs (Jacobs et al. 1991, "Adaptive Mixtures of Local Experts", with a
//! fixed gate). One sees the colours as they are, and knows how bright and how red the tissue is. The other sees only how far
//! each pixel is from the mean of the tissue, which neither the light nor its colour changes: that the palest part of the
//! conjunctiva differs little from the reddest one is a sign of anemia by itself (Sheth et al. 1997, "The relation of
//! conjunctival pallor to the presence of anemia").

use anemia_vision::BLACK;

use super::{Builder, Conv, Network, Op};

/// The input is `(byte / 255 − MEAN) / STD`: greater than 0, so that it has a logarithm, and about 1.
pub const MEAN: f32 = -0.02;
/// See [`MEAN`].
pub const STD: f32 = 0.25;

/// Numbers of a pixel: see [`Op::Colours`].
pub(crate) const COLOURS: usize = 6;
/// Numbers of a pixel: see [`Op::Contrasts`].
pub(crate) const CONTRAST: usize = 3;
/// See [`Op::Sample`]: a cut-out that was smoothed has nothing new between the pixels.
pub(crate) const STRIDE: i64 = 4;
/// Channels of the two layers.
const CHANNELS: [i64; 2] = [64, 128];
/// Numbers between the statistics and the answer.
const HIDDEN: i64 = 32;

/// The classifier.
pub fn colours(epsilon: f64) -> Network {
    let mut build = Builder::default();
    let pixels = build.step(Op::Sample, &[0]);
    let tissue = build.step(Op::Tissue, &[pixels]);
    let logarithms = build.step(Op::Log, &[pixels]);
    let colours = build.step(Op::Colours, &[pixels, logarithms]);
    let colours = expert(&mut build, "colours", COLOURS, colours, tissue);
    let contrasts = build.step(Op::Contrasts, &[logarithms, tissue]);
    let contrasts = expert(&mut build, "contrasts", CONTRAST, contrasts, tissue);
    let both = build.step(Op::Join, &[colours, contrasts]);
    build.step(
        Op::Linear { name: "classifier".into(), norm: None, inputs: HIDDEN * 2, outputs: 1, relu6: false },
        &[both],
    );
    build.finish(epsilon)
}

/// What an expert finds in `pixel` numbers of each pixel.
fn expert(build: &mut Builder, name: &str, pixel: usize, pixels: usize, tissue: usize) -> usize {
    let (mut at, mut inputs) = (pixels, pixel as i64);
    for (layer, outputs) in CHANNELS.into_iter().enumerate() {
        let name = format!("{name}.{layer}");
        let conv = Conv { name, norm: None, inputs, outputs, kernel: 1, stride: 1, groups: 1, relu6: true };
        at = build.conv(conv, at);
        inputs = outputs;
    }
    at = build.step(Op::Statistics, &[at, tissue]);
    let [norm, name] = ["norm", "hidden"].map(|part| format!("{name}.{part}"));
    let (inputs, outputs) = (inputs * 2, HIDDEN);
    build.step(Op::Linear { name, norm: Some(norm), inputs, outputs, relu6: true }, &[at])
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

/// The matrix of [`Op::Contrasts`] by rows, for the three logarithms.
pub(crate) fn contrast_matrix() -> [f32; CONTRAST * CONTRAST] {
    #[rustfmt::skip]
    let matrix = [
        3.0, -3.0, 0.0,
        0.0, -3.0, 3.0,
        1.0,  1.0, 1.0,
    ];
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tiny() {
        // Two layers, a normalisation of 256 numbers, and a matrix, each with its biases; and the last matrix.
        let expert = |pixel: i64| (pixel * 64 + 64) + (64 * 128 + 128) + 2 * 256 + (256 * 32 + 32);
        let expected = expert(6) + expert(3) + (64 + 1);
        assert_eq!(colours(1e-5).trained_numbers(), expected);
    }
}
