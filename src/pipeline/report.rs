//! What a run did -> the heartbeat: its status, and two texts for people.

use std::time::Duration;

use uuid::Uuid;

use super::record::Saved;
use super::{Left, Rules, RunError, Undelivered, not_yet};
use crate::domain::advice::Advice;
use crate::domain::audit::{Found, Reconciled};
use crate::domain::check::{Check, Verdict};
use crate::domain::heartbeat::{Counts, Heartbeat, RowType, Status};
use crate::domain::job_state::JobState;
use crate::domain::progress::{NotNow, SetBack};
use crate::domain::retirement;
use crate::domain::runs::{Kind, Seen};
use crate::domain::standing::{Lifetime, Standing};
use crate::domain::timestamp::Timestamp;
use crate::domain::window::Window;
use crate::error_chain::Chain;
use crate::identity::IdentityError;
use crate::source::{Api, Failure, FetchError};
use crate::store::StoreError;

/// For a backlog that waits for calls.
pub(super) const AS_CALLS_BECOME_FREE: &str = "Nothing to do: it goes on as calls become free. If this stays for hours, ask the central team whether FunctionConfigCallsPerHour may be raised.";

/// What times in texts for people are rounded down to.
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// What a run knows of itself while it goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// Where alerts come from.
    pub(super) api: Api,
    /// What it did.
    pub(super) counts: Counts,
    /// Whose alerts it met.
    pub(super) groups: Seen,
    /// What it read.
    pub(super) read: Option<Window>,
    /// The renewed sign-in works but could not be stored.
    pub(super) sign_in_unsaved: bool,
    /// Everything before this is delivered; `None` if the state was not read, or
    /// nobody has begun to export.
    pub(super) position: Option<Timestamp>,
    /// It may have what is left of the run's time.
    pub(super) backfill: Option<JobState>,
    /// What it did to the saved position.
    pub(super) saved: Saved,
    /// What its record is of.
    pub(super) kind: Kind,
    /// The audit that came to its end in it.
    pub(super) reconciled: Option<Reconciled>,
    /// Since when an audit is due, if for too long.
    pub(super) overdue: Option<Timestamp>,
    /// The saved position could not be, and was set back.
    pub(super) set_back: Option<SetBack>,
}

/// How the run is to be described.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Described {
    pub(super) status: Status,
    pub(super) advice: Advice,
    pub(super) signed_in_as: Option<String>,
    pub(super) idle_days: Option<u64>,
}

impl Report {
    /// The heartbeat row.
    pub(super) fn heartbeat(
        &self,
        run: Uuid,
        rules: &Rules,
        described: Described,
        now: Timestamp,
        took: Duration,
    ) -> Heartbeat {
        Heartbeat {
            run_id: run.to_string(),
            trust_name: rules.trust.clone(),
            status: described.status,
            message: described.advice.message,
            next_step: described.advice.next_step,
            counts: self.counts,
            window_start: self.read.map(Window::start),
            window_end: self.read.map(Window::end),
            lag_seconds: self.position.map(|position| now.since(position).as_secs()),
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            signed_in_as: described.signed_in_as,
            sign_in_idle_days: described.idle_days,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance_id: rules.instance.clone(),
            record_number: None,
            record_hash: None,
            row_type: RowType::Heartbeat,
        }
    }

    /// The row of the audit that came to its end, beside the run's own.
    pub(super) fn audited(&self, heartbeat: &Heartbeat) -> Option<Heartbeat> {
        let Reconciled { span, found } = self.reconciled?;
        let (message, next_step) = reconciled(span, found);
        let counts = Counts {
            fetched: found.counted,
            delivered: found.repaired,
            quarantined: found.quarantined,
            calls: found.calls,
            ..Counts::default()
        };
        Some(Heartbeat {
            status: Status::Reconciled,
            message,
            next_step: next_step.to_owned(),
            counts,
            window_start: Some(span.start()),
            window_end: Some(span.end()),
            row_type: RowType::DefenderExportAudit,
            ..heartbeat.clone()
        })
    }
}

/// What an audit found, in words.
fn reconciled(
    span: Window,
    Found { counted, repaired, quarantined, .. }: Found,
) -> (String, &'static str) {
    let mut message = format!(
        "Complete to {}: {counted} alerts counted, {repaired} repaired.",
        span.end().floor(SECOND)
    );
    if repaired > 0 {
        message.push_str(" Those had not been delivered and now are. Alerts that Defender shows long after their time are found this way, and older ones of a device that was moved into the device group.");
    }
    if quarantined > 0 {
        let were =
            if quarantined == 1 { "1 alert was" } else { &format!("{quarantined} alerts were") };
        let aside =
            format!(" {were} set aside: kept whole under quarantine/ in the storage container.");
        message.push_str(&aside);
    }
    let next_step = match (repaired, quarantined) {
        (0, 0) => "",
        (_, 0) => {
            "Nothing to do. If it happens every day and no devices are moved, raise FunctionConfigOverlapMinutes: alerts then come without waiting for the audit."
        }
        _ => {
            "Run `defender-alert-export replay`: it lists what is under quarantine/ in the container with the reasons, and sends it again once they are mended."
        }
    };
    (message, next_step)
}

impl Described {
    pub(super) fn of(status: Status, advice: Advice, standing: Option<&Standing>) -> Self {
        let working = standing.and_then(Standing::working);
        Self {
            status,
            advice,
            signed_in_as: working.map(|working| working.account.username.clone()),
            idle_days: working.map(|working| working.idle_days),
        }
    }

    /// Says also what else a person must see to.
    pub(super) fn add(&mut self, noticed: Vec<Check>) {
        let Advice { message, next_step } = &mut self.advice;
        for check in noticed.into_iter().filter(|check| check.verdict != Verdict::Ok) {
            for (text, more) in
                [(&mut *message, &check.reason), (&mut *next_step, &check.next_step)]
            {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(more);
            }
        }
    }
}

/// Status and words for how a run ended.
pub(super) fn describe(
    outcome: &Result<Left, RunError>,
    report: &Report,
    standing: Option<&Standing>,
    now: Timestamp,
) -> Described {
    let working = standing.and_then(Standing::working);
    let (status, mut advice) = match outcome {
        Ok(left) => {
            let (status, mut advice) = done(*left, report, working.map(|working| working.lifetime));
            if report.counts.quarantined > 0 {
                advice = set_aside(report.counts.quarantined, &advice);
            }
            if report.sign_in_unsaved {
                advice
                    .message
                    .push_str(" The renewed sign-in could not be stored; the old one still works.");
            }
            if let Some(trouble) = report.backfill.as_ref().and_then(JobState::trouble) {
                advice = both(&advice, &trouble);
            }
            if let Some(due) = report.overdue {
                advice = overdue(due, advice);
            }
            (status, advice)
        }
        Err(failure) => failed(failure, report.api),
    };
    if let Some(retirement) = retirement(report.api, status, now) {
        advice = both(&advice, &retirement);
    }
    Described::of(status, advice, standing)
}

/// What is said of the API's retirement. Not beside what needs a person to act
/// on something else: one thing at a time.
fn retirement(api: Api, status: Status, now: Timestamp) -> Option<Advice> {
    let unhindered = match status {
        Status::Ok
        | Status::CatchingUp
        | Status::SignInExpiring
        | Status::SourceThrottled
        | Status::SourceFailed => true,
        Status::SignInNeeded
        | Status::ScopeViolation
        | Status::Halted
        | Status::SinkFailed
        | Status::StorageFailed
        | Status::Reconciled
        | Status::ConfigInvalid => false,
    };
    match api {
        Api::Defender if unhindered => retirement::advice(now),
        Api::Defender | Api::Graph => None,
    }
}

/// What happened first, and what is said beside it after.
fn both(first: &Advice, then: &Advice) -> Advice {
    let joined = |a: &str, b: &str| format!("{a} {b}").trim().to_owned();
    Advice::new(joined(&first.message, &then.message), joined(&first.next_step, &then.next_step))
}

/// A foreign alert outranks a backlog, and a backlog a sign-in that will end:
/// people must look at them in that order.
fn done(left: Left, report: &Report, lifetime: Option<Lifetime>) -> (Status, Advice) {
    let Counts { delivered, withheld, .. } = report.counts;
    let api = report.api;
    let until = report.position.map(|position| position.floor(SECOND));
    let until = until.map_or_else(String::new, |position| format!(" up to {position}"));
    if withheld > 0 {
        return (Status::ScopeViolation, foreign(withheld));
    }
    match (left, lifetime) {
        (left, Some(Lifetime::Expiring(at))) if left.is_complete() => (
            Status::SignInExpiring,
            Advice::new(
                format!(
                    "Alerts are flowing{until}, but the sign-in has not been renewed for weeks and ends on {}.",
                    at.floor(SECOND)
                ),
                "Sign in again before then.",
            ),
        ),
        (Left::Nothing, _) if report.read.is_none() && report.counts.calls == 0 => {
            not_yet::nothing_settled(report.position, api)
        }
        (Left::Nothing, _) if delivered == 0 && report.counts.quarantined > 0 => {
            (Status::Ok, Advice::new(format!("No other alert was new; complete{until}."), ""))
        }
        (Left::Nothing, _) if delivered == 0 => (
            Status::Ok,
            Advice::new(
                format!("Nothing new: {api} answered and there was no new alert{until}."),
                "",
            ),
        ),
        (Left::Nothing, _) => {
            (Status::Ok, Advice::new(format!("{delivered} alerts delivered; complete{until}."), ""))
        }
        (Left::More, _) => (
            Status::CatchingUp,
            Advice::new(
                format!(
                    "{delivered} alerts delivered; complete{until}, with newer ones still to come."
                ),
                "Nothing to do: the next runs go on from there.",
            ),
        ),
        (Left::Budget, _) => (
            Status::CatchingUp,
            Advice::new(
                format!(
                    "{delivered} alerts delivered; complete{until}. This trust's calls to {api} are used up for now."
                ),
                AS_CALLS_BECOME_FREE,
            ),
        ),
        (Left::Waiting, _) => (Status::SourceThrottled, throttled(api)),
        (Left::NotYet(later), _) => not_yet::describe(later, &until, api),
    }
}

pub(super) fn failed(failure: &RunError, api: Api) -> (Status, Advice) {
    match failure {
        RunError::NotNow(NotNow::Halted { since }) => (
            Status::Halted,
            Advice::new(
                format!(
                    "The export has been stopped since {}, because alerts of another device group were met and FunctionConfigScopeGuard is `halt`.",
                    since.floor(SECOND)
                ),
                "Find out why the account sees other groups and have it put right, or correct FunctionConfigDeviceGroups. Changing that setting resumes the export; if it is right as it is, run `defender-alert-export resume`.",
            ),
        ),
        RunError::NotNow(NotNow::Busy) => {
            (Status::Ok, Advice::new("Another instance is exporting.", ""))
        }
        RunError::SignIn(error) => sign_in(error),
        RunError::Fetch(error) => fetch(error),
        RunError::Foreign => {
            let mut advice = foreign(1);
            advice
                .message
                .push_str(" The export has stopped, because FunctionConfigScopeGuard is `halt`.");
            (Status::ScopeViolation, advice)
        }
        RunError::Deliver(undelivered) => (Status::SinkFailed, not_taken(undelivered)),
        RunError::State(error) => (Status::StorageFailed, storage(error)),
        RunError::SetAside(error) => (
            Status::StorageFailed,
            Advice::new(
                format!("A row could not be written to the storage container ({}).", Chain(error)),
                "Check that the storage account exists and that the app's identity holds the role Storage Blob Data Contributor on it. Nothing is lost: the next run reads the alert again.",
            ),
        ),
        RunError::TooLong => (
            Status::SourceFailed,
            Advice::new(
                "The run was given up because an answer did not come for minutes.",
                format!(
                    "Nothing to do at first: the next run goes on from what was saved. If it lasts, check the network between the app and {api}, the workspace and the storage account."
                ),
            ),
        ),
        RunError::Order(_) | RunError::NotJson(_) | RunError::Panicked => (
            Status::StorageFailed,
            Advice::new(
                format!("The export's own bookkeeping disagrees with itself ({}).", Chain(failure)),
                "This is a defect of the program: please report it with this text. Nothing is lost.",
            ),
        ),
    }
}

/// Where there are several targets, people must know which of them fails.
fn not_taken(Undelivered { target, error }: &Undelivered) -> Advice {
    let mut advice = error.advice.clone();
    if let Some(target) = target {
        advice.message = format!(
            "{target} did not take its rows; the other targets get theirs. {}",
            advice.message
        );
    }
    advice
}

pub(super) fn foreign(count: u64) -> Advice {
    Advice::new(
        format!(
            "{count} alert{} of device groups that are not in FunctionConfigDeviceGroups met and withheld; nothing of them left.",
            if count == 1 { "" } else { "s" }
        ),
        "The signed-in account sees more than this trust's devices. Ask the team that runs the central Defender tenant to limit the account to this trust's device group, or add the group to FunctionConfigDeviceGroups if it is this trust's.",
    )
}

/// Said beside what else happened: an analyst does not see these alerts.
fn set_aside(count: u64, also: &Advice) -> Advice {
    let were = if count == 1 { "alert was" } else { "alerts were" };
    let message = format!(
        "{count} {were} set aside: not in the workspace, but kept whole in the storage container. {}",
        also.message
    );
    let next_step = format!(
        "Run `defender-alert-export replay`: it lists what is under quarantine/ in the container with the reasons, and sends it again once they are mended. {}",
        also.next_step
    );
    Advice::new(message, next_step.trim_end())
}

/// Said beside what else happened.
fn overdue(due: Timestamp, also: Advice) -> Advice {
    let message = format!(
        "{} The daily comparison with Defender has been due since {due} and is not done.",
        also.message
    );
    let next_step = if also.next_step.is_empty() {
        "If this stays, the export has too few calls for it: ask the central team whether FunctionConfigCallsPerHour may be raised, or lower FunctionConfigAuditHours.".to_owned()
    } else {
        also.next_step
    };
    Advice::new(message, next_step)
}

pub(super) fn throttled(api: Api) -> Advice {
    Advice::new(
        format!(
            "{api} asked for fewer calls: the central tenant's quota, which all trusts share, is used up for now."
        ),
        format!(
            "Nothing to do: the export goes on by itself when {api} allows it. If this stays for hours, tell the central team."
        ),
    )
}

/// What a person should do when the state cannot be used.
pub(crate) fn storage(error: &StoreError) -> Advice {
    let next_step = match error {
        StoreError::Refused { status: 403, .. } | StoreError::Unauthorized(_) => {
            "Give the app's identity the role Storage Table Data Contributor on the storage account (it takes up to 30 minutes to work), or correct AzureWebJobsStorage."
        }
        StoreError::Corrupt { .. } => {
            "Somebody or something else wrote to the state table. Restore the row, or delete it: the export then begins again FunctionConfigInitialLookbackHours back, and repeated rows carry the same ExportKey."
        }
        StoreError::File(_) => {
            "Check the folder given with --state-dir: it must be writable, and only one process may use it."
        }
        StoreError::Conflict
        | StoreError::TooLarge(_)
        | StoreError::Unreachable(_)
        | StoreError::Refused { .. } => {
            "Check that the storage account exists and can be reached from the app's network. Nothing is lost: the next run repeats what was not saved."
        }
    };
    Advice::new(
        format!("The export's state could not be read or saved ({}).", Chain(error)),
        next_step,
    )
}

/// A sign-in that a person must renew is not a failure of the run.
fn sign_in(error: &IdentityError) -> (Status, Advice) {
    let status = match error {
        IdentityError::SignInNeeded(_)
        | IdentityError::NotStarted(_)
        | IdentityError::UnderWay { .. }
        | IdentityError::SealingKey(_) => Status::SignInNeeded,
        IdentityError::Busy { .. } => Status::SourceFailed,
        IdentityError::Storage(_) | IdentityError::Entity(_) => Status::StorageFailed,
    };
    (status, error.advice())
}

/// How a run that could not read alerts is described.
pub(crate) fn fetch(error: &FetchError) -> (Status, Advice) {
    let FetchError { api, failure, .. } = error;
    let setting = api.address_setting();
    let what = format!("Alerts could not be read from {api}: {failure}");
    let what = format!("{}.", what.trim_end_matches('.'));
    let next_step = match failure {
        Failure::Throttled { .. } => return (Status::SourceThrottled, throttled(*api)),
        Failure::BudgetSpent(_) | Failure::TurnOver => {
            "Nothing to do: it goes on as calls become free.".to_owned()
        }
        Failure::Forbidden { .. } => {
            "Do as the message says. Nothing is lost: the export goes on from where it stopped.".to_owned()
        }
        Failure::Unauthorized { .. } => {
            "Sign in again. If that does not help, check FunctionConfigMDETenantId and FunctionConfigMDEClientAppId with the central team.".to_owned()
        }
        Failure::Unreachable(_) => format!(
            "Check that the app's network can reach the address in {setting}. Nothing is lost: the next run tries again."
        ),
        Failure::Refused(_) => format!(
            "Check {setting}. If it is right, report this text as a defect; nothing is lost meanwhile."
        ),
        Failure::ForeignLink => format!(
            "Check {setting}: it must be the address {api} itself uses. Nothing was sent to the other server."
        ),
        Failure::Partial { .. } => {
            "Nothing to do at first: the alerts that did come were delivered, and the next run asks for all of them again. If it lasts for more than an hour, give the central team this text; set FunctionConfigAlertSource to `Defender` meanwhile.".to_owned()
        }
        Failure::Crowded => {
            "Set FunctionConfigAlertSource to `Defender` until they are read, and report this text as a defect. Nothing is lost meanwhile.".to_owned()
        }
        Failure::Failing { .. } | Failure::NotAPage(_) | Failure::NotAnAlert | Failure::Shifted => {
            "Nothing to do at first: the next run tries again with smaller pages. If it lasts for more than an hour, give the central team this text.".to_owned()
        }
    };
    (Status::SourceFailed, Advice::new(what, next_step))
}
