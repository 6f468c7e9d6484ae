//! `anemia-calibrate quantize`: the other precisions of a bundle.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anemia_bundle::{
    Bundle, FileEntry, Manifest, ModelFile, Precision, SelfTest, Sha256, Task, TensorRtFile, write_bundle,
};
use anemia_engine::{EngineOptions, Source};
use anemia_onnx::proto::ModelProto;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::quantize::{self, Format};
use crate::{Recipe, exports, network, output::say, pictures, write};

/// Name of the model card in a bundle.
const CARD: &str = "card.md";
/// How far the int8 network may be on a board from what it says in ONNX Runtime, in logits. Two ways of rounding that are both
/// right were seen up to 0.8 apart: values in the middle between two integers fall to either side, through 60 layers.
const BOARD_TOLERANCE: f32 = 1.0;

/// Makes the other precisions of a bundle from its fp32 network.
#[derive(Args)]
pub(crate) struct Quantize {
    /// The bundle with the fp32 network
    #[arg(long)]
    bundle: PathBuf,
    /// Folder with cut-outs, pictures whose alpha is the conjunctiva, as the network was trained on
    #[arg(long)]
    data: PathBuf,
    /// Folder of the new bundle; it must not exist yet
    #[arg(long)]
    out: PathBuf,
    /// Which precisions to make
    #[arg(long, value_delimiter = ',', default_value = "fp16,int8,int4")]
    precisions: Vec<Precision>,
    /// `paper`, `best`, or a YAML file
    #[arg(long, default_value = "best")]
    recipe: String,
    /// Calibration pictures, drawn from the folder
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pictures: u32,
    /// Seed of the draw
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Quantize {
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(!self.out.exists(), "{}: exists already; remove it or choose another folder", self.out.display());
        ensure!(!self.precisions.contains(&Precision::Fp32), "--precisions fp32: is what the others are made from");
        let twice = (1..self.precisions.len()).find(|&at| self.precisions[..at].contains(&self.precisions[at]));
        if let Some(at) = twice {
            bail!("--precisions: {} is there twice; expected each once", self.precisions[at]);
        }
        let recipe = Recipe::find(&self.recipe)?;
        // It answers the self-test in the end.
        anemia_engine::find_library(None)?;
        let bundle = Bundle::open(&self.bundle)?;
        let mut manifest = bundle.manifest().clone();
        ensure!(manifest.task == Task::Classify, "{}: is a locator; expected a classifier", self.bundle.display());
        let fp32 = bundle.model(Precision::Fp32)?.clone();
        let path = bundle.path_of(&fp32.path);
        let bytes = bundle.read_model(&fp32)?;
        let model = anemia_onnx::decode(bytes.clone()).with_context(|| format!("{}", path.display()))?;
        let (network, names) = network::read_with_names(&model).with_context(|| format!("{}", path.display()))?;

        let drawn = pictures::draw(&pictures::find(&self.data)?, self.pictures as usize, self.seed)?;
        let maps = pictures::cut_out_all(&drawn, &manifest.input.spec())?;
        pictures::check(&drawn, &maps)?;
        check_reading(&network, &bundle, &fp32).with_context(|| format!("{}", path.display()))?;
        say(format_args!(
            "recipe {}, {} calibration pictures of {}",
            self.recipe_name(),
            drawn.len(),
            self.data.display()
        ));

        let others = manifest.models.iter().map(|model| model.precision);
        let left_out: Vec<String> = others
            .filter(|one| *one != Precision::Fp32 && !self.precisions.contains(one))
            .map(|one| one.to_string())
            .collect();
        if !left_out.is_empty() {
            say(format_args!("left out, as --precisions does not name them: {}", left_out.join(", ")));
        }
        let mut files = kept(&bundle, &mut manifest)?;
        let encode = |name: &str, model: &ModelProto, start: Instant| {
            let (encoded, seconds) = (anemia_onnx::encode(model), start.elapsed().as_secs_f64());
            let share = encoded.len() as f64 / bytes.len() as f64;
            say(format_args!("{name:<22} {:>9} bytes, {share:.3} of fp32, {seconds:.1} s", encoded.len()));
            encoded
        };
        for &precision in &self.precisions {
            let (start, name) = (Instant::now(), format!("{precision}.onnx"));
            let mut tensorrt = None;
            let (encoded, temperature) = match precision {
                Precision::Fp16 => {
                    let own = quantize::fp16(&network, &maps, &recipe)?;
                    (encode(&name, &write::fp16(&own), start), own.temperature)
                }
                Precision::Int8 => {
                    let own = quantize::int8(&network, &maps, Format::Unsigned, &recipe)?;
                    let encoded = encode(&name, &write::int8_onnxruntime(&own), start);
                    let (start, name) = (Instant::now(), "int8.tensorrt.onnx");
                    // The manifest has one operating point for both.
                    let board = quantize::int8(&network, &maps, Format::Signed, &recipe)?;
                    let board = board.with_temperature(own.temperature);
                    let for_board = encode(name, &write::int8_tensorrt(&board), start);
                    tensorrt = Some(TensorRtFile {
                        path: name.to_owned(),
                        sha256: Sha256::of(&for_board),
                        answers: Vec::new(),
                        tolerance: BOARD_TOLERANCE,
                    });
                    files.push((name.to_owned(), for_board));
                    let amax = quantize::ranges(&network, &maps, recipe.range)?;
                    let ranges: Vec<_> = names.iter().map(|(name, value)| (name.clone(), amax[*value])).collect();
                    let cache = exports::calibration_cache(&ranges);
                    for (name, text) in [(exports::CACHE, cache), (exports::RANGES, exports::dynamic_ranges(&ranges)?)]
                    {
                        let content = text.into_bytes();
                        manifest.files.push(FileEntry { path: name.to_owned(), sha256: Sha256::of(&content) });
                        files.push((name.to_owned(), content));
                    }
                    (encoded, own.temperature)
                }
                Precision::Int4 => {
                    let own = quantize::int4(&network, &maps, bytes.len(), &recipe)?;
                    (encode(&name, &write::int4(&own), start), own.temperature)
                }
                // Refused above.
                Precision::Fp32 => continue,
            };
            manifest.models.push(ModelFile {
                precision,
                path: name.clone(),
                sha256: Sha256::of(&encoded),
                answers: Vec::new(),
                tensorrt,
                operating_point: fp32.operating_point.map(|point| point.cooled(temperature)),
                metrics: Vec::new(),
            });
            files.push((name, encoded));
        }
        manifest.tools.retain(|tool| !tool.starts_with("anemia-calibrate "));
        manifest.tools.push(format!(
            "anemia-calibrate {}: recipe {}, {} pictures with seed {}, calibration set sha256 {}",
            env!("CARGO_PKG_VERSION"),
            self.recipe_name(),
            drawn.len(),
            self.seed,
            hash_of(&drawn)?
        ));
        add_to_card(&mut manifest, &mut files, bytes.len());
        self.answer(&bundle, &mut manifest, &files)?;
        let borrowed: Vec<(&str, &[u8])> =
            files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        write_bundle(&self.out, &manifest, &borrowed)?;
        say(format_args!("{}: {} {} written", self.out.display(), manifest.name, manifest.version));
        Ok(())
    }

    fn recipe_name(&self) -> String {
        Path::new(&self.recipe).file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Runs every new network on the self-test of the bundle, which also proves that it loads.
    fn answer(&self, bundle: &Bundle, manifest: &mut Manifest, files: &[(String, Vec<u8>)]) -> Result<()> {
        let description = manifest.clone();
        let answers_of = |path: &str, precision: Precision| -> Result<Vec<f32>> {
            let (_, network) = files.iter().find(|(name, _)| name == path).context("a network that was not written")?;
            let full = self.out.join(path);
            let source = Source::of(&description, &full, network, precision);
            let mut engine = anemia_engine::load_network(&source, &EngineOptions::default())?;
            let one = |test: &SelfTest| anemia_engine::answer_to(test, bundle, engine.as_mut());
            Ok(description.selftest.iter().map(one).collect::<Result<_, _>>()?)
        };
        for model in manifest.models.iter_mut().filter(|model| model.precision != Precision::Fp32) {
            model.answers = answers_of(&model.path, model.precision)?;
            if let Some(board) = &mut model.tensorrt {
                board.answers = answers_of(&board.path, model.precision)?;
            }
        }
        Ok(())
    }
}

/// Refuses a network that was not understood as it was meant: what is computed here must be what ONNX Runtime says.
fn check_reading(network: &network::Network, bundle: &Bundle, fp32: &ModelFile) -> Result<()> {
    let mut engine = anemia_engine::load(bundle, fp32.precision, &EngineOptions::default())?;
    for test in &bundle.manifest().selftest {
        anemia_engine::answer_to(test, bundle, engine.as_mut())?;
        let picture = network::Map { shape: network.shape, values: engine.input().to_vec() };
        let own = network.values(&picture, |_, _| ()).pop().map_or(f32::NAN, |map| map.values[0]);
        let expected = engine.run()?[0];
        ensure!(
            (own - expected).abs() <= 1e-3 * expected.abs().max(1.0),
            "{}: ONNX Runtime says {expected}, and the network as it was read {own}; a node of it is understood wrongly, please \
             report it",
            test.path
        );
    }
    Ok(())
}

/// Tells in the model card which precisions there are now; a card that told before is told anew.
fn add_to_card(manifest: &mut Manifest, files: &mut [(String, Vec<u8>)], fp32_bytes: usize) {
    let mut section = String::from(
        "\n## Precisions\n\nMade from the fp32 network by `anemia-calibrate quantize`. What that costs was measured on the networks of a \
         cross-validation, not on this one: docs/design/quantization.md.\n\n| file | size of fp32 |\n|---|---|\n",
    );
    for (path, content) in files.iter().filter(|(path, _)| path.ends_with(".onnx")) {
        section += &format!("| {path} | {:.3} |\n", content.len() as f64 / fp32_bytes as f64);
    }
    let Some((path, card)) = files.iter_mut().find(|(path, _)| path == CARD) else { return };
    let text = String::from_utf8_lossy(card);
    let before = text.split("\n## Precisions\n").next().unwrap_or_default().trim_end();
    let before = before.replace("| precision | fp32 |", "| precision | fp32, and what stands below |");
    *card = format!("{before}\n{section}").into_bytes();
    let sha256 = Sha256::of(card);
    manifest.files.iter_mut().filter(|file| file.path == *path).for_each(|file| file.sha256 = sha256.clone());
}

/// The files that the new bundle has in common with that of the fp32 network, which `manifest` is left with.
fn kept(bundle: &Bundle, manifest: &mut Manifest) -> Result<Vec<(String, Vec<u8>)>> {
    manifest.models.retain(|model| model.precision == Precision::Fp32);
    manifest.files.retain(|file| ![exports::CACHE, exports::RANGES].contains(&file.path.as_str()));
    manifest.all_files().map(|(path, sha256)| Ok((path.to_owned(), bundle.read_file(path, sha256)?))).collect()
}

/// Stands for the calibration pictures and their order.
fn hash_of(pictures: &[PathBuf]) -> Result<Sha256> {
    let mut all = String::new();
    for picture in pictures {
        let hash = Sha256::of_file(picture).with_context(|| format!("{}", picture.display()))?;
        all += &format!("{hash}\n");
    }
    Ok(Sha256::of(all.as_bytes()))
}
