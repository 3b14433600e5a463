//! The HTTP Data Collector API's own checks, for [`super::monitor`].

use std::collections::HashMap;
use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::monitor::{No, Setup, header, no};
use super::workspace::{Observation, Tables, field_bytes};
use crate::azure::workspace_key;
use crate::domain::timestamp::Timestamp;

const LARGEST_BODY: usize = 30_000_000;
/// Longest field; the rest is cut.
const LONGEST_FIELD: usize = 32 * 1024;
/// How far a client's clock may be off.
const SKEW: Duration = Duration::from_mins(15);
/// Names the service keeps for itself.
const RESERVED: [&str; 3] = ["tenant", "TimeGenerated", "RawData"];

pub(super) fn collect(
    setup: &Setup,
    tables: &Tables,
    query: &HashMap<String, String>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(), No> {
    if body.len() > LARGEST_BODY {
        return Err(no(404, ""));
    }
    match query.get("api-version").map(String::as_str) {
        Some("2016-04-01") => {}
        Some(_) => return Err(no(400, "InvalidApiVersion")),
        None => return Err(no(400, "MissingApiVersion")),
    }
    match header(headers, "content-type") {
        Some("application/json") => {}
        Some(_) => return Err(no(400, "UnsupportedContentType")),
        None => return Err(no(400, "MissingContentType")),
    }
    let log_type = header(headers, "log-type").ok_or(no(400, "MissingLogType"))?;
    let is_legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if log_type.is_empty() || log_type.len() > 100 || !log_type.chars().all(is_legal) {
        return Err(no(400, "InvalidLogType"));
    }
    if !is_signed(setup, headers, body.len()) {
        return Err(no(403, "InvalidAuthorization"));
    }
    if tables.refuses(body) {
        return Err(no(400, "InvalidDataFormat"));
    }
    store(tables, &format!("{log_type}_CL"), body)
}

fn is_signed(setup: &Setup, headers: &HeaderMap, bytes: usize) -> bool {
    let Some(date) = header(headers, "x-ms-date") else { return false };
    let Ok(at) = OffsetDateTime::parse(date, &Rfc2822).map(Timestamp::from) else { return false };
    let now = setup.clock.now();
    let skew = now.since(at).max(at.since(now));
    let expected = workspace_key::authorization(&setup.workspace, &setup.key, bytes, date);
    let sent = header(headers, "authorization");
    date.ends_with("GMT")
        && skew <= SKEW
        && expected.is_ok_and(|expected| sent == Some(expected.expose_secret()))
}

fn store(tables: &Tables, table: &str, body: &[u8]) -> Result<(), No> {
    let garbled = |_quotes_it: serde_json::Error| no(400, "InvalidDataFormat");
    let is_array = body.trim_ascii_start().starts_with(b"[");
    let rows: Vec<&RawValue> = if is_array {
        serde_json::from_slice(body).map_err(garbled)?
    } else {
        vec![serde_json::from_slice(body).map_err(garbled)?]
    };
    if tables.is_only_counting() {
        tables.counted(table, rows.len());
        return Ok(());
    }
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        let row: Map<String, Value> = serde_json::from_str(row.get()).map_err(garbled)?;
        if RESERVED.iter().any(|name| row.contains_key(*name)) {
            return Err(no(400, "InvalidDataFormat"));
        }
        for (column, value) in &row {
            let bytes = field_bytes(value);
            if bytes > LONGEST_FIELD {
                let (table, column) = (table.to_owned(), column.clone());
                tables.observe(Observation::Truncated { table, column, bytes });
            }
        }
        kept.push(Value::Object(row));
    }
    tables.keep(table, kept);
    Ok(())
}
