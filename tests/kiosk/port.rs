//! What reaches the port of the page besides browsers.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::certificates::{Authority, Valid};
use crate::mqtt::Broker;
use crate::support::{Kiosk, PHANTOMS, QUICK, Settings, anemiad, eventually, free_port};

fn kiosk(settings: &str) -> (Kiosk, u16) {
    let port = free_port();
    let more = format!("kiosk: {{listen: \"127.0.0.1:{port}\"{settings}}}");
    let mut kiosk = Kiosk::new(&Settings { port: free_port(), camera: PHANTOMS, exam: QUICK, more: &more });
    kiosk.start();
    eventually("the page", || TcpStream::connect(("127.0.0.1", port)).ok());
    (kiosk, port)
}

/// Sends bytes, and gives what comes back until the other side closes, or for a while.
fn send(port: u16, bytes: &[u8], patience: Duration) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The connection of a page, which speaks WebSocket from here on.
fn live(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let upgrade = "GET /live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

fn get(port: u16, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n{headers}\r\n");
    send(port, request.as_bytes(), Duration::from_secs(5))
}

#[test]
fn the_page_is_light_and_comes_with_its_policy() {
    let (_kiosk, port) = kiosk("");
    let all: usize = ["/", "/style.css", "/script.js", "/icon.svg", "/words.json"]
        .iter()
        .map(|path| get(port, path, "").len())
        .sum();
    assert!(all < 60_000, "{all} bytes");
    let answer = get(port, "/", "");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("content-security-policy: default-src 'none'"));
    assert!(!answer.to_lowercase().contains("access-control-allow"), "{answer}");
    // Nothing comes from anywhere else.
    for path in ["/", "/style.css", "/script.js"] {
        let text = get(port, path, "").replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http://") && !text.contains("https://"), "{path}");
    }
    assert!(get(port, "/nowhere", "").starts_with("HTTP/1.1 404"));
    assert!(get(port, "/", "Origin: https://evil.example\r\n").starts_with("HTTP/1.1 403"));
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let evil = format!("GET /live HTTP/1.1\r\nHost: localhost:{port}\r\n{upgrade}Origin: http://evil.example\r\n\r\n");
    assert!(send(port, evil.as_bytes(), Duration::from_secs(2)).starts_with("HTTP/1.1 403"));
    let rebound = format!(
        "GET /live HTTP/1.1\r\nHost: evil.example:{port}\r\n{upgrade}Origin: http://evil.example:{port}\r\n\r\n"
    );
    assert!(send(port, rebound.as_bytes(), Duration::from_secs(2)).starts_with("HTTP/1.1 421"));
}

#[test]
fn slow_and_many_clients_do_not_keep_others_out_for_long() {
    let (mut kiosk, port) = kiosk("");
    let mut slow: Vec<TcpStream> = (0..400).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: ");
    }
    let start = Instant::now();
    eventually("an answer", || get(port, "/", "").starts_with("HTTP/1.1 200").then_some(()));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    // They were hung up on.
    let first = &mut slow[0];
    first.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut rest = Vec::new();
    match first.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(kiosk.is_running());
}

#[test]
fn where_the_network_can_reach_it_the_page_wants_tls_and_a_token() {
    let folder = tempfile::tempdir().unwrap();
    Authority::new(folder.path(), "clinic").vouch_for("localhost", &Valid::Now);
    let token = folder.path().join("token");
    std::fs::write(&token, "token-of-the-clinic\n").unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let settings = format!(
        ", token_file: {}, tls: {{certificate: {}, key: {}}}",
        token.display(),
        path("localhost.crt"),
        path("localhost.key")
    );
    let (daemon, port) = kiosk(&settings);
    let check = || {
        let output = anemiad().args(["check", "--config"]).arg(daemon.config()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check().0, Some(0));
    let fetch = |path: &str, headers: &[&str]| {
        let mut command = std::process::Command::new("curl");
        command.args(["-s", "-i", "--cacert", &folder.path().join("clinic.crt").display().to_string()]);
        for header in headers {
            command.args(["-H", header]);
        }
        let output = command.arg(format!("https://localhost:{port}{path}")).output().expect("curl is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(fetch("/", &[]).starts_with("HTTP/1.1 401"), "{}", fetch("/", &[]));
    assert!(fetch("/words.json", &["Cookie: anemiad=token-of-the-clinic"]).starts_with("HTTP/1.1 200"));
    let signed_in = fetch("/?token=token-of-the-clinic", &[]);
    assert!(signed_in.starts_with("HTTP/1.1 303"), "{signed_in}");
    let set = signed_in.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie").trim_end();
    let (cookie, rules) = set.split_once(';').unwrap();
    for rule in ["HttpOnly", "Secure", "SameSite=Strict"] {
        assert!(rules.contains(rule), "{rule} in {set}");
    }
    assert!(fetch("/", &[&format!("Cookie: {cookie}")]).starts_with("HTTP/1.1 200"), "{set}");
    let signed_in = fetch("/?token=wrong", &[]);
    assert!(signed_in.starts_with("HTTP/1.1 401"), "{signed_in}");
    assert!(!get(port, "/", "").contains("HTTP/1.1 2"), "nothing in the clear");

    // What would leave the kiosk without its page is a mistake.
    let key = std::fs::read(path("localhost.key")).unwrap();
    std::fs::write(path("localhost.key"), "no key").unwrap();
    let (code, error) = check();
    assert!(code == Some(78) && error.contains("kiosk.tls") && error.contains("localhost.key"), "{code:?} {error}");
    std::fs::write(path("localhost.key"), key).unwrap();
    std::fs::write(&token, "short").unwrap();
    let (code, error) = check();
    assert!(code == Some(78) && error.contains("16 characters"), "{code:?} {error}");
    // A reload does not take away the page that is there.
    daemon.signal("HUP");
    eventually("the refusal", || daemon.log().contains("the old one stays").then_some(()));
    assert!(fetch("/words.json", &["Cookie: anemiad=token-of-the-clinic"]).starts_with("HTTP/1.1 200"));
}

/// As when the network gives the kiosk its address only later.
#[test]
fn a_port_that_is_taken_at_the_start_is_tried_again() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let more = format!("kiosk: {{listen: \"127.0.0.1:{port}\"}}");
    let mut kiosk = Kiosk::new(&Settings { port: free_port(), camera: PHANTOMS, exam: QUICK, more: &more });
    kiosk.start();
    eventually("that there is no page", || kiosk.log().contains("there is no page: kiosk.listen").then_some(()));
    drop(taken);
    eventually("the page", || TcpStream::connect(("127.0.0.1", port)).ok());
    assert_eq!(kiosk.log().matches("there is no page").count(), 1, "told once");
}

#[test]
fn whatever_comes_nothing_falls_over() {
    let broker = Broker::start();
    let (mut kiosk, port) = {
        let port = free_port();
        let more = format!("kiosk: {{listen: \"127.0.0.1:{port}\"}}");
        let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera: PHANTOMS, exam: QUICK, more: &more });
        kiosk.start();
        (kiosk, port)
    };
    let quick = Duration::from_millis(200);
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let methods = prop::sample::select(vec!["GET", "POST", "OPTIONS", "", "GET GET", "\u{0}", "PRI"]);
    let request = (methods, "[/a-z.%?=&;#-]{0,40}", "[ -~\r\n]{0,200}", prop::collection::vec(any::<u8>(), 0..100));
    runner
        .run(&request, |(method, path, headers, rest)| {
            let mut bytes =
                format!("{method} /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n\r\n")
                    .into_bytes();
            bytes.extend(rest);
            send(port, &bytes, quick);
            Ok(())
        })
        .unwrap();
    // What a page says, that is no page.
    let frame = (
        0u8..16,
        any::<bool>(),
        prop::collection::vec(any::<u8>(), 0..300),
        prop::sample::select(vec![
            "",
            "{\"do\":\"start\"}",
            "{\"look\":true}",
            "{\"do\":7}",
            "{\"look\":true,\"do\":\"cancel\"}",
            "[[[[[[[[",
        ]),
    );
    runner
        .run(&frame, |(kind, masked, rest, text)| {
            let content = if text.is_empty() { rest } else { text.as_bytes().to_vec() };
            let mut bytes = vec![0x80 | kind];
            // A mask of zeros changes nothing.
            bytes.push(if masked { 0x80 } else { 0 } | content.len().min(125) as u8);
            if masked {
                bytes.extend([0; 4]);
            }
            bytes.extend(content);
            let mut page = live(port);
            let _ = page.write_all(&bytes);
            let _ = page.shutdown(std::net::Shutdown::Write);
            page.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let _ = page.read_to_end(&mut Vec::new());
            Ok(())
        })
        .unwrap();
    assert!(get(port, "/", "").starts_with("HTTP/1.1 200"));
    assert!(kiosk.is_running());
    assert!(!kiosk.log().contains("panicked"), "{}", kiosk.log());
}
