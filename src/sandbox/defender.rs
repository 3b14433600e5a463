//! An embedded Defender for Endpoint: the list of alerts and nothing else.
//!
//! Strict where the documents are: bearer token and audience, `$filter`,
//! `$top` up to 10,000, `$skip`, `$expand=evidence`, and the quotas of 100
//! calls a minute and 1,500 an hour. What nothing documents can be switched by
//! [`Manners`].
//! <https://learn.microsoft.com/defender-endpoint/api/get-alerts>

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, iter};

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde_json::json;
use uuid::Uuid;

use super::listing::{Listing, Stored};
use super::sample::Sample;
use super::script::{Listening, Reach, Script, serve};
use crate::clock::Clock;
use crate::domain::timestamp::Timestamp;

/// Whom a token must have been made for.
pub const AUDIENCE: &str = "https://api.securitycenter.microsoft.com";

/// Whether a bearer token is good.
pub type Accepts = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Whether the account behind a bearer token may see devices of a group.
pub type Sees = Arc<dyn Fn(&str, Option<&str>) -> bool + Send + Sync>;

/// How it behaves where the documents are silent.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// What it makes of `$orderby`.
    pub orderby: Orderby,
    /// The order it uses otherwise.
    pub otherwise: Otherwise,
    /// Whether a page that does not end the list names the next, and where.
    pub next_link: NextLink,
    /// Alerts in one page at most, whatever was asked for. Only sensible with
    /// a link: without one the rest is lost to the client.
    pub page_cap: usize,
    /// Whether the documented quotas are kept.
    pub quotas: bool,
    /// Calls within a minute.
    pub per_minute: usize,
    /// Calls within an hour.
    pub per_hour: usize,
    /// Whether a call refused for a quota counts in it too.
    pub refused_count: bool,
    /// What it does instead of answering. Such calls count in the quotas.
    pub outage: Option<Outage>,
}

/// How it fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outage {
    /// 503 without `Retry-After`.
    Unavailable,
    /// No answer at all.
    Hangs,
}

/// A call as it was counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Called {
    /// When it came.
    pub at: Timestamp,
    /// Whether it was refused for a quota.
    pub refused: bool,
}

/// What becomes of `$orderby`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Orderby {
    /// Done as asked, which is what has been seen.
    Honoured,
    /// Passed over.
    Ignored,
    /// 400 `ODataError`.
    Rejected,
}

/// The order of a list nobody ordered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Otherwise {
    /// By creation, the newest first: what the documents imply.
    NewestFirst,
    /// By creation, the oldest first.
    OldestFirst,
    /// None to recognise, but always the same.
    Jumbled,
}

/// Whether and where a page names the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NextLink {
    /// Nowhere, as documented.
    Never,
    /// Before `value`.
    Before,
    /// After `value`.
    After,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            orderby: Orderby::Honoured,
            otherwise: Otherwise::NewestFirst,
            next_link: NextLink::Never,
            page_cap: usize::MAX,
            quotas: true,
            per_minute: 100,
            per_hour: 1_500,
            refused_count: false,
            outage: None,
        }
    }
}

/// The embedded Defender. Clones share it.
#[derive(Clone)]
pub struct Defender {
    clock: Clock,
    script: Script,
    accepts: Accepts,
    state: Arc<Mutex<Inside>>,
}

struct Inside {
    alerts: BTreeMap<(Timestamp, u64), Arc<Stored>>,
    /// Where the current version of each sample lies.
    samples: HashMap<u64, (Sample, Timestamp, u64)>,
    added: u64,
    manners: Manners,
    sees: Option<Sees>,
    calls: VecDeque<Timestamp>,
    called: Vec<Called>,
}

impl fmt::Debug for Defender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Defender")
            .field("alerts", &self.inside().alerts.len())
            .finish_non_exhaustive()
    }
}

impl Defender {
    /// With no alerts yet. `accepts` says which bearer tokens are good.
    pub fn new(clock: Clock, accepts: Accepts) -> Self {
        let inside = Inside {
            alerts: BTreeMap::new(),
            samples: HashMap::new(),
            added: 0,
            manners: Manners::default(),
            sees: None,
            calls: VecDeque::new(),
            called: Vec::new(),
        };
        let state = Arc::new(Mutex::new(inside));
        Self { clock, script: Script::default(), accepts, state }
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

    /// Every call so far with a good token, in order.
    pub fn called(&self) -> Vec<Called> {
        self.inside().called.clone()
    }

    /// Shows each account only what it may see.
    pub fn show_only(&self, sees: Sees) {
        self.inside().sees = Some(sees);
    }

    /// Adds alerts. One whose number is known already takes the place of its
    /// former version.
    pub fn add(&self, samples: impl IntoIterator<Item = Sample>) {
        let mut inside = self.inside();
        for sample in samples {
            inside.put(&sample, Timestamp::EPOCH);
        }
    }

    /// Adds an alert that stays hidden until `from`, however old it is.
    pub fn add_late(&self, sample: &Sample, from: Timestamp) {
        self.inside().put(sample, from);
    }

    /// Adds an element as it stands, listed as if updated at `at`: alerts that
    /// lack something, or are none.
    pub fn add_raw(&self, element: &str, at: Timestamp) {
        let stored = Stored::raw(Bytes::copy_from_slice(element.as_bytes()), at);
        self.inside().insert(at, stored);
    }

    /// Makes a new version of an alert. Does nothing to one it does not have.
    pub fn update(&self, number: u64, at: Timestamp, change: impl FnOnce(&mut Sample)) {
        let mut inside = self.inside();
        if let Some((mut sample, ..)) = inside.samples.get(&number).cloned() {
            change(&mut sample);
            sample.updated = at;
            inside.put(&sample, Timestamp::EPOCH);
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn put(&mut self, sample: &Sample, visible_from: Timestamp) {
        if let Some((_, updated, place)) = self.samples.remove(&sample.number) {
            self.alerts.remove(&(updated, place));
        }
        let place = self.insert(sample.updated, Stored::of(sample, visible_from));
        self.samples.insert(sample.number, (sample.clone(), sample.updated, place));
    }

    fn insert(&mut self, updated: Timestamp, stored: Stored) -> u64 {
        self.added += 1;
        self.alerts.insert((updated, self.added), Arc::new(stored));
        self.added
    }

    /// Counts a call. If it is one too many: how long to stay away, and the
    /// quota that says so.
    fn count(&mut self, now: Timestamp) -> Option<(Duration, String)> {
        let over = self.manners.quotas.then(|| self.over_quota(now)).flatten();
        if over.is_none() || self.manners.refused_count {
            self.calls.push_back(now);
        }
        self.called.push(Called { at: now, refused: over.is_some() });
        over
    }

    fn over_quota(&mut self, now: Timestamp) -> Option<(Duration, String)> {
        let Manners { per_minute, per_hour, .. } = self.manners;
        let quotas = [
            (per_minute, Duration::from_mins(1), "00:01:00"),
            (per_hour, Duration::from_hours(1), "01:00:00"),
        ];
        self.calls.retain(|call| now.since(*call) < Duration::from_hours(1));
        for (count, span, words) in quotas {
            let mut within = self.calls.iter().filter(|call| now.since(**call) < span);
            if let Some(first) = within.next()
                && within.count() + 1 >= count
            {
                let wait = span.saturating_sub(now.since(*first));
                return Some((wait, format!("{count} per {words}")));
            }
        }
        None
    }
}

/// An error as Defender words it.
fn no(status: StatusCode, code: &str, message: &str) -> Response {
    let error = json!({"code": code, "message": message, "target": Uuid::new_v4().to_string()});
    let body = json!({ "error": error }).to_string();
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn list(
    State(defender): State<Defender>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    match defender.answer(query.as_deref().unwrap_or_default(), &headers) {
        Some(answer) => answer,
        None => pending().await,
    }
}

impl Defender {
    /// `None` while it hangs.
    fn answer(&self, query: &str, headers: &HeaderMap) -> Option<Response> {
        let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !(self.accepts)(token) {
            let challenge = r#"Bearer error="invalid_token""#;
            let challenge = [(WWW_AUTHENTICATE, challenge)];
            return Some((StatusCode::UNAUTHORIZED, challenge).into_response());
        }
        if audience(token).is_some_and(|audience| audience.trim_end_matches('/') != AUDIENCE) {
            let message = "The audience of the token is not valid.";
            return Some(no(StatusCode::FORBIDDEN, "Forbidden", message));
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let now = self.clock.now();
        let mut inside = self.inside();
        if let Some((wait, quota)) = inside.count(now) {
            let message = format!("API calls quota exceeded! maximum allowed {quota}");
            let mut answer = no(StatusCode::TOO_MANY_REQUESTS, "429", &message);
            let seconds = wait.as_secs().max(1);
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
            return Some(answer);
        }
        match inside.manners.outage {
            Some(Outage::Unavailable) => {
                return Some(StatusCode::SERVICE_UNAVAILABLE.into_response());
            }
            Some(Outage::Hangs) => return None,
            None => {}
        }
        let sees = inside.sees.clone();
        let shown = |alert: &Stored| {
            alert.visible_from <= now
                && sees.as_ref().is_none_or(|sees| sees(token, alert.group.as_deref()))
        };
        Some(match Listing::parse(query, inside.manners) {
            Ok(listing) => {
                let (alerts, more) = listing.select(&inside.alerts, shown);
                let link = more.and_then(|skip| listing.link(host, skip));
                page(&listing, alerts, link)
            }
            Err(message) => no(StatusCode::BAD_REQUEST, "ODataError", message.0),
        })
    }
}

/// The audience of a token that is a JWT. Its signature is for `accepts`.
fn audience(token: &str) -> Option<String> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let payload: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    payload.get("aud")?.as_str().map(str::to_owned)
}

/// Bytes handed to the socket at once.
const FRAME: usize = 64 * 1024;

fn page(listing: &Listing, alerts: Vec<Arc<Stored>>, link: Option<String>) -> Response {
    const HEAD: &str =
        r#"{"@odata.context":"https://api-eu3.securitycenter.microsoft.com/api/$metadata#Alerts","#;
    let link = link.map(|link| json!(link).to_string());
    let (before, after) = match (link, listing.manners.next_link) {
        (Some(link), NextLink::Before) => (format!(r#""@odata.nextLink":{link},"#), String::new()),
        (Some(link), NextLink::After) => (String::new(), format!(r#","@odata.nextLink":{link}"#)),
        (_, NextLink::Never) | (None, _) => (String::new(), String::new()),
    };
    let evidence = listing.evidence;
    let elements = alerts.into_iter().enumerate().flat_map(move |(index, alert)| {
        let comma = Bytes::from_static(if index == 0 { b"" } else { b"," });
        let (json, rest) = alert.json(evidence);
        [comma, json, rest]
    });
    let mut pieces = [Bytes::from(format!(r#"{HEAD}{before}"value":["#))]
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
