//! Files beside the state: logs, alerts in quarantine, whole alerts.
//!
//! In a container of the app's storage account, or in a folder. A name is one
//! or more parts joined by `/`; a part is letters, digits and `-_.=:~+@`, and
//! begins with none of the last but a letter or digit, `_` or `-`.

use std::error::Error;
use std::path::Path;

use bytes::Bytes;

use super::blobs_local::LocalBlobs;
use crate::azure::blobs::{Container, Failed, NoContainer};
use crate::azure::storage::Access;
use crate::config::StorageConfig;

/// Why a blob could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The name is not one both arms can hold. A bug here.
    #[error("a blob was given a name that no blob can have")]
    BadName,
    /// No answer. A write may or may not have been done.
    #[error("the blob storage cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// The service said no.
    #[error("the blob storage answered {status}{}", super::after(code))]
    Refused {
        /// HTTP status.
        status: u16,
        /// Azure's error code, such as `AuthorizationPermissionMismatch`.
        code: String,
    },
    /// No token for the storage account could be had.
    #[error("no token for the blob storage")]
    Unauthorized(#[source] Box<dyn Error + Send + Sync>),
    /// The folder cannot be used.
    #[error("the folder for blobs cannot be used; choose another with --state-dir")]
    Folder(#[source] std::io::Error),
}

impl From<NoContainer> for BlobError {
    fn from(error: NoContainer) -> Self {
        Self::Unauthorized(Box::new(error))
    }
}

impl From<Failed> for BlobError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Broken(broken) => Self::Unreachable(Box::new(broken)),
            Failed::Garbled => Self::Unreachable(Box::new(failed)),
            Failed::Refused { status, code, .. } => Self::Refused { status, code },
            Failed::NoToken(error) => Self::Unauthorized(Box::new(error)),
        }
    }
}

/// Keeps blobs. Both arms pass one conformance suite. Clones share it.
#[derive(Clone, Debug)]
pub enum Blobs {
    /// A container of the app's storage account; made by the first write.
    Azure(Container),
    /// A folder.
    Local(LocalBlobs),
}

impl Blobs {
    /// The container of the configured account; without one, the folder `blobs`
    /// in `state_dir`. Nothing is sent or made yet.
    ///
    /// # Errors
    ///
    /// [`BlobError::Unauthorized`] if the account's key is malformed.
    pub fn open(
        config: &StorageConfig,
        access: &Access,
        state_dir: &Path,
    ) -> Result<Self, BlobError> {
        Ok(match &config.account {
            Some(storage) => {
                let name = &config.container;
                Self::Azure(Container::new(&storage.blobs, &storage.auth, name, access.clone())?)
            }
            None => Self::Local(LocalBlobs::new(state_dir.join("blobs"))),
        })
    }

    /// Writes a blob whole, in place of what it held. Repeating it is harmless.
    ///
    /// # Errors
    ///
    /// [`BlobError`]; the blob then holds what it held or `bytes`, never a part.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), BlobError> {
        check(name)?;
        match self {
            Self::Azure(azure) => Ok(azure.put(name, bytes).await?),
            Self::Local(local) => local.put(name, bytes).await,
        }
    }

    /// Reads a blob whole; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`BlobError`] if it cannot be read.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, BlobError> {
        check(name)?;
        match self {
            Self::Azure(azure) => Ok(azure.get(name).await?),
            Self::Local(local) => local.get(name).await,
        }
    }

    /// The names that begin with `prefix`, in order.
    ///
    /// # Errors
    ///
    /// [`BlobError`] if they cannot all be read.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        match self {
            Self::Azure(azure) => Ok(azure.list(prefix).await?),
            Self::Local(local) => local.list(prefix).await,
        }
    }

    /// Adds to the end of a blob, making it if it is missing. An appended blob
    /// is never [`put`](Self::put).
    ///
    /// Azure takes 50,000 appends to a blob and 100 MiB in each, so a log is
    /// one blob a day and one append a flush.
    ///
    /// # Errors
    ///
    /// [`BlobError`]; after [`BlobError::Unreachable`] `bytes` may have been
    /// added.
    pub async fn append(&self, name: &str, bytes: Bytes) -> Result<(), BlobError> {
        check(name)?;
        match self {
            Self::Azure(azure) => {
                Ok(azure.append(name, bytes).await.map_err(|gave_up| gave_up.last)?)
            }
            Self::Local(local) => local.append(name, bytes).await,
        }
    }

    /// Removes a blob; one that is missing counts as removed.
    ///
    /// # Errors
    ///
    /// [`BlobError`] if it may still be there.
    pub async fn delete(&self, name: &str) -> Result<(), BlobError> {
        check(name)?;
        match self {
            Self::Azure(azure) => Ok(azure.delete(name).await?),
            Self::Local(local) => local.delete(name).await,
        }
    }
}

/// No part can be empty, `.` or `..`, so no name leaves the folder.
fn check(name: &str) -> Result<(), BlobError> {
    let part = |part: &str| {
        let first = part.bytes().next();
        first.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=:~+@".contains(&byte))
            && !part.ends_with('.')
            && part.len() <= 255
    };
    if name.len() <= 1024 && name.split('/').all(part) { Ok(()) } else { Err(BlobError::BadName) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_the_folder() {
        for good in ["a", "logs/2026-11-21.log", "quarantine/da637~1_-2=x.json"] {
            assert!(check(good).is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in
            ["", "/a", "a/", "a//b", ".", "..", "a/../b", ".a", "a.", "a\\b", "a b", "é", &long]
        {
            assert!(matches!(check(bad), Err(BlobError::BadName)), "{bad}");
        }
    }
}
