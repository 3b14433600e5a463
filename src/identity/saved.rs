//! The sign-in as it is stored, before sealing: JSON.
//!
//! Apart from the domain's own types so that nothing else can turn those, and
//! the tokens in them, into text.

use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::domain::advice::Advice;
use crate::domain::session::Session;
use crate::domain::sign_in::{
    Access, Account, Class, Flow, Grant, Refusal, Remains, Settled, SignedIn,
};
use crate::domain::timestamp::Timestamp;

#[derive(Deserialize, Serialize)]
struct Saved {
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<SavedFlow>,
    settled: SavedSettled,
}

#[derive(Deserialize, Serialize)]
struct SavedFlow {
    device_code: Text,
    user_code: Text,
    verification_uri: String,
    claims: Option<String>,
    started_by: String,
    started_at: Timestamp,
    expires_at: Timestamp,
    interval_seconds: u64,
    next_poll_at: Timestamp,
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum SavedSettled {
    SignedOut { last: Option<SavedAccount> },
    SignedIn { sign_in: Box<SavedSignIn> },
    Refused { refusal: SavedRefusal, last: Option<SavedAccount>, kept: Option<Box<SavedSignIn>> },
}

#[derive(Deserialize, Serialize)]
struct SavedSignIn {
    account: SavedAccount,
    refresh_token: Text,
    access_token: Text,
    access_expires_at: Timestamp,
    access_audience: String,
    since: Timestamp,
    renewed_at: Timestamp,
    back_off_until: Option<Timestamp>,
    replaced: Option<SavedAccount>,
    failed_attempt: Option<SavedRefusal>,
}

#[derive(Deserialize, Serialize)]
struct SavedAccount {
    username: String,
    name: Option<String>,
    oid: Guid,
    tenant: Guid,
}

#[derive(Deserialize, Serialize)]
struct SavedRefusal {
    class: SavedClass,
    message: String,
    next_step: String,
    claims: Option<String>,
    at: Timestamp,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(remote = "Class", rename_all = "snake_case")]
enum ClassDef {
    SignInAgain,
    SecondFactor,
    Policy,
    Account,
    WrongAccount,
    Permission,
    Registration,
    Settings,
    Declined,
    CodeExpired,
    CodeUnusable,
    Product,
    Unknown,
}

#[derive(Deserialize, Serialize)]
struct SavedClass(#[serde(with = "ClassDef")] Class);

/// A secret on its way into or out of the sealed form.
struct Text(SecretString);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

#[derive(Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
#[derive(Clone)]
struct Guid(Uuid);

impl TryFrom<String> for Guid {
    type Error = uuid::Error;

    fn try_from(text: String) -> Result<Self, uuid::Error> {
        Uuid::try_parse(&text).map(Self)
    }
}

impl From<Guid> for String {
    fn from(id: Guid) -> Self {
        id.0.to_string()
    }
}

/// The stored form. Cleared from memory when dropped.
pub(super) fn encode(session: &Session) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let saved = Saved {
        flow: session.flow().map(SavedFlow::from),
        settled: SavedSettled::from(session.settled()),
    };
    serde_json::to_vec(&saved).map(Zeroizing::new)
}

/// Back from the stored form.
pub(super) fn decode(plain: &[u8]) -> Result<Session, serde_json::Error> {
    let Saved { flow, settled } = serde_json::from_slice(plain)?;
    let behind = Settled::from(settled);
    Ok(match flow {
        None => Session::Settled(behind),
        Some(flow) => Session::Pending { flow: flow.into(), behind },
    })
}

impl From<&Flow> for SavedFlow {
    fn from(flow: &Flow) -> Self {
        Self {
            device_code: Text(flow.device_code.clone()),
            user_code: Text(flow.user_code.clone()),
            verification_uri: flow.verification_uri.clone(),
            claims: flow.claims.clone(),
            started_by: flow.started_by.clone(),
            started_at: flow.started_at,
            expires_at: flow.expires_at,
            interval_seconds: flow.interval.as_secs(),
            next_poll_at: flow.next_poll_at,
        }
    }
}

impl From<SavedFlow> for Flow {
    fn from(saved: SavedFlow) -> Self {
        Self {
            device_code: saved.device_code.0,
            user_code: saved.user_code.0,
            verification_uri: saved.verification_uri,
            claims: saved.claims,
            started_by: saved.started_by,
            started_at: saved.started_at,
            expires_at: saved.expires_at,
            interval: Duration::from_secs(saved.interval_seconds),
            next_poll_at: saved.next_poll_at,
        }
    }
}

impl From<&Settled> for SavedSettled {
    fn from(settled: &Settled) -> Self {
        match settled {
            Settled::SignedOut { last } => {
                Self::SignedOut { last: last.as_ref().map(SavedAccount::from) }
            }
            Settled::SignedIn(sign_in) => {
                Self::SignedIn { sign_in: Box::new(SavedSignIn::from(&**sign_in)) }
            }
            Settled::Refused { refusal, remains } => {
                let (last, kept) = match remains {
                    Remains::Name(last) => (last.as_ref().map(SavedAccount::from), None),
                    Remains::SignIn(kept) => (None, Some(Box::new(SavedSignIn::from(&**kept)))),
                };
                Self::Refused { refusal: refusal.into(), last, kept }
            }
        }
    }
}

impl From<SavedSettled> for Settled {
    fn from(saved: SavedSettled) -> Self {
        match saved {
            SavedSettled::SignedOut { last } => Self::SignedOut { last: last.map(Account::from) },
            SavedSettled::SignedIn { sign_in } => {
                Self::SignedIn(Box::new(SignedIn::from(*sign_in)))
            }
            SavedSettled::Refused { refusal, last, kept } => Self::Refused {
                refusal: refusal.into(),
                remains: match kept {
                    Some(kept) => Remains::SignIn(Box::new(SignedIn::from(*kept))),
                    None => Remains::Name(last.map(Account::from)),
                },
            },
        }
    }
}

impl From<&SignedIn> for SavedSignIn {
    fn from(sign_in: &SignedIn) -> Self {
        let Access { secret, expires_at, audience } = &sign_in.grant.access;
        Self {
            account: (&sign_in.account).into(),
            refresh_token: Text(sign_in.grant.refresh_token.clone()),
            access_token: Text(secret.clone()),
            access_expires_at: *expires_at,
            access_audience: audience.clone(),
            since: sign_in.since,
            renewed_at: sign_in.renewed_at,
            back_off_until: sign_in.back_off_until,
            replaced: sign_in.replaced.as_ref().map(SavedAccount::from),
            failed_attempt: sign_in.failed_attempt.as_ref().map(SavedRefusal::from),
        }
    }
}

impl From<SavedSignIn> for SignedIn {
    fn from(saved: SavedSignIn) -> Self {
        Self {
            account: saved.account.into(),
            grant: Grant {
                refresh_token: saved.refresh_token.0,
                access: Access {
                    secret: saved.access_token.0,
                    expires_at: saved.access_expires_at,
                    audience: saved.access_audience,
                },
            },
            since: saved.since,
            renewed_at: saved.renewed_at,
            back_off_until: saved.back_off_until,
            replaced: saved.replaced.map(Account::from),
            failed_attempt: saved.failed_attempt.map(Refusal::from),
        }
    }
}

impl From<&Account> for SavedAccount {
    fn from(account: &Account) -> Self {
        Self {
            username: account.username.clone(),
            name: account.name.clone(),
            oid: Guid(account.oid),
            tenant: Guid(account.tenant),
        }
    }
}

impl From<SavedAccount> for Account {
    fn from(saved: SavedAccount) -> Self {
        let SavedAccount { username, name, oid, tenant } = saved;
        Self { username, name, oid: oid.0, tenant: tenant.0 }
    }
}

impl From<&Refusal> for SavedRefusal {
    fn from(refusal: &Refusal) -> Self {
        Self {
            class: SavedClass(refusal.class),
            message: refusal.advice.message.clone(),
            next_step: refusal.advice.next_step.clone(),
            claims: refusal.claims.clone(),
            at: refusal.at,
        }
    }
}

impl From<SavedRefusal> for Refusal {
    fn from(saved: SavedRefusal) -> Self {
        Self {
            class: saved.class.0,
            advice: Advice { message: saved.message, next_step: saved.next_step },
            claims: saved.claims,
            at: saved.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored sign-ins must survive an update of the program.
    #[test]
    fn the_stored_form_is_stable() {
        for stored in [
            r#"{"settled":{"state":"signed_out","last":null}}"#,
            r#"{"flow":{"device_code":"d","user_code":"u","verification_uri":"v","claims":"{}","started_by":"s","started_at":"2026-11-21T10:00:00Z","expires_at":"2026-11-21T10:15:00Z","interval_seconds":5,"next_poll_at":"2026-11-21T10:00:05Z"},"settled":{"state":"signed_in","sign_in":{"account":{"username":"a","name":"n","oid":"11111111-2222-4333-8444-555555555555","tenant":"0f6c1f7e-5d2b-4a43-9a57-3d6f0c9b2e11"},"refresh_token":"r","access_token":"t","access_expires_at":"2026-11-21T11:00:00Z","access_audience":"https://api.example","since":"2026-11-01T00:00:00Z","renewed_at":"2026-11-21T10:00:00Z","back_off_until":"2026-11-21T10:01:00Z","replaced":{"username":"b","name":null,"oid":"11111111-2222-4333-8444-555555555556","tenant":"0f6c1f7e-5d2b-4a43-9a57-3d6f0c9b2e11"},"failed_attempt":{"class":"code_expired","message":"m","next_step":"x","claims":null,"at":"2026-11-20T00:00:00Z"}}}}"#,
            r#"{"settled":{"state":"refused","refusal":{"class":"policy","message":"m","next_step":"x","claims":null,"at":"2026-11-20T00:00:00Z"},"last":{"username":"b","name":null,"oid":"11111111-2222-4333-8444-555555555556","tenant":"0f6c1f7e-5d2b-4a43-9a57-3d6f0c9b2e11"},"kept":null}}"#,
        ] {
            let session = decode(stored.as_bytes()).unwrap();
            assert_eq!(std::str::from_utf8(&encode(&session).unwrap()).unwrap(), stored);
        }
    }
}
