//! Encrypted connections to a real mosquitto, and what is said when there can be none.

use std::fs;
use std::path::Path;

use crate::certificates::{Authority, Valid};
use crate::mqtt::{Broker, Subscriber};
use crate::publishing::{finished, until_all_arrived};
use crate::support::{Kiosk, PHANTOMS, QUICK, Settings, eventually, free_port};

/// A broker that wants certificates of its clients, who are then named by them; and one more port for the tests, in the clear.
fn broker(folder: &Path, host: &str) -> (Broker, u16) {
    let path = |name: &str| folder.join(name).display().to_string();
    let clear = free_port();
    let settings = format!(
        "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true\n\
         listener {clear} 127.0.0.1\nallow_anonymous true\nper_listener_settings false\n",
        path("clinic.crt"),
        path(&format!("{host}.crt")),
        path(&format!("{host}.key")),
    );
    (Broker::with(&settings, free_port()), clear)
}

fn kiosk(port: u16, folder: &Path, tls: &str) -> Kiosk {
    let kiosk = Kiosk::new(&Settings { port, camera: PHANTOMS, exam: QUICK, more: "" });
    let text = fs::read_to_string(kiosk.config()).unwrap();
    let tls = tls.replace("FOLDER", &folder.display().to_string());
    // By name: that is what the certificate is for.
    let text = text.replace("  host: 127.0.0.1\n", &format!("  host: localhost\n  tls: {tls}\n"));
    assert!(text.contains("tls:"), "{text}");
    fs::write(kiosk.config(), text).unwrap();
    kiosk
}

const WHOLE: &str = "{ca: FOLDER/clinic.crt, certificate: FOLDER/kiosk.crt, key: FOLDER/kiosk.key}";

fn clinic() -> (tempfile::TempDir, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let clinic = Authority::new(folder.path(), "clinic");
    clinic.vouch_for("localhost", &Valid::Now);
    clinic.vouch_for("kiosk", &Valid::Now);
    (folder, clinic)
}

#[test]
fn results_go_to_a_broker_that_both_sides_have_certificates_for() {
    let (folder, clinic) = clinic();
    let (mut broker, clear) = broker(folder.path(), "localhost");
    let subscriber = Subscriber::new(clear);
    let mut kiosk = kiosk(broker.port, folder.path(), WHOLE);
    kiosk.start();
    subscriber.availability("online");
    subscriber.result();
    // New certificates by a new authority: the files are read again with SIGHUP.
    drop(clinic);
    let renewed = Authority::new(folder.path(), "clinic");
    renewed.vouch_for("localhost", &Valid::Now);
    renewed.vouch_for("kiosk", &Valid::Now);
    broker.stop();
    broker.start_again();
    let subscriber = Subscriber::new(clear);
    kiosk.signal("HUP");
    subscriber.availability("online");
    subscriber.result();
}

/// What the kiosk says of a broker, and that it goes on with its exams all the same.
fn refusal(kiosk: &mut Kiosk, words: &str) {
    kiosk.start();
    eventually(words, || kiosk.log().contains(words).then_some(()));
    eventually("an exam", || (!finished(&kiosk.log()).is_empty()).then_some(()));
    assert!(kiosk.is_running());
}

#[test]
fn a_broker_that_cannot_be_trusted_is_told_by_its_reason() {
    let (folder, clinic) = clinic();
    let path = folder.path();
    let (good, _) = broker(path, "localhost");
    let stranger = tempfile::tempdir().unwrap();
    Authority::new(stranger.path(), "clinic");
    let other_ca = WHOLE.replace("FOLDER/clinic", &format!("{}/clinic", stranger.path().display()));
    refusal(&mut kiosk(good.port, path, &other_ca), "is from nobody in the ca file");
    refusal(&mut kiosk(good.port, path, "{ca: FOLDER/clinic.crt}"), "wants a certificate of this kiosk");

    clinic.vouch_for("broker.clinic", &Valid::Now);
    let (other_name, _) = broker(path, "broker.clinic");
    refusal(&mut kiosk(other_name.port, path, WHOLE), "is for another name");

    clinic.vouch_for("localhost", &Valid::Expired);
    let (expired, _) = broker(path, "localhost");
    refusal(&mut kiosk(expired.port, path, WHOLE), "has expired");
}

#[test]
fn who_is_not_trusted_and_who_speaks_no_tls_is_told_so() {
    let (folder, _clinic) = clinic();
    let path = folder.path();
    let (broker, clear) = broker(path, "localhost");
    let strange = tempfile::tempdir().unwrap();
    Authority::new(strange.path(), "stranger").vouch_for("kiosk", &Valid::Now);
    let unknown = WHOLE.replace("FOLDER/kiosk", &format!("{}/kiosk", strange.path().display()));
    refusal(&mut kiosk(broker.port, path, &unknown), "refused the certificate of this kiosk");
    refusal(&mut kiosk(clear, path, WHOLE), "broker localhost");
    // The other way round.
    let mut plain = Kiosk::phantoms(broker.port);
    refusal(&mut plain, "does it expect TLS at this port?");
}

#[test]
fn a_clock_that_is_not_set_is_told_and_costs_no_result() {
    let (folder, _clinic) = clinic();
    let (broker, clear) = broker(folder.path(), "localhost");
    let Some(library) = ["x86_64", "aarch64"]
        .map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketime.so.1"))
        .into_iter()
        .find(|library| Path::new(library).exists())
    else {
        panic!("libfaketime is not installed (make test-deps)");
    };
    let subscriber = Subscriber::new(clear);
    let mut kiosk = kiosk(broker.port, folder.path(), WHOLE);
    kiosk.environment.push(("LD_PRELOAD", library.into()));
    kiosk.environment.push(("FAKETIME", "@1999-12-31 23:00:00".into()));
    // What the daemon waits by goes on as it is.
    kiosk.environment.push(("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()));
    refusal(&mut kiosk, "is not valid yet; the clock here says 1999-12-31");
    kiosk.signal("TERM");
    kiosk.wait();
    let wanted = finished(&kiosk.log());
    // The clock is set, and the results of 1999 arrive.
    kiosk.environment.clear();
    kiosk.start();
    let mut arrived = std::collections::HashSet::new();
    until_all_arrived(&subscriber, &mut arrived, &wanted);
}

#[test]
fn files_that_cannot_be_used_are_said_and_do_not_replace_those_that_can() {
    let (folder, _clinic) = clinic();
    let (broker, clear) = broker(folder.path(), "localhost");
    let subscriber = Subscriber::new(clear);
    let mut kiosk = kiosk(broker.port, folder.path(), WHOLE);
    kiosk.start();
    subscriber.availability("online");
    let key = folder.path().join("kiosk.key");
    let good = fs::read(&key).unwrap();
    fs::write(&key, "no key").unwrap();
    kiosk.signal("HUP");
    let state = subscriber.state("a refusal", |state| state["config"]["status"] == "refused");
    let detail = state["config"]["detail"].as_str().unwrap();
    assert!(detail.contains("kiosk.key: no private key in PEM"), "{detail}");
    fs::write(&key, good).unwrap();
    kiosk.signal("HUP");
    subscriber.availability("stopped");
    subscriber.availability("online");
}
