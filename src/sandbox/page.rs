//! A page of alerts on its way out, and the quotas that keep it back.

use std::collections::VecDeque;
use std::time::Duration;
use std::{io, iter};

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde_json::{Value, json};

use super::manners::NextLink;
use crate::domain::timestamp::Timestamp;

/// Bytes handed to the socket at once.
const FRAME: usize = 64 * 1024;

/// Whether a bearer token is good.
pub type Accepts = std::sync::Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The bearer token of a request; empty without one.
pub(super) fn bearer(headers: &HeaderMap) -> &str {
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
}

/// The host a request was sent to, for links.
pub(super) fn host(headers: &HeaderMap) -> &str {
    headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// An error as JSON.
pub(super) fn error(status: StatusCode, error: &Value) -> Response {
    let body = json!({ "error": error }).to_string();
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

/// `{head"value":[elements]}` with the link where `place` says. Sent while it
/// is made.
pub(super) fn page(
    head: &str,
    (place, link): (NextLink, Option<String>),
    elements: impl Iterator<Item = (Bytes, Bytes)> + Send + 'static,
) -> Response {
    let link = link.map(|link| json!(link).to_string());
    let (before, after) = match (link, place) {
        (Some(link), NextLink::Before) => (format!(r#""@odata.nextLink":{link},"#), String::new()),
        (Some(link), NextLink::After) => (String::new(), format!(r#","@odata.nextLink":{link}"#)),
        (_, NextLink::Never) | (None, _) => (String::new(), String::new()),
    };
    let elements = elements.enumerate().flat_map(|(index, (json, rest))| {
        let comma = Bytes::from_static(if index == 0 { b"" } else { b"," });
        [comma, json, rest]
    });
    let mut pieces = [Bytes::from(format!(r#"{{{head}{before}"value":["#))]
        .into_iter()
        .chain(elements)
        .chain([Bytes::from(format!("]{after}}}"))]);
    let frames = iter::from_fn(move || {
        let mut frame = BytesMut::with_capacity(FRAME + FRAME / 4);
        while frame.len() < FRAME {
            match pieces.next() {
                Some(piece) => frame.extend_from_slice(&piece),
                None => break,
            }
        }
        (!frame.is_empty()).then(|| Ok::<_, io::Error>(frame.freeze()))
    });
    let body = Body::from_stream(stream::iter(frames));
    ([(CONTENT_TYPE, "application/json; odata.metadata=minimal")], body).into_response()
}

/// So many calls within a span, and the words that say so.
pub(super) type Quota = (usize, Duration, &'static str);

/// When calls were made that count.
#[derive(Debug, Default)]
pub(super) struct Calls(VecDeque<Timestamp>);

impl Calls {
    /// How long to stay away, and the quota that says so. `None` lets the call
    /// through. With `count_refused` one that is not let through counts too.
    pub(super) fn over(
        &mut self,
        quotas: &[Quota],
        now: Timestamp,
        count_refused: bool,
    ) -> Option<(Duration, Quota)> {
        self.0.retain(|call| now.since(*call) < Duration::from_hours(1));
        let over = quotas.iter().find_map(|quota| {
            let (count, span, _) = *quota;
            let mut within = self.0.iter().filter(|call| now.since(**call) < span);
            let first = within.next()?;
            let full = within.count() + 1 >= count;
            full.then(|| (span.saturating_sub(now.since(*first)), *quota))
        });
        if over.is_none() || count_refused {
            self.0.push_back(now);
        }
        over
    }
}
