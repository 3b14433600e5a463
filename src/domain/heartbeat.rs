//! The "I ran" row: one a run, whatever happened.
//!
//! It lets monitoring tell "nothing happened" from "nothing works", and tells a
//! person in plain words what happened and what to do.

use serde::{Deserialize, Serialize};

use super::advice::Advice;
use super::hash::Hash;
use super::shape::ColumnType;
use super::timestamp::Timestamp;

/// Columns of `Custom-Heartbeat`, as the deployment declares them: the members of
/// [`Heartbeat`] and when it was sent.
pub const COLUMNS: [(&str, ColumnType); 23] = [
    ("TimeGenerated", ColumnType::DateTime),
    ("RunId", ColumnType::Text),
    ("TrustName", ColumnType::Text),
    ("Status", ColumnType::Text),
    ("Message", ColumnType::Text),
    ("NextStep", ColumnType::Text),
    ("Fetched", ColumnType::Long),
    ("Delivered", ColumnType::Long),
    ("Duplicates", ColumnType::Long),
    ("Withheld", ColumnType::Long),
    ("Quarantined", ColumnType::Long),
    ("Calls", ColumnType::Long),
    ("WindowStart", ColumnType::DateTime),
    ("WindowEnd", ColumnType::DateTime),
    ("LagSeconds", ColumnType::Long),
    ("DurationMs", ColumnType::Long),
    ("SignedInAs", ColumnType::Text),
    ("SignInIdleDays", ColumnType::Long),
    ("Version", ColumnType::Text),
    ("InstanceId", ColumnType::Text),
    ("RecordNumber", ColumnType::Long),
    ("RecordHash", ColumnType::Text),
    ("RowType", ColumnType::Text),
];

/// How a run ended. The names are the contract's.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum Status {
    /// Everything up to the settle time is delivered.
    Ok,
    /// This run did its part; older alerts are still to be fetched.
    CatchingUp,
    /// Nobody is signed in, or the sign-in no longer works.
    SignInNeeded,
    /// Working, but the sign-in ends soon if it is not used or renewed.
    SignInExpiring,
    /// Alerts of other device groups were seen and withheld.
    ScopeViolation,
    /// Stopped after a scope violation until a person resumes it.
    Halted,
    /// Defender asked for fewer calls; the rest follows later.
    SourceThrottled,
    /// Defender could not be read.
    SourceFailed,
    /// The workspace, event hub, container or bucket did not take the rows.
    SinkFailed,
    /// The state could not be read or saved.
    StorageFailed,
    /// Settings are missing or wrong.
    ConfigInvalid,
    /// Of an audit's row: Defender and the ledger agree now.
    Reconciled,
}

/// What a row of the heartbeats' table is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum RowType {
    /// A run's own.
    #[default]
    Heartbeat,
    /// What the daily audit found, beside its run's own.
    DefenderExportAudit,
}

impl Status {
    /// Whether the run did what it could: the Functions host is told success.
    pub fn did_its_duty(self) -> bool {
        match self {
            Self::Ok
            | Self::CatchingUp
            | Self::SignInNeeded
            | Self::SignInExpiring
            | Self::ScopeViolation
            | Self::SourceThrottled
            | Self::Reconciled => true,
            Self::Halted
            | Self::SourceFailed
            | Self::SinkFailed
            | Self::StorageFailed
            | Self::ConfigInvalid => false,
        }
    }
}

/// What one run did.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Counts {
    /// Alerts the source returned, repeats within the run included.
    pub fetched: u64,
    /// Rows the sink accepted.
    pub delivered: u64,
    /// Alerts met again that were delivered before.
    pub duplicates: u64,
    /// Alerts that are not ours.
    pub withheld: u64,
    /// Rows set aside because the sink refuses them.
    pub quarantined: u64,
    /// Calls made to the source.
    pub calls: u64,
}

/// Heartbeats that wait because their target did not take them: monitoring does
/// not hear of this deployment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unsent {
    /// How many wait.
    pub count: u64,
    /// Why the last of them was not taken, and what to do.
    pub advice: Advice,
}

impl Unsent {
    /// So many, and why.
    pub fn new(count: usize, advice: Advice) -> Self {
        Self { count: u64::try_from(count).unwrap_or(u64::MAX), advice }
    }

    /// What happened, for people.
    pub fn message(&self) -> String {
        let Self { count, advice } = self;
        let (wait, them) = if *count == 1 {
            ("1 heartbeat waits".to_owned(), "it")
        } else {
            (format!("{count} heartbeats wait"), "them")
        };
        format!(
            "{wait} to be sent, so monitoring does not hear of this app; every run tries {them} again. {}",
            advice.message
        )
    }
}

/// One heartbeat row.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Heartbeat {
    /// The run.
    pub run_id: String,
    /// Whose deployment.
    pub trust_name: String,
    /// How it ended.
    pub status: Status,
    /// What happened, in plain words.
    pub message: String,
    /// What a person should do, in plain words; empty when nothing.
    pub next_step: String,
    /// What it did.
    #[serde(flatten)]
    pub counts: Counts,
    /// Where reading began; absent when nothing was read.
    pub window_start: Option<Timestamp>,
    /// Up to where was read.
    pub window_end: Option<Timestamp>,
    /// Now minus the position up to which everything is delivered; absent while
    /// there is no position.
    pub lag_seconds: Option<u64>,
    /// From start to heartbeat.
    pub duration_ms: u64,
    /// The account alerts are read as.
    pub signed_in_as: Option<String>,
    /// Whole days since the sign-in was last renewed.
    pub sign_in_idle_days: Option<u64>,
    /// This program's version.
    pub version: String,
    /// Which machine ran it.
    pub instance_id: String,
    /// The number of this run's record; absent if it could not be written.
    pub record_number: Option<u64>,
    /// Its hash, which is the head of the chain.
    pub record_hash: Option<Hash>,
    /// Whether it is a run's own row.
    pub row_type: RowType,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What monitoring and KQL depend on, letter by letter.
    #[test]
    fn the_columns_are_the_contracts() {
        let heartbeat = Heartbeat {
            run_id: "r".to_owned(),
            trust_name: "RXX".to_owned(),
            status: Status::CatchingUp,
            message: "m".to_owned(),
            next_step: String::new(),
            counts: Counts {
                fetched: 6,
                delivered: 5,
                duplicates: 4,
                withheld: 3,
                quarantined: 2,
                calls: 1,
            },
            window_start: Some(Timestamp::EPOCH),
            window_end: None,
            lag_seconds: Some(60),
            duration_ms: 7,
            signed_in_as: None,
            sign_in_idle_days: Some(3),
            version: "0.1.0".to_owned(),
            instance_id: "i".to_owned(),
            record_number: Some(17),
            record_hash: Some(Hash::of(b"abc")),
            row_type: RowType::Heartbeat,
        };
        let row = serde_json::to_value(&heartbeat).unwrap();
        let sent: BTreeSet<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        let declared: BTreeSet<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
        assert_eq!(declared.difference(&sent).collect::<Vec<_>>(), [&"TimeGenerated"]);
        assert_eq!((declared.len(), sent.len()), (COLUMNS.len(), COLUMNS.len() - 1));
        assert_eq!(
            serde_json::to_string(&heartbeat).unwrap(),
            r#"{"RunId":"r","TrustName":"RXX","Status":"CatchingUp","Message":"m","NextStep":"","Fetched":6,"Delivered":5,"Duplicates":4,"Withheld":3,"Quarantined":2,"Calls":1,"WindowStart":"1970-01-01T00:00:00Z","WindowEnd":null,"LagSeconds":60,"DurationMs":7,"SignedInAs":null,"SignInIdleDays":3,"Version":"0.1.0","InstanceId":"i","RecordNumber":17,"RecordHash":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","RowType":"Heartbeat"}"#
        );
    }
}
