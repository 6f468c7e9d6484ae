//! `anemiad analyze`: pictures from disk through the same pipeline as the camera's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anemia_bundle::Verdict;
use anemia_vision::{Frame, GateThresholds, Quality, Rejection, read_picture, write_png, write_png_grey};
use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::overlay::{self, Sheets};
use crate::pipeline::{Analysis, Parts, Pipeline, StageTimes};
use crate::report::ModelIdentity;
use crate::{config, pictures};

/// Analyzes pictures from disk
#[derive(Args)]
pub struct Analyze {
    /// PNG and JPEG files, and folders of them
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// How the conjunctiva is found: auto, colour, alpha or X,Y,WIDTH,HEIGHT
    #[arg(long, default_value = "auto")]
    roi: config::Roi,
    /// Number format of the network
    #[arg(long, default_value = "fp32")]
    precision: config::WantedPrecision,
    /// Folder of the model bundle; without it, the one that ships with the program
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Folder of the locator's bundle, for --roi auto; without it, the one that ships with the program
    #[arg(long, value_name = "DIR")]
    locator: Option<PathBuf>,
    /// Judge also what the quality gate refuses; the figures tell why it would
    #[arg(long)]
    no_gate: bool,
    /// Save each picture with what was found and measured drawn on it, and contact sheets of all
    #[arg(long, value_name = "DIR")]
    save_overlay: Option<PathBuf>,
    /// Save each mask
    #[arg(long, value_name = "DIR")]
    save_mask: Option<PathBuf>,
    /// Save each cut-out, exactly as the network saw it
    #[arg(long, value_name = "DIR")]
    save_cutout: Option<PathBuf>,
    #[arg(skip)]
    names: RefCell<Names>,
    #[arg(skip)]
    sheets: RefCell<Option<Sheets>>,
}

#[derive(Serialize)]
struct Line<'a> {
    image: &'a str,
    verdict: Verdict,
    probability: Option<f32>,
    reason: Option<Rejection>,
    roi: Option<RoiBox>,
    quality: Quality,
    model: &'a ModelIdentity,
    timing_ms: Timing,
}

#[derive(Serialize)]
struct Failure<'a> {
    image: &'a str,
    error: &'a str,
}

#[derive(Serialize)]
struct RoiBox {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    area_fraction: f32,
}

#[derive(Serialize)]
struct Timing {
    decode: f32,
    locate: f32,
    quality: f32,
    cutout: f32,
    inference: f32,
    total: f32,
}

impl Timing {
    fn new(decode: Duration, times: &StageTimes) -> Self {
        let ms = |time: Duration| time.as_secs_f32() * 1e3;
        Self {
            decode: ms(decode),
            locate: ms(times.locate),
            quality: ms(times.quality),
            cutout: ms(times.cutout),
            inference: ms(times.inference),
            total: ms(decode + times.total()),
        }
    }
}

impl Analyze {
    /// Analyzes everything, and says whether every picture could be read.
    pub fn run(&self) -> Result<bool> {
        for folder in [&self.save_overlay, &self.save_mask, &self.save_cutout].into_iter().flatten() {
            std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        }
        *self.sheets.borrow_mut() = self.save_overlay.as_deref().map(Sheets::new);
        let shipped = Parts::default();
        let parts = Parts {
            bundle: self.bundle.clone().unwrap_or(shipped.bundle),
            precision: self.precision,
            options: shipped.options,
            roi: self.roi,
            locator: config::Locator { bundle: self.locator.clone(), fallback: None },
            limits: if self.no_gate { GateThresholds::OPEN } else { shipped.limits },
        };
        let mut pipeline = Pipeline::open(&parts, &mut |_| true)?;
        let mut out = Output { json: self.json, out: io::stdout().lock(), rows: 0 };
        let mut frame = Frame::default();
        let mut all_read = true;
        for root in &self.images {
            for found in pictures::find(root) {
                let outcome = match &found {
                    Ok(path) => self.picture(path, root, &mut pipeline, &mut frame, &mut out),
                    Err(missing) => out.failure(&missing.path, &missing.cause).map(|()| false),
                };
                match outcome {
                    Ok(read) => all_read &= read,
                    // `anemiad analyze … | head` is no failure.
                    Err(error) if is_closed_pipe(&error) => return Ok(all_read),
                    Err(error) => return Err(error),
                }
            }
        }
        if let Some(sheets) = self.sheets.borrow_mut().take() {
            sheets.finish().context("the contact sheet")?;
        }
        Ok(all_read)
    }

    /// One picture: read, analyse, print, save. `false` when it cannot be read.
    fn picture(
        &self,
        path: &Path,
        root: &Path,
        pipeline: &mut Pipeline,
        frame: &mut Frame,
        out: &mut Output<impl Write>,
    ) -> Result<bool> {
        let start = Instant::now();
        if let Err(error) = read_picture(path, frame) {
            let cause = match error {
                anemia_vision::PictureError::Read { cause, .. } => cause.to_string(),
                other => other.to_string(),
            };
            return out.failure(path, &cause).map(|()| false);
        }
        let decode = start.elapsed();
        pipeline.forget();
        let analysis = pipeline.analyse(frame, start);
        if let Some(error) = &analysis.failure {
            return out.failure(path, &error.to_string()).map(|()| false);
        }
        out.line(path, frame, &analysis, pipeline, decode)?;
        self.save(path, root, &analysis, pipeline, frame)?;
        Ok(true)
    }

    fn save(
        &self,
        path: &Path,
        root: &Path,
        analysis: &Analysis,
        pipeline: &Pipeline,
        frame: &mut Frame,
    ) -> Result<()> {
        let (roi, cutout) = (pipeline.roi(), pipeline.cutout());
        let name = self.names.borrow_mut().unique(&flat_name(path, root));
        let target = |folder: &Path, what: &str| folder.join(format!("{name}-{what}.png"));
        let (width, height) = (frame.width(), frame.height());
        if let Some(folder) = &self.save_mask {
            let target = target(folder, "mask");
            write_png_grey(&target, width, height, &roi.to_mask(width, height))
                .with_context(|| format!("{}", target.display()))?;
        }
        if let Some(folder) = self.save_cutout.as_deref().filter(|_| analysis.outcome.is_ok()) {
            let target = target(folder, "cutout");
            write_png(&target, cutout.width(), cutout.height(), cutout.pixels())
                .with_context(|| format!("{}", target.display()))?;
        }
        if let Some(folder) = &self.save_overlay {
            let target = target(folder, "overlay");
            overlay::draw(frame, roi, analysis, &pipeline.operating_point());
            write_png(&target, width, height, frame.rgb()).with_context(|| format!("{}", target.display()))?;
            if let Some(sheets) = self.sheets.borrow_mut().as_mut() {
                sheets
                    .add(&name, frame, analysis, &pipeline.operating_point())
                    .with_context(|| format!("{}", folder.display()))?;
            }
        }
        Ok(())
    }
}

/// The name under which something about `path` is saved: its path under `root` in one piece.
fn flat_name(path: &Path, root: &Path) -> String {
    let inner = path.strip_prefix(root).ok().filter(|inner| !inner.as_os_str().is_empty());
    let inner = inner.map(Path::to_owned).or_else(|| path.file_name().map(PathBuf::from)).unwrap_or_default();
    let parts: Vec<_> = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.join("_")
}

/// The names that were given away, so that no picture overwrites what was saved about another.
#[derive(Clone, Default)]
struct Names(HashMap<String, u32>);

impl Names {
    fn unique(&mut self, name: &str) -> String {
        let count = self.0.entry(name.to_owned()).or_default();
        *count += 1;
        if *count == 1 { name.to_owned() } else { format!("{name}-{count}") }
    }
}

struct Output<W: Write> {
    json: bool,
    out: W,
    rows: usize,
}

impl<W: Write> Output<W> {
    fn line(
        &mut self,
        path: &Path,
        frame: &Frame,
        analysis: &Analysis,
        pipeline: &Pipeline,
        decode: Duration,
    ) -> Result<()> {
        let roi = pipeline.roi();
        let (verdict, probability) = analysis.verdict(&pipeline.operating_point());
        let line = Line {
            image: &path.to_string_lossy(),
            verdict,
            probability,
            reason: analysis.outcome.err(),
            roi: (!roi.is_empty()).then(|| RoiBox {
                x: roi.x(),
                y: roi.y(),
                width: roi.width(),
                height: roi.height(),
                area_fraction: roi.area_fraction(frame),
            }),
            quality: analysis.quality,
            model: pipeline.identity(),
            timing_ms: Timing::new(decode, &analysis.times),
        };
        if self.json {
            serde_json::to_writer(&mut self.out, &line)?;
            writeln!(self.out)?;
            return Ok(());
        }
        self.header()?;
        let probability = line.probability.map_or("-".into(), |value| format!("{value:.3}"));
        let reason = line.reason.map(|reason| reason.to_string()).unwrap_or_default();
        writeln!(
            self.out,
            "{:<14} {probability:>11}  {:>7}  {:>7.1}  {:<15} {}",
            line.verdict,
            format!("{:.1} %", line.roi.map_or(0.0, |roi| roi.area_fraction * 100.0)),
            line.timing_ms.total,
            reason,
            line.image
        )?;
        Ok(())
    }

    fn failure(&mut self, path: &Path, error: &str) -> Result<()> {
        let image = path.to_string_lossy();
        if self.json {
            serde_json::to_writer(&mut self.out, &Failure { image: &image, error })?;
            writeln!(self.out)?;
        } else {
            self.header()?;
            writeln!(self.out, "{:<14} {image}: {error}", "error")?;
        }
        Ok(())
    }

    fn header(&mut self) -> io::Result<()> {
        self.rows += 1;
        if self.rows > 1 {
            return Ok(());
        }
        writeln!(
            self.out,
            "{:<14} {:>11}  {:>7}  {:>7}  {:<15} picture",
            "verdict", "probability", "tissue", "ms", "reason"
        )
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        io.or_else(|| cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind))
    };
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}
