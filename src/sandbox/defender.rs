//! An embedded Defender for Endpoint: the list of alerts and nothing else.
//!
//! Strict where the documents are: bearer token and audience, `$filter`,
//! `$top` up to 10,000, `$skip`, `$expand=evidence`, and the quotas of 100
//! calls a minute and 1,500 an hour. What nothing documents can be switched by
//! [`Manners`].
//! <https://learn.microsoft.com/defender-endpoint/api/get-alerts>

use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use uuid::Uuid;

pub use super::alerts::{Alerts, Sees};
pub use super::manners::{Manners, NextLink, Orderby, Otherwise};
pub use super::page::Accepts;

use super::listing::{self, Face, Listing};
use super::page::{self, Calls, Quota};
use super::script::{Listening, Reach, Script, serve};
use crate::clock::Clock;
use crate::domain::timestamp::Timestamp;

/// Whom a token must have been made for.
pub const AUDIENCE: &str = "https://api.securitycenter.microsoft.com";

const QUOTAS: [Quota; 2] = [
    (100, Duration::from_mins(1), "100 per 00:01:00"),
    (1_500, Duration::from_hours(1), "1500 per 01:00:00"),
];

/// The embedded Defender, with its [`Alerts`]. Clones share it.
#[derive(Clone)]
pub struct Defender {
    clock: Clock,
    script: Script,
    accepts: Accepts,
    alerts: Alerts,
    state: Arc<Mutex<Inside>>,
}

#[derive(Debug, Default)]
struct Inside {
    manners: Manners,
    calls: Calls,
}

impl std::fmt::Debug for Defender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Defender").field("alerts", &self.alerts).finish_non_exhaustive()
    }
}

impl Deref for Defender {
    type Target = Alerts;

    fn deref(&self) -> &Alerts {
        &self.alerts
    }
}

impl Defender {
    /// With no alerts yet. `accepts` says which bearer tokens are good.
    pub fn new(clock: Clock, accepts: Accepts) -> Self {
        let (script, alerts, state) = (Script::default(), Alerts::default(), Arc::default());
        Self { clock, script, accepts, alerts, state }
    }

    /// Serves `/api/alerts` on a free loopback port.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn listen(&self) -> io::Result<Listening> {
        self.reached_by(Reach::Socket).await
    }

    pub(super) async fn reached_by(&self, reach: Reach) -> io::Result<Listening> {
        let router = Router::new()
            .route("/api/alerts", get(list))
            .route("/api/v1.0/alerts", get(list))
            .fallback(async || no(StatusCode::NOT_FOUND, "ResourceNotFound", "No such resource."))
            .with_state(self.clone());
        self.script.tell_time_by(self.clock.clone());
        serve(router, self.script.clone(), 2, reach).await
    }

    /// What it is told to do wrong, and what it has seen.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.inside().manners);
    }

    /// Its alerts, for Graph to list too.
    pub fn alerts(&self) -> Alerts {
        self.alerts.clone()
    }

    /// Adds an element as it stands, listed as if updated at `at`: alerts that
    /// lack something, or are none. Graph does not show it.
    pub fn add_raw(&self, element: &str, at: Timestamp) {
        self.alerts.add_raw(Face::Defender, element, at);
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error as Defender words it.
fn no(status: StatusCode, code: &str, message: &str) -> Response {
    let target = Uuid::new_v4().to_string();
    page::error(status, &json!({"code": code, "message": message, "target": target}))
}

async fn list(
    State(defender): State<Defender>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let token = page::bearer(&headers);
    if !(defender.accepts)(token) {
        let challenge = r#"Bearer error="invalid_token""#;
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)]).into_response();
    }
    if audience(token).is_some_and(|audience| audience.trim_end_matches('/') != AUDIENCE) {
        let message = "The audience of the token is not valid.";
        return no(StatusCode::FORBIDDEN, "Forbidden", message);
    }
    let now = defender.clock.now();
    let mut inside = defender.inside();
    if inside.manners.quotas
        && let Some((wait, quota)) = inside.calls.over(&QUOTAS, now)
    {
        let message = format!("API calls quota exceeded! maximum allowed {quota}");
        let mut answer = no(StatusCode::TOO_MANY_REQUESTS, "429", &message);
        let seconds = wait.as_secs().max(1);
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        return answer;
    }
    let query = query.as_deref().unwrap_or_default();
    match Listing::parse(query, inside.manners, &listing::DEFENDER) {
        Ok(listing) => {
            let (alerts, more) = defender.alerts.list(&listing, token, now);
            let link = more.and_then(|skip| listing.link(page::host(&headers), skip));
            let evidence = listing.evidence;
            let elements = alerts.into_iter().map(move |alert| alert.defenders(evidence));
            page::page(HEAD, (listing.manners.next_link, link), elements)
        }
        Err(message) => no(StatusCode::BAD_REQUEST, "ODataError", message.0),
    }
}

const HEAD: &str =
    r#""@odata.context":"https://api-eu3.securitycenter.microsoft.com/api/$metadata#Alerts","#;

/// The audience of a token that is a JWT. Its signature is for `accepts`.
fn audience(token: &str) -> Option<String> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let payload: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    payload.get("aud")?.as_str().map(str::to_owned)
}
