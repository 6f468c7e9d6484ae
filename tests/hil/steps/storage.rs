//! What results must survive: a broker that is away, a full disk, a clock that jumps, a power cut.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

use super::{PATIENCE, Scene};
use crate::common::wait;

pub fn broker(scene: &mut Scene) -> Result<()> {
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

pub fn disk_full(scene: &mut Scene) -> Result<()> {
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

pub fn clock(scene: &mut Scene) -> Result<()> {
    let pid = scene.kiosk.unit("MainPID")?;
    for jump in ["+2 hours", "-5 hours", "+3 hours"] {
        scene.kiosk.run(&format!("date -s \"$(date -d '{jump}')\" >/dev/null"))?;
        scene.protocol.note(jump);
        scene.result(Instant::now());
    }
    scene.same_process(&pid)
}

pub fn power_cut(scene: &mut Scene) -> Result<()> {
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
