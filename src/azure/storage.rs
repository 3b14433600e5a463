//! The right to use a storage account, and what every client of one shares.

use super::credential::Credential;
use super::shared_key::{AccountKey, BadKey};
use crate::clock::Clock;
use crate::config::StorageAuth;
use crate::http::Http;

/// What tokens for Table and Blob Storage are made for.
pub const RESOURCE: &str = "https://storage.azure.com";

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
pub enum Right {
    /// Requests are signed with the account's key.
    Key(AccountKey),
    /// Requests carry a token of the app's own identity.
    Identity(Credential),
}

impl Right {
    /// What `auth` gives.
    ///
    /// # Errors
    ///
    /// [`BadKey`] if the account's key is not base64.
    pub fn of(auth: &StorageAuth, access: &Access) -> Result<Self, BadKey> {
        Ok(match auth {
            StorageAuth::SharedKey { account, key } => Self::Key(AccountKey::new(account, key)?),
            StorageAuth::Identity => Self::Identity(access.credential.clone()),
        })
    }
}

/// An error code fit for a message: nothing a stranger could write prose in.
pub fn plain_code(code: &str) -> String {
    let plain = code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain { code.to_owned() } else { String::new() }
}
