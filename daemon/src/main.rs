//! `anemiad`: screening for anemia from the colour of the inner eyelid.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anemia_bundle::{Bundle, Precision, Task};
use anemiad::models::Models;
use anemiad::publish::Link;
use anemiad::service::{Refusal, check_beside};
use anemiad::status::{Exams, Status};
use anemiad::{analyze, cameras, config, doctor, engines, machine, phantoms, run};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Exit code for a configuration that must be mended (EX_CONFIG of sysexits.h); systemd does not restart after it.
const BAD_CONFIGURATION: u8 = 78;
/// Exit code for what may be better the next time.
const FAILURE: u8 = 1;

/// Screening for anemia from the colour of the inner eyelid. A screening aid, not a diagnosis.
#[derive(Parser)]
#[command(name = "anemiad", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon
    Run(ConfigFile),
    /// Check a configuration file and say everything that is wrong with it
    Check(ConfigFile),
    /// Look at everything that the daemon needs, and say what is wrong with it
    Doctor(ConfigFile),
    /// Say what the daemon is doing
    Status(Status),
    /// Start or cancel an exam of the daemon
    Exam(Exams),
    /// List cameras, show what they can, and save what they see
    Camera(cameras::Cameras),
    /// Build, list and measure the engines of a model
    Engine(engines::Engines),
    /// Install newer models, roll them back, and sign them
    Model(Models),
    /// Analyze pictures from disk
    Analyze(Box<analyze::Analyze>),
    /// Render phantoms: eyes with a known mask and a known pallor
    Phantom(phantoms::Phantoms),
    /// Show the whole way from camera to broker, with phantoms and a broker in the program
    #[cfg(feature = "demo")]
    Demo(anemiad::demo::Demo),
}

#[derive(clap::Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long, default_value = config::FILE)]
    config: PathBuf,
}

fn main() -> ExitCode {
    anemia_engine::forbid_telemetry();
    anemiad::allocator::keep_little();
    let arguments = Arguments::parse();
    ExitCode::from(run_command(arguments.command))
}

fn run_command(command: Command) -> u8 {
    match command {
        Command::Run(file) => {
            // The client says of each refusal what we say once.
            start_log("info,rumqttc=error");
            let code = finish(in_runtime(run::run(&file.config)).and_then(|outcome| outcome));
            // A thread may be left behind in TensorRT or CUDA, where nothing can stop it.
            anemia_tensorrt::exit_at_once(code)
        }
        Command::Check(file) => finish(check(&file.config)),
        Command::Doctor(file) => match doctor::run(&file.config) {
            true => 0,
            false => FAILURE,
        },
        Command::Status(status) => finish(status.run()),
        Command::Exam(exams) => finish(exams.run()),
        Command::Camera(cameras) => {
            start_log("warn");
            finish(cameras.run())
        }
        Command::Engine(engines) => {
            start_log("warn");
            finish(engines.run())
        }
        Command::Model(models) => {
            start_log("warn");
            finish(models.run())
        }
        Command::Analyze(analyze) => match analyze.run() {
            Ok(true) => 0,
            Ok(false) => FAILURE,
            Err(error) => finish(Err(Refusal::Failure(format!("{error:#}")))),
        },
        Command::Phantom(phantoms) => finish(phantoms.run().map_err(|error| Refusal::Failure(format!("{error:#}")))),
        #[cfg(feature = "demo")]
        Command::Demo(demo) => {
            start_log("warn,rumqttd=off");
            finish(in_runtime(demo.run()).and_then(|outcome| outcome))
        }
    }
}

#[allow(clippy::print_stdout)]
fn check(path: &std::path::Path) -> Result<(), Refusal> {
    let refuse = |error: &dyn std::fmt::Display| Refusal::Configuration(error.to_string());
    let config = config::load(path).map_err(|error| refuse(&error))?;
    config.check_installed().map_err(Refusal::Failure)?;
    let open = |folder: &std::path::Path, task| Bundle::open_whole(folder, task).map_err(|error| refuse(&error));
    let bundle = open(&config.classifier(), Task::Classify)?;
    anemia_engine::check(&bundle, config.model.precision.fixed(), &config.model.engine_options())?;
    if config.roi == config::Roi::Auto {
        let locator = open(&config.locator(), Task::Locate)?;
        anemia_engine::check(&locator, Some(Precision::Fp32), &config.model.engine_options())?;
    }
    Link::check(&config.mqtt, &config.device_id).map_err(|error| refuse(&error))?;
    check_beside(&config)?;
    println!("{}: no mistakes", path.display());
    Ok(())
}

fn in_runtime<T>(work: impl Future<Output = T>) -> Result<T, Refusal> {
    // Of the threads that wait for the disk, the one that was idle for longest gets the next piece of work. With the usual ten
    // seconds, all that a moment of much work has made stay for ever, as there is a piece now and then for each.
    let idle = std::time::Duration::from_millis(250);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().thread_keep_alive(idle).build();
    let runtime = runtime.map_err(|error| Refusal::Failure(format!("the runtime cannot start: {error}")))?;
    let outcome = runtime.block_on(work);
    // A write that hangs on a broken disk must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    Ok(outcome)
}

#[allow(clippy::print_stderr)]
fn finish(outcome: Result<(), Refusal>) -> u8 {
    let Err(refusal) = outcome else { return 0 };
    for line in refusal.to_string().lines() {
        eprintln!("anemiad: {line}");
    }
    match refusal {
        Refusal::Configuration(_) | Refusal::Model(_) => BAD_CONFIGURATION,
        Refusal::Failure(_) => FAILURE,
    }
}

/// Logs to the journal of systemd, with fields, if standard error goes there; otherwise to standard error. `RUST_LOG` chooses
/// what.
fn start_log(default: &str) {
    let wanted = machine::variable("RUST_LOG").and_then(|wanted| EnvFilter::try_new(wanted.to_str()?).ok());
    let filter = wanted.unwrap_or_else(|| EnvFilter::new(default));
    let to_journal = machine::variable("JOURNAL_STREAM").is_some();
    // `journalctl ANEMIAD_EXAM=…` finds what was said of an exam.
    let journal = to_journal.then(|| tracing_journald::layer().ok()).flatten();
    let journal =
        journal.map(|layer| layer.with_field_prefix(Some("ANEMIAD".into())).with_syslog_identifier("anemiad".into()));
    let text = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let log = tracing_subscriber::registry().with(filter);
    match journal {
        Some(journal) => log.with(journal).init(),
        None if to_journal => log.with(text.with_ansi(false).without_time()).init(),
        None => log.with(text.with_ansi(std::io::stderr().is_terminal())).init(),
    }
}
