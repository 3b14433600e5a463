//! One request to a sink and what its answer means.

use std::fmt;
use std::io;
use std::time::Duration;

use serde::Deserialize;
use uuid::Uuid;

use super::place::Place;
use crate::azure::credential::CredentialError;
use crate::azure::workspace_key::BadKey;
use crate::clock::Clock;
use crate::http::retry::{Classify, Verdict};
use crate::http::{Broken, Http, read_at_most, retry_after};

/// Error answers are a line or two; success has no body.
pub(super) const LARGEST_ANSWER: usize = 16 * 1024;

/// Why one post failed.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// No answer. The rows may or may not have been stored.
    #[error("no answer from the sink{}", Request(*.request))]
    NoAnswer {
        /// What the request was named, where the service takes a name.
        request: Option<Uuid>,
        /// What broke.
        #[source]
        broken: Broken,
    },
    /// The sink answered, and the answer was not that it took the rows.
    #[error("the sink answered {0}")]
    Refused(Refusal),
    /// No token to send with; nothing was sent.
    #[error("no token for the sink")]
    NoToken(#[source] CredentialError),
    /// No signature to send with; nothing was sent.
    #[error("the request cannot be signed")]
    BadKey(#[source] BadKey),
    /// Something answered success in another service's words. The rows may or
    /// may not have been stored.
    #[error("an answer that is not the sink's")]
    Garbled,
    /// The rows could not be compressed; nothing was sent.
    #[error("the rows cannot be compressed")]
    NotCompressed(#[source] io::Error),
}

/// An answer other than the one that means accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The service's own error code, such as `ContentLengthLimitExceeded`;
    /// empty when it gave none. Never the message beside it, which may quote a
    /// row.
    pub code: String,
    /// What the request was named, where the service takes a name.
    pub request: Option<Uuid>,
    /// From `Retry-After`, or what the service is known to need.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        Request(self.request).fmt(f)
    }
}

struct Request(Option<Uuid>);

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |id| write!(f, " (request {id})"))
    }
}

impl Classify for PostError {
    fn verdict(&self) -> Verdict {
        match self {
            // The rows may be stored already. A repeated row carries the same
            // ExportKey, and every query shipped with the product keeps one row
            // a key; a row never sent is an alert nobody sees.
            Self::NoAnswer { .. } | Self::Garbled => Verdict::Retry { after: None },
            // S3's own way of saying that it lost the connection; and two that
            // write one object at once.
            Self::Refused(refusal)
                if ["RequestTimeout", "OperationAborted"].contains(&refusal.code.as_str()) =>
            {
                Verdict::Retry { after: refusal.retry_after }
            }
            Self::Refused(refusal) => match refusal.status {
                // Not taken in. Should the service have stored some of it all
                // the same, the repeat carries the same ExportKeys.
                408 | 429 | 500..=599 => Verdict::Retry { after: refusal.retry_after },
                _ => Verdict::Fatal,
            },
            // The credential has tried again by itself.
            Self::NoToken(_) => Verdict::Fatal,
            Self::BadKey(_) | Self::NotCompressed(_) => Verdict::Fatal,
        }
    }
}

/// 400s of the Data Collector that are about the request and would be the same
/// for any row.
const ABOUT_THE_REQUEST: [&str; 8] = [
    "InactiveCustomer",
    "InvalidApiVersion",
    "InvalidCustomerId",
    "InvalidLogType",
    "MissingApiVersion",
    "MissingContentType",
    "MissingLogType",
    "UnsupportedContentType",
];

impl PostError {
    /// Whether `place` might accept fewer or other rows.
    ///
    /// A 404 never is, though the Data Collector is documented to answer it to
    /// a body over 30 MB too: no batch of ours comes near that.
    pub fn blames_rows(&self, place: Place) -> bool {
        match self {
            Self::Refused(refusal) => match refusal.status {
                413 => true,
                400 => place.reads_rows() && !ABOUT_THE_REQUEST.contains(&refusal.code.as_str()),
                _ => false,
            },
            Self::NoAnswer { .. }
            | Self::Garbled
            | Self::NoToken(_)
            | Self::BadKey(_)
            | Self::NotCompressed(_) => false,
        }
    }

    /// The status answered, if any was.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            Self::NoAnswer { .. }
            | Self::Garbled
            | Self::NoToken(_)
            | Self::BadKey(_)
            | Self::NotCompressed(_) => None,
        }
    }
}

/// Sends `request` once. Only the status `accepted` means that the rows were
/// taken: a proxy that answers 200 in the service's place must not.
pub(super) async fn exchange(
    http: &Http,
    request: reqwest::RequestBuilder,
    accepted: u16,
    id: Option<Uuid>,
    clock: &Clock,
) -> Result<(), PostError> {
    let no_answer = |broken| PostError::NoAnswer { request: id, broken };
    let answer = http.send(request).await.map_err(no_answer)?;
    let status = answer.status().as_u16();
    let retry_after = retry_after(answer.headers(), clock.now().to_utc().into());
    let body = read_at_most(answer, LARGEST_ANSWER).await.map_err(no_answer)?;
    if status == accepted {
        return Ok(());
    }
    Err(PostError::Refused(Refusal { status, code: code_in(&body), request: id, retry_after }))
}

/// `{"error":{"code":".."}}` or `{"Error":".."}`; empty if it is neither, or
/// not a plain word.
fn code_in(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct WireAnswer {
        #[serde(alias = "Error")]
        error: WireError,
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum WireError {
        Code(String),
        Nested { code: String },
    }

    let is_word = |code: &String| code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphabetic());
    serde_json::from_slice::<WireAnswer>(body)
        .ok()
        .map(|answer| match answer.error {
            WireError::Code(code) | WireError::Nested { code } => code,
        })
        .filter(is_word)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str) -> PostError {
        let code = code.to_owned();
        PostError::Refused(Refusal { status, code, request: None, retry_after: None })
    }

    #[test]
    fn only_an_answer_that_may_change_is_asked_for_again() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(
                refused(status, "").verdict(),
                Verdict::Retry { after: None },
                "status {status}"
            );
        }
        for code in ["RequestTimeout", "OperationAborted"] {
            assert_eq!(refused(400, code).verdict(), Verdict::Retry { after: None }, "{code}");
        }
        for status in [200, 301, 400, 401, 403, 404, 410, 413] {
            assert_eq!(refused(status, "").verdict(), Verdict::Fatal, "status {status}");
        }
    }

    #[test]
    fn rows_are_blamed_only_for_what_rows_can_cause() {
        for (status, code, expected) in [
            (413, "ContentLengthLimitExceeded", true),
            (400, "", true),
            (400, "InvalidDataFormat", true),
            (400, "InvalidLogType", false),
            (400, "InactiveCustomer", false),
            (401, "", false),
            (403, "", false),
            (404, "", false),
            (503, "", false),
        ] {
            let place = Place::LogsIngestion;
            assert_eq!(refused(status, code).blames_rows(place), expected, "{status} {code}");
        }
        for place in [Place::StorageBlobByIdentity, Place::StorageBlobByKey, Place::S3] {
            assert!(!refused(400, "InvalidRequest").blames_rows(place), "a file takes any line");
            assert!(refused(413, "").blames_rows(place), "a proxy may limit the size");
        }
    }

    #[test]
    fn an_error_names_the_services_code_and_never_its_message() {
        for (body, code) in [
            (
                r#"{"error":{"code":"OperationFailed","message":"row 7: secret"}}"#,
                "OperationFailed",
            ),
            (r#"{"Error":"InvalidLogType","Message":"secret"}"#, "InvalidLogType"),
            (r#"{"error":{"code":"ward 7 is infected"}}"#, ""),
            ("<html>", ""),
            ("", ""),
        ] {
            assert_eq!(code_in(body.as_bytes()), code, "{body}");
        }
    }

    #[test]
    fn an_error_names_the_request_a_support_ticket_needs() {
        let refusal = Refusal {
            status: 403,
            code: "OperationFailed".to_owned(),
            request: Some(Uuid::nil()),
            retry_after: None,
        };
        assert_eq!(
            PostError::Refused(refusal).to_string(),
            "the sink answered 403 OperationFailed (request 00000000-0000-0000-0000-000000000000)"
        );
    }
}
