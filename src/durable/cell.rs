//! One value in the entity, read and replaced.
//!
//! Written by an orchestration with a fixed id, so that two instances cannot
//! write at once and no history piles up; believed only when the entity itself
//! shows it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::message::Status;
use super::register::{Versions, peel};
use super::{ENTITY, ORCHESTRATOR, Sidecar, SidecarError, entity_id};
use crate::http::retry::pause;

/// The value as the entity keeps it. Holds nothing in clear but dates.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Kept {
    /// Which version this is.
    pub version: String,
    /// Which one it was written over; `None` for the first.
    pub replaces: Option<String>,
    /// The sealed bytes, in base64.
    pub sealed: String,
    /// When it was written.
    pub updated: String,
    /// When it stops being of use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// How long a write is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// In all. The function that writes may have to be started first, on an
    /// instance of its own.
    pub confirm: Duration,
    /// Between two looks.
    pub look: Duration,
}

impl Patience {
    /// Within one timer run.
    pub const RUN: Self =
        Self { confirm: Duration::from_mins(1), look: Duration::from_millis(500) };
}

/// Why the value was not read or written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotKept {
    /// The entity holds another version than the one that was read.
    #[error("the entity was changed by another run")]
    Conflict,
    /// It was handed over and may be written later.
    #[error("Durable Functions did not confirm the write in time")]
    Unconfirmed,
    /// What the entity holds is nothing this program wrote.
    #[error("the entity `entity_state` holds something that is no sign-in")]
    Foreign,
    /// The extension did not do as asked.
    #[error("the entity `entity_state` cannot be used")]
    Sidecar(#[from] SidecarError),
}

/// The entity of one app registration.
#[derive(Clone, Debug)]
pub struct Cell {
    sidecar: Sidecar,
    entity: String,
    writer: String,
    patience: Patience,
}

impl Cell {
    /// The entity named after the app registration `key`.
    pub fn new(sidecar: Sidecar, key: Uuid, patience: Patience) -> Self {
        let writer = format!("{ENTITY}-{key}");
        Self { sidecar, entity: entity_id(key), writer, patience }
    }

    /// The value; `None` if none was ever written.
    ///
    /// # Errors
    ///
    /// [`NotKept::Foreign`] or [`NotKept::Sidecar`].
    pub async fn read(&self) -> Result<Option<Kept>, NotKept> {
        match self.state().await? {
            None => Ok(None),
            Some(state) => serde_json::from_value(state).map_err(|_may_quote| NotKept::Foreign),
        }
    }

    /// Writes `kept` over the version it replaces, and waits until the entity
    /// shows it.
    ///
    /// # Errors
    ///
    /// [`NotKept::Conflict`] if the entity holds another version; after
    /// [`NotKept::Unconfirmed`] and [`NotKept::Sidecar`] it may hold the new
    /// one now or later.
    pub async fn write(&self, kept: &Kept) -> Result<(), NotKept> {
        let input = serde_json::to_string(kept).map_err(|_may_quote| NotKept::Foreign)?;
        let deadline = Instant::now() + self.patience.confirm;
        loop {
            // An orchestration that failed, or was another's, is started again.
            if !self.sidecar.start(&self.writer, ORCHESTRATOR, &input).await? {
                info!("another write of the sign-in is under way");
            }
            let ended = self.ended(deadline).await?;
            let held = self.state().await?;
            let held = held.map(|state| serde_json::from_value(state).unwrap_or_default());
            let held = held.and_then(|Versions { version, .. }| version);
            if held.as_ref() == Some(&kept.version) {
                if ended {
                    self.forget().await;
                }
                return Ok(());
            }
            if held != kept.replaces {
                return Err(NotKept::Conflict);
            }
            if !ended || Instant::now() >= deadline {
                return Err(NotKept::Unconfirmed);
            }
            pause(self.patience.look).await;
        }
    }

    /// Waits until the orchestration has ended; `false` if it is too late.
    async fn ended(&self, deadline: Instant) -> Result<bool, NotKept> {
        loop {
            match self.sidecar.instance(&self.writer).await? {
                // Another instance confirmed its own write and tidied up.
                None => return Ok(true),
                Some(state) => match state.status() {
                    Status::Completed => return Ok(true),
                    Status::Failed | Status::Terminated | Status::Canceled => {
                        let why = state.failure.map(|failure| failure.error_type);
                        warn!(why, "the orchestration that keeps the sign-in failed");
                        return Ok(true);
                    }
                    Status::Running
                    | Status::Pending
                    | Status::ContinuedAsNew
                    | Status::Suspended => {}
                },
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            pause(self.patience.look).await;
        }
    }

    /// Its history holds sealed bytes that nobody needs any more.
    async fn forget(&self) {
        if let Err(error) = self.sidecar.purge(&self.writer).await {
            warn!(%error, "the history of a finished write is still there; the next one replaces it");
        }
    }

    async fn state(&self) -> Result<Option<serde_json::Value>, NotKept> {
        let entity = self.sidecar.entity(&self.entity).await?;
        let Some(state) = entity.and_then(|entity| entity.serialized_state) else {
            return Ok(None);
        };
        let value = peel(&state.value).ok_or(NotKept::Foreign)?;
        Ok((!value.is_null()).then_some(value))
    }
}
