//! `anemiad status` and `anemiad exam`: asking the daemon that runs on this machine.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::config;
use crate::local;
use crate::output::say;
use crate::service::Refusal;

/// Say what the daemon is doing, in the words of the page and of MQTT
#[derive(Args)]
pub struct Status {
    /// The configuration file, whose state_dir is looked into
    #[arg(long, default_value = config::FILE)]
    config: PathBuf,
    /// Print JSON: the state, and the figures of telemetry
    #[arg(long)]
    json: bool,
}

/// Start or cancel an exam
#[derive(Args)]
pub struct Exams {
    #[command(subcommand)]
    what: What,
    /// The configuration file, whose state_dir is looked into
    #[arg(long, default_value = config::FILE, global = true)]
    config: PathBuf,
}

#[derive(Subcommand)]
enum What {
    /// Start an exam at once, as the button of the page does
    Start,
    /// End the exam that is running, without a result
    Cancel,
}

fn ask(config: &Path, request: &str) -> Result<Value, Refusal> {
    let state_dir = config::state_dir(config).map_err(|error| Refusal::Configuration(error.to_string()))?;
    local::ask(&state_dir, request).map_err(Refusal::Failure)
}

impl Exams {
    /// Does what was asked for.
    pub fn run(&self) -> Result<(), Refusal> {
        let request = match self.what {
            What::Start => "start",
            What::Cancel => "cancel",
        };
        match ask(&self.config, request)?["refused"].as_str() {
            Some(why) => Err(Refusal::Failure(why.to_owned())),
            None => Ok(()),
        }
    }
}

impl Status {
    /// Does what was asked for.
    pub fn run(&self) -> Result<(), Refusal> {
        let answer = ask(&self.config, "status")?;
        if self.json {
            say(serde_json::to_string_pretty(&answer).map_err(|error| Refusal::Failure(error.to_string()))?);
        } else {
            show(&answer);
        }
        Ok(())
    }
}

fn show(answer: &Value) {
    let (state, figures) = (&answer["state"], &answer["figures"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |name: &str, text: &str| say(format_args!("{name:<11} {text}"));
    // What is wrong stands behind the word, as everywhere.
    let part = |name: &str, more: &str| {
        let (status, detail) = (text(&state[name]["status"]), text(&state[name]["detail"]));
        let all: Vec<_> =
            [status.as_str(), detail.as_str(), more].into_iter().filter(|part| !part.is_empty()).collect();
        line(name, &all.join(", "));
    };
    let uptime = figures["uptime_s"].as_u64().unwrap_or_default();
    let running = format!("{} {}, running for {}", text(&answer["device_id"]), text(&state["version"]), span(uptime));
    line("kiosk", &running);
    let exam = &state["exam"];
    let mut progress = text(&exam["phase"]);
    if progress == "collecting" {
        progress += &format!(", {} of {}", exam["good"], exam["wanted"]);
    }
    if let Some(hint) = exam["hint"].as_str() {
        progress += &format!(", {hint}");
    }
    line("exam", &progress);
    let frames = &figures["frames"];
    let counts: Vec<_> = ["dropped", "missed", "damaged", "late"]
        .into_iter()
        .filter(|kind| frames[kind].as_u64().is_some_and(|count| count > 0))
        .map(|kind| format!("{} {kind}", frames[kind]))
        .collect();
    let comes = ["streaming", "late"].iter().any(|status| state["camera"]["status"] == *status);
    let rate = comes.then(|| format!("{} frames a second", figures["fps"]));
    part("camera", &rate.into_iter().chain(counts).collect::<Vec<_>>().join(", "));
    let model = &state["model"];
    let took = figures["latency_ms"]["inference"].as_f64().map(|took| format!(", {took:.1} ms")).unwrap_or_default();
    part("engine", &format!("{}, {}{took}", text(&model["engine"]), text(&model["precision"])));
    line("model", &format!("{} {}", text(&model["name"]), text(&model["version"])));
    if state["update"]["status"] != "none" {
        part("update", "");
    }
    part("broker", "");
    let outbox = &state["outbox"];
    let trouble = text(&outbox["detail"]);
    let trouble = if trouble.is_empty() { trouble } else { format!(", {trouble}") };
    line("outbox", &format!("{} results wait, {} lost{trouble}", outbox["waiting"], outbox["lost"]));
    part("config", "");
    line("memory", &format!("{} MiB", figures["memory_mib"]));
    for (zone, degrees) in figures["temperatures_c"].as_object().into_iter().flatten() {
        line("temperature", &format!("{degrees} °C {zone}"));
    }
}

fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
