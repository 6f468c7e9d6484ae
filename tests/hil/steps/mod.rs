//! The steps of the scenario, in their order.

mod camera;
mod life;
mod screen;
mod storage;
mod workstation;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anemiad::report::ExamResult;
use anyhow::Result;
use uuid::Uuid;

use crate::common::wait;
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
    /// It looks at the screen, and is all that is done where there is one.
    pub needs_screen: bool,
    /// Without it, nothing after it can be done.
    pub always: bool,
    pub run: fn(&mut Scene) -> Result<()>,
}

const fn step(name: &'static str, run: fn(&mut Scene) -> Result<()>) -> Step {
    Step { name, needs_emulation: false, needs_screen: false, always: false, run }
}

const fn emulated(name: &'static str, run: fn(&mut Scene) -> Result<()>) -> Step {
    Step { name, needs_emulation: true, needs_screen: false, always: false, run }
}

pub const STEPS: &[Step] = &[
    Step { name: "install", needs_emulation: true, needs_screen: false, always: true, run: life::install },
    step("doctor", life::doctor),
    step("camera", camera::camera),
    Step { name: "start", needs_emulation: false, needs_screen: false, always: true, run: life::start },
    emulated("hold", camera::hold),
    step("restart", life::restart),
    step("reload", life::reload),
    step("crash", life::crash),
    step("hang", life::hang),
    emulated("unplug", camera::unplug),
    emulated("renumber", camera::renumber),
    emulated("no-rights", camera::no_rights),
    emulated("dead-camera", camera::dead_camera),
    emulated("stream-errors", camera::stream_errors),
    emulated("camera-service", camera::camera_service),
    emulated("reboot", camera::reboot),
    step("broker", storage::broker),
    emulated("disk-full", storage::disk_full),
    emulated("clock", storage::clock),
    emulated("power-cut", storage::power_cut),
    emulated("unplug-often", camera::unplug_often),
    emulated("open-often", camera::open_often),
    step("bench", life::bench),
    step("stop", life::stop),
    emulated("package", life::package),
    emulated("workstation", workstation::workstation),
    Step { name: "screen", needs_emulation: true, needs_screen: true, always: false, run: screen::screen },
];

/// How long anything may take on the slowest machine; only what fails waits for it.
const PATIENCE: Duration = Duration::from_secs(90);

/// The camera of the emulated kiosk.
const CAMERA: &str = "/dev/v4l/by-path/platform-vivid.0-video-index0";

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
