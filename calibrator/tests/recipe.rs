//! Every key of a recipe works alone: with nothing else switched on, it changes the network and does what it is for.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../tests/common.rs"]
mod common;

use anemia_bundle::{Bundle, Precision};
use anemia_calibrator::network::{self, Map, Network};
use anemia_calibrator::quantize::{self, Format, Quantized, RangeMethod, Rounding};
use anemia_calibrator::{Recipe, pictures};
use image::RgbaImage;

/// Everything off: whole ranges, nearest integers. Some layers stay at 8 bits in an int4 network: with all of them at 4, the answers are
/// noise, which nothing can be measured against.
fn plain() -> Recipe {
    Recipe { scale_weights: false, int4_size: 0.17, ..Recipe::find("paper").unwrap() }
}

struct Bench {
    network: Network,
    bytes: usize,
    pictures: Vec<Map>,
    /// Pictures that nothing is calibrated with.
    others: Vec<Map>,
    expected: Vec<f32>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for seed in 0..24u64 {
            let one: RgbaImage = common::cutout(seed, (seed % 12) as f32 / 12.0);
            one.save(folder.path().join(format!("{seed:03}.png"))).unwrap();
        }
        let bundle = Bundle::open(&common::project().join("models/mobilenet")).unwrap();
        let bytes = bundle.read_model(bundle.model(Precision::Fp32).unwrap()).unwrap();
        let network = network::read(&anemia_onnx::decode(bytes.clone()).unwrap()).unwrap();
        let found = pictures::find(folder.path()).unwrap();
        let mut pictures = pictures::cut_out_all(&found, &bundle.manifest().input.spec()).unwrap();
        let others = pictures.split_off(12);
        let expected = others.iter().map(|map| network.values(map, |_, _| {}).pop().unwrap().values[0]).collect();
        Self { network, bytes: bytes.len(), pictures, others, expected }
    }

    fn int8(&self, recipe: &Recipe) -> Quantized {
        quantize::int8(&self.network, &self.pictures, Format::Unsigned, recipe).unwrap()
    }

    fn int4(&self, recipe: &Recipe) -> Quantized {
        quantize::int4(&self.network, &self.pictures, self.bytes, recipe).unwrap()
    }

    fn errors(&self, quantized: &Quantized) -> Vec<f32> {
        let one = |(map, expected): (&Map, &f32)| quantized.simulate(map).values[0] / quantized.temperature - expected;
        self.others.iter().zip(&self.expected).map(one).collect()
    }

    /// Root mean square of what the logit of other pictures lost.
    fn lost(&self, quantized: &Quantized) -> f32 {
        let errors = self.errors(quantized);
        (errors.iter().map(|error| error * error).sum::<f32>() / errors.len() as f32).sqrt()
    }
}

/// What a key does to the logit's error against that of the plain recipe.
enum Effect {
    /// Nothing: it is for the other precision.
    None,
    /// It changes the network, and the error is at most this many times as large.
    AtMost(f32),
}

#[test]
fn each_key_works_alone() {
    use Effect::{AtMost, None};
    let bench = Bench::new();
    let base8 = bench.lost(&bench.int8(&plain()));
    let base4 = bench.lost(&bench.int4(&plain()));
    // A range is chosen for the values of one layer: what it is worth at the end is luck. That of least entropy was made for
    // networks without a cut at 6, and costs here. Factors of weights with nothing else are luck on so few phantoms, too.
    let keys = [
        ("range: mse", Recipe { range: RangeMethod::Mse, ..plain() }, AtMost(1.5), None),
        ("range: entropy", Recipe { range: RangeMethod::Entropy, ..plain() }, AtMost(2.5), None),
        ("range: percentile", Recipe { range: RangeMethod::Percentile, ..plain() }, AtMost(1.5), None),
        ("rounding: scaled", Recipe { rounding: Rounding::Scaled, ..plain() }, None, AtMost(1.2)),
        ("rounding: second_order", Recipe { rounding: Rounding::SecondOrder, ..plain() }, AtMost(0.8), AtMost(1.2)),
        (
            "second_order, correct_bias",
            Recipe { rounding: Rounding::SecondOrder, correct_bias: true, ..plain() },
            AtMost(0.3),
            AtMost(0.3),
        ),
        ("equalise", Recipe { equalise: true, ..plain() }, AtMost(1.5), None),
        ("scale_weights", Recipe { scale_weights: true, ..plain() }, None, AtMost(1.5)),
        ("compensate", Recipe { compensate: true, ..plain() }, AtMost(0.6), AtMost(0.6)),
        ("correct_bias", Recipe { correct_bias: true, ..plain() }, AtMost(0.6), AtMost(0.6)),
        ("align", Recipe { align: true, correct_bias: true, ..plain() }, AtMost(0.6), AtMost(0.6)),
        ("refit", Recipe { refit: true, ..plain() }, AtMost(0.6), AtMost(0.6)),
        ("float_share", Recipe { float_share: 0.5, ..plain() }, AtMost(0.5), None),
        ("int4_size", Recipe { int4_size: 0.25, ..plain() }, None, AtMost(0.8)),
    ];
    for (name, recipe, at8, at4) in keys {
        let [int8, int4] = [bench.int8(&recipe), bench.int4(&recipe)].map(|quantized| bench.lost(&quantized));
        println!("{name:<24} int8 {:.3}, int4 {:.3} of the error without it", int8 / base8, int4 / base4);
        for (precision, effect, found, base) in [("int8", at8, int8, base8), ("int4", at4, int4, base4)] {
            match effect {
                None => assert_eq!(found, base, "{name} changed {precision}"),
                AtMost(most) => {
                    assert!(found != base, "{name} did nothing at {precision}");
                    assert!(found / base <= most, "{name} at {precision}: {found}, {base} without it");
                }
            }
        }
    }
}
