//! `status --verify`: whether the run records are as they were written.

use std::process::ExitCode;

use serde::Serialize;

use super::{Failure, print};
use crate::app::App;
use crate::domain::advice::counted;
use crate::domain::chain::{self, Verified};
use crate::domain::hash::Hash;
use crate::domain::timestamp::Timestamp;

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Verification {
    unbroken: bool,
    /// What is wrong, in words; empty if nothing is.
    findings: Vec<String>,
    head_number: Option<u64>,
    head_hash: Option<Hash>,
    /// Every record kept, to compare with the heartbeats of 30 days.
    records: Vec<Listed>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    record_number: u64,
    record_hash: Hash,
    run_id: String,
    at: Timestamp,
}

/// Prints what was found. Exit 0 when the chain is unbroken.
pub(super) async fn verify(app: &App, json: bool) -> Result<ExitCode, Failure> {
    let (kept, checkpoint) = app.state.records().await?;
    let progress = checkpoint.map(|checkpoint| checkpoint.progress);
    let found = chain::verify(kept.chain, &kept.stored, progress.as_ref());
    if json {
        print::out(serde_json::to_string(&Verification::of(&found))?);
    } else {
        print::out(text(&found, &app.exporter.rules.trust));
    }
    Ok(if found.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

impl Verification {
    fn of(found: &Verified) -> Self {
        let listed = found.records.iter().map(|record| Listed {
            record_number: record.name.number,
            record_hash: record.hash,
            run_id: record.name.run.clone(),
            at: record.name.at,
        });
        Self {
            unbroken: found.findings.is_empty(),
            findings: found.findings.iter().map(ToString::to_string).collect(),
            head_number: found.head.map(|head| head.number),
            head_hash: found.head.map(|head| head.hash),
            records: listed.collect(),
        }
    }
}

fn text(found: &Verified, trust: &str) -> String {
    let mut lines = Vec::new();
    let count = counted(found.records.len(), "record");
    let unbroken = if found.findings.is_empty() { "unbroken" } else { "NOT unbroken" };
    match (found.records.first(), found.records.last()) {
        (Some(first), Some(last)) => {
            lines.push(format!("{count} from {} to {}, {unbroken}.", first.name.at, last.name.at));
        }
        _ if found.findings.is_empty() => lines.push("No run has left a record yet.".to_owned()),
        _ => lines.push(format!("{count}, {unbroken}.")),
    }
    lines.extend(found.findings.iter().map(|finding| format!("  {finding}")));
    if let Some(head) = found.head {
        let trust = trust.replace('\'', "\\'");
        lines.push(format!("Head: record {}, {}", head.number, head.hash));
        lines.push(
            "Compare it with the newest heartbeat in the workspace, where nobody with access to the state table can change it:"
                .to_owned(),
        );
        lines.push(format!("  DefenderExportRecordHead | where TrustName == '{trust}'"));
        lines.push(
            "RecordNumber and RecordHash must be the same and Rewritten 0. A heartbeat may be a few minutes on its way; `--json` lists every record's hash, for older ones."
                .to_owned(),
        );
    }
    lines.join("\n")
}
