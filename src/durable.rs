//! Durable Functions, as far as a custom handler can have them: the messages,
//! what an entity and an orchestration do with them, and the sidecar client.
//!
//! The entity `entity_state` keeps one value; the orchestration `orchestrator`
//! writes it. The extension calls both through the host with protobuf in base64
//! ([`message`]); this program asks the extension over gRPC ([`Sidecar`]).
//! Microsoft does not document Durable Functions for custom handlers; the
//! protocol is that of
//! <https://github.com/Azure/azure-functions-durable-extension> for workers that
//! it calls through middleware, and of
//! <https://github.com/microsoft/durabletask-protobuf>.
//!
//! ```text
//! timer --StartInstance--> orchestrator --call set--> entity_state
//!       <--------------------------- GetEntity ------------/
//! ```
//!
//! An entity has no `ETag`. What is kept here names its own version and the
//! one it replaces, and the entity refuses a `set` that replaces another
//! version than the one it holds: a late, repeated or overtaken write changes
//! nothing.

pub mod call;
mod cell;
pub mod message;
mod register;
mod sidecar;
mod turn;

use uuid::Uuid;

use crate::clock::Clock;

pub use self::cell::{Cell, Kept, NotKept, Patience};
pub use self::register::operate;
pub use self::sidecar::{BadAddress, Sidecar, SidecarError};
pub use self::turn::{fail, turn};

/// The entity's function folder. Entity ids hold it in lower case.
pub const ENTITY: &str = "entity_state";
/// The orchestration's function folder.
pub const ORCHESTRATOR: &str = "orchestrator";

/// What the host's durable functions need to know.
#[derive(Clone, Debug)]
pub struct Durable {
    /// The way back to the extension.
    pub sidecar: Sidecar,
    /// The app registration, which the entity is named after; `None` when the
    /// settings do not tell it.
    pub key: Option<Uuid>,
    /// Time.
    pub clock: Clock,
}

/// The entity of the app registration `key`.
pub fn entity_id(key: Uuid) -> String {
    format!("@{ENTITY}@{key}")
}
