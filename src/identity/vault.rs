//! Where the sign-in is kept: one sealed row, written with the version it was
//! read with.

use super::saved;
use super::seal::{Seal, SealError};
use crate::domain::session::Session;
use crate::domain::standing::DEAD_AFTER;
use crate::domain::timestamp::Timestamp;
use crate::store::{Change, ETag, Fields, Store, StoreError, Value};

/// The row's key, also part of what it is sealed with.
const ROW: &str = "Session";

/// Loads and saves the sign-in.
#[derive(Clone, Debug)]
pub(super) struct Vault {
    store: Store,
    seal: Seal,
}

/// Which version of the sign-in was read. Only that one may be written over.
#[derive(Clone, Debug)]
pub(super) struct Version(Option<ETag>);

/// A sign-in as read.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) session: Session,
    pub(super) version: Version,
}

/// Why the sign-in could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub(super) enum VaultError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Vault {
    pub(super) fn new(store: Store, seal: Seal) -> Self {
        Self { store, seal }
    }

    /// The sign-in; nobody's when none was ever stored.
    pub(super) async fn load(&self) -> Result<Held, VaultError> {
        let (session, version) = self.read().await?;
        Ok(Held { session: session?, version })
    }

    /// The sign-in, to be replaced by a person's wish: one that cannot be
    /// opened counts as nobody's.
    pub(super) async fn load_or_give_up(&self) -> Result<Held, StoreError> {
        let (session, version) = self.read().await?;
        let session = session.unwrap_or_else(|error| {
            tracing::warn!(%error, "the stored sign-in cannot be opened and will be replaced");
            Session::default()
        });
        Ok(Held { session, version })
    }

    /// Saves the sign-in, sealed with the current key.
    ///
    /// [`StoreError::Conflict`] if it is no longer as it was read;
    /// [`StoreError::TooLarge`] above 64 KiB, some five times what Entra's
    /// tokens take.
    pub(super) async fn save(
        &self,
        version: Version,
        session: &Session,
        now: Timestamp,
    ) -> Result<Version, VaultError> {
        let plain = saved::encode(session).map_err(|_may_quote| SealError::Failed)?;
        let sealed = self.seal.seal(ROW, &plain)?;
        let mut fields = Fields::from([
            ("Sealed".to_owned(), Value::Bytes(sealed)),
            ("Updated".to_owned(), Value::Text(now.to_string())),
        ]);
        if let Some(sign_in) = session.sign_in() {
            let expires = sign_in.renewed_at + DEAD_AFTER;
            fields.insert("Expires".to_owned(), Value::Text(expires.to_string()));
        }
        let change = Change::write(ROW, version.0, fields);
        let mut written = self.store.commit(&[change]).await?;
        Ok(Version(written.pop().flatten()))
    }

    async fn read(&self) -> Result<(Result<Session, SealError>, Version), StoreError> {
        let Some(row) = self.store.get(ROW).await? else {
            return Ok((Ok(Session::default()), Version(None)));
        };
        let session = match row.fields.get("Sealed") {
            Some(Value::Bytes(sealed)) => self.seal.open(ROW, sealed).and_then(|plain| {
                saved::decode(&plain).map_err(|_may_quote| SealError::Unreadable)
            }),
            Some(Value::Text(_) | Value::Int(_) | Value::Bool(_)) | None => {
                Err(SealError::Unreadable)
            }
        };
        Ok((session, Version(Some(row.etag))))
    }
}
