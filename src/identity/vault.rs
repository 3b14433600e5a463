//! Where the sign-in is kept: one sealed row or entity, written with the
//! version it was read with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::saved;
use super::seal::{Seal, SealError};
use crate::domain::judge::KeyRing;
use crate::domain::session::Session;
use crate::domain::standing::DEAD_AFTER;
use crate::domain::timestamp::Timestamp;
use crate::durable::{Cell, Kept, NotKept};
use crate::store::{Change, ETag, Fields, MAX_VALUE_BYTES, Store, StoreError, Value};

/// The row's key, also part of what it is sealed with, wherever it is kept.
const ROW: &str = "Session";

/// Loads and saves the sign-in.
#[derive(Clone, Debug)]
pub(super) struct Vault {
    place: Place,
    seal: Seal,
}

/// Where the sealed sign-in lies. Both arms pass one conformance suite.
#[derive(Clone, Debug)]
pub enum Place {
    /// A row among the state's.
    Row(Store),
    /// A Durable entity.
    Entity(Cell),
}

impl From<Store> for Place {
    fn from(store: Store) -> Self {
        Self::Row(store)
    }
}

impl From<Cell> for Place {
    fn from(cell: Cell) -> Self {
        Self::Entity(cell)
    }
}

/// Which version of the sign-in was read. Only that one may be written over.
#[derive(Clone, Debug)]
pub(super) struct Version(Option<ETag>);

/// The sealed sign-in and its dates, as text.
struct Sealed {
    bytes: Vec<u8>,
    updated: String,
    expires: Option<String>,
}

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
    Entity(NotKept),
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl From<NotKept> for VaultError {
    fn from(error: NotKept) -> Self {
        match error {
            NotKept::Conflict => Self::Store(StoreError::Conflict),
            NotKept::Unconfirmed | NotKept::Foreign | NotKept::Sidecar(_) => Self::Entity(error),
        }
    }
}

impl Vault {
    pub(super) fn new(place: Place, seal: Seal) -> Self {
        Self { place, seal }
    }

    /// The sign-in; nobody's when none was ever stored.
    pub(super) async fn load(&self) -> Result<Held, VaultError> {
        let (session, version) = self.read().await?;
        Ok(Held { session: session?, version })
    }

    /// The sign-in, to be replaced by a person's wish: one that cannot be
    /// opened counts as nobody's.
    pub(super) async fn load_or_give_up(&self) -> Result<Held, VaultError> {
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
        let bytes = self.seal.seal(ROW, &plain)?;
        if bytes.len() > MAX_VALUE_BYTES {
            return Err(StoreError::TooLarge("a value of more than 64 KiB").into());
        }
        let expires = session.sign_in().map(|sign_in| sign_in.renewed_at + DEAD_AFTER);
        let sealed = Sealed {
            bytes,
            updated: now.to_string(),
            expires: expires.map(|expires| expires.to_string()),
        };
        match &self.place {
            Place::Row(store) => save_row(store, version, sealed).await,
            Place::Entity(cell) => save_entity(cell, version, sealed).await,
        }
    }

    /// The key of what was loaded last; `None` if nothing was stored.
    pub(super) fn key_ring(&self) -> Option<KeyRing> {
        self.seal.key_ring()
    }

    async fn read(&self) -> Result<(Result<Session, SealError>, Version), VaultError> {
        let (sealed, version) = match &self.place {
            Place::Row(store) => read_row(store).await?,
            Place::Entity(cell) => read_entity(cell).await?,
        };
        let session = match sealed {
            Ok(None) => Ok(Session::default()),
            Ok(Some(sealed)) => self.seal.open(ROW, &sealed).and_then(|plain| {
                saved::decode(&plain).map_err(|_may_quote| SealError::Unreadable)
            }),
            Err(error) => Err(error),
        };
        Ok((session, version))
    }
}

/// What lies there, if anything does and it is bytes; and its version.
type Found = (Result<Option<Vec<u8>>, SealError>, Version);

async fn read_row(store: &Store) -> Result<Found, StoreError> {
    let Some(mut row) = store.get(ROW).await? else {
        return Ok((Ok(None), Version(None)));
    };
    let sealed = match row.fields.remove("Sealed") {
        Some(Value::Bytes(sealed)) => Ok(Some(sealed)),
        Some(Value::Text(_) | Value::Int(_) | Value::Bool(_)) | None => Err(SealError::Unreadable),
    };
    Ok((sealed, Version(Some(row.etag))))
}

async fn save_row(store: &Store, version: Version, sealed: Sealed) -> Result<Version, VaultError> {
    let mut fields = Fields::from([
        ("Sealed".to_owned(), Value::Bytes(sealed.bytes)),
        ("Updated".to_owned(), Value::Text(sealed.updated)),
    ]);
    if let Some(expires) = sealed.expires {
        fields.insert("Expires".to_owned(), Value::Text(expires));
    }
    let change = Change::write(ROW, version.0, fields);
    let mut written = store.commit(&[change]).await?;
    Ok(Version(written.pop().flatten()))
}

async fn read_entity(cell: &Cell) -> Result<Found, NotKept> {
    match cell.read().await {
        Ok(None) => Ok((Ok(None), Version(None))),
        Ok(Some(Kept { version, sealed, .. })) => {
            let sealed = STANDARD.decode(sealed).map_err(|_may_quote| SealError::Unreadable);
            let version = (!version.is_empty()).then_some(ETag(version));
            Ok((sealed.map(Some), Version(version)))
        }
        Err(NotKept::Foreign) => Ok((Err(SealError::Unreadable), Version(None))),
        Err(error) => Err(error),
    }
}

async fn save_entity(cell: &Cell, version: Version, sealed: Sealed) -> Result<Version, VaultError> {
    let kept = Kept {
        version: Uuid::new_v4().to_string(),
        replaces: version.0.map(|ETag(version)| version),
        sealed: STANDARD.encode(&sealed.bytes),
        updated: sealed.updated,
        expires: sealed.expires,
    };
    cell.write(&kept).await?;
    Ok(Version(Some(ETag(kept.version))))
}
