//! Results that the broker has not confirmed yet, on disk.

use std::ops::Bound;
use std::path::{Path, PathBuf};

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
    database: Database,
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
        let failed = |cause: String| OutboxError { path: path.clone(), cause };
        std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => failed("another anemiad is using it".into()),
            other => failed(other.to_string()),
        })?;
        let outbox = Self { database, path };
        // The table is made now, so that reading never has to care whether it is there.
        outbox.change(|_| Ok(()))?;
        Ok(outbox)
    }

    /// Whether this is the outbox of `folder`.
    pub fn is_in(&self, folder: &Path) -> bool {
        self.path.parent() == Some(folder)
    }

    /// Adds a result.
    pub fn add(&self, id: Uuid, payload: &[u8]) -> Result<(), OutboxError> {
        self.change(|table| table.insert(id.as_u128(), payload).map(drop))
    }

    /// Takes a confirmed result out. One that is not there any more is no error.
    pub fn remove(&self, id: Uuid) -> Result<(), OutboxError> {
        self.change(|table| table.remove(id.as_u128()).map(drop))
    }

    /// At most `count` results after the one with the id `after`, oldest first.
    pub fn next(&self, after: Option<Uuid>, count: usize) -> Result<Vec<(Uuid, Vec<u8>)>, OutboxError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(RESULTS)?;
            let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_u128()));
            let mut found = Vec::new();
            for entry in table.range((start, Bound::Unbounded))?.take(count) {
                let (id, payload) = entry?;
                found.push((Uuid::from_u128(id.value()), payload.value().to_vec()));
            }
            Ok(found)
        };
        read().map_err(|error| self.failed(&error))
    }

    /// How many results wait.
    pub fn len(&self) -> Result<u64, OutboxError> {
        let count = || -> Result<u64, redb::Error> { Ok(self.database.begin_read()?.open_table(RESULTS)?.len()?) };
        count().map_err(|error| self.failed(&error))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> Result<bool, OutboxError> {
        Ok(self.len()? == 0)
    }

    fn change(
        &self,
        edit: impl FnOnce(&mut redb::Table<'_, u128, &'static [u8]>) -> Result<(), redb::StorageError>,
    ) -> Result<(), OutboxError> {
        let write = || -> Result<(), redb::Error> {
            // A transaction is durable by default: commit returns after the disk has it.
            let transaction = self.database.begin_write()?;
            edit(&mut transaction.open_table(RESULTS)?)?;
            Ok(transaction.commit()?)
        };
        write().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &redb::Error) -> OutboxError {
        OutboxError { path: self.path.clone(), cause: error.to_string() }
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
        let first = outbox.next(None, 2).unwrap();
        assert_eq!(first, [(ids[0], vec![0]), (ids[2], vec![2])]);
        let rest = outbox.next(Some(ids[2]), 10).unwrap();
        assert_eq!(rest, [(ids[3], vec![3]), (ids[4], vec![4])]);
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
