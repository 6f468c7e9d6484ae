//! `anemia-train pack`: an ONNX network becomes a bundle.

use std::path::{Path, PathBuf};

use anemia_bundle::{
    Bundle, FORMAT_VERSION, FileEntry, Input, Manifest, ModelFile, OperatingPoint, Output, OutputKind, Precision,
    SelfTest, Sha256, Task, Training, write_bundle,
};
use anemia_engine::EngineOptions;
use anemia_vision::phantom::Phantom;
use anemia_vision::{CutOut, Frame, write_png};
use anyhow::{Context, Result};
use clap::Args;

/// Phantoms of the self-test: one red, one pale, one between, so that the answers differ.
const SELF_TEST: [(u64, f32); 3] = [(1, 0.0), (2, 0.5), (3, 1.0)];
/// Kernels of different processors round differently; a wrong network or a wrong input is further off than this.
const TOLERANCE: f32 = 0.02;

/// Puts an ONNX classifier into a bundle, with a self-test made from phantoms.
#[derive(Args)]
pub(crate) struct Pack {
    /// The network: input 1×3×height×width in RGB planes, output the probability of anemia
    #[arg(long)]
    onnx: PathBuf,
    /// Text file that becomes the model card, card.md
    #[arg(long)]
    card: PathBuf,
    /// YAML file with the `training` section of the manifest
    #[arg(long)]
    training: PathBuf,
    /// Name of the model
    #[arg(long, default_value = "pallor")]
    name: String,
    /// Version of the model
    #[arg(long)]
    model_version: String,
    /// Name of the network's input
    #[arg(long, default_value = "image")]
    input: String,
    /// Name of the network's output
    #[arg(long, default_value = "probability")]
    output: String,
    /// Width and height of the input in pixels
    #[arg(long, default_value_t = 224, value_parser = clap::value_parser!(u32).range(8..=4096))]
    size: u32,
    /// Probability from which a picture counts as anemic
    #[arg(long, default_value_t = 0.5)]
    threshold: f32,
    /// Lower end of the indeterminate band
    #[arg(long, default_value_t = 0.4)]
    indeterminate_from: f32,
    /// Upper end of the indeterminate band
    #[arg(long, default_value_t = 0.6)]
    indeterminate_to: f32,
    /// Folder of the new bundle; it must not exist yet
    #[arg(long)]
    out: PathBuf,
}

impl Pack {
    #[allow(clippy::print_stdout)]
    pub(crate) fn run(&self) -> Result<()> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("{}", path.display()));
        let (network, card) = (read(&self.onnx)?, read(&self.card)?);
        let training: Training =
            serde_yaml::from_slice(&read(&self.training)?).with_context(|| format!("{}", self.training.display()))?;
        let work = tempfile::tempdir()?;

        let mut manifest = self.manifest(&network, &card, training);
        let mut files: Vec<(String, Vec<u8>)> = vec![("fp32.onnx".into(), network), ("card.md".into(), card)];
        for (index, &(seed, pallor)) in SELF_TEST.iter().enumerate() {
            let path = format!("selftest/phantom-{}.png", index + 1);
            let bytes = phantom_cutout(seed, pallor, self.size as usize, &work.path().join("phantom.png"))?;
            // The answer is filled in below, once the network can be asked.
            let sha256 = Sha256::of(&bytes);
            manifest.selftest.push(SelfTest { path: path.clone(), sha256, expected: 0.0, tolerance: 1.0 });
            files.push((path, bytes));
        }
        let borrowed: Vec<(&str, &[u8])> =
            files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();

        let draft = work.path().join("draft");
        write_bundle(&draft, &manifest, &borrowed)?;
        let bundle = Bundle::open(&draft)?;
        let mut engine = anemia_engine::load(&bundle, Precision::Fp32, &EngineOptions::default())?;
        let mut picture = Frame::default();
        for test in &mut manifest.selftest {
            anemia_vision::read_picture(&bundle.path_of(&test.path), &mut picture)?;
            manifest.input.spec().write(picture.rgb(), engine.input());
            (test.expected, test.tolerance) = (engine.run()?[0], TOLERANCE);
        }
        write_bundle(&self.out, &manifest, &borrowed)?;
        println!("{}: {} {} packed", self.out.display(), manifest.name, manifest.version);
        Ok(())
    }

    fn manifest(&self, network: &[u8], card: &[u8], training: Training) -> Manifest {
        let operating_point = OperatingPoint {
            threshold: self.threshold,
            indeterminate: [self.indeterminate_from, self.indeterminate_to],
            temperature: 1.0,
        };
        Manifest {
            format: FORMAT_VERSION,
            name: self.name.clone(),
            version: self.model_version.clone(),
            task: Task::Classify,
            input: Input {
                name: self.input.clone(),
                width: self.size,
                height: self.size,
                mean: [0.5; 3],
                std: [0.5; 3],
            },
            output: Output { name: self.output.clone(), kind: OutputKind::Probability },
            models: vec![ModelFile {
                precision: Precision::Fp32,
                path: "fp32.onnx".into(),
                sha256: Sha256::of(network),
                operating_point: Some(operating_point),
                metrics: Vec::new(),
            }],
            training,
            selftest: Vec::new(),
            files: vec![FileEntry { path: "card.md".into(), sha256: Sha256::of(card) }],
            tools: vec![format!("anemia-train {}", env!("CARGO_PKG_VERSION"))],
        }
    }
}

fn phantom_cutout(seed: u64, pallor: f32, size: usize, scratch: &Path) -> Result<Vec<u8>> {
    let mut frame = Frame::default();
    let roi = Phantom { pallor, ..Phantom::from_seed(seed) }.render(640, 360, &mut frame);
    let mut cutout = CutOut::new();
    cutout.cut(&frame, &roi, size, size);
    write_png(scratch, size, size, cutout.pixels())?;
    Ok(std::fs::read(scratch)?)
}
