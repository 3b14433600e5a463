//! The heartbeat's row.

use serde::Serialize;

use super::Sink;
use crate::domain::heartbeat::Heartbeat;
use crate::domain::timestamp::Timestamp;

/// Logs Ingestion wants a time in the row; the Data Collector refuses one.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(rename = "TimeGenerated", skip_serializing_if = "Option::is_none")]
    time_generated: Option<Timestamp>,
    #[serde(flatten)]
    heartbeat: &'a Heartbeat,
}

impl Sink {
    /// The row of `heartbeat`, made at `at`, as JSON. It says when the run was,
    /// also when it is sent later.
    ///
    /// # Errors
    ///
    /// If it cannot be written as JSON.
    pub fn heartbeat_row(
        &self,
        heartbeat: &Heartbeat,
        at: Timestamp,
    ) -> serde_json::Result<String> {
        let time_generated = match self {
            Self::LogsIngestion(_) => Some(at),
            Self::DataCollector(_) | Self::EventHub(_) | Self::StorageBlob(_) | Self::S3(_) => None,
        };
        serde_json::to_string(&Row { time_generated, heartbeat })
    }
}
