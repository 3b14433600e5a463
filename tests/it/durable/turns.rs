//! A turn depends on the history and on nothing else.

use defender_alert_export::durable::message::{
    Action, Event, EventRaised, EventSent, ExecutionStarted, HistoryEvent, Ignored,
    OrchestrationInstance, OrchestratorRequest, Status, StringValue,
};
use defender_alert_export::durable::turn;

use super::ENTITY;
use super::hub::event;

fn started() -> HistoryEvent {
    let instance =
        OrchestrationInstance { instance_id: "w".to_owned(), execution_id: StringValue::of("e") };
    event(
        -1,
        Event::ExecutionStarted(ExecutionStarted {
            name: "orchestrator".to_owned(),
            version: None,
            input: StringValue::of("{}"),
            orchestration_instance: Some(instance),
        }),
    )
}

fn raised(name: &str, input: &str) -> HistoryEvent {
    let raised = EventRaised { name: name.to_owned(), input: StringValue::of(input) };
    event(-1, Event::EventRaised(raised))
}

fn request(past: &[HistoryEvent], new: &[HistoryEvent]) -> OrchestratorRequest {
    OrchestratorRequest {
        instance_id: "w".to_owned(),
        execution_id: None,
        past_events: past.to_vec(),
        new_events: new.to_vec(),
    }
}

/// What the first turn sent, as history, and the call's id.
fn sent() -> (HistoryEvent, String) {
    let first = turn(&request(&[], &[started()]), Some(ENTITY));
    let Some(Action::SendEvent(call)) = &first.actions[0].action else { panic!("{first:?}") };
    let data: serde_json::Value = serde_json::from_str(&call.data.as_ref().unwrap().value).unwrap();
    let sent = EventSent {
        instance_id: ENTITY.to_owned(),
        name: "op".to_owned(),
        input: call.data.clone(),
    };
    (event(0, Event::EventSent(sent)), data["id"].as_str().unwrap().to_owned())
}

/// `-`, or the end's number, status and failure.
fn ended(past: &[HistoryEvent], new: &[HistoryEvent]) -> String {
    let response = turn(&request(past, new), Some(ENTITY));
    assert_eq!(response.instance_id, "w");
    assert_eq!(turn(&request(past, new), Some(ENTITY)), response, "the same again");
    let Some(action) = response.actions.first() else { return "-".to_owned() };
    match action.action.as_ref().unwrap() {
        Action::SendEvent(_) => format!("{} sends", action.id),
        Action::CompleteOrchestration(end) if end.status() == Status::Completed => {
            format!("{} {}", action.id, end.result.as_ref().map_or("", |result| &result.value))
        }
        Action::CompleteOrchestration(end) => {
            format!("{} {}", action.id, end.failure.as_ref().unwrap().error_type)
        }
    }
}

#[test]
fn each_history_leads_to_one_action_or_none() {
    let (sent, id) = sent();
    let good = raised(&id, r#"{"result":"7"}"#);
    let other = raised("11111111-2222-4333-8444-555555555555", r#"{"result":"8"}"#);
    let refused = raised(
        &id,
        r#"{"exceptionType":"x","failureDetails":{"ErrorType":"Conflict","ErrorMessage":"m"}}"#,
    );
    let old = raised(&id, r#"{"exceptionType":"x","result":null}"#);
    let unknown = HistoryEvent { event_id: -1, timestamp: None, event: None };
    let suspended = event(-1, Event::ExecutionSuspended(Ignored {}));
    let resumed = event(-1, Event::ExecutionResumed(Ignored {}));
    let completed = event(-1, Event::ExecutionCompleted(Ignored {}));
    let terminated = event(-1, Event::ExecutionTerminated(Ignored {}));
    let one = std::slice::from_ref;
    let begun = [started(), sent];
    for (name, past, new, expected) in [
        ("the first turn", &[][..], &[started()][..], "0 sends"),
        ("the first turn, replayed", &[started()], &[], "0 sends"),
        ("no answer yet", &begun, &[], "-"),
        ("an answer", &begun, one(&good), "1 7"),
        ("an answer delivered twice", &begun, &[good.clone(), good.clone()], "1 7"),
        ("answers that differ: the first counts", &begun, &[good.clone(), refused.clone()], "1 7"),
        ("in another case", &begun, &[raised(&id.to_uppercase(), r#"{"result":"7"}"#)], "1 7"),
        ("somebody else's answer", &begun, one(&other), "-"),
        ("unknown events", &begun, &[unknown, other.clone(), good.clone()], "1 7"),
        ("a refusal", &begun, one(&refused), "1 Conflict"),
        ("a failure in the old form", &begun, one(&old), "1 EntityOperationFailed"),
        ("garbage", &begun, &[raised(&id, "{")], "1 UnreadableAnswer"),
        ("suspended", &begun, &[suspended.clone(), good.clone()], "-"),
        ("resumed", &begun, &[suspended, good.clone(), resumed], "1 7"),
        ("completed before", &begun, &[good.clone(), completed], "-"),
        ("terminated", &begun, &[terminated, good.clone()], "-"),
        ("without a beginning", &[], &[], "0 NotStarted"),
    ] {
        assert_eq!(ended(past, new), expected, "{name}");
    }
}

#[test]
fn no_two_calls_have_the_same_id() {
    let id = |instance: &str, execution: Option<&str>| {
        let mut request = request(&[], &[started()]);
        request.instance_id = instance.to_owned();
        let Some(Event::ExecutionStarted(started)) = &mut request.new_events[0].event else {
            panic!()
        };
        started.orchestration_instance.as_mut().unwrap().execution_id =
            execution.and_then(StringValue::of);
        let first = turn(&request, Some(ENTITY));
        let Some(Action::SendEvent(send)) = &first.actions[0].action else { panic!("{first:?}") };
        send.data.as_ref().unwrap().value.clone()
    };
    assert_eq!(id("w", Some("e")), id("w", Some("e")));
    let ids = [id("w", Some("e")), id("w", Some("f")), id("v", Some("e")), id("w", None)];
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
}

#[test]
fn without_settings_the_orchestration_fails_and_says_why() {
    let response = turn(&request(&[], &[started()]), None);
    let Some(Action::CompleteOrchestration(end)) = &response.actions[0].action else { panic!() };
    assert_eq!(end.failure.as_ref().unwrap().error_type, "NotConfigured");
}
