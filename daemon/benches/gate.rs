//! `make measure-gate`: how far a picture can be spoilt before its verdict changes, and whether the gate refuses it before.
//!
//! Cut-outs of CP-AnemiC (`ANEMIA_DATA`, or `../shared/data` beside the source folder) are spoilt step by step and judged with
//! `roi: alpha`. One line of CSV for each picture and step goes to standard output, the table of docs/design/quality.md to
//! standard error, and two plots to the folder that `PLOTS` names. Words behind `--` choose ways of spoiling.
// A measurement whose stage cannot be set may panic.
#![allow(clippy::print_stderr, clippy::unwrap_used)]

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anemia_bundle::Verdict;
use anemia_engine::EngineOptions;
use anemia_evaluation::{Line, plot};
use anemia_vision::{
    AlphaLocator, Frame, GateThresholds, Locator, Quality, Rejection, Roi, decode_picture, read_picture,
};
use anemiad::config::{self, WantedPrecision};
use anemiad::pipeline::{Parts, Pipeline};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

#[path = "../../tests/common.rs"]
mod common;

/// Every so many pictures of the data set.
const PACE: usize = 5;
/// The longest that the shutter of a camera with 30 frames a second can be open.
const SHUTTER_S: f32 = 1.0 / 30.0;

/// A way of spoiling a picture, and how far it is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Spoil {
    /// Gaussian blur, its sigma in pixels of a cut-out of 128 pixels.
    Blur(f32),
    /// All light times this.
    Light(f32),
    /// White spots over this share of the tissue.
    Glare(f32),
    /// Moved by this share of the tissue's width while the shutter was open.
    Motion(f32),
    /// JPEG of this quality.
    Jpeg(u8),
    /// Blue light times this.
    Blue(f32),
    /// Red light times this.
    Red(f32),
}

fn steps() -> Vec<(&'static str, Vec<Spoil>)> {
    let all = |make: fn(f32) -> Spoil, steps: &[f32]| steps.iter().map(|&step| make(step)).collect();
    let only: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut ways: Vec<(&'static str, Vec<Spoil>)> = vec![
        ("blur", all(Spoil::Blur, &[0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0])),
        ("less light", all(Spoil::Light, &[0.9, 0.8, 0.65, 0.5, 0.35, 0.25, 0.15, 0.08])),
        ("more light", all(Spoil::Light, &[1.1, 1.25, 1.5, 1.8, 2.2, 2.7, 3.5, 5.0])),
        ("glare", all(Spoil::Glare, &[0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32])),
        ("motion", all(Spoil::Motion, &[0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1])),
        ("jpeg", [95, 90, 80, 65, 50, 35, 20, 10].map(Spoil::Jpeg).to_vec()),
        ("less blue", all(Spoil::Blue, &[0.95, 0.9, 0.8, 0.7, 0.6, 0.45, 0.3])),
        ("more blue", all(Spoil::Blue, &[1.05, 1.1, 1.2, 1.3, 1.5, 1.8, 2.2])),
        ("less red", all(Spoil::Red, &[0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4])),
        ("more red", all(Spoil::Red, &[1.05, 1.1, 1.2, 1.4, 1.7, 2.0, 2.5])),
    ];
    ways.retain(|(name, _)| only.is_empty() || only.iter().any(|word| word == name));
    ways
}

fn main() {
    let Some(data) = common::data("cp-anemic") else { return };
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let limits = config::Quality::default().thresholds();
    // Everything is judged, whatever the gate says; the gate is asked beside.
    let parts = Parts {
        bundle: models.join("pallor"),
        precision: WantedPrecision::Fp32,
        options: EngineOptions::default(),
        roi: config::Roi::Alpha,
        locator: config::Locator::default(),
        limits: GateThresholds::OPEN,
    };
    let mut pipeline = Pipeline::open(&parts, &mut |_| true).expect("the shipped model loads");
    let mut pictures: Vec<PathBuf> = anemiad::pictures::find(&data).into_iter().flatten().collect();
    pictures.sort();
    println!(
        "picture,way,step,logit,clean_logit,verdict,clean_verdict,refused,tissue_px,exposure,clipped,glare,sharpness,red,blue,motion"
    );
    let mut table: Vec<Row> = Vec::new();
    for (number, path) in pictures.iter().step_by(PACE).enumerate() {
        let mut frame = Frame::default();
        read_picture(path, &mut frame).expect("a picture of the data set can be read");
        let clean = judge(&mut pipeline, &frame, Spoil::Light(1.0), &limits);
        if clean.2.is_some() {
            continue;
        }
        for (way, steps) in steps() {
            for spoil in steps {
                let spoilt = spoil.apply(&frame, number as u32);
                let (logit, verdict, refused, q) = judge(&mut pipeline, &spoilt, spoil, &limits);
                println!(
                    "{},{way},{spoil:?},{logit:.4},{:.4},{verdict},{},{},{},{:.4},{:.4},{:.4},{:.5},{:.4},{:.4},{:.4}",
                    path.file_name().unwrap_or_default().to_string_lossy(),
                    clean.0,
                    clean.1,
                    refused.map_or("", |reason| reason.words().0),
                    q.tissue_px,
                    q.exposure,
                    q.clipped,
                    q.glare,
                    q.sharpness,
                    q.red,
                    q.blue,
                    q.motion
                );
                if !table.iter().any(|row| row.1 == spoil && row.0 == way) {
                    table.push((way, spoil, 0, 0, 0));
                }
                let row = table.iter_mut().find(|row| row.1 == spoil && row.0 == way).expect("it was just added");
                row.2 += 1;
                row.3 += u32::from(refused.is_none());
                row.4 += u32::from(refused.is_none() && verdict == clean.1);
            }
        }
    }
    eprintln!("{:<11} {:<16} {:>9} {:>9} {:>10}", "way", "step", "pictures", "passed", "agreement");
    if let Some(folder) = std::env::var_os("PLOTS").map(PathBuf::from) {
        plots(&folder, &table);
    }
    for (way, spoil, all, passed, same) in table {
        let share = f64::from(same) / f64::from(passed.max(1));
        eprintln!("{way:<11} {:<16} {all:>9} {passed:>9} {share:>10.3}", format!("{spoil:?}"));
    }
}

/// Of each way and step: how many pictures, how many passed the gate, and how many of these kept their verdict.
type Row = (&'static str, Spoil, u32, u32, u32);

/// Agreement over the steps. Steps that fewer than 10 pictures passed are left out.
fn plots(folder: &Path, table: &[Row]) {
    let files = [
        ("gate.svg", "Blur, motion, reflections, JPEG", ["blur", "motion", "glare", "jpeg"].as_slice()),
        (
            "gate-light.svg",
            "Light and its colour",
            &["less light", "more light", "less blue", "more blue", "less red", "more red"],
        ),
    ];
    for (file, title, ways) in files {
        let mut lines: Vec<Line> = ways
            .iter()
            .map(|way| {
                let rows = table.iter().filter(|row| row.0 == *way).enumerate();
                let points = rows
                    .filter(|(_, row)| row.3 >= 10)
                    .map(|(step, row)| (step as f64 + 1.0, f64::from(row.4) / f64::from(row.3)));
                Line::new(*way, std::iter::once((0.0, 1.0)).chain(points).collect())
            })
            .collect();
        lines.push(Line { name: String::new(), points: vec![(0.0, 0.95), (8.0, 0.95)], is_guide: true });
        let axes = ["step of the table", "same verdict, of those that pass"];
        let svg = plot(title, axes, 0.0..8.0, 0.4..1.0, &lines);
        std::fs::write(folder.join(file), svg).expect("the folder of the plots can be written");
    }
}

fn judge(
    pipeline: &mut Pipeline,
    frame: &Frame,
    spoil: Spoil,
    limits: &GateThresholds,
) -> (f32, Verdict, Option<Rejection>, Quality) {
    pipeline.forget();
    let analysis = pipeline.analyse(frame, Instant::now());
    let mut quality = analysis.quality;
    if let Spoil::Motion(share) = spoil {
        quality.motion = share / SHUTTER_S;
    }
    let logit = analysis.outcome.unwrap_or(f32::NAN);
    (logit, analysis.verdict(&pipeline.operating_point()).0, quality.rejection(limits), quality)
}

impl Spoil {
    fn apply(self, frame: &Frame, seed: u32) -> Frame {
        let (width, height) = (frame.width(), frame.height());
        let mut roi = Roi::default();
        AlphaLocator.locate(frame, &mut roi);
        let mut linear: Vec<f32> = frame.rgb().iter().map(|&byte| f32::from(byte)).collect();
        match self {
            Self::Blur(sigma) => {
                let sigma = sigma * roi.width() as f32 / 128.0;
                let reach = (sigma * 3.0).ceil() as isize;
                let kernel: Vec<(isize, f32)> =
                    (-reach..=reach).map(|at| (at, (-(at * at) as f32 / (2.0 * sigma * sigma)).exp())).collect();
                linear = inside(&linear, &roi, width, height, &kernel, true);
                linear = inside(&linear, &roi, width, height, &kernel, false);
            }
            Self::Motion(share) => {
                let length = (share * roi.width() as f32).max(1e-3);
                let reach = (length / 2.0).ceil() as isize;
                // A box of that length, with parts of pixels at its ends.
                let cover = |at: isize| (length / 2.0 + 0.5 - (at as f32).abs()).clamp(0.0, 1.0);
                let kernel: Vec<(isize, f32)> = (-reach..=reach).map(|at| (at, cover(at))).collect();
                linear = inside(&linear, &roi, width, height, &kernel, true);
            }
            Self::Light(gain) => linear.iter_mut().for_each(|value| *value = exposed(*value, gain)),
            Self::Blue(gain) => linear.iter_mut().skip(2).step_by(3).for_each(|value| *value = exposed(*value, gain)),
            Self::Red(gain) => linear.iter_mut().step_by(3).for_each(|value| *value = exposed(*value, gain)),
            Self::Glare(share) => {
                let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
                let mut random = |most: usize| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) as usize % most.max(1)
                };
                let wanted = (share * roi.area() as f32) as usize;
                let (mut covered, mut white) = (0, vec![false; width * height]);
                for _ in 0..100_000 {
                    if covered >= wanted {
                        break;
                    }
                    let (x, y) = (roi.x() + random(roi.width()), roi.y() + random(roi.height()));
                    if !roi.contains(x, y) {
                        continue;
                    }
                    // Spots of 1 to 5 percent of the width, drawn out sideways.
                    let radius = roi.width() as f32 * (0.005 + 0.00002 * random(1000) as f32);
                    let reach = (radius * 1.6).ceil() as usize;
                    for row in y.saturating_sub(reach)..(y + reach + 1).min(height) {
                        for column in x.saturating_sub(reach)..(x + reach + 1).min(width) {
                            let (dx, dy) = ((column as f32 - x as f32) / 1.6, row as f32 - y as f32);
                            let at = row * width + column;
                            if dx.hypot(dy) <= radius && roi.contains(column, row) && !white[at] && covered < wanted {
                                white[at] = true;
                                covered += 1;
                                linear[at * 3..at * 3 + 3].copy_from_slice(&[252.0, 250.0, 248.0]);
                            }
                        }
                    }
                }
            }
            Self::Jpeg(quality) => return jpeg(frame, &roi, quality),
        }
        let rgba: Vec<u8> = linear
            .chunks_exact(3)
            .enumerate()
            .flat_map(|(at, pixel)| {
                let alpha = if roi.contains(at % width, at / width) { 255 } else { 0 };
                [pixel[0], pixel[1], pixel[2]]
                    .map(|value| value.round().clamp(0.0, 255.0) as u8)
                    .into_iter()
                    .chain([alpha])
            })
            .collect();
        let mut spoilt = Frame::default();
        spoilt.set_rgba(width, height, &rgba);
        spoilt
    }
}

/// A byte in light that is `gain` times as strong, by the sRGB curve (IEC 61966-2-1).
fn exposed(value: f32, gain: f32) -> f32 {
    let value = value / 255.0;
    let light = if value > 0.04045 { ((value + 0.055) / 1.055).powf(2.4) } else { value / 12.92 } * gain;
    let value = if light > 0.003_130_8 { 1.055 * light.powf(1.0 / 2.4) - 0.055 } else { light * 12.92 };
    value.min(1.0) * 255.0
}

/// A kernel along rows or columns that mixes tissue with tissue only.
fn inside(values: &[f32], roi: &Roi, width: usize, height: usize, kernel: &[(isize, f32)], across: bool) -> Vec<f32> {
    let mut out = values.to_vec();
    for y in 0..height {
        for x in (0..width).filter(|&x| roi.contains(x, y)) {
            let (mut sum, mut weights) = ([0.0f32; 3], 0.0f32);
            for &(step, weight) in kernel {
                let (dx, dy) = if across { (step, 0) } else { (0, step) };
                let (Some(column), Some(row)) = (x.checked_add_signed(dx), y.checked_add_signed(dy)) else { continue };
                if weight > 0.0 && roi.contains(column, row) {
                    let at = (row * width + column) * 3;
                    (0..3).for_each(|channel| sum[channel] += values[at + channel] * weight);
                    weights += weight;
                }
            }
            let at = (y * width + x) * 3;
            (0..3).for_each(|channel| out[at + channel] = sum[channel] / weights.max(1e-6));
        }
    }
    out
}

/// Through JPEG and back. Around the tissue there is its mean colour, as there would be skin, and not the black of a cut-out.
fn jpeg(frame: &Frame, roi: &Roi, quality: u8) -> Frame {
    let (width, height) = (frame.width(), frame.height());
    let tissue = || (0..width * height).filter(|at| roi.contains(at % width, at / width));
    let mean: [u8; 3] = std::array::from_fn(|channel| {
        let sum: u64 = tissue().map(|at| u64::from(frame.rgb()[at * 3 + channel])).sum();
        (sum / roi.area().max(1) as u64) as u8
    });
    let mut filled: Vec<u8> = mean.iter().copied().cycle().take(width * height * 3).collect();
    for at in tissue() {
        filled[at * 3..at * 3 + 3].copy_from_slice(&frame.rgb()[at * 3..at * 3 + 3]);
    }
    let mut bytes = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(&filled, width as u32, height as u32, ExtendedColorType::Rgb8)
        .expect("a picture in memory can be encoded");
    let mut decoded = Frame::default();
    decode_picture(bytes.get_ref(), &mut decoded).expect("what was just encoded can be decoded");
    let rgba: Vec<u8> = decoded
        .rgb()
        .chunks_exact(3)
        .enumerate()
        .flat_map(|(at, pixel)| {
            let alpha = if roi.contains(at % width, at / width) { 255 } else { 0 };
            let keep = |channel: usize| if alpha == 0 { 0 } else { pixel[channel] };
            [keep(0), keep(1), keep(2), alpha]
        })
        .collect();
    let mut spoilt = Frame::default();
    spoilt.set_rgba(width, height, &rgba);
    spoilt
}
