//! The section `camera`.

use std::path::PathBuf;

use anemia_vision::RawFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where pictures come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Camera {
    /// A camera of Linux (V4L2): USB cameras and most others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "V4lCamera")]
    pub v4l: Option<V4lCamera>,
    /// Whatever GStreamer can open: the CSI cameras of a Jetson, network cameras, films.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "GstreamerCamera")]
    pub gstreamer: Option<GstreamerCamera>,
    /// Pictures from disk, shown to the daemon one after the other as if patients came and went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Replay")]
    pub replay: Option<Replay>,
    /// Rendered eyes. They test the machine, never the medicine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PhantomCamera")]
    pub phantom: Option<PhantomCamera>,
}

/// A camera of Linux (V4L2). The format is negotiated: what the camera can do and is nearest to the wish.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct V4lCamera {
    /// The device, by a path that stays the same, as `anemiad camera list` shows it (`/dev/v4l/by-id/…`, `/dev/v4l/by-path/…`), or
    /// a pattern with `*`, `?` and `[…]`, of which the first camera is taken.
    #[schemars(length(min = 1))]
    pub device: String,
    /// Wanted width in pixels.
    #[serde(default = "default_width")]
    #[schemars(range(min = 160, max = 8192))]
    pub width: u32,
    /// Wanted height in pixels.
    #[serde(default = "default_height")]
    #[schemars(range(min = 120, max = 8192))]
    pub height: u32,
    /// Wanted frames a second.
    #[serde(default = "default_rate")]
    #[schemars(range(min = 1, max = 120))]
    pub rate_hz: f64,
    /// Wanted pixel format. `auto` takes the best that reaches width, height and rate: uncompressed before JPEG.
    #[serde(default)]
    pub format: V4lFormat,
    /// Exposure time in microseconds. Without it the camera chooses, and keeps its choice during an exam.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 10_000_000))]
    pub exposure_us: Option<u32>,
    /// Gain, in the camera's own unit. Without it the camera chooses, and keeps its choice during an exam.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32")]
    pub gain: Option<i32>,
    /// White balance in kelvin. Without it the camera chooses, and keeps its choice during an exam.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1000, max = 20000))]
    pub white_balance_k: Option<u32>,
}

impl V4lCamera {
    /// A device with everything else as it is by default.
    pub fn of(device: &str) -> Self {
        Self {
            device: device.to_owned(),
            width: default_width(),
            height: default_height(),
            rate_hz: default_rate(),
            format: V4lFormat::Auto,
            exposure_us: None,
            gain: None,
            white_balance_k: None,
        }
    }
}

/// A pixel format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum V4lFormat {
    /// The best that the camera has.
    #[default]
    Auto,
    /// Luma and chroma, packed.
    Yuyv,
    /// Luma and chroma in two planes.
    Nv12,
    /// A JPEG for each frame.
    Mjpg,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luma only, which shows no pallor: to aim with.
    Grey,
}

impl V4lFormat {
    /// The format; `None` for any.
    pub fn fixed(self) -> Option<RawFormat> {
        match self {
            Self::Auto => None,
            Self::Yuyv => Some(RawFormat::Yuyv),
            Self::Nv12 => Some(RawFormat::Nv12),
            Self::Mjpg => Some(RawFormat::Mjpg),
            Self::Rgb => Some(RawFormat::Rgb),
            Self::Bgr => Some(RawFormat::Bgr),
            Self::Grey => Some(RawFormat::Grey),
        }
    }
}

/// A GStreamer pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GstreamerCamera {
    /// The pipeline as for `gst-launch-1.0`, without its last element: the daemon appends its own sink, which takes RGB, BGR, BGRx,
    /// NV12, YUY2 and GRAY8.
    #[schemars(length(min = 1))]
    pub pipeline: String,
    /// When opening the pipeline again does not help: restart the service that drives the camera (`nvargus-daemon` on a Jetson). It
    /// needs the unit `anemiad-camera-service.path`.
    #[serde(default)]
    pub restart_service: bool,
    /// When that does not help either: reboot, at most once in six hours. It needs the unit `anemiad-reboot.path`.
    #[serde(default)]
    pub reboot: bool,
}

/// Pictures from disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// PNG and JPEG files, or folders of them, which are searched in depth and read in the order of their names.
    #[schemars(length(min = 1))]
    pub pictures: Vec<PathBuf>,
    /// Start again after the last picture; otherwise the camera ends there and the daemon waits.
    #[serde(default)]
    pub looping: bool,
    /// How fast, and how long each picture stays.
    #[serde(default)]
    pub pace: Pace,
}

/// Rendered eyes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhantomCamera {
    /// Width of a frame in pixels.
    #[serde(default = "default_width")]
    #[schemars(range(min = 160, max = 3840))]
    pub width: u32,
    /// Height of a frame in pixels.
    #[serde(default = "default_height")]
    #[schemars(range(min = 120, max = 2160))]
    pub height: u32,
    /// The first eye; each following one has the next number.
    #[serde(default)]
    pub seed: u32,
    /// How fast, and how long each eye stays.
    #[serde(default)]
    pub pace: Pace,
}

/// The rhythm of a camera that has no real time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pace {
    /// Frames a second.
    #[schemars(range(min = 0.1, max = 120))]
    pub rate_hz: f64,
    /// Seconds for which each picture is in view.
    #[schemars(range(min = 0, max = 3600))]
    pub show_s: f64,
    /// Seconds of an empty view between two pictures.
    #[schemars(range(min = 0, max = 3600))]
    pub gap_s: f64,
}

impl GstreamerCamera {
    /// A pipeline with everything else as it is by default.
    pub fn of(pipeline: &str) -> Self {
        Self { pipeline: pipeline.to_owned(), restart_service: false, reboot: false }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { rate_hz: 10.0, show_s: 3.0, gap_s: 2.0 }
    }
}

fn default_width() -> u32 {
    1280
}
fn default_height() -> u32 {
    720
}
fn default_rate() -> f64 {
    30.0
}
