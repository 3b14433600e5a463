//! One event hub behind the REST interface of its namespace.
//!
//! <https://learn.microsoft.com/rest/api/eventhub/send-batch-events>

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded;

use super::managed_identity::Bearer;
use super::monitor::header;
use super::script::{Listening, Reach, Script, serve};
use super::workspace::Tables;
use crate::azure::sas;
use crate::clock::Clock;
use crate::config::{self, EventHubAuth, SasPolicy};
use crate::domain::timestamp::Timestamp;

/// One publication, on every tier but Basic.
const STANDARD_TIER: usize = 1_048_576;
const BASIC_TIER: usize = 262_144;
/// What one throughput unit takes a second, and at once.
const UNIT: f64 = 1_048_576.0;

/// What is deployed.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Whose clock judges signatures.
    pub clock: Clock,
    /// Which tokens may send.
    pub bearer: Bearer,
    /// The hub.
    pub hub: String,
    /// The policy that may send.
    pub policy: SasPolicy,
}

/// The hub.
#[derive(Debug)]
pub struct EventHub {
    /// What it is told to do wrong, and what it saw.
    pub script: Script,
    setup: Arc<Setup>,
    namespace: Namespace,
    pub(super) listening: Listening,
}

#[derive(Clone, Debug)]
struct Namespace {
    setup: Arc<Setup>,
    events: Arc<Mutex<Vec<String>>>,
    largest: Arc<AtomicUsize>,
    unit: Arc<Mutex<Option<Unit>>>,
    /// Only for the bodies seen and the poison; events are no rows.
    tables: Tables,
}

/// One throughput unit.
#[derive(Clone, Copy, Debug)]
struct Unit {
    /// Bytes it takes now.
    room: f64,
    at: Instant,
}

impl Unit {
    fn new() -> Self {
        Self { room: UNIT, at: Instant::now() }
    }

    /// Whether there is room for so many bytes; then they take it.
    fn takes(&mut self, bytes: usize) -> bool {
        let room = (self.room + UNIT * self.at.elapsed().as_secs_f64()).min(UNIT);
        let bytes = u32::try_from(bytes).map_or(f64::INFINITY, f64::from);
        let takes = bytes <= room;
        *self = Self { room: if takes { room - bytes } else { room }, at: Instant::now() };
        takes
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct WireEvent {
    body: String,
    #[serde(rename = "UserProperties")]
    _user_properties: Option<IgnoredAny>,
    #[serde(rename = "BrokerProperties")]
    _broker_properties: Option<IgnoredAny>,
}

impl EventHub {
    /// Deploys a hub on the Standard tier.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn start(setup: Setup) -> io::Result<Self> {
        Self::reached_by(Reach::Socket, setup).await
    }

    pub(super) async fn reached_by(reach: Reach, setup: Setup) -> io::Result<Self> {
        let (script, setup) = (Script::default(), Arc::new(setup));
        let namespace = Namespace {
            setup: Arc::clone(&setup),
            events: Arc::default(),
            largest: Arc::new(AtomicUsize::new(STANDARD_TIER)),
            unit: Arc::default(),
            tables: Tables::default(),
        };
        let router = Router::new()
            .route("/{hub}/messages", post(publish))
            .layer(DefaultBodyLimit::disable())
            .with_state(namespace.clone());
        script.tell_time_by(setup.clock.clone());
        let listening = serve(router, script.clone(), 4, reach).await?;
        Ok(Self { script, setup, namespace, listening })
    }

    /// The events so far, in order.
    pub fn events(&self) -> Vec<String> {
        self.namespace.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every body that came as far as being read, as sent.
    pub fn bodies(&self) -> Vec<Bytes> {
        self.namespace.tables.bodies()
    }

    /// Bodies that contain `text` are refused with 400 from now on.
    pub fn refuse_events_matching(&self, text: &str) {
        self.namespace.tables.refuse_rows_matching(text);
    }

    /// Moves the namespace to the Basic tier: 256 KB a publication.
    pub fn move_to_basic_tier(&self) {
        self.namespace.largest.store(BASIC_TIER, Ordering::Relaxed);
    }

    /// Leaves the namespace one throughput unit: beyond 1 MB a second it answers
    /// 503, and not when to come back.
    pub fn keep_to_one_unit(&self) {
        *self.namespace.unit.lock().unwrap_or_else(PoisonError::into_inner) = Some(Unit::new());
    }

    /// Settings that lead here.
    pub fn hub(&self, auth: EventHubAuth) -> config::EventHub {
        config::EventHub { endpoint: self.listening.url.clone(), hub: self.setup.hub.clone(), auth }
    }

    /// The policy that may send.
    pub fn policy(&self) -> SasPolicy {
        self.setup.policy.clone()
    }
}

async fn publish(
    State(namespace): State<Namespace>,
    Path(hub): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    namespace.tables.saw(&body);
    let status = match namespace.publish(&hub, &query, &headers, &body) {
        Ok(()) => return (StatusCode::CREATED, String::new()),
        Err(status) => status,
    };
    (status, format!("<Error><Code>{}</Code><Detail>refused</Detail></Error>", status.as_u16()))
}

impl Namespace {
    fn publish(
        &self,
        hub: &str,
        query: &HashMap<String, String>,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<(), StatusCode> {
        if !self.setup.bearer.admits(headers) && !self.is_signed(hub, headers) {
            return Err(StatusCode::UNAUTHORIZED);
        }
        if hub != self.setup.hub {
            return Err(StatusCode::NOT_FOUND);
        }
        if query.get("api-version").map(String::as_str) != Some("2014-01") {
            return Err(StatusCode::BAD_REQUEST);
        }
        let kind = header(headers, "content-type");
        if kind != Some("application/vnd.microsoft.servicebus.json") {
            return Err(StatusCode::BAD_REQUEST);
        }
        if body.len() > self.largest.load(Ordering::Relaxed) {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        if !self.has_room(body.len()) {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        let events: Vec<WireEvent> =
            serde_json::from_slice(body).map_err(|_quotes_it| StatusCode::BAD_REQUEST)?;
        if self.tables.refuses(body) {
            return Err(StatusCode::BAD_REQUEST);
        }
        let mut held = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend(events.into_iter().map(|event| event.body));
        Ok(())
    }

    fn has_room(&self, bytes: usize) -> bool {
        let mut unit = self.unit.lock().unwrap_or_else(PoisonError::into_inner);
        unit.as_mut().is_none_or(|unit| unit.takes(bytes))
    }

    /// Whether a signature by the policy covers this hub and has not expired.
    fn is_signed(&self, hub: &str, headers: &HeaderMap) -> bool {
        let Some(sent) = header(headers, "authorization") else { return false };
        let Some(fields) = sent.strip_prefix("SharedAccessSignature ") else { return false };
        let fields: HashMap<_, _> = form_urlencoded::parse(fields.as_bytes()).collect();
        let (Some(resource), Some(expiry)) = (fields.get("sr"), fields.get("se")) else {
            return false;
        };
        let Ok(resource_url) = Url::parse(resource) else { return false };
        let Ok(expiry) = expiry.parse().map(Timestamp::from_unix_seconds) else { return false };
        let policy = &self.setup.policy;
        let scope = resource_url.path().trim_matches('/');
        let host = header(headers, "host").unwrap_or_default();
        let covers = scope == hub || (scope.is_empty() && policy.whole_namespace);
        let expected = sas::token(resource, &policy.name, &policy.key, expiry);
        covers
            && resource_url.authority() == host
            && expiry > self.setup.clock.now()
            && sent == expected.expose_secret()
    }
}
