//! Newer models, from the workstation that signs them to the kiosk that takes them or not.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anemia_bundle::Sha256;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificates::{Authority, Valid};
use crate::mqtt::{Broker, Subscriber};
use crate::support::{Kiosk, PHANTOMS, QUICK, Settings, SmallDisk, anemiad, eventually, project, texts};

/// A workstation: keys, and the shipped model in newer versions.
struct Workstation {
    folder: tempfile::TempDir,
}

impl Workstation {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        run(&["model", "keygen", &folder.path().join("clinic").display().to_string()]);
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The shipped model as another version, changed by `change`, signed; gives the file and its hash.
    fn release(&self, version: &str, change: impl Fn(&Path)) -> (PathBuf, String) {
        let bundle = self.path(version);
        copy(&project().join("models/pallor"), &bundle);
        let manifest = bundle.join("manifest.yaml");
        let text = fs::read_to_string(&manifest).unwrap();
        let line = text.lines().find(|line| line.starts_with("version:")).unwrap();
        fs::write(&manifest, text.replace(line, &format!("version: {version}"))).unwrap();
        change(&bundle);
        let out = self.path(&format!("{version}.anemia"));
        let key = self.path("clinic.key").display().to_string();
        run(&["model", "sign", &bundle.display().to_string(), "--key", &key, "--out", &out.display().to_string()]);
        let hash = Sha256::of_file(&out).unwrap().as_str().to_owned();
        (out, hash)
    }
}

fn run(arguments: &[&str]) -> String {
    let (out, error, code) = texts(&anemiad().args(arguments).output().unwrap());
    assert_eq!(code, Some(0), "{arguments:?}: {error}");
    out
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// A network that gives wrong answers, with the right hash.
fn spoil(bundle: &Path) {
    let manifest = bundle.join("manifest.yaml");
    let network = bundle.join("fp32.onnx");
    // Weights in its middle are noise: it still is a network.
    let mut bytes = fs::read(&network).unwrap();
    let hash = Sha256::of(&bytes);
    let middle = bytes.len() / 2;
    for (at, byte) in bytes[middle..middle + 20_000].iter_mut().enumerate() {
        *byte = (at * 37 % 251) as u8 & 0x3f;
    }
    fs::write(&network, &bytes).unwrap();
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace(hash.as_str(), Sha256::of(&bytes).as_str())).unwrap();
}

fn kiosk(port: u16, workstation: &Workstation) -> Kiosk {
    let kiosk = Kiosk::new(&Settings { port, camera: PHANTOMS, exam: QUICK, more: "" });
    let bundle = project().join("models/pallor").display().to_string();
    let (key, ca) = (workstation.path("clinic.pub"), workstation.path("clinic.crt"));
    let updates = format!("  bundle: {bundle}\n  updates: {{key: {}, ca: {}}}\n", key.display(), ca.display());
    kiosk.set_model(&updates);
    kiosk
}

/// A kiosk that runs, and a newer model that was installed since.
struct OnTrial {
    kiosk: Kiosk,
    subscriber: Subscriber,
    file: String,
    _broker: Broker,
    _workstation: Workstation,
}

impl OnTrial {
    fn new() -> Self {
        let (broker, workstation) = (Broker::start(), Workstation::new());
        let (file, _) = workstation.release("9.1.0", |_| {});
        let file = file.display().to_string();
        Authority::new(workstation.folder.path(), "clinic");
        let subscriber = Subscriber::new(broker.port);
        let mut kiosk = kiosk(broker.port, &workstation);
        kiosk.start();
        subscriber.result();
        run(&["model", "install", &file, "--config", &kiosk.config().display().to_string()]);
        Self { kiosk, subscriber, file, _broker: broker, _workstation: workstation }
    }
}

/// A web server with a certificate, which gives one file to everybody.
fn serve(workstation: &Workstation, file: PathBuf) -> u16 {
    let clinic = Authority::new(workstation.folder.path(), "clinic");
    clinic.vouch_for("localhost", &Valid::Now);
    let certificate = CertificateDer::from_pem_file(workstation.path("localhost.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(workstation.path("localhost.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut request = [0; 4096];
            if stream.read(&mut request).is_err() {
                continue;
            }
            let body = fs::read(&file).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // Whoever does not like the certificate hangs up.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    port
}

fn update(subscriber: &Subscriber, id: &str, port: u16, hash: &str) -> serde_json::Value {
    let more = format!(r#","url":"https://localhost:{port}/model.anemia","sha256":"{hash}""#);
    subscriber.command("model_update", id, &more)
}

#[test]
fn a_newer_model_is_fetched_tried_and_taken_and_can_be_rolled_back() {
    let (broker, workstation) = (Broker::start(), Workstation::new());
    let (file, hash) = workstation.release("9.1.0", |_| {});
    let port = serve(&workstation, file);
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = kiosk(broker.port, &workstation);
    kiosk.start();
    let before = subscriber.result()["model"]["version"].clone();
    let answer = update(&subscriber, "u1", port, &hash);
    assert_eq!((&answer["outcome"], &answer["detail"]), (&"done".into(), &"pallor 9.1.0 judges".into()), "{answer}");
    subscriber
        .state("the trial", |state| state["update"]["status"] == "proving" && state["model"]["version"] == "9.1.0");
    subscriber.wait_for("a result of the newer model", |message| {
        message.topic.ends_with("/result") && message.json()["model"]["version"] == "9.1.0"
    });
    subscriber.state("the proof", |state| state["update"]["status"] == "installed");
    // It is still there after a restart.
    kiosk.signal("KILL");
    kiosk.wait();
    kiosk.start();
    subscriber
        .state("the start", |state| state["model"]["version"] == "9.1.0" && state["update"]["status"] == "installed");
    let config = kiosk.config().display().to_string();
    assert!(run(&["model", "list", "--config", &config]).lines().any(|line| line.starts_with("* pallor     9.1.0")));
    assert!(run(&["model", "rollback", "--config", &config]).contains("pallor 9.1.0 was rolled back: by hand"));
    kiosk.signal("HUP");
    subscriber.state("the old one", |state| state["model"]["version"] == before);
}

#[test]
fn what_is_not_right_is_refused_and_the_old_one_goes_on() {
    let (broker, workstation) = (Broker::start(), Workstation::new());
    let (good, good_hash) = workstation.release("9.1.0", |_| {});
    let file = workstation.path("served");
    fs::copy(&good, &file).unwrap();
    let port = serve(&workstation, file.clone());
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = kiosk(broker.port, &workstation);
    kiosk.start();
    let before = subscriber.result()["model"].clone();
    let refused = |id: &str, hash: &str, words: &str| {
        let answer = update(&subscriber, id, port, hash);
        assert_eq!(answer["outcome"], "failed", "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(words), "{answer}");
        assert_eq!(subscriber.result()["model"], before, "the old one judges");
    };
    refused("hash", &"0".repeat(64), "another file than the sha256");
    let config = kiosk.config().display().to_string();
    for (arguments, words) in [
        (
            vec!["install", "http://models.example/a.anemia", "--config", &config],
            "expected https://, file:// or a path",
        ),
        (vec!["install", "a.anemia", "--sha256", "abc", "--config", &config], "has 64 hexadecimal digits"),
        (vec!["verify", file.to_str().unwrap()], "is a file, and the folder of a bundle is verified"),
    ] {
        let (_, error, code) = texts(&anemiad().arg("model").args(arguments).output().unwrap());
        assert!(code == Some(1) && error.contains(words), "{error}");
    }

    let (spoilt, hash) = workstation.release("9.2.0", spoil);
    fs::copy(spoilt, &file).unwrap();
    refused("wrong-answers", &hash, "does not run here");

    // Signed by somebody else.
    let stranger = Workstation::new();
    let (strange, hash) = stranger.release("9.3.0", |_| {});
    fs::copy(strange, &file).unwrap();
    refused("stranger", &hash, "the signature is not of this key");

    // A file that was changed after the signature.
    let mut bytes = fs::read(&good).unwrap();
    let picture = bytes.windows(4).rposition(|four| four == b"IDAT").unwrap();
    bytes[picture + 8] ^= 1;
    fs::write(&file, &bytes).unwrap();
    refused("changed", Sha256::of(&bytes).as_str(), "is not the file that the manifest names");
    fs::write(&file, b"no archive at all").unwrap();
    refused("no-archive", Sha256::of(b"no archive at all").as_str(), "archive");
    subscriber.state("the reason", |state| state["update"]["status"] == "rolled_back");

    // A server that nobody vouches for.
    let stranger = Workstation::new();
    let other = serve(&stranger, good);
    let answer = update(&subscriber, "server", other, &good_hash);
    assert!(answer["detail"].as_str().unwrap().contains("is from nobody in the ca file"), "{answer}");
}

#[test]
fn a_model_that_fails_at_the_start_is_rolled_back_by_itself() {
    let (broker, workstation) = (Broker::start(), Workstation::new());
    let (file, _) = workstation.release("9.1.0", |_| {});
    Authority::new(workstation.folder.path(), "clinic");
    let mut kiosk = kiosk(broker.port, &workstation);
    let config = kiosk.config().display().to_string();
    fs::create_dir_all(kiosk.folder.path().join("state")).unwrap();
    run(&["model", "install", &file.display().to_string(), "--config", &config]);
    // The card with the models is damaged.
    let network = kiosk.folder.path().join("state/models/classifier/a/fp32.onnx");
    fs::write(&network, "damaged").unwrap();
    let subscriber = Subscriber::new(broker.port);
    kiosk.start();
    let state = subscriber.state("the old one", |state| state["update"]["status"] == "rolled_back");
    let detail = state["update"]["detail"].as_str().unwrap();
    assert!(detail.starts_with("pallor 9.1.0 was rolled back: ") && detail.contains("fp32.onnx"), "{detail}");
    assert_ne!(state["model"]["version"], "9.1.0");
}

#[test]
fn a_model_that_was_never_loaded_is_not_trusted_and_goes_when_it_cannot_be() {
    let OnTrial { kiosk, subscriber, file, .. } = &OnTrial::new();
    let (config, install) = (kiosk.config().display().to_string(), ["model", "install"]);
    // Longer than a model needs to prove itself: but it is the old one that runs.
    std::thread::sleep(std::time::Duration::from_secs(22));
    assert!(run(&["model", "list", "--config", &config]).contains("9.1.0 has to prove itself"));
    let again = anemiad().args(install).args([file, "--config", &config]).output().unwrap();
    assert!(texts(&again).1.contains("has not proven itself yet"), "{:?}", texts(&again));
    fs::write(kiosk.folder.path().join("state/models/classifier/a/fp32.onnx"), "damaged").unwrap();
    kiosk.signal("HUP");
    subscriber.state("the refusal", |state| state["config"]["status"] == "refused");
    let list = run(&["model", "list", "--config", &config]);
    assert!(list.contains("pallor 9.1.0 was rolled back"), "{list}");
    kiosk.signal("HUP");
    subscriber
        .state("the old one", |state| state["config"]["status"] == "applied" && state["model"]["version"] != "9.1.0");
}

#[test]
fn an_installation_that_is_killed_leaves_the_old_one_or_the_new_one() {
    let workstation = Workstation::new();
    let (file, _) = workstation.release("9.1.0", |_| {});
    Authority::new(workstation.folder.path(), "clinic");
    let kiosk = kiosk(1, &workstation);
    let config = kiosk.config().display().to_string();
    fs::create_dir_all(kiosk.folder.path().join("state")).unwrap();
    let installing = || {
        let mut command = anemiad();
        command.args(["model", "install", &file.display().to_string(), "--config", &config]);
        command.spawn().unwrap()
    };
    let start = std::time::Instant::now();
    assert!(installing().wait().unwrap().success());
    let whole = start.elapsed();
    let mut outcomes = [0, 0];
    for moment in 0..30 {
        // From the start again.
        let _ = anemiad().args(["model", "rollback", "--config", &config]).output().unwrap();
        let mut child = installing();
        // Some of them after its end, also where this machine has more to do than before.
        std::thread::sleep(whole * moment / 8);
        let _ = child.kill();
        child.wait().unwrap();
        let list = run(&["model", "list", "--config", &config]);
        let in_use: Vec<_> = list.lines().filter(|line| line.starts_with("* pallor")).collect();
        assert_eq!(in_use.len(), 1, "{list}");
        let is_new = in_use[0].contains("9.1.0");
        outcomes[usize::from(is_new)] += 1;
        let bundle = in_use[0].split_whitespace().last().unwrap();
        run(&["model", "verify", bundle]);
    }
    println!("killed 30 times: {} times the old one was in use, {} times the new one", outcomes[0], outcomes[1]);
    assert!(outcomes.iter().all(|times| *times > 0), "all kills came too early, or too late: {outcomes:?}");
    let (_, error, code) = texts(&anemiad().args(["model", "verify", "/nowhere"]).output().unwrap());
    assert_eq!(code, Some(1), "{error}");
}

#[test]
fn the_program_minisign_takes_our_signatures_and_we_take_its() {
    let workstation = Workstation::new();
    workstation.release("9.1.0", |_| {});
    let bundle = workstation.path("9.1.0");
    let minisign = |arguments: &[&str]| {
        let done = Command::new("minisign").args(arguments).output().expect("minisign is installed (make test-deps)");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let (manifest, public) = (bundle.join("manifest.yaml"), workstation.path("clinic.pub"));
    let text = |path: &Path| path.display().to_string();
    minisign(&["-V", "-m", &text(&manifest), "-p", &text(&public)]);
    let (own, secret) = (workstation.path("own.pub"), workstation.path("own.key"));
    minisign(&["-G", "-W", "-p", &text(&own), "-s", &text(&secret)]);
    minisign(&["-S", "-m", &text(&manifest), "-s", &text(&secret)]);
    assert!(run(&["model", "verify", &text(&bundle), "--key", &text(&own)]).contains("signed and whole"));
    let (_, error, code) =
        texts(&anemiad().args(["model", "verify", &text(&bundle), "--key", &text(&public)]).output().unwrap());
    assert_eq!(code, Some(1));
    assert!(error.contains("not of this key"), "{error}");
}

#[test]
fn a_mistake_in_the_configuration_costs_no_newer_model() {
    let OnTrial { kiosk, subscriber, .. } = &OnTrial::new();
    let config = kiosk.config().display().to_string();
    let good = fs::read_to_string(kiosk.config()).unwrap();
    fs::write(kiosk.config(), good.replace("mqtt:\n", "mqtt:\n  tls: {ca: /nowhere/ca.pem}\n")).unwrap();
    kiosk.signal("HUP");
    subscriber.state("the refusal", |state| state["config"]["status"] == "refused");
    let list = run(&["model", "list", "--config", &config]);
    assert!(list.contains("9.1.0 has to prove itself"), "{list}");
    // Nor does one that keeps every model from being loaded.
    fs::write(kiosk.config(), good.replace("model:\n", "model:\n  onnxruntime: /nowhere/libonnxruntime.so\n")).unwrap();
    kiosk.signal("HUP");
    subscriber.state("the second refusal", |state| {
        state["config"]["detail"].as_str().is_some_and(|detail| detail.contains("ONNX Runtime is not installed"))
    });
    let list = run(&["model", "list", "--config", &config]);
    assert!(list.contains("9.1.0 has to prove itself"), "{list}");
    fs::write(kiosk.config(), good).unwrap();
    kiosk.signal("HUP");
    subscriber.state("the new one", |state| state["model"]["version"] == "9.1.0");
}

#[test]
fn an_answer_that_a_full_disk_refuses_is_given_once_there_is_room() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let (broker, workstation) = (Broker::start(), Workstation::new());
    Authority::new(workstation.folder.path(), "clinic");
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = kiosk(broker.port, &workstation);
    kiosk.keep_state_on(&disk);
    kiosk.start();
    subscriber.result();
    // A server that takes the call and says nothing, until the disk is full.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/model.anemia", server.local_addr().unwrap().port());
    subscriber.ask("model_update", "late", &format!(r#","url":"{url}","sha256":"{}""#, "0".repeat(64)));
    let call = server.accept().unwrap();
    disk.fill();
    drop((call, server));
    eventually("the answer that the disk refuses", || kiosk.log().contains("was not carried out").then_some(()));
    subscriber.state("a full disk", |state| state["outbox"]["detail"] != "");
    disk.free();
    let answer = subscriber.response("late");
    assert_eq!((&answer["outcome"], &answer["reason"]), (&"failed".into(), &"failed".into()), "{answer}");
}
