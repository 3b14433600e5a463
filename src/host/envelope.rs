//! What the host sends with an invocation, and what it expects back.
//!
//! A request is `{"Data":{name: value},"Metadata":{…}}`, chunked, of any size up
//! to the host's own 100 MB. Strings are encoded twice: text `hello` arrives as
//! `"\"hello\""`. Keys are read in any case.
//!
//! An answer is `{"Outputs":{},"Logs":[…],"ReturnValue":…}`. An empty body or
//! `null` leaves the invocation waiting until the function times out, and then
//! the host kills this process.

use axum::Json;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use prost::Message;
use serde::Serialize;
use serde_json::{Map, Value};

/// Bytes of a request that are kept. A timer's is below 2 KiB; the rest is read
/// and dropped, so that the host always gets to read its answer.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
/// Layers of strings that are taken off one value. The host adds at most two.
const MAX_LAYERS: usize = 8;

/// The arguments of one invocation, by binding name.
#[derive(Debug, Default)]
pub(super) struct Arguments(Map<String, Value>);

/// Why a request could not be understood. Never quotes it: an argument can hold
/// a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Malformed {
    /// No bytes.
    #[error("empty")]
    Empty,
    /// The connection broke before the end.
    #[error("cut off")]
    CutOff,
    /// More than [`MAX_BODY_BYTES`].
    #[error("larger than 64 MiB")]
    TooLarge,
    /// No text that is base64, or not of the message expected.
    #[error("not protobuf in base64")]
    NotProtobuf,
    /// Not JSON, or nested more than 128 deep.
    #[error("not JSON")]
    NotJson,
    /// JSON without an object `Data`.
    #[error("without Data")]
    NoData,
}

impl Arguments {
    /// Reads a request's body to its end.
    pub(super) async fn read(body: Body) -> Result<Self, Malformed> {
        let mut chunks = body.into_data_stream();
        let mut kept = Vec::new();
        let mut too_large = false;
        while let Some(chunk) = chunks.next().await {
            // The server's error only says that the connection ended.
            let chunk = chunk.map_err(|_broken| Malformed::CutOff)?;
            too_large |= kept.len() + chunk.len() > MAX_BODY_BYTES;
            if too_large {
                kept = Vec::new();
            } else {
                kept.extend_from_slice(&chunk);
            }
        }
        if too_large { Err(Malformed::TooLarge) } else { Self::parse(&kept) }
    }

    fn parse(body: &[u8]) -> Result<Self, Malformed> {
        if body.trim_ascii().is_empty() {
            return Err(Malformed::Empty);
        }
        // serde_json's error quotes nothing but says little more than this.
        let body = serde_json::from_slice(body).map_err(|_position| Malformed::NotJson)?;
        match take(peel(body), "Data").map(peel) {
            Some(Value::Object(data)) => Ok(Self(data)),
            Some(_) | None => Err(Malformed::NoData),
        }
    }

    /// The member `member` of the argument `name`, if both are there.
    pub(super) fn flag(&self, name: &str, member: &str) -> Option<bool> {
        let argument = peel(find(&self.0, name)?.clone());
        peel(take(argument, member)?).as_bool()
    }

    /// The text `member` of the argument `name`, if both are there.
    pub(super) fn text(&self, name: &str, member: &str) -> Option<String> {
        let argument = peel(find(&self.0, name)?.clone());
        match take(argument, member)? {
            Value::String(text) => Some(text),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => None,
        }
    }

    /// The message in the argument `name`: protobuf in base64.
    pub(super) fn message<M: Message + Default>(&self, name: &str) -> Result<M, Malformed> {
        let argument = find(&self.0, name).cloned().map(peel);
        let Some(Value::String(text)) = argument else { return Err(Malformed::NotProtobuf) };
        let bytes = STANDARD.decode(text.trim()).map_err(|_may_quote| Malformed::NotProtobuf)?;
        M::decode(bytes.as_slice()).map_err(|_says_little| Malformed::NotProtobuf)
    }
}

/// Takes off string after string while what is inside is JSON.
fn peel(mut value: Value) -> Value {
    for _ in 0..MAX_LAYERS {
        let Value::String(text) = &value else { break };
        match serde_json::from_str(text) {
            Ok(inner) => value = inner,
            Err(_plain_text) => break,
        }
    }
    value
}

fn find<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn take(value: Value, name: &str) -> Option<Value> {
    match value {
        Value::Object(object) => object
            .into_iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            None
        }
    }
}

/// What the host is told. Its body is always a whole envelope.
#[derive(Debug)]
pub(super) struct Answer {
    /// The host takes any 2xx as done and everything else as failed.
    pub(super) status: StatusCode,
    /// One line for the function's own log. The host drops it unless the status
    /// is 2xx (<https://github.com/Azure/azure-functions-host/issues/11086>).
    pub(super) log: String,
}

/// What a durable function returns: protobuf in base64. Always taken as done;
/// what failed is told within.
#[derive(Debug)]
pub(super) struct Returned(pub(super) Vec<u8>);

impl IntoResponse for Returned {
    fn into_response(self) -> Response {
        let return_value = Some(STANDARD.encode(self.0));
        let envelope = Envelope { outputs: Map::new(), logs: Vec::new(), return_value };
        (StatusCode::OK, Json(envelope)).into_response()
    }
}

/// Outputs stay empty: the host decodes any that happen to be valid base64
/// (<https://github.com/Azure/azure-functions-host/issues/8352>).
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope {
    outputs: Map<String, Value>,
    logs: Vec<String>,
    return_value: Option<String>,
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let envelope = Envelope { outputs: Map::new(), logs: vec![self.log], return_value: None };
        (self.status, Json(envelope)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_found_however_often_it_was_encoded_and_in_whatever_case() {
        for (body, expected) in [
            (r#"{"Data":{"timer":{"IsPastDue":true}},"Metadata":{}}"#, Some(true)),
            (r#"{"data":{"TIMER":{"ispastdue":false}}}"#, Some(false)),
            (r#"{"Data":{"timer":"{\"IsPastDue\":true}"}}"#, Some(true)),
            (r#"{"Data":{"timer":"\"{\\\"IsPastDue\\\":true}\""}}"#, Some(true)),
            (r#"{"Data":"{\"timer\":{\"IsPastDue\":\"true\"}}"}"#, Some(true)),
            (r#""{\"Data\":{\"timer\":{\"IsPastDue\":true}}}""#, Some(true)),
            (r#"{"Data":{"timer":"soon"}}"#, None),
            (r#"{"Data":{"timer":{"IsPastDue":"late"}}}"#, None),
            (r#"{"Data":{}}"#, None),
        ] {
            let arguments = Arguments::parse(body.as_bytes()).unwrap();
            assert_eq!(arguments.flag("timer", "IsPastDue"), expected, "{body}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_said_without_quoting_it() {
        let deep = format!("{}1{}", "[".repeat(4_000), "]".repeat(4_000));
        for (body, expected) in [
            ("", Malformed::Empty),
            (" \r\n", Malformed::Empty),
            ("{", Malformed::NotJson),
            ("\u{fffd}\u{0}", Malformed::NotJson),
            (deep.as_str(), Malformed::NotJson),
            ("null", Malformed::NoData),
            ("[]", Malformed::NoData),
            ("\"secret\"", Malformed::NoData),
            (r#"{"Data":null}"#, Malformed::NoData),
            (r#"{"Data":["timer"]}"#, Malformed::NoData),
        ] {
            assert_eq!(Arguments::parse(body.as_bytes()).unwrap_err(), expected, "{body}");
        }
    }

    #[test]
    fn peeling_ends() {
        let mut text = "\"x\"".to_owned();
        for _ in 0..12 {
            text = Value::String(text).to_string();
        }
        assert!(peel(Value::String(text)).is_string());
    }
}
