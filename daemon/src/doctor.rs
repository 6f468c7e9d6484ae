//! `anemiad doctor`: everything that the daemon needs, looked at one after the other.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anemia_bundle::{Bundle, Task};
use anemia_engine::{Board, kept_plans, open_library};
use anemia_tensorrt::{Device, Shim};

use crate::config::{self, Config, EngineKind};
use crate::kiosk;
use crate::local;
use crate::machine;
use crate::output::say;
use crate::publish::Link;

/// How long the broker may take to answer.
const BROKER_PATIENCE: Duration = Duration::from_secs(2);

/// What was found.
enum Finding {
    /// As it should be.
    Good(String),
    /// The daemon runs, and could run better.
    Poor(String),
    /// The daemon does not run, or not as the configuration says.
    Bad(String),
}

use Finding::{Bad, Good, Poor};

/// Looks at everything and prints a line for each thing; says whether nothing is bad.
pub fn run(path: &Path) -> bool {
    let mut report = Report { bad: 0 };
    match config::load(path) {
        Ok(config) => {
            report.line("configuration", Good(path.display().to_string()));
            report.all(&config);
        }
        Err(error) => report.line("configuration", Bad(error.to_string())),
    }
    match report.bad {
        0 => say("nothing is wrong"),
        1 => say("1 thing is wrong"),
        many => say(format_args!("{many} things are wrong")),
    }
    report.bad == 0
}

struct Report {
    bad: usize,
}

impl Report {
    fn line(&mut self, what: &str, found: Finding) {
        let (mark, text) = match &found {
            Good(text) => ("ok", text),
            Poor(text) => ("poor", text),
            Bad(text) => ("BAD", text),
        };
        self.bad += usize::from(matches!(found, Bad(_)));
        say(format_args!("{mark:<5} {what:<18} {}", text.lines().collect::<Vec<_>>().join("; ")));
    }

    fn all(&mut self, config: &Config) {
        self.line("state folder", writable(&config.state_dir, Bad));
        self.line("broker", broker(config));
        if config.kiosk.page {
            self.line("page", page(config));
        }
        if let Some(updates) = &config.model.updates {
            let key = anemia_bundle::read_public_key(&updates.key);
            self.line("model updates", key.map_or_else(Bad, |_| Good(format!("signed by {}", updates.key.display()))));
        }
        match Bundle::open_whole(&config.classifier(), Task::Classify) {
            Ok(bundle) => {
                let manifest = bundle.manifest();
                let all: Vec<_> = manifest.models.iter().map(|model| model.precision.to_string()).collect();
                self.line("model", Good(format!("{} {}: {}", manifest.name, manifest.version, all.join(", "))));
                let wanted = config.model.precision;
                let found = anemia_engine::check(&bundle, wanted.fixed(), &config.model.engine_options());
                let good = |()| Good(wanted.fixed().map_or("auto".into(), |precision| precision.to_string()));
                self.line("precision", found.map_or_else(|error| Bad(error.to_string()), good));
                if config.model.engine == EngineKind::Tensorrt {
                    self.plans(config, &format!("{} {}", manifest.name, manifest.version));
                }
            }
            Err(error) => self.line("model", Bad(error.to_string())),
        }
        if config.roi == config::Roi::Auto {
            let opened = Bundle::open_whole(&config.locator(), Task::Locate);
            self.line(
                "locator",
                match opened {
                    Ok(bundle) => Good(format!("{} {}", bundle.manifest().name, bundle.manifest().version)),
                    Err(error) => Bad(error.to_string()),
                },
            );
        }
        match config.model.engine {
            EngineKind::Onnxruntime => {
                let found = open_library(config.model.onnxruntime.as_deref());
                let good = |(path, version): (PathBuf, String)| Good(format!("{version}, {}", path.display()));
                self.line("ONNX Runtime", found.map_or_else(|error| Bad(error.to_string()), good));
            }
            EngineKind::Tensorrt => self.tensorrt(config),
        }
        let machine::Speed { power_mode, gpu_hz } = machine::speed();
        if let Some(mode) = power_mode {
            self.line("power mode", Good(mode.to_string()));
        }
        if let Some([now, most]) = gpu_hz {
            self.line("GPU clock", Good(format!("{:.0} of {:.0} MHz", now / 1e6, most / 1e6)));
        }
    }

    fn tensorrt(&mut self, config: &Config) {
        let settings = &config.model.tensorrt;
        let shim = Shim::open(settings.library.as_deref());
        match &shim {
            Ok(shim) => {
                let versions = shim.versions();
                let kind = if versions.is_rtx { "TensorRT-RTX" } else { "TensorRT" };
                self.line("TensorRT", Good(format!("{kind} {}, {}", versions.library, shim.path().display())));
                // It starts a builder, which needs the GPU; without one, the next line says so.
                if let Ok(platform) = shim.platform() {
                    let yes = |flag: Option<bool>| flag.map_or("not told", |flag| if flag { "yes" } else { "no" });
                    let cores = platform.dla_cores.map_or("not told".into(), |cores| cores.to_string());
                    let (fp16, int8) = (yes(platform.fast_fp16), yes(platform.fast_int8));
                    self.line("fast arithmetic", Good(format!("fp16 {fp16}, int8 {int8}, DLA cores {cores}")));
                }
            }
            Err(error) => self.line("TensorRT", Bad(error.to_string())),
        }
        let board = Device::first().and_then(|device| Ok((Board::detect(&device)?, device.driver_version()?)));
        match board {
            Ok((board, (major, minor))) => {
                let (high, low) = board.compute_capability;
                self.line("GPU", Good(format!("{}, sm_{high}{low}, CUDA {major}.{minor}", board.gpu)));
                let linux = board.jetson_linux.as_deref().map(|version| {
                    let jetpack =
                        board.jetpack().map_or("an unknown JetPack".into(), |found| format!("JetPack {found}"));
                    format!("{}, Jetson Linux {version} ({jetpack})", board.name)
                });
                self.line("board", Good(linux.unwrap_or_else(|| board.name.clone())));
                if let Some(fault) = shim.ok().and_then(|shim| board.known_fault(shim.versions().library)) {
                    self.line("board", Bad(fault.to_owned()));
                }
            }
            Err(error) => self.line("GPU", Bad(error.to_string())),
        }
    }

    /// The plans of a model, by its name and version.
    fn plans(&mut self, config: &Config, model: &str) {
        let cache = &config.model.tensorrt.cache;
        self.line("plan folder", writable(cache, Poor));
        let all = kept_plans(cache).unwrap_or_default();
        let own: Vec<_> = all.iter().filter(|plan| plan.model == model).collect();
        let found = match own.iter().find_map(|plan| plan.refused.as_ref()) {
            Some(refusal) => Poor(format!("one of them is wrong: {}", refusal.cause)),
            None if own.is_empty() => Poor(
                "none of this model; the next start builds one, which takes minutes: `anemiad engine build`".into(),
            ),
            None => Good(format!("{} of this model; `anemiad engine list` shows them", own.len())),
        };
        self.line("plans", found);
    }
}

/// Whether files can be made in a folder; `or` is how bad it is when not. It is not made: it would belong to the wrong user.
fn writable(folder: &Path, or: fn(String) -> Finding) -> Finding {
    if !folder.exists() {
        return Poor(format!("{}: is not there yet; the daemon makes it if it may", folder.display()));
    }
    match tempfile::tempfile_in(folder) {
        Ok(_) => Good(folder.display().to_string()),
        Err(error) => or(format!("{}: cannot be written: {error}", folder.display())),
    }
}

fn page(config: &Config) -> Finding {
    let settings = &config.kiosk;
    if let Err(error) = kiosk::check(settings) {
        return Bad(error);
    }
    // Without its page the daemon runs, and goes on trying.
    match TcpListener::bind(settings.listen) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            if let Err(error) = local::ask(&config.state_dir, "status") {
                let text = "a program has this port, and it does not seem to be the daemon";
                return Poor(format!("kiosk.listen {}: {text}: {error}", settings.listen));
            }
        }
        Err(error) => return Poor(format!("kiosk.listen {}: {error}", settings.listen)),
    }
    Good(format!("http{}://{}", if settings.tls.is_some() { "s" } else { "" }, settings.listen))
}

fn broker(config: &Config) -> Finding {
    let (host, port) = (&config.mqtt.host, config.mqtt.port);
    if let Err(error) = Link::check(&config.mqtt, &config.device_id) {
        return Bad(error);
    }
    let address = match (host.as_str(), port).to_socket_addrs().map(|mut found| found.next()) {
        Ok(Some(address)) => address,
        Ok(None) => return Bad(format!("{host}: has no address")),
        Err(error) => return Bad(format!("{host}: {error}")),
    };
    match TcpStream::connect_timeout(&address, BROKER_PATIENCE) {
        Ok(_) => Good(format!("{host}:{port} answers")),
        // Results wait on disk until it does.
        Err(error) => Poor(format!("{host}:{port} does not answer: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_that_cannot_be_written_is_told() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(writable(&file, Bad), Bad(text) if text.contains("cannot be written")));
        assert!(matches!(writable(&root.path().join("new"), Bad), Poor(text) if text.contains("is not there yet")));
        assert!(!root.path().join("new").exists());
        assert!(matches!(writable(root.path(), Bad), Good(_)));
    }
}
