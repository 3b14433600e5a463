//! One signed request to the Table service, tried again while that is safe.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT as ACCEPT_HEADER, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, IF_MATCH,
};
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret as _;
use url::Url;

use super::StoreError;
use super::table_wire::{ACCEPT, error_code};
use crate::azure::credential::CredentialError;
use crate::azure::http_date;
use crate::azure::storage::{Access, RESOURCE, Right, plain_code};
use crate::http::retry::{Classify, Verdict};
use crate::http::{Broken, read_at_most, retry_after};

/// The oldest version that takes tokens at the Table service, which Azurite
/// knows too.
const VERSION: &str = "2020-12-06";
/// Longest answer read. A page holds at most 1,000 rows and 4 MiB.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// A request to the Table service.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) if_match: Option<String>,
    /// Content type and body.
    pub(super) body: Option<(String, Bytes)>,
}

impl Call {
    pub(super) fn get(url: Url) -> Self {
        Self { method: Method::GET, url, if_match: None, body: None }
    }
}

/// A complete answer that is no refusal.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// A header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Why one attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("no answer")]
    Broken(#[source] Broken),
    #[error("refused with {status} {code}")]
    Refused { status: u16, code: String, after: Option<Duration> },
    /// Success with a body that is none of the Table service's: a proxy's page.
    #[error("answered {status} with something else")]
    Unreadable { status: u16 },
    #[error("no token")]
    NoToken(#[source] CredentialError),
}

impl Classify for Failed {
    fn verdict(&self) -> Verdict {
        match self {
            // Asking again is harmless: reads change nothing, and a write names
            // the version it replaces, or insists that there is none, so that
            // it can be done only once however often it arrives.
            Self::Broken(_) => Verdict::Retry { after: None },
            // Not done, or not known: the same holds.
            Self::Refused { status: 408 | 429 | 500 | 502..=504, after, .. } => {
                Verdict::Retry { after: *after }
            }
            Self::Refused { .. } | Self::Unreadable { .. } | Self::NoToken(_) => Verdict::Fatal,
        }
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Broken(broken) => Self::Unreachable(broken),
            Failed::Refused { status, code, .. } => Self::Refused { status, code },
            Failed::Unreadable { status } => {
                Self::Refused { status, code: "UnreadableAnswer".to_owned() }
            }
            Failed::NoToken(error) => Self::Unauthorized(Box::new(error)),
        }
    }
}

/// The last failure of a call, and whether any attempt may have been carried
/// out all the same.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) last: Failed,
    pub(super) in_doubt: bool,
}

/// Sends `call` until `read` accepts the answer or another attempt is useless.
pub(super) async fn send<T: Send>(
    access: &Access,
    right: &Right,
    call: &Call,
    read: impl Fn(&Answer) -> Result<T, Failed> + Sync,
) -> Result<T, Ended> {
    let in_doubt = AtomicBool::new(false);
    let attempt = || async {
        let result = once(access, right, call).await.and_then(|answer| read(&answer));
        if let Err(
            Failed::Broken(_)
            | Failed::Unreadable { .. }
            | Failed::Refused { status: 408 | 500.., .. },
        ) = &result
        {
            in_doubt.store(true, Ordering::Relaxed);
        }
        result
    };
    let result = access.http.retry.run(attempt).await;
    result
        .map_err(|gave_up| Ended { last: gave_up.last, in_doubt: in_doubt.load(Ordering::Relaxed) })
}

/// One attempt; a token the service refuses is asked for anew, once.
async fn once(access: &Access, right: &Right, call: &Call) -> Result<Answer, Failed> {
    match (signed(access, right, call).await, right) {
        (Err(Failed::Refused { status: 401, .. }), Right::Identity(credential)) => {
            credential.forget(RESOURCE);
            signed(access, right, call).await
        }
        (result, _) => result,
    }
}

async fn signed(access: &Access, right: &Right, call: &Call) -> Result<Answer, Failed> {
    let date = http_date(access.clock.now());
    let authorization = match right {
        Right::Key(key) => key.table(&date, &call.url),
        Right::Identity(credential) => {
            let token = credential.token(RESOURCE).await.map_err(Failed::NoToken)?;
            format!("Bearer {}", token.expose_secret())
        }
    };
    let mut request = access
        .http
        .client
        .request(call.method.clone(), call.url.clone())
        .header(ACCEPT_HEADER, ACCEPT)
        .header(AUTHORIZATION, sensitive(&authorization)?)
        .header("x-ms-date", date)
        .header("x-ms-version", VERSION)
        .header("DataServiceVersion", "3.0;NetFx")
        .header("MaxDataServiceVersion", "3.0;NetFx");
    if let Some(etag) = &call.if_match {
        request = request.header(IF_MATCH, etag);
    }
    if call.method == Method::POST {
        request = request.header("Prefer", "return-no-content");
    }
    if let Some((kind, body)) = &call.body {
        request = request.header(CONTENT_TYPE, kind).body(body.clone());
    }
    let answer = access.http.send(request).await.map_err(Failed::Broken)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = read_at_most(answer, MAX_ANSWER).await.map_err(Failed::Broken)?;
    let answer = Answer { status: status.as_u16(), headers, body };
    if status.is_success() { Ok(answer) } else { Err(refused(access, status, &answer)) }
}

fn refused(access: &Access, status: StatusCode, answer: &Answer) -> Failed {
    let code = match answer.header("x-ms-error-code") {
        Some(code) => plain_code(code),
        None => error_code(&answer.body),
    };
    let after = retry_after(&answer.headers, access.clock.now().to_utc().into());
    Failed::Refused { status: status.as_u16(), code, after }
}

/// Kept out of any header dump.
fn sensitive(authorization: &str) -> Result<HeaderValue, Failed> {
    // A token with a line break in it is no token.
    let mut value = HeaderValue::from_str(authorization).map_err(|_garbage| Failed::Refused {
        status: 401,
        code: String::new(),
        after: None,
    })?;
    value.set_sensitive(true);
    Ok(value)
}
