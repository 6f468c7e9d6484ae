//! What a cross-validation has left: one network for each fold, and what it said about the pictures it had not seen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anemia_bundle::{Input, Output, OutputKind, Precision, Sha256, Task};
use anemia_engine::{Engine, EngineOptions, Source};
use anemia_evaluation::Prediction;
use anemia_onnx::proto::ModelProto;
use anemia_vision::InputSpec;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::network::{self, Map, Network};
use crate::pictures;

/// The network of one fold.
pub struct Fold {
    /// Its number.
    pub number: u32,
    /// The file.
    pub file: PathBuf,
    /// The bytes of the file.
    pub bytes: Vec<u8>,
    /// What they say.
    pub network: Network,
    /// What it is given.
    pub input: InputSpec,
    /// The pictures that it had not seen.
    pub test: Vec<Prediction>,
}

/// A cross-validation.
pub struct Run {
    /// Where it lies.
    pub folder: PathBuf,
    /// Stands for what its networks said.
    pub sha256: Sha256,
    /// The run whose networks these were before `anemia-train qat` taught them to be rounded, by what they said.
    pub teacher: Option<Sha256>,
    /// `paper`, `grouped`, or the file with the folds.
    pub protocol: String,
    /// Its folds.
    pub folds: Vec<Fold>,
}

#[derive(Deserialize)]
struct Settings {
    protocol: String,
    networks: Option<u32>,
    teacher_sha256: Option<Sha256>,
}

impl Run {
    /// Reads the folder of an `anemia-train cv` or an `anemia-train qat`.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("run.yaml");
        let text = std::fs::read(&path)
            .with_context(|| format!("{}: not a run of `anemia-train cv`, which makes this file", path.display()))?;
        let settings: Settings = serde_yaml::from_slice(&text).with_context(|| format!("{}", path.display()))?;
        ensure!(
            settings.networks.unwrap_or(1) == 1,
            "{}: each fold has {} networks; expected a run with `--networks 1`",
            path.display(),
            settings.networks.unwrap_or(1)
        );
        let predictions = folder.join("predictions.csv");
        let sha256 = Sha256::of_file(&predictions)
            .with_context(|| format!("{}: the run is not finished; let it go on", predictions.display()))?;
        let all: Vec<Prediction> =
            predictions_of(&predictions).with_context(|| format!("{}", predictions.display()))?;
        let numbers: BTreeSet<u32> = all.iter().map(|one| one.fold).collect();
        ensure!(numbers.len() > 1, "{}: has {} folds; expected at least two", predictions.display(), numbers.len());
        let folds = numbers.into_iter().map(|number| read_fold(&folder.join(format!("fold-{number}")), number));
        let folds = folds.collect::<Result<_>>()?;
        Ok(Self {
            folder: folder.to_owned(),
            sha256,
            teacher: settings.teacher_sha256,
            protocol: settings.protocol,
            folds,
        })
    }

    /// The fold with this number.
    pub fn fold(&self, number: u32) -> Result<&Fold> {
        let found = self.folds.iter().find(|fold| fold.number == number);
        found.with_context(|| format!("{}: has no fold {number}", self.folder.display()))
    }

    /// `count` cut-outs of the pictures in `data` that a fold's network was trained on, drawn by the number of the fold.
    pub fn calibration(&self, fold: &Fold, data: &Path, count: usize) -> Result<Vec<Map>> {
        let others = self.folds.iter().filter(|other| other.number != fold.number);
        let training: Vec<PathBuf> = others.flat_map(|other| &other.test).map(|one| data.join(&one.path)).collect();
        let drawn = pictures::draw(&training, count, u64::from(fold.number))?;
        let maps = pictures::cut_out_all(&drawn, &fold.input)?;
        pictures::check(&drawn, &maps)?;
        Ok(maps)
    }
}

impl Fold {
    /// Cut-outs of the pictures in `data` that the network had not seen.
    pub fn unseen(&self, data: &Path) -> Result<Vec<Map>> {
        let paths: Vec<PathBuf> = self.test.iter().map(|one| data.join(&one.path)).collect();
        pictures::cut_out_all(&paths, &self.input)
    }

    /// A network that is run as that of the fold: itself, or one that was made from it.
    pub fn engine(&self, network: &[u8], precision: Precision) -> Result<Box<dyn Engine>> {
        let InputSpec { width, height, mean, std, rim, smooth } = self.input;
        let (name, width, height) = (self.network.input.clone(), width as u32, height as u32);
        let input = Input { name, width, height, mean, std, rim, smooth };
        let output = Output { name: self.network.output.clone(), kind: OutputKind::Logit };
        let (path, task) = (self.file.as_path(), Task::Classify);
        let source = Source { path, network, task, input: &input, output: &output, precision };
        Ok(anemia_engine::load_network(&source, &EngineOptions::default())?)
    }
}

fn read_fold(part: &Path, number: u32) -> Result<Fold> {
    let table = part.join("predictions.csv");
    let test = predictions_of(&table)
        .with_context(|| format!("{}: the fold is not finished; let `anemia-train cv` go on", table.display()))?;
    let file = part.join("fp32.onnx");
    let bytes = std::fs::read(&file).with_context(|| {
        format!("{}: run `anemia-train cv` once more, which writes the networks of finished folds", file.display())
    })?;
    let model = anemia_onnx::decode(bytes.clone()).with_context(|| format!("{}", file.display()))?;
    let network = network::read(&model).with_context(|| format!("{}", file.display()))?;
    let input = InputSpec {
        width: network.shape[2],
        height: network.shape[1],
        mean: numbers(&model, "mean").with_context(|| format!("{}", file.display()))?,
        std: numbers(&model, "std").with_context(|| format!("{}", file.display()))?,
        rim: rim_of(&model).with_context(|| format!("{}", file.display()))?,
        smooth: numbers::<1>(&model, "smooth").with_context(|| format!("{}", file.display()))?[0],
    };
    Ok(Fold { number, file, bytes, network, input, test })
}

fn predictions_of(table: &Path) -> Result<Vec<Prediction>, csv::Error> {
    csv::Reader::from_path(table)?.deserialize().collect()
}

/// The rim that cut-outs lose; files of earlier versions have none.
fn rim_of(model: &ModelProto) -> Result<u32> {
    if !model.metadata_props.iter().any(|entry| entry.key() == "rim") {
        return Ok(0);
    }
    let [rim] = numbers(model, "rim")?;
    ensure!(
        (0.0..=InputSpec::MOST_RIM as f32).contains(&rim),
        "its metadata has a rim of {rim}; expected 0 to {}",
        InputSpec::MOST_RIM
    );
    Ok(rim as u32)
}

fn numbers<const N: usize>(model: &ModelProto, key: &str) -> Result<[f32; N]> {
    let found = model.metadata_props.iter().find(|entry| entry.key() == key);
    let values = found.and_then(|entry| {
        entry.value().split_whitespace().map(|part| part.parse().ok()).collect::<Option<Vec<f32>>>()?.try_into().ok()
    });
    match values {
        Some(values) => Ok(values),
        None => bail!("its metadata has no {key} of length {N}; expected a file of `anemia-train cv`"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn no_fold_is_left_out_without_a_word() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = |settings: &str, folds: &[u32]| {
            std::fs::write(folder.path().join("run.yaml"), settings).unwrap();
            let rows: String = folds.iter().map(|fold| format!("a.png,true,1,{fold},0.5\n")).collect();
            let table = format!("path,anemic,photo_group,fold,logit\n{rows}");
            std::fs::write(folder.path().join("predictions.csv"), table).unwrap();
            format!("{:#}", Run::read(folder.path()).err().unwrap())
        };
        let grouped = "protocol: grouped\nnetworks: 1\n";
        // Folds can have any numbers: each that was measured must be there.
        let found = refusal(grouped, &[1, 2]);
        assert!(found.contains("fold-1/predictions.csv"), "{found}");
        assert!(refusal(grouped, &[3, 3]).contains("has 1 folds; expected at least two"));
        assert!(refusal("protocol: grouped\nnetworks: 2\n", &[0, 1]).contains("expected a run with `--networks 1`"));
    }
}
