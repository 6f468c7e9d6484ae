//! `anemia-train fit`: the classifier that ships.

use std::path::PathBuf;

use anemia_bundle::{Input, Metric, OperatingPoint, Output, OutputKind, Task, Training};
use anemia_evaluation::{Interval, Judged, Prediction, Summary, fit_temperature, roc, scale, threshold_for};
use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::bundle::{self, Content};
use crate::cv::{self, Common, Prepared};
use crate::dataset::{self, Protocol};
use crate::network::{INPUT, export};
use crate::output::{progress, say};
use crate::recipe::{Kind, Recipe, Select};
use crate::run_folder::RunFolder;
use crate::split::check_folds;
use crate::torch::{Classifier, Conventions, Epoch, train};

/// The share of anemic pictures that must lie above the threshold.
const SENSITIVITY: f64 = 0.90;
/// The share of the others that must lie below the upper end of the indeterminate band.
const SPECIFICITY: f64 = 0.90;
/// Name of the number in the graph.
const OUTPUT: &str = "logit";

/// Trains on all pictures, fits the operating point to out-of-fold predictions, and writes a bundle.
#[derive(Args)]
pub(crate) struct Fit {
    #[command(flatten)]
    common: Common,
    /// The folds whose predictions the operating point is fitted to: `grouped`, or a file
    #[arg(long, default_value = "grouped")]
    protocol: Protocol,
    /// Name of the model
    #[arg(long, default_value = "pallor")]
    name: String,
    /// Version of the model
    #[arg(long)]
    model_version: String,
    /// YAML file with the `training` section of the manifest
    #[arg(long)]
    training: PathBuf,
    /// Folder of the run; a run that was stopped goes on
    #[arg(long, default_value = "runs/fit")]
    run: PathBuf,
    /// Folder of the new bundle; it must not exist yet
    #[arg(long)]
    out: PathBuf,
}

impl Fit {
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(
            self.protocol != Protocol::Paper,
            "--protocol paper: its folds share photographs; expected `grouped` or a file"
        );
        ensure!(!self.out.exists(), "{}: exists already; remove it or choose another folder", self.out.display());
        let training = bundle::read_training(&self.training)?;
        let recipe = Recipe::find(&self.common.recipe)?;

        let mut protocols = vec![self.protocol.clone(), Protocol::Paper];
        if self.protocol != Protocol::Grouped {
            protocols.insert(1, Protocol::Grouped);
        }
        // What would be missing after hours of training is looked for first.
        anemia_engine::find_library(None)?;
        for protocol in &protocols {
            check_folds(&dataset::read(&self.common.data, protocol)?, protocol)?;
        }
        let (mut measured, mut everything) = (Vec::new(), None);
        for (index, protocol) in protocols.iter().enumerate() {
            let prepared = cv::prepare(&self.common, protocol, &recipe)?;
            let name = ["operating-point", "second", "third"][index];
            let settings = prepared.settings("cv", &self.common, protocol, &recipe, 1)?;
            let folder = RunFolder::open(&self.run.join(name), &settings)?;
            measured.push((protocol, cv::out_of_fold(&prepared, &self.common, protocol, &recipe, 1, &folder)?));
            // The network that ships learns from the pictures of the first protocol.
            everything.get_or_insert(prepared);
        }
        let everything = everything.context("there is no protocol to measure")?;
        let (point, temperature) = operating_point(&measured[0].1)?;
        let summaries: Vec<(String, Summary)> = measured
            .iter()
            .map(|(protocol, predictions)| {
                let judged = calibrated(predictions, temperature);
                (title(protocol), Summary::of(&judged, f64::from(point.threshold)))
            })
            .collect();

        let network = self.train_on_everything(&everything, &recipe)?;
        let Conventions { mean, std, .. } = everything.conventions;
        let judged = calibrated(&measured[0].1, temperature);
        let card = card(self, &recipe, &training, &point, &summaries, &judged);
        let content = Content {
            name: self.name.clone(),
            version: self.model_version.clone(),
            task: Task::Classify,
            input: Input {
                name: INPUT.into(),
                width: recipe.size,
                height: recipe.size,
                mean,
                std,
                rim: recipe.rim,
                smooth: recipe.smooth,
            },
            output: Output { name: OUTPUT.into(), kind: OutputKind::Logit },
            operating_point: Some(point),
            metrics: metrics(&summaries),
            training,
            network,
            card: card.into_bytes(),
        };
        bundle::write(&self.out, content)?;
        say(format_args!("{}: {} {} written", self.out.display(), self.name, self.model_version));
        Ok(())
    }

    /// The ONNX file of the network that was trained on all pictures.
    fn train_on_everything(&self, prepared: &Prepared, recipe: &Recipe) -> Result<Vec<u8>> {
        let folder = RunFolder::open(
            &self.run.join("all"),
            &prepared.settings("fit", &self.common, &self.protocol, recipe, 1)?,
        )?;
        // There is nothing left to decide when to stop: the epochs are those of the recipe, or what the folds took.
        let mut recipe = recipe.clone();
        if recipe.patience.take().is_some() {
            recipe.epochs = self.typical_epochs(recipe.select)?;
        }
        let all: Vec<usize> = (0..prepared.labelled.len()).collect();
        let classifier = Classifier::new(&prepared.network, &recipe, &prepared.pictures, &all, Vec::new());
        let bar = progress(recipe.epochs, "all pictures");
        let plan = recipe.plan(self.common.seed, u64::from(u32::MAX), folder.path(), &bar);
        let weights = train(&classifier, &plan, prepared.start(self.common.seed)?)?;
        bar.finish_and_clear();
        let model = export(&prepared.network, &weights.values(), i64::from(recipe.size), OUTPUT)?;
        Ok(anemia_onnx::encode(&model))
    }

    /// The median of the epochs that the folds found best.
    fn typical_epochs(&self, select: Select) -> Result<u32> {
        let mut best = Vec::new();
        for entry in std::fs::read_dir(self.run.join("operating-point"))? {
            let rows: Option<Vec<Epoch>> = crate::files::read_rows(&entry?.path().join("epochs.csv"))?;
            // The first of equal ones, as the training kept it.
            let score = |row: &Epoch| select.score(row).unwrap_or(f64::NEG_INFINITY);
            let better = |a: Epoch, b: Epoch| if score(&b) > score(&a) { b } else { a };
            best.extend(rows.unwrap_or_default().into_iter().reduce(better).map(|row| row.epoch));
        }
        best.sort_unstable();
        best.get(best.len() / 2).copied().context("the folds have left no epochs.csv")
    }
}

fn title(protocol: &Protocol) -> String {
    match protocol {
        Protocol::Paper => "paper protocol (files at random, copies on both sides)".into(),
        Protocol::Grouped => "grouped protocol (photographs of groups.csv kept together)".into(),
        Protocol::File(file) => format!("folds of {}", file.file_name().unwrap_or_default().to_string_lossy()),
    }
}

fn calibrated(predictions: &[Prediction], temperature: f64) -> Vec<Judged> {
    let one = |prediction: &Prediction| {
        let judged = prediction.judged();
        Judged { probability: scale(judged.probability, temperature), ..judged }
    };
    predictions.iter().map(one).collect()
}

/// Threshold and band on probabilities that the temperature has calibrated, and the temperature.
///
/// Below the threshold is `non_anemic`, and that few anemic pictures may lie there decides where it is. Above the band
/// is `anemic`, where few others may lie. What is between needs a blood test to tell.
fn operating_point(predictions: &[Prediction]) -> Result<(OperatingPoint, f64)> {
    let raw: Vec<Judged> = predictions.iter().map(Prediction::judged).collect();
    let temperature = fit_temperature(&raw);
    let judged = calibrated(predictions, temperature);
    let low = threshold_for(&judged, SENSITIVITY).context("out-of-fold predictions of one class only")?.threshold;
    let mut specific = roc(&judged).into_iter().filter(|point| point.specificity >= SPECIFICITY);
    let high = specific.next_back().map_or(1.0, |point| point.threshold).max(low);
    // Just below the picture that set it, so that rounding to 32 bits does not lose that picture.
    let inside = |threshold: f64| (threshold as f32 - 1e-6).clamp(0.001, 0.999);
    let threshold = inside(low);
    let point = OperatingPoint {
        threshold,
        indeterminate: [threshold, inside(high).max(threshold)],
        temperature: temperature as f32,
    };
    Ok((point, temperature))
}

fn metrics(summaries: &[(String, Summary)]) -> Vec<Metric> {
    let of = |(title, summary): &(String, Summary)| {
        let metric = |(name, found): (&'static str, Option<Interval>)| {
            let Interval { value, low, high } = found?;
            let data = format!("pooled out-of-fold, {title}, {} pictures", summary.pictures);
            Some(Metric { name: name.into(), data, value, interval: [low, high] })
        };
        summary.figures().into_iter().filter_map(metric).collect::<Vec<_>>()
    };
    summaries.iter().flat_map(of).collect()
}

fn card(
    fit: &Fit,
    recipe: &Recipe,
    training: &Training,
    point: &OperatingPoint,
    summaries: &[(String, Summary)],
    judged: &[Judged],
) -> String {
    let [low, high] = point.indeterminate.map(f64::from);
    let share = |wanted: &dyn Fn(&&Judged) -> bool| judged.iter().filter(wanted).count() as f64 / judged.len() as f64;
    let between = share(&|one| one.probability >= low && one.probability < high);
    let mut text = format!(
        "# Model card: {} {}\n\nA screening aid, not a diagnosis: it gives no hemoglobin value and replaces no blood test.\n\n\
         | | |\n|---|---|\n| what | {} with one logit, from a cut-out of the palpebral conjunctiva, {}×{} RGB |\n\
         | precision | fp32 |\n| trained on | {} |\n| label | anemic below {:.1} g/dL; ages {} to {} months |\n\
         | operating point | temperature {:.3}; non_anemic below {:.3}, anemic from {:.3}, indeterminate between |\n\n\
         ## What was measured\n\nOut of fold: each picture was judged by a network of the same recipe that was not trained on its fold. The network \
         in this bundle was trained on all pictures and cannot be measured on them. 95 % bootstrap intervals over photographs.\n\n| |",
        fit.name,
        fit.model_version,
        match recipe.network {
            Kind::MobilenetV2 => "MobileNetV2",
            Kind::Colours =>
                "the mean of two networks of the colours of single pixels, as they are and as they differ from the mean of the tissue,",
        },
        recipe.size,
        recipe.size,
        training.data,
        training.anemic_below_g_per_dl,
        training.age_months[0],
        training.age_months[1],
        point.temperature,
        low,
        high,
    );
    for (title, _) in summaries {
        text += &format!(" {title} |");
    }
    text += &format!("\n|---|{}\n", "---|".repeat(summaries.len()));
    for row in 0..summaries.first().map_or(0, |one| one.1.figures().len()) {
        text += &format!("| {} |", summaries[0].1.figures()[row].0);
        for (_, summary) in summaries {
            match summary.figures()[row].1 {
                Some(Interval { value, low, high }) => text += &format!(" {value:.3} ({low:.3} to {high:.3}) |"),
                None => text += " – |",
            }
        }
        text += "\n";
    }
    text += &format!(
        "\nAccuracy, precision, sensitivity, specificity and F1 are at the threshold {low:.3}, which was fitted to the first column's own \
         predictions: its sensitivity is {SENSITIVITY} by construction, not by skill. In that column {:.0} % of the pictures \
         are indeterminate.\n\n## Limits\n\n{}\n",
        between * 100.0,
        training.limits
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operating_point_finds_nine_of_ten_and_is_valid() {
        let one = |k: u32| Prediction {
            path: "p".into(),
            anemic: !k.is_multiple_of(3),
            photo_group: u64::from(k),
            fold: 0,
            logit: ((k * 37 % 101) as f32 / 25.0 - 2.0) + if k.is_multiple_of(3) { -0.8 } else { 0.8 },
        };
        let predictions: Vec<_> = (0..300).map(one).collect();
        let (point, temperature) = operating_point(&predictions).unwrap();
        let judged = calibrated(&predictions, temperature);
        let counts = anemia_evaluation::Confusion::at(&judged, f64::from(point.threshold));
        assert!((0.90..0.93).contains(&counts.sensitivity().unwrap()), "{counts:?}");
        assert!(point.indeterminate[0] == point.threshold && point.indeterminate[1] > point.threshold);
        let upper = anemia_evaluation::Confusion::at(&judged, f64::from(point.indeterminate[1]));
        assert!(upper.specificity().unwrap() >= 0.88, "{upper:?}");
    }
}
