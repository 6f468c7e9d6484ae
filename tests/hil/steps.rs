//! The steps of the scenario, in their order.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anemiad::report::ExamResult;
use anyhow::{Context, Result, bail, ensure};
use uuid::Uuid;

use crate::common::wait;
use crate::guest::script;
use crate::kiosk::Kiosk;
use crate::protocol::Protocol;
use crate::receiver::Receiver;

/// Everything that a step works with.
pub struct Scene {
    pub kiosk: Kiosk,
    pub receiver: Receiver,
    /// Before anything was received.
    pub start: Instant,
    pub protocol: Protocol,
}

/// A step.
pub struct Step {
    pub name: &'static str,
    /// It needs an emulated kiosk: it pulls a plug.
    pub needs_emulation: bool,
    /// Without it, nothing after it can be done.
    pub always: bool,
    pub run: fn(&mut Scene) -> Result<()>,
}

const fn step(name: &'static str, run: fn(&mut Scene) -> Result<()>) -> Step {
    Step { name, needs_emulation: false, always: false, run }
}

const fn emulated(name: &'static str, run: fn(&mut Scene) -> Result<()>) -> Step {
    Step { name, needs_emulation: true, always: false, run }
}

pub const STEPS: &[Step] = &[
    Step { name: "install", needs_emulation: true, always: true, run: install },
    step("doctor", doctor),
    step("camera", camera),
    Step { name: "start", needs_emulation: false, always: true, run: start },
    step("restart", restart),
    step("reload", reload),
    step("crash", crash),
    step("hang", hang),
    emulated("unplug", unplug),
    emulated("dead-camera", dead_camera),
    emulated("stream-errors", stream_errors),
    emulated("camera-service", camera_service),
    step("broker", broker),
    emulated("disk-full", disk_full),
    emulated("clock", clock),
    emulated("power-cut", power_cut),
    emulated("unplug-often", unplug_often),
    emulated("open-often", open_often),
    step("bench", bench),
    step("stop", stop),
];

/// How long anything may take on the slowest machine; only what fails waits for it.
const PATIENCE: Duration = Duration::from_secs(90);

/// The camera of the emulated kiosk.
const CAMERA: &str = "/dev/v4l/by-path/platform-vivid.0-video-index0";
const VIVID: &str = "/sys/bus/platform/drivers/vivid";

/// The configuration of the emulated kiosk. Everything is real; but a processor that is itself a program takes a second for the
/// locator's network, so the conjunctiva is found by colour, and an exam takes two frames.
const CONFIG: &str = "\
device_id: emulated
camera:
  v4l: {device: /dev/v4l/by-path/platform-vivid.0-video-index0, format: yuyv}
roi: colour
model: {bundle: /usr/share/anemiad/models/pallor, precision: int8, threads: 2}
exam: {frames: 2, steady_frames: 1, timeout_s: 30, absent_s: 0.3}
health: {late_frame_ms: 100}
mqtt: {host: localhost}
";

impl Scene {
    /// Waits for a result after `since`.
    fn result(&mut self, since: Instant) -> Option<Duration> {
        let found = self.receiver.wait_result(since, PATIENCE);
        let what = found.as_ref().map(|(_, result)| (result.verdict, result.frames.good));
        self.protocol.check(found.is_some(), format_args!("a result comes: {what:?}"));
        found.map(|(at, _)| at - since)
    }

    /// Checks that the process is the one that it was.
    fn same_process(&mut self, pid: &str) -> Result<()> {
        let now = self.kiosk.unit("MainPID")?;
        self.protocol.check(now == pid, format_args!("the daemon is the same process ({pid}, now {now})"));
        Ok(())
    }

    /// The exams of which the kiosk has a record: their results are on its disk.
    fn recorded(&self) -> Result<HashSet<Uuid>> {
        let names = self.kiosk.run("ls /var/lib/anemiad/exams 2>/dev/null || true")?;
        Ok(names.lines().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect())
    }

    /// Checks that every recorded result comes, and that repeats are repeats.
    fn all_results_arrive(&mut self) -> Result<()> {
        let start = self.start;
        let recorded = self.recorded()?;
        let missing = || recorded.difference(&self.receiver.exams(start)).count();
        wait(PATIENCE, || (missing() == 0).then_some(()));
        let lost = missing();
        let count = recorded.len();
        self.protocol.check(lost == 0 && count > 0, format_args!("of {count} results on disk, {lost} are lost"));
        let mut first: HashMap<Uuid, ExamResult> = HashMap::new();
        let (mut repeats, mut differ) = (0, 0);
        for (_, result) in self.receiver.results(start) {
            match first.get(&result.id) {
                Some(known) => {
                    repeats += 1;
                    differ += u32::from(*known != result);
                }
                None => {
                    first.insert(result.id, result);
                }
            }
        }
        self.protocol.check(differ == 0, format_args!("{repeats} repeats, each with the id and the text of the first"));
        Ok(())
    }

    /// Tells the camera's driver something.
    fn vivid(&self, control: &str) -> Result<String> {
        self.kiosk.run(&format!("v4l2-ctl -d {CAMERA} -c {control}"))
    }
}

fn install(scene: &mut Scene) -> Result<()> {
    let guest = scene.kiosk.guest.as_ref().context("no guest")?;
    let (packages, film) = (guest.folder().join("packages"), guest.folder().join("film"));
    let program = PathBuf::from(std::env::var_os("ANEMIAD").context("ANEMIAD does not name the program to test")?);
    let package =
        PathBuf::from(script("scripts/deb.sh", &[&packages, &program])?.lines().last().context("no package")?);
    script("tests/vm/eye.sh", &[&film, &program])?;
    scene.kiosk.send(&film, "/srv/eye")?;
    scene.kiosk.run("systemctl restart eye")?;
    scene.kiosk.send(&package, "/root")?;
    scene.kiosk.run("dpkg -i /root/anemiad_*.deb 2>&1")?;
    let started = wait(PATIENCE, || (scene.kiosk.unit("ActiveState").ok()? == "active").then_some(()));
    scene.protocol.check(started.is_some(), "the package installs, and the daemon runs with the phantom camera");
    scene.kiosk.run(&format!("systemctl stop anemiad\ncat >/etc/anemiad/anemiad.yaml <<'END'\n{CONFIG}END"))?;
    Ok(())
}

fn doctor(scene: &mut Scene) -> Result<()> {
    let report = scene.kiosk.run("runuser -u anemiad -- anemiad doctor || true")?;
    let bad: Vec<_> = report.lines().filter(|line| line.starts_with("BAD")).collect();
    scene
        .protocol
        .check(bad.is_empty() && report.contains("nothing is wrong"), format_args!("the doctor is content {bad:?}"));
    Ok(())
}

fn camera(scene: &mut Scene) -> Result<()> {
    scene.kiosk.run("systemctl stop anemiad")?;
    let list = scene.kiosk.run("anemiad camera list")?;
    scene.protocol.note(list.replace('\n', "; "));
    let show = scene.kiosk.run("runuser -u anemiad -- anemiad camera show")?;
    for line in show.lines() {
        scene.protocol.note(line);
    }
    scene.protocol.check(show.contains("agreed"), "the daemon agrees on a format with its camera");
    let grab = scene.kiosk.run("cd /tmp && runuser -u anemiad -- anemiad camera grab --out /tmp/camera.png")?;
    scene.protocol.check(grab.contains("0 damaged"), format_args!("a picture is taken: {}", grab.replace('\n', "; ")));
    if scene.kiosk.is_emulated() {
        scene.protocol.check(list.contains(CAMERA), "the camera is listed with the path that stays");
        scene.protocol.check(show.contains("1280×720 YUYV"), "as the configuration wishes");
        let judged = scene.kiosk.run("anemiad analyze --roi colour --json /tmp/camera.png || true")?;
        scene.protocol.note(judged);
    }
    Ok(())
}

fn start(scene: &mut Scene) -> Result<()> {
    scene.kiosk.run("systemctl stop anemiad")?;
    let since = Instant::now();
    let time = timed(scene, "systemctl start anemiad")?;
    scene.protocol.figure("`systemctl start` → READY", format_args!("{:.2} s", time.as_secs_f64()), "");
    scene.result(since);
    Ok(())
}

/// Runs a command on the kiosk and gives how long it took there.
fn timed(scene: &Scene, command: &str) -> Result<Duration> {
    let millis =
        scene.kiosk.number(&format!("t0=$(date +%s%N)\n{command}\nt1=$(date +%s%N)\necho $(((t1 - t0) / 1000000))"))?;
    Ok(Duration::from_millis(millis))
}

fn restart(scene: &mut Scene) -> Result<()> {
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        slowest = slowest.max(timed(scene, "systemctl restart anemiad")?);
        std::thread::sleep(Duration::from_secs(1));
    }
    scene.protocol.time("`systemctl restart` → READY, slowest of 3", Some(slowest), Duration::from_secs(2));
    scene.result(Instant::now());
    Ok(())
}

fn reload(scene: &mut Scene) -> Result<()> {
    let pid = scene.kiosk.unit("MainPID")?;
    scene.kiosk.run("systemctl reload anemiad")?;
    let since = Instant::now();
    scene.result(since);
    scene.same_process(&pid)?;
    // A mistake in the file is told and changes nothing.
    scene.kiosk.run("cp /etc/anemiad/anemiad.yaml /run/good.yaml\necho 'mistake: 1' >>/etc/anemiad/anemiad.yaml\nsystemctl reload anemiad || true")?;
    let refused = scene.receiver.wait_state(since, PATIENCE, |state| state["config"]["status"] == "refused");
    scene.protocol.check(refused.is_some(), "a file with a mistake is refused");
    scene.kiosk.run("cat /run/good.yaml >/etc/anemiad/anemiad.yaml\nsystemctl reload anemiad")?;
    scene.result(Instant::now());
    scene.same_process(&pid)
}

/// Does something to the process and gives how long it took until a new one was ready, from the kiosk's own clock.
fn until_ready_again(scene: &Scene, signal: &str) -> Result<Duration> {
    let micros: u64 = scene.kiosk.number(&format!(
        "pid=$(systemctl show -P MainPID anemiad)\nread -r t0 _ </proc/uptime\nkill -{signal} \"$pid\"\n\
         until [ \"$(systemctl show -P MainPID anemiad)\" != \"$pid\" ] && [ \"$(systemctl show -P ActiveState anemiad)\" = active ]\n\
         do sleep 0.1; done\nready=$(systemctl show -P ActiveEnterTimestampMonotonic anemiad)\n\
         awk -v t0=\"$t0\" -v ready=\"$ready\" 'BEGIN {{ printf \"%.0f\\n\", ready - t0 * 1e6 }}'"
    ))?;
    Ok(Duration::from_micros(micros))
}

fn crash(scene: &mut Scene) -> Result<()> {
    let time = until_ready_again(scene, "KILL")?;
    scene.protocol.time("`kill -9` → READY", Some(time), Duration::from_secs(4));
    scene.result(Instant::now());
    Ok(())
}

fn hang(scene: &mut Scene) -> Result<()> {
    let limit: u64 = scene.kiosk.number("systemctl show -P WatchdogUSec anemiad | tr -dc 0-9")?;
    let started: f64 = scene.kiosk.number("cut -d' ' -f1 /proc/uptime")?;
    let time = until_ready_again(scene, "STOP")?;
    let bitten: f64 = scene.kiosk.number(
        "journalctl -u anemiad -o short-monotonic --no-pager | grep 'Watchdog timeout' | tail -n 1 | sed 's/^\\[ *\\([0-9.]*\\)\\].*/\\1/'",
    )?;
    let bite = Duration::try_from_secs_f64(bitten - started).context("the watchdog bit before the hang")?;
    scene.protocol.time("hang → watchdog", Some(bite), Duration::from_secs(limit + 2));
    scene.protocol.figure("hang → READY", format_args!("{:.1} s", time.as_secs_f64()), "");
    scene.result(Instant::now());
    Ok(())
}

/// Unplugs the camera and waits until that is told.
fn pull(scene: &mut Scene) -> Result<()> {
    let since = Instant::now();
    scene.kiosk.run(&format!("echo vivid.0 >{VIVID}/unbind"))?;
    let lost = scene.receiver.wait_state(since, PATIENCE, |state| state["camera"]["status"] == "lost");
    scene.protocol.check(lost.is_some(), "a camera that is unplugged is told as lost");
    Ok(())
}

fn unplug(scene: &mut Scene) -> Result<()> {
    let pid = scene.kiosk.unit("MainPID")?;
    let mut times = Vec::new();
    for _ in 0..3 {
        pull(scene)?;
        let state = scene.receiver.state();
        scene.protocol.note(format_args!("{}", state["camera"]));
        std::thread::sleep(Duration::from_secs(2));
        scene.kiosk.run(&format!("echo vivid.0 >{VIVID}/bind"))?;
        let back = Instant::now();
        times.extend(scene.result(back));
    }
    ensure!(times.len() == 3, "no result after the camera came back");
    scene.protocol.time("camera back → first result, slowest of 3", times.into_iter().max(), Duration::from_secs(5));
    scene.same_process(&pid)
}

fn dead_camera(scene: &mut Scene) -> Result<()> {
    let pid = scene.kiosk.unit("MainPID")?;
    let since = Instant::now();
    // Every call fails while anybody has it open.
    scene.vivid("disconnect=1")?;
    let lost = scene.receiver.wait_state(since, PATIENCE, |state| state["camera"]["status"] == "lost");
    scene.protocol.check(lost.is_some(), "a camera that fails in every call is told as lost");
    scene.result(lost.unwrap_or(since));
    scene.same_process(&pid)
}

fn stream_errors(scene: &mut Scene) -> Result<()> {
    let pid = scene.kiosk.unit("MainPID")?;
    let there = scene.kiosk.run(&format!("v4l2-ctl -d {CAMERA} -L"))?;
    for fault in [
        "inject_fatal_streaming_error",
        "inject_v4l2_buf_flag_error",
        "inject_vidioc_qbuf_error",
        "inject_vidioc_reqbufs_error",
        "inject_vidioc_streamon_error",
    ] {
        if !there.contains(fault) {
            scene.protocol.note(format_args!("{fault} is not in this kernel"));
            continue;
        }
        scene.vivid(&format!("{fault}=1"))?;
        // What strikes at the start of a stream needs one.
        if fault.contains("reqbufs") || fault.contains("streamon") {
            scene.vivid("inject_fatal_streaming_error=1")?;
        }
        scene.protocol.note(fault);
        scene.result(Instant::now());
    }
    scene.same_process(&pid)
}

/// The file that the daemon writes leads to a restart of the service that drives CSI cameras; here a stand-in of that name.
fn camera_service(scene: &mut Scene) -> Result<()> {
    scene.kiosk.run(
        "printf '[Service]\\nExecStart=/bin/sleep infinity\\n' >/run/systemd/system/nvargus-daemon.service\n\
         systemctl daemon-reload\nsystemctl start nvargus-daemon\nsystemctl start anemiad-camera-service.path",
    )?;
    let before = scene.kiosk.run("systemctl show -P MainPID nvargus-daemon")?;
    scene.kiosk.run("runuser -u anemiad -- touch /run/anemiad/restart-camera-service")?;
    let after = wait(PATIENCE, || {
        let now = scene.kiosk.run("systemctl show -P MainPID nvargus-daemon").ok()?;
        (now != before && now != "0").then_some(now)
    });
    scene.protocol.check(after.is_some(), format_args!("the service is restarted ({before}, now {after:?})"));
    let left = scene.kiosk.run("ls /run/anemiad")?;
    scene.protocol.check(left.is_empty(), format_args!("the request is taken away {left}"));
    scene.kiosk.run("systemctl stop anemiad-camera-service.path nvargus-daemon")?;
    Ok(())
}

fn broker(scene: &mut Scene) -> Result<()> {
    let pid = scene.kiosk.unit("MainPID")?;
    let before = scene.recorded()?;
    let away = Instant::now();
    scene.kiosk.run("systemctl stop mosquitto")?;
    let more = wait(PATIENCE, || (scene.recorded().ok()?.len() >= before.len() + 2).then_some(()));
    scene.protocol.check(more.is_some(), "exams go on while the broker is away");
    scene.kiosk.run("systemctl start mosquitto")?;
    ensure!(scene.receiver.wait_subscribed(away, PATIENCE), "the broker does not come back");
    let back = Instant::now();
    let first = scene.receiver.wait_result(back - Duration::from_secs(5), PATIENCE);
    scene.protocol.figure(
        "broker back → first result",
        first.map_or("never".into(), |(at, _)| format!("{:.1} s", at.saturating_duration_since(back).as_secs_f64())),
        "",
    );
    scene.same_process(&pid)
}

fn disk_full(scene: &mut Scene) -> Result<()> {
    let pid = scene.kiosk.unit("MainPID")?;
    let since = Instant::now();
    scene.kiosk.run(
        "df --output=avail -B1 /var/lib/anemiad | tail -n 1 | xargs -I{} fallocate -l {} /var/ballast || true\n\
        cat /dev/zero >/var/ballast2 2>/dev/null || true",
    )?;
    // A result still fits into the room that the outbox has already; when no more does, that is told.
    let held = wait(PATIENCE, || {
        let is_told = scene.receiver.state()["outbox"]["detail"].as_str().is_some_and(|detail| !detail.is_empty());
        (is_told || scene.receiver.results(since).len() >= 3).then_some(is_told)
    });
    let how = match held {
        Some(true) => format!("it is told: {}", scene.receiver.state()["outbox"]["detail"]),
        Some(false) => "results still come".into(),
        None => "nothing comes, and nothing is told".into(),
    };
    scene.protocol.check(held.is_some(), format_args!("with a full disk, {how}"));
    scene.kiosk.run("rm -f /var/ballast /var/ballast2")?;
    scene.result(Instant::now());
    scene.same_process(&pid)
}

fn clock(scene: &mut Scene) -> Result<()> {
    let pid = scene.kiosk.unit("MainPID")?;
    for jump in ["+2 hours", "-5 hours", "+3 hours"] {
        scene.kiosk.run(&format!("date -s \"$(date -d '{jump}')\" >/dev/null"))?;
        scene.protocol.note(jump);
        scene.result(Instant::now());
    }
    scene.same_process(&pid)
}

fn power_cut(scene: &mut Scene) -> Result<()> {
    let start = Instant::now();
    let before = scene.recorded()?;
    // Nobody receives, so everything waits on the disk; and nothing starts by itself before somebody does.
    scene.kiosk.run("systemctl stop mosquitto\nsystemctl disable anemiad 2>/dev/null")?;
    wait(PATIENCE, || (scene.recorded().ok()?.len() >= before.len() + 3).then_some(()));
    let finished: HashSet<Uuid> = scene.recorded()?.difference(&before).copied().collect();
    ensure!(finished.len() >= 3, "no exams end while the broker is away");
    let guest = scene.kiosk.guest.as_mut().context("no guest")?;
    guest.power_off()?;
    let cut = Instant::now();
    guest.power_on()?;
    scene.kiosk.wait_on()?;
    scene.protocol.figure("power back → somebody can log in", format_args!("{:.0} s", cut.elapsed().as_secs_f64()), "");
    ensure!(scene.receiver.wait_subscribed(cut, PATIENCE), "the broker does not come back");
    scene.kiosk.run("systemctl enable --now anemiad 2>/dev/null")?;
    let missing = || finished.difference(&scene.receiver.exams(start)).count();
    wait(PATIENCE, || (missing() == 0).then_some(()));
    let lost = missing();
    scene
        .protocol
        .check(lost == 0, format_args!("of {} results before the power cut, {lost} are lost", finished.len()));
    scene.result(Instant::now());
    scene.all_results_arrive()
}

/// How often a camera is unplugged and opened: as CYCLES says, or as the aim does.
fn cycles(aim: u32) -> u32 {
    std::env::var("CYCLES").ok().and_then(|text| text.parse().ok()).map_or(aim, |cycles: u32| cycles.min(aim))
}

/// Open files, threads, mapped memory areas, and resident memory in kB of the daemon.
fn footprint(scene: &Scene) -> Result<[u64; 4]> {
    let text = scene.kiosk.run(
        "p=$(systemctl show -P MainPID anemiad)\nls /proc/$p/fd | wc -l\nls /proc/$p/task | wc -l\nwc -l </proc/$p/maps\n\
         awk '/VmRSS/ { print $2 }' /proc/$p/status",
    )?;
    let numbers: Vec<u64> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    match numbers[..] {
        [files, threads, areas, memory] => Ok([files, threads, areas, memory]),
        _ => bail!("no footprint in {text:?}"),
    }
}

fn unplug_often(scene: &mut Scene) -> Result<()> {
    let (pid, count) = (scene.kiosk.unit("MainPID")?, cycles(200));
    let cycle = |scene: &mut Scene| -> Result<()> {
        let since = Instant::now();
        scene.kiosk.run(&format!("echo vivid.0 >{VIVID}/unbind\nsleep 0.3\necho vivid.0 >{VIVID}/bind"))?;
        let streams = |state: &serde_json::Value| {
            ["streaming", "late"].contains(&state["camera"]["status"].as_str().unwrap_or(""))
        };
        let lost = scene.receiver.wait_state(since, PATIENCE, |state| state["camera"]["status"] == "lost");
        let lost = lost.context("the lost camera is not told")?;
        scene.receiver.wait_state(lost, PATIENCE, streams).context("the camera does not come back")?;
        Ok(())
    };
    for _ in 0..10.min(count) {
        cycle(scene)?;
    }
    let before = footprint(scene)?;
    for _ in 0..count {
        cycle(scene)?;
    }
    let after = footprint(scene)?;
    let text = format!("files, threads, areas, kB: {before:?} before, {after:?} after {count} times");
    let grown = (0..3).any(|index| after[index] > before[index] + 2) || after[3] > before[3] + 4096;
    scene.protocol.check(!grown, format_args!("nothing is left behind by a camera that goes and comes: {text}"));
    scene.same_process(&pid)
}

fn open_often(scene: &mut Scene) -> Result<()> {
    let count = cycles(1000);
    scene.kiosk.run("systemctl stop anemiad")?;
    let program = scene.kiosk.guest.as_ref().context("no guest")?.folder().join("hil");
    let status = std::process::Command::new("strip").arg("-o").arg(&program).arg(std::env::current_exe()?).status()?;
    ensure!(status.success(), "strip failed");
    scene.kiosk.send(&program, "/root")?;
    let found = scene.kiosk.run(&format!("/root/hil --open-often {CAMERA} {count}"))?;
    let is_clean = found.lines().last().is_some_and(|line| line.starts_with("nothing is left behind"));
    scene.protocol.check(is_clean, found.replace('\n', "; "));
    scene.kiosk.run("systemctl start anemiad")?;
    Ok(())
}

fn bench(scene: &mut Scene) -> Result<()> {
    let report = scene
        .kiosk
        .run("systemctl stop anemiad\nrunuser -u anemiad -- anemiad engine bench || true\nsystemctl start anemiad")?;
    for line in report.lines() {
        scene.protocol.note(line);
    }
    scene.protocol.check(report.contains("fp32"), "the networks are measured");
    Ok(())
}

fn stop(scene: &mut Scene) -> Result<()> {
    let since = Instant::now();
    let time = timed(scene, "systemctl stop anemiad")?;
    scene.protocol.time("`systemctl stop`", Some(time), Duration::from_secs(5));
    let result = scene.kiosk.unit("Result")?;
    scene.protocol.check(result == "success", format_args!("the unit's result is {result}"));
    let left = wait(PATIENCE, || (scene.receiver.availability(since)? == "stopped").then_some(()));
    scene.protocol.check(left.is_some(), "it says goodbye: stopped");
    let last = scene.kiosk.run("journalctl -u anemiad -o cat --no-pager | grep 'captured=' | tail -n 1")?;
    scene.protocol.note(last);
    Ok(())
}
