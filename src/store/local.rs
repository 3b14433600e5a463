//! The embedded store: one file, for runs without Azure.
//!
//! redb writes a transaction beside what it replaces and makes it valid with
//! one flip of the file's header after an fsync, so a kill or a power cut at any
//! point leaves the state before a commit or the state after it. A file that
//! was not closed is checked when it is opened next. One process at a time may
//! have it open; a second is told so. A commit waits for the disk, so the file
//! is only touched on threads that may block.

use std::fs::DirBuilder;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::backends::InMemoryBackend;
use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};

use super::{Change, ETag, Fields, Row, StoreError, Value};

const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");

/// Rows in a file.
#[derive(Clone, Debug)]
pub struct Local {
    database: Arc<Database>,
    /// The next version to give. Carries on from the highest stored one; no
    /// version from before outlives the process that read it.
    versions: Arc<AtomicU64>,
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

impl Local {
    /// Opens, or makes, `state.redb` in `dir`.
    ///
    /// # Errors
    ///
    /// [`StoreError::File`] if the folder cannot be written, or another process
    /// has the file open; [`StoreError::Damaged`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        private_folder(dir).map_err(CannotOpen::Folder).map_err(file)?;
        let opened = Database::create(dir.join("state.redb"));
        Self::with(opened.map_err(opening)?)
    }

    /// A store that is gone when dropped.
    ///
    /// # Errors
    ///
    /// [`StoreError::File`] if there is no memory for it.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::with(Database::builder().create_with_backend(InMemoryBackend::new()).map_err(file)?)
    }

    fn with(database: Database) -> Result<Self, StoreError> {
        let write = database.begin_write().map_err(file)?;
        let mut highest = 0;
        {
            let table = write.open_table(ROWS).map_err(file)?;
            for entry in table.iter().map_err(file)? {
                let (key, value) = entry.map_err(file)?;
                highest = highest.max(stored(key.value(), value.value())?.version);
            }
        }
        write.commit().map_err(file)?;
        Ok(Self { database: Arc::new(database), versions: Arc::new(AtomicU64::new(highest + 1)) })
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Row>, StoreError> {
        let key = key.to_owned();
        self.blocking(move |local| local.get_now(&key)).await
    }

    pub(super) async fn scan(&self, from: &str, to: &str) -> Result<Vec<Row>, StoreError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.blocking(move |local| local.scan_now(&from, &to)).await
    }

    pub(super) async fn commit(&self, changes: &[Change]) -> Result<Vec<Option<ETag>>, StoreError> {
        let changes = changes.to_vec();
        self.blocking(move |local| local.commit_now(&changes)).await
    }

    /// Once begun, `work` is carried through even if the caller stops waiting.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let local = self.clone();
        tokio::task::spawn_blocking(move || work(&local)).await.map_err(file)?
    }

    fn get_now(&self, key: &str) -> Result<Option<Row>, StoreError> {
        let read = self.database.begin_read().map_err(file)?;
        let table = read.open_table(ROWS).map_err(file)?;
        let value = table.get(key).map_err(file)?;
        value.map(|value| row(key, value.value())).transpose()
    }

    fn scan_now(&self, from: &str, to: &str) -> Result<Vec<Row>, StoreError> {
        let read = self.database.begin_read().map_err(file)?;
        let table = read.open_table(ROWS).map_err(file)?;
        table
            .range(from..to)
            .map_err(file)?
            .map(|entry| {
                let (key, value) = entry.map_err(file)?;
                row(key.value(), value.value())
            })
            .collect()
    }

    fn commit_now(&self, changes: &[Change]) -> Result<Vec<Option<ETag>>, StoreError> {
        let write = self.database.begin_write().map_err(file)?;
        let mut versions = Vec::with_capacity(changes.len());
        {
            let mut table = write.open_table(ROWS).map_err(file)?;
            for change in changes {
                let held = table.get(change.key()).map_err(file)?;
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
                        table.remove(change.key()).map_err(file)?;
                        versions.push(None);
                    }
                    Some(fields) => {
                        let version = self.versions.fetch_add(1, Ordering::Relaxed);
                        let bytes =
                            serde_json::to_vec(&to_stored(version, fields)).map_err(file)?;
                        table.insert(change.key(), bytes.as_slice()).map_err(file)?;
                        versions.push(Some(etag(version)));
                    }
                }
            }
        }
        write.commit().map_err(file)?;
        Ok(versions)
    }
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
}
