//! Training with libtorch, on phantoms: resuming, stopping, bad input, and bundles that open.
// A test whose stage cannot be set may panic.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "torch")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anemia_bundle::{Bundle, OutputKind, Precision, Task};
use anemia_engine::EngineOptions;
use anemia_vision::phantom::Phantom;
use anemia_vision::{Frame, write_png, write_png_grey};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use support::{One, SmallDisk, anemia_train, cutout, texts, write_data_set};

/// Weights for the encoder of MobileNetV2 with torchvision's names, `.safetensors`: kernels of noise, plain statistics.
fn encoder() -> Vec<u8> {
    let (mut random, mut header, mut data) = (Pcg64::seed_from_u64(1), String::new(), Vec::<u8>::new());
    let mut add = |name: String, shape: &[u32], spread: f32| {
        let start = data.len();
        for _ in 0..shape.iter().product::<u32>() {
            let value = if spread > 0.0 { random.random_range(-spread..spread) } else { -spread };
            data.extend(value.to_le_bytes());
        }
        let end = data.len();
        header += &format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}},");
    };
    let mut conv = |block: usize, conv: &str, norm: &str, outputs: u32, inputs: u32, kernel: u32| {
        // He et al. 2015, fan out: a depthwise kernel hands on to one channel.
        let fan_out = if inputs == 1 { kernel * kernel } else { outputs * kernel * kernel };
        let spread = (6.0 / fan_out as f32).sqrt();
        add(format!("features.{block}.{conv}.weight"), &[outputs, inputs, kernel, kernel], spread);
        for (name, spread) in [("weight", -1.0), ("bias", -0.0), ("running_mean", -0.0), ("running_var", -1.0)] {
            add(format!("features.{block}.{norm}.{name}"), &[outputs], spread);
        }
    };
    conv(0, "0", "1", 32, 3, 3);
    let (mut block, mut channels) = (1, 32);
    for (expansion, outputs, repeats) in
        [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
    {
        for _ in 0..repeats {
            let hidden = channels * expansion;
            if expansion == 1 {
                conv(block, "conv.0.0", "conv.0.1", hidden, 1, 3);
                conv(block, "conv.1", "conv.2", outputs, hidden, 1);
            } else {
                conv(block, "conv.0.0", "conv.0.1", hidden, channels, 1);
                conv(block, "conv.1.0", "conv.1.1", hidden, 1, 3);
                conv(block, "conv.2", "conv.3", outputs, hidden, 1);
            }
            (block, channels) = (block + 1, outputs);
        }
    }
    conv(block, "0", "1", 1280, 320, 1);
    let header = format!("{{{}}}", header.trim_end_matches(','));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// A folder with a small data set, pretrained weights, a recipe and the text for a manifest.
struct Stage {
    folder: tempfile::TempDir,
}

const RECIPE: &str = "network: mobilenet_v2\nsize: 32\nepochs: 3\npatience: 5\nbatch: 8\ndraw: files\nlearning_rate: 1.0e-3\n\
    head_rate: 1.0\ncosine: true\nweight_decay: 0.01\ndropout: 0.2\nlabel_smoothing: 0.05\naverage: 0.9\n\
    frozen_statistics: false\naugmentation:\n  mirror: true\n  upside_down: false\n  rotation_degrees: 10.0\n  shift: 0.1\n  \
    scale: [0.9, 1.1]\n";

impl Stage {
    fn new() -> Self {
        let stage = Self { folder: tempfile::tempdir().unwrap() };
        let one = |k: u64| {
            let anemic = k.is_multiple_of(2);
            let picture = cutout(k, if anemic { 0.9 } else { 0.1 });
            One { picture, anemic, hb: if anemic { 9.0 } else { 12.0 } }
        };
        write_data_set(&stage.path("data"), &(0..40).map(one).collect::<Vec<_>>());
        // Phantoms have much in common, so the folds are not asked of the search for copies.
        let rows: String = (0..40)
            .map(|k| {
                let remark = if k % 2 == 0 { "Anemic" } else { "Non-anemic" };
                format!("{remark}/Image_{k:03}.png,{remark},{k},{},{}\n", k / 2 % 2, k / 4 % 2)
            })
            .collect();
        let table = format!("path,remark,photo_group,fold_random,fold_grouped\n{rows}");
        fs::write(stage.path("data/folds.csv"), table).unwrap();
        fs::write(stage.path("recipe.yaml"), RECIPE).unwrap();
        let training = "data: phantoms\nage_months: [6, 59]\nanemic_below_g_per_dl: 11.0\nlimits: a test\n";
        fs::write(stage.path("training.yaml"), training).unwrap();
        fs::write(stage.path("weights.safetensors"), encoder()).unwrap();
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn cv(&self, run: &str) -> Command {
        let mut command = anemia_train(&["cv", "--threads", "1", "--seed", "3"]);
        command.arg("--data").arg(self.path("data")).arg("--pretrained").arg(self.path("weights.safetensors"));
        command.arg("--recipe").arg(self.path("recipe.yaml")).arg("--run").arg(self.path(run));
        command
    }

    fn recipe(&self, from: &str, to: &str) {
        assert!(RECIPE.contains(from));
        fs::write(self.path("recipe.yaml"), RECIPE.replace(from, to)).unwrap();
    }

    /// Runs to the end, and gives the predictions and the last weights.
    fn finish(&self, run: &str) -> (String, Vec<u8>) {
        succeed(&mut self.cv(run));
        let run = self.path(run);
        (
            fs::read_to_string(run.join("predictions.csv")).unwrap(),
            fs::read(run.join("fold-1/weights.safetensors")).unwrap(),
        )
    }

    fn refused(&self, run: &str, what: &str) {
        let (_, errors, code) = texts(&self.cv(run).output().unwrap());
        let last = errors.lines().last().unwrap_or_default();
        assert!(code == Some(1) && last.starts_with("anemia-train: ") && last.contains(what), "{code:?} {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
}

/// Runs to the end without an error, and gives the standard output.
fn succeed(command: &mut Command) -> String {
    let (text, errors, code) = texts(&command.output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    text
}

fn wait_for(file: &Path) {
    let start = Instant::now();
    while !file.exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "waited too long for {}", file.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_run_that_was_killed_goes_on_bit_for_bit() {
    let stage = Stage::new();
    let whole = stage.finish("whole");
    let mut process = stage.cv("killed").stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    // In the second fold, between two checkpoints or in the middle of one.
    wait_for(&stage.path("killed/fold-1"));
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(!stage.path("killed/predictions.csv").exists(), "it was finished before it could be killed");
    assert!(whole == stage.finish("killed"), "a resumed run gave other numbers");

    // Also from a checkpoint in the middle of a training: three epochs, then on to six.
    stage.recipe("cosine: true", "cosine: false");
    let _ = stage.finish("short");
    let six = RECIPE.replace("epochs: 3", "epochs: 6").replace("cosine: true", "cosine: false");
    fs::write(stage.path("recipe.yaml"), six).unwrap();
    let long = stage.finish("long");
    for fold in ["fold-0", "fold-1"] {
        fs::remove_file(stage.path("short").join(fold).join("predictions.csv")).unwrap();
    }
    let settings = fs::read_to_string(stage.path("long/run.yaml")).unwrap();
    fs::write(stage.path("short/run.yaml"), settings).unwrap();
    assert!(long == stage.finish("short"), "from a checkpoint the training gave other numbers");
}

#[test]
fn a_report_shows_figures_curves_and_errors() {
    let stage = Stage::new();
    stage.finish("run");
    let page = fs::read_to_string(stage.path("run/report.html")).unwrap();
    for text in
        ["Confusion", "ROC", "Reliability", "fold-1: loss", "AUC", "No photograph group", "data:image/png;base64,"]
    {
        assert!(page.contains(text), "{text}");
    }
    let json: serde_json::Value = serde_json::from_slice(&fs::read(stage.path("run/report.json")).unwrap()).unwrap();
    assert_eq!(json["pooled"]["pictures"], 40);
    assert_eq!(json["folds"].as_array().unwrap().len(), 2);
    let epochs = fs::read_to_string(stage.path("run/fold-0/epochs.csv")).unwrap();
    assert_eq!(epochs.lines().count(), 4, "{epochs}");
}

#[test]
fn the_report_of_the_papers_protocol_says_what_memory_alone_reaches() {
    let stage = Stage::new();
    // Every photograph twice, once in each of the random folds.
    let text = fs::read_to_string(stage.path("data/folds.csv")).unwrap();
    let line = |(at, line): (usize, &str)| {
        let cells: Vec<&str> = line.split(',').collect();
        if at == 0 {
            line.to_owned()
        } else {
            format!("{},{},{},{},{}", cells[0], cells[1], at / 4 * 2 + at % 2, at / 2 % 2, cells[4])
        }
    };
    fs::write(stage.path("data/folds.csv"), text.lines().enumerate().map(line).collect::<Vec<_>>().join("\n")).unwrap();
    let mut command = stage.cv("run");
    command.args(["--protocol", "paper"]);
    succeed(&mut command);
    let json: serde_json::Value = serde_json::from_slice(&fs::read(stage.path("run/report.json")).unwrap()).unwrap();
    assert!(json["memory"]["auc"]["value"].as_f64().unwrap() > 0.9, "{}", json["memory"]);
    assert!(fs::read_to_string(stage.path("run/report.html")).unwrap().contains("who only remembers"));
}

#[test]
fn the_networks_of_a_run_learn_to_be_rounded() {
    let stage = Stage::new();
    succeed(&mut stage.cv("run"));
    let qat = |out: &str, data: &str| {
        let mut command = anemia_train(&["qat", "--threads", "1", "--epochs", "3"]);
        command
            .arg("--run")
            .arg(stage.path("run"))
            .arg("--data")
            .arg(stage.path(data))
            .arg("--out")
            .arg(stage.path(out));
        command
    };
    succeed(&mut qat("tuned", "data"));
    let paths = |run: &str| {
        let mut table = csv::Reader::from_path(stage.path(run).join("predictions.csv")).unwrap();
        table.records().map(|row| row.unwrap()[0].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(paths("tuned"), paths("run"));
    for fold in ["fold-0", "fold-1"] {
        let network = |run: &str| fs::read(stage.path(run).join(fold).join("fp32.onnx")).unwrap();
        assert_eq!(network("tuned").len(), network("run").len());
        assert_ne!(network("tuned"), network("run"));
        let epochs = fs::read_to_string(stage.path("tuned").join(fold).join("epochs.csv")).unwrap();
        assert_eq!(epochs.lines().count(), 4, "{epochs}");
    }
    // What is done is not done again, and gives the same bytes.
    let before = fs::read(stage.path("tuned/predictions.csv")).unwrap();
    succeed(&mut qat("tuned", "data"));
    succeed(&mut qat("again", "data"));
    for run in ["tuned", "again"] {
        assert_eq!(fs::read(stage.path(run).join("predictions.csv")).unwrap(), before, "{run}");
    }

    fs::write(stage.path("run/fold-1/weights.safetensors"), b"cut").unwrap();
    let refused = |command: &mut Command, words: &str| {
        let (_, stderr, code) = texts(&command.output().unwrap());
        assert_eq!(code, Some(1));
        assert!(stderr.contains(words), "{stderr}");
    };
    refused(&mut qat("other", "data"), "weights.safetensors");
    let table = fs::read_to_string(stage.path("data/folds.csv")).unwrap();
    fs::write(stage.path("data/folds.csv"), table.lines().take(30).collect::<Vec<_>>().join("\n")).unwrap();
    refused(&mut qat("third", "data"), "are not the pictures and folds that");
    fs::remove_file(stage.path("run/run.yaml")).unwrap();
    refused(&mut qat("fourth", "data"), "expected the folder of an `anemia-train cv`");
}

/// The recipe that ships: from random numbers, and what phantoms differ in is their colour.
#[test]
fn the_network_of_colours_tells_red_tissue_from_pale_without_pretrained_weights() {
    let stage = Stage::new();
    let cv = |recipe: &str| {
        let mut command = anemia_train(&["cv", "--threads", "1", "--recipe", recipe]);
        command.arg("--data").arg(stage.path("data")).arg("--run").arg(stage.path(recipe));
        command
    };
    let said = succeed(&mut cv("best"));
    let area = said.lines().find(|line| line.starts_with("AUC ")).unwrap();
    assert!(area.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() > 0.95, "{said}");
    // It is as small as its file: 33,857 numbers without the normalisations, and the names of nodes.
    let file = fs::metadata(stage.path("best/fold-0/fp32.onnx")).unwrap().len();
    assert!((135_428..145_000).contains(&file), "{file} bytes");

    let refused = |command: &mut Command, words: &str| {
        let (_, errors, code) = texts(&command.output().unwrap());
        assert!(code == Some(1) && errors.contains(words), "{errors}");
    };
    refused(cv("best").arg("--pretrained").arg(stage.path("weights.safetensors")), "leave --pretrained away");
    refused(&mut cv("mobilenet"), "expected --pretrained FILE");
}

#[test]
fn sigint_ends_a_run_with_a_line_that_says_how_to_go_on() {
    let stage = Stage::new();
    stage.recipe("epochs: 3", "epochs: 10000");
    let process = stage.cv("run").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    wait_for(&stage.path("run/fold-0"));
    stage.refused("run", "another anemia-train works in this folder");
    assert!(Command::new("kill").arg("-INT").arg(process.id().to_string()).status().unwrap().success());
    let (_, errors, code) = texts(&process.wait_with_output().unwrap());
    assert!(code == Some(1) && errors.contains("interrupted; the same command goes on"), "{code:?} {errors}");
}

#[test]
fn what_cannot_be_trained_is_refused_in_one_line() {
    let stage = Stage::new();
    let table = stage.path("data/folds.csv");
    let good = fs::read_to_string(&table).unwrap();
    let with = |change: &dyn Fn(&str) -> String| fs::write(&table, change(&good)).unwrap();

    with(&|text| text.replace("Non-anemic,", "Anemic,"));
    stage.refused("a", "expected both kinds in every fold");
    fs::write(&table, "path,remark,photo_group,fold_random,fold_grouped\n").unwrap();
    stage.refused("a", "no pictures are listed");
    with(&|text| text.replace("fold_grouped", "something"));
    stage.refused("a", "has no column fold_grouped");
    with(&|text| text.replace("Image_003.png", "Image_999.png"));
    stage.refused("a", "Image_999.png has a label and no picture");
    fs::remove_file(&table).unwrap();
    stage.refused("a", "anemia-train audit");
    fs::write(&table, &good).unwrap();

    stage.recipe("size: 32", "size: 33");
    stage.refused("a", "expected a multiple of 32");
    stage.recipe("epochs: 3", "epocs: 3");
    stage.refused("a", "epocs");
    stage.recipe("learning_rate: 1.0e-3", "learning_rate: 1.0e30");
    stage.refused("nan", "a smaller learning_rate may help");
    fs::write(stage.path("recipe.yaml"), RECIPE).unwrap();
    stage.refused("nan", "holds a run with other settings");

    let weights = fs::read(stage.path("weights.safetensors")).unwrap();
    let at = weights.windows(12).position(|name| name == b"features.7.c").unwrap();
    let mut other = weights.clone();
    other[at] = b'F';
    fs::write(stage.path("weights.safetensors"), &other).unwrap();
    stage.refused("b", "features.7.conv.0.0.weight is missing");
    fs::write(stage.path("weights.safetensors"), &weights[..weights.len() / 2]).unwrap();
    stage.refused("b", "weights.safetensors: not a safetensors file");
    fs::remove_file(stage.path("weights.safetensors")).unwrap();
    stage.refused("b", "weights.safetensors");
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half() {
    let stage = Stage::new();
    let Some(disk) = SmallDisk::mount(2) else { return };
    let arguments: Vec<_> = stage.cv("unused").get_args().map(ToOwned::to_owned).collect();
    let mut command = anemia_train(&[]);
    command.args(&arguments[..arguments.len() - 1]).arg(disk.folder.path().join("run"));
    let (_, errors, code) = texts(&command.output().unwrap());
    let whole = disk.folder.path().join("run/fold-0/checkpoint.safetensors").exists();
    assert!(code == Some(1) && errors.contains("checkpoint.safetensors: cannot be written"), "{code:?} {errors}");
    assert!(!whole, "half a checkpoint stands where a whole one should");
}

#[test]
fn a_fitted_bundle_passes_its_self_test_and_says_both_protocols() {
    let stage = Stage::new();
    let out = stage.path("bundle");
    let mut command = anemia_train(&["fit", "--threads", "1", "--model-version", "1.2.3"]);
    command.arg("--data").arg(stage.path("data")).arg("--pretrained").arg(stage.path("weights.safetensors"));
    command.arg("--recipe").arg(stage.path("recipe.yaml")).arg("--training").arg(stage.path("training.yaml"));
    command.arg("--run").arg(stage.path("fit")).arg("--out").arg(&out);
    succeed(&mut command);
    let bundle = Bundle::open(&out).unwrap();
    let manifest = bundle.manifest();
    assert_eq!((manifest.input.width, manifest.output.kind), (32, OutputKind::Logit));
    for protocol in ["paper protocol", "grouped protocol"] {
        assert!(
            manifest.models[0].metrics.iter().any(|one| one.name == "AUC" && one.data.contains(protocol)),
            "{protocol}"
        );
    }
    let mut engine = anemia_engine::load(&bundle, Precision::Fp32, &EngineOptions::default()).unwrap();
    anemia_engine::self_test(&bundle, engine.as_mut()).unwrap();
    // A second bundle is not written over the first.
    let (_, errors, code) = texts(&command.output().unwrap());
    assert!(code == Some(1) && errors.contains("exists already"), "{errors}");
}

#[test]
fn a_locator_is_trained_and_finds_phantoms() {
    let stage = Stage::new();
    let eyes = stage.path("eyes");
    for folder in ["images", "masks"] {
        fs::create_dir_all(eyes.join(folder)).unwrap();
    }
    let mut labels = String::from("number,image,mask\n");
    let mut frame = Frame::default();
    for number in 0..14 {
        let roi = Phantom::from_seed(number).render(320, 240, &mut frame);
        write_png(&eyes.join(format!("images/{number}.png")), 320, 240, frame.rgb()).unwrap();
        write_png_grey(&eyes.join(format!("masks/{number}.png")), 320, 240, &roi.to_mask(320, 240)).unwrap();
        labels += &format!("{number},images/{number}.png,masks/{number}.png\n");
    }
    fs::write(eyes.join("labels.csv"), labels).unwrap();
    let out = stage.path("locator");
    let mut command = anemia_train(&["locate", "--threads", "2", "--folds", "2", "--epochs", "90"]);
    command.arg("--data").arg(&eyes).arg("--pretrained").arg(stage.path("weights.safetensors"));
    command.args(["--model-version", "0.1"]).arg("--training").arg(stage.path("training.yaml"));
    command.arg("--run").arg(stage.path("locate")).arg("--out").arg(&out);
    let text = succeed(&mut command);
    let bundle = Bundle::open(&out).unwrap();
    bundle.expect_task(Task::Locate).unwrap();
    let iou = bundle.manifest().models[0].metrics[0].value;
    assert!(iou > 0.5, "{text}");
    let mut engine = anemia_engine::load(&bundle, Precision::Fp32, &EngineOptions::default()).unwrap();
    anemia_engine::self_test(&bundle, engine.as_mut()).unwrap();
}
