//! What somebody at the kiosk sees and does.

use std::collections::HashSet;
use std::time::Duration;

use fantoccini::Locator;
use fantoccini::key::Key;
use serde_json::Value;

use crate::browser::{Browser, axe};
use crate::mqtt::{Broker, Subscriber};
use crate::support::{Kiosk, Settings, SmallDisk, free_port};

const BY_COMMAND: &str = "{automatic: false, frames: 5, steady_frames: 2, timeout_s: 20, absent_s: 0.15}";
/// Somebody who stays in view for good.
const STAYS: &str = "phantom: {width: 1280, height: 720, seed: 40, pace: {rate_hz: 15, show_s: 3600, gap_s: 0}}";
/// Nobody, after a moment.
const NOBODY: &str = "phantom: {width: 1280, height: 720, seed: 40, pace: {rate_hz: 15, show_s: 0.1, gap_s: 3600}}";

struct Clinic {
    _broker: Broker,
    subscriber: Subscriber,
    kiosk: Kiosk,
    page: String,
}

fn clinic(camera: &str, more: &str) -> Clinic {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let port = free_port();
    let more = format!("kiosk: {{listen: \"127.0.0.1:{port}\"{more}}}");
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera, exam: BY_COMMAND, more: &more });
    kiosk.start();
    Clinic { _broker: broker, subscriber, kiosk, page: format!("http://127.0.0.1:{port}/") }
}

const VERDICT: &str = "return document.querySelector('#verdict h3') !== null";
const NO_VERDICT: &str = "return document.querySelector('#verdict h3') === null";
const READY: &str =
    "return state !== null && state.camera.status === 'streaming' && !document.getElementById('start').disabled";

#[tokio::test]
async fn a_whole_exam_by_click_by_keyboard_and_by_mqtt() {
    let Some(browser) = Browser::open(1280, 800).await else { return };
    let clinic = clinic(STAYS, "");
    browser.client.goto(&clinic.page).await.unwrap();
    browser.until("the page", READY).await;
    browser.until("a picture", "return document.getElementById('picture').naturalWidth === 640").await;
    assert_eq!(browser.text("#notice").await, "Screening aid, not a diagnosis.");

    browser.client.find(Locator::Css("#start")).await.unwrap().click().await.unwrap();
    let first = clinic.subscriber.result();
    let words = match first["verdict"].as_str().unwrap() {
        "anemic" => "Signs of anemia",
        "non_anemic" => "No sign of anemia",
        "indeterminate" => "Not clear",
        other => panic!("a phantom of this seed is judged, found {other}"),
    };
    browser.until_text("#verdict", words).await;
    let verdict = browser.text("#verdict").await;
    for part in ["Probability of anemia", "5 good", "pallor", "ages 6 to 59 months"] {
        assert!(verdict.contains(part), "{part} in {verdict}");
    }
    assert!(verdict.contains("blood test") || verdict.contains("Test anyway"), "what comes next: {verdict}");
    let symbol = "return document.querySelector('#verdict svg path').getAttribute('d').length > 5";
    assert_eq!(browser.run(symbol).await, Value::Bool(true), "not by colour alone");
    browser.picture("kiosk-result.png").await;

    // Without a mouse: the focus is where the last click was, and Enter presses the button.
    browser.run("document.getElementById('language').focus()").await;
    for _ in 0..5 {
        let script = "return document.activeElement.id === 'start'";
        if browser.run(script).await == Value::Bool(true) {
            break;
        }
        let active = browser.client.active_element().await.unwrap();
        active.send_keys(&char::from(Key::Tab).to_string()).await.unwrap();
    }
    let active = browser.client.active_element().await.unwrap();
    active.send_keys(&char::from(Key::Enter).to_string()).await.unwrap();
    let second = clinic.subscriber.result();
    assert_ne!(first["id"], second["id"]);

    clinic.subscriber.command("start", "by-mqtt", "");
    clinic.subscriber.result();
    browser.client.find(Locator::Css("summary")).await.unwrap().click().await.unwrap();
    browser.until("three results", "return document.querySelectorAll('#results tbody tr').length === 3").await;
    let pictures = "return document.querySelectorAll('#history img').length";
    assert_eq!(browser.run(pictures).await, Value::from(0), "the history has no pictures");
}

#[tokio::test]
async fn an_exam_shows_its_progress_and_guidance_and_can_be_cancelled() {
    let Some(browser) = Browser::open(1280, 800).await else { return };
    let clinic = clinic(NOBODY, "");
    browser.client.goto(&clinic.page).await.unwrap();
    browser.until("the page", READY).await;
    browser.until_text("#guidance", "Pull the lower lid down").await;
    browser.client.find(Locator::Css("#start")).await.unwrap().click().await.unwrap();
    browser.until_text("#progress-text", "Picture 0 of 5").await;
    assert_eq!(browser.run("return document.getElementById('start').disabled").await, Value::Bool(true));
    browser.picture("kiosk-exam.png").await;
    browser.client.find(Locator::Css("#cancel")).await.unwrap().click().await.unwrap();
    browser.until("the end", "return document.getElementById('progress-box').hidden").await;
    clinic.subscriber.none(Duration::from_secs(1), |message| message.topic.ends_with("/result"));
}

#[tokio::test]
async fn each_result_has_a_sign_a_colour_and_a_next_step_of_its_own() {
    let Some(browser) = Browser::open(1280, 800).await else { return };
    let clinic = clinic(NOBODY, "");
    browser.client.goto(&clinic.page).await.unwrap();
    browser.until("the page", READY).await;
    // What the daemon says from now on would take the verdicts below away.
    browser.run("socket.onmessage = () => { heard = performance.now(); }").await;
    let (mut signs, mut colours) = (HashSet::new(), HashSet::new());
    for (verdict, probability, reason, words) in [
        ("anemic", "0.74", "null", ["Signs of anemia", "Confirm with a blood test."]),
        ("non_anemic", "0.31", "null", ["No sign of anemia", "Test anyway if there are other signs."]),
        ("indeterminate", "0.52", "null", ["Not clear", "Confirm with a blood test."]),
        ("retake", "null", "'moving'", ["Please repeat", "Hold still"]),
    ] {
        // As the daemon would send it; no phantom is sure to give each of them.
        browser
            .run(&format!(
                "state.exam.phase = 'idle'; state.result = '{verdict}';
                 results = [{{id: '{verdict}', finished_at: new Date().toISOString(), verdict: '{verdict}',
                              probability: {probability}, reason: {reason}, frames: {{good: 5, rejected: 2}},
                              model: {{name: 'pallor', version: state.model.version, age_months: [6, 59]}}}}];
                 showResults()"
            ))
            .await;
        let shown = browser.text("#verdict").await;
        for word in words {
            assert!(shown.contains(word), "{word} in {shown}");
        }
        let sign = "return document.querySelector('#verdict svg path').getAttribute('d')";
        signs.insert(browser.run(sign).await.to_string());
        let colour = "return getComputedStyle(document.getElementById('verdict')).backgroundColor";
        colours.insert(browser.run(colour).await.to_string());
        browser.picture_of("#verdict", &format!("kiosk-verdict-{verdict}.png")).await;
    }
    assert_eq!((signs.len(), colours.len()), (4, 4), "{signs:?} {colours:?}");
}

#[tokio::test]
async fn a_camera_that_is_not_there_is_told_and_nothing_else_is_red() {
    let Some(browser) = Browser::open(1280, 800).await else { return };
    let clinic = clinic("v4l: {device: /dev/v4l/by-id/no-camera}", "");
    browser.client.goto(&clinic.page).await.unwrap();
    browser.until_text("#parts", "Camera: no camera found").await;
    browser.until_text("#parts", "Results: are sent").await;
    let red = "return [...document.querySelectorAll('#parts .bad')].map((part) => part.innerText).join()";
    assert_eq!(browser.run(red).await, "Camera: no camera found");
    browser.picture_of("#parts", "kiosk-no-camera.png").await;
}

#[tokio::test]
async fn a_verdict_stays_for_the_nurse_and_a_page_that_is_loaded_later_shows_it_too() {
    let Some(browser) = Browser::open(1280, 800).await else { return };
    // One patient, and nobody after.
    let clinic =
        clinic("phantom: {width: 1280, height: 720, seed: 40, pace: {rate_hz: 15, show_s: 6, gap_s: 3600}}", "");
    browser.client.goto(&clinic.page).await.unwrap();
    browser.until("the page", READY).await;
    clinic.subscriber.command("start", "one", "");
    clinic.subscriber.result();
    browser.until("a verdict", VERDICT).await;
    browser.until("an empty chair", "return state.exam.phase === 'idle'").await;
    assert_ne!(browser.text("#verdict").await, "", "it stays for the nurse");
    browser.client.refresh().await.unwrap();
    browser.until("the verdict of who was there last", VERDICT).await;
    // Two minutes later, by the clock of the page.
    browser.run("socket.onmessage = () => { heard = performance.now(); }; ahead += RESULT_MS").await;
    browser.until("no verdict", NO_VERDICT).await;
}

#[tokio::test]
async fn a_result_that_is_not_on_the_disk_yet_lets_nobody_elses_be_seen() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let Some(browser) = Browser::open(1280, 800).await else { return };
    let mut clinic = clinic(STAYS, "");
    clinic.kiosk.signal("TERM");
    clinic.kiosk.wait();
    clinic.kiosk.keep_state_on(&disk);
    clinic.kiosk.start();
    browser.client.goto(&clinic.page).await.unwrap();
    browser.until("the page", READY).await;
    let start = browser.client.find(Locator::Css("#start")).await.unwrap();
    start.click().await.unwrap();
    browser.until("a verdict", VERDICT).await;
    disk.fill();
    start.click().await.unwrap();
    browser.until("the end of the second exam", "return state.exam.phase === 'result' && state.result === null").await;
    browser.until("what is wrong", "return state.outbox.detail !== ''").await;
    assert_eq!(browser.run("return results.length").await, 1);
    assert_eq!(browser.text("#verdict").await, "", "the verdict of the first patient");
    browser.client.refresh().await.unwrap();
    browser.until("the page again", "return state !== null && results.length === 1").await;
    assert_eq!(browser.text("#verdict").await, "", "the verdict of the first patient, on a page that was not there");
    disk.free();
    browser.until("the verdict of the second", VERDICT).await;
    assert_eq!(browser.run("return results.length === 2 && results[0].id === state.result").await, true);
}

#[tokio::test]
async fn a_daemon_that_is_gone_or_stuck_is_unmistakable_and_comes_back() {
    let Some(browser) = Browser::open(1280, 800).await else { return };
    let mut clinic = clinic(STAYS, "");
    browser.client.goto(&clinic.page).await.unwrap();
    browser.until("the page", READY).await;
    let is_lost = "return !document.getElementById('lost').hidden";
    for stuck in [true, false] {
        clinic.kiosk.signal(if stuck { "STOP" } else { "KILL" });
        let took = browser.until("the warning", is_lost).await;
        assert!(took < Duration::from_secs(6), "{took:?}");
        assert!(browser.text("#lost").await.contains("does not answer"));
        browser.picture("kiosk-lost.png").await;
        if stuck {
            clinic.kiosk.signal("CONT");
        } else {
            clinic.kiosk.wait();
            clinic.kiosk.start();
        }
        browser
            .until(
                "the page again",
                "return document.getElementById('lost').hidden && performance.now() - pictured < 1000",
            )
            .await;
    }
    // A camera that is lost is not a daemon that is lost.
    browser.until("the page", READY).await;
}

#[tokio::test]
async fn the_page_speaks_three_languages_and_those_of_the_clinic() {
    let Some(browser) = Browser::open(1280, 800).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let words = folder.path().join("words.yaml");
    std::fs::write(&words, "sw: {language_name: Kiswahili, start: Anza uchunguzi}\n").unwrap();
    let clinic = clinic(STAYS, &format!(", words: {}", words.display()));
    browser.client.goto(&clinic.page).await.unwrap();
    browser.until("the page", READY).await;
    for (language, start) in
        [("fr", "Commencer l’examen"), ("es", "Empezar el examen"), ("sw", "Anza uchunguzi"), ("en", "Start exam")]
    {
        let select = browser.client.find(Locator::Css("#language")).await.unwrap();
        select.select_by_value(language).await.unwrap();
        browser.until_text("#start", start).await;
        assert_eq!(browser.run("return document.documentElement.lang").await, Value::from(language));
    }
    // It is remembered.
    let select = browser.client.find(Locator::Css("#language")).await.unwrap();
    select.select_by_value("es").await.unwrap();
    browser.client.refresh().await.unwrap();
    browser.until_text("#start", "Empezar el examen").await;
    browser.picture("kiosk-spanish.png").await;
}

/// What axe finds at the rules of WCAG 2.2 AA, in short.
const AXE: &str = r#"
const done = arguments[arguments.length - 1];
axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})
  .then((found) => done(found.violations.map((v) => v.id + ": " + v.nodes.map((n) => n.html).join(" "))));
"#;

#[tokio::test]
async fn everybody_can_use_the_page_at_every_size() {
    let Some(axe) = axe() else { return };
    let Some(browser) = Browser::open(1280, 800).await else { return };
    let clinic = clinic(STAYS, "");
    for (width, height) in [(800, 480), (1280, 800), (1920, 1080)] {
        browser.resize(width, height).await;
        browser.client.goto(&clinic.page).await.unwrap();
        browser.until("the page", READY).await;
        // Before an exam, and with a result.
        for with_result in [false, true] {
            if with_result {
                clinic.subscriber.command("start", &format!("{width}-{height}"), "");
                clinic.subscriber.result();
                browser.until("a verdict", VERDICT).await;
                browser.run("document.getElementById('history').open = true").await;
            }
            browser.client.execute(&axe, Vec::new()).await.unwrap();
            let found = browser.client.execute_async(AXE, Vec::new()).await.unwrap();
            assert_eq!(found, Value::Array(Vec::new()), "{width}×{height}, with a result: {with_result}");
            let wide = "return document.documentElement.scrollWidth <= window.innerWidth";
            assert_eq!(browser.run(wide).await, Value::Bool(true), "{width}×{height} scrolls sideways");
            let small = "return [...document.querySelectorAll('button, select, summary')].filter((e) => e.getBoundingClientRect().height < 40).map((e) => e.outerHTML)";
            assert_eq!(browser.run(small).await, Value::Array(Vec::new()), "{width}×{height}: too small for fingers");
            let seen = "const r = document.getElementById('start').getBoundingClientRect(); return r.bottom <= window.innerHeight && r.right <= window.innerWidth";
            assert_eq!(browser.run(seen).await, Value::Bool(true), "{width}×{height}: the button is out of sight");
        }
        browser.picture(&format!("kiosk-{width}.png")).await;
    }
}

#[tokio::test]
async fn a_page_from_elsewhere_starts_nothing_and_sees_nothing() {
    let Some(browser) = Browser::open(1280, 800).await else { return };
    let clinic = clinic(STAYS, "");
    // Another kiosk's page is a page from elsewhere, without a policy of its own that would forbid what it tries.
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in elsewhere.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\nConnection: close\r\n\r\n<title>evil</title>\n");
        }
    });
    browser.client.goto(&clinic.page).await.unwrap();
    browser.until("the page, which answers", READY).await;
    browser.client.goto(&format!("http://localhost:{port}/")).await.unwrap();
    let script = format!(
        "const done = arguments[arguments.length - 1]; const socket = new WebSocket('{}');
         socket.onopen = () => done('open'); socket.onerror = () => done('refused');",
        clinic.page.replace("http", "ws") + "live"
    );
    assert_eq!(browser.client.execute_async(&script, Vec::new()).await.unwrap(), Value::from("refused"));
    for path in ["", "words.json", "script.js"] {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             fetch('{}{path}').then((a) => a.text()).then(() => done('read'), () => done('refused'));",
            clinic.page
        );
        assert_eq!(browser.client.execute_async(&script, Vec::new()).await.unwrap(), Value::from("refused"));
    }
    clinic.subscriber.none(Duration::from_millis(500), |message| message.topic.ends_with("/result"));
}

#[tokio::test]
async fn a_verdict_is_never_shown_to_the_next_patient_and_a_reload_leaves_no_page_behind() {
    let Some(browser) = Browser::open(1280, 800).await else { return };
    let clinic = clinic(STAYS, "");
    browser.client.goto(&clinic.page).await.unwrap();
    browser.until("the page", READY).await;
    browser.client.find(Locator::Css("#start")).await.unwrap().click().await.unwrap();
    clinic.subscriber.result();
    browser.until("a verdict", VERDICT).await;

    // An exam that lasts, in a daemon that took over. However slow this machine is, nobody leaves, and nothing ends by itself.
    let config = std::fs::read_to_string(clinic.kiosk.config()).unwrap();
    let lasting = config.replace("frames: 5", "frames: 31").replace("rate_hz: 15", "rate_hz: 2");
    let lasting = lasting.replace("absent_s: 0.15", "absent_s: 30").replace("timeout_s: 20", "timeout_s: 120");
    std::fs::write(clinic.kiosk.config(), lasting).unwrap();
    clinic.kiosk.signal("HUP");
    browser.until("the new daemon", "return state.exam.wanted === 31 && state.camera.status === 'streaming'").await;
    let results = browser.run("return results.length").await;
    assert_eq!(results, 1, "the history goes on");
    browser.until("the verdict still, as nobody else began", VERDICT).await;
    browser.client.find(Locator::Css("#start")).await.unwrap().click().await.unwrap();
    browser.until("the second exam", "return state.exam.phase === 'collecting' && state.exam.good > 2").await;
    assert_eq!(browser.text("#verdict").await, "");
    browser.client.find(Locator::Css("#cancel")).await.unwrap().click().await.unwrap();
    browser.until("its end", "return state.exam.phase === 'cancelled'").await;
    assert_eq!(browser.text("#verdict").await, "", "the verdict of the first patient came back");

    browser.run("window.before = socket").await;
    clinic.kiosk.signal("HUP");
    browser
        .until("another connection", "return socket !== window.before && socket.readyState === WebSocket.OPEN")
        .await;
    browser.run("state = null").await;
    browser.until("the third daemon", READY).await;
    assert_eq!(browser.run("return state.exam.phase").await, "cancelled", "who cancelled is still in view");
    browser.client.refresh().await.unwrap();
    browser.until("the page again", "return state !== null && results.length === 1").await;
    assert_eq!(browser.text("#verdict").await, "");
}
