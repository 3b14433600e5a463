//! The orchestration: one `set` of the entity, and its result.
//!
//! A turn is a function of the history alone: the same history gives the same
//! actions, whichever process takes the turn and however often.
//!
//! | history | actions |
//! |---|---|
//! | nothing sent | 0: `sendEvent`, the call |
//! | sent, no answer | none |
//! | answered | the next number: `completeOrchestration` |
//! | ended or suspended | none |
//!
//! A call is an event named `op`; its answer is raised as an event named after
//! the call's id. A failure is an end like any other: answered with an HTTP
//! error, the extension would fail the orchestration for good and say nothing.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::message::{
    Action, CompleteOrchestration, Event, EventSent, ExecutionStarted, Failure, HistoryEvent,
    OrchestrationInstance, OrchestratorAction, OrchestratorRequest, OrchestratorResponse,
    SendEvent, Status, StringValue, text,
};

/// What an entity is sent: `DurableTask`'s `RequestMessage`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    op: &'static str,
    signal: bool,
    input: &'a str,
    id: String,
    parent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_execution: Option<&'a str>,
}

/// What of it is read back from the history.
#[derive(Debug, Deserialize)]
struct Sent {
    id: String,
}

/// What an entity answers: `DurableTask`'s `ResponseMessage`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    result: Option<String>,
    /// In fact the error's message.
    exception_type: Option<String>,
    failure_details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Details {
    error_type: String,
    error_message: String,
}

/// What the history comes to.
#[derive(Debug, Default)]
struct History<'a> {
    started: Option<&'a ExecutionStarted>,
    sent: Vec<&'a EventSent>,
    raised: Vec<(&'a str, &'a str)>,
    over: bool,
    suspended: bool,
}

impl<'a> History<'a> {
    fn of(events: impl Iterator<Item = &'a HistoryEvent>) -> Self {
        let mut history = Self::default();
        for event in events {
            match event.event.as_ref() {
                Some(Event::ExecutionStarted(started)) => {
                    history.started.get_or_insert(started);
                }
                Some(Event::EventSent(sent)) => history.sent.push(sent),
                Some(Event::EventRaised(raised)) => {
                    let answer = text(raised.input.as_ref()).unwrap_or_default();
                    history.raised.push((&raised.name, answer));
                }
                Some(Event::ExecutionCompleted(_) | Event::ExecutionTerminated(_)) => {
                    history.over = true;
                }
                Some(Event::ExecutionSuspended(_)) => history.suspended = true,
                Some(Event::ExecutionResumed(_)) => history.suspended = false,
                Some(Event::OrchestratorStarted(_) | Event::OrchestratorCompleted(_)) | None => {}
            }
        }
        history
    }

    /// The answer to one of the calls that were sent. Of two deliveries the
    /// first counts.
    fn answer(&self) -> Option<&'a str> {
        let calls: Vec<_> = self
            .sent
            .iter()
            .filter_map(|sent| serde_json::from_str::<Sent>(text(sent.input.as_ref())?).ok())
            .collect();
        let is_call = |name: &str| calls.iter().any(|call| call.id.eq_ignore_ascii_case(name));
        self.raised.iter().find(|(name, _)| is_call(name)).map(|(_, input)| *input)
    }
}

/// Takes a turn: writes the orchestration's input to `entity`, and ends with
/// what the entity answers.
pub fn turn(request: &OrchestratorRequest, entity: Option<&str>) -> OrchestratorResponse {
    let history = History::of(request.past_events.iter().chain(&request.new_events));
    let id = i32::try_from(history.sent.len()).unwrap_or(i32::MAX);
    let action = if history.over || history.suspended {
        None
    } else if let Some(answer) = history.answer() {
        Some(end(answer))
    } else if history.sent.is_empty() {
        Some(begin(request, &history, entity))
    } else {
        None
    };
    let actions = action.map(|action| OrchestratorAction { id, action: Some(action) });
    OrchestratorResponse {
        instance_id: request.instance_id.clone(),
        actions: actions.into_iter().collect(),
    }
}

/// The answer to a request that could not be read: the orchestration ends as
/// failed, and whoever started it starts another.
pub fn fail(error_type: &str, error_message: &str) -> OrchestratorResponse {
    let action = OrchestratorAction { id: 0, action: Some(failed(error_type, error_message)) };
    OrchestratorResponse { instance_id: String::new(), actions: vec![action] }
}

fn begin(request: &OrchestratorRequest, history: &History<'_>, entity: Option<&str>) -> Action {
    let Some(started) = history.started else {
        return failed("NotStarted", "the history does not tell how the orchestration was started");
    };
    let Some(input) = text(started.input.as_ref()) else {
        return failed("NoInput", "the orchestration was started without a value to keep");
    };
    let Some(entity) = entity else {
        return failed("NotConfigured", "FunctionConfigMDEClientAppId does not name the entity");
    };
    let instance = started.orchestration_instance.as_ref();
    let execution = instance
        .and_then(|instance| text(instance.execution_id.as_ref()))
        .or_else(|| text(request.execution_id.as_ref()));
    let call = Call {
        op: "set",
        signal: false,
        input,
        id: call_id(&request.instance_id, execution, history.sent.len()).to_string(),
        parent: &request.instance_id,
        parent_execution: execution,
    };
    let Ok(data) = serde_json::to_string(&call) else {
        return failed("NotSent", "the call could not be written");
    };
    Action::SendEvent(SendEvent {
        instance: Some(OrchestrationInstance {
            instance_id: entity.to_owned(),
            execution_id: None,
        }),
        name: "op".to_owned(),
        data: StringValue::of(data),
    })
}

/// The same for every replay of the same execution, and for no other call.
fn call_id(instance: &str, execution: Option<&str>, counter: usize) -> Uuid {
    let name = format!("{instance}\n{}\n{counter}", execution.unwrap_or_default());
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

fn end(answer: &str) -> Action {
    let Ok(answer) = serde_json::from_str::<Answer>(answer) else {
        return failed("UnreadableAnswer", "the entity's answer could not be read");
    };
    if let Some(details) = answer.failure_details {
        return failed(&details.error_type, &details.error_message);
    }
    if let Some(message) = answer.exception_type {
        return failed("EntityOperationFailed", &message);
    }
    Action::CompleteOrchestration(CompleteOrchestration {
        status: Status::Completed.into(),
        result: answer.result.and_then(StringValue::of),
        failure: None,
    })
}

fn failed(error_type: &str, error_message: &str) -> Action {
    Action::CompleteOrchestration(CompleteOrchestration {
        status: Status::Failed.into(),
        result: None,
        failure: Some(Failure {
            error_type: error_type.to_owned(),
            error_message: error_message.to_owned(),
        }),
    })
}
