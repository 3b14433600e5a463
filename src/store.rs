//! Where state is kept between runs: rows of one partition.
//!
//! Every write carries the [`ETag`] the row was read with, so that of two
//! instances only one moves the position. Rows that belong together are
//! written together: all or none.

pub mod backfill;
mod blobs;
mod blobs_local;
mod local;
mod rows;
pub mod runs;
pub mod state;
mod table;
mod table_batch;
mod table_call;
mod table_wire;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::azure::storage::Access;
use crate::config::StorageConfig;
use crate::http::Broken;

pub use self::blobs::{BlobError, Blobs};
pub use self::blobs_local::LocalBlobs;
pub use self::local::Local;
pub use self::table::Table;

/// Rows written in one transaction at most, as Table Storage allows.
pub const MAX_CHANGES: usize = 100;
/// Bytes of one value at most, as Table Storage allows.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Bytes of one row at most, as Table Storage allows.
pub const MAX_ROW_BYTES: usize = 1024 * 1024;

/// A row's version. Changes with every write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ETag(pub(crate) String);

/// One value of a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A whole number.
    Int(i64),
    /// Yes or no.
    Bool(bool),
}

/// A row's values by name. Names are letters, digits and `_`.
pub type Fields = BTreeMap<String, Value>;

/// A row as read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// Its key within the partition.
    pub key: String,
    /// The version read.
    pub etag: ETag,
    /// Its values.
    pub fields: Fields,
}

/// One write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// A row that must not exist yet.
    Insert {
        /// Its key.
        key: String,
        /// Its values.
        fields: Fields,
    },
    /// A row that must still be as it was read; its values are replaced whole.
    Replace {
        /// Its key.
        key: String,
        /// The version read.
        etag: ETag,
        /// Its values.
        fields: Fields,
    },
    /// A row that must still be as it was read, removed.
    Delete {
        /// Its key.
        key: String,
        /// The version read.
        etag: ETag,
    },
}

impl Change {
    /// A new row, or the next version of the one read.
    pub fn write(key: impl Into<String>, etag: Option<ETag>, fields: Fields) -> Self {
        let key = key.into();
        match etag {
            None => Self::Insert { key, fields },
            Some(etag) => Self::Replace { key, etag, fields },
        }
    }

    /// The row's key.
    pub fn key(&self) -> &str {
        match self {
            Self::Insert { key, .. } | Self::Replace { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// What the row holds afterwards; `None` if it is removed.
    pub fn fields(&self) -> Option<&Fields> {
        match self {
            Self::Insert { fields, .. } | Self::Replace { fields, .. } => Some(fields),
            Self::Delete { .. } => None,
        }
    }
}

/// Why state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A row changed since it was read, or exists already. Nothing was written:
    /// another run owns the state now.
    #[error("the state was changed by another run")]
    Conflict,
    /// A transaction or a row is larger than Table Storage takes, or named as
    /// it does not allow. Nothing was sent. A bug here.
    #[error("the state does not fit: {0}")]
    TooLarge(&'static str),
    /// No answer. A write may or may not have been done.
    #[error("the state storage cannot be reached")]
    Unreachable(#[source] Broken),
    /// The service said no.
    #[error("the state storage answered {status}{}", after(code))]
    Refused {
        /// HTTP status.
        status: u16,
        /// Azure's error code, such as `AuthorizationPermissionMismatch`.
        code: String,
    },
    /// No token for the storage account could be had.
    #[error("no token for the state storage")]
    Unauthorized(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored is not what this program writes.
    #[error("the stored row `{row}` cannot be read: {what}")]
    Corrupt {
        /// The row's key.
        row: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The embedded store's file is not what this program left behind.
    #[error("the state file `state.redb` is damaged")]
    Damaged,
    /// The embedded store's file cannot be used.
    #[error("the state file cannot be used")]
    File(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Azure's error code, if the answer had one.
pub(crate) fn after(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!(" {code}") }
}

/// Keeps rows. Both arms pass one conformance suite.
#[derive(Clone, Debug)]
pub enum Store {
    /// A file beside the program.
    Local(Local),
    /// A table of the app's storage account.
    Table(Table),
}

impl Store {
    /// The table of the configured account; without one, a file in `state_dir`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unauthorized`] if the account's key is malformed,
    /// [`StoreError::File`] if the file cannot be used. Nothing is sent yet.
    pub fn open(
        config: &StorageConfig,
        access: &Access,
        state_dir: &Path,
    ) -> Result<Self, StoreError> {
        Ok(match &config.account {
            Some(storage) => Self::Table(Table::new(storage, &config.table, access.clone())?),
            None => Self::Local(Local::open(state_dir)?),
        })
    }

    /// Reads a row.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the state cannot be read.
    pub async fn get(&self, key: &str) -> Result<Option<Row>, StoreError> {
        check_key(key)?;
        match self {
            Self::Local(local) => local.get(key).await,
            Self::Table(table) => table.get(key).await,
        }
    }

    /// Reads every row with `from <= key < to`, in order of key.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the state cannot be read. A partial list is an error.
    pub async fn scan(&self, from: &str, to: &str) -> Result<Vec<Row>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        match self {
            Self::Local(local) => local.scan(from, to).await,
            Self::Table(table) => table.scan(from, to).await,
        }
    }

    /// Writes all of `changes` or none, and returns each written row's new
    /// version in order (`None` for a deletion).
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if any row is not as it was read. After
    /// [`StoreError::Unreachable`] the changes may have been written.
    pub async fn commit(&self, changes: &[Change]) -> Result<Vec<Option<ETag>>, StoreError> {
        check(changes)?;
        match self {
            Self::Local(local) => local.commit(changes).await,
            Self::Table(table) => table.commit(changes).await,
        }
    }
}

/// Refuses what Table Storage would refuse, for both arms alike.
/// <https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model>
fn check(changes: &[Change]) -> Result<(), StoreError> {
    if changes.len() > MAX_CHANGES {
        return Err(StoreError::TooLarge("more than 100 rows in one transaction"));
    }
    let mut keys = BTreeSet::new();
    for change in changes {
        check_key(change.key())?;
        if !keys.insert(change.key()) {
            return Err(StoreError::TooLarge("a row named twice in one transaction"));
        }
        if let Some(fields) = change.fields() {
            check_fields(fields)?;
        }
    }
    if changes.len() > 1 && table_batch::size(changes) > table_batch::MAX_BYTES {
        return Err(StoreError::TooLarge("a transaction of more than 4 MiB"));
    }
    Ok(())
}

/// A row's key: 1 to 512 printable ASCII characters, none of `/ \ # ?`. So both
/// arms order keys alike, byte by byte.
fn check_key(key: &str) -> Result<(), StoreError> {
    let allowed = |byte: u8| (b' '..=b'~').contains(&byte) && !b"/\\#?".contains(&byte);
    if (1..=512).contains(&key.len()) && key.bytes().all(allowed) {
        Ok(())
    } else {
        Err(StoreError::TooLarge("a key that is no row key"))
    }
}

fn check_fields(fields: &Fields) -> Result<(), StoreError> {
    let size = |value: &Value| match value {
        Value::Text(text) => text.encode_utf16().count() * 2,
        Value::Bytes(bytes) => bytes.len(),
        Value::Int(_) | Value::Bool(_) => 8,
    };
    let named = |name: &String| {
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        first
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !matches!(name.as_str(), "PartitionKey" | "RowKey" | "Timestamp")
    };
    if !fields.keys().all(named) {
        return Err(StoreError::TooLarge("a value's name that is no column name"));
    }
    if fields.values().any(|value| size(value) > MAX_VALUE_BYTES) {
        return Err(StoreError::TooLarge("a value of more than 64 KiB"));
    }
    let around: usize = fields.keys().map(|name| name.len() * 2 + 8).sum();
    if around + fields.values().map(size).sum::<usize>() > MAX_ROW_BYTES {
        return Err(StoreError::TooLarge("a row of more than 1 MiB"));
    }
    Ok(())
}
