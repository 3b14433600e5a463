//! The few protobuf messages of the Durable Task protocol that this program
//! reads or writes, with the field numbers of
//! <https://github.com/microsoft/durabletask-protobuf>. Members left out here
//! are skipped when read. The schema has no package.

use prost::{Enumeration, Message, Oneof};

/// `google.protobuf.StringValue`: text, or nothing.
#[derive(Clone, Eq, PartialEq, Message)]
pub struct StringValue {
    /// The text.
    #[prost(string, tag = "1")]
    pub value: String,
}

impl StringValue {
    /// Text that is there.
    pub fn of(value: impl Into<String>) -> Option<Self> {
        Some(Self { value: value.into() })
    }
}

/// The text, if there is one.
pub(super) fn text(value: Option<&StringValue>) -> Option<&str> {
    value.map(|value| value.value.as_str())
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, Eq, PartialEq, Message)]
pub struct Timestamp {
    /// Seconds since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// And this many nanoseconds.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// A message whose members do not matter here.
#[derive(Clone, Copy, Eq, PartialEq, Message)]
pub struct Ignored {}

/// One turn of an orchestration: what happened before, and since.
#[derive(Clone, PartialEq, Message)]
pub struct OrchestratorRequest {
    /// The orchestration.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// Not set by the extension; see [`OrchestrationInstance`].
    #[prost(message, optional, tag = "2")]
    pub execution_id: Option<StringValue>,
    /// Everything earlier turns led to.
    #[prost(message, repeated, tag = "3")]
    pub past_events: Vec<HistoryEvent>,
    /// What this turn is for.
    #[prost(message, repeated, tag = "4")]
    pub new_events: Vec<HistoryEvent>,
}

/// One entry of an orchestration's history.
#[derive(Clone, PartialEq, Message)]
pub struct HistoryEvent {
    /// The action's id for what an action led to, -1 for what came from outside.
    #[prost(int32, tag = "1")]
    pub event_id: i32,
    /// When.
    #[prost(message, optional, tag = "2")]
    pub timestamp: Option<Timestamp>,
    /// What; nothing for kinds this program does not know.
    #[prost(oneof = "Event", tags = "3, 4, 5, 14, 15, 16, 17, 20, 21")]
    pub event: Option<Event>,
}

/// What happened.
#[derive(Clone, PartialEq, Oneof)]
pub enum Event {
    /// The orchestration was started.
    #[prost(message, tag = "3")]
    ExecutionStarted(ExecutionStarted),
    /// It ended.
    #[prost(message, tag = "4")]
    ExecutionCompleted(Ignored),
    /// It was ended from outside.
    #[prost(message, tag = "5")]
    ExecutionTerminated(Ignored),
    /// A turn began.
    #[prost(message, tag = "14")]
    OrchestratorStarted(Ignored),
    /// A turn ended.
    #[prost(message, tag = "15")]
    OrchestratorCompleted(Ignored),
    /// A message went out.
    #[prost(message, tag = "16")]
    EventSent(EventSent),
    /// A message came in.
    #[prost(message, tag = "17")]
    EventRaised(EventRaised),
    /// It was suspended.
    #[prost(message, tag = "20")]
    ExecutionSuspended(Ignored),
    /// It goes on.
    #[prost(message, tag = "21")]
    ExecutionResumed(Ignored),
}

/// How an orchestration began.
#[derive(Clone, PartialEq, Message)]
pub struct ExecutionStarted {
    /// The function's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Not used.
    #[prost(message, optional, tag = "2")]
    pub version: Option<StringValue>,
    /// JSON text.
    #[prost(message, optional, tag = "3")]
    pub input: Option<StringValue>,
    /// Which.
    #[prost(message, optional, tag = "4")]
    pub orchestration_instance: Option<OrchestrationInstance>,
}

/// Which orchestration, and which of its executions.
#[derive(Clone, PartialEq, Message)]
pub struct OrchestrationInstance {
    /// The orchestration.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// New each time it is started.
    #[prost(message, optional, tag = "2")]
    pub execution_id: Option<StringValue>,
}

/// A message that went out.
#[derive(Clone, PartialEq, Message)]
pub struct EventSent {
    /// To whom.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// `op` for an entity.
    #[prost(string, tag = "2")]
    pub name: String,
    /// JSON text.
    #[prost(message, optional, tag = "3")]
    pub input: Option<StringValue>,
}

/// A message that came in.
#[derive(Clone, PartialEq, Message)]
pub struct EventRaised {
    /// An entity's answer bears the id of the call.
    #[prost(string, tag = "1")]
    pub name: String,
    /// JSON text.
    #[prost(message, optional, tag = "2")]
    pub input: Option<StringValue>,
}

/// What a turn decided.
#[derive(Clone, PartialEq, Message)]
pub struct OrchestratorResponse {
    /// The orchestration.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// What to do next; nothing while it waits.
    #[prost(message, repeated, tag = "2")]
    pub actions: Vec<OrchestratorAction>,
}

/// Something to do.
#[derive(Clone, PartialEq, Message)]
pub struct OrchestratorAction {
    /// Counted from 0 over the whole history.
    #[prost(int32, tag = "1")]
    pub id: i32,
    /// What.
    #[prost(oneof = "Action", tags = "5, 6")]
    pub action: Option<Action>,
}

/// What to do.
#[derive(Clone, PartialEq, Oneof)]
pub enum Action {
    /// Send a message.
    #[prost(message, tag = "5")]
    SendEvent(SendEvent),
    /// End.
    #[prost(message, tag = "6")]
    CompleteOrchestration(CompleteOrchestration),
}

/// A message to send.
#[derive(Clone, PartialEq, Message)]
pub struct SendEvent {
    /// To whom.
    #[prost(message, optional, tag = "1")]
    pub instance: Option<OrchestrationInstance>,
    /// `op` for an entity.
    #[prost(string, tag = "2")]
    pub name: String,
    /// JSON text.
    #[prost(message, optional, tag = "3")]
    pub data: Option<StringValue>,
}

/// How an orchestration ends.
#[derive(Clone, PartialEq, Message)]
pub struct CompleteOrchestration {
    /// [`Status::Completed`] or [`Status::Failed`].
    #[prost(enumeration = "Status", tag = "1")]
    pub status: i32,
    /// JSON text.
    #[prost(message, optional, tag = "2")]
    pub result: Option<StringValue>,
    /// Why it failed.
    #[prost(message, optional, tag = "6")]
    pub failure: Option<Failure>,
}

/// How an orchestration stands.
#[derive(Clone, Copy, Debug, Eq, Enumeration, Ord, PartialEq, PartialOrd)]
#[repr(i32)]
pub enum Status {
    /// Under way.
    Running = 0,
    /// Ended well.
    Completed = 1,
    /// Began anew.
    ContinuedAsNew = 2,
    /// Ended badly.
    Failed = 3,
    /// Called off.
    Canceled = 4,
    /// Ended from outside.
    Terminated = 5,
    /// Not begun.
    Pending = 6,
    /// Held from outside.
    Suspended = 7,
}

/// Why something failed.
#[derive(Clone, PartialEq, Message)]
pub struct Failure {
    /// One word, for programs.
    #[prost(string, tag = "1")]
    pub error_type: String,
    /// One sentence, for people.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// Operations for an entity, in order.
#[derive(Clone, PartialEq, Message)]
pub struct EntityBatchRequest {
    /// `@entity_state@key`.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// What the last batch left; nothing for a new or deleted entity.
    #[prost(message, optional, tag = "2")]
    pub entity_state: Option<StringValue>,
    /// At least one.
    #[prost(message, repeated, tag = "3")]
    pub operations: Vec<OperationRequest>,
}

/// One operation.
#[derive(Clone, PartialEq, Message)]
pub struct OperationRequest {
    /// Its name.
    #[prost(string, tag = "1")]
    pub operation: String,
    /// A GUID.
    #[prost(string, tag = "2")]
    pub request_id: String,
    /// JSON text.
    #[prost(message, optional, tag = "3")]
    pub input: Option<StringValue>,
}

/// What a batch led to.
#[derive(Clone, PartialEq, Message)]
pub struct EntityBatchResult {
    /// One for each operation, in order.
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<OperationResult>,
    /// What the entity holds now. Nothing here deletes the entity.
    #[prost(message, optional, tag = "3")]
    pub entity_state: Option<StringValue>,
}

/// How one operation ended.
#[derive(Clone, PartialEq, Message)]
pub struct OperationResult {
    /// Well or badly.
    #[prost(oneof = "Ended", tags = "1, 2")]
    pub ended: Option<Ended>,
}

/// Well or badly.
#[derive(Clone, PartialEq, Oneof)]
pub enum Ended {
    /// Well.
    #[prost(message, tag = "1")]
    Success(OperationSuccess),
    /// Badly; the state is as before the operation.
    #[prost(message, tag = "2")]
    Failure(OperationFailure),
}

/// An operation that ended well.
#[derive(Clone, PartialEq, Message)]
pub struct OperationSuccess {
    /// JSON text.
    #[prost(message, optional, tag = "1")]
    pub result: Option<StringValue>,
    /// From when.
    #[prost(message, optional, tag = "2")]
    pub start: Option<Timestamp>,
    /// To when.
    #[prost(message, optional, tag = "3")]
    pub end: Option<Timestamp>,
}

/// An operation that ended badly.
#[derive(Clone, PartialEq, Message)]
pub struct OperationFailure {
    /// Why.
    #[prost(message, optional, tag = "1")]
    pub failure: Option<Failure>,
    /// From when.
    #[prost(message, optional, tag = "2")]
    pub start: Option<Timestamp>,
    /// To when.
    #[prost(message, optional, tag = "3")]
    pub end: Option<Timestamp>,
}
