//! The wait between starts that fail one after the other: systemd before 254 can only wait equally long before each of them.

use std::path::PathBuf;
use std::time::Duration;

/// Starts that may fail without a wait: what was missing is often there a moment later.
const QUICK: u32 = 5;
/// The wait before the next one; it doubles from start to start.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// No wait is longer: whoever mended what was wrong stands in front of the kiosk.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How many starts before this one never came to be ready: a number in the unit's folder in `/run`, which systemd keeps while it
/// starts the daemon again. Without that folder there is nobody who does.
#[derive(Debug)]
pub(crate) struct Starts {
    file: Option<PathBuf>,
    failed: u32,
}

impl Starts {
    /// Counts a start; `folder` is what systemd gives as `RUNTIME_DIRECTORY`.
    pub(crate) fn count(folder: Option<PathBuf>) -> Self {
        let file = folder.map(|folder| folder.join("starts"));
        let read = |file: &PathBuf| std::fs::read_to_string(file).ok()?.trim().parse().ok();
        let failed: u32 = file.as_ref().and_then(read).unwrap_or(0);
        if let Some(file) = &file
            && let Err(error) = std::fs::write(file, failed.saturating_add(1).to_string())
        {
            tracing::debug!("{}: {error}", file.display());
        }
        Self { file, failed }
    }

    /// Starts before this one that failed.
    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }

    /// The wait before this one.
    pub(crate) fn wait(&self) -> Duration {
        let Some(doublings) = self.failed.checked_sub(QUICK) else { return Duration::ZERO };
        FIRST_WAIT.saturating_mul(2u32.saturating_pow(doublings)).min(LONGEST_WAIT)
    }

    /// It is ready, or was stopped, or a person starts it next: nothing is counted any more.
    pub(crate) fn forget(&self) {
        if let Some(file) = &self.file
            && let Err(error) = anemia_bundle::remove_if_there(file)
        {
            tracing::debug!("{}: {error}", file.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_starts_are_quick_and_the_wait_grows_to_half_a_minute() {
        let folder = tempfile::tempdir().unwrap();
        let count = || Starts::count(Some(folder.path().to_owned()));
        let waits: Vec<_> = (0..13).map(|_| count().wait().as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30, 30]);
        std::fs::write(folder.path().join("starts"), u32::MAX.to_string()).unwrap();
        assert_eq!(count().wait(), LONGEST_WAIT);
        count().forget();
        assert_eq!(count().failed(), 0);
        std::fs::write(folder.path().join("starts"), "no number").unwrap();
        assert_eq!(count().wait(), Duration::ZERO);
    }

    #[test]
    fn by_hand_nothing_is_counted() {
        Starts::count(None);
        let starts = Starts::count(None);
        assert_eq!((starts.failed(), starts.wait()), (0, Duration::ZERO));
        starts.forget();
    }
}
