//! The page on the screen of the kiosk: package, browser, a click, keys, restart, removal.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Scene;
use crate::common::wait;
use crate::screen::{Screen, find};

/// A browser on a processor that is itself a program takes its time.
const PATIENCE: Duration = Duration::from_secs(400);
/// The bars of the page, and its button to start.
const BAR: [u8; 3] = [0x14, 0x31, 0x3c];
const BUTTON: [u8; 3] = [0xff, 0xdd, 0x33];

/// Little work, so that the emulated processor has time for the browser; an exam is started only at the screen.
const CONFIG: &str = "\
device_id: emulated
camera: {phantom: {width: 640, height: 360, seed: 5, pace: {rate_hz: 0.5, show_s: 600, gap_s: 1}}}
roi: colour
model: {bundle: /usr/share/anemiad/models/pallor, precision: int8, threads: 1}
exam: {automatic: false, frames: 20, steady_frames: 1, timeout_s: 300, absent_s: 60}
health: {late_frame_ms: 10000, stale_frame_s: 60}
mqtt: {host: localhost}
";

pub fn screen(scene: &mut Scene) -> Result<()> {
    let guest = scene.kiosk.guest.as_ref().context("no guest")?;
    let mut screen = Screen::connect(&guest.screen().context("no screen")?, guest.logs())?;
    scene.kiosk.run(&format!(
        "systemctl stop anemiad eye\ncat >/etc/anemiad/anemiad.yaml <<'END'\n{CONFIG}END\nsystemctl start anemiad"
    ))?;
    // There is no graphics processor.
    scene.kiosk.run("echo WLR_RENDERER=pixman >/etc/default/anemiad-kiosk")?;
    let start = Instant::now();
    scene.kiosk.run("dpkg -i /root/packages/anemiad-kiosk_*.deb 2>&1")?;
    scene.protocol.check(true, "the package of the page installs");
    shows_page(scene, &mut screen, "it starts by itself")?;
    scene.protocol.figure(
        "package installed → page on the screen",
        format_args!("{:.0} s", start.elapsed().as_secs_f64()),
        "",
    );

    let (_, x, y) = find(&screen.picture()?, BUTTON);
    let since = Instant::now();
    screen.click(x, y)?;
    let running = |state: &serde_json::Value| state["exam"]["phase"] != "idle" && state["exam"]["phase"].is_string();
    let begun = scene.receiver.wait_state(since, PATIENCE, running);
    scene.protocol.check(begun.is_some(), "a click on the button starts an exam");

    // Keys that lead out of a browser, or to another console.
    let pid = browser(scene)?;
    let combinations: [&[&str]; 7] = [
        &["ctrl", "t"],
        &["ctrl", "n"],
        &["ctrl", "w"],
        &["ctrl", "l"],
        &["alt", "f4"],
        &["ctrl", "alt", "f2"],
        &["f11"],
    ];
    for keys in combinations {
        screen.keys(keys)?;
        std::thread::sleep(Duration::from_secs(8));
        let (bar, ..) = find(&screen.picture()?, BAR);
        let now = browser(scene)?;
        let stays = pid == now && pid != "none" && bar > 0.05;
        scene.protocol.check(stays, format_args!("{} does not lead out of the page", keys.join("+")));
    }
    let console = scene.kiosk.run("cat /sys/class/tty/tty0/active")?;
    scene.protocol.check(console == "tty1", format_args!("nor to another console ({console})"));
    shows_page(scene, &mut screen, "after those keys")?;

    scene.kiosk.run("systemctl restart anemiad-kiosk")?;
    std::thread::sleep(Duration::from_secs(5));
    shows_page(scene, &mut screen, "restarted")?;
    scene.kiosk.run("kill -9 $(pgrep -o -u anemiad-kiosk chromium)")?;
    std::thread::sleep(Duration::from_secs(5));
    shows_page(scene, &mut screen, "after the browser was killed")?;

    scene.kiosk.run("systemctl stop anemiad-kiosk")?;
    let result = scene.kiosk.run("systemctl show -P Result anemiad-kiosk")?;
    scene.protocol.check(result == "success", format_args!("stopped, its result is {result}"));
    scene.kiosk.run("dpkg -P anemiad-kiosk 2>&1")?;
    let left =
        scene.kiosk.run("find /etc /usr/lib /lib/systemd -name '*anemiad-kiosk*' -not -path '/etc/default/*'")?;
    scene.protocol.check(left.is_empty(), format_args!("purged, it leaves nothing: {left:?}"));
    Ok(())
}

/// The oldest process of the browser.
fn browser(scene: &Scene) -> Result<String> {
    scene.kiosk.run("pgrep -o -u anemiad-kiosk chromium || echo none")
}

/// Waits until the page is on the screen, and connected.
fn shows_page(scene: &mut Scene, screen: &mut Screen, when: &str) -> Result<()> {
    let connected = "ss -Htn state established '( dport = :8480 )' | wc -l";
    let found = wait(PATIENCE, || {
        std::thread::sleep(Duration::from_secs(4));
        let connections: u32 = scene.kiosk.number(connected).ok()?;
        let (bar, ..) = find(&screen.picture().ok()?, BAR);
        (connections > 0 && bar > 0.05).then_some(bar)
    });
    scene.protocol.check(found.is_some(), format_args!("the page is on the screen, and connected: {when}"));
    Ok(())
}
