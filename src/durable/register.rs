//! The entity: a register of one value.
//!
//! | operation | input | result |
//! |---|---|---|
//! | `get` | | the value, or `null` |
//! | `set` | the new value | the new value |
//! | `delete` | | `null` |
//!
//! A value that is an object may name its `version` and the one it `replaces`.
//! `set` is refused as `Conflict` unless the register holds the version that
//! the input replaces; a value without a version counts as none. What is held
//! already is not written again, and that is no failure.

use serde::Deserialize;
use serde_json::Value;

use super::message::{
    Ended, EntityBatchRequest, EntityBatchResult, Failure, OperationFailure, OperationRequest,
    OperationResult, OperationSuccess, StringValue, Timestamp, text,
};

/// Layers of strings taken off a value: some writers encode twice.
const MAX_LAYERS: usize = 4;

/// What a value says about itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Versions {
    pub(super) version: Option<String>,
    replaces: Option<String>,
}

/// Does every operation of a batch in order. One that fails leaves the value as
/// it was before it. `now` is put on the results.
pub fn operate(batch: &EntityBatchRequest, now: Timestamp) -> EntityBatchResult {
    let mut state = batch.entity_state.clone();
    let results = batch
        .operations
        .iter()
        .map(|operation| {
            let ended = match step(state.as_ref(), operation) {
                Ok((next, result)) => {
                    state = next;
                    Ended::Success(OperationSuccess { result, start: Some(now), end: Some(now) })
                }
                Err(failure) => Ended::Failure(OperationFailure {
                    failure: Some(failure),
                    start: Some(now),
                    end: Some(now),
                }),
            };
            OperationResult { ended: Some(ended) }
        })
        .collect();
    EntityBatchResult { results, entity_state: state }
}

type Held = Option<StringValue>;

/// The value afterwards, and the result.
fn step(
    state: Option<&StringValue>,
    operation: &OperationRequest,
) -> Result<(Held, Held), Failure> {
    let null = || StringValue::of("null");
    // .NET callers write names as they like.
    match operation.operation.to_ascii_lowercase().as_str() {
        "get" => Ok((state.cloned(), state.cloned().or_else(null))),
        "set" => set(state, operation),
        "delete" => Ok((None, null())),
        _ => Err(failure("UnknownOperation", "the entity knows get, set and delete")),
    }
}

fn set(state: Option<&StringValue>, operation: &OperationRequest) -> Result<(Held, Held), Failure> {
    let input = operation.input.as_ref();
    let next = text(input)
        .and_then(versions)
        .ok_or_else(|| failure("InvalidInput", "the value to set is not JSON"))?;
    let held = text(state).and_then(versions).unwrap_or_default();
    if next.version.is_some() && next.version == held.version {
        return Ok((state.cloned(), state.cloned()));
    }
    if next.replaces != held.version {
        return Err(failure(
            "Conflict",
            "the entity holds another version than the one to replace",
        ));
    }
    Ok((input.cloned(), input.cloned()))
}

/// What the value `text` says about itself; `None` if it is not JSON.
fn versions(text: &str) -> Option<Versions> {
    match peel(text)? {
        // Members of another form say nothing.
        value @ Value::Object(_) => Some(serde_json::from_value(value).unwrap_or_default()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Some(Versions::default())
        }
    }
}

/// The JSON value in `text`, without the layers of strings around it.
pub(super) fn peel(text: &str) -> Option<Value> {
    let mut value: Value = serde_json::from_str(text).ok()?;
    for _ in 0..MAX_LAYERS {
        let Value::String(inner) = &value else { break };
        match serde_json::from_str(inner) {
            Ok(inner) => value = inner,
            Err(_plain_text) => break,
        }
    }
    Some(value)
}

fn failure(error_type: &str, error_message: &str) -> Failure {
    Failure { error_type: error_type.to_owned(), error_message: error_message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp { seconds: 1_795_500_002, nanos: 0 };

    fn ran(state: Option<&str>, operations: &[(&str, Option<&str>)]) -> EntityBatchResult {
        let operations = operations
            .iter()
            .map(|(name, input)| OperationRequest {
                operation: (*name).to_owned(),
                request_id: "0b6f3f6e-2d0c-5a55-9a3e-000000000001".to_owned(),
                input: input.and_then(StringValue::of),
            })
            .collect();
        let batch = EntityBatchRequest {
            instance_id: "@entity_state@k".to_owned(),
            entity_state: state.and_then(StringValue::of),
            operations,
        };
        operate(&batch, NOW)
    }

    /// Each result's text, or its failure's type; then the state.
    fn told(result: &EntityBatchResult) -> (Vec<String>, Option<&str>) {
        let results = result
            .results
            .iter()
            .map(|result| match result.ended.clone().unwrap() {
                Ended::Success(success) => success.result.unwrap().value,
                Ended::Failure(failure) => failure.failure.unwrap().error_type,
            })
            .collect();
        (results, text(result.entity_state.as_ref()))
    }

    const ONE: &str = r#"{"version":"1","replaces":null}"#;
    const TWO: &str = r#"{"version":"2","replaces":"1"}"#;
    const LATE: &str = r#"{"version":"9","replaces":"1"}"#;

    #[test]
    fn a_write_replaces_only_the_version_it_names() {
        for (state, input, result, after) in [
            (None, ONE, ONE, Some(ONE)),
            (Some(ONE), TWO, TWO, Some(TWO)),
            (Some(TWO), LATE, "Conflict", Some(TWO)),
            (None, TWO, "Conflict", None),
            (Some(TWO), ONE, "Conflict", Some(TWO)),
            (Some(TWO), r#""plain""#, "Conflict", Some(TWO)),
            (Some(TWO), "null", "Conflict", Some(TWO)),
            (Some(r#""plain""#), ONE, ONE, Some(ONE)),
            (Some(r#""plain""#), r#""other""#, r#""other""#, Some(r#""other""#)),
            (Some(TWO), "{", "InvalidInput", Some(TWO)),
        ] {
            let ran = ran(state, &[("set", Some(input))]);
            assert_eq!(told(&ran), (vec![result.to_owned()], after), "{state:?} {input}");
        }
    }

    #[test]
    fn what_is_delivered_twice_is_written_once_and_never_fails() {
        let ran = ran(Some(ONE), &[("set", Some(TWO)), ("set", Some(TWO)), ("set", Some(ONE))]);
        assert_eq!(told(&ran), (vec![TWO.into(), TWO.into(), "Conflict".into()], Some(TWO)));
    }

    #[test]
    fn a_value_encoded_twice_has_the_same_version() {
        let twice = Value::String(ONE.to_owned()).to_string();
        let ran = ran(Some(&twice), &[("set", Some(TWO))]);
        assert_eq!(told(&ran), (vec![TWO.to_owned()], Some(TWO)));
    }

    #[test]
    fn an_operation_that_fails_takes_back_only_itself() {
        let ran = ran(
            None,
            &[
                ("get", None),
                ("set", Some(ONE)),
                ("rob", None),
                ("set", None),
                ("GET", None),
                ("delete", None),
                ("get", None),
            ],
        );
        let (results, after) = told(&ran);
        assert_eq!(results, ["null", ONE, "UnknownOperation", "InvalidInput", ONE, "null", "null"]);
        assert_eq!(after, None);
    }

    #[test]
    fn a_batch_without_effect_echoes_the_state() {
        assert_eq!(told(&ran(Some(TWO), &[])), (vec![], Some(TWO)));
        assert_eq!(told(&ran(Some(TWO), &[("rob", None)])).1, Some(TWO));
    }
}
