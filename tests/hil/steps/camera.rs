//! The camera: seen, unplugged, dead, full of errors, and all that again and again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{CAMERA, PATIENCE, Scene};
use crate::common::wait;

/// Where the camera's driver is told to let go of it.
const VIVID: &str = "/sys/bus/platform/drivers/vivid";

pub fn camera(scene: &mut Scene) -> Result<()> {
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

/// Unplugs the camera and waits until that is told.
fn pull(scene: &mut Scene) -> Result<()> {
    let since = Instant::now();
    scene.kiosk.run(&format!("echo vivid.0 >{VIVID}/unbind"))?;
    let lost = scene.receiver.wait_state(since, PATIENCE, |state| state["camera"]["status"] == "lost");
    scene.protocol.check(lost.is_some(), "a camera that is unplugged is told as lost");
    Ok(())
}

pub fn unplug(scene: &mut Scene) -> Result<()> {
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

/// During an exam the camera does not choose its gain, and after it does again.
pub fn hold(scene: &mut Scene) -> Result<()> {
    let automatic = || {
        let text = scene.kiosk.run(&format!("v4l2-ctl -d {CAMERA} -C gain_automatic")).ok()?;
        text.rsplit(' ').next().map(str::to_owned)
    };
    for (value, what) in [("0", "held during an exam"), ("1", "given back after it")] {
        let seen = wait(PATIENCE, || (automatic()? == value).then_some(()));
        scene.protocol.check(seen.is_some(), format_args!("the camera's gain is {what}"));
    }
    Ok(())
}

/// The number of a node is taken for as long as anybody has the old one open.
pub fn renumber(scene: &mut Scene) -> Result<()> {
    let pid = scene.kiosk.unit("MainPID")?;
    let before = scene.kiosk.run(&format!("readlink -f {CAMERA}"))?;
    scene.kiosk.run(&format!("(exec 9<{CAMERA}; sleep 60) >/dev/null 2>&1 & sleep 0.5"))?;
    pull(scene)?;
    scene.kiosk.run(&format!("echo vivid.0 >{VIVID}/bind"))?;
    scene.result(Instant::now());
    let after = scene.kiosk.run(&format!("readlink -f {CAMERA}"))?;
    scene.protocol.check(before != after, format_args!("it was {before} and came back as {after}"));
    scene.same_process(&pid)
}

/// For a moment after it was plugged in, a node belongs to root alone; here for longer.
pub fn no_rights(scene: &mut Scene) -> Result<()> {
    let pid = scene.kiosk.unit("MainPID")?;
    let since = Instant::now();
    scene.kiosk.run(&format!("chmod 600 $(readlink -f {CAMERA})"))?;
    scene.vivid("disconnect=1")?;
    let told = scene.receiver.wait_state(since, PATIENCE, |state| {
        state["camera"]["status"] == "lost" && state["camera"]["detail"].as_str().unwrap_or("").contains("group video")
    });
    scene.protocol.check(told.is_some(), "a camera that may not be opened is told, with what to do");
    scene.kiosk.run(&format!("chmod 660 $(readlink -f {CAMERA})"))?;
    scene.result(Instant::now());
    scene.same_process(&pid)
}

pub fn dead_camera(scene: &mut Scene) -> Result<()> {
    let pid = scene.kiosk.unit("MainPID")?;
    let since = Instant::now();
    // Every call fails while anybody has it open.
    scene.vivid("disconnect=1")?;
    let lost = scene.receiver.wait_state(since, PATIENCE, |state| state["camera"]["status"] == "lost");
    scene.protocol.check(lost.is_some(), "a camera that fails in every call is told as lost");
    scene.result(lost.unwrap_or(since));
    scene.same_process(&pid)
}

pub fn stream_errors(scene: &mut Scene) -> Result<()> {
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
pub fn camera_service(scene: &mut Scene) -> Result<()> {
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

/// A camera that nothing helps: its service is restarted twice, then the machine once, and then a person has to come.
pub fn reboot(scene: &mut Scene) -> Result<()> {
    // Nobody listens there.
    let pipeline = "tcpclientsrc host=127.0.0.1 port=9 ! rawvideoparse format=rgb width=64 height=64";
    scene.kiosk.run(&format!(
        "cp /etc/anemiad/anemiad.yaml /root/before.yaml\n\
         sed -i '/^camera:/,/^roi:/{{/^roi:/!d}}' /etc/anemiad/anemiad.yaml\n\
         echo 'camera: {{gstreamer: {{pipeline: \"{pipeline}\", restart_service: true, reboot: true}}}}' >>/etc/anemiad/anemiad.yaml\n\
         printf '[Service]\\nExecStart=/bin/sleep infinity\\n' >/etc/systemd/system/nvargus-daemon.service\n\
         systemctl daemon-reload\n\
         systemctl --quiet enable --now anemiad-camera-service.path anemiad-reboot.path\n\
         systemctl restart anemiad"
    ))?;
    let off = scene.kiosk.guest.as_mut().context("no guest")?.wait_off(PATIENCE)?;
    scene.protocol.check(off, "the machine is rebooted");
    scene.kiosk.guest.as_mut().context("no guest")?.power_on()?;
    scene.kiosk.wait_on()?;
    let refused = "journalctl -b -u anemiad | grep -c 'rebooted for its camera less than six hours ago' || true";
    let told = wait(PATIENCE, || (scene.kiosk.number::<u32>(refused).ok()? > 0).then_some(()));
    scene.protocol.check(told.is_some(), "not a second time: it says so");
    let resigned = wait(PATIENCE, || scene.kiosk.run("anemiad status --json | grep gave_up").ok());
    scene.protocol.check(resigned.is_some(), "then it calls for a person");
    scene.kiosk.run(
        "systemctl disable --now anemiad-camera-service.path anemiad-reboot.path 2>&1\n\
         rm -f /etc/systemd/system/nvargus-daemon.service /var/lib/anemiad/rebooted-for-camera\n\
         systemctl daemon-reload\n\
         cp /root/before.yaml /etc/anemiad/anemiad.yaml\n\
         systemctl restart anemiad",
    )?;
    scene.result(Instant::now());
    Ok(())
}

/// How often a camera is unplugged and opened: as CYCLES says, or as the aim does.
fn cycles(aim: u32) -> u32 {
    std::env::var("CYCLES").ok().and_then(|text| text.parse().ok()).map_or(aim, |cycles: u32| cycles.min(aim))
}

/// Open files, threads, mapped memory areas, and resident memory in kB of the daemon at rest: without a camera no exam ends, and
/// the thread that wrote the last one goes after ten seconds.
fn footprint(scene: &mut Scene) -> Result<[u64; 4]> {
    pull(scene)?;
    let text = scene.kiosk.run(
        "sleep 15\np=$(systemctl show -P MainPID anemiad)\nls /proc/$p/fd | wc -l\nls /proc/$p/task | wc -l\nwc -l </proc/$p/maps\n\
         awk '/VmRSS/ { print $2 }' /proc/$p/status",
    )?;
    scene.kiosk.run(&format!("echo vivid.0 >{VIVID}/bind"))?;
    scene.result(Instant::now());
    let numbers: Vec<u64> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    match numbers[..] {
        [files, threads, areas, memory] => Ok([files, threads, areas, memory]),
        _ => bail!("no footprint in {text:?}"),
    }
}

pub fn unplug_often(scene: &mut Scene) -> Result<()> {
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

pub fn open_often(scene: &mut Scene) -> Result<()> {
    if scene.kiosk.run("uname -m")? != std::env::consts::ARCH {
        scene.protocol.note("left out: this program is for another processor");
        return Ok(());
    }
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
