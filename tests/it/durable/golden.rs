//! Payloads made with the protocol's own schema, and one recorded from foreign
//! code, are read and written to the byte.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use defender_alert_export::clock::Clock;
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::durable::message::{
    Action, EntityBatchRequest, EntityBatchResult, Event, OrchestratorRequest,
    OrchestratorResponse, Timestamp,
};
use defender_alert_export::durable::{Durable, Sidecar, operate, turn};
use defender_alert_export::http;
use prost::Message;
use serde_json::Value;

use super::functions::post;
use super::{ENTITY, KEY};
use crate::handler::{Handler, runs_ending};

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    fs::read_to_string(path).unwrap()
}

fn bytes(name: &str) -> Vec<u8> {
    STANDARD.decode(text(name).trim()).unwrap()
}

fn read<M: Message + Default>(name: &str) -> M {
    M::decode(bytes(name).as_slice()).unwrap()
}

#[test]
fn what_is_read_is_written_back_to_the_byte() {
    fn same<M: Message + Default>(name: &str) {
        assert_eq!(read::<M>(name).encode_to_vec(), bytes(name), "{name}");
    }
    same::<EntityBatchRequest>("entity_batch_request_set_get.b64");
    same::<EntityBatchRequest>("entity_batch_request_get_with_state.b64");
    same::<EntityBatchResult>("entity_batch_result_set_get.b64");
    same::<OrchestratorResponse>("orch_turn1_response.b64");
    same::<OrchestratorResponse>("orch_turn2_response.b64");
    same::<OrchestratorResponse>("orch_failed_response.b64");
}

#[test]
fn the_entity_answers_as_recorded() {
    let now = Timestamp { seconds: 1_795_500_002, nanos: 0 };
    let batch = read("entity_batch_request_set_get.b64");
    assert_eq!(operate(&batch, now).encode_to_vec(), bytes("entity_batch_result_set_get.b64"));
    let batch: EntityBatchRequest = read("entity_batch_request_get_with_state.b64");
    assert_eq!(operate(&batch, now).entity_state, batch.entity_state);
}

#[test]
fn the_second_turn_ends_as_recorded() {
    let request: OrchestratorRequest = read("orch_turn2_request.b64");
    let response = turn(&request, Some(ENTITY));
    assert_eq!(response.encode_to_vec(), bytes("orch_turn2_response.b64"));
}

/// The recorded first turn sends two messages where ours sends one that is
/// answered.
#[test]
fn the_first_turn_calls_the_entity_in_the_recorded_form() {
    let request: OrchestratorRequest = read("orch_turn1_request.b64");
    let response = turn(&request, Some("@entity_state@refreshtoken"));
    let recorded: OrchestratorResponse = read("orch_turn1_response.b64");
    assert_eq!(response.instance_id, recorded.instance_id);
    let [action] = response.actions.as_slice() else { panic!("{response:?}") };
    let Some(Action::SendEvent(sent)) = &action.action else { panic!("{action:?}") };
    let Some(Action::SendEvent(like)) = &recorded.actions[0].action else { panic!() };
    assert_eq!((action.id, &sent.instance, &sent.name), (0, &like.instance, &like.name));
    let data = &sent.data.as_ref().unwrap().value;
    let call: Value = serde_json::from_str(data).unwrap();
    let id = call["id"].as_str().unwrap();
    assert_eq!(
        data,
        &format!(
            r#"{{"op":"set","signal":false,"input":"\"RT-1\"","id":"{id}","parent":"entity-token-rotation","parentExecution":"11111111111111111111111111111111"}}"#
        )
    );
    assert_eq!(uuid::Uuid::try_parse(id).unwrap().get_version_num(), 5);
    assert_eq!(turn(&request, Some("@entity_state@refreshtoken")), response, "replayed");
}

#[test]
fn a_request_recorded_from_foreign_code_is_understood() {
    let request: OrchestratorRequest = read("orch_foreign_request.b64");
    assert_eq!(request.instance_id, "a932b7bac92b4039b4d16102079fa35a");
    let Some(Event::ExecutionStarted(started)) = &request.new_events[1].event else { panic!() };
    assert_eq!((started.name.as_str(), &started.input), ("HelloCities", &None));
    let instance = started.orchestration_instance.as_ref().unwrap();
    let execution = instance.execution_id.as_ref().unwrap();
    assert_eq!(execution.value, "78109067d8cd4885ae864493e2de0d78");
    let response = turn(&request, Some(ENTITY));
    let Some(Action::CompleteOrchestration(end)) = &response.actions[0].action else { panic!() };
    assert_eq!(end.failure.as_ref().unwrap().error_type, "NoInput");
}

#[tokio::test]
async fn both_functions_take_the_hosts_own_envelopes() {
    let durable =
        Durable { sidecar: Sidecar::outside_host(), key: Some(KEY), clock: Clock::System };
    let handler = Handler::with(runs_ending(Status::Ok).0, durable).await;
    let client = http::client().unwrap();
    for (function, file) in [
        ("entity_state", "http_entity_set_get.json"),
        ("orchestrator", "http_orchestrator_turn1.json"),
    ] {
        let url = format!("{}/{function}", handler.url);
        let envelope = post(&client, &url, text(file)).await.unwrap();
        let returned = STANDARD.decode(envelope["ReturnValue"].as_str().unwrap()).unwrap();
        if function == "entity_state" {
            let result = EntityBatchResult::decode(returned.as_slice()).unwrap();
            assert_eq!(result.results.len(), 2);
            assert_eq!(result.entity_state.unwrap().value, "\"RT-1\"");
        } else {
            let response = OrchestratorResponse::decode(returned.as_slice()).unwrap();
            assert_eq!(response.actions.len(), 1);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_fails_the_orchestration_and_spares_the_entity() {
    let durable =
        Durable { sidecar: Sidecar::outside_host(), key: Some(KEY), clock: Clock::System };
    let handler = Handler::with(runs_ending(Status::Ok).0, durable).await;
    let client = http::client().unwrap();
    for body in
        ["", "null", "{}", r#"{"Data":{"context":"\"!\""}}"#, r#"{"Data":{"context":"\"/w==\""}}"#]
    {
        let url = format!("{}/orchestrator", handler.url);
        let envelope = post(&client, &url, body.to_owned()).await.unwrap();
        let returned = STANDARD.decode(envelope["ReturnValue"].as_str().unwrap()).unwrap();
        let response = OrchestratorResponse::decode(returned.as_slice()).unwrap();
        let Some(Action::CompleteOrchestration(end)) = &response.actions[0].action else {
            panic!()
        };
        assert_eq!(end.failure.as_ref().unwrap().error_type, "UnreadableHistory", "{body}");
        let url = format!("{}/entity_state", handler.url);
        assert!(post(&client, &url, body.to_owned()).await.is_none(), "{body}");
    }
}
