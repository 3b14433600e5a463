//! The embedded store: one file, for runs without Azure.
//!
//! redb writes a transaction beside what it replaces and makes it valid with
//! one flip of the file's header after an fsync, so a kill or a power cut at any
//! point leaves the state before a commit or the state after it. A file that
//! was not closed is checked when it is opened next. One process at a time may
//! have it open; a second is told so. A commit waits for the disk, so the file
//! is only touched on threads that may block.
//!
//! Once the disk has failed redb refuses everything until the file is opened
//! again. So it is opened again: a disk that was full for a moment must not stop
//! the export until somebody restarts it.

use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::backends::InMemoryBackend;
use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Change, ETag, Fields, Row, StoreError, Value};

const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");

/// Opens the file that was open before.
type Again = dyn Fn() -> Result<Database, DatabaseError> + Send + Sync;

/// Rows in a file.
#[derive(Clone)]
pub struct Local {
    /// `None` while it could not be opened again.
    database: Arc<RwLock<Option<Database>>>,
    again: Arc<Again>,
    /// The next version to give. Carries on from the highest stored one; no
    /// version from before outlives the process that read it.
    versions: Arc<AtomicU64>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Local")
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u64,
    fields: Vec<(String, StoredValue)>,
}

#[derive(Serialize, Deserialize)]
enum StoredValue {
    Text(String),
    /// Base64; a list of numbers in files of earlier versions.
    Bytes(#[serde(with = "base64_text")] Vec<u8>),
    Int(i64),
    Bool(bool),
}

mod base64_text {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Held {
        Text(String),
        Numbers(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        match Held::deserialize(from)? {
            Held::Text(text) => BASE64_STANDARD.decode(text).map_err(D::Error::custom),
            Held::Numbers(bytes) => Ok(bytes),
        }
    }
}

/// Why the file cannot be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
enum CannotOpen {
    #[error(
        "another process is using it: stop that one, or give this one another folder with --state-dir"
    )]
    InUse,
    #[error("it cannot be opened: choose a folder this account may write to with --state-dir")]
    Broken(#[source] DatabaseError),
    #[error("its folder cannot be made: choose one this account may write to with --state-dir")]
    Folder(#[source] io::Error),
}

impl From<DatabaseError> for CannotOpen {
    fn from(error: DatabaseError) -> Self {
        if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
            Self::InUse
        } else {
            Self::Broken(error)
        }
    }
}

/// The file itself is damaged, or cannot be reached.
fn opening(error: DatabaseError) -> StoreError {
    use redb::StorageError::{Corrupted, Io};
    let cut = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    let damaged =
        matches!(&error, DatabaseError::Storage(Corrupted(_)) | DatabaseError::RepairAborted)
            || matches!(&error, DatabaseError::Storage(Io(broken)) if cut.contains(&broken.kind()));
    if damaged { StoreError::Damaged } else { file(CannotOpen::from(error)) }
}

fn file(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::File(Box::new(error))
}

/// What redb says of an open file.
fn failed(error: impl Into<redb::Error>) -> StoreError {
    file(error.into())
}

/// Whether the disk failed before, so that redb answers nothing any more.
fn is_latched(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::File(error)
            if matches!(error.downcast_ref::<redb::Error>(), Some(redb::Error::PreviousIo))
    )
}

impl Local {
    /// Opens, or makes, `state.redb` in `dir`.
    ///
    /// # Errors
    ///
    /// [`StoreError::File`] if the folder cannot be written, or another process
    /// has the file open; [`StoreError::Damaged`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        private_folder(dir).map_err(CannotOpen::Folder).map_err(file)?;
        let path = dir.join("state.redb");
        let opened = Database::create(&path).map_err(opening)?;
        // What is gone by then must not be begun anew.
        Self::with(opened, move || Database::open(&path))
    }

    /// A store that is gone when dropped.
    ///
    /// # Errors
    ///
    /// [`StoreError::File`] if there is no memory for it.
    pub fn in_memory() -> Result<Self, StoreError> {
        let memory = InMemoryBackend::new();
        let opened = Database::builder().create_with_backend(memory).map_err(failed)?;
        // Memory does not fail.
        Self::with(opened, || Err(DatabaseError::Storage(redb::StorageError::PreviousIo)))
    }

    fn with(
        database: Database,
        again: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let versions = Arc::new(AtomicU64::new(highest(&database)? + 1));
        let database = Arc::new(RwLock::new(Some(database)));
        Ok(Self { database, again: Arc::new(again), versions })
    }

    /// What `work` makes of the file; opened again first where it must be.
    fn on_file<T>(
        &self,
        work: impl Fn(&Self, &Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        {
            let held = self.database.read().unwrap_or_else(PoisonError::into_inner);
            match held.as_ref().map(|database| work(self, database)) {
                Some(Err(error)) if is_latched(&error) => {}
                Some(done) => return done,
                None => {}
            }
        }
        let mut held = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Only one may have it open, this process included.
        drop(held.take());
        let database = (self.again)().map_err(opening)?;
        warn!("the disk failed before; the state file was opened again");
        self.versions.fetch_max(highest(&database)? + 1, Ordering::Relaxed);
        work(self, held.insert(database))
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Row>, StoreError> {
        let key = key.to_owned();
        self.blocking(move |_, database| get(database, &key)).await
    }

    pub(super) async fn scan(&self, from: &str, to: &str) -> Result<Vec<Row>, StoreError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.blocking(move |_, database| scan(database, &from, &to)).await
    }

    pub(super) async fn commit(&self, changes: &[Change]) -> Result<Vec<Option<ETag>>, StoreError> {
        let changes = changes.to_vec();
        self.blocking(move |local, database| local.commit_now(database, &changes)).await
    }

    /// Once begun, `work` is carried through even if the caller stops waiting.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl Fn(&Self, &Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let local = self.clone();
        tokio::task::spawn_blocking(move || local.on_file(work)).await.map_err(file)?
    }

    fn commit_now(
        &self,
        database: &Database,
        changes: &[Change],
    ) -> Result<Vec<Option<ETag>>, StoreError> {
        let write = database.begin_write().map_err(failed)?;
        let mut versions = Vec::with_capacity(changes.len());
        {
            let mut table = write.open_table(ROWS).map_err(failed)?;
            for change in changes {
                let held = table.get(change.key()).map_err(failed)?;
                let held = held.map(|value| stored(change.key(), value.value())).transpose()?;
                let expected = match change {
                    Change::Insert { .. } => None,
                    Change::Replace { etag, .. } | Change::Delete { etag, .. } => Some(etag),
                };
                // Dropping the transaction undoes the changes before this one.
                if held.map(|row| etag(row.version)).as_ref() != expected {
                    return Err(StoreError::Conflict);
                }
                match change.fields() {
                    None => {
                        table.remove(change.key()).map_err(failed)?;
                        versions.push(None);
                    }
                    Some(fields) => {
                        let version = self.versions.fetch_add(1, Ordering::Relaxed);
                        let bytes =
                            serde_json::to_vec(&to_stored(version, fields)).map_err(file)?;
                        table.insert(change.key(), bytes.as_slice()).map_err(failed)?;
                        versions.push(Some(etag(version)));
                    }
                }
            }
        }
        write.commit().map_err(failed)?;
        Ok(versions)
    }
}

fn get(database: &Database, key: &str) -> Result<Option<Row>, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let table = read.open_table(ROWS).map_err(failed)?;
    let value = table.get(key).map_err(failed)?;
    value.map(|value| row(key, value.value())).transpose()
}

fn scan(database: &Database, from: &str, to: &str) -> Result<Vec<Row>, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let table = read.open_table(ROWS).map_err(failed)?;
    table
        .range(from..to)
        .map_err(failed)?
        .map(|entry| {
            let (key, value) = entry.map_err(failed)?;
            row(key.value(), value.value())
        })
        .collect()
}

/// The highest version there is. Makes the table when it is missing.
fn highest(database: &Database) -> Result<u64, StoreError> {
    let write = database.begin_write().map_err(failed)?;
    let mut highest = 0;
    {
        let table = write.open_table(ROWS).map_err(failed)?;
        for entry in table.iter().map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            highest = highest.max(stored(key.value(), value.value())?.version);
        }
    }
    write.commit().map_err(failed)?;
    Ok(highest)
}

/// Makes a folder, and those above it, for this account alone: what is kept
/// here is about a hospital's machines. One that exists is left as it is.
pub(super) fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn etag(version: u64) -> ETag {
    ETag(version.to_string())
}

fn stored(key: &str, bytes: &[u8]) -> Result<Stored, StoreError> {
    serde_json::from_slice(bytes).map_err(|_garbage| StoreError::Corrupt {
        row: key.to_owned(),
        what: "not this program's form",
    })
}

fn row(key: &str, bytes: &[u8]) -> Result<Row, StoreError> {
    let stored = stored(key, bytes)?;
    let value = |value| match value {
        StoredValue::Text(text) => Value::Text(text),
        StoredValue::Bytes(bytes) => Value::Bytes(bytes),
        StoredValue::Int(number) => Value::Int(number),
        StoredValue::Bool(truth) => Value::Bool(truth),
    };
    let fields = stored.fields.into_iter().map(|(name, held)| (name, value(held))).collect();
    Ok(Row { key: key.to_owned(), etag: etag(stored.version), fields })
}

fn to_stored(version: u64, fields: &Fields) -> Stored {
    let value = |value: &Value| match value {
        Value::Text(text) => StoredValue::Text(text.clone()),
        Value::Bytes(bytes) => StoredValue::Bytes(bytes.clone()),
        Value::Int(number) => StoredValue::Int(*number),
        Value::Bool(truth) => StoredValue::Bool(*truth),
    };
    let fields = fields.iter().map(|(name, held)| (name.clone(), value(held))).collect();
    Stored { version, fields }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicBool;
    use std::sync::{Mutex, MutexGuard};

    use redb::StorageBackend;

    use super::*;

    #[test]
    fn bytes_are_kept_as_base64_and_read_as_numbers_too() {
        let fields = Fields::from([("a".to_owned(), Value::Bytes(vec![0, 255, 7]))]);
        let kept = serde_json::to_string(&to_stored(1, &fields)).unwrap();
        assert_eq!(kept, r#"{"version":1,"fields":[["a",{"Bytes":"AP8H"}]]}"#);
        let earlier = kept.replace(r#""AP8H""#, "[0,255,7]");
        for text in [kept, earlier] {
            assert_eq!(row("k", text.as_bytes()).unwrap().fields, fields);
        }
        assert!(row("k", br#"{"version":1,"fields":[["a",{"Bytes":"?"}]]}"#).is_err());
    }

    /// A disk that may be full.
    #[derive(Clone, Debug, Default)]
    struct Disk {
        bytes: Arc<Mutex<Vec<u8>>>,
        full: Arc<AtomicBool>,
    }

    impl Disk {
        fn open(&self) -> Result<Database, DatabaseError> {
            Database::builder().create_with_backend(self.clone())
        }

        fn room(&self) -> io::Result<MutexGuard<'_, Vec<u8>>> {
            if self.full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(self.bytes.lock().unwrap())
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.lock().unwrap().len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            let from = usize::try_from(offset).unwrap();
            out.copy_from_slice(&self.bytes.lock().unwrap()[from..from + out.len()]);
            Ok(())
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.room()?.resize(usize::try_from(len).unwrap(), 0);
            Ok(())
        }

        fn sync_data(&self) -> io::Result<()> {
            self.room().map(drop)
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            let from = usize::try_from(offset).unwrap();
            self.room()?[from..from + data.len()].copy_from_slice(data);
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_disk_that_was_full_for_a_moment_costs_that_moment_and_no_more() {
        let disk = Disk::default();
        let opened = disk.open().unwrap();
        let again = disk.clone();
        let local = Local::with(opened, move || again.open()).unwrap();
        let insert = |key: &str| {
            vec![Change::Insert {
                key: key.to_owned(),
                fields: Fields::from([("a".to_owned(), Value::Int(1))]),
            }]
        };
        local.commit(&insert("before")).await.unwrap();
        disk.full.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            let refused = local.commit(&insert("meanwhile")).await;
            assert!(matches!(refused, Err(StoreError::File(_))), "{refused:?}");
        }
        disk.full.store(false, Ordering::SeqCst);
        local.commit(&insert("after")).await.unwrap();
        let rows = local.scan("a", "z").await.unwrap();
        let keys: Vec<_> = rows.iter().map(|row| row.key.as_str()).collect();
        assert_eq!(keys, ["after", "before"]);
        let etags: BTreeSet<_> = rows.iter().map(|row| row.etag.0.clone()).collect();
        assert_eq!(etags.len(), 2, "no version is given twice");
    }
}
