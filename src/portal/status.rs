//! The same facts for machines: `GET /api/portal/status.json`. No code and no
//! name of a foreign group is in it.

use serde::Serialize;

use super::verdict::{Flow, Verdict};
use super::{Export, Facts};
use crate::domain::advice::Advice;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::job_state::{JobState, Told};
use crate::domain::progress::Progress;
use crate::domain::runs::PastRun;
use crate::domain::standing::{DEAD_AFTER, Standing};
use crate::domain::timestamp::Timestamp;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Status {
    time: Timestamp,
    version: &'static str,
    trust_name: String,
    /// `Flowing`, `Attention` or `Stopped`.
    flow: &'static str,
    message: String,
    next_step: String,
    config_faults: Vec<Fault>,
    #[serde(flatten)]
    export: Option<State>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Fault {
    setting: String,
    what: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    /// `SignedOut`, `Pending`, `SignedIn`, `Refused` or `Unknown`.
    sign_in: &'static str,
    sign_in_message: Option<String>,
    signed_in_as: Option<String>,
    tenant: Option<String>,
    sign_in_ends_unused: Option<Timestamp>,
    /// `NeverRun`, `Idle`, `Running`, `Halted` or `Unknown`.
    phase: &'static str,
    position: Option<Timestamp>,
    lag_seconds: Option<u64>,
    unsent_heartbeats: u64,
    allowed_groups: Vec<String>,
    /// The backfill that was begun last.
    backfill: Option<Told>,
    runs: Vec<PastRun>,
}

impl Status {
    pub(super) fn of(facts: &Facts) -> Self {
        let Verdict { flow, advice: Advice { message, next_step } } = Verdict::of(facts);
        let faults = facts.faults.iter();
        Self {
            time: facts.now,
            version: env!("CARGO_PKG_VERSION"),
            trust_name: facts.trust.clone(),
            flow: match flow {
                Flow::Flowing => "Flowing",
                Flow::Attention => "Attention",
                Flow::Stopped => "Stopped",
            },
            message,
            next_step,
            config_faults: faults
                .map(|fault| Fault { setting: fault.name.clone(), what: fault.what.clone() })
                .collect(),
            export: facts.export.as_ref().map(|export| state(export, facts.now)),
        }
    }
}

fn state(export: &Export, now: Timestamp) -> State {
    let (sign_in, message) = match &export.sign_in {
        Err(advice) => ("Unknown", Some(advice)),
        Ok(Standing::SignedOut) => ("SignedOut", None),
        Ok(Standing::Pending { .. }) => ("Pending", None),
        Ok(Standing::SignedIn(working)) => ("SignedIn", working.failed_attempt.as_ref()),
        Ok(Standing::Refused { advice, .. }) => ("Refused", Some(advice)),
    };
    let working = export.sign_in.as_ref().ok().and_then(Standing::working);
    let checkpoint = export.checkpoint.as_ref().map(Option::as_ref);
    let position = checkpoint.ok().flatten().map(|checkpoint| checkpoint.progress.position());
    State {
        sign_in,
        sign_in_message: message.map(|advice| advice.message.clone()),
        signed_in_as: working.map(|working| working.account.username.clone()),
        tenant: working.map(|working| working.account.tenant.to_string()),
        sign_in_ends_unused: working.map(|working| working.renewed_at + DEAD_AFTER),
        phase: match checkpoint {
            Err(_) => "Unknown",
            Ok(None) => "NeverRun",
            Ok(Some(Checkpoint { progress, .. })) => match progress {
                Progress::Idle { .. } => "Idle",
                Progress::Running { .. } => "Running",
                Progress::Halted { .. } => "Halted",
            },
        },
        position,
        lag_seconds: position.map(|position| now.since(position).as_secs()),
        unsent_heartbeats: export.unsent.as_ref().map_or(0, |unsent| unsent.count),
        allowed_groups: export.allowed.clone(),
        backfill: export.backfill.as_ref().ok().and_then(Option::as_ref).map(JobState::told),
        runs: export.runs.clone().unwrap_or_default(),
    }
}
