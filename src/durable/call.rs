//! What the sidecar is asked and answers; see [`super::message`].

use prost::{Message, Oneof};

use super::message::{Failure, StringValue, Timestamp};

/// Start an orchestration.
#[derive(Clone, PartialEq, Message)]
pub struct CreateInstanceRequest {
    /// Its id, free again once it ended.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// The function's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Not used.
    #[prost(message, optional, tag = "3")]
    pub version: Option<StringValue>,
    /// JSON text.
    #[prost(message, optional, tag = "4")]
    pub input: Option<StringValue>,
}

/// It was queued.
#[derive(Clone, PartialEq, Message)]
pub struct CreateInstanceResponse {
    /// Its id.
    #[prost(string, tag = "1")]
    pub instance_id: String,
}

/// How does an orchestration stand?
#[derive(Clone, PartialEq, Message)]
pub struct GetInstanceRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// With what went in and came out.
    #[prost(bool, tag = "2")]
    pub get_inputs_and_outputs: bool,
}

/// So it stands.
#[derive(Clone, PartialEq, Message)]
pub struct GetInstanceResponse {
    /// Whether there is one.
    #[prost(bool, tag = "1")]
    pub exists: bool,
    /// How it stands, if there is one.
    #[prost(message, optional, tag = "2")]
    pub state: Option<OrchestrationState>,
}

/// How an orchestration stands.
#[derive(Clone, PartialEq, Message)]
pub struct OrchestrationState {
    /// Which.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// The function's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// See [`super::message::Status`].
    #[prost(enumeration = "super::message::Status", tag = "4")]
    pub status: i32,
    /// JSON text.
    #[prost(message, optional, tag = "8")]
    pub input: Option<StringValue>,
    /// JSON text.
    #[prost(message, optional, tag = "9")]
    pub output: Option<StringValue>,
    /// Why it failed.
    #[prost(message, optional, tag = "11")]
    pub failure: Option<Failure>,
}

/// One operation for an entity, unanswered.
#[derive(Clone, PartialEq, Message)]
pub struct SignalEntityRequest {
    /// `@name@key`, the name in lower case.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// The operation.
    #[prost(string, tag = "2")]
    pub name: String,
    /// JSON text.
    #[prost(message, optional, tag = "3")]
    pub input: Option<StringValue>,
    /// A GUID.
    #[prost(string, tag = "4")]
    pub request_id: String,
}

/// What does an entity hold?
#[derive(Clone, PartialEq, Message)]
pub struct GetEntityRequest {
    /// `@name@key`, the name in lower case.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// With its state.
    #[prost(bool, tag = "2")]
    pub include_state: bool,
}

/// It holds this.
#[derive(Clone, PartialEq, Message)]
pub struct GetEntityResponse {
    /// Whether there is one.
    #[prost(bool, tag = "1")]
    pub exists: bool,
    /// It, if there is one.
    #[prost(message, optional, tag = "2")]
    pub entity: Option<EntityMetadata>,
}

/// An entity.
#[derive(Clone, PartialEq, Message)]
pub struct EntityMetadata {
    /// Which.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// Since when it holds that.
    #[prost(message, optional, tag = "2")]
    pub last_modified: Option<Timestamp>,
    /// JSON text.
    #[prost(message, optional, tag = "5")]
    pub serialized_state: Option<StringValue>,
}

/// Forget the history of an orchestration that ended.
#[derive(Clone, PartialEq, Message)]
pub struct PurgeInstancesRequest {
    /// Which.
    #[prost(oneof = "Purge", tags = "1")]
    pub which: Option<Purge>,
}

/// Which to forget.
#[derive(Clone, PartialEq, Oneof)]
pub enum Purge {
    /// This one.
    #[prost(string, tag = "1")]
    InstanceId(String),
}

/// So many were forgotten.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct PurgeInstancesResponse {
    /// How many.
    #[prost(int32, tag = "1")]
    pub deleted: i32,
}
