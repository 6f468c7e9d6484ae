//! `anemia-calibrate quantize`: the other precisions of a bundle.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anemia_bundle::{Bundle, FileEntry, Manifest, ModelFile, Precision, Sha256, write_bundle};
use anemia_engine::{EngineOptions, Source};
use anemia_onnx::proto::ModelProto;
use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::quantize::{self, Format};
use crate::{Recipe, exports, network, output::say, pictures, write};

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
        let encode = |name: &str, model: &ModelProto, start: Instant| {
            let (encoded, seconds) = (anemia_onnx::encode(model), start.elapsed().as_secs_f64());
            let share = encoded.len() as f64 / bytes.len() as f64;
            say(format_args!("{name:<22} {:>9} bytes, {share:.3} of fp32, {seconds:.1} s", encoded.len()));
            encoded
        };
        for &precision in &self.precisions {
            let (start, name) = (Instant::now(), format!("{precision}.onnx"));
            let mut beside: Vec<(&str, Vec<u8>)> = Vec::new();
            let encoded = match precision {
                Precision::Fp16 => encode(&name, &write::fp16(&network), start),
                Precision::Int8 => {
                    let own = quantize::int8(&network, &maps, Format::Unsigned, &recipe)?;
                    let encoded = encode(&name, &write::int8_onnxruntime(&own), start);
                    let (start, name) = (Instant::now(), "int8.tensorrt.onnx");
                    let board = quantize::int8(&network, &maps, Format::Signed, &recipe)?;
                    beside.push((name, encode(name, &write::int8_tensorrt(&board), start)));
                    beside.push(("calibration.cache", exports::calibration_cache(&board).into_bytes()));
                    beside.push(("dynamic-ranges.csv", exports::dynamic_ranges(&board)?.into_bytes()));
                    encoded
                }
                Precision::Int4 => {
                    let own = quantize::int4(&network, &maps, bytes.len(), &recipe)?;
                    encode(&name, &write::int4(&own), start)
                }
                // Refused above.
                Precision::Fp32 => continue,
            };
            for (name, content) in beside {
                manifest.files.push(FileEntry { path: name.to_owned(), sha256: Sha256::of(&content) });
                files.push((name.to_owned(), content));
            }
            manifest.models.push(ModelFile {
                precision,
                path: name.clone(),
                sha256: Sha256::of(&encoded),
                answers: Vec::new(),
                operating_point: fp32.operating_point,
                metrics: Vec::new(),
            });
            files.push((name, encoded));
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
    fn answer(&self, bundle: &Bundle, manifest: &mut Manifest, files: &[(String, Vec<u8>)]) -> Result<()> {
        let description = manifest.clone();
        for model in manifest.models.iter_mut().filter(|model| model.precision != Precision::Fp32) {
            let (_, network) =
                files.iter().find(|(path, _)| *path == model.path).context("a network that was not written")?;
            let path = self.out.join(&model.path);
            let source = Source::of(&description, &path, network, model.precision);
            let mut engine = anemia_engine::load_network(&source, &EngineOptions::default())?;
            for test in &description.selftest {
                let (path, input) = (bundle.path_of(&test.path), description.input.spec());
                model.answers.push(anemia_engine::answer_to(&path, &test.path, &input, engine.as_mut())?);
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

/// Stands for the calibration pictures and their order.
fn hash_of(pictures: &[PathBuf]) -> Result<Sha256> {
    let mut all = String::new();
    for picture in pictures {
        let hash = Sha256::of_file(picture).with_context(|| format!("{}", picture.display()))?;
        all += &format!("{hash}\n");
    }
    Ok(Sha256::of(all.as_bytes()))
}
