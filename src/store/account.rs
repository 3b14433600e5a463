//! The right to use the storage account, and what every client of it shares.

use crate::azure::credential::Credential;
use crate::azure::shared_key::{AccountKey, BadKey};
use crate::clock::Clock;
use crate::config::{Storage, StorageAuth};
use crate::http::Http;

/// What tokens for Table and Blob Storage are made for.
pub(super) const RESOURCE: &str = "https://storage.azure.com";

/// What reaching a storage account takes, beside its address.
#[derive(Clone, Debug)]
pub struct Access {
    /// The shared client, and how often to try.
    pub http: Http,
    /// Dates every signature.
    pub clock: Clock,
    /// The app's own identity; used when the account's key is not given.
    pub credential: Credential,
}

/// The right to use a storage account.
#[derive(Clone, Debug)]
pub(super) enum Right {
    Key(AccountKey),
    Identity(Credential),
}

impl Right {
    pub(super) fn of(storage: &Storage, access: &Access) -> Result<Self, BadKey> {
        Ok(match &storage.auth {
            StorageAuth::SharedKey { account, key } => Self::Key(AccountKey::new(account, key)?),
            StorageAuth::Identity => Self::Identity(access.credential.clone()),
        })
    }
}
