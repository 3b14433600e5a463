//! Sealing what is stored: AES-256-GCM.
//!
//! ```text
//! 1 byte     8 bytes    12 bytes   rest
//! version 1  key id     nonce      ciphertext and tag
//! ```
//!
//! The tenant, the client and the row's key are authenticated with it, so that
//! a sealed session copied from another deployment or another row does not
//! open. The key id, a digest of the key, tells a wrong key from a changed row.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::config::IdentityConfig;
use crate::domain::judge::KeyRing;

const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;

type KeyId = [u8; KEY_ID_BYTES];

/// Seals with the current key; opens with the current and the previous one.
#[derive(Clone)]
pub(super) struct Seal {
    keys: Arc<Keys>,
    tenant: Uuid,
    client: Uuid,
}

struct Keys {
    current: Key,
    previous: Option<Key>,
    /// What was opened last: nothing yet, or whose key it was.
    opened: AtomicU8,
}

const BY_CURRENT: u8 = 1;
const BY_PREVIOUS: u8 = 2;

struct Key {
    id: KeyId,
    cipher: RandomizedNonceKey,
}

/// Why a stored sign-in cannot be opened. Says which setting to look at.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// The key is not one.
    #[error("{0} is not 32 bytes in base64")]
    BadKey(&'static str),
    /// Sealed with a key we were not given.
    #[error(
        "the stored sign-in was sealed with another key than FunctionConfigSessionKey or FunctionConfigSessionKeyPrevious"
    )]
    WrongKey,
    /// The key fits, and yet it does not open.
    #[error(
        "the stored sign-in was sealed for another FunctionConfigMDETenantId or FunctionConfigMDEClientAppId, or the stored row was changed"
    )]
    Altered,
    /// Not in a form this version knows.
    #[error("the stored sign-in is not in a form this version can read")]
    Unreadable,
    /// The cryptographic library failed.
    #[error("the sign-in could not be sealed with FunctionConfigSessionKey")]
    Failed,
}

impl Seal {
    /// With the keys of `config`, for its tenant and client.
    pub(super) fn new(config: &IdentityConfig) -> Result<Self, SealError> {
        let current = Key::new("FunctionConfigSessionKey", &config.session_key)?;
        let previous = config.session_key_previous.as_ref();
        let previous =
            previous.map(|key| Key::new("FunctionConfigSessionKeyPrevious", key)).transpose()?;
        let keys = Arc::new(Keys { current, previous, opened: AtomicU8::new(0) });
        Ok(Self { keys, tenant: config.tenant, client: config.client })
    }

    /// Seals `plain` for the row `row` with the current key and a fresh nonce.
    pub(super) fn seal(&self, row: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let Key { id, cipher } = &self.keys.current;
        let mut body = plain.to_vec();
        let nonce = cipher
            .seal_in_place_append_tag(Aad::from(self.bound_to(row)), &mut body)
            .map_err(|_unspecified| SealError::Failed)?;
        let mut sealed = Vec::with_capacity(1 + KEY_ID_BYTES + NONCE_BYTES + body.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(id);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Opens what [`Self::seal`] made for the row `row`.
    pub(super) fn open(&self, row: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (version, rest) = sealed.split_first().ok_or(SealError::Unreadable)?;
        if *version != VERSION {
            return Err(SealError::Unreadable);
        }
        let (id, rest) = rest.split_first_chunk::<KEY_ID_BYTES>().ok_or(SealError::Unreadable)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Unreadable)?;
        let cipher = self.cipher(*id).ok_or(SealError::WrongKey)?;
        let mut plain = Zeroizing::new(body.to_vec());
        let length = cipher
            .open_in_place(Nonce::from(nonce), Aad::from(self.bound_to(row)), &mut plain)
            .map_err(|_unspecified| SealError::Altered)?
            .len();
        plain.truncate(length);
        let by = if self.keys.current.id == *id { BY_CURRENT } else { BY_PREVIOUS };
        self.keys.opened.store(by, Ordering::Relaxed);
        Ok(plain)
    }

    /// The key of what was opened last; `None` before that.
    pub(super) fn key_ring(&self) -> Option<KeyRing> {
        match self.keys.opened.load(Ordering::Relaxed) {
            BY_CURRENT => Some(KeyRing::Current { previous_is_set: self.keys.previous.is_some() }),
            BY_PREVIOUS => Some(KeyRing::Previous),
            _ => None,
        }
    }

    fn cipher(&self, id: KeyId) -> Option<&RandomizedNonceKey> {
        let Keys { current, previous, .. } = &*self.keys;
        let mut keys = std::iter::once(current).chain(previous);
        keys.find(|key| key.id == id).map(|key| &key.cipher)
    }

    /// What a sealed text belongs to. Stored rows depend on it.
    fn bound_to(&self, row: &str) -> Vec<u8> {
        format!("defender-alert-export|{}|{}|{row}", self.tenant, self.client).into_bytes()
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").finish_non_exhaustive()
    }
}

impl Key {
    fn new(setting: &'static str, text: &SecretString) -> Result<Self, SealError> {
        let bytes = STANDARD
            .decode(text.expose_secret())
            .map(Zeroizing::new)
            .map_err(|_says_where| SealError::BadKey(setting))?;
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &bytes)
            .map_err(|_unspecified| SealError::BadKey(setting))?;
        let digest = Sha256::new().chain_update(b"session key id").chain_update(&*bytes).finalize();
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(digest.split_at(KEY_ID_BYTES).0);
        Ok(Self { id, cipher })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SessionStoreKind, SignInPrompt};

    const ONE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const TWO: &str = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=";

    fn config(current: &str, previous: Option<&str>) -> IdentityConfig {
        IdentityConfig {
            tenant: Uuid::from_u128(1),
            client: Uuid::from_u128(2),
            authority: "https://login.microsoftonline.com/".parse().unwrap(),
            session_key: current.into(),
            session_key_previous: previous.map(Into::into),
            session_store: SessionStoreKind::Table,
            prompt: SignInPrompt::Portal,
        }
    }

    fn seal(current: &str, previous: Option<&str>) -> Seal {
        Seal::new(&config(current, previous)).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_again_and_shows_nothing_meanwhile() {
        let seal = seal(ONE, None);
        let sealed = seal.seal("Session", b"a refresh token").unwrap();
        assert_eq!(&**seal.open("Session", &sealed).unwrap(), b"a refresh token");
        assert!(!sealed.windows(7).any(|part| part == b"refresh"));
        assert_eq!(sealed.len(), 1 + 8 + 12 + 15 + 16);
        assert_eq!(sealed[0], 1);
    }

    #[test]
    fn no_nonce_is_used_twice() {
        let seal = seal(ONE, None);
        let sealed: std::collections::BTreeSet<_> =
            (0..100).map(|_| seal.seal("Session", b"same").unwrap()[9..21].to_vec()).collect();
        assert_eq!(sealed.len(), 100);
    }

    #[test]
    fn after_a_rotation_the_previous_key_opens_and_the_current_one_seals() {
        let old = seal(ONE, None).seal("Session", b"kept").unwrap();
        let rotated = seal(TWO, Some(ONE));
        assert_eq!(&**rotated.open("Session", &old).unwrap(), b"kept");
        let new = rotated.seal("Session", b"kept").unwrap();
        assert_eq!(&**seal(TWO, None).open("Session", &new).unwrap(), b"kept");
        assert_eq!(seal(ONE, None).open("Session", &new).unwrap_err(), SealError::WrongKey);
    }

    #[test]
    fn it_opens_nowhere_else() {
        let sealed = seal(ONE, None).seal("Session", b"ours").unwrap();
        let elsewhere = |change: fn(&mut IdentityConfig)| {
            let mut config = config(ONE, None);
            change(&mut config);
            Seal::new(&config).unwrap().open("Session", &sealed).unwrap_err()
        };
        assert_eq!(elsewhere(|config| config.tenant = Uuid::from_u128(9)), SealError::Altered);
        assert_eq!(elsewhere(|config| config.client = Uuid::from_u128(9)), SealError::Altered);
        assert_eq!(seal(ONE, None).open("Position", &sealed).unwrap_err(), SealError::Altered);
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let seal = seal(ONE, None);
        let sealed = seal.seal("Session", b"ours").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let expected = match at {
                0 => SealError::Unreadable,
                1..9 => SealError::WrongKey,
                _ => SealError::Altered,
            };
            assert_eq!(seal.open("Session", &changed).unwrap_err(), expected, "byte {at}");
            assert!(seal.open("Session", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_bad_key_is_named_and_not_shown() {
        let error = Seal::new(&config("hunter2", None)).unwrap_err();
        assert_eq!(error.to_string(), "FunctionConfigSessionKey is not 32 bytes in base64");
        let error = Seal::new(&config(ONE, Some("AAAA"))).unwrap_err();
        assert_eq!(error.to_string(), "FunctionConfigSessionKeyPrevious is not 32 bytes in base64");
        assert_eq!(format!("{:?}", seal(ONE, None)), "Seal { .. }");
    }
}
