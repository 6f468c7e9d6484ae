//! `anemia-train cv`: cross-validation, every fold with a network of its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anemia_bundle::Sha256;
use anemia_evaluation::{Judged, Prediction, Summary};
use anemia_vision::{CutOut, Frame, InputSpec, Roi};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;
use tch::Tensor;

use crate::dataset::{self, Labelled, Protocol};
use crate::files::{read_rows, write_rows};
use crate::network::{Network, export};
use crate::output::{progress, say, tell};
use crate::recipe::{Kind, Recipe};
use crate::report::Report;
use crate::run_folder::RunFolder;
use crate::split::{check_folds, split};
use crate::torch::{self, Classifier, Conventions, Pictures, Pretrained, Weights, predict, train};

/// Trains one network for each fold and measures it on the pictures that it has not seen.
#[derive(Args)]
pub(crate) struct Cv {
    #[command(flatten)]
    common: Common,
    /// How pictures are split: `paper`, `grouped`, or a file with the columns path, remark, photo_group and fold
    #[arg(long, default_value = "grouped")]
    protocol: Protocol,
    /// Networks for each fold, from different seeds; their logits are averaged
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    networks: u32,
    /// Folder of the run; a run that was stopped goes on [default: runs/cv-RECIPE-PROTOCOL]
    #[arg(long)]
    run: Option<PathBuf>,
}

/// What every training of a classifier asks for.
#[derive(Args, Clone)]
pub(crate) struct Common {
    /// Folder with the pictures and folds.csv
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// Weights that `mobilenet` and `paper` start from: MobileNetV2 with torchvision's names, .safetensors or .pth
    #[arg(long)]
    pub(crate) pretrained: Option<PathBuf>,
    /// `best`, `mobilenet`, `paper`, or a file
    #[arg(long, default_value = "best")]
    pub(crate) recipe: String,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Threads of libtorch; another number gives other last digits
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) threads: u32,
}

/// Everything that the numbers of a run depend on.
#[derive(Serialize)]
pub(crate) struct Settings {
    pub(crate) command: &'static str,
    pub(crate) protocol: String,
    pub(crate) networks: u32,
    pub(crate) seed: u64,
    pub(crate) threads: u32,
    pub(crate) device: String,
    pub(crate) pictures: usize,
    pub(crate) data_sha256: Sha256,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pretrained_sha256: Option<Sha256>,
    pub(crate) version: String,
    pub(crate) libtorch: String,
    pub(crate) recipe: Recipe,
}

impl Cv {
    pub(crate) fn run(&self) -> Result<()> {
        let recipe = Recipe::find(&self.common.recipe)?;
        let recipe_name = Path::new(&self.common.recipe).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let protocol_name = match &self.protocol {
            Protocol::File(file) => file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            other => other.to_string(),
        };
        let default = PathBuf::from(format!("runs/cv-{recipe_name}-{protocol_name}"));
        let prepared = prepare(&self.common, &self.protocol, &recipe)?;
        let folder = RunFolder::open(
            self.run.as_ref().unwrap_or(&default),
            &prepared.settings("cv", &self.common, &self.protocol, &recipe, self.networks)?,
        )?;
        let predictions = out_of_fold(&prepared, &self.common, &self.protocol, &recipe, self.networks, &folder)?;
        let judged: Vec<Judged> = predictions.iter().map(Prediction::judged).collect();
        say(format_args!("{} protocol, pooled out-of-fold, {} pictures", self.protocol, judged.len()));
        for (name, interval) in Summary::of(&judged, 0.5).figures() {
            if let Some(found) = interval {
                say(format_args!("{name:<31} {found}"));
            }
        }
        say(folder.path().join("report.html").display());
        Ok(())
    }
}

/// A data set, ready to be trained on.
pub(crate) struct Prepared {
    pub(crate) labelled: Vec<Labelled>,
    pub(crate) pictures: Pictures,
    pub(crate) network: Network,
    pub(crate) conventions: Conventions,
    /// What the training starts from; `None` for random numbers.
    pretrained: Option<Pretrained>,
}

/// Reads pictures and weights, and sets libtorch up.
pub(crate) fn prepare(common: &Common, protocol: &Protocol, recipe: &Recipe) -> Result<Prepared> {
    torch::set_up(common.threads)?;
    let labelled = dataset::read(&common.data, protocol)?;
    check_folds(&labelled, protocol)?;
    let pretrained = match (recipe.network, &common.pretrained) {
        (Kind::MobilenetV2, Some(file)) => {
            let pretrained = Pretrained::read(file)?;
            ensure!(
                !pretrained.is_ours,
                "{}: `anemia-train` wrote it, so that it may have learned from pictures that it would be tested with; expected \
                 weights of another data set",
                file.display()
            );
            Some(pretrained)
        }
        (Kind::MobilenetV2, None) => {
            bail!("recipe {}: learns from pretrained weights; expected --pretrained FILE", common.recipe)
        }
        (Kind::Colours, None) => None,
        (Kind::Colours, Some(_)) => {
            bail!("recipe {}: starts from random numbers; leave --pretrained away", common.recipe)
        }
    };
    let conventions = pretrained.as_ref().map_or(Conventions::COLOURS, |one| one.conventions);
    let pictures = read_pictures(&labelled, recipe, conventions)?;
    let network = recipe.network.network(conventions.epsilon);
    Ok(Prepared { labelled, pictures, network, conventions, pretrained })
}

/// The cut-outs of all pictures.
pub(crate) fn read_pictures(labelled: &[Labelled], recipe: &Recipe, conventions: Conventions) -> Result<Pictures> {
    let size = recipe.size as usize;
    let Conventions { mean, std, .. } = conventions;
    let Recipe { rim, smooth, .. } = *recipe;
    let bytes = cut_out(labelled, &InputSpec { width: size, height: size, mean, std, rim, smooth })?;
    let pixels = Tensor::from_slice(&bytes)
        .view([labelled.len() as i64, size as i64, size as i64, 3])
        .permute([0, 3, 1, 2])
        .contiguous()
        .to_device(torch::device());
    Ok(Pictures {
        pixels,
        anemic: labelled.iter().map(|one| one.anemic).collect(),
        groups: labelled.iter().map(|one| one.photo_group).collect(),
        mean,
        std,
    })
}

/// Stands for the pictures, their labels and their folds.
pub(crate) fn hash_of(labelled: &[Labelled], pictures: &Pictures) -> Result<Sha256> {
    let table: String = labelled
        .iter()
        .map(|one| format!("{} {} {} {}\n", one.path.display(), one.anemic, one.photo_group, one.fold))
        .collect();
    let pixels = Vec::<u8>::try_from(pictures.pixels.to_device(tch::Device::Cpu).view(-1))?;
    Ok(Sha256::of(&[table.as_bytes(), &pixels].concat()))
}

/// What a network said of a picture of its fold.
pub(crate) fn prediction(one: &Labelled, logit: f32) -> Prediction {
    Prediction { path: one.path.clone(), anemic: one.anemic, photo_group: one.photo_group, fold: one.fold, logit }
}

/// Every picture as the network sees it: pixels of R, G, B, one picture after the other.
fn cut_out(pictures: &[Labelled], spec: &InputSpec) -> Result<Vec<u8>> {
    let (mut frame, mut roi, mut cutout) = (Frame::default(), Roi::default(), CutOut::new());
    let mut all = Vec::with_capacity(pictures.len() * spec.len());
    for one in pictures {
        dataset::cut_out(&one.picture, spec, &mut frame, &mut roi, &mut cutout)?;
        all.extend_from_slice(cutout.pixels());
    }
    Ok(all)
}

impl Prepared {
    /// What a training begins with.
    pub(crate) fn start(&self, seed: u64) -> Result<Weights> {
        let device = torch::device();
        match &self.pretrained {
            Some(pretrained) => Weights::start(&self.network, pretrained, device, seed),
            None => Ok(Weights::random(&self.network, device, seed as i64)),
        }
    }

    pub(crate) fn settings(
        &self,
        command: &'static str,
        common: &Common,
        protocol: &Protocol,
        recipe: &Recipe,
        networks: u32,
    ) -> Result<Settings> {
        Ok(Settings {
            command,
            protocol: protocol.to_string(),
            networks,
            seed: common.seed,
            threads: common.threads,
            device: format!("{:?}", torch::device()),
            pictures: self.labelled.len(),
            data_sha256: hash_of(&self.labelled, &self.pictures)?,
            pretrained_sha256: match &common.pretrained {
                Some(file) => Some(Sha256::of_file(file).with_context(|| format!("{}", file.display()))?),
                None => None,
            },
            version: env!("CARGO_PKG_VERSION").into(),
            libtorch: torch::LIBTORCH.into(),
            recipe: recipe.clone(),
        })
    }
}

/// A prediction for every picture, by networks that were not trained on its fold.
pub(crate) fn out_of_fold(
    prepared: &Prepared,
    common: &Common,
    protocol: &Protocol,
    recipe: &Recipe,
    networks: u32,
    folder: &RunFolder,
) -> Result<Vec<Prediction>> {
    let Prepared { network, conventions, .. } = prepared;
    let folds = check_folds(&prepared.labelled, protocol)?;
    let inner = recipe.patience.is_some();
    let parts = |fold, seed| split(&prepared.labelled, fold, inner, *protocol != Protocol::Paper, seed);
    if inner {
        // Before hours of training, and not in the middle of them.
        for &fold in &folds {
            for member in 0..networks {
                let parts = parts(fold, common.seed + u64::from(member));
                parts.check_inner(&prepared.labelled).with_context(|| format!("fold {fold}"))?;
            }
        }
    }
    let (mut all, mut trainings) = (Vec::new(), Vec::new());
    for &fold in &folds {
        let mut of_fold: Vec<Prediction> = Vec::new();
        for member in 0..networks {
            let name = if networks == 1 { format!("fold-{fold}") } else { format!("fold-{fold}-network-{member}") };
            let part = folder.part(&name)?;
            trainings.push((name.clone(), part.clone()));
            let table = part.join("predictions.csv");
            let found = match read_rows(&table)? {
                Some(found) => found,
                None => {
                    let seed = common.seed + u64::from(member);
                    let parts = parts(fold, seed);
                    let classifier =
                        Classifier::new(network, recipe, &prepared.pictures, &parts.train, parts.validation);
                    let bar = progress(recipe.epochs, &name);
                    let plan = recipe.plan(seed, u64::from(fold), &part, &bar);
                    let weights = train(&classifier, &plan, prepared.start(seed)?)?;
                    let logits = predict(network, &prepared.pictures, &weights, &parts.test);
                    let rows: Vec<Prediction> = parts
                        .test
                        .iter()
                        .zip(logits)
                        .map(|(&index, logit)| prediction(&prepared.labelled[index], logit))
                        .collect();
                    weights.write(&part.join("weights.safetensors"), *conventions)?;
                    write_rows(&table, &rows)?;
                    bar.finish_and_clear();
                    rows
                }
            };
            let file = part.join("fp32.onnx");
            if !file.exists() {
                let trained = Pretrained::read(&part.join("weights.safetensors"))?;
                let weights = Weights::trained(network, &trained, tch::Device::Cpu)?;
                write_network(&file, network, &weights.values(), recipe, trained.conventions)?;
            }
            if of_fold.is_empty() {
                of_fold = found;
            } else {
                of_fold.iter_mut().zip(found).for_each(|(sum, one)| sum.logit += one.logit);
            }
        }
        of_fold.iter_mut().for_each(|one| one.logit /= networks as f32);
        let judged: Vec<Judged> = of_fold.iter().map(Prediction::judged).collect();
        let area = anemia_evaluation::auc(&judged).map_or("none".into(), |area| format!("{area:.3}"));
        tell(format_args!("fold {fold}: {} pictures, AUC {area}", judged.len()));
        all.extend(of_fold);
    }
    write_rows(&folder.path().join("predictions.csv"), &all)?;
    let report = Report {
        title: format!("Cross-validation, {protocol} protocol"),
        warning: warning(protocol),
        settings: std::fs::read_to_string(folder.path().join("run.yaml")).unwrap_or_default(),
        predictions: &all,
        trainings,
        data: &common.data,
    };
    report.write(folder.path())?;
    Ok(all)
}

/// Writes the network of a fold for the calibrator; how its input is made stands in the metadata.
pub(crate) fn write_network(
    path: &Path,
    network: &Network,
    values: &HashMap<String, Vec<f32>>,
    recipe: &Recipe,
    conventions: Conventions,
) -> Result<()> {
    let mut model = export(network, values, i64::from(recipe.size), "logit")?;
    let Conventions { mean, std, .. } = conventions;
    model.metadata_props =
        [("mean", &mean[..]), ("std", &std), ("rim", &[recipe.rim as f32]), ("smooth", &[recipe.smooth])]
            .map(|(key, values)| anemia_onnx::numbers(key, values))
            .into();
    Ok(anemia_bundle::write_file(path, &anemia_onnx::encode(&model))?)
}

/// What the figures of a protocol are worth.
fn warning(protocol: &Protocol) -> &'static str {
    match protocol {
        Protocol::Paper => {
            "Files were split at random, as in the paper: copies of one photograph are in training and test. These figures \
             say how well a network recognises pictures that it knows, and not how it judges a new patient. Read them only \
             beside those of the grouped protocol."
        }
        Protocol::Grouped | Protocol::File(_) => {
            "No photograph group of the table of folds is in training and test. Where the table missed copies of a \
             photograph, the figures still flatter; `anemia-train audit` finds such copies."
        }
    }
}
