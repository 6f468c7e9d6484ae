//! Putting a network, its self-test and its card into a bundle.

use std::path::Path;

use anemia_bundle::{
    Bundle, FORMAT_VERSION, FileEntry, Input, Manifest, Metric, ModelFile, OperatingPoint, Output, OutputKind,
    Precision, SelfTest, Sha256, Task, Training, write_bundle,
};
use anemia_engine::EngineOptions;
use anemia_vision::phantom::Phantom;
use anemia_vision::{BoxLocator, CutOut, Frame, InputSpec, Locator, Roi, write_png};
use anyhow::{Context, Result};

/// Phantoms of the self-test: their number, their pallor, and how bright they are. The answers must differ, so that no network
/// passes that says the same of all.
const SELF_TEST: [(u64, f32, f32); 3] = [(1, 0.0, 0.7), (2, 0.5, 1.0), (3, 1.0, 0.6)];
/// Kernels of different processors round differently; a wrong network or a wrong input is further off than this.
const TOLERANCE: f32 = 0.02;

/// What goes into a bundle.
pub(crate) struct Content {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) task: Task,
    pub(crate) input: Input,
    pub(crate) output: Output,
    pub(crate) operating_point: Option<OperatingPoint>,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) training: Training,
    /// The fp32 network.
    pub(crate) network: Vec<u8>,
    /// The text of card.md.
    pub(crate) card: Vec<u8>,
}

/// Reads the `training` section of a manifest from a YAML file of its own.
pub(crate) fn read_training(path: &Path) -> Result<Training> {
    let text = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
    serde_yaml::from_slice(&text).with_context(|| format!("{}", path.display()))
}

/// Writes the bundle into `out`, which must not exist yet. The answers of the self-test are those of the network.
pub(crate) fn write(out: &Path, content: Content) -> Result<()> {
    let Content { task, network, card, input, .. } = &content;
    let work = tempfile::tempdir()?;
    let mut files: Vec<(String, Vec<u8>)> =
        vec![("fp32.onnx".into(), network.clone()), ("card.md".into(), card.clone())];
    let mut selftest = Vec::new();
    for (index, &(seed, pallor, light)) in SELF_TEST.iter().enumerate() {
        let path = format!("selftest/phantom-{}.png", index + 1);
        let spec = input.spec();
        let bytes = phantom((seed, pallor, light), *task, &spec, &work.path().join("phantom.png"))?;
        // The answer is filled in below, once the network can be asked.
        selftest.push(SelfTest { path: path.clone(), sha256: Sha256::of(&bytes), expected: 0.0, tolerance: 1.0 });
        files.push((path, bytes));
    }
    let mut manifest = Manifest {
        format: FORMAT_VERSION,
        models: vec![ModelFile {
            precision: Precision::Fp32,
            path: "fp32.onnx".into(),
            sha256: Sha256::of(network),
            answers: Vec::new(),
            tensorrt: None,
            operating_point: content.operating_point,
            metrics: content.metrics.clone(),
        }],
        selftest,
        files: vec![FileEntry { path: "card.md".into(), sha256: Sha256::of(card) }],
        tools: vec![format!("anemia-train {}", env!("CARGO_PKG_VERSION"))],
        name: content.name.clone(),
        version: content.version.clone(),
        task: *task,
        input: input.clone(),
        output: content.output.clone(),
        training: content.training.clone(),
    };
    let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();

    let draft = work.path().join("draft");
    write_bundle(&draft, &manifest, &borrowed)?;
    let bundle = Bundle::open(&draft)?;
    let mut engine = anemia_engine::load(&bundle, Precision::Fp32, &EngineOptions::default())?;
    // A logit moves further than a probability.
    let tolerance = match manifest.output.kind {
        OutputKind::Probability => TOLERANCE,
        OutputKind::Logit => TOLERANCE * 5.0,
    };
    for test in &mut manifest.selftest {
        test.expected = anemia_engine::answer_to(test, &bundle, engine.as_mut())?;
        test.tolerance = tolerance;
    }
    write_bundle(out, &manifest, &borrowed)?;
    Ok(())
}

/// A phantom as the network sees it, as PNG: its cut-out for a classifier, all of it for a locator.
fn phantom((seed, pallor, light): (u64, f32, f32), task: Task, spec: &InputSpec, scratch: &Path) -> Result<Vec<u8>> {
    let mut frame = Frame::default();
    let mut roi: Roi = Phantom { pallor, ..Phantom::from_seed(seed) }.render(640, 360, &mut frame);
    if task == Task::Locate {
        BoxLocator { x: 0, y: 0, width: frame.width(), height: frame.height() }.locate(&frame, &mut roi);
    }
    let mut cutout = CutOut::new();
    cutout.cut_for(spec, &frame, &roi);
    let pixels: Vec<u8> = cutout.pixels().iter().map(|&byte| (f32::from(byte) * light) as u8).collect();
    write_png(scratch, spec.width, spec.height, &pixels)?;
    Ok(std::fs::read(scratch)?)
}
