//! `anemia-calibrate quantize` on MobileNetV2 and on the network of colours that ships, with phantoms as calibration pictures.
// A test may panic.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/common.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use anemia_bundle::{Bundle, Precision};
use anemia_calibrator::quantize::{self, Format};
use anemia_calibrator::{Recipe, network, pictures, write};
use anemia_engine::{EngineOptions, Source, load_network, self_test};
use anemia_onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use anemia_onnx::{float_tensor, float_value, integer, integers, model, node};
use image::{Rgba, RgbaImage};

fn calibrate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anemia-calibrate"));
    command.args(arguments);
    common::with_library(&mut command);
    command
}

/// MobileNetV2, and the network of colours that ships.
const MOBILENET: &str = "mobilenet";
const COLOURS: &str = "pallor";

fn bundle(name: &str) -> PathBuf {
    common::project().join("models").join(name)
}

/// Cut-outs of phantoms from red to pale.
fn phantoms(folder: &Path, count: u64) {
    for seed in 0..count {
        common::cutout(seed, seed as f32 / count as f32).save(folder.join(format!("{seed:03}.png"))).unwrap();
    }
}

/// A bundle of this project, its fp32 file, the network in it, and cut-outs of phantoms as it is given them.
fn bundle_and_phantoms(name: &str) -> (Bundle, Vec<u8>, network::Network, Vec<network::Map>) {
    let folder = tempfile::tempdir().unwrap();
    phantoms(folder.path(), 16);
    let bundle = Bundle::open(&bundle(name)).unwrap();
    let bytes = bundle.read_model(bundle.model(Precision::Fp32).unwrap()).unwrap();
    let network = network::read(&anemia_onnx::decode(bytes.clone()).unwrap()).unwrap();
    let found = pictures::find(folder.path()).unwrap();
    let maps = pictures::cut_out_all(&found, &bundle.manifest().input.spec()).unwrap();
    (bundle, bytes, network, maps)
}

#[test]
fn the_bundle_gets_small_files_that_run_and_answer_like_fp32() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    std::fs::create_dir(&data).unwrap();
    phantoms(&data, 24);
    let [bundle, data, target] = [bundle(MOBILENET), data, out.clone()].map(|path| path.to_string_lossy().into_owned());
    let mut run = calibrate(&["quantize", "--bundle", &bundle, "--data", &data, "--out", &target, "--pictures", "24"]);
    let (said, errors, code) = common::texts(&run.output().unwrap());
    assert_eq!(code, Some(0), "{said}{errors}");

    let made = Bundle::open(&out).unwrap();
    let size = |precision| made.read_model(made.model(precision).unwrap()).unwrap().len() as f64;
    for (precision, most) in [(Precision::Fp16, 0.51), (Precision::Int8, 0.28), (Precision::Int4, 0.17)] {
        let share = size(precision) / size(Precision::Fp32);
        assert!(share <= most, "{precision}: {share} of fp32");
        let mut engine = anemia_engine::load(&made, precision, &EngineOptions::default()).unwrap();
        self_test(&made, engine.as_mut()).unwrap();
        let answers = &made.model(precision).unwrap().answers;
        for (answer, test) in answers.iter().zip(&made.manifest().selftest) {
            assert!((answer - test.expected).abs() < 1.5, "{precision}: {answer}, at fp32 {}", test.expected);
        }
    }
    let cache = std::fs::read_to_string(out.join("calibration.cache")).unwrap();
    let mut lines = cache.lines();
    assert_eq!(lines.next(), Some("TRT-8502-EntropyCalibration2"));
    // The cache holds the bits of amax / 127, and the table amax, of the same values in the same order.
    let mut table = csv::Reader::from_path(out.join("dynamic-ranges.csv")).unwrap();
    let ranges: Vec<(String, f32)> = table.deserialize().collect::<Result<_, _>>().unwrap();
    assert_eq!(ranges.len(), lines.clone().count());
    for ((value, amax), line) in ranges.iter().zip(lines) {
        assert_eq!(line, format!("{value}: {:08x}", (amax / 127.0).to_bits()));
    }
    // They fit the fp32 network: every value of it is there under its name, and none that it does not have.
    let fp32 = anemia_onnx::read(&out.join("fp32.onnx")).unwrap().graph.unwrap();
    let made = fp32.node.iter().filter(|node| node.op_type() != "Constant").flat_map(|node| &node.output);
    let names: Vec<&String> = ranges.iter().map(|(name, _)| name).collect();
    assert_eq!(names, std::iter::once(&"image".to_owned()).chain(made).collect::<Vec<_>>());
    let amax = |name: &str| ranges.iter().find(|(value, _)| value == name).unwrap().1;
    assert!((0.9..=1.0).contains(&amax("image")), "pictures are from -1 to 1: {}", amax("image"));
    for node in fp32.node.iter().filter(|node| node.op_type() == "Clip") {
        let found = amax(&node.output[0]);
        assert!(found > 0.0 && found <= 6.0 && found == amax(&node.input[0]), "{}: {found}", node.output[0]);
    }

    // The same pictures give the same files.
    let again = folder.path().join("again");
    let target = again.to_string_lossy().into_owned();
    let arguments = [
        "quantize",
        "--bundle",
        &bundle,
        "--data",
        &data,
        "--out",
        &target,
        "--pictures",
        "24",
        "--precisions",
        "int8",
    ];
    assert_eq!(common::texts(&calibrate(&arguments).output().unwrap()).2, Some(0));
    assert_eq!(std::fs::read(out.join("int8.onnx")).unwrap(), std::fs::read(again.join("int8.onnx")).unwrap());

    // A network that is quantized already is not quantized once more.
    let inner = anemia_onnx::read(&out.join("int8.onnx")).unwrap();
    let error = format!("{:#}", network::read(&inner).unwrap_err());
    assert!(error.contains("quantized already"), "{error}");
}

#[test]
fn onnx_runtime_computes_what_the_calibrator_promised() {
    // Floats differ in their last digits. Of integers, a value in the middle between two may fall to either side, and that
    // spreads through 60 layers as far as rounding itself does; the next test looks at few layers, and closely. A network of
    // colours has few layers, and takes the mean over many pixels.
    for (name, middle, most) in [(MOBILENET, 0.3, 0.8), (COLOURS, 0.01, 0.04)] {
        computes_what_was_promised(name, middle, most);
    }
}

/// `middle` and `most`: the median and the greatest difference that integers may make to the logit.
fn computes_what_was_promised(name: &str, middle: f32, most: f32) {
    let (bundle, bytes, network, maps) = bundle_and_phantoms(name);
    let recipe = Recipe::find("best").unwrap();
    let int8 = quantize::int8(&network, &maps, Format::Unsigned, &recipe).unwrap();
    let board = quantize::int8(&network, &maps, Format::Signed, &recipe).unwrap();
    let int4 = quantize::int4(&network, &maps, bytes.len(), &recipe).unwrap();
    let fp16 = quantize::fp16(&network, &maps, &recipe).unwrap();
    let written = [
        (Precision::Fp16, write::fp16(&fp16), &fp16, [0.002, 0.002]),
        (Precision::Int8, write::int8_onnxruntime(&int8), &int8, [middle, most]),
        (Precision::Int8, write::int8_tensorrt(&board), &board, [middle, most]),
        (Precision::Int4, write::int4(&int4), &int4, [0.002, 0.002]),
        (Precision::Fp16, expanded(&write::int4(&int4)), &int4, [0.002, 0.002]),
    ];
    for (precision, model, quantized, [middle, most]) in written {
        let network = anemia_onnx::encode(&model);
        let path = Path::new("test.onnx");
        let source = Source::of(bundle.manifest(), path, &network, precision);
        let mut engine = load_network(&source, &EngineOptions::default()).unwrap();
        let difference = |map: &network::Map| {
            engine.input().copy_from_slice(&map.values);
            (engine.run().unwrap()[0] - quantized.simulate(map).values[0]).abs()
        };
        let mut differences: Vec<f32> = maps.iter().map(difference).collect();
        differences.sort_by(f32::total_cmp);
        assert!(
            differences[maps.len() / 2] < middle && differences[maps.len() - 1] < most,
            "{name}, {precision}: {differences:?}"
        );
    }
}

#[test]
fn the_files_do_not_depend_on_the_number_of_threads() {
    let (_, _, network, maps) = bundle_and_phantoms(MOBILENET);
    let recipe = Recipe::find("best").unwrap();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let quantized = pool.install(|| quantize::int8(&network, &maps, Format::Unsigned, &recipe)).unwrap();
        anemia_onnx::encode(&write::int8_onnxruntime(&quantized))
    };
    assert!(with(1) == with(3), "sums were made in another order");
}

#[test]
fn a_network_takes_another_temperature_in_also_where_its_last_layer_stays_a_float() {
    let (_, _, network, maps) = bundle_and_phantoms(MOBILENET);
    for float_share in [0.0, 0.4] {
        let recipe = Recipe { float_share, ..Recipe::find("best").unwrap() };
        let quantized = quantize::int8(&network, &maps[..4], Format::Signed, &recipe).unwrap();
        let (before, wanted) = (quantized.simulate(&maps[0]).values[0], quantized.temperature * 1.25);
        let warmer = quantized.with_temperature(wanted);
        assert_eq!(warmer.temperature, wanted);
        let factor = warmer.simulate(&maps[0]).values[0] / before;
        assert!((factor - 1.25).abs() < 1e-3, "{factor} at {float_share}");
    }
}

/// What the network that ships loses: its answers are means over the tissue, in which the errors of single pixels vanish.
#[test]
fn a_network_of_colours_hardly_loses_anything() {
    let (_, bytes, network, maps) = bundle_and_phantoms(COLOURS);
    let recipe = Recipe::find("best").unwrap();
    let logits =
        |of: &dyn Fn(&network::Map) -> network::Map| maps.iter().map(|map| of(map).values[0]).collect::<Vec<_>>();
    let float = logits(&|map| network.values(map, |_, _| ()).pop().unwrap());
    let spread = float.iter().fold(0f32, |most, x| most.max((x - float[0]).abs()));
    let int8 = quantize::int8(&network, &maps, Format::Unsigned, &recipe).unwrap();
    let board = quantize::int8(&network, &maps, Format::Signed, &recipe).unwrap();
    let int4 = quantize::int4(&network, &maps, bytes.len(), &recipe).unwrap();
    // Phantoms are more alike than eyes are: the spread is half of that of CP-AnemiC.
    for (precision, quantized, most) in [("int8", int8, 0.06), ("int8 on a board", board, 0.09), ("int4", int4, 0.06)] {
        let own = logits(&|map| quantized.simulate(map)).into_iter().map(|logit| logit / quantized.temperature);
        let lost = float.iter().zip(own).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(lost <= most * spread, "{precision}: {lost} of a spread of {spread}");
    }
}

/// Without a value that stays a float, every number of the file is computed as the calibrator computes it, through 60 layers.
#[test]
fn onnx_runtime_and_the_integers_of_the_calibrator_agree() {
    let (bundle, _, network, maps) = bundle_and_phantoms(MOBILENET);
    let recipe = Recipe { float_share: 0.0, ..Recipe::find("best").unwrap() };
    let quantized = quantize::int8(&network, &maps, Format::Unsigned, &recipe).unwrap();
    let file = anemia_onnx::encode(&write::int8_onnxruntime(&quantized));
    let source = Source::of(bundle.manifest(), Path::new("test.onnx"), &file, Precision::Int8);
    let mut engine = load_network(&source, &EngineOptions::default()).unwrap();
    // What one step of one value that the last layer reads is worth in the result, at most.
    let last = quantized.network.convs().last().unwrap();
    let heaviest = last.2.weights.iter().fold(0f32, |most, weight| most.max(weight.abs()));
    let quantum = quantized.values[last.1.inputs[0]].grid.unwrap().scale * heaviest;
    for map in &maps {
        engine.input().copy_from_slice(&map.values);
        let (found, promised) = (engine.run().unwrap()[0], quantized.simulate_integers(map).values[0]);
        assert!((found - promised).abs() <= quantum, "{found}, promised {promised}, a quantum is {quantum}");
    }
}

/// What is left of a network when its integers are floats.
const FLOATS: [&str; 12] =
    ["Conv", "Add", "Mul", "Sub", "Div", "Concat", "Log", "Sqrt", "Clip", "GlobalAveragePool", "Sigmoid", "Flatten"];

/// A board without 4-bit integers gets the same weights, and its 16-bit floats hold them.
fn expanded(int4: &ModelProto) -> ModelProto {
    let expanded = anemia_onnx::expand(int4).unwrap();
    let graph = expanded.graph.as_ref().unwrap();
    assert!(graph.node.iter().all(|node| FLOATS.contains(&node.op_type())));
    for layer in graph.node.iter().filter(|node| node.op_type() == "Conv") {
        let is_weight = |tensor: &&TensorProto| tensor.name() == layer.input[1];
        let weight = graph.initializer.iter().find(is_weight).unwrap();
        let bytes = weight.raw_data.as_ref().unwrap();
        for value in bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())) {
            assert_eq!(half::f16::from_f32(value).to_f32(), value, "{}", weight.name());
        }
    }
    expanded
}

/// Three layers whose integers are as large as they may be: kernels that saturate would be far off.
#[test]
fn bright_pictures_and_heavy_weights_give_the_promised_number() {
    use network::{Activation, Conv, Map, Network, Op, Step};
    let conv = |inputs: usize, outputs: usize| {
        // All of one sign and nearly one size: any two products add up.
        let mut weights: Vec<f32> =
            (0..inputs * outputs).map(|at| (1.0 + (at * 7 % 13) as f32 / 26.0) / inputs as f32).collect();
        // The last filter of many is dead: it gives its bias, which must not saturate for want of a scale.
        if outputs > 1 {
            weights[inputs * (outputs - 1)..].fill(1e-18);
        }
        let bias = (0..outputs).map(|at| at as f32 / outputs as f32).collect();
        Op::Conv(Conv { inputs, outputs, kernel: 1, stride: 1, pad: 0, groups: 1, weights, bias })
    };
    let ops = [conv(3, 32), conv(32, 64), Op::Mean, conv(64, 1)];
    let cut = [true, true, false, false];
    let steps = ops.into_iter().zip(cut).enumerate().map(|(at, (op, cut))| Step {
        name: format!("step{at}"),
        op,
        inputs: vec![at],
        activation: if cut { Activation::Relu6 } else { Activation::None },
    });
    let network = Network {
        input: "image".into(),
        shape: [3, 128, 128],
        output: "logit".into(),
        output_shape: Vec::new(),
        steps: steps.collect(),
    };
    let picture = |k: usize| {
        let values = (0..3 * 128 * 128).map(|at| 1.0 - ((at * 31 + k * 17) % 64) as f32 / (64.0 + k as f32)).collect();
        Map { shape: [3, 128, 128], values }
    };
    let pictures: Vec<Map> = (0..12).map(picture).collect();
    let bundle = Bundle::open(&bundle(MOBILENET)).unwrap();
    for (name, output_shape) in [("best", vec![1, 1]), ("paper", vec![1])] {
        let recipe = Recipe { float_share: 0.0, ..Recipe::find(name).unwrap() };
        let network = Network { output_shape, ..network.clone() };
        let quantized = quantize::int8(&network, &pictures, Format::Unsigned, &recipe).unwrap();
        let bytes = anemia_onnx::encode(&write::int8_onnxruntime(&quantized));
        let (path, precision) = (Path::new("test.onnx"), Precision::Int8);
        let source = Source::of(bundle.manifest(), path, &bytes, precision);
        let mut engine = load_network(&source, &EngineOptions::default()).unwrap();
        // What one step of the means, which the last layer reads, is worth in the result.
        let last = quantized.network.conv(3).unwrap().weights.iter().map(|weight| weight.abs()).sum::<f32>();
        let quantum = quantized.values[3].grid.unwrap().scale * last;
        for map in &pictures {
            engine.input().copy_from_slice(&map.values);
            let (found, promised) = (engine.run().unwrap()[0], quantized.simulate(map).values[0]);
            assert!((found - promised).abs() <= quantum, "{name}: {found}, promised {promised}, a step is {quantum}");
        }
    }
}

#[test]
fn a_network_that_overflows_is_refused_by_the_name_of_the_node() {
    use network::{Activation, Conv, Map, Network, Op, Step};
    let conv = Conv {
        inputs: 3,
        outputs: 1,
        kernel: 1,
        stride: 1,
        pad: 0,
        groups: 1,
        weights: vec![3e38; 3],
        bias: vec![0.0],
    };
    let step = Step { name: "heavy".into(), op: Op::Conv(conv), inputs: vec![0], activation: Activation::None };
    let network = Network {
        input: "image".into(),
        shape: [3, 1, 1],
        output: "logit".into(),
        output_shape: vec![1, 1],
        steps: vec![step],
    };
    let pictures = vec![Map { shape: [3, 1, 1], values: vec![1.0; 3] }];
    let recipe = Recipe::find("best").unwrap();
    let error = quantize::int8(&network, &pictures, Format::Unsigned, &recipe).unwrap_err().to_string();
    assert!(error.contains("node \"heavy\" gives inf for calibration picture 1"), "{error}");
}

#[test]
fn what_cannot_be_quantized_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    phantoms(&data, 3);
    let [bundle, data_text, out] =
        [bundle(MOBILENET), data.clone(), folder.path().join("out")].map(|path| path.to_string_lossy().into_owned());
    let refused = |arguments: &[&str], expected: &str| {
        let mut all = vec!["quantize", "--bundle", &bundle, "--data", &data_text, "--out", &out];
        all.extend(arguments);
        let (_, errors, code) = common::texts(&calibrate(&all).output().unwrap());
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains(expected) && errors.trim().lines().count() == 1, "{errors}");
        assert!(!Path::new(&out).exists());
    };
    refused(&["--pictures", "4"], "4 calibration pictures are asked for and there are 3");
    refused(&["--precisions", "fp32"], "is what the others are made from");
    refused(&["--precisions", "int8,fp16,int8"], "int8 is there twice");
    refused(&["--recipe", "none"], "expected `paper`, `best` or a YAML file");
    RgbaImage::from_pixel(60, 40, Rgba([0, 0, 0, 255])).save(data.join("black.png")).unwrap();
    refused(&["--pictures", "4"], "black.png: less than a hundredth of the cut-out is tissue");
    RgbaImage::from_pixel(60, 40, Rgba([180, 80, 80, 255])).save(data.join("black.png")).unwrap();
    refused(&["--pictures", "4"], "black.png: has the same colour everywhere");
    std::fs::write(data.join("black.png"), b"not a picture").unwrap();
    refused(&["--pictures", "4"], "black.png");
}

#[test]
fn a_locator_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [bundle, data, out] =
        [common::project().join("models/locator"), folder.path().into(), folder.path().join("out")]
            .map(|path: PathBuf| path.to_string_lossy().into_owned());
    let (_, errors, code) =
        common::texts(&calibrate(&["quantize", "--bundle", &bundle, "--data", &data, "--out", &out]).output().unwrap());
    assert_eq!(code, Some(1));
    assert!(errors.contains("is a locator; expected a classifier"), "{errors}");
}

#[test]
fn networks_with_faults_are_refused_by_the_name_of_the_node() {
    let bundle = Bundle::open(&bundle(MOBILENET)).unwrap();
    let bytes = bundle.read_model(bundle.model(Precision::Fp32).unwrap()).unwrap();
    let refused = |change: &dyn Fn(&mut GraphProto), expected: &str| {
        let mut model = anemia_onnx::decode(bytes.clone()).unwrap();
        change(model.graph.as_mut().unwrap());
        let error = format!("{:#}", network::read(&model).unwrap_err());
        assert!(error.contains(expected), "{error}");
    };
    refused(&|graph| graph.node[0].op_type = Some("Einsum".into()), "(Einsum): this operator is not understood");
    refused(&|graph| graph.initializer[2].raw_data = Some([0, 0, 192, 127].repeat(864).into()), "holds NaN");
    refused(&|graph| graph.initializer[2].data_location = Some(1), "in another file");
    refused(&|graph| graph.node[3].input[0] = "nowhere".into(), "is not computed before it");
    refused(&|graph| graph.input.clear(), "0 inputs");
}

/// A picture of 3 × 4 × 4, a convolution with a kernel of one pixel, whose result is `x`, and then `nodes`.
fn small(nodes: Vec<NodeProto>, output: &str) -> ModelProto {
    let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
    let mut conv = node("Conv", &["image", "kernel"], &["x"]);
    conv.attribute = vec![integers("kernel_shape", &[1; 2])];
    model(GraphProto {
        node: std::iter::once(conv).chain(nodes).collect(),
        initializer: vec![float_tensor("kernel", &[3, 3, 1, 1], &identity), float_tensor("two", &[], &[2.0])],
        input: vec![float_value("image", &[1, 3, 4, 4])],
        output: vec![float_value(output, &[1, 3, 4, 4])],
        ..Default::default()
    })
}

#[test]
fn what_would_be_understood_wrongly_is_refused() {
    let refused = |nodes: Vec<NodeProto>, expected: &str| {
        let error = format!("{:#}", network::read(&small(nodes, "out")).unwrap_err());
        assert!(error.contains(expected), "{error}");
    };
    let mean = |axes: &[i64], keep: i64| {
        let mut mean = node("ReduceMean", &["x"], &["mean"]);
        mean.attribute = vec![integers("axes", axes), integer("keepdims", keep)];
        mean
    };
    let divide = || node("Div", &["x", "mean"], &["out"]);
    refused(vec![mean(&[1], 1), divide()], "the mean over the axes [1]");
    refused(vec![mean(&[-2, -1], 0), divide()], "has a height and a width, and the other does not");
    refused(vec![node("Mul", &["x", "two"], &["out"])], "input \"two\" is a constant");
    assert_eq!(network::read(&small(vec![mean(&[-2, -1], 1), divide()], "out")).unwrap().steps.len(), 3);
}

/// Where no convolution takes it out, no value is shifted onto its grid: the sum stays what it is.
#[test]
fn a_picture_may_be_summed() {
    let pictures: Vec<network::Map> = (0..4)
        .map(|seed| network::Map {
            shape: [3, 4, 4],
            values: (0..48).map(|at| ((at * 7 + seed) % 11) as f32).collect(),
        })
        .collect();
    for cut in [false, true] {
        let sum = node("Add", &["image", "x"], &[if cut { "sum" } else { "out" }]);
        let nodes = if cut { vec![sum, node("Relu", &["sum"], &["out"])] } else { vec![sum] };
        let network = network::read(&small(nodes, "out")).unwrap();
        for recipe in ["best", "paper"] {
            let recipe = Recipe::find(recipe).unwrap();
            for quantized in [
                quantize::int4(&network, &pictures, 1000, &recipe).unwrap(),
                quantize::int8(&network, &pictures, Format::Unsigned, &recipe).unwrap(),
                quantize::int8(&network, &pictures, Format::Signed, &recipe).unwrap(),
            ] {
                for picture in &pictures {
                    let float = network.values(picture, |_, _| ()).pop().unwrap();
                    let pairs = float.values.iter().zip(quantized.simulate(picture).values);
                    let most = pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                    // Two steps of grids that reach to 10 and to 20 with at least 127 steps.
                    assert!(most <= 0.25, "{most}");
                }
            }
        }
    }
}

#[test]
fn what_a_logarithm_reads_is_not_rounded_to_nothing() {
    let nodes = vec![node("Log", &["x"], &["out"])];
    let network = network::read(&small(nodes, "out")).unwrap();
    // 0.001 is nothing on a grid of 256 steps up to 4.
    let values = (0..48).map(|at| if at % 2 == 0 { 0.001 } else { 4.0 }).collect();
    let pictures = vec![network::Map { shape: [3, 4, 4], values }; 4];
    for format in [Format::Unsigned, Format::Signed] {
        let int8 = quantize::int8(&network, &pictures, format, &Recipe::find("best").unwrap()).unwrap();
        assert_eq!(int8.values[1].grid, None, "{format:?}");
    }
}
