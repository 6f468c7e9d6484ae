//! MobileNetV2, width 1.0 (Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks").
//!
//! Layers and names are those of torchvision's `mobilenet_v2`, with one number at the end.

use super::{Builder, Conv, Network, Op};

/// Expansion, channels, repeats and first stride of the bottlenecks: Table 2 of the paper.
const BOTTLENECKS: [(i64, i64, i64, i64); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

/// The classifier.
pub fn mobilenet_v2(epsilon: f64) -> Network {
    let mut build = Builder::default();
    let bottlenecks = encoder(&mut build, BOTTLENECKS.len());
    let mut at = *bottlenecks.last().expect("there are seven stages");
    at = build.conv(conv(bottlenecks.len(), "0", "1", 320, 1280, 1, 1, 1, true), at);
    at = build.step(Op::Mean, &[at]);
    let name = "classifier.1".into();
    build.step(Op::Linear { name, norm: None, inputs: 1280, outputs: 1, relu6: false }, &[at]);
    build.finish(epsilon)
}

/// The stem and the first `stages` stages; gives the results of `features.0`, `features.1` …
pub(super) fn encoder(build: &mut Builder, stages: usize) -> Vec<usize> {
    // Three channels to 32, half the size.
    let mut results = vec![build.conv(conv(0, "0", "1", 3, 32, 3, 2, 1, true), 0)];
    let mut channels = 32;
    for (expansion, outputs, repeats, stride) in BOTTLENECKS.into_iter().take(stages) {
        for repeat in 0..repeats {
            let (index, input) = (results.len(), results[results.len() - 1]);
            let stride = if repeat == 0 { stride } else { 1 };
            results.push(bottleneck(build, input, index, channels, outputs, expansion, stride));
            channels = outputs;
        }
    }
    results
}

/// One inverted residual. The sum is there where neither size nor channels change.
fn bottleneck(
    build: &mut Builder,
    input: usize,
    index: usize,
    channels: i64,
    outputs: i64,
    expansion: i64,
    stride: i64,
) -> usize {
    let hidden = channels * expansion;
    let mut at = input;
    let (depthwise, depthwise_norm, project, project_norm) = if expansion == 1 {
        ("conv.0.0", "conv.0.1", "conv.1", "conv.2")
    } else {
        at = build.conv(conv(index, "conv.0.0", "conv.0.1", channels, hidden, 1, 1, 1, true), at);
        ("conv.1.0", "conv.1.1", "conv.2", "conv.3")
    };
    at = build.conv(conv(index, depthwise, depthwise_norm, hidden, hidden, 3, stride, hidden, true), at);
    at = build.conv(conv(index, project, project_norm, hidden, outputs, 1, 1, 1, false), at);
    if stride == 1 && channels == outputs { build.step(Op::Add { relu6: false }, &[input, at]) } else { at }
}

#[allow(clippy::too_many_arguments)]
fn conv(
    index: usize,
    name: &str,
    norm: &str,
    inputs: i64,
    outputs: i64,
    kernel: i64,
    stride: i64,
    groups: i64,
    relu6: bool,
) -> Conv {
    let (name, norm) = (format!("features.{index}.{name}"), Some(format!("features.{index}.{norm}")));
    Conv { name, norm, inputs, outputs, kernel, stride, groups, relu6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_size_of_torchvisions() {
        // torchvision's has 3,504,872 trained numbers with 1000 outputs of 1281 numbers each.
        assert_eq!(mobilenet_v2(1e-5).trained_numbers(), 3_504_872 - 999 * 1281);
        let names: Vec<_> = mobilenet_v2(1e-5).parameters().into_iter().map(|one| one.name).collect();
        assert_eq!(names.len(), 52 * 5 + 2);
        for name in ["features.1.conv.2.running_var", "features.17.conv.1.0.weight", "features.18.1.bias"] {
            assert!(names.iter().any(|one| one == name), "{name}");
        }
    }
}
