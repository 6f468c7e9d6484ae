//! What is done about a camera that fails: open it again, then more and more.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::config;
use crate::machine;

/// Shortest and longest wait before a camera is opened again. A patient may stand there already.
const WAIT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// The wait after giving up.
const RESIGNED_WAIT: Duration = Duration::from_secs(30);
/// How long one remedy is given before the next one.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often the service is restarted.
const SERVICE_RESTARTS: u32 = 2;
/// Frames must come for so long before an old failure is forgotten: a broken driver gives a few after each restart.
const STEADY: Duration = Duration::from_secs(10);
/// Least time between two reboots: a broken camera must not keep a kiosk from everything else.
const REBOOT_PAUSE: Duration = Duration::from_secs(6 * 3600);

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Wait and open it again.
    Wait(Duration),
    /// Restart the service that drives the camera.
    RestartService,
    /// Reboot the machine.
    Reboot,
    /// Call for a person. It is still opened again, now and then.
    GiveUp,
}

/// What was tried so far.
#[derive(Debug)]
pub(super) struct Recovery {
    may_restart: bool,
    may_reboot: bool,
    wait: Duration,
    /// When the remedy that is being tried began.
    remedy_since: Option<Instant>,
    works_since: Option<Instant>,
    restarts: u32,
    rebooted: bool,
    resigned: bool,
}

impl Recovery {
    pub(super) fn new(camera: &config::Camera) -> Self {
        let (may_restart, may_reboot) =
            camera.gstreamer.as_ref().map_or((false, false), |camera| (camera.restart_service, camera.reboot));
        Self::with(may_restart, may_reboot)
    }

    fn with(may_restart: bool, may_reboot: bool) -> Self {
        Self {
            may_restart,
            may_reboot,
            wait: WAIT.0,
            remedy_since: None,
            works_since: None,
            restarts: 0,
            rebooted: false,
            resigned: false,
        }
    }

    /// A frame came.
    pub(super) fn works(&mut self, now: Instant) {
        self.wait = WAIT.0;
        let since = *self.works_since.get_or_insert(now);
        if self.remedy_since.is_some() && now - since >= STEADY {
            *self = Self::with(self.may_restart, self.may_reboot);
        }
    }

    /// It failed, or failed again.
    pub(super) fn failed(&mut self, now: Instant) -> Remedy {
        self.works_since = None;
        let since = *self.remedy_since.get_or_insert(now);
        // Without a service there is nothing to do but to look again: a camera that was unplugged comes back.
        if (self.may_restart || self.may_reboot) && now - since >= PATIENCE && !self.resigned {
            self.remedy_since = Some(now);
            if self.may_restart && self.restarts < SERVICE_RESTARTS {
                self.restarts += 1;
                return Remedy::RestartService;
            }
            if self.may_reboot && !self.rebooted {
                self.rebooted = true;
                return Remedy::Reboot;
            }
            self.resigned = true;
            return Remedy::GiveUp;
        }
        let wait = if self.resigned { RESIGNED_WAIT } else { self.wait };
        self.wait = (self.wait * 2).min(WAIT.1);
        Remedy::Wait(wait)
    }

    /// Whether it gave up.
    pub(super) fn is_resigned(&self) -> bool {
        self.resigned
    }
}

/// Asks the unit `anemiad-camera-service` to restart the service.
pub(super) fn restart_service() -> Result<(), String> {
    ask("restart-camera-service")
}

/// Asks the unit `anemiad-reboot` for a reboot, unless there was one for the same reason a short time ago.
pub(super) fn reboot(state_dir: &Path) -> Result<(), String> {
    let mark = state_dir.join("rebooted-for-camera");
    let age = mark.metadata().and_then(|mark| mark.modified()).ok().map(|time| SystemTime::now().duration_since(time));
    // A mark from the future counts: on a board without a battery the clock may begin at the same time at every boot.
    if age.is_some_and(|age| age.map_or(true, |age| age < REBOOT_PAUSE)) {
        return Err("this machine was rebooted for its camera less than six hours ago".into());
    }
    // First: the reboot could come before it.
    std::fs::write(&mark, "").map_err(|error| format!("{}: {error}", mark.display()))?;
    ask("reboot").inspect_err(|_| {
        // There was none. A mark that stays keeps a machine from being rebooted, and nothing worse.
        let _ = std::fs::remove_file(&mark);
    })
}

/// Writes a file that a path unit of systemd waits for: so the daemon needs no rights of its own over other services.
fn ask(what: &str) -> Result<(), String> {
    let Some(folder) = machine::variable("RUNTIME_DIRECTORY").map(PathBuf::from) else {
        return Err("the daemon has no RUNTIME_DIRECTORY; it was not started by its unit".into());
    };
    let path = folder.join(what);
    std::fs::write(&path, "").map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails again and again for `time`, and gives every remedy but waiting with its second.
    fn remedies(recovery: &mut Recovery, start: Instant, time: Duration) -> Vec<(u64, Remedy)> {
        let (mut now, mut found) = (start, Vec::new());
        while now - start < time {
            match recovery.failed(now) {
                Remedy::Wait(wait) => now += wait,
                remedy => found.push(((now - start).as_secs(), remedy)),
            }
        }
        found
    }

    #[test]
    fn a_camera_without_a_service_is_looked_for_every_second_for_ever() {
        let mut recovery = Recovery::with(false, false);
        let start = Instant::now();
        assert_eq!(remedies(&mut recovery, start, Duration::from_secs(24 * 3600)), []);
        assert_eq!(recovery.failed(start + Duration::from_secs(24 * 3600)), Remedy::Wait(WAIT.1));
    }

    #[test]
    fn remedies_grow_stronger_and_end_with_a_call_for_a_person() {
        let start = Instant::now();
        let hour = Duration::from_secs(3600);
        let mut recovery = Recovery::with(true, false);
        let [first, second, third] = remedies(&mut recovery, start, hour)[..] else { panic!("three remedies") };
        assert_eq!([first.1, second.1, third.1], [Remedy::RestartService, Remedy::RestartService, Remedy::GiveUp]);
        assert!((15..20).contains(&first.0) && (30..40).contains(&second.0) && (45..60).contains(&third.0));
        assert!(recovery.is_resigned());
        let mut recovery = Recovery::with(true, true);
        let found: Vec<_> = remedies(&mut recovery, start, hour).into_iter().map(|(_, remedy)| remedy).collect();
        assert_eq!(found, [Remedy::RestartService, Remedy::RestartService, Remedy::Reboot, Remedy::GiveUp]);
    }

    #[test]
    fn a_few_frames_are_no_recovery_and_many_are() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut recovery = Recovery::with(true, false);
        remedies(&mut recovery, start, 20 * second);
        let mut now = start + 20 * second;
        recovery.works(now);
        assert_eq!(recovery.failed(now + second), Remedy::Wait(WAIT.0), "quick again after a frame");
        assert_eq!(remedies(&mut recovery, now + second, 60 * second).len(), 2, "one restart was used up");
        now += 100 * second;
        recovery.works(now);
        recovery.works(now + STEADY);
        assert!(!recovery.is_resigned());
        assert_eq!(remedies(&mut recovery, now + 2 * STEADY, 120 * second).len(), 3, "all of them are there again");
    }

    #[test]
    fn a_machine_is_not_rebooted_twice_in_a_row() {
        let folder = tempfile::tempdir().unwrap();
        // Not started by its unit: the reboot is not to be had, and does not count.
        for _ in 0..2 {
            assert!(reboot(folder.path()).unwrap_err().contains("RUNTIME_DIRECTORY"));
        }
        std::fs::write(folder.path().join("rebooted-for-camera"), "").unwrap();
        assert!(reboot(folder.path()).unwrap_err().contains("less than six hours ago"));
    }
}
