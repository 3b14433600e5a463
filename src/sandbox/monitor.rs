//! Azure Monitor: the Logs Ingestion API of one data collection rule and the
//! HTTP Data Collector API of one workspace, on one address.
//!
//! As strict as the documents say, and stricter where the services drop or cut
//! silently: that is recorded as an [`Observation`].
//! <https://learn.microsoft.com/azure/azure-monitor/logs/logs-ingestion-api-overview>
//! <https://learn.microsoft.com/previous-versions/azure/azure-monitor/logs/data-collector-api>

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use flate2::read::GzDecoder;
use secrecy::SecretString;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use url::Url;

use super::collector;
use super::managed_identity::Bearer;
use super::script::{Listening, Reach, Script, serve};
use super::workspace::{Observation, Tables, field_bytes};
use crate::clock::Clock;
use crate::config;
use crate::domain::heartbeat;
use crate::domain::shape::{ALERT_COLUMNS, ColumnType};
use crate::domain::timestamp::Timestamp;

/// "1 MB" as the service's own error text counts it, of the body as sent and of
/// what it unpacks to.
const LARGEST_BODY: usize = 1_048_576;
/// Longest field; the rest is cut.
const LONGEST_FIELD: usize = 64 * 1024;

/// What is deployed.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Whose clock judges signatures.
    pub clock: Clock,
    /// Which tokens are good for the rule.
    pub bearer: Bearer,
    /// The rule's immutable id.
    pub rule_id: String,
    /// The alert table, without `_CL`.
    pub table: String,
    /// The workspace's id.
    pub workspace: String,
    /// The workspace's key, base64.
    pub key: SecretString,
}

/// The two services.
#[derive(Debug)]
pub struct Monitor {
    /// What they are told to do wrong, and what they saw.
    pub script: Script,
    /// What arrived.
    pub tables: Tables,
    setup: Arc<Setup>,
    pub(super) listening: Listening,
}

#[derive(Clone)]
struct Service {
    setup: Arc<Setup>,
    tables: Tables,
}

impl Monitor {
    /// Deploys a rule and a workspace.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn start(setup: Setup) -> io::Result<Self> {
        Self::reached_by(Reach::Socket, setup).await
    }

    pub(super) async fn reached_by(reach: Reach, setup: Setup) -> io::Result<Self> {
        let (script, tables, setup) = (Script::default(), Tables::default(), Arc::new(setup));
        let service = Service { setup: Arc::clone(&setup), tables: tables.clone() };
        let router = Router::new()
            .route("/dataCollectionRules/{rule}/streams/{stream}", post(ingest))
            .route("/api/logs", post(collect))
            .layer(DefaultBodyLimit::disable())
            .with_state(service);
        script.tell_time_by(setup.clock.clone());
        let listening = serve(router, script.clone(), 3, reach).await?;
        Ok(Self { script, tables, setup, listening })
    }

    /// `http://127.0.0.1:PORT/`.
    pub fn url(&self) -> &Url {
        &self.listening.url
    }

    /// Settings that lead to the rule.
    pub fn rule(&self) -> config::LogsIngestion {
        config::LogsIngestion {
            endpoint: self.listening.url.clone(),
            rule_id: self.setup.rule_id.clone(),
            table: self.setup.table.clone(),
        }
    }

    /// Settings that lead to the workspace.
    pub fn workspace(&self) -> config::DataCollector {
        config::DataCollector {
            endpoint: self.listening.url.clone(),
            workspace: self.setup.workspace.clone(),
            key: self.setup.key.clone(),
            table: self.setup.table.clone(),
        }
    }
}

/// What a service answers instead of taking rows.
pub(super) struct No {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
}

pub(super) fn no(status: u16, code: &'static str) -> No {
    No { status: StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), code }
}

async fn ingest(
    State(service): State<Service>,
    Path((rule, stream)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    service.tables.saw(&body);
    if let Some(id) = header(&headers, "x-ms-client-request-id") {
        service.tables.saw_request_id(id);
    }
    match service.ingest(&rule, &stream, &query, &headers, &body) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(No { status, code }) => {
            let message = "See the documentation of the Logs Ingestion API.";
            let body = json!({ "error": { "code": code, "message": message } });
            (status, Json(body)).into_response()
        }
    }
}

async fn collect(
    State(service): State<Service>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    service.tables.saw(&body);
    match collector::collect(&service.setup, &service.tables, &query, &headers, &body) {
        Ok(()) => StatusCode::OK.into_response(),
        Err(No { status, code }) => {
            let message = "See the documentation of the HTTP Data Collector API.";
            (status, Json(json!({ "Error": code, "Message": message }))).into_response()
        }
    }
}

impl Service {
    fn ingest(
        &self,
        rule: &str,
        stream: &str,
        query: &HashMap<String, String>,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<(), No> {
        if !self.setup.bearer.admits(headers) {
            return Err(no(401, "AuthenticationFailed"));
        }
        if query.get("api-version").map(String::as_str) != Some("2023-01-01") {
            return Err(no(400, "UnsupportedApiVersion"));
        }
        if header(headers, "content-type") != Some("application/json") {
            return Err(no(415, "UnsupportedMediaType"));
        }
        let columns = self.columns(stream).filter(|_| rule == self.setup.rule_id);
        let columns = columns.ok_or(no(404, "NotFound"))?;
        let table = format!("{}_CL", stream.trim_start_matches("Custom-"));
        let encoding = header(headers, "content-encoding");
        if self.tables.is_only_counting() {
            self.tables.count_later(table, encoding, body);
            return Ok(());
        }
        let body = unpack(encoding, body)?;
        let rows: Vec<&RawValue> =
            serde_json::from_slice(&body).map_err(|_quotes_it| no(400, "InvalidPayload"))?;
        if self.tables.refuses(&body) {
            return Err(no(400, "InvalidPayload"));
        }
        let rows = rows.iter().map(|row| parse_row(row)).collect::<Result<Vec<_>, _>>()?;
        let rows = rows.into_iter().map(|row| self.store(&table, columns, row)).collect();
        self.tables.keep(&table, rows);
        Ok(())
    }

    fn columns(&self, stream: &str) -> Option<&'static [(&'static str, ColumnType)]> {
        match stream.strip_prefix("Custom-")? {
            "Heartbeat" => Some(&heartbeat::COLUMNS),
            table if table == self.setup.table => Some(&ALERT_COLUMNS),
            _ => None,
        }
    }

    /// A row as the table keeps it.
    fn store(
        &self,
        table: &str,
        columns: &[(&str, ColumnType)],
        mut row: Map<String, Value>,
    ) -> Value {
        row.retain(|name, value| {
            let (table, column) = (table.to_owned(), name.clone());
            let Some((_, declared)) = columns.iter().find(|(known, _)| known == name) else {
                self.tables.observe(Observation::Dropped { table, column });
                return false;
            };
            let bytes = field_bytes(value);
            if bytes > LONGEST_FIELD {
                self.tables.observe(Observation::Truncated { table, column, bytes });
            } else if !fits(value, *declared) {
                self.tables.observe(Observation::Mistyped { table, column });
            }
            true
        });
        Value::Object(row)
    }
}

fn parse_row(row: &RawValue) -> Result<Map<String, Value>, No> {
    let row: Map<String, Value> =
        serde_json::from_str(row.get()).map_err(|_quotes_it| no(400, "InvalidPayload"))?;
    let time = row.get("TimeGenerated").and_then(Value::as_str);
    if time.is_some_and(|time| time.parse::<Timestamp>().is_ok()) {
        Ok(row)
    } else {
        Err(no(400, "InvalidPayload"))
    }
}

fn fits(value: &Value, column: ColumnType) -> bool {
    match column {
        _ if value.is_null() => true,
        ColumnType::DateTime => {
            value.as_str().is_some_and(|text| text.parse::<Timestamp>().is_ok())
        }
        ColumnType::Text => value.is_string(),
        ColumnType::Long => value.is_i64() || value.is_u64(),
        ColumnType::Boolean => value.is_boolean(),
        ColumnType::Dynamic => true,
    }
}

/// Unpacks at most one byte more than is allowed.
pub(super) fn unpack(encoding: Option<&str>, body: &Bytes) -> Result<Bytes, No> {
    let too_large = || no(413, "ContentLengthLimitExceeded");
    if body.len() > LARGEST_BODY {
        return Err(too_large());
    }
    match encoding {
        None => Ok(body.clone()),
        Some("gzip") => {
            let mut plain = Vec::new();
            let cap = u64::try_from(LARGEST_BODY + 1).unwrap_or(u64::MAX);
            GzDecoder::new(&body[..])
                .take(cap)
                .read_to_end(&mut plain)
                .map_err(|_garbled| no(400, "InvalidPayload"))?;
            if plain.len() > LARGEST_BODY { Err(too_large()) } else { Ok(plain.into()) }
        }
        Some(_) => Err(no(415, "UnsupportedMediaType")),
    }
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
