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
        Target::DataCollector(_) | Target::EventHub(_) => None,
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
    let url = format!(
        "{}providers/Microsoft.ResourceGraph/resources?api-version=2022-10-01",
        patient.management
    );
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
    let stream = format!("Custom-{table}");
    let streams = rule.streams.as_ref();
    let declared = streams.and_then(|streams| streams.get(&stream));
    let mut wrong = Vec::new();
    match declared {
        None if alerts => wrong.push(format!("the stream {stream} is not declared")),
        None => {}
        Some(declared) => wrong.extend(differences(declared)),
    }
    if streams.is_none_or(|streams| !streams.contains_key("Custom-Heartbeat")) {
        wrong.push("the stream Custom-Heartbeat is not declared".to_owned());
    }
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

fn differences(declared: &Stream) -> Vec<String> {
    let wanted = ALERT_COLUMNS.iter();
    wanted
        .filter_map(|(name, kind)| {
            let kind = word(*kind);
            match declared.columns.iter().find(|column| column.name == *name) {
                None => Some(format!("column {name} is missing")),
                Some(column) if column.kind != kind => {
                    Some(format!("column {name} is not of type {kind}"))
                }
                Some(_) => None,
            }
        })
        .collect()
}

/// As a stream's declaration words it.
fn word(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::DateTime => "datetime",
        ColumnType::Text => "string",
        ColumnType::Long => "long",
        ColumnType::Boolean => "boolean",
        ColumnType::Dynamic => "dynamic",
    }
}
