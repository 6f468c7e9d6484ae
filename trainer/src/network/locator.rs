//! The network that finds the conjunctiva: the first stages of MobileNetV2 and a light way back up.
//!
//! It is a feature pyramid (Lin et al. 2017) with depthwise separable convolutions: at every size the coarser result is
//! doubled and added to what the encoder saw there. The map is half as wide and high as the picture.

use super::mobilenet::encoder;
use super::{Builder, Conv, Network, Op};

/// Stages of MobileNetV2 that are kept: up to a 16th of the size, 96 channels.
const STAGES: usize = 5;
/// Channels at a 16th, an 8th, a quarter and half of the size.
const CHANNELS: [i64; 4] = [64, 48, 32, 24];
/// For each size on the way up: which result of the encoder is added, and its channels.
const SKIPS: [(usize, i64); 3] = [(6, 32), (3, 24), (1, 16)];

/// The locator; its output is one logit for each square of 2 × 2 pixels.
pub fn lid_net(epsilon: f64) -> Network {
    let mut build = Builder::default();
    let results = encoder(&mut build, STAGES);
    let deepest = *results.last().expect("the encoder has stages");
    let mut at = build.conv(conv("up.0.top", 96, CHANNELS[0], 1, 1, true), deepest);
    for (level, (skip, channels)) in SKIPS.into_iter().enumerate() {
        let (inputs, outputs) = (CHANNELS[level], CHANNELS[level + 1]);
        let name = |part: &str| format!("up.{}.{part}", level + 1);
        at = build.conv(conv(&name("reduce"), inputs, outputs, 1, 1, false), at);
        at = build.step(Op::Double, &[at]);
        let beside = build.conv(conv(&name("skip"), channels, outputs, 1, 1, false), results[skip]);
        at = build.step(Op::Add { relu6: true }, &[at, beside]);
        at = build.conv(conv(&name("depthwise"), outputs, outputs, 3, outputs, true), at);
        at = build.conv(conv(&name("pointwise"), outputs, outputs, 1, 1, true), at);
    }
    let inputs = CHANNELS[3];
    let head = Conv { norm: None, ..conv("head", inputs, 1, 1, 1, false) };
    build.conv(head, at);
    build.finish(epsilon)
}

fn conv(name: &str, inputs: i64, outputs: i64, kernel: i64, groups: i64, relu6: bool) -> Conv {
    let (name, norm) = (format!("{name}.conv"), Some(format!("{name}.norm")));
    Conv { name, norm, inputs, outputs, kernel, stride: 1, groups, relu6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_small() {
        let numbers = lid_net(1e-3).trained_numbers();
        assert!((500_000..1_000_000).contains(&numbers), "{numbers}");
    }
}
