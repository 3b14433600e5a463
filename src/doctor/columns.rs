//! The columns a data collection rule declares, against those that are sent.
//!
//! The rule drops a column it does not declare without a word, and its own
//! address tells nobody what it declares. Azure Resource Graph does, to whoever
//! may read the rule: `POST {management}providers/Microsoft.ResourceGraph/resources?api-version=2022-10-01`
//! with a query over every subscription that may be read; 200 with `data`, an
//! object a resource, and no object for what may not be read.
//! <https://learn.microsoft.com/azure/governance/resource-graph/overview>

use std::collections::BTreeMap;

use reqwest::header::CONTENT_TYPE;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::json;

use super::Patient;
use crate::config::{HeartbeatTarget, LogsIngestion, Target};
use crate::domain::check::{Check, Section, Verdict};
use crate::domain::heartbeat;
use crate::domain::shape::{ALERT_COLUMNS, ColumnType};
use crate::http::read_at_most;

/// Whom a token must be for.
pub const AUDIENCE: &str = "https://management.azure.com";
const NAME: &str = "columns";
const SECTION: Section = Section::Targets;
/// A rule is a few kilobytes.
const LARGEST_ANSWER: usize = 1024 * 1024;

#[derive(Deserialize)]
struct Found {
    data: Vec<Rule>,
}

/// `properties.streamDeclarations` of the rule.
#[derive(Deserialize)]
struct Rule {
    streams: Option<BTreeMap<String, Stream>>,
}

#[derive(Deserialize)]
struct Stream {
    columns: Vec<Column>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

/// Why the rule could not be looked at.
enum Unseen {
    NoToken,
    NoAnswer,
    NotShown,
}

/// Nothing to say where no rule is used.
pub(super) async fn check(patient: &Patient) -> Option<Check> {
    let rule = rule(patient)?;
    let check = async {
        match ask(patient, &rule.rule_id).await {
            Ok(found) => compare(&found, &rule.table, sends_alerts(patient)),
            Err(why) => unseen(&why),
        }
    };
    Some(patient.line(NAME, SECTION, check).await)
}

fn rule(patient: &Patient) -> Option<&LogsIngestion> {
    let of_alerts = patient.parts.targets.iter().find_map(|target| match target {
        Target::LogsIngestion(rule) => Some(rule),
        Target::DataCollector(_) | Target::EventHub(_) | Target::StorageBlob(_) | Target::S3(_) => {
            None
        }
    });
    of_alerts.or(match &patient.parts.heartbeats {
        Some(HeartbeatTarget::LogsIngestion(rule)) => Some(rule),
        Some(HeartbeatTarget::DataCollector(_)) | None => None,
    })
}

fn sends_alerts(patient: &Patient) -> bool {
    patient.parts.targets.iter().any(|target| matches!(target, Target::LogsIngestion(_)))
}

async fn ask(patient: &Patient, rule: &str) -> Result<Rule, Unseen> {
    let token = patient.credential.token(AUDIENCE).await.map_err(|_said_before| Unseen::NoToken)?;
    let mut url = patient.parts.management.clone().ok_or(Unseen::NoAnswer)?;
    url.set_path(&format!("{}providers/Microsoft.ResourceGraph/resources", url.path()));
    url.set_query(Some("api-version=2022-10-01"));
    // The id is `dcr-` and letters and digits; the settings are checked for it.
    let query = format!(
        "resources | where type =~ 'microsoft.insights/datacollectionrules' | where properties.immutableId == '{rule}' | project streams = properties.streamDeclarations"
    );
    let request = patient
        .http
        .client
        .post(url)
        .bearer_auth(token.expose_secret())
        .header(CONTENT_TYPE, "application/json")
        .body(json!({ "query": query }).to_string());
    let answer = patient.http.send(request).await.map_err(|_no_answer| Unseen::NoAnswer)?;
    let status = answer.status().as_u16();
    let body = read_at_most(answer, LARGEST_ANSWER).await.map_err(|_cut_off| Unseen::NoAnswer)?;
    match status {
        200 => {
            let found: Found =
                serde_json::from_slice(&body).map_err(|_garbled| Unseen::NoAnswer)?;
            found.data.into_iter().next().ok_or(Unseen::NotShown)
        }
        401 | 403 => Err(Unseen::NotShown),
        _ => Err(Unseen::NoAnswer),
    }
}

fn unseen(why: &Unseen) -> Check {
    let because = match why {
        Unseen::NoToken => "there is no token for Azure's own directory of resources",
        Unseen::NoAnswer => "Azure's own directory of resources gave no answer",
        Unseen::NotShown => "whoever runs this may not read the data collection rule",
    };
    Check::new(
        NAME,
        SECTION,
        Verdict::Warn,
        format!(
            "Whether the data collection rule keeps every column could not be seen, because {because}. It drops what it does not declare without a word."
        ),
        "Run `doctor` once from Azure Cloud Shell, or after `az login`, as somebody who may read the rule (role Reader). Running the deployment again sets the columns in any case.",
    )
}

fn compare(rule: &Rule, table: &str, alerts: bool) -> Check {
    let alert_stream = format!("Custom-{table}");
    let mut wanted: Vec<(&str, &[(&str, ColumnType)])> =
        vec![("Custom-Heartbeat", &heartbeat::COLUMNS)];
    if alerts {
        wanted.insert(0, (&alert_stream, &ALERT_COLUMNS));
    }
    let wrong: Vec<_> = wanted
        .into_iter()
        .flat_map(|(stream, columns)| differences(rule, stream, columns))
        .collect();
    if wrong.is_empty() {
        let reason = "The data collection rule declares every column that is sent, with its type.";
        return Check::ok(NAME, SECTION, reason);
    }
    Check::new(
        NAME,
        SECTION,
        Verdict::Fail,
        format!(
            "The data collection rule is not made for this version: {}. What it does not declare is dropped without a word.",
            wrong.join("; ")
        ),
        "Run the deployment again: it sets the rule's streams and the table's columns.",
    )
}

fn differences(rule: &Rule, stream: &str, columns: &[(&str, ColumnType)]) -> Vec<String> {
    let Some(declared) = rule.streams.as_ref().and_then(|streams| streams.get(stream)) else {
        return vec![format!("the stream {stream} is not declared")];
    };
    let difference = |(name, kind): &(&str, ColumnType)| {
        let kind = kind.declared();
        match declared.columns.iter().find(|column| column.name == *name) {
            None => Some(format!("column {name} of {stream} is missing")),
            Some(column) if column.kind != kind => {
                Some(format!("column {name} of {stream} is not of type {kind}"))
            }
            Some(_) => None,
        }
    };
    columns.iter().filter_map(difference).collect()
}
