//! Commands over a real broker: each is answered once, and none of them does more than it says.

use std::time::Duration;

use crate::mqtt::{Broker, Subscriber};
use crate::support::{Kiosk, PHANTOMS, Settings};

const BY_COMMAND: &str = "{automatic: false, frames: 3, steady_frames: 2, timeout_s: 20, absent_s: 0.15}";
/// Somebody who stays in view for good.
const STAYS: &str = "phantom: {width: 640, height: 360, seed: 40, pace: {rate_hz: 25, show_s: 3600, gap_s: 0}}";
/// Nobody for a minute, after a moment.
const NOBODY: &str = "phantom: {width: 640, height: 360, seed: 40, pace: {rate_hz: 25, show_s: 0.1, gap_s: 60}}";

fn kiosk(camera: &str, more: &str) -> (Broker, Subscriber, Kiosk) {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera, exam: BY_COMMAND, more });
    kiosk.start();
    subscriber.availability("online");
    subscriber.state("frames", |state| state["camera"]["status"] == "streaming");
    (broker, subscriber, kiosk)
}

fn outcome(response: &serde_json::Value) -> (&str, &str) {
    (response["outcome"].as_str().unwrap(), response["reason"].as_str().unwrap_or("none"))
}

#[test]
fn an_exam_is_started_and_cancelled_by_command() {
    let (_broker, subscriber, _kiosk) = kiosk(STAYS, "");
    subscriber.none(Duration::from_secs(1), |message| message.topic.ends_with("/result"));
    assert_eq!(outcome(&subscriber.command("start", "1", "")), ("done", "none"));
    let first = subscriber.result();
    // The same person, once more.
    assert_eq!(outcome(&subscriber.command("start", "2", "")), ("done", "none"));
    assert_ne!(subscriber.result()["id"], first["id"]);
    assert_eq!(outcome(&subscriber.command("cancel", "3", "")), ("refused", "not_now"));

    let (_broker, subscriber, _kiosk) = kiosk(NOBODY, "");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(outcome(&subscriber.command("start", "1", "")), ("done", "none"));
    assert_eq!(outcome(&subscriber.command("start", "2", "")), ("refused", "not_now"));
    assert_eq!(outcome(&subscriber.command("cancel", "3", "")), ("done", "none"));
    subscriber.none(Duration::from_secs(1), |message| message.topic.ends_with("/result"));
}

#[test]
fn a_kiosk_that_takes_no_commands_takes_none() {
    let (_broker, subscriber, _kiosk) = kiosk(STAYS, "  commands: false");
    subscriber.ask("start", "1", "");
    let is_done =
        |message: &crate::mqtt::Message| ["/response", "/result"].iter().any(|end| message.topic.ends_with(end));
    subscriber.none(Duration::from_secs(2), is_done);
}

#[test]
fn what_is_no_command_is_refused_and_a_repeat_is_passed_over() {
    let (_broker, subscriber, mut kiosk) = kiosk(STAYS, "");
    let unknown = subscriber.command("reboot", "a", "");
    assert_eq!((unknown["command"].as_str(), outcome(&unknown)), (Some("reboot"), ("refused", "unknown_command")));
    let update =
        r#","url":"file:///etc/shadow","sha256":"0000000000000000000000000000000000000000000000000000000000000000""#;
    assert_eq!(outcome(&subscriber.command("model_update", "b", update)), ("refused", "malformed"));
    assert_eq!(
        outcome(&subscriber.command("model_update", "b", &update.replace("file:", "https:"))),
        ("refused", "not_allowed")
    );
    subscriber.send("start", r#"{"id":"c","expires_at":"2026-01-01T00:00:00Z"}"#);
    assert_eq!(outcome(&subscriber.response("c")), ("refused", "expired"));
    subscriber.send("start", "\u{0}\u{1}nonsense");
    let answer = subscriber.wait_for("an answer", |message| message.topic.ends_with("/response")).json();
    assert_eq!((answer["id"].is_null(), outcome(&answer)), (true, ("refused", "malformed")));

    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(2);
    let start = format!(r#"{{"id":"twice","expires_at":"{end}"}}"#);
    subscriber.send("start", &start);
    assert_eq!(outcome(&subscriber.response("twice")), ("done", "none"));
    let result = subscriber.result();
    subscriber.send("start", &start);
    // Not after a restart either.
    kiosk.signal("KILL");
    kiosk.wait();
    kiosk.start();
    subscriber.send("start", &start);
    let again = |message: &crate::mqtt::Message| {
        // The result itself may come once more, if the kill came before its confirmation.
        (message.topic.ends_with("/result") && message.json()["id"] != result["id"])
            || (message.topic.ends_with("/response") && message.json()["id"] == "twice")
    };
    subscriber.none(Duration::from_secs(2), again);
}

#[test]
fn a_command_waits_for_a_kiosk_that_is_away_and_not_for_ever() {
    let (_broker, subscriber, mut kiosk) = kiosk(STAYS, "");
    kiosk.signal("TERM");
    kiosk.wait();
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(100);
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(5);
    subscriber.send("start", &format!(r#"{{"id":"soon","expires_at":"{soon}"}}"#));
    subscriber.send("identify", &format!(r#"{{"id":"later","expires_at":"{later}"}}"#));
    std::thread::sleep(Duration::from_millis(200));
    kiosk.start();
    assert_eq!(outcome(&subscriber.response("soon")), ("refused", "expired"));
    assert_eq!(outcome(&subscriber.response("later")), ("done", "none"));
    subscriber.state("the one", |state| state["identify"] == true);
}

#[test]
fn reload_is_answered_by_what_came_of_it() {
    let (_broker, subscriber, kiosk) = kiosk(PHANTOMS, "");
    let text = std::fs::read_to_string(kiosk.config()).unwrap();
    let answer = subscriber.command("reload", "good", "");
    assert_eq!(outcome(&answer), ("done", "none"), "{answer}");
    std::fs::write(kiosk.config(), text.replace("frames: 3", "frames: many")).unwrap();
    let answer = subscriber.command("reload", "bad", "");
    assert_eq!(outcome(&answer), ("failed", "failed"));
    assert!(answer["detail"].as_str().unwrap().contains("exam.frames"), "{answer}");
    let answer = subscriber.command("engine_rebuild", "plans", "");
    assert_eq!(outcome(&answer), ("refused", "not_now"), "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("needs no plans"), "{answer}");
}

#[test]
fn a_message_that_is_too_long_does_not_keep_the_kiosk_away() {
    let (_broker, subscriber, kiosk) = kiosk(STAYS, "");
    subscriber.send("start", &"x".repeat(100_000));
    subscriber.send("start", &"x".repeat(10_000));
    let answer = subscriber.wait_for("an answer", |message| message.topic.ends_with("/response")).json();
    assert_eq!(outcome(&answer), ("refused", "malformed"), "{answer}");
    assert_eq!(outcome(&subscriber.command("identify", "after", "")), ("done", "none"));
    assert!(!kiosk.log().contains("trying again"), "{}", kiosk.log());
}

#[test]
fn a_broker_that_takes_no_results_is_told_and_gets_them_later() {
    let folder = tempfile::tempdir().unwrap();
    let acl = folder.path().join("acl");
    let rights = |more: &str| {
        std::fs::write(
            &acl,
            format!("topic readwrite anemia/test-kiosk/state\ntopic readwrite anemia/test-kiosk/availability\n{more}"),
        )
        .unwrap();
    };
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    rights("");
    let mut broker =
        Broker::with(&format!("allow_anonymous true\nacl_file {}\n", acl.display()), crate::support::free_port());
    let mut kiosk = Kiosk::phantoms(broker.port);
    kiosk.start();
    let words = "does not take messages of this kiosk (NotAuthorized); may it write to anemia/test-kiosk/result?";
    crate::support::eventually(words, || kiosk.log().contains(words).then_some(()));
    let wanted = crate::publishing::finished(&kiosk.log());
    rights("topic readwrite anemia/test-kiosk/result\n");
    broker.stop();
    broker.start_again();
    let subscriber = Subscriber::new(broker.port);
    crate::publishing::until_all_arrived(&subscriber, &mut std::collections::HashSet::new(), &wanted);
}

#[test]
fn telemetry_and_metrics_tell_the_same() {
    use std::io::{Read, Write};
    let port = crate::support::free_port();
    let more = format!("  telemetry_s: 1\nmetrics: {{listen: \"127.0.0.1:{port}\"}}");
    let (_broker, subscriber, _kiosk) = kiosk(PHANTOMS, &more);
    subscriber.command("start", "1", "");
    subscriber.result();
    let telemetry = subscriber.wait_for("telemetry", |message| {
        message.topic.ends_with("/telemetry") && message.json()["latency_ms"]["inference"].is_f64()
    });
    let telemetry = telemetry.json();
    let metrics = |host: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        // Closed without a word where there is no room.
        let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut text));
        text
    };
    for elsewhere in ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example"] {
        let refused = metrics(elsewhere);
        assert!(refused.starts_with("HTTP/1.1 421") && !refused.contains("anemiad_"), "{elsewhere}: {refused}");
    }
    assert!(metrics("[::1]:9464").contains("anemiad_frames_total"));
    assert!(metrics(&format!("localhost:{port}")).contains("anemiad_frames_total"));
    let text = metrics(&format!("127.0.0.1:{port}"));
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value(r#"anemiad_frames_total{kind="analysed"}"#) >= telemetry["frames"]["analysed"].as_f64().unwrap());
    assert_eq!(
        value(r#"anemiad_exams_total{verdict="retake"}"#)
            + value(r#"anemiad_exams_total{verdict="anemic"}"#)
            + value(r#"anemiad_exams_total{verdict="non_anemic"}"#)
            + value(r#"anemiad_exams_total{verdict="indeterminate"}"#),
        1.0
    );
    assert_eq!(value(r#"anemiad_broker_status{status="connected"}"#), 1.0);
    assert!(value(r#"anemiad_stage_seconds_count{stage="inference"}"#) >= 3.0);
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(telemetry["memory_mib"].as_f64().unwrap() > 1.0 && telemetry["fps"].as_f64().unwrap() > 1.0, "{telemetry}");

    // Whoever only holds connections gets twenty of them, and keeps others away no longer than that.
    let held: Vec<_> = (0..30).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    for mut refused in &held[20..] {
        // Sooner than after the five seconds that a request may take.
        refused.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let heard = refused.read(&mut [0]).map_err(|error| error.kind());
        assert!(matches!(heard, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)), "{heard:?}");
    }
    drop(held);
    crate::support::eventually("an answer", || metrics("localhost").contains("anemiad_frames_total").then_some(()));
}

#[test]
fn a_terminal_of_this_machine_asks_and_starts() {
    let (_broker, subscriber, mut kiosk) = kiosk(STAYS, "");
    let run = |arguments: &[&str]| {
        let mut command = crate::support::anemiad();
        command.args(arguments).arg("--config").arg(kiosk.config());
        crate::support::texts(&command.output().unwrap())
    };
    assert_eq!(run(&["exam", "start"]).2, Some(0));
    subscriber.result();
    let (_, error, code) = run(&["exam", "cancel"]);
    assert_eq!((code, error.as_str()), (Some(1), "anemiad: no exam is running\n"));
    let (out, _, _) = run(&["status"]);
    for words in [
        concat!("kiosk       test-kiosk ", env!("CARGO_PKG_VERSION"), ", running for"),
        "camera      streaming",
        "engine      ready, onnxruntime",
        "broker      connected",
        "outbox      ",
    ] {
        assert!(out.contains(words), "{words} in {out}");
    }
    let (json, _, _) = run(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["state"]["broker"]["status"], &json["device_id"]), (&"connected".into(), &"test-kiosk".into()));
    assert!(json["figures"]["frames"]["analysed"].as_u64().unwrap() > 3);
    // A file with a mistake is refused, and the daemon goes on: it can still be asked.
    let text = std::fs::read_to_string(kiosk.config()).unwrap();
    std::fs::write(kiosk.config(), format!("{text}xyz: 1\n")).unwrap();
    kiosk.signal("HUP");
    subscriber.state("the refusal", |state| state["config"]["status"] == "refused");
    let (out, error, code) = run(&["status"]);
    assert!(code == Some(0) && out.contains("config      refused"), "{out} {error}");
    std::fs::write(kiosk.config(), text).unwrap();
    kiosk.signal("KILL");
    kiosk.wait();
    let mut command = crate::support::anemiad();
    let (_, error, code) =
        crate::support::texts(&command.arg("status").arg("--config").arg(kiosk.config()).output().unwrap());
    assert!(code == Some(1) && error.contains("is the daemon running?"), "{error}");
}
