//! `anemiad camera`: what cameras there are, what they can, and what they see.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anemia_vision::{Frame, write_png};
use clap::{Args, Subcommand};

use crate::capture::v4l::{self, controls, offers};
use crate::capture::{self, Camera, Grab};
use crate::config;
use crate::output::say;
use crate::overlay;
use crate::pipeline::{Parts, Pipeline};
use crate::service::Refusal;
use crate::stop::Stop;

/// How long a camera is watched: time enough to choose its exposure, and to count its frames.
const LOOK: Duration = Duration::from_secs(2);

/// Shows cameras
#[derive(Args)]
pub struct Cameras {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the cameras of this machine, with the paths that stay the same
    List,
    /// Show what a camera offers and how it is set, and what the daemon would agree with it
    Show(Which),
    /// Save what a camera sees, and say how its frames come
    Grab(GrabArguments),
}

/// Which camera; without options the one of the configuration.
#[derive(Args)]
struct Which {
    /// The configuration file
    #[arg(long, default_value = config::FILE)]
    config: PathBuf,
    /// A V4L2 camera instead: path or pattern
    #[arg(long, conflicts_with = "pipeline")]
    device: Option<String>,
    /// A GStreamer pipeline instead
    #[arg(long)]
    pipeline: Option<String>,
}

#[derive(Args)]
struct GrabArguments {
    #[command(flatten)]
    which: Which,
    /// The picture to write, PNG
    #[arg(long, default_value = "camera.png")]
    out: PathBuf,
    /// Go on until Ctrl-C: every two seconds a line that says what is found, and a picture with it drawn
    #[arg(long)]
    watch: bool,
}

impl Cameras {
    /// Does it.
    pub fn run(&self) -> Result<(), Refusal> {
        match &self.command {
            Command::List => {
                list();
                Ok(())
            }
            Command::Show(which) => which.show(),
            Command::Grab(arguments) => arguments.run(),
        }
    }
}

fn list() {
    let found = v4l::list();
    if found.is_empty() {
        say("no camera (CSI cameras of a Jetson are no V4L2 cameras: see docs/guide/cameras.md)");
    }
    for camera in found {
        match camera.name {
            Ok((card, driver)) => say(format_args!("{}  {card} (driver {driver})", camera.node.display())),
            Err(error) => say(format_args!("{}  cannot be opened: {error}", camera.node.display())),
        }
        for path in camera.stable {
            say(format_args!("    {}", path.display()));
        }
    }
}

fn failure(error: impl std::fmt::Display) -> Refusal {
    Refusal::Failure(error.to_string())
}

impl Which {
    /// The camera's section of the configuration, and the parts that judge.
    fn settings(&self) -> Result<(config::Camera, Parts), Refusal> {
        let camera = match (&self.device, &self.pipeline) {
            (Some(device), _) => config::Camera { v4l: Some(config::V4lCamera::of(device)), ..Default::default() },
            (None, Some(pipeline)) => {
                let gstreamer = config::GstreamerCamera::of(pipeline);
                config::Camera { gstreamer: Some(gstreamer), ..Default::default() }
            }
            (None, None) => {
                let config = config::load(&self.config).map_err(|error| Refusal::Configuration(error.to_string()))?;
                return Ok((config.camera.clone(), config.parts()));
            }
        };
        Ok((camera, Parts::default()))
    }

    fn show(&self) -> Result<(), Refusal> {
        let (camera, _) = self.settings()?;
        if let Some(settings) = &camera.v4l {
            let device = v4l::device(settings).map_err(failure)?;
            for offer in offers(&device).map_err(failure)? {
                say(format_args!("offers   {offer}"));
            }
            for control in controls(&device) {
                let value = control.value.as_deref().unwrap_or("not told");
                let automatic = match control.automatic {
                    Some(true) => "the camera chooses",
                    Some(false) => "fixed",
                    None => "always fixed",
                };
                say(format_args!("control  {}: {value}, {automatic}", control.name));
            }
        }
        // Opening it sets what the configuration says, so it comes last.
        let camera = capture::open(&camera).map_err(failure)?;
        say(format_args!("agreed   {}", camera.describe()));
        Ok(())
    }
}

impl GrabArguments {
    fn run(&self) -> Result<(), Refusal> {
        let (settings, parts) = self.which.settings()?;
        let mut pipeline = if self.watch { Some(Pipeline::open(&parts, &mut |_| true)?) } else { None };
        let mut camera = capture::open(&settings).map_err(failure)?;
        say(camera.describe());
        let mut frame = Frame::default();
        loop {
            let seen = Seen::look(camera.as_mut(), &mut frame)?;
            let mut line = seen.to_string();
            if let Some(pipeline) = &mut pipeline {
                // Two frames that are seconds apart tell nothing of motion.
                pipeline.forget();
                let analysis = pipeline.analyse(&frame, Instant::now());
                let verdict = match &analysis.outcome {
                    Ok(_) => "good enough to be judged".to_owned(),
                    Err(reason) => format!("retake: {reason}"),
                };
                line = format!("{line}; {verdict}");
                overlay::draw(&mut frame, pipeline.roi(), &analysis, &pipeline.operating_point());
            }
            save(&self.out, &frame)?;
            say(format_args!("{line}; {}", self.out.display()));
            if !self.watch {
                return Ok(());
            }
        }
    }
}

fn save(path: &Path, frame: &Frame) -> Result<(), Refusal> {
    let write = write_png(path, frame.width(), frame.height(), frame.rgb());
    write.map_err(|error| failure(format_args!("{}: {error}", path.display())))
}

/// How frames came in a while.
struct Seen {
    size: (usize, usize),
    frames: u32,
    missed: u32,
    damaged: u32,
    time: Duration,
    oldest: Duration,
}

impl Seen {
    /// Watches for a while; the last frame stays in `frame`.
    fn look(camera: &mut dyn Camera, frame: &mut Frame) -> Result<Self, Refusal> {
        let stop = Stop::new();
        let mut seen =
            Self { size: (0, 0), frames: 0, missed: 0, damaged: 0, time: Duration::ZERO, oldest: Duration::ZERO };
        let mut start = None;
        while seen.time < LOOK {
            match camera.grab(frame, &stop).map_err(failure)? {
                Grab::Frame { at, missed } => {
                    // From the first frame on: before it, the camera was starting.
                    seen.time = start.get_or_insert_with(Instant::now).elapsed();
                    seen.missed += if seen.frames == 0 { 0 } else { missed };
                    seen.frames += 1;
                    seen.oldest = seen.oldest.max(at.elapsed());
                }
                Grab::Damaged(_) if seen.damaged < 1000 => seen.damaged += 1,
                Grab::Damaged(why) => return Err(failure(format_args!("only damaged pictures: {why}"))),
                Grab::Ended if seen.frames > 0 => break,
                Grab::Ended => return Err(failure("the camera ended without a frame")),
            }
        }
        seen.size = (frame.width(), frame.height());
        Ok(seen)
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { size: (width, height), frames, missed, damaged, time, oldest } = self;
        // The first frame starts the clock.
        let rate = f64::from(frames.saturating_sub(1)) / time.as_secs_f64().max(0.001);
        let age = oldest.as_secs_f64() * 1000.0;
        write!(
            out,
            "{width}×{height}, {rate:.1} frames a second, at most {age:.0} ms old, {missed} missed, {damaged} damaged"
        )
    }
}
