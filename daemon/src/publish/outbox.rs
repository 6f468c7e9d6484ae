//! Results that the broker has not confirmed yet, on disk.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use uuid::Uuid;

/// Key: the id of the result. A UUIDv7 begins with its time, so the order of the keys is the order of the exams.
const RESULTS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("results");
const FILE: &str = "outbox.redb";
/// The outbox is small and read once: it needs no cache worth its memory.
const CACHE_BYTES: usize = 1 << 20;

/// The results that wait for the broker. Every change is synced to the disk before a method returns.
#[derive(Debug)]
pub struct Outbox {
    /// Empty after an error: redb takes no more work then, and the next call opens the file again.
    database: Mutex<Option<Database>>,
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

impl Outbox {
    /// Opens the outbox in `folder`, and makes both if they are not there.
    pub fn open(folder: &Path) -> Result<Self, OutboxError> {
        let path = folder.join(FILE);
        std::fs::create_dir_all(folder)
            .map_err(|error| OutboxError { path: folder.to_owned(), cause: error.to_string() })?;
        let outbox = Self { database: Mutex::new(None), path };
        // The table is made now, so that reading never has to care whether it is there.
        outbox.change(|_| Ok(()))?;
        Ok(outbox)
    }

    /// Whether this is the outbox of `folder`, however its path is written.
    pub fn is_in(&self, folder: &Path) -> bool {
        let own = self.path.parent().and_then(|parent| parent.canonicalize().ok());
        own.is_some() && own == folder.canonicalize().ok()
    }

    /// Adds a result.
    pub fn add(&self, id: Uuid, payload: &[u8]) -> Result<(), OutboxError> {
        self.change(|table| table.insert(id.as_u128(), payload).map(drop))
    }

    /// Takes a confirmed result out. One that is not there any more is no error.
    pub fn remove(&self, id: Uuid) -> Result<(), OutboxError> {
        self.change(|table| table.remove(id.as_u128()).map(drop))
    }

    /// The first `count` results, oldest first.
    pub fn first(&self, count: usize) -> Result<Vec<(Uuid, Vec<u8>)>, OutboxError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(RESULTS)?;
            let mut found = Vec::new();
            for entry in table.range::<u128>(..)?.take(count) {
                let (id, payload) = entry?;
                found.push((Uuid::from_u128(id.value()), payload.value().to_vec()));
            }
            Ok(found)
        })
    }

    /// How many results wait.
    pub fn len(&self) -> Result<u64, OutboxError> {
        self.with(|database| Ok(database.begin_read()?.open_table(RESULTS)?.len()?))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> Result<bool, OutboxError> {
        Ok(self.len()? == 0)
    }

    fn change(
        &self,
        edit: impl FnOnce(&mut redb::Table<'_, u128, &'static [u8]>) -> Result<(), redb::StorageError>,
    ) -> Result<(), OutboxError> {
        self.with(|database| {
            // A transaction is durable by default: commit returns after the disk has it.
            let transaction = database.begin_write()?;
            edit(&mut transaction.open_table(RESULTS)?)?;
            Ok(transaction.commit()?)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, OutboxError> {
        let mut opened = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = || -> Result<(Database, T), redb::Error> {
            let database = match opened.take() {
                Some(database) => database,
                None => Database::builder().set_cache_size(CACHE_BYTES).create(&self.path)?,
            };
            let done = work(&database)?;
            Ok((database, done))
        };
        let result = attempt();
        match result {
            Ok((database, done)) => {
                *opened = Some(database);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_back_in_order_after_a_restart_and_leave_once() {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
        let outbox = Outbox::open(folder.path()).unwrap();
        for (index, id) in ids.iter().enumerate().rev() {
            outbox.add(*id, &[index as u8]).unwrap();
        }
        outbox.remove(ids[1]).unwrap();
        outbox.remove(ids[1]).unwrap();
        drop(outbox);

        let outbox = Outbox::open(folder.path()).unwrap();
        assert_eq!(outbox.len().unwrap(), 4);
        let first = outbox.first(2).unwrap();
        assert_eq!(first, [(ids[0], vec![0]), (ids[2], vec![2])]);
        assert_eq!(outbox.first(10).unwrap().last(), Some(&(ids[4], vec![4])));
    }

    #[test]
    fn after_an_error_the_file_is_opened_again_and_everything_is_still_there() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        let id = Uuid::now_v7();
        outbox.add(id, b"result").unwrap();
        let error = std::io::Error::new(std::io::ErrorKind::StorageFull, "no space left");
        let failed = outbox.with(|_| Err::<(), _>(redb::Error::Io(error))).unwrap_err().to_string();
        assert!(failed.contains("no space left"), "{failed}");
        assert_eq!(outbox.first(9).unwrap(), [(id, b"result".to_vec())]);
        outbox.add(Uuid::now_v7(), b"another").unwrap();
        assert_eq!(outbox.len().unwrap(), 2);
    }

    #[test]
    fn two_daemons_cannot_share_an_outbox() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Outbox::open(folder.path()).unwrap();
        let error = Outbox::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another anemiad is using it"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_outbox_is_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), b"not a database at all").unwrap();
        let error = Outbox::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(FILE) && !error.contains('\n'), "{error}");
    }
}
