//! Why there is no token, or no sign-in, and what to tell people.

use super::advice;
use super::seal::SealError;
use super::vault::VaultError;
use super::wire::Undecided;
use crate::domain::advice::Advice;
use crate::domain::timestamp::Timestamp;
use crate::durable::{NotKept, SidecarError};
use crate::http::retry::GaveUp;
use crate::store::StoreError;

/// Why there is no token, or no sign-in.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Nobody is signed in, or Entra no longer accepts it. Trying again changes
    /// nothing until the advice is followed.
    #[error("a person must act before alerts can be read: {}", .0.message)]
    SignInNeeded(Advice),
    /// Entra refused to hand out a code. What was signed in still is.
    #[error("a sign-in could not be started: {}", .0.message)]
    NotStarted(Advice),
    /// Entra was busy or out of reach. The sign-in is kept.
    #[error("the identity service is not to be called before {retry_at}")]
    Busy {
        /// Earlier calls fail without asking Entra.
        retry_at: Timestamp,
        /// What happened, if it happened in this call.
        #[source]
        cause: Option<GaveUp<Undecided>>,
    },
    /// A code waits for a person already. It is shown only to the one who asked
    /// for it.
    #[error("a sign-in is under way until {expires_at}")]
    UnderWay {
        /// When its code ends.
        expires_at: Timestamp,
    },
    /// The sign-in could not be read or saved.
    #[error("the sign-in could not be read or saved")]
    Storage(#[source] StoreError),
    /// The sign-in could not be read from or written to the Durable entity. A
    /// write may still take place.
    #[error("the sign-in could not be read from or written to Durable Functions")]
    Entity(#[source] NotKept),
    /// The stored sign-in cannot be opened, or a new one not sealed.
    #[error("the stored sign-in cannot be opened")]
    SealingKey(#[source] SealError),
}

impl IdentityError {
    /// What happened and what to do, in plain words.
    pub fn advice(&self) -> Advice {
        let (message, next_step) = match self {
            Self::SignInNeeded(advice) | Self::NotStarted(advice) => return advice.clone(),
            Self::Busy { retry_at, cause } => {
                let what = cause.as_ref().map_or_else(
                    || "The identity service asked this app to wait".to_owned(),
                    |gave_up| sentence(&gave_up.last.to_string()),
                );
                (
                    format!("{what}. It will be asked again after {}.", retry_at.to_the_second()),
                    "Nothing for now: the sign-in is kept. If this lasts for more than an hour, check that the app can reach the identity service (FunctionConfigIdentityAuthority) through your firewall, and look at https://status.cloud.microsoft.".to_owned(),
                )
            }
            Self::UnderWay { expires_at } => (
                format!("Somebody has started a sign-in already; its code is valid until {}.", expires_at.to_the_second()),
                "Finish that sign-in, or cancel it in this app's portal (one begun on a command line: there, with Ctrl-C) and start again. If nobody you know started it, cancel it and tell the central team.".to_owned(),
            ),
            Self::Storage(error) => (
                format!("The stored sign-in could not be read or saved: {error}."),
                "Check that the app's storage account (AzureWebJobsStorage) exists, can be reached, and lets this app read and write its table.".to_owned(),
            ),
            Self::Entity(error) => entity(*error),
            Self::SealingKey(error) => (
                format!("{}.", sentence(&error.to_string())),
                "Put the right key into FunctionConfigSessionKey; after a change of key the old one belongs in FunctionConfigSessionKeyPrevious. If the key is lost, or the tenant or client id was changed on purpose, in this app's portal, or with `defender-alert-export sign-in`, sign in again.".to_owned(),
            ),
        };
        Advice { message, next_step }
    }

    /// The advice for nobody being signed in.
    pub(super) fn nobody() -> Self {
        Self::SignInNeeded(advice::nobody())
    }
}

impl From<StoreError> for IdentityError {
    fn from(error: StoreError) -> Self {
        Self::Storage(error)
    }
}

impl From<SealError> for IdentityError {
    fn from(error: SealError) -> Self {
        Self::SealingKey(error)
    }
}

impl From<VaultError> for IdentityError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Store(error) => Self::Storage(error),
            VaultError::Entity(error) => Self::Entity(error),
            VaultError::Seal(error) => Self::SealingKey(error),
        }
    }
}

/// What to do about an entity that cannot be used.
fn entity(error: NotKept) -> (String, String) {
    let next_step = match error {
        NotKept::Sidecar(SidecarError::Outside) => {
            "Sign in and out through this app's portal; it shows how the export stands, too. To use this command, keep the sign-in in the state table: set FunctionConfigSessionStore to `Table`, for the app as well, and sign in once more."
        }
        NotKept::Unconfirmed => {
            "Nothing for now: the sign-in is usually written a little later, and the next run looks again. If this is said for hours, see in the Function App whether the functions `orchestrator` and `entity_state` are enabled and run."
        }
        NotKept::Foreign => {
            "Open this app's portal and sign in again; that writes over it. Give each app a task hub of its own (hubName in host.json)."
        }
        NotKept::Conflict | NotKept::Sidecar(_) => {
            "Nothing for now: it is tried again with the next run. If this lasts for more than an hour, restart the Function App and look for errors of the Durable Task extension in its log; or set FunctionConfigSessionStore to `Table` and sign in once more."
        }
    };
    let what = match error {
        NotKept::Sidecar(why) => why.to_string(),
        NotKept::Conflict | NotKept::Unconfirmed | NotKept::Foreign => error.to_string(),
    };
    let message = format!(
        "The sign-in is kept in Durable Functions (FunctionConfigSessionStore is `Entity`): {what}."
    );
    (message, next_step.to_owned())
}

/// With a capital letter.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
