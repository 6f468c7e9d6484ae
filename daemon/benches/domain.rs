//! `make measure-domain`: what the locator does to the classifier, on photographs that neither of them has learned from.
//!
//! Each photograph of Eyes-defy-anemia is cut out twice: by the outline that a person drew, and by the locator of the
//! cross-validation that has not seen this person (`RUN` names the folder of `anemia-train locate`). The quality gate is asked
//! and not obeyed: the light of these photographs is not that of the classifier's.
//!
//! Nothing is chosen by these figures. The classifier was trained on children of 6 to 59 months; these are adults.
// A measurement whose stage cannot be set may panic.
#![allow(clippy::print_stderr, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use anemia_bundle::Verdict;
use anemia_engine::EngineOptions;
use anemia_evaluation::{Interval, ROUNDS, SEED, bootstrap};
use anemia_vision::{AlphaLocator, Frame, GateThresholds, Locator, Roi, read_picture};
use anemiad::config::{self, WantedPrecision};
use anemiad::pipeline::{Parts, Pipeline, probability};

#[path = "../../tests/common.rs"]
mod common;

/// One photograph.
#[derive(Clone, Copy)]
struct Eye {
    person: u64,
    has_anemia: bool,
    overlap: f64,
    /// Calibrated logits by the outline and by the locator; none where the locator found nothing.
    outlined: f32,
    located: Option<f32>,
    refused: Option<&'static str>,
}

fn main() {
    let Some(run) = std::env::var_os("RUN").map(PathBuf::from) else {
        eprintln!("RUN must name the folder of a run of `anemia-train locate`");
        return;
    };
    let Some(data) = common::data("eyes-defy-india") else { return };
    let labels = std::fs::read_to_string(data.join("labels.csv")).expect("labels.csv can be read");
    let folds = std::fs::read_to_string(run.join("overlaps.csv")).expect("the run has ended");
    let mut eyes = Vec::new();
    for fold in 0.. {
        let bundle = run.join(format!("fold-{fold}/bundle"));
        if !bundle.is_dir() {
            break;
        }
        let mut outlines = open(config::Roi::Alpha, None);
        let mut locator = open(config::Roi::Auto, Some(bundle));
        // image,person,fold,iou
        let held_out = folds.lines().skip(1).filter(|line| line.split(',').nth(2) == Some(&fold.to_string()));
        for line in held_out {
            let image = line.split(',').next().unwrap_or_default();
            let row = labels.lines().find(|row| row.contains(image)).expect("every picture has a label");
            eyes.push(measure(&data, row, &mut outlines, &mut locator));
        }
    }
    report(&eyes);
}

fn open(roi: config::Roi, locator: Option<PathBuf>) -> Pipeline {
    let parts = Parts {
        bundle: Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/pallor"),
        precision: WantedPrecision::Fp32,
        options: EngineOptions::default(),
        roi,
        locator: config::Locator { bundle: locator, fallback: None },
        limits: GateThresholds::OPEN,
    };
    Pipeline::open(&parts, &mut |_| true).expect("the bundles load")
}

/// `row`: number,image,mask,hgb,gender,age,anemic,…
fn measure(data: &Path, row: &str, outlines: &mut Pipeline, locator: &mut Pipeline) -> Eye {
    let cells: Vec<&str> = row.split(',').collect();
    let mut frame = Frame::default();
    read_picture(&data.join(cells[1]), &mut frame).expect("a picture of the data set can be read");
    let mask = image::open(data.join(cells[2])).expect("a mask of the data set can be read").into_luma8();
    let rgba: Vec<u8> = frame
        .rgb()
        .chunks_exact(3)
        .zip(mask.pixels())
        .flat_map(|(pixel, mask)| [pixel[0], pixel[1], pixel[2], if mask.0[0] > 127 { 255 } else { 0 }])
        .collect();
    let mut outlined = Frame::default();
    outlined.set_rgba(frame.width(), frame.height(), &rgba);
    let mut truth = Roi::default();
    AlphaLocator.locate(&outlined, &mut truth);
    let by_outline = outlines.analyse(&outlined, Instant::now());
    locator.forget();
    let by_locator = locator.analyse(&frame, Instant::now());
    let limits = config::Quality::default().thresholds();
    Eye {
        person: cells[0].parse().expect("the number of a person"),
        has_anemia: cells[6] == "1",
        overlap: f64::from(locator.roi().overlap(&truth)),
        outlined: by_outline.outcome.expect("an outline can be judged"),
        located: by_locator.outcome.ok(),
        refused: by_locator.quality.rejection(&limits).map(|reason| reason.words().0),
    }
}

fn report(eyes: &[Eye]) {
    println!("Adults, one device with a lit magnifier; the classifier was trained on children and other cameras.");
    println!(
        "WARNING: no verdict below says anything about how well the classifier works. Nothing was chosen by it.\n"
    );
    let missed = eyes.iter().filter(|eye| eye.located.is_none()).count();
    let mut overlaps: Vec<f64> = eyes.iter().map(|eye| eye.overlap).collect();
    overlaps.sort_by(f64::total_cmp);
    let tenth = &overlaps[..overlaps.len().div_ceil(10)];
    let worst = tenth.iter().sum::<f64>() / tenth.len() as f64;
    let mean = |of: fn(&Eye) -> f64| {
        let figure = |all: &[Eye]| (!all.is_empty()).then(|| all.iter().map(of).sum::<f64>() / all.len() as f64);
        interval(eyes, figure)
    };
    println!("{} photographs, {missed} without a ROI", eyes.len());
    println!("mean IoU {}, mean of the worst tenth {worst:.3}", mean(|eye| eye.overlap));
    println!("mean difference of probability, by locator minus by outline {}", mean(difference));
    println!("mean size of the difference {}", mean(|eye| difference(eye).abs()));
    println!("correlation of the logits by locator and by outline {}", interval(eyes, correlation));
    let point = open(config::Roi::Alpha, None).operating_point();
    let same = |eye: &Eye| Some(point.verdict(eye.outlined, 0.0)) == eye.located.map(|logit| point.verdict(logit, 0.0));
    let agreement = eyes.iter().filter(|eye| same(eye)).count();
    println!("same verdict: {agreement} of {}\n", eyes.len());
    for (what, logit) in
        [("by outline", (|eye: &Eye| Some(eye.outlined)) as fn(&Eye) -> Option<f32>), ("by locator", |eye| eye.located)]
    {
        for (group, has_anemia) in [("anemic by WHO", true), ("not anemic", false)] {
            let all: Vec<Verdict> = eyes
                .iter()
                .filter(|eye| eye.has_anemia == has_anemia)
                .filter_map(logit)
                .map(|logit| point.verdict(logit, 0.0))
                .collect();
            let count = |verdict: Verdict| all.iter().filter(|one| **one == verdict).count();
            println!(
                "{what}, {group}: {} anemic, {} indeterminate, {} non_anemic",
                count(Verdict::Anemic),
                count(Verdict::Indeterminate),
                count(Verdict::NonAnemic)
            );
        }
    }
    let mut refused = std::collections::BTreeMap::new();
    for eye in eyes {
        *refused.entry(eye.refused.unwrap_or("passed")).or_insert(0) += 1;
    }
    println!("\nwhat the quality gate says of them: {refused:?}");
}

fn difference(eye: &Eye) -> f64 {
    eye.located.map_or(0.0, |located| f64::from(probability(located) - probability(eye.outlined)))
}

/// Pearson's, over the photographs with a ROI.
fn correlation(eyes: &[Eye]) -> Option<f64> {
    let pairs: Vec<[f64; 2]> = eyes.iter().filter_map(|eye| Some([eye.outlined.into(), eye.located?.into()])).collect();
    let mean = [0, 1].map(|at| pairs.iter().map(|pair| pair[at]).sum::<f64>() / pairs.len() as f64);
    let product = |a: usize, b: usize| pairs.iter().map(|pair| (pair[a] - mean[a]) * (pair[b] - mean[b])).sum::<f64>();
    let spread = (product(0, 0) * product(1, 1)).sqrt();
    (spread > 0.0).then(|| product(0, 1) / spread)
}

fn interval(eyes: &[Eye], figure: impl Fn(&[Eye]) -> Option<f64>) -> String {
    match bootstrap(eyes, |eye| eye.person, ROUNDS, SEED, figure) {
        Some(Interval { value, low, high }) => format!("{value:.3} (95 % {low:.3} to {high:.3})"),
        None => "-".into(),
    }
}
