//! An embedded Azure Resource Graph that knows one data collection rule.
//!
//! Strict: `POST …/resources` with its version, a bearer token for
//! `https://management.azure.com`, a JSON body with `query`, and exactly the
//! query this program has; whoever may not read the rule gets no row and no
//! error, as from the real one.
//! <https://learn.microsoft.com/rest/api/azureresourcegraph/resourcegraph/resources/resources>

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::managed_identity::Bearer;
use super::monitor::header;
use super::script::{Listening, Reach, Script, serve};
use crate::clock::Clock;
use crate::config;
use crate::domain::heartbeat;
use crate::domain::shape::{ALERT_COLUMNS, ColumnType};

/// The embedded Resource Graph. Stops when dropped.
#[derive(Debug)]
pub struct ResourceGraph {
    /// What it is told to do wrong, and what it saw.
    pub script: Script,
    rule: Rule,
    pub(super) listening: Listening,
}

/// Streams by name; columns as name and type.
type Streams = BTreeMap<String, Vec<(String, &'static str)>>;

#[derive(Clone, Debug)]
struct Rule {
    id: String,
    bearer: Bearer,
    inside: Arc<Mutex<Inside>>,
}

#[derive(Debug)]
struct Inside {
    streams: Streams,
    readable: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    query: String,
}

impl ResourceGraph {
    /// Knows `rule` as this version deploys it.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub(super) async fn reached_by(
        reach: Reach,
        clock: Clock,
        bearer: Bearer,
        rule: &config::LogsIngestion,
    ) -> io::Result<Self> {
        let columns = |columns: &[(&str, ColumnType)]| {
            columns.iter().map(|(name, kind)| ((*name).to_owned(), kind.declared())).collect()
        };
        let streams = Streams::from([
            (format!("Custom-{}", rule.table), columns(&ALERT_COLUMNS)),
            ("Custom-Heartbeat".to_owned(), columns(&heartbeat::COLUMNS)),
        ]);
        let inside = Arc::new(Mutex::new(Inside { streams, readable: true }));
        let rule = Rule { id: rule.rule_id.clone(), bearer, inside };
        let script = Script::default();
        script.tell_time_by(clock);
        let router = Router::new()
            .route("/providers/Microsoft.ResourceGraph/resources", post(answer))
            .with_state(rule.clone());
        let listening = serve(router, script.clone(), 7, reach).await?;
        Ok(Self { script, rule, listening })
    }

    /// `http://127.0.0.1:PORT/`.
    pub fn url(&self) -> &Url {
        &self.listening.url
    }

    /// Takes a column out of every stream.
    pub fn drop_column(&self, column: &str) {
        let mut inside = self.rule.inside();
        inside.streams.values_mut().for_each(|columns| columns.retain(|(name, _)| name != column));
    }

    /// Declares a column of every stream as text.
    pub fn make_text(&self, column: &str) {
        let mut inside = self.rule.inside();
        let columns = inside.streams.values_mut().flatten();
        columns.filter(|(name, _)| name == column).for_each(|(_, kind)| *kind = "string");
    }

    /// Whoever asks may not read the rule from now on.
    pub fn hide_rule(&self) {
        self.rule.inside().readable = false;
    }
}

impl Rule {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn query(&self) -> String {
        format!(
            "resources | where type =~ 'microsoft.insights/datacollectionrules' | where properties.immutableId == '{}' | project streams = properties.streamDeclarations",
            self.id
        )
    }
}

async fn answer(
    State(rule): State<Rule>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let refuse = |status, code: &str| {
        (status, Json(json!({ "error": { "code": code, "message": "See the documentation." } })))
            .into_response()
    };
    if !rule.bearer.admits(&headers) {
        return refuse(StatusCode::UNAUTHORIZED, "AuthenticationFailed");
    }
    if query.get("api-version").map(String::as_str) != Some("2022-10-01") {
        return refuse(StatusCode::BAD_REQUEST, "InvalidApiVersionParameter");
    }
    if header(&headers, "content-type") != Some("application/json") {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType");
    }
    let Ok(question) = serde_json::from_str::<Question>(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "BadRequest");
    };
    let inside = rule.inside();
    let data = if inside.readable && question.query == rule.query() {
        vec![json!({ "streams": declarations(&inside.streams) })]
    } else {
        Vec::new()
    };
    let count = data.len();
    let found = json!({
        "totalRecords": count, "count": count, "data": data, "facets": [], "resultTruncated": "false",
    });
    Json(found).into_response()
}

fn declarations(streams: &Streams) -> Value {
    let column = |(name, kind): &(String, &str)| json!({ "name": name, "type": kind });
    let stream = |(name, columns): (&String, &Vec<_>)| {
        (name.clone(), json!({ "columns": columns.iter().map(column).collect::<Vec<_>>() }))
    };
    Value::Object(streams.iter().map(stream).collect())
}
