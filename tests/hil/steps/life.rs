//! The life of the daemon: installed, started, restarted, reloaded, crashed, hung, measured, stopped.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{PATIENCE, Scene};
use crate::common::wait;
use crate::guest::script;

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

const INSTALL: &str =
    "cd /root/packages && dpkg --force-confold -i anemiad_*.deb anemiad-models_*.deb anemiad-onnxruntime_*.deb 2>&1";

pub fn install(scene: &mut Scene) -> Result<()> {
    let guest = scene.kiosk.guest.as_ref().context("no guest")?;
    let (packages, film) = (guest.folder().join("packages"), guest.folder().join("film"));
    let program = PathBuf::from(std::env::var_os("ANEMIAD").context("ANEMIAD does not name the program to test")?);
    script("scripts/deb.sh", &[&packages, folder_of(&program)?])?;
    let is_arm = scene.kiosk.run("uname -m")? == "aarch64";
    if is_arm {
        // Beside those for every architecture.
        let program =
            std::env::var_os("ANEMIAD_AARCH64").context("ANEMIAD_AARCH64 does not name the program to test")?;
        script("scripts/deb.sh", &[&packages, folder_of(Path::new(&program))?, Path::new("arm64")])?;
    }
    script("tests/vm/eye.sh", &[&film, &program])?;
    scene.kiosk.send(&film, "/srv/eye")?;
    scene.kiosk.run("systemctl restart eye")?;
    scene.kiosk.send(&packages, "/root/packages")?;
    if is_arm {
        scene.kiosk.run("rm /root/packages/*_amd64.deb")?;
    }
    scene.kiosk.run(INSTALL)?;
    let started = wait(PATIENCE, || (scene.kiosk.unit("ActiveState").ok()? == "active").then_some(()));
    scene.protocol.check(started.is_some(), "the package installs, and the daemon runs with the phantom camera");
    scene.kiosk.run(&format!("systemctl stop anemiad\ncat >/etc/anemiad/anemiad.yaml <<'END'\n{CONFIG}END"))?;
    Ok(())
}

fn folder_of(program: &Path) -> Result<&Path> {
    program.parent().context("the program has a folder")
}

/// Installs a package that differs from the one at hand in nothing but its version and what `change` does to the folder `newer`.
pub fn upgrade(scene: &Scene, package: &str, change: &str) -> Result<()> {
    scene.kiosk.run(&format!(
        "cd /root/packages && rm -rf newer && dpkg-deb -R {package}_*.deb newer && \
         sed -i 's/^Version: .*/&+newer/' newer/DEBIAN/control && {change} && dpkg-deb -Zgzip -b newer newer.deb && \
         dpkg --force-confold -i newer.deb 2>&1"
    ))?;
    Ok(())
}

/// Upgraded, removed, installed again and purged, with a configuration of its own and results on its disk.
pub fn package(scene: &mut Scene) -> Result<()> {
    scene.kiosk.run("systemctl start anemiad")?;
    let before = scene.kiosk.run("md5sum /etc/anemiad/anemiad.yaml")?;
    let pid = scene.kiosk.unit("MainPID")?;
    upgrade(scene, "anemiad", "echo '# newer' >>newer/etc/anemiad/anemiad.yaml")?;
    let now = scene.kiosk.run("md5sum /etc/anemiad/anemiad.yaml")?;
    let version = scene.kiosk.run("dpkg-query -W -f '${Version}' anemiad")?;
    scene.protocol.check(version.ends_with("+newer"), format_args!("upgraded to {version}"));
    scene.protocol.check(now == before, "an upgrade keeps the configuration");
    let started = wait(PATIENCE, || {
        (scene.kiosk.unit("ActiveState").ok()? == "active" && scene.kiosk.unit("MainPID").ok()? != pid).then_some(())
    });
    scene.protocol.check(started.is_some(), "the new program runs after an upgrade");
    scene.result(Instant::now());

    scene.kiosk.run("dpkg -r anemiad 2>&1")?;
    let left = "for path in /usr/bin/anemiad /var/lib/anemiad/exams /etc/anemiad/anemiad.yaml; do [ ! -e $path ] || echo $path; done";
    let kept = scene.kiosk.run(left)?;
    scene.protocol.check(
        kept == "/var/lib/anemiad/exams\n/etc/anemiad/anemiad.yaml",
        format_args!("removed, it leaves configuration and results: {kept:?}"),
    );
    let running = scene.kiosk.run("pgrep -x anemiad || echo none")?;
    scene.protocol.check(running == "none", "removed, nothing of it runs");

    scene.kiosk.run(INSTALL)?;
    let started = wait(PATIENCE, || (scene.kiosk.unit("ActiveState").ok()? == "active").then_some(()));
    scene.protocol.check(started.is_some(), "installed again, it runs");
    scene.result(Instant::now());

    // There is neither a Jetson nor TensorRT, but its drop-in is for the same unit.
    scene
        .kiosk
        .run("dpkg --force-depends -i /root/packages/anemiad-tensorrt_*.deb 2>&1 && systemctl restart anemiad")?;
    let drop_ins = scene.kiosk.unit("DropInPaths")?;
    scene.protocol.check(drop_ins.contains("jetson.conf"), format_args!("anemiad-tensorrt adds {drop_ins}"));
    scene.result(Instant::now());
    let groups = scene.kiosk.run("id -nG anemiad")?;
    scene.protocol.check(groups.contains("render"), format_args!("its user is in the groups {groups}"));
    scene.kiosk.run("dpkg -P anemiad-tensorrt 2>&1")?;

    scene.kiosk.run("dpkg -P anemiad 2>&1")?;
    let kept = scene.kiosk.run(&format!("{left}; ls -d /var/lib/anemiad /var/cache/anemiad 2>/dev/null || true"))?;
    scene.protocol.check(kept.is_empty(), format_args!("purged, it leaves nothing: {kept:?}"));
    let links = scene.kiosk.run("find /etc/systemd -name 'anemiad*'")?;
    scene.protocol.check(links.is_empty(), format_args!("purged, no unit of it is enabled: {links:?}"));
    Ok(())
}

pub fn doctor(scene: &mut Scene) -> Result<()> {
    let report = scene.kiosk.run("runuser -u anemiad -- anemiad doctor || true")?;
    let bad: Vec<_> = report.lines().filter(|line| line.starts_with("BAD")).collect();
    scene
        .protocol
        .check(bad.is_empty() && report.contains("nothing is wrong"), format_args!("the doctor is content {bad:?}"));
    Ok(())
}

pub fn start(scene: &mut Scene) -> Result<()> {
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

pub fn restart(scene: &mut Scene) -> Result<()> {
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        slowest = slowest.max(timed(scene, "systemctl restart anemiad")?);
        std::thread::sleep(Duration::from_secs(1));
    }
    scene.protocol.time("`systemctl restart` → READY, slowest of 3", Some(slowest), Duration::from_secs(2));
    scene.result(Instant::now());
    Ok(())
}

pub fn reload(scene: &mut Scene) -> Result<()> {
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

pub fn crash(scene: &mut Scene) -> Result<()> {
    let time = until_ready_again(scene, "KILL")?;
    scene.protocol.time("`kill -9` → READY", Some(time), Duration::from_secs(4));
    scene.result(Instant::now());
    Ok(())
}

pub fn hang(scene: &mut Scene) -> Result<()> {
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

pub fn bench(scene: &mut Scene) -> Result<()> {
    // In an emulated processor an inference takes a second.
    let runs = if scene.protocol.is_slow { 10 } else { 500 };
    let report = scene.kiosk.run(&format!(
        "systemctl stop anemiad\nrunuser -u anemiad -- anemiad engine bench --runs {runs} || true\nsystemctl start anemiad"
    ))?;
    for line in report.lines() {
        scene.protocol.note(line);
    }
    scene.protocol.check(report.contains("fp32"), "the networks are measured");
    Ok(())
}

pub fn stop(scene: &mut Scene) -> Result<()> {
    let since = Instant::now();
    let time = timed(scene, "systemctl stop anemiad")?;
    scene.protocol.time("`systemctl stop`", Some(time), Duration::from_secs(5));
    let result = scene.kiosk.unit("Result")?;
    scene.protocol.check(result == "success", format_args!("the unit's result is {result}"));
    let left = wait(PATIENCE, || (scene.receiver.availability(since)? == "stopped").then_some(()));
    scene.protocol.check(left.is_some(), "it says goodbye: stopped");
    let fields = "journalctl -u anemiad -o verbose --no-pager | grep -o 'ANEMIAD_[A-Z]*=.*'";
    let last = scene.kiosk.run(&format!("{fields} | grep -v EXAM | tail -n 6 | tr '\\n' ' '"))?;
    scene.protocol.note(last);
    let exams = scene.kiosk.run(&format!("{fields} | grep -c EXAM"))?;
    scene.protocol.check(exams.trim() != "0", format_args!("{} lines of the journal name their exam", exams.trim()));
    Ok(())
}
