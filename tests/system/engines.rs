//! The daemon on a board: the real shim, on a TensorRT and a CUDA driver that run on the processor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::bundles::{mean, write};
use crate::fake;
use crate::mqtt::{Broker, Subscriber};
use crate::support::{Kiosk, PHANTOMS, QUICK, Settings, SmallDisk, anemiad, free_port, texts};

/// What the mean of the self-test's picture is.
const BRIGHT: f32 = 0.377;

/// A folder with the fake libcuda.so and the shims.
fn libraries() -> &'static Path {
    static LIBRARIES: OnceLock<TempDir> = OnceLock::new();
    let build = || {
        let folder = tempfile::tempdir().unwrap();
        fake::build_cuda(folder.path());
        for version in [802, 1000] {
            fake::build_shim(version, &folder.path().join(format!("shim-{version}.so")), &[]);
        }
        folder
    };
    LIBRARIES.get_or_init(build).path()
}

/// Lets a program find the fake driver under its name.
fn on_the_board(mut command: Command) -> Command {
    command.env("LD_LIBRARY_PATH", libraries());
    command
}

/// A kiosk with TensorRT and a network that gives the mean; `version` is that of TensorRT.
fn board(port: u16, version: u32, faults: &str, more: &str) -> Kiosk {
    // The fake TensorRT cannot read the real network that finds the conjunctiva.
    let mut kiosk = Kiosk::new(&Settings { port, camera: PHANTOMS, exam: QUICK, more: "roi: colour" });
    write(&kiosk.folder.path().join("bundle"), &mean(faults), BRIGHT);
    kiosk.set_model(&format!(
        "  bundle: bundle\n  engine: tensorrt\n  tensorrt: {{library: {}, cache: plans}}\n{more}",
        libraries().join(format!("shim-{version}.so")).display()
    ));
    kiosk.environment.push(("LD_LIBRARY_PATH", libraries().to_owned()));
    kiosk
}

fn engine(kiosk: &Kiosk, verb: &str, arguments: &[&str]) -> (String, String, Option<i32>) {
    let mut command = on_the_board(anemiad());
    command.args(["engine", verb, "--config"]).arg(kiosk.config()).args(arguments);
    texts(&command.output().unwrap())
}

fn plans(kiosk: &Kiosk) -> Vec<PathBuf> {
    let files = fs::read_dir(kiosk.folder.path().join("plans")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "plan")).collect()
}

#[test]
fn an_exam_runs_on_tensorrt_and_the_next_start_needs_no_build() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = board(broker.port, 1000, "", "");
    kiosk.start();
    let result = subscriber.result();
    assert_eq!(result["model"]["engine"], "tensorrt 10.0.1");
    assert!(result["probability"].is_f64(), "{result}");
    let log = kiosk.log();
    assert!(log.contains("building the fp32 plan: Building, 3 of 3") && log.contains("was built in"), "{log}");
    assert_eq!(plans(&kiosk).len(), 1);
    kiosk.signal("TERM");
    assert!(kiosk.wait().0.success());
    let length = kiosk.log().len();
    kiosk.start();
    assert!(!kiosk.log()[length..].contains("building"), "{}", kiosk.log());
}

#[test]
fn systemd_is_asked_for_patience_while_a_plan_is_built() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = board(broker.port, 802, "slow-build", "");
    let (config, socket) = (kiosk.config(), kiosk.folder.path().join("notify"));
    let mut command = on_the_board(anemiad());
    command.args(["run", "--config"]).arg(config).env("NOTIFY_SOCKET", socket);
    kiosk.process = Some(command.spawn().unwrap());
    let patience = kiosk.systemd.wait_for("EXTEND_TIMEOUT_USEC=60000000");
    assert!(patience.contains("STATUS=building the fp32 plan"), "{patience}");
    // And whoever watches the broker sees why nothing happens.
    let state = subscriber.state("a build", |state| state["engine"]["status"] == "building");
    assert!(state["engine"]["detail"].as_str().unwrap().contains("building the fp32 plan"), "{state}");
    kiosk.systemd.wait_for("READY=1");
    let state = subscriber.state("the engine", |state| state["engine"]["status"] == "ready");
    assert_eq!(state["model"]["engine"], "tensorrt 8.2.1");
}

#[test]
fn a_gpu_that_hangs_is_left_to_the_watchdog() {
    let mut kiosk = board(free_port(), 802, "hangs-later", "").with_watchdog();
    let text = fs::read_to_string(kiosk.config()).unwrap();
    fs::write(kiosk.config(), format!("{text}health: {{stale_frame_s: 1}}\n")).unwrap();
    kiosk.start();
    kiosk.systemd.wait_for("WATCHDOG=1");
    // Twenty inferences later nothing comes back any more, and after a second of that nobody claims to be alive.
    crate::support::eventually("the watchdog to starve", || {
        kiosk.systemd.is_silent_about("WATCHDOG=1", Duration::from_millis(1500)).then_some(())
    });
    assert!(kiosk.log().contains("systemd's watchdog is not fed any more"), "{}", kiosk.log());
    // Neither does it hold up a stop.
    kiosk.signal("TERM");
    assert!(kiosk.wait().1 < Duration::from_secs(10));
}

#[test]
fn a_gpu_that_gives_nothing_but_errors_ends_the_process_so_that_a_new_one_can_try() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = board(broker.port, 802, "fails-later", "");
    kiosk.start();
    subscriber.state("a failing engine", |state| state["engine"]["status"] == "failing");
    let (status, _) = kiosk.wait();
    assert_eq!(status.code(), Some(1), "{}", kiosk.log());
    assert!(kiosk.log().contains("times in a row; a new process has to try"), "{}", kiosk.log());
}

#[test]
fn auto_and_a_change_of_engine_by_reload() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = board(broker.port, 802, "", "  precision: auto\n");
    kiosk.start();
    assert_eq!(subscriber.result()["model"]["engine"], "tensorrt 8.2.1");
    let text = fs::read_to_string(kiosk.config()).unwrap();
    fs::write(kiosk.config(), text.replace("engine: tensorrt", "engine: onnxruntime")).unwrap();
    kiosk.signal("HUP");
    let state = subscriber.state("another engine", |state| {
        state["model"]["engine"].as_str().is_some_and(|name| name.starts_with("onnxruntime"))
    });
    assert_eq!(state["model"]["precision"], "fp32");
}

#[test]
fn what_the_board_cannot_do_is_refused_with_78_before_anything_is_built() {
    let mut kiosk = board(free_port(), 802, "", "");
    let bundle = kiosk.folder.path().join("bundle");
    let manifest = fs::read_to_string(bundle.join("manifest.yaml")).unwrap();
    let sha256 = anemia_bundle::Sha256::of(&mean(""));
    let own = format!(
        "precision: int8\n  tensorrt: {{path: fp32.onnx, sha256: {sha256}, answers: [{BRIGHT}], tolerance: 0.5}}"
    );
    fs::write(bundle.join("manifest.yaml"), manifest.replace("precision: fp32", &own)).unwrap();
    let text = fs::read_to_string(kiosk.config()).unwrap();
    fs::write(kiosk.config(), text.replace("  engine: tensorrt", "  precision: int8\n  engine: tensorrt")).unwrap();
    for verb in ["check", "run"] {
        let mut command = on_the_board(anemiad());
        command.args([verb, "--config"]).arg(kiosk.config()).env("FAKE_GPU", "62");
        let (_, stderr, code) = texts(&command.output().unwrap());
        assert_eq!(code, Some(78), "{verb}: {stderr}");
        let refusal = stderr.lines().last().unwrap();
        assert!(refusal.contains("(sm_62) cannot run int8") && refusal.contains("fp16"), "{verb}: {stderr}");
        assert!(!kiosk.folder.path().join("plans").exists());
    }
    // The same on a GPU that can.
    kiosk.start();
    kiosk.signal("TERM");
    assert!(kiosk.wait().0.success());
}

#[test]
fn a_lack_of_memory_may_pass_and_a_missing_shim_does_not() {
    let run = |kiosk: &Kiosk| {
        let mut command = on_the_board(anemiad());
        texts(&command.args(["run", "--config"]).arg(kiosk.config()).output().unwrap())
    };
    let (_, stderr, code) = run(&board(free_port(), 802, "build-out-of-memory", ""));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.lines().last().unwrap().contains("ran out of memory"), "{stderr}");
    let kiosk = board(free_port(), 900, "", "");
    let (_, stderr, code) = run(&kiosk);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("shim-900.so") && stderr.contains("sudo anemiad-tensorrt-build"), "{stderr}");
    // Without a GPU the shim may be there and nothing runs.
    let mut command = on_the_board(anemiad());
    let kiosk = board(free_port(), 802, "", "");
    command.args(["run", "--config"]).arg(kiosk.config()).env("FAKE_CUDA", "no-gpu");
    let (_, stderr, code) = texts(&command.output().unwrap());
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("no CUDA-capable device is detected"), "{stderr}");
}

#[test]
fn a_new_configuration_is_built_while_the_old_one_goes_on() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = board(broker.port, 1000, "", "");
    kiosk.start();
    write(&kiosk.folder.path().join("next"), &mean("slow-build"), BRIGHT);
    let text = fs::read_to_string(kiosk.config()).unwrap();
    fs::write(kiosk.config(), text.replace("  bundle: bundle", "  bundle: next")).unwrap();
    kiosk.signal("HUP");
    let state = subscriber.state("a build", |state| state["config"]["status"] == "preparing");
    assert!(state["config"]["detail"].as_str().unwrap().contains("building the fp32 plan"), "{state}");
    assert_eq!(state["engine"]["status"], "ready");
    subscriber.state("the new configuration", |state| state["config"]["status"] == "applied");
    assert_eq!(plans(&kiosk).len(), 2);
}

#[test]
fn engines_are_built_listed_and_measured() {
    let kiosk = board(free_port(), 1000, "", "");
    let (listed, _, code) = engine(&kiosk, "list", &[]);
    assert!(code == Some(0) && listed.contains("no plans; `anemiad engine build` makes them"), "{listed}");
    let (built, told, code) = engine(&kiosk, "build", &[]);
    assert_eq!(code, Some(0), "{built}{told}");
    assert!(
        built.contains("fp32: tensorrt 10.0.1 is ready after") && told.contains("Building: 3 of 3"),
        "{built}{told}"
    );
    let (listed, ..) = engine(&kiosk, "list", &[]);
    assert!(listed.contains("root 0") && listed.contains("tensorrt 10.0.1, Fake"), "{listed}");
    let (measured, told, code) = engine(&kiosk, "bench", &["--runs", "20", "--json"]);
    assert_eq!(code, Some(0), "{measured}{told}");
    let rows: serde_json::Value = serde_json::from_str(&measured).unwrap();
    let row = &rows[0];
    assert_eq!((row["precision"].as_str(), row["engine"].as_str()), (Some("fp32"), Some("tensorrt 10.0.1")));
    let time = |name: &str| row[name].as_f64().unwrap();
    assert!(time("median_ms") <= time("p95_ms") && time("p95_ms") <= time("p99_ms"), "{row}");
    let (_, refused, code) = engine(&kiosk, "bench", &["--precision", "int4"]);
    assert!(code == Some(78) && refused.contains("has no int4 model"), "{refused}");
    let (_, refused, code) = engine(&kiosk, "build", &["--engine", "onnxruntime"]);
    assert!(code == Some(78) && refused.contains("needs no plans"), "{refused}");
}

#[test]
fn the_doctor_says_what_is_there_and_what_is_wrong() {
    let kiosk = board(free_port(), 802, "", "");
    let doctor = |more: &[(&str, &str)]| {
        let mut command = on_the_board(anemiad());
        command.args(["doctor", "--config"]).arg(kiosk.config()).envs(more.iter().copied());
        texts(&command.output().unwrap())
    };
    let (said, _, code) = doctor(&[]);
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "ok    TensorRT           TensorRT 8.2.1",
        "ok    fast arithmetic    fp16 yes, int8 yes, DLA cores 2",
        "ok    GPU                Fake, sm_72, CUDA 10.2",
        "nothing is wrong",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.contains("poor  broker") && said.contains("poor  plans"), "{said}");
    let (said, _, code) = doctor(&[("FAKE_CUDA", "no-gpu")]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("BAD   GPU") && said.contains("things are wrong"), "{said}");
    fs::remove_file(kiosk.folder.path().join("bundle/manifest.yaml")).unwrap();
    let (said, _, code) = doctor(&[]);
    assert!(code == Some(1) && said.contains("BAD   model"), "{said}");
}

#[test]
fn a_full_disk_costs_the_plan_and_not_the_exam() {
    let Some(disk) = SmallDisk::mount(1) else { return };
    disk.fill();
    let mut kiosk = board(free_port(), 802, "", "");
    let text = fs::read_to_string(kiosk.config()).unwrap();
    let cache = disk.folder.path().join("plans").display().to_string();
    fs::write(kiosk.config(), text.replace("cache: plans", &format!("cache: {cache}"))).unwrap();
    kiosk.start();
    assert!(kiosk.log().contains("the plan cannot be kept and is built again at the next start"), "{}", kiosk.log());
    kiosk.signal("TERM");
    assert!(kiosk.wait().0.success());
    let (said, ..) = {
        let mut command = on_the_board(anemiad());
        texts(&command.args(["doctor", "--config"]).arg(kiosk.config()).output().unwrap())
    };
    assert!(said.contains("poor  plans"), "{said}");
}

#[test]
fn plans_are_built_again_by_command_while_the_old_ones_serve() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = board(broker.port, 1000, "slow-build", "");
    kiosk.start();
    subscriber.result();
    let [plan] = plans(&kiosk).try_into().unwrap();
    let before = plan.metadata().unwrap().modified().unwrap();
    subscriber.ask("engine_rebuild", "again", "");
    subscriber.state("the build", |state| state["config"]["status"] == "preparing");
    assert!(subscriber.result()["probability"].is_f64(), "exams go on");
    let answer = subscriber.response("again");
    assert_eq!(answer["outcome"], "done", "{answer}");
    assert!(plan.metadata().unwrap().modified().unwrap() > before, "the plan is a new one");
    assert_eq!(plans(&kiosk).len(), 1);

    // The power goes in the middle of another one.
    subscriber.ask("engine_rebuild", "cut", "");
    subscriber.state("the build", |state| state["config"]["status"] == "preparing");
    kiosk.signal("KILL");
    kiosk.wait();
    kiosk.start();
    let answer = subscriber.response("cut");
    assert_eq!((&answer["outcome"], &answer["reason"]), (&"failed".into(), &"interrupted".into()), "{answer}");
}

#[test]
fn a_newer_model_gets_its_plan_before_it_takes_over() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let keys = tempfile::tempdir().unwrap();
    let name = keys.path().join("clinic").display().to_string();
    let run = |arguments: &[&str]| {
        let (out, error, code) = texts(&on_the_board(anemiad()).args(arguments).output().unwrap());
        assert_eq!(code, Some(0), "{arguments:?}: {error}");
        out
    };
    run(&["model", "keygen", &name]);
    let mut kiosk = board(broker.port, 1000, "", &format!("  updates: {{key: {name}.pub}}\n"));
    kiosk.start();
    let old = subscriber.result()["model"]["sha256"].clone();
    // The same network under another temperature: another model.
    let bundle = keys.path().join("newer");
    write(&bundle, &mean("slow-build"), BRIGHT);
    let out = keys.path().join("newer.anemia").display().to_string();
    let (folder, config) = (bundle.display().to_string(), kiosk.config().display().to_string());
    run(&["model", "sign", &folder, "--key", &format!("{name}.key"), "--out", &out]);
    run(&["model", "install", &out, "--config", &config]);
    assert_eq!(plans(&kiosk).len(), 2, "the plan is there before the switch");
    let length = kiosk.log().len();
    kiosk.signal("HUP");
    let state = subscriber.state("the newer one", |state| state["update"]["status"] == "proving");
    assert_ne!(state["model"]["sha256"], old);
    assert!(!kiosk.log()[length..].contains("building"), "{}", kiosk.log());
}
