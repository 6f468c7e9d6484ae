//! What the broker has not confirmed yet, on disk.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use crate::config;

const FILE: &str = "outbox.redb";
/// By these many bytes redb knows its files.
const FIRST_BYTES: usize = 9;
/// It is read once, from its beginning to its end: a cache worth its memory would not help.
const CACHE_BYTES: usize = 1 << 20;
/// No message is older than this program. What was stored before the clock was set has no age.
pub(crate) const CLOCK_IS_SET: i64 = 1_735_689_600; // 2025-01-01
/// Key: a number that grows. Not the time: a board without a battery begins again in 1970. Value: when it was stored, in
/// seconds since 1970, and the message.
type Messages = TableDefinition<'static, u64, (i64, &'static [u8])>;
/// Numbers about the tables.
const FIGURES: TableDefinition<'_, &str, u64> = TableDefinition::new("figures");
/// Key: the id of a command. Value: when it expires, in seconds since 1970, and its name as long as it is not answered.
const COMMANDS: TableDefinition<'_, &str, (i64, &str)> = TableDefinition::new("commands");
/// Commands that are remembered; the next one is refused.
const MOST_COMMANDS: u64 = 10_000;
const BYTES: &str = "bytes";
const NEXT: &str = "next";
const LOST: &str = "lost";

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The answer to a command.
    Response,
    /// The result of an exam.
    Result,
    /// Figures about the kiosk.
    Telemetry,
}

/// A message in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place: it stands behind everything of its kind that was stored before.
    pub key: u64,
    /// The message.
    pub payload: Vec<u8>,
}

/// What waits in the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// Results that wait.
    pub results: u64,
    /// Telemetry that waits.
    pub telemetry: u64,
    /// Bytes of all messages.
    pub bytes: u64,
    /// Results that had to go unsent since the outbox was made, because they were too old or too much.
    pub lost: u64,
    /// When the oldest result was stored, in seconds since 1970, by the clock of that time.
    pub oldest: Option<i64>,
    /// Grows from look to look, whoever looks: of two that are told, that with the smaller one is out of date.
    pub look: u64,
}

/// The messages that wait for the broker, and the commands that came from it. Every change is on the disk before a method
/// returns.
#[derive(Debug)]
pub struct Outbox {
    /// Empty after an error: redb takes no more work then, and the next call opens the file again.
    database: Mutex<Option<Database>>,
    /// Held for a moment only, and never while the disk is waited for.
    limits: Mutex<config::Outbox>,
    path: PathBuf,
}

/// Why the outbox cannot be used. The text is one line and names the file.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {cause}")]
pub struct OutboxError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub cause: String,
}

impl Kind {
    /// In the order in which they are sent: somebody waits for an answer, and a clinic for results.
    pub const ALL: [Self; 3] = [Self::Response, Self::Result, Self::Telemetry];

    fn table(self) -> Messages {
        TableDefinition::new(match self {
            Self::Response => "responses",
            Self::Result => "results",
            Self::Telemetry => "telemetry",
        })
    }
}

impl Outbox {
    /// Opens the outbox in `folder`, and makes both if they are not there.
    pub fn open(folder: &Path, limits: config::Outbox) -> Result<Self, OutboxError> {
        let path = folder.join(FILE);
        // What a result says of somebody is nobody else's business on this machine.
        let own = || std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        let made = std::fs::create_dir_all(folder.parent().unwrap_or(folder)).and_then(|()| own());
        made.map_err(|error| OutboxError { path: folder.to_owned(), cause: error.to_string() })?;
        let outbox = Self { database: Mutex::new(None), limits: Mutex::new(limits), path };
        // The tables are made now, so that reading never has to care whether they are there.
        outbox.change(|change, _| {
            for kind in Kind::ALL {
                change.open_table(kind.table())?;
            }
            change.open_table(FIGURES)?;
            change.open_table(COMMANDS)?;
            Ok(())
        })?;
        // The file is on disk; that it is in this folder must be, too.
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| OutboxError { path: folder.to_owned(), cause: error.to_string() })?;
        Ok(outbox)
    }

    /// Other limits, from the next message on.
    pub fn set_limits(&self, limits: config::Outbox) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Whether this is the outbox of `folder`, however its path is written.
    pub fn is_in(&self, folder: &Path) -> bool {
        let own = self.path.parent().and_then(|parent| parent.canonicalize().ok());
        own.is_some() && own == folder.canonicalize().ok()
    }

    /// Adds a message. When the limit in bytes is reached, others go for it: the oldest telemetry first, then answers, then the
    /// oldest results.
    pub fn add(&self, kind: Kind, payload: &[u8], now: Timestamp) -> Result<Stock, OutboxError> {
        self.change(|change, limits| {
            insert(change, kind, payload, now)?;
            make_room(change, limits)
        })
    }

    /// Takes confirmed messages out. One that is not there any more is no error.
    pub fn remove(&self, confirmed: &[(Kind, u64)]) -> Result<Stock, OutboxError> {
        self.change(|change, _| {
            let mut freed = 0;
            for kind in Kind::ALL {
                let mut table = change.open_table(kind.table())?;
                for &(_, key) in confirmed.iter().filter(|(of, _)| *of == kind) {
                    freed += table.remove(key)?.map_or(0, |old| old.value().1.len() as u64);
                }
            }
            forget(change, freed, 0)
        })
    }

    /// Removes what is older than the limits say.
    pub fn prune(&self, now: Timestamp) -> Result<Stock, OutboxError> {
        let now = now.as_second();
        if now >= CLOCK_IS_SET {
            self.change(|change, limits| {
                let (mut bytes, mut lost) = (0, 0);
                for (kind, days) in [(Kind::Telemetry, limits.telemetry_days), (Kind::Result, limits.days)] {
                    let eldest = now - i64::from(days) * 24 * 3600;
                    let mut table = change.open_table(kind.table())?;
                    let old = table.extract_if(|_, (stored, _)| (CLOCK_IS_SET..eldest).contains(&stored))?;
                    for entry in old {
                        bytes += entry?.1.value().1.len() as u64;
                        lost += u64::from(kind == Kind::Result);
                    }
                }
                if lost > 0 {
                    tracing::warn!("{lost} results were never sent and are removed: older than outbox.days");
                }
                forget(change, bytes, lost)
            })
        } else {
            self.stock()
        }
    }

    /// The first `count` messages of a kind behind the place `after`; from the beginning without one.
    pub fn after(&self, kind: Kind, after: Option<u64>, count: usize) -> Result<Vec<Stored>, OutboxError> {
        self.with(|database, _| {
            let table = database.begin_read()?.open_table(kind.table())?;
            let from = after.map_or(0, |key| key + 1);
            let mut found = Vec::with_capacity(count);
            for entry in table.range(from..)?.take(count) {
                let (key, value) = entry?;
                found.push(Stored { key: key.value(), payload: value.value().1.to_vec() });
            }
            Ok(found)
        })
    }

    /// What waits.
    pub fn stock(&self) -> Result<Stock, OutboxError> {
        self.with(|database, _| {
            let read = database.begin_read()?;
            let telemetry = read.open_table(Kind::Telemetry.table())?.len()?;
            Ok(stock(&read.open_table(Kind::Result.table())?, telemetry, &read.open_table(FIGURES)?)?)
        })
    }

    /// Notes that a command came, before it is carried out. Says whether it is new and may be.
    ///
    /// An id is remembered until its command expires: from then on, it is refused as too late.
    pub fn accept(&self, id: &str, name: &str, expires: Timestamp, now: Timestamp) -> Result<Accepted, OutboxError> {
        let mut accepted = Accepted::Repeat;
        self.change(|change, _| {
            let mut table = change.open_table(COMMANDS)?;
            if table.get(id)?.is_some() {
                return Ok(());
            }
            table.retain(|_, (expires, unanswered)| expires >= now.as_second() || !unanswered.is_empty())?;
            if table.len()? >= MOST_COMMANDS {
                accepted = Accepted::TooMany;
                return Ok(());
            }
            table.insert(id, (expires.as_second(), name))?;
            accepted = Accepted::New;
            Ok(())
        })?;
        Ok(accepted)
    }

    /// Stores the answer to a command; `id` is that of an accepted one, which now counts as answered.
    pub fn answer(&self, id: Option<&str>, payload: &[u8], now: Timestamp) -> Result<Stock, OutboxError> {
        self.change(|change, limits| {
            if let Some(id) = id {
                let mut table = change.open_table(COMMANDS)?;
                let expires = table.get(id)?.map(|value| value.value().0);
                if let Some(expires) = expires {
                    table.insert(id, (expires, ""))?;
                }
            }
            insert(change, Kind::Response, payload, now)?;
            make_room(change, limits)
        })
    }

    /// Id and name of the commands that were accepted and never answered: the program or the power failed between.
    pub fn unanswered(&self) -> Result<Vec<(String, String)>, OutboxError> {
        self.with(|database, _| {
            let table = database.begin_read()?.open_table(COMMANDS)?;
            let mut found = Vec::new();
            for entry in table.iter()? {
                let (id, value) = entry?;
                if !value.value().1.is_empty() {
                    found.push((id.value().to_owned(), value.value().1.to_owned()));
                }
            }
            Ok(found)
        })
    }

    /// Makes a change durable, and tells what waits then. Counted before the commit: what fails afterwards would pass for a change
    /// that was not made.
    fn change(
        &self,
        edit: impl FnOnce(&WriteTransaction, &config::Outbox) -> Result<(), redb::Error>,
    ) -> Result<Stock, OutboxError> {
        self.with(|database, limits| {
            // A transaction is durable by default: commit returns after the disk has it.
            let change = database.begin_write()?;
            edit(&change, limits)?;
            let telemetry = change.open_table(Kind::Telemetry.table())?.len()?;
            let stock = stock(&change.open_table(Kind::Result.table())?, telemetry, &change.open_table(FIGURES)?)?;
            change.commit()?;
            Ok(stock)
        })
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&Database, &config::Outbox) -> Result<T, redb::Error>,
    ) -> Result<T, OutboxError> {
        let mut kept = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = *self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = || -> Result<(Database, T), redb::Error> {
            let database = match kept.take() {
                Some(database) => database,
                None => {
                    remove_unfinished(&self.path)?;
                    Database::builder().set_cache_size(CACHE_BYTES).create(&self.path)?
                }
            };
            let done = work(&database, &limits)?;
            Ok((database, done))
        };
        match attempt() {
            Ok((database, done)) => {
                *kept = Some(database);
                Ok(done)
            }
            Err(redb::Error::DatabaseAlreadyOpen) => Err(self.failed("another anemiad is using it".into())),
            Err(error) => Err(self.failed(error.to_string())),
        }
    }

    fn failed(&self, cause: String) -> OutboxError {
        OutboxError { path: self.path.clone(), cause: cause.split_whitespace().collect::<Vec<_>>().join(" ") }
    }
}

/// Removes a file whose making was interrupted by the power or a full disk, or it would be refused for ever. The database
/// writes the first bytes of its file last, so that nothing was ever stored in one without them.
fn remove_unfinished(path: &Path) -> std::io::Result<()> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut start = [0; FIRST_BYTES];
    let read = file.read(&mut start)?;
    let is_unfinished = read > 0 && start[..read].iter().all(|byte| *byte == 0);
    // Locked, it is being made by somebody else.
    if is_unfinished && file.try_lock().is_ok() {
        tracing::warn!("{}: its making was interrupted; it is made anew", path.display());
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// What becomes of a command that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is noted and may be carried out.
    New,
    /// It was noted before.
    Repeat,
    /// Too many others are remembered.
    TooMany,
}

fn figure(figures: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, redb::StorageError> {
    Ok(figures.get(name)?.map_or(0, |value| value.value()))
}

fn stock(
    results: &impl ReadableTable<u64, (i64, &'static [u8])>,
    telemetry: u64,
    figures: &impl ReadableTable<&'static str, u64>,
) -> Result<Stock, redb::StorageError> {
    // Whoever comes here has the database for itself.
    static LOOKS: AtomicU64 = AtomicU64::new(0);
    Ok(Stock {
        look: LOOKS.fetch_add(1, Ordering::Relaxed) + 1,
        results: results.len()?,
        telemetry,
        bytes: figure(figures, BYTES)?,
        lost: figure(figures, LOST)?,
        oldest: results.first()?.map(|(_, value)| value.value().0),
    })
}

fn insert(change: &WriteTransaction, kind: Kind, payload: &[u8], now: Timestamp) -> Result<(), redb::Error> {
    let mut figures = change.open_table(FIGURES)?;
    let (next, bytes) = (figure(&figures, NEXT)?, figure(&figures, BYTES)?);
    figures.insert(NEXT, next + 1)?;
    figures.insert(BYTES, bytes + payload.len() as u64)?;
    change.open_table(kind.table())?.insert(next, (now.as_second(), payload))?;
    Ok(())
}

/// Removes messages until the others fit: what is missed least first, and of that the oldest.
fn make_room(change: &WriteTransaction, limits: &config::Outbox) -> Result<(), redb::Error> {
    let most = u64::from(limits.mib) << 20;
    let bytes = figure(&change.open_table(FIGURES)?, BYTES)?;
    let (mut freed, mut lost) = (0, 0);
    for kind in [Kind::Telemetry, Kind::Response, Kind::Result] {
        let mut table = change.open_table(kind.table())?;
        while bytes - freed > most {
            let Some((_, value)) = table.pop_first()? else { break };
            freed += value.value().1.len() as u64;
            lost += u64::from(kind == Kind::Result);
        }
    }
    if lost > 0 {
        tracing::warn!("{lost} results were never sent and are removed: the outbox holds more than outbox.mib");
    }
    if freed > 0 { forget(change, freed, lost) } else { Ok(()) }
}

fn forget(change: &WriteTransaction, bytes: u64, lost: u64) -> Result<(), redb::Error> {
    let mut figures = change.open_table(FIGURES)?;
    let (all, lost_before) = (figure(&figures, BYTES)?, figure(&figures, LOST)?);
    figures.insert(BYTES, all.saturating_sub(bytes))?;
    figures.insert(LOST, lost_before + lost)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day in 2026, in seconds since 1970.
    const TODAY: i64 = 20_500 * DAY;
    const DAY: i64 = 24 * 3600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn open(folder: &Path) -> Outbox {
        Outbox::open(folder, config::Outbox::default()).unwrap()
    }

    fn payloads(outbox: &Outbox, kind: Kind) -> Vec<Vec<u8>> {
        outbox.after(kind, None, 1000).unwrap().into_iter().map(|stored| stored.payload).collect()
    }

    #[test]
    fn a_file_whose_making_was_interrupted_is_made_anew_and_any_other_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        // As long as the database makes it, and without its first bytes, which it writes last.
        std::fs::write(&path, [vec![0; FIRST_BYTES], vec![7; 4096]].concat()).unwrap();
        open(folder.path()).add(Kind::Result, b"1", at(TODAY)).unwrap();
        assert_eq!(payloads(&open(folder.path()), Kind::Result), [b"1"]);
        std::fs::write(&path, "notes of the nurse").unwrap();
        Outbox::open(folder.path(), config::Outbox::default()).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"notes of the nurse");
    }

    #[test]
    fn messages_come_back_in_order_after_a_restart_and_leave_once() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = open(folder.path());
        // The clock of a board without a battery goes back.
        for (index, second) in [TODAY, 7, TODAY - DAY, TODAY, TODAY + 1].into_iter().enumerate() {
            outbox.add(Kind::Result, &[index as u8], at(second)).unwrap();
        }
        let second = outbox.after(Kind::Result, None, 2).unwrap()[1].key;
        outbox.remove(&[(Kind::Result, second)]).unwrap();
        outbox.remove(&[(Kind::Result, second)]).unwrap();
        drop(outbox);

        let outbox = open(folder.path());
        assert_eq!(payloads(&outbox, Kind::Result), [vec![0], vec![2], vec![3], vec![4]]);
        let stock = outbox.stock().unwrap();
        assert_eq!((stock.results, stock.bytes, stock.oldest), (4, 4, Some(TODAY)));
        let first = outbox.after(Kind::Result, None, 2).unwrap();
        assert_eq!(outbox.after(Kind::Result, Some(first[1].key), 9).unwrap().len(), 2);
    }

    #[test]
    fn a_place_is_never_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = open(folder.path());
        outbox.add(Kind::Result, b"one", at(TODAY)).unwrap();
        let one = outbox.after(Kind::Result, None, 1).unwrap()[0].key;
        outbox.remove(&[(Kind::Result, one)]).unwrap();
        outbox.add(Kind::Result, b"two", at(TODAY)).unwrap();
        assert_eq!(
            outbox.after(Kind::Result, Some(one), 9).unwrap().len(),
            1,
            "who has sent the first finds the second"
        );
    }

    #[test]
    fn a_full_outbox_lets_telemetry_go_first_and_counts_the_results_that_had_to_go() {
        let folder = tempfile::tempdir().unwrap();
        let limits = config::Outbox { mib: 1, ..config::Outbox::default() };
        let outbox = Outbox::open(folder.path(), limits).unwrap();
        let message = |number: u8| vec![number; 1 << 18];
        for number in 0..3 {
            outbox.add(Kind::Result, &message(number), at(TODAY)).unwrap();
        }
        outbox.add(Kind::Telemetry, &message(10), at(TODAY)).unwrap();
        let stock = outbox.add(Kind::Telemetry, &message(11), at(TODAY)).unwrap();
        assert_eq!((stock.results, stock.telemetry, stock.lost), (3, 1, 0));
        assert_eq!(payloads(&outbox, Kind::Telemetry), [message(11)]);
        let stock = outbox.add(Kind::Result, &message(3), at(TODAY)).unwrap();
        assert_eq!((stock.results, stock.telemetry, stock.lost), (4, 0, 0));
        let stock = outbox.add(Kind::Result, &message(4), at(TODAY)).unwrap();
        assert_eq!((stock.results, stock.lost, stock.bytes), (4, 1, 1 << 20));
        assert_eq!(payloads(&outbox, Kind::Result)[0], message(1), "the oldest went");
        drop(outbox);
        assert_eq!(open(folder.path()).stock().unwrap().lost, 1, "the count survives");
    }

    #[test]
    fn what_is_too_old_goes_unless_the_clock_was_or_is_not_set() {
        let folder = tempfile::tempdir().unwrap();
        let limits = config::Outbox { days: 10, telemetry_days: 2, ..config::Outbox::default() };
        let outbox = Outbox::open(folder.path(), limits).unwrap();
        for (number, second) in [(0, 100), (1, TODAY), (2, TODAY + 9 * DAY)] {
            outbox.add(Kind::Result, &[number], at(second)).unwrap();
            outbox.add(Kind::Telemetry, &[number], at(second)).unwrap();
        }
        outbox.prune(at(200 * DAY)).unwrap();
        let stock = outbox.prune(at(TODAY + 10 * DAY + 1)).unwrap();
        assert_eq!(payloads(&outbox, Kind::Result), [[0], [2]]);
        assert_eq!(payloads(&outbox, Kind::Telemetry), [[0], [2]]);
        assert_eq!((stock.lost, stock.bytes), (1, 4));
    }

    #[test]
    fn a_command_is_new_once_and_answered_once() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = open(folder.path());
        let accept = |outbox: &Outbox, id: &str, now| outbox.accept(id, "reload", at(TODAY + 60), at(now)).unwrap();
        assert_eq!(accept(&outbox, "a", TODAY), Accepted::New);
        assert_eq!(accept(&outbox, "b", TODAY), Accepted::New);
        assert_eq!(accept(&outbox, "a", TODAY), Accepted::Repeat);
        outbox.answer(Some("a"), b"done", at(TODAY)).unwrap();
        drop(outbox);
        let outbox = open(folder.path());
        assert_eq!(accept(&outbox, "a", TODAY), Accepted::Repeat, "after a restart, too");
        assert_eq!(outbox.unanswered().unwrap(), [("b".to_owned(), "reload".to_owned())]);
        assert_eq!(payloads(&outbox, Kind::Response), [b"done"]);
        accept(&outbox, "c", TODAY + 61);
        let remembered = outbox.with(|database, _| Ok(database.begin_read()?.open_table(COMMANDS)?.len()?)).unwrap();
        assert_eq!(remembered, 2, "what has expired and is answered is forgotten");
    }

    #[test]
    fn after_an_error_the_file_is_opened_again_and_everything_is_still_there() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = open(folder.path());
        outbox.add(Kind::Result, b"result", at(TODAY)).unwrap();
        let error = std::io::Error::new(ErrorKind::StorageFull, "no space left");
        let failed = outbox.with(|_, _| Err::<(), _>(redb::Error::Io(error))).unwrap_err().to_string();
        assert!(failed.contains("no space left"), "{failed}");
        assert_eq!(payloads(&outbox, Kind::Result), [b"result"]);
        outbox.add(Kind::Result, b"another", at(TODAY)).unwrap();
        assert_eq!(outbox.stock().unwrap().results, 2);
    }

    #[test]
    fn two_daemons_cannot_share_an_outbox() {
        let folder = tempfile::tempdir().unwrap();
        let _first = open(folder.path());
        let error = Outbox::open(folder.path(), config::Outbox::default()).unwrap_err().to_string();
        assert!(error.contains("another anemiad is using it"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_outbox_is_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), b"not a database at all").unwrap();
        let error = Outbox::open(folder.path(), config::Outbox::default()).unwrap_err().to_string();
        assert!(error.contains(FILE) && !error.contains('\n'), "{error}");
    }
}
