//! The configuration: every key, its type, its range and its default.
//!
//! docs/reference/config.md is written from these types and their comments, see [`reference()`].

mod camera;
mod kiosk;
mod load;
mod locator;
mod model;
mod mqtt;
mod reference;
mod schema;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anemia_bundle::Task;
use anemia_vision::GateThresholds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine;
use crate::models::Slots;
use crate::pipeline::Parts;

pub use camera::{Camera, GstreamerCamera, Pace, PhantomCamera, Replay, V4lCamera, V4lFormat};
pub use kiosk::{Kiosk, PageTls};
pub(crate) use load::suggestion;
pub use load::{ConfigError, Problem, load, parse, state_dir};
pub use locator::{Locator, Roi};
pub use model::{EngineKind, Model, TensorRt, Updates, WantedPrecision};
pub(crate) use mqtt::read_small;
pub use mqtt::{Mqtt, Outbox, Tls};
pub use reference::reference;

/// Where the file is when nobody says otherwise.
pub const FILE: &str = "/etc/anemiad/anemiad.yaml";

/// What a path begins with that stands for a credential of the service, see LoadCredential= of systemd.
const CREDENTIALS: &str = "$CREDENTIALS_DIRECTORY";

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of this kiosk. It is part of every MQTT topic and result, and must be unique at the broker.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
    pub device_id: String,
    /// Folder for what must survive a power cut: the results that the broker has not confirmed yet. A change needs a
    /// restart, and does not move what is in the old folder.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Where pictures come from. Exactly one of the keys below.
    pub camera: Camera,
    /// How the conjunctiva is found: `auto` by the network of `locator`, `colour` by colour and shape, or `alpha` from the
    /// transparency of the pictures, for cut-outs. (A fixed box is only for `anemiad analyze`: in it, an empty chair looks
    /// like a patient.)
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = "^(auto|colour|alpha)$"))]
    pub roi: Roi,
    /// The network that finds the conjunctiva.
    #[serde(default)]
    pub locator: Locator,
    /// The network.
    pub model: Model,
    /// When a picture is good enough. A picture that is not gets no verdict.
    #[serde(default)]
    pub quality: Quality,
    /// How an exam runs.
    #[serde(default)]
    pub exam: Exam,
    /// What is kept of each exam on this device, in the folder `exams` of `state_dir`.
    #[serde(default)]
    pub records: Records,
    /// Where results go.
    pub mqtt: Mqtt,
    /// What waits on the disk while the broker is away.
    #[serde(default)]
    pub outbox: Outbox,
    /// The page of the kiosk.
    #[serde(default)]
    pub kiosk: Kiosk,
    /// Figures for Prometheus.
    #[serde(default)]
    pub metrics: Metrics,
    /// When the daemon counts as stuck.
    #[serde(default)]
    pub health: Health,
}

/// Limits of the quality gate, all measured on the tissue only.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quality {
    /// Least area of tissue in pixels.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub min_tissue_px: u32,
    /// Least mean brightness, 0 (black) to 1 (white).
    #[schemars(range(min = 0, max = 1))]
    pub min_exposure: f32,
    /// Greatest mean brightness.
    #[schemars(range(min = 0, max = 1))]
    pub max_exposure: f32,
    /// Greatest share of pixels whose colour is clipped.
    #[schemars(range(min = 0, max = 1))]
    pub max_clipped: f32,
    /// Greatest share of pixels that are reflections.
    #[schemars(range(min = 0, max = 1))]
    pub max_glare: f32,
    /// Least sharpness: root mean square of the Laplacian of the brightness, as a share of the mean brightness.
    #[schemars(range(min = 0, max = 10))]
    pub min_sharpness: f32,
    /// Greatest speed of the tissue, in its widths a second.
    #[schemars(range(min = 0, max = 100))]
    pub max_motion: f32,
    /// Least red of the mean colour, in its green.
    #[schemars(range(min = 0, max = 100))]
    pub min_red: f32,
    /// Greatest red of the mean colour, in its green.
    #[schemars(range(min = 0, max = 100))]
    pub max_red: f32,
    /// Least blue of the mean colour, in its green.
    #[schemars(range(min = 0, max = 100))]
    pub min_blue: f32,
    /// Greatest blue of the mean colour, in its green.
    #[schemars(range(min = 0, max = 100))]
    pub max_blue: f32,
}

/// How an exam runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exam {
    /// Whether an exam starts by itself when the conjunctiva stays in view. Where not, only a command, the button of
    /// the page or `anemiad exam start` starts one.
    pub automatic: bool,
    /// Good frames that make one result.
    #[schemars(range(min = 1, max = 31))]
    pub frames: u8,
    /// Frames in a row with conjunctiva in view that start an exam.
    #[schemars(range(min = 1, max = 100))]
    pub steady_frames: u8,
    /// Seconds after which an exam without enough good frames ends with "retake".
    #[schemars(range(min = 0.1, max = 600))]
    pub timeout_s: f64,
    /// Seconds without conjunctiva in view after which the next patient can come.
    #[schemars(range(min = 0, max = 60))]
    pub absent_s: f64,
}

/// What is kept of each exam on this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Records {
    /// Days after which a record is removed; with 0 none is kept.
    #[schemars(range(min = 0, max = 3650))]
    pub days: u32,
    /// Most MiB that all records take; the oldest go first.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub mib: u32,
    /// Keep the cut-outs of the good frames, too: pictures of the tissue, and of nothing else. They never leave the device.
    pub cutouts: bool,
}

/// Figures for Prometheus, see docs/reference/metrics.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Address and port at which they can be fetched, such as `127.0.0.1:9464`; only one of this machine (loopback), because
    /// whoever reaches it can read them. Without it there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub listen: Option<SocketAddr>,
}

/// When the daemon counts as stuck.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Age in seconds of the last analysed frame from which on systemd's watchdog is no longer fed.
    #[schemars(range(min = 1, max = 600))]
    pub stale_frame_s: f64,
    /// Age in milliseconds from which on a frame is not judged: it shows who was there, not who is.
    #[schemars(range(min = 20, max = 10_000))]
    pub late_frame_ms: u32,
}

impl Default for Quality {
    fn default() -> Self {
        // docs/design/quality.md has the distributions that these were read from.
        Self {
            min_tissue_px: 1000,
            min_exposure: 0.25,
            max_exposure: 0.80,
            max_clipped: 0.10,
            max_glare: 0.05,
            min_sharpness: 0.02,
            max_motion: 0.25,
            min_red: 1.15,
            max_red: 3.40,
            min_blue: 0.53,
            max_blue: 1.17,
        }
    }
}

impl Default for Exam {
    fn default() -> Self {
        Self { automatic: true, frames: 5, steady_frames: 3, timeout_s: 30.0, absent_s: 1.0 }
    }
}

impl Default for Records {
    fn default() -> Self {
        Self { days: 30, mib: 100, cutouts: false }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self { stale_frame_s: 10.0, late_frame_ms: 100 }
    }
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/anemiad")
}

impl Quality {
    /// The same in the words of the pixel crate.
    pub fn thresholds(&self) -> GateThresholds {
        GateThresholds {
            min_tissue_px: self.min_tissue_px,
            min_exposure: self.min_exposure,
            max_exposure: self.max_exposure,
            max_clipped: self.max_clipped,
            max_glare: self.max_glare,
            min_sharpness: self.min_sharpness,
            max_motion: self.max_motion,
            red: [self.min_red, self.max_red],
            blue: [self.min_blue, self.max_blue],
        }
    }
}

impl Config {
    /// Folder of the classifier in use: an installed one, or that of the configuration.
    pub fn classifier(&self) -> PathBuf {
        Slots::new(&self.state_dir, Task::Classify).current().unwrap_or_else(|| self.model.bundle.clone())
    }

    /// Folder of the locator in use: an installed one, or that of the configuration.
    pub fn locator(&self) -> PathBuf {
        Slots::new(&self.state_dir, Task::Locate).current().unwrap_or_else(|| self.locator.folder())
    }

    /// Fails where whoever runs this may not look for installed models: those of the configuration would be taken for them.
    pub fn check_installed(&self) -> Result<(), String> {
        for task in [Task::Classify, Task::Locate] {
            Slots::new(&self.state_dir, task).check().map_err(|error| {
                format!("{}: {error}; run it as the user of the daemon, or as root", self.state_dir.display())
            })?;
        }
        Ok(())
    }

    /// What the pipeline is made of.
    pub fn parts(&self) -> Parts {
        Parts {
            bundle: self.classifier(),
            precision: self.model.precision,
            options: self.model.engine_options(),
            roi: self.roi,
            locator: Locator { bundle: Some(self.locator()), ..self.locator.clone() },
            limits: self.quality.thresholds(),
        }
    }
}

impl Health {
    /// Age from which on a frame is not judged.
    pub fn late_frame(&self) -> Duration {
        Duration::from_millis(self.late_frame_ms.into())
    }
}

impl Exam {
    /// Time after which an exam ends with "retake".
    pub fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout_s)
    }

    /// Time without conjunctiva after which the next exam can start.
    pub fn absent(&self) -> Duration {
        Duration::from_secs_f64(self.absent_s)
    }
}

impl Config {
    /// Makes relative paths relative to `folder`, which is where the file is.
    fn resolve(&mut self, folder: &Path) {
        let mut paths = vec![&mut self.state_dir, &mut self.model.bundle];
        paths.extend(&mut self.locator.bundle);
        paths.extend(&mut self.model.onnxruntime);
        paths.extend(&mut self.model.tensorrt.library);
        paths.push(&mut self.model.tensorrt.cache);
        paths.extend(self.mqtt.files());
        paths.extend(self.kiosk.files());
        paths.extend(self.model.updates.iter_mut().flat_map(Updates::files));
        paths.extend(self.camera.replay.iter_mut().flat_map(|replay| &mut replay.pictures));
        let credentials = machine::variable("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        for path in paths {
            *path = match (path.strip_prefix(CREDENTIALS), &credentials) {
                (Ok(name), Some(credentials)) => credentials.join(name),
                (Ok(_), None) => continue,
                (Err(_), _) => folder.join(&*path),
            };
        }
    }

    /// What no single key shows: contradictions between keys, as key path and text.
    fn contradictions(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let quality = &self.quality;
        let ranges = [
            ("quality.min_exposure", quality.min_exposure, "max_exposure", quality.max_exposure),
            ("quality.min_red", quality.min_red, "max_red", quality.max_red),
            ("quality.min_blue", quality.min_blue, "max_blue", quality.max_blue),
        ];
        for (key, low, other, high) in ranges.into_iter().filter(|(_, low, _, high)| low >= high) {
            found.push((key, format!("{low} is not below {other} ({high})")));
        }
        let rates =
            [self.camera.replay.as_ref().map(|camera| camera.pace), self.camera.phantom.as_ref().map(|c| c.pace)];
        for pace in rates.into_iter().flatten() {
            if self.health.stale_frame_s < 2.0 / pace.rate_hz {
                let text = format!("{} is less than two frames take at {} Hz", self.health.stale_frame_s, pace.rate_hz);
                found.push(("health.stale_frame_s", text));
            }
        }
        if self.mqtt.password_file.is_some() && self.mqtt.username.is_none() {
            found.push(("mqtt.password_file", "a password needs a username beside it".into()));
        }
        if let Some(tls) = &self.mqtt.tls {
            if tls.certificate.is_some() != tls.key.is_some() {
                found.push(("mqtt.tls", "certificate and key go together: give both or none".into()));
            }
            if self.mqtt.host.contains(':') {
                found.push(("mqtt.host", "TLS needs the name of the broker, or an IPv4 address".into()));
            }
        }
        let page = &self.kiosk;
        if !page.listen.ip().is_loopback() && (page.tls.is_none() || page.token_file.is_none()) {
            let text =
                format!("at {} the network can reach the page: it then needs tls and token_file", page.listen.ip());
            found.push(("kiosk.listen", text));
        }
        if let Some(listen) = self.metrics.listen.filter(|listen| !listen.ip().is_loopback()) {
            let text = format!("{} is not an address of this machine only, such as 127.0.0.1", listen.ip());
            found.push(("metrics.listen", text));
        }
        found
    }
}
