//! Where alerts and heartbeats go.

use secrecy::SecretString;
use url::Url;

use super::reader::Reader;
use super::target_files::{S3, StorageBlob};

/// Where alerts go: `FunctionConfigAlertTargetType`.
#[derive(Clone, Debug)]
pub enum Target {
    /// Logs Ingestion API, through a data collection rule.
    LogsIngestion(LogsIngestion),
    /// HTTP Data Collector API, retired by Microsoft but still answering.
    DataCollector(DataCollector),
    /// An Azure Event Hub.
    EventHub(EventHub),
    /// Files in a container, an append blob an hour.
    StorageBlob(StorageBlob),
    /// Files in a bucket, one a batch.
    S3(S3),
}

/// Where heartbeats go.
#[derive(Clone, Debug)]
pub enum HeartbeatTarget {
    /// Stream `Custom-Heartbeat` of the rule.
    LogsIngestion(LogsIngestion),
    /// `Log-Type` `Heartbeat` of the workspace.
    DataCollector(DataCollector),
}

/// A data collection rule.
#[derive(Clone, Debug)]
pub struct LogsIngestion {
    /// `FunctionConfigLogsIngestionEndpoint`, with a trailing slash.
    pub endpoint: Url,
    /// `FunctionConfigLogsIngestionRuleId`: `dcr-` and 32 hex digits.
    pub rule_id: String,
    /// `FunctionConfigLogAnalyticsTableName`, without `_CL`.
    pub table: String,
}

/// A workspace with its shared key.
#[derive(Clone, Debug)]
pub struct DataCollector {
    /// `FunctionConfigLogAnalyticsEndpoint`, or derived from the workspace id.
    pub endpoint: Url,
    /// `FunctionConfigLogAnalyticsWorkspaceId`.
    pub workspace: String,
    /// `FunctionConfigLogAnalyticsKeyValue`, base64.
    pub key: SecretString,
    /// `FunctionConfigLogAnalyticsTableName`, without `_CL`.
    pub table: String,
}

/// An event hub.
#[derive(Clone, Debug)]
pub struct EventHub {
    /// `FunctionConfigEventHubEndpoint`, or derived from the namespace.
    pub endpoint: Url,
    /// `FunctionConfigEventHubName`.
    pub hub: String,
    /// The right to send.
    pub auth: EventHubAuth,
}

/// The right to send to an event hub.
#[derive(Clone, Debug)]
pub enum EventHubAuth {
    /// The app's managed identity.
    Identity,
    /// A shared access policy.
    Sas(SasPolicy),
}

/// A shared access policy.
#[derive(Clone, Debug)]
pub struct SasPolicy {
    /// `FunctionConfigEventHubAccessKeyName`.
    pub name: String,
    /// `FunctionConfigEventHubAccessKeyValue`, used as it is.
    pub key: SecretString,
    /// `FunctionConfigEventHubAccessKeyType`: whether the policy belongs to the
    /// whole namespace.
    pub whole_namespace: bool,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    LogsIngestion,
    DataCollector,
    EventHub,
    StorageBlob,
    S3,
}

/// The targets of `FunctionConfigAlertTargetType`.
#[derive(Clone, Debug)]
pub(super) struct Targets {
    kinds: Vec<Kind>,
    /// Those whose settings are in order.
    pub(super) readable: Vec<Target>,
}

impl Targets {
    /// Reads every target named. All are read before any is missed, so that all
    /// faults are reported.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let kinds = reader.choices(
            "FunctionConfigAlertTargetType",
            &[
                ("LogsIngestion", Kind::LogsIngestion),
                ("LogAnalytics", Kind::DataCollector),
                ("EventHub", Kind::EventHub),
                ("StorageBlob", Kind::StorageBlob),
                ("S3", Kind::S3),
            ],
            Kind::LogsIngestion,
        );
        let readable = kinds.iter().filter_map(|kind| Target::read(*kind, reader)).collect();
        Self { kinds, readable }
    }
}

impl Target {
    fn read(kind: Kind, reader: &mut Reader<'_>) -> Option<Self> {
        match kind {
            Kind::LogsIngestion => LogsIngestion::read(reader).map(Self::LogsIngestion),
            Kind::DataCollector => DataCollector::read(reader).map(Self::DataCollector),
            Kind::EventHub => EventHub::read(reader).map(Self::EventHub),
            Kind::StorageBlob => StorageBlob::read(reader).map(Self::StorageBlob),
            Kind::S3 => S3::read(reader).map(Self::S3),
        }
    }
}

impl HeartbeatTarget {
    /// Heartbeats go to the rule if alerts do, else to the workspace if alerts
    /// do. Beside other targets, to the rule if one is configured and else to
    /// the workspace.
    pub(super) fn read(reader: &mut Reader<'_>, targets: &Targets) -> Option<Self> {
        if !reader.switch("FunctionConfigSendHeartbeatToLogAnalytics", true) {
            return None;
        }
        let first = |pick: fn(&Target) -> Option<Self>| targets.readable.iter().find_map(pick);
        let shared = first(Self::rule).or_else(|| first(Self::workspace));
        let named = |kind| targets.kinds.contains(&kind);
        match shared {
            Some(target) => Some(target),
            // That target's own faults are enough to read.
            None if named(Kind::LogsIngestion) || named(Kind::DataCollector) => None,
            None if reader.text("FunctionConfigLogsIngestionRuleId").is_some() => {
                LogsIngestion::read(reader).map(Self::LogsIngestion)
            }
            None => DataCollector::read(reader).map(Self::DataCollector),
        }
    }

    fn rule(target: &Target) -> Option<Self> {
        match target {
            Target::LogsIngestion(rule) => Some(Self::LogsIngestion(rule.clone())),
            Target::DataCollector(_)
            | Target::EventHub(_)
            | Target::StorageBlob(_)
            | Target::S3(_) => None,
        }
    }

    fn workspace(target: &Target) -> Option<Self> {
        match target {
            Target::DataCollector(workspace) => Some(Self::DataCollector(workspace.clone())),
            Target::LogsIngestion(_)
            | Target::EventHub(_)
            | Target::StorageBlob(_)
            | Target::S3(_) => None,
        }
    }
}

impl LogsIngestion {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        const RULE: &str = "FunctionConfigLogsIngestionRuleId";
        const ENDPOINT: &str = "FunctionConfigLogsIngestionEndpoint";
        let endpoint = reader.required(ENDPOINT).and_then(|text| reader.base_url(ENDPOINT, &text));
        let rule_id = reader.required(RULE);
        let is_immutable_id = |text: &String| {
            text.strip_prefix("dcr-").is_some_and(|rest| {
                !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric())
            })
        };
        if rule_id.as_ref().is_some_and(|text| !is_immutable_id(text)) {
            reader.fault(RULE, "not an immutable id such as dcr-0123456789abcdef0123456789abcdef");
        }
        let table = table_name(reader);
        Some(Self { endpoint: endpoint?, rule_id: rule_id?, table })
    }
}

impl DataCollector {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        const ENDPOINT: &str = "FunctionConfigLogAnalyticsEndpoint";
        let workspace = reader.required_id("FunctionConfigLogAnalyticsWorkspaceId");
        let key = reader.required_base64("FunctionConfigLogAnalyticsKeyValue");
        let table = table_name(reader);
        let workspace = workspace?.to_string();
        let endpoint = reader
            .text(ENDPOINT)
            .unwrap_or_else(|| format!("https://{workspace}.ods.opinsights.azure.com"));
        let endpoint = reader.base_url(ENDPOINT, &endpoint);
        Some(Self { endpoint: endpoint?, workspace, key: key?, table })
    }
}

impl EventHub {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        const ENDPOINT: &str = "FunctionConfigEventHubEndpoint";
        let namespace = namespace(reader);
        let hub = reader.required("FunctionConfigEventHubName");
        let auth = EventHubAuth::read(reader);
        let namespace = namespace?;
        let host = if namespace.contains('.') {
            namespace
        } else {
            format!("{namespace}.servicebus.windows.net")
        };
        let endpoint = reader.text(ENDPOINT).unwrap_or_else(|| format!("https://{host}"));
        let endpoint = reader.base_url(ENDPOINT, &endpoint);
        Some(Self { endpoint: endpoint?, hub: hub?, auth: auth? })
    }
}

/// As people know it: not an address, which would end up inside of one.
fn namespace(reader: &mut Reader<'_>) -> Option<String> {
    const NAME: &str = "FunctionConfigEventHubNamespace";
    let text = reader.required(NAME)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if !text.chars().all(legal) {
        reader.fault(
            NAME,
            "not a name such as trust-hubs or trust-hubs.servicebus.windows.net: letters, digits, - and . only, without sb:// or https://",
        );
        return None;
    }
    Some(text)
}

impl EventHubAuth {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        const NAME: &str = "FunctionConfigEventHubAccessKeyName";
        const VALUE: &str = "FunctionConfigEventHubAccessKeyValue";
        if reader.text(NAME).is_none() && reader.text(VALUE).is_none() {
            return Some(Self::Identity);
        }
        let name = reader.required(NAME);
        let key = reader.required_secret(VALUE);
        let whole_namespace = reader.choice(
            "FunctionConfigEventHubAccessKeyType",
            &[("Namespace", true), ("EventHub", false)],
            false,
        );
        Some(Self::Sas(SasPolicy { name: name?, key: key?, whole_namespace }))
    }
}

pub(super) fn table_name(reader: &mut Reader<'_>) -> String {
    const NAME: &str = "FunctionConfigLogAnalyticsTableName";
    let text = reader.text(NAME).unwrap_or_else(|| "DefenderRawAlert".to_owned());
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.len() > 60
        || !text.starts_with(|c: char| c.is_ascii_alphabetic())
        || !text.chars().all(legal)
    {
        reader.fault(NAME, "a letter first, then letters, digits or _; at most 60; without _CL");
    }
    text.strip_suffix("_CL").map_or(text.clone(), str::to_owned)
}
