//! Two slots for installed models, of which one is in use, and a trial that a newer one has to pass.
//!
//! ```text
//! <state_dir>/models/classifier/a/       a bundle
//! <state_dir>/models/classifier/b/       another
//! <state_dir>/models/classifier/current  a link to one of them; without it, the bundle of the configuration is in use
//! <state_dir>/models/classifier/trial    there while the one in use has not proven itself
//! <state_dir>/models/classifier/last     what came of the last update
//! ```
//!
//! The link is replaced by renaming, so it is the old one or the new one, whenever the power fails.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anemia_bundle::{Bundle, Task, remove_if_there, sync_all, write_file};
use serde::{Deserialize, Serialize};

const CURRENT: &str = "current";
const TRIAL: &str = "trial";
const LAST: &str = "last";
/// Starts that a newer model has to prove itself.
const MOST_STARTS: u32 = 3;

/// The slots of one kind of model.
#[derive(Clone, Debug)]
pub struct Slots {
    folder: PathBuf,
}

/// A slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    A,
    B,
}

/// A model that is in use and has to prove itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// What was in use before: a slot, or the bundle of the configuration.
    before: Option<Slot>,
    /// Starts of the daemon since.
    starts: u32,
    /// SHA-256 of its manifest: only a daemon that runs this model can say that it works.
    sha256: String,
    /// Name and version, for people.
    pub model: String,
}

impl Trial {
    /// Whether this is one of the models whose manifests have these hashes.
    pub fn is_of_any(&self, hashes: &[String]) -> bool {
        hashes.contains(&self.sha256)
    }
}

/// What came of the last update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// Whether the model from before is in use again.
    pub rolled_back: bool,
    /// In words.
    pub detail: String,
}

impl Slot {
    fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl Slots {
    /// The slots for models of a kind in a state folder. Nothing is made before something is installed.
    pub fn new(state_dir: &Path, task: Task) -> Self {
        let kind = match task {
            Task::Classify => "classifier",
            Task::Locate => "locator",
        };
        Self { folder: state_dir.join("models").join(kind) }
    }

    /// The folder of the bundle in use; `None` where it is that of the configuration.
    pub fn current(&self) -> Option<PathBuf> {
        self.current_slot().map(|slot| self.folder_of(slot))
    }

    /// The bundle that was in use before, where it is still there.
    pub fn other(&self) -> Option<PathBuf> {
        let slot = self.current_slot().map_or(Slot::A, Slot::other);
        Some(self.folder_of(slot)).filter(|folder| folder.is_dir())
    }

    fn current_slot(&self) -> Option<Slot> {
        let target = fs::read_link(self.folder.join(CURRENT)).ok()?;
        let slot = [Slot::A, Slot::B].into_iter().find(|slot| target == Path::new(slot.name()))?;
        self.folder_of(slot).is_dir().then_some(slot)
    }

    /// Name and version of the installed model in use.
    fn name(&self) -> String {
        let bundle = self.current().and_then(|folder| Bundle::open(&folder).ok());
        bundle.map_or("the installed model".into(), |bundle| {
            format!("{} {}", bundle.manifest().name, bundle.manifest().version)
        })
    }

    fn folder_of(&self, slot: Slot) -> PathBuf {
        self.folder.join(slot.name())
    }

    /// An empty folder beside the slots, in which a bundle is made ready.
    pub fn staging(&self) -> io::Result<PathBuf> {
        let staging = self.folder.join("staging");
        if staging.exists() {
            fs::remove_dir_all(&staging)?;
        }
        fs::create_dir_all(&staging)?;
        self.keep_owner()?;
        Ok(staging)
    }

    /// Whether what is installed can be looked at by whoever runs this.
    pub fn check(&self) -> io::Result<()> {
        match self.folder.join(CURRENT).symlink_metadata() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Held while something is installed, of whatever kind; another installation is refused meanwhile.
    pub fn lock(&self) -> io::Result<File> {
        let folder = self.folder.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        // An administrator may do this in a folder of the daemon's user: no link of theirs is followed.
        let mut options = File::options();
        options.write(true).create(true).truncate(false).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(folder.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(io::Error::other("another installation is running")),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Takes the bundle in the staging folder, which was tried, into use. It then has to prove itself.
    pub fn switch(&self, staged: &Path, model: &str, sha256: &str) -> io::Result<()> {
        let before = self.current_slot();
        let slot = before.map_or(Slot::A, Slot::other);
        sync_all(staged)?;
        // What came of an earlier update says nothing about this one.
        remove_if_there(&self.folder.join(LAST))?;
        // Before anything of it is in a slot: until the link is set, it says that what is in the other slot was never in use.
        self.write(TRIAL, &Trial { before, starts: 0, sha256: sha256.to_owned(), model: model.to_owned() })?;
        let done = self.fill(slot, staged).and_then(|()| self.link(Some(slot)));
        if done.is_err() {
            // It may have failed behind the link.
            let back = if self.current_slot() == before { Ok(()) } else { self.link(before) };
            if let Err(error) = back.and_then(|()| self.clear_up()) {
                tracing::warn!("{}: {error}", self.folder.display());
            }
        }
        done
    }

    /// Puts a bundle into the slot that is not in use: nothing reads it.
    fn fill(&self, slot: Slot, staged: &Path) -> io::Result<()> {
        let folder = self.folder_of(slot);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::rename(staged, &folder)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Removes what a switch left that was interrupted, or a rollback would go forward to it; and the note of a trial that
    /// nothing is on.
    fn clear_up(&self) -> io::Result<()> {
        match self.read::<Trial>(TRIAL) {
            // It is in use, and on trial.
            Some(trial) if trial.before != self.current_slot() => return Ok(()),
            Some(_) => {
                if let Some(never_used) = self.other() {
                    fs::remove_dir_all(never_used)?;
                }
            }
            None => {}
        }
        remove_if_there(&self.folder.join(TRIAL))
    }

    fn link(&self, slot: Option<Slot>) -> io::Result<()> {
        let link = self.folder.join(CURRENT);
        match slot {
            Some(slot) => {
                let aside = self.folder.join("current.new");
                remove_if_there(&aside)?;
                symlink(slot.name(), &aside)?;
                fs::rename(&aside, &link)?;
            }
            None => remove_if_there(&link)?,
        }
        File::open(&self.folder)?.sync_all()?;
        self.keep_owner()
    }

    /// The trial of the model in use, if it is on one.
    pub fn trial(&self) -> Option<Trial> {
        let trial: Trial = self.read(TRIAL)?;
        // The power failed before the switch, or after it was taken back.
        (trial.before != self.current_slot()).then_some(trial)
    }

    /// Counts a start of the daemon. A model that was started too often without proving itself is rolled back; says why.
    pub fn count_start(&self) -> io::Result<Option<String>> {
        let Some(mut trial) = self.trial() else {
            if self.folder.join(TRIAL).exists() {
                // Or what is installed at this moment would be taken for interrupted.
                let _lock = self.lock()?;
                self.clear_up()?;
            }
            return Ok(None);
        };
        if trial.starts >= MOST_STARTS {
            let reason = format!("the daemon was started {MOST_STARTS} times with it and never stayed");
            return self.roll_back(&reason).map(Some);
        }
        trial.starts += 1;
        self.write(TRIAL, &trial)?;
        Ok(None)
    }

    /// The model has proven itself.
    pub fn confirm(&self) -> io::Result<()> {
        if let Some(trial) = self.trial() {
            self.write(LAST, &Last { rolled_back: false, detail: trial.model })?;
            remove_if_there(&self.folder.join(TRIAL))?;
        }
        Ok(())
    }

    /// Takes the model from before into use again, and says which one goes and why.
    pub fn roll_back(&self, reason: &str) -> io::Result<String> {
        let (before, model) = match self.trial() {
            Some(trial) => (trial.before, trial.model),
            // It was taken into use long ago: the other slot, or the configuration, was before it.
            None => (self.other().and(self.current_slot()).map(Slot::other), self.name()),
        };
        if self.current_slot().is_none() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no installed model is in use"));
        }
        let detail = format!("{model} was rolled back: {reason}");
        let gone = self.current();
        self.link(before)?;
        // The rest is not worth more than a kiosk that works: a full or damaged disk may be the reason for all this.
        let rest = [
            self.write(LAST, &Last { rolled_back: true, detail: detail.clone() }),
            remove_if_there(&self.folder.join(TRIAL)),
            // Nobody wants it again, least of all the next rollback.
            gone.map_or(Ok(()), fs::remove_dir_all),
        ];
        for error in rest.into_iter().filter_map(Result::err) {
            tracing::warn!("{}: {error}", self.folder.display());
        }
        Ok(detail)
    }

    /// Notes an update that never came into use.
    pub fn refuse(&self, detail: &str) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        self.write(LAST, &Last { rolled_back: true, detail: detail.to_owned() })
    }

    /// What came of the last update, and when that was noted.
    pub fn last(&self) -> Option<(SystemTime, Last)> {
        let noted = fs::metadata(self.folder.join(LAST)).and_then(|file| file.modified()).ok()?;
        Some((noted, self.read(LAST)?))
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.folder.join(name)).ok()?).ok()
    }

    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        write_file(&self.folder.join(name), &serde_json::to_vec(value)?)?;
        self.keep_owner()
    }

    /// Gives everything to whoever has the state folder: an administrator installs, and the daemon must be able to roll back.
    fn keep_owner(&self) -> io::Result<()> {
        let models = self.folder.parent().unwrap_or(&self.folder);
        let state = models.parent().unwrap_or(models).metadata()?;
        let (user, group) = (state.uid(), state.gid());
        if fs::symlink_metadata(models)?.uid() == user && !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        for entry in walkdir::WalkDir::new(models).follow_links(false) {
            let entry = entry.map_err(io::Error::other)?;
            if !entry.path_is_symlink() && entry.metadata().map_err(io::Error::other)?.uid() != user {
                lchown(entry.path(), Some(user), Some(group))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn slots() -> (tempfile::TempDir, Slots) {
        let folder = tempfile::tempdir().unwrap();
        let slots = Slots::new(folder.path(), Task::Classify);
        (folder, slots)
    }

    fn install(slots: &Slots, version: &str) {
        let staging = slots.staging().unwrap();
        fs::write(staging.join("version"), version).unwrap();
        slots.switch(&staging, version, "").unwrap();
    }

    fn version(slots: &Slots) -> Option<String> {
        slots.current().map(|folder| fs::read_to_string(folder.join("version")).unwrap())
    }

    #[test]
    fn a_model_is_taken_into_use_proves_itself_and_makes_room_for_the_next() {
        let (_folder, slots) = slots();
        assert_eq!((version(&slots), slots.trial(), slots.count_start().unwrap()), (None, None, None));
        for new in ["1", "2", "3"] {
            install(&slots, new);
            assert_eq!(version(&slots).as_deref(), Some(new));
            assert_eq!(slots.trial().unwrap().model, new);
            slots.confirm().unwrap();
            assert_eq!(slots.trial(), None);
            assert_eq!(slots.last().unwrap().1, Last { rolled_back: false, detail: new.into() });
        }
        assert_eq!(fs::read_to_string(slots.other().unwrap().join("version")).unwrap(), "2");
        slots.roll_back("by hand").unwrap();
        assert_eq!(version(&slots).as_deref(), Some("2"));
        slots.roll_back("by hand").unwrap();
        assert_eq!(version(&slots), None, "and then that of the configuration");
        assert!(slots.roll_back("by hand").is_err());
    }

    #[test]
    fn a_model_that_never_stays_is_rolled_back_to_what_was_before() {
        let (_folder, slots) = slots();
        install(&slots, "1");
        for _ in 0..3 {
            assert_eq!(slots.count_start().unwrap(), None);
        }
        let reason = slots.count_start().unwrap().unwrap();
        assert!(reason.contains("1 was rolled back"), "{reason}");
        assert_eq!((version(&slots), slots.trial()), (None, None), "the bundle of the configuration");
        install(&slots, "2");
        slots.confirm().unwrap();
        install(&slots, "3");
        slots.roll_back("it failed").unwrap();
        assert_eq!(version(&slots).as_deref(), Some("2"));
        assert!(slots.last().unwrap().1.rolled_back);
    }

    #[test]
    fn a_disk_that_takes_no_note_keeps_nobody_from_the_old_model() {
        let (_folder, slots) = slots();
        install(&slots, "1");
        slots.confirm().unwrap();
        install(&slots, "2");
        // A folder in the place of the note.
        fs::create_dir_all(slots.folder.join(LAST).join("in the way")).unwrap();
        slots.roll_back("it failed").unwrap();
        assert_eq!((version(&slots).as_deref(), slots.trial()), (Some("1"), None));
        assert!(slots.other().is_none(), "what failed is gone");
    }

    #[test]
    fn an_installation_that_fails_leaves_nothing_to_roll_back_to() {
        let (_folder, slots) = slots();
        install(&slots, "1");
        slots.confirm().unwrap();
        install(&slots, "2");
        slots.confirm().unwrap();
        let staging = slots.staging().unwrap();
        // A folder in the place of the new link.
        fs::create_dir_all(slots.folder.join("current.new").join("in the way")).unwrap();
        slots.switch(&staging, "3", "").unwrap_err();
        assert_eq!((version(&slots).as_deref(), slots.trial(), slots.other()), (Some("2"), None, None));
    }

    #[test]
    fn when_the_power_fails_in_the_middle_it_is_the_old_one_or_the_new_one() {
        let (_folder, slots) = slots();
        install(&slots, "1");
        slots.confirm().unwrap();
        // Before the switch: the trial is written, the link is old.
        slots
            .write(TRIAL, &Trial { before: Some(Slot::A), starts: 0, sha256: String::new(), model: "2".into() })
            .unwrap();
        // What was to be installed is in its slot already.
        fs::create_dir(slots.folder_of(Slot::B)).unwrap();
        assert_eq!((slots.trial(), slots.count_start().unwrap()), (None, None));
        assert_eq!(version(&slots).as_deref(), Some("1"));
        assert!(slots.other().is_none(), "no rollback may lead to what was never in use");
        // A link to a slot that is gone: the configuration is in use.
        fs::remove_dir_all(slots.current().unwrap()).unwrap();
        assert_eq!(version(&slots), None);
        // A half-made staging folder is thrown away.
        fs::write(slots.staging().unwrap().join("half"), "").unwrap();
        assert_eq!(fs::read_dir(slots.staging().unwrap()).unwrap().count(), 0);
    }
}
