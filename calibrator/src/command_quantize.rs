//! `anemia-calibrate quantize`: the other precisions of a bundle.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anemia_bundle::{Bundle, FileEntry, ModelFile, Precision, Sha256, write_bundle};
use anemia_engine::{EngineOptions, Source};
use anemia_onnx::proto::ModelProto;
use anemia_vision::Frame;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::quantize::{self, Format, Quantized};
use crate::{Recipe, exports, network, output::say, pictures, write};

/// Makes the other precisions of a bundle from its fp32 network.
#[derive(Args)]
pub(crate) struct Quantize {
    /// The bundle with the fp32 network
    #[arg(long)]
    bundle: PathBuf,
    /// Folder with cut-outs, pictures whose alpha is the conjunctiva, as the network was trained on; for a locator any pictures
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
        let recipe = Recipe::find(&self.recipe)?;
        let bundle = Bundle::open(&self.bundle)?;
        let mut manifest = bundle.manifest().clone();
        let fp32 = bundle.model(Precision::Fp32)?.clone();
        let path = bundle.path_of(&fp32.path);
        let bytes = bundle.read_model(&fp32)?;
        let model = anemia_onnx::decode(bytes.clone()).with_context(|| format!("{}", path.display()))?;
        let network = network::read(&model).with_context(|| format!("{}", path.display()))?;

        let drawn = pictures::draw(&pictures::find(&self.data)?, self.pictures as usize, self.seed)?;
        let maps = pictures::cut_out_all(&drawn, &manifest.input.spec())?;
        pictures::check(&drawn, &maps)?;
        say(format_args!(
            "recipe {}, {} calibration pictures of {}",
            self.recipe_name(),
            drawn.len(),
            self.data.display()
        ));

        let mut files = copied(&bundle)?;
        manifest.models.retain(|model| model.precision == Precision::Fp32);
        let mut add = |name: &str, model: &ModelProto, seconds: f64| {
            let encoded = anemia_onnx::encode(model);
            let share = encoded.len() as f64 / bytes.len() as f64;
            say(format_args!("{name:<22} {:>9} bytes, {share:.3} of fp32, {seconds:.1} s", encoded.len()));
            files.push((name.to_owned(), encoded.clone()));
            encoded
        };
        let mut extra: Vec<(String, Vec<u8>)> = Vec::new();
        for &precision in &self.precisions {
            let start = Instant::now();
            let seconds = |start: Instant| start.elapsed().as_secs_f64();
            let name = format!("{precision}.onnx");
            let encoded = match precision {
                Precision::Fp16 => add(&name, &write::fp16(&network), seconds(start)),
                Precision::Int8 => {
                    let own = quantize::int8(&network, &maps, Format::Unsigned, &recipe)?;
                    let encoded = add(&name, &write::int8_onnxruntime(&own), seconds(start));
                    let start = Instant::now();
                    let tensorrt = quantize::int8(&network, &maps, Format::Signed, &recipe)?;
                    let board = add("int8.tensorrt.onnx", &write::int8_tensorrt(&tensorrt), seconds(start));
                    extra.push(("int8.tensorrt.onnx".into(), board));
                    extra.extend(tables(&tensorrt)?);
                    encoded
                }
                Precision::Int4 => {
                    let own = quantize::int4(&network, &maps, bytes.len(), &recipe)?;
                    add(&name, &write::int4(&own), seconds(start))
                }
                Precision::Fp32 => bail!("fp32 is what the others are made from"),
            };
            manifest.models.push(ModelFile {
                precision,
                path: name,
                sha256: Sha256::of(&encoded),
                answers: Vec::new(),
                operating_point: fp32.operating_point,
                metrics: Vec::new(),
            });
        }
        for (name, content) in extra {
            manifest.files.push(FileEntry { path: name.clone(), sha256: Sha256::of(&content) });
            files.retain(|(other, _)| *other != name);
            files.push((name, content));
        }
        manifest.tools.push(format!(
            "anemia-calibrate {}: recipe {}, {} pictures with seed {}, calibration set sha256 {}",
            env!("CARGO_PKG_VERSION"),
            self.recipe_name(),
            drawn.len(),
            self.seed,
            hash_of(&drawn)?
        ));
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
    fn answer(
        &self,
        bundle: &Bundle,
        manifest: &mut anemia_bundle::Manifest,
        files: &[(String, Vec<u8>)],
    ) -> Result<()> {
        let description = manifest.clone();
        let mut picture = Frame::default();
        for model in manifest.models.iter_mut().filter(|model| model.precision != Precision::Fp32) {
            let (_, network) =
                files.iter().find(|(path, _)| *path == model.path).context("a network that was not written")?;
            let path = self.out.join(&model.path);
            let source = Source { path: &path, network, manifest: &description, precision: model.precision };
            let mut engine = anemia_engine::load_network(&source, &EngineOptions::default())?;
            for test in &description.selftest {
                anemia_vision::read_picture(&bundle.path_of(&test.path), &mut picture)?;
                description.input.spec().write(picture.rgb(), engine.input());
                model.answers.push(anemia_engine::answer(engine.run()?));
            }
        }
        Ok(())
    }
}

/// The files of the fp32 bundle that the new one has too.
fn copied(bundle: &Bundle) -> Result<Vec<(String, Vec<u8>)>> {
    let manifest = bundle.manifest();
    let others = manifest.models.iter().filter(|model| model.precision != Precision::Fp32).map(|model| &model.path);
    let others: Vec<&String> = others.collect();
    let kept = manifest.all_files().filter(|(path, _)| !others.iter().any(|other| other == path));
    kept.map(|(path, _)| {
        let full = bundle.path_of(path);
        Ok((path.to_owned(), std::fs::read(&full).with_context(|| format!("{}", full.display()))?))
    })
    .collect()
}

/// What TensorRT can be given instead of the rounding in the graph.
fn tables(quantized: &Quantized) -> Result<Vec<(String, Vec<u8>)>> {
    Ok(vec![
        ("calibration.cache".into(), exports::calibration_cache(quantized).into_bytes()),
        ("dynamic-ranges.csv".into(), exports::dynamic_ranges(quantized)?.into_bytes()),
    ])
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
