//! What an embedded Entra has handed out, and to whom.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::timestamp::Timestamp;

/// How long an access token is good for.
pub const ACCESS_LIVES: Duration = Duration::from_mins(75);
/// How long a refresh token lives unused.
const REFRESH_LIVES: Duration = Duration::from_hours(24 * 90);

/// The tokens handed out. Clones share them; other clouds hold one to check
/// what they are sent.
#[derive(Clone, Debug)]
pub struct Tokens {
    clock: Clock,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    access: BTreeMap<String, Issued>,
    refresh: BTreeMap<String, Issued>,
    secrets: Vec<String>,
}

/// Who agreed to a code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Person {
    /// `preferred_username`.
    pub username: String,
    /// `oid`.
    pub oid: Uuid,
    /// `tid`: the tenant the account was signed in to.
    pub tenant: Uuid,
}

#[derive(Debug)]
struct Issued {
    person: Person,
    audience: String,
    expires_at: Timestamp,
    revoked: bool,
}

/// Why a refresh token is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Spent {
    Unknown,
    Revoked,
    Unused90Days,
}

impl Tokens {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, book: Arc::default() }
    }

    /// Whether `token` opens `audience` now.
    pub fn valid_access_token(&self, token: &str, audience: &str) -> bool {
        let now = self.clock.now();
        self.book().access.get(token).is_some_and(|issued| {
            !issued.revoked && issued.audience == audience && now < issued.expires_at
        })
    }

    /// The `preferred_username` of the person a token was made for.
    pub fn username(&self, token: &str) -> Option<String> {
        Some(self.book().access.get(token)?.person.username.clone())
    }

    /// Whether `token` is good now, for whatever audience: an API answers 403
    /// to one made for another API, 401 to one that is not good at all.
    pub fn known_access_token(&self, token: &str) -> bool {
        let now = self.clock.now();
        let book = self.book();
        book.access.get(token).is_some_and(|issued| !issued.revoked && now < issued.expires_at)
    }

    /// Makes every access token worthless, as an event at the API would; what
    /// they were renewed with still works.
    pub fn void_access_tokens(&self) {
        self.book().access.values_mut().for_each(|issued| issued.revoked = true);
    }

    /// Everything secret handed out so far: for checks that nothing leaks.
    pub fn secrets(&self) -> Vec<String> {
        self.book().secrets.clone()
    }

    pub(super) fn revoke_all(&self) {
        self.void_access_tokens();
        self.book().refresh.values_mut().for_each(|issued| issued.revoked = true);
    }

    /// A new secret text. As long as Entra's, and one that can be searched for.
    pub(super) fn secret(&self, kind: &str) -> String {
        let random: String = (0..40).map(|_| Uuid::new_v4().simple().to_string()).collect();
        self.remember(format!("{kind}.{random}"))
    }

    pub(super) fn remember(&self, secret: String) -> String {
        self.book().secrets.push(secret.clone());
        secret
    }

    pub(super) fn issue_access(&self, person: &Person, audience: &str) -> String {
        let token = self.secret("access");
        let issued = self.issued(person, audience, ACCESS_LIVES);
        self.book().access.insert(token.clone(), issued);
        token
    }

    /// The ones before stay valid: Entra does not revoke a token by its use.
    pub(super) fn issue_refresh(&self, person: &Person) -> String {
        let token = self.secret("refresh");
        let issued = self.issued(person, "", REFRESH_LIVES);
        self.book().refresh.insert(token.clone(), issued);
        token
    }

    /// Whose refresh token this is. Works for any audience.
    pub(super) fn redeem(&self, token: &str) -> Result<Person, Spent> {
        let now = self.clock.now();
        let book = self.book();
        let issued = book.refresh.get(token).ok_or(Spent::Unknown)?;
        if issued.revoked {
            Err(Spent::Revoked)
        } else if issued.expires_at <= now {
            Err(Spent::Unused90Days)
        } else {
            Ok(issued.person.clone())
        }
    }

    fn issued(&self, person: &Person, audience: &str, lives: Duration) -> Issued {
        Issued {
            person: person.clone(),
            audience: audience.to_owned(),
            expires_at: self.clock.now() + lives,
            revoked: false,
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
