//! Results and the broker: nothing is lost, whatever goes away.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::mqtt::{Broker, Message, Subscriber};
use crate::proxy::{Network, Proxy};
use crate::support::{Kiosk, PATIENCE, PHANTOMS, QUICK, Settings, SmallDisk, eventually, free_port, project};

#[test]
fn exams_reach_the_broker_as_the_schema_says() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = Kiosk::phantoms(broker.port);
    kiosk.start();
    subscriber.availability("online");
    subscriber.state("a streaming camera", |state| state["camera"]["status"] == "streaming");
    let first = subscriber.result();
    let second = subscriber.result();
    assert_ne!(first["id"], second["id"]);
    assert_eq!(first["device_id"], "test-kiosk");
    assert_eq!(first["frames"]["good"], 3);
    assert_eq!(first["notice"], "Screening aid, not a diagnosis.");

    let schema = fs::read_to_string(project().join("docs/reference/result.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    for result in [&first, &second] {
        assert!(schema.is_valid(result), "{:?}", schema.iter_errors(result).map(|e| e.to_string()).collect::<Vec<_>>());
    }
    // Whoever subscribes later sees whether the kiosk is there and what it does, and no old result or answer.
    let late = Subscriber::new(broker.port);
    assert!(late.availability("online").retained);
    assert!(late.wait_for("the state", |message| message.topic.ends_with("/state")).retained);
    assert_eq!(subscriber.command("identify", "one", "")["outcome"], "done");
    kiosk.signal("TERM");
    assert!(kiosk.wait().0.success());
    let later = Subscriber::new(broker.port);
    let is_known = |message: &Message| message.topic.ends_with("/availability") || message.topic.ends_with("/state");
    later.none(Duration::from_secs(1), |message| !is_known(message));
}

/// What Home Assistant and Node-RED show as the result of whoever is there.
#[test]
fn the_state_names_a_result_when_the_broker_has_it_and_until_the_next_exam_begins() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = Kiosk::phantoms(broker.port);
    kiosk.start();
    let (newest, named, exams) = (RefCell::new(Value::Null), RefCell::new(Value::Null), Cell::new(0));
    subscriber.wait_for("three exams", |message| {
        if message.topic.ends_with("/result") {
            *newest.borrow_mut() = message.json()["id"].clone();
        }
        if message.topic.ends_with("/state") {
            let state = message.json();
            let phase = state["exam"]["phase"].as_str().unwrap();
            assert!(state["result"].is_null() || !["aligning", "collecting"].contains(&phase), "{state}");
            if !state["result"].is_null() && state["outbox"]["waiting"] == 0 {
                assert_eq!(state["result"], *newest.borrow(), "no other, and not before it was sent");
                exams.set(exams.get() + i32::from(named.replace(state["result"].clone()) != state["result"]));
            }
        }
        exams.get() == 3
    });
}

#[test]
fn home_assistant_is_told_of_the_kiosk_unless_the_configuration_says_no() {
    for (more, wanted) in [("", true), ("  home_assistant: false", false)] {
        let broker = Broker::start();
        let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera: PHANTOMS, exam: QUICK, more });
        kiosk.start();
        Subscriber::new(broker.port).availability("online");
        let late = Subscriber::of("homeassistant/#", broker.port, None);
        if wanted {
            let told = late.wait_for("the device", |_| true);
            assert_eq!(told.topic, "homeassistant/device/anemiad_test-kiosk/config");
            assert_eq!(told.json()["cmps"]["verdict"]["stat_t"], "anemia/test-kiosk/result");
            // It was there before, so the broker has kept it; a kiosk that sends it in this moment is asked once more.
            let kept =
                told.retained || Subscriber::of("homeassistant/#", broker.port, None).wait_for("it", |_| true).retained;
            assert!(kept);
        } else {
            late.none(Duration::from_secs(1), |_| true);
        }
    }
}

#[test]
fn a_killed_daemon_is_offline_by_its_last_will_and_a_stopped_one_says_so() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = Kiosk::phantoms(broker.port);
    kiosk.start();
    subscriber.availability("online");
    kiosk.signal("KILL");
    kiosk.wait();
    subscriber.availability("offline");
    assert!(Subscriber::new(broker.port).availability("offline").retained);
    kiosk.start();
    subscriber.availability("online");
    kiosk.signal("TERM");
    subscriber.availability("stopped");
    assert!(kiosk.wait().0.success());
    let word =
        Subscriber::new(broker.port).wait_for("availability", |message| message.topic.ends_with("/availability"));
    assert_eq!(word.text(), "stopped", "no last will after a clean stop");
}

#[test]
fn results_wait_for_a_broker_that_is_not_there() {
    let port = free_port();
    let mut kiosk = Kiosk::phantoms(port);
    kiosk.start();
    eventually("three finished exams", || (kiosk.log().matches("exam finished").count() >= 3).then_some(()));
    assert!(kiosk.log().contains("Connection refused"), "{}", kiosk.log());

    // kill -9 with results in the outbox, and nobody there to take them.
    kiosk.signal("KILL");
    kiosk.wait();
    let finished = finished(&kiosk.log());
    let broker = Broker::at(port);
    let subscriber = Subscriber::new(broker.port);
    kiosk.start();
    let arrived = subscriber.distinct_results(finished.len());
    assert!(finished.is_subset(&arrived), "finished {finished:?}, arrived {arrived:?}");
}

/// The ids of the exams that the log calls finished.
pub fn finished(log: &str) -> HashSet<String> {
    ids(log, "exam finished", "exam=")
}

/// The ids that follow `mark` in the lines of the log that contain `words`.
fn ids(log: &str, words: &str, mark: &str) -> HashSet<String> {
    let id = |line: &str| line.split(mark).nth(1)?.split_whitespace().next().map(str::to_owned);
    log.lines().filter(|line| line.contains(words)).filter_map(id).collect()
}

#[test]
fn a_broker_that_goes_away_in_mid_exam_costs_no_result() {
    let mut broker = Broker::start();
    let mut kiosk = Kiosk::phantoms(broker.port);
    let subscriber = Subscriber::new(broker.port);
    kiosk.start();
    let mut subscriber = subscriber;
    let mut arrived = HashSet::new();
    for _ in 0..2 {
        arrived.insert(subscriber.result()["id"].as_str().unwrap().to_owned());
        let before = finished(&kiosk.log()).len();
        broker.kill();
        arrived.extend(subscriber.rest());
        eventually("exams without a broker", || (finished(&kiosk.log()).len() >= before + 2).then_some(()));
        // The daemon waits until somebody listens, or the results would go to nobody.
        kiosk.signal("STOP");
        broker.start_again();
        subscriber = Subscriber::new(broker.port);
        kiosk.signal("CONT");
        until_all_arrived(&subscriber, &mut arrived, &finished(&kiosk.log()));
    }
}

/// Waits until all wanted results have arrived.
pub fn until_all_arrived(subscriber: &Subscriber, arrived: &mut HashSet<String>, wanted: &HashSet<String>) {
    let end = Instant::now() + PATIENCE;
    while !wanted.is_subset(arrived) {
        assert!(Instant::now() < end, "finished {wanted:?}, arrived {arrived:?}");
        arrived.insert(subscriber.result()["id"].as_str().unwrap().to_owned());
    }
}

#[test]
fn a_refused_password_is_said_and_a_mended_one_delivers_what_waited() {
    let broker = Broker::with_user("kiosk", "right");
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    fs::write(&password, "wrong\n").unwrap();
    let more = format!("  username: kiosk\n  password_file: {}", password.display());
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera: PHANTOMS, exam: QUICK, more: &more });
    kiosk.start();
    eventually("the refusal", || kiosk.log().contains("refused the user name or password").then_some(()));
    eventually("an exam", || (!finished(&kiosk.log()).is_empty()).then_some(()));
    assert!(kiosk.is_running());
    let subscriber = Subscriber::login(broker.port, Some(("kiosk", "right")));
    // The file is read again for each try.
    fs::write(&password, "right\n").unwrap();
    subscriber.availability("online");
    let wanted = finished(&kiosk.log());
    let mut arrived = HashSet::new();
    until_all_arrived(&subscriber, &mut arrived, &wanted);
}

#[test]
fn a_full_disk_is_said_and_costs_no_result_once_there_is_room_again() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let broker = Broker::start();
    // One follows the state, the other the results.
    let (subscriber, results) = (Subscriber::new(broker.port), Subscriber::new(broker.port));
    let mut kiosk = Kiosk::phantoms(broker.port);
    kiosk.keep_state_on(&disk);
    kiosk.start();
    subscriber.result();
    disk.fill();
    let state = subscriber.state("a full disk", |state| state["outbox"]["detail"] != "");
    assert!(state["outbox"]["detail"].as_str().unwrap().contains("outbox.redb"), "{state}");
    // An exam ends and cannot be written; the next ones go on, and the state still reaches the broker.
    let refused = || ids(&kiosk.log(), "is not on disk yet", "result ");
    eventually("a result that the disk refuses", || (!refused().is_empty()).then_some(()));
    subscriber.state("the next exam", |state| state["exam"]["phase"] == "collecting");
    disk.free();
    subscriber.state("a disk with room", |state| state["outbox"]["detail"] == "");
    let refused = refused();
    let mut arrived = HashSet::new();
    until_all_arrived(&results, &mut arrived, &refused);
    until_all_arrived(&results, &mut arrived, &finished(&kiosk.log()));
    kiosk.signal("TERM");
    assert!(kiosk.wait().0.success());
}

#[test]
fn a_result_that_the_disk_takes_after_a_reload_is_named_and_sent_by_the_new_daemon() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let broker = Broker::start();
    let (subscriber, results) = (Subscriber::new(broker.port), Subscriber::new(broker.port));
    // Slow enough that the disk is full before the exam ends. And nobody leaves, however long the reload takes.
    let camera = "phantom: {width: 640, height: 360, seed: 40, pace: {rate_hz: 4, show_s: 3600, gap_s: 0}}";
    let exam = "{frames: 5, steady_frames: 3, timeout_s: 60, absent_s: 30}";
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera, exam, more: "" });
    kiosk.keep_state_on(&disk);
    kiosk.start();
    disk.fill();
    let state = subscriber.state("a result that waits", |state| state["outbox"]["detail"] != "");
    assert_eq!((&state["exam"]["phase"], &state["result"]), (&"result".into(), &Value::Null));
    let refused = ids(&kiosk.log(), "is not on disk yet", "result ");
    kiosk.signal("HUP");
    kiosk.systemd.wait_for("RELOADING=1");
    kiosk.systemd.wait_for("READY=1");
    subscriber.availability("online");
    disk.free();
    let state = subscriber.state("the result", |state| !state["result"].is_null());
    assert!(refused.contains(state["result"].as_str().unwrap()), "{state} {refused:?}");
    assert_eq!(results.result()["id"], state["result"]);
    assert!(kiosk.is_running());
}

#[test]
fn commands_on_a_full_disk_cost_no_connection_and_are_carried_out_once_there_is_room() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = Kiosk::phantoms(broker.port);
    kiosk.keep_state_on(&disk);
    kiosk.start();
    subscriber.result();
    disk.fill();
    subscriber.state("a full disk", |state| state["outbox"]["detail"] != "");
    subscriber.send("identify", r#"{"id":"stale","expires_at":"2026-01-01T00:00:00Z"}"#);
    subscriber.ask("identify", "good", "");
    eventually("the refusal", || kiosk.log().contains(r#"the command "identify" is refused"#).then_some(()));
    let is_offline = |message: &Message| message.topic.ends_with("/availability") && message.text() != "online";
    subscriber.none(Duration::from_secs(3), is_offline);
    disk.free();
    assert_eq!(subscriber.response("good")["outcome"], "done");
}

#[test]
fn a_state_that_is_not_confirmed_is_waited_for_without_work() {
    let broker = Broker::start();
    let proxy = Proxy::to(broker.port);
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = Kiosk::phantoms(proxy.port);
    kiosk.start();
    subscriber.result();
    proxy.set(Network::Deaf);
    // Time for a state that is not confirmed any more.
    std::thread::sleep(Duration::from_secs(1));
    // The first thread has the link; pixels and camera have their own. In hundredths of a second, see proc_pid_stat(5).
    let spent = || -> u64 {
        let stat = fs::read_to_string(format!("/proc/{0}/task/{0}/stat", kiosk.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    };
    let before = spent();
    std::thread::sleep(Duration::from_secs(4));
    let share = (spent() - before) as f64 / 400.0;
    assert!(share < 0.3, "the link takes {share} of a core while it waits");
}

#[test]
fn each_exam_leaves_a_record_on_the_device_and_no_picture() {
    use std::os::unix::fs::PermissionsExt;
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let mut kiosk = Kiosk::phantoms(broker.port);
    kiosk.start();
    let result = subscriber.result();
    kiosk.signal("TERM");
    kiosk.wait();
    let folder = kiosk.folder.path().join("state/exams");
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700, "a verdict is nobody else's business");
    let path = folder.join(format!("{}.json", result["id"].as_str().unwrap()));
    let record: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(record["result"], result, "the record holds what was published");
    assert_eq!(result["locator"]["name"], "locator");
    let good = record["frames"].as_array().unwrap().iter().filter(|frame| frame["logit"].is_f64()).count();
    assert_eq!(good, 3);
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    assert!(names.into_iter().all(|path| path.extension().is_some_and(|end| end == "json")));
}

#[test]
fn real_cut_outs_are_replayed_into_results() {
    let Some(folder) = crate::support::data("cp-anemic") else { return };
    let broker = Broker::start();
    let subscriber = Subscriber::new(broker.port);
    let pictures = ["Non-anemic/Image_008.png", "Anemic/Image_018.png", "Non-anemic/Image_028.png"];
    let list: Vec<_> = pictures.iter().map(|picture| folder.join(picture).display().to_string()).collect();
    let camera = format!("replay: {{pictures: [{}], pace: {{rate_hz: 25, show_s: 0.6, gap_s: 0.4}}}}", list.join(", "));
    // Two of these crops would be refused as too smooth and too bright.
    let more = "roi: alpha\nquality: {min_sharpness: 0, max_clipped: 1, max_exposure: 1}";
    let mut kiosk = Kiosk::new(&Settings { port: broker.port, camera: &camera, exam: QUICK, more });
    kiosk.start();
    let verdicts: Vec<_> = (0..3).map(|_| subscriber.result()["verdict"].as_str().unwrap().to_owned()).collect();
    assert_eq!(verdicts, ["non_anemic", "anemic", "indeterminate"]);
    // After the last picture the camera has ended, and the daemon stays.
    subscriber.state("the end of the replay", |state| state["camera"]["status"] == "ended");
    assert!(kiosk.is_running());
}
