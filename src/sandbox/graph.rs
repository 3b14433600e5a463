//! An embedded Microsoft Graph: the list of alerts and nothing else. It lists
//! what [`Defender`](super::defender::Defender) has.
//!
//! Strict where the documents are: bearer token, `$filter` on the documented
//! members, `$top` clamped at 1,000, `$skip` up to 500, young enum words only
//! for who prefers them, 150 calls a minute. Links to the next page have a
//! `$skip` that runs into the 500, unless [`Manners`] say otherwise.
//! <https://learn.microsoft.com/graph/api/security-list-alerts_v2>,
//! <https://learn.microsoft.com/graph/api/resources/security-error-codes>

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::header::{HeaderValue, RETRY_AFTER, WARNING};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use serde_json::json;
use uuid::Uuid;

use super::alerts::Alerts;
use super::listing::{self, Face, Listing};
use super::manners::{Manners, NextLink};
use super::page::{self, Accepts, Calls, Quota};
use super::script::{Listening, Reach, Script, serve};
use crate::clock::Clock;
use crate::domain::timestamp::Timestamp;

const QUOTAS: [Quota; 1] = [(150, Duration::from_mins(1), "150 per minute")];

/// The embedded Graph. Clones share it.
#[derive(Clone)]
pub struct Graph {
    clock: Clock,
    script: Script,
    accepts: Accepts,
    alerts: Alerts,
    state: Arc<Mutex<Inside>>,
}

#[derive(Debug)]
struct Inside {
    manners: Manners,
    calls: Calls,
    /// `Vendor/Provider/Status/Milliseconds` of a service that does not answer.
    missing: Option<&'static str>,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").field("alerts", &self.alerts).finish_non_exhaustive()
    }
}

impl Graph {
    /// Over `alerts`. `accepts` says which bearer tokens are good.
    pub fn new(clock: Clock, accepts: Accepts, alerts: Alerts) -> Self {
        let manners = Manners { next_link: NextLink::After, ..Manners::default() };
        let inside = Inside { manners, calls: Calls::default(), missing: None };
        let state = Arc::new(Mutex::new(inside));
        Self { clock, script: Script::default(), accepts, alerts, state }
    }

    /// Serves `/v1.0/security/alerts_v2` on a free loopback port.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn listen(&self) -> io::Result<Listening> {
        self.reached_by(Reach::Socket).await
    }

    pub(super) async fn reached_by(&self, reach: Reach) -> io::Result<Listening> {
        let router = Router::new()
            .route("/v1.0/security/alerts_v2", get(list))
            .fallback(async || {
                no(StatusCode::BAD_REQUEST, "BadRequest", "Resource not found for the segment.")
            })
            .with_state(self.clone());
        self.script.tell_time_by(self.clock.clone());
        serve(router, self.script.clone(), 6, reach).await
    }

    /// What it is told to do wrong, and what it has seen.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.inside().manners);
    }

    /// Adds an element as it stands, listed as if updated at `at`: alerts that
    /// lack something, or are none. Defender does not show it.
    pub fn add_raw(&self, element: &str, at: Timestamp) {
        self.alerts.add_raw(Face::Graph, element, at);
    }

    /// From now on a service behind it does not answer, such as
    /// `Microsoft/WDATP/504/10000`: it sends the first half of each page, and
    /// says so.
    pub fn lack(&self, missing: Option<&'static str>) {
        self.inside().missing = missing;
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error as Graph words it.
fn no(status: StatusCode, code: &str, message: &str) -> Response {
    let id = Uuid::new_v4().to_string();
    let inner = json!({"date": "2026-11-19T12:00:00", "request-id": id, "client-request-id": id});
    page::error(status, &json!({"code": code, "message": message, "innerError": inner}))
}

async fn list(
    State(graph): State<Graph>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let token = page::bearer(&headers);
    if !(graph.accepts)(token) {
        let message = "Access token validation failure. Invalid audience.";
        return no(StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", message);
    }
    let now = graph.clock.now();
    let mut inside = graph.inside();
    if inside.manners.quotas
        && let Some((wait, _)) = inside.calls.over(&QUOTAS, now)
    {
        let mut answer = no(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", "Too many requests.");
        answer.headers_mut().insert(RETRY_AFTER, wait.as_secs().max(1).into());
        return answer;
    }
    let young_words =
        headers.get("prefer").is_some_and(|value| value == "include-unknown-enum-members");
    let query = query.as_deref().unwrap_or_default();
    match Listing::parse(query, inside.manners, &listing::GRAPH) {
        Ok(listing) => {
            let (mut alerts, more) = graph.alerts.list(&listing, token, now);
            if inside.missing.is_some() {
                alerts.truncate(alerts.len() / 2);
            }
            let link = more.and_then(|skip| listing.link(page::host(&headers), skip));
            let elements =
                alerts.into_iter().map(move |alert| (alert.graphs(young_words), Bytes::new()));
            let mut answer = page::page(HEAD, (listing.manners.next_link, link), elements);
            if let Some(missing) = inside.missing {
                *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
                let warning = HeaderValue::from_str(&format!("199 - \"{missing}\""));
                answer.headers_mut().extend(warning.into_iter().map(|warning| (WARNING, warning)));
            }
            answer
        }
        Err(message) => no(StatusCode::BAD_REQUEST, "BadRequest", message.0),
    }
}

const HEAD: &str =
    r#""@odata.context":"https://graph.microsoft.com/v1.0/$metadata#security/alerts_v2","#;
