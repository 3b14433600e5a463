//! What a run did -> the heartbeat: its status, and two texts for people.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::failed::{failed, throttled};
use super::record::Saved;
use super::withheld::{foreign, never_ours};
use super::{Left, Rules, RunError, not_yet};
use crate::domain::advice::{Advice, REPLAY, counted};
use crate::domain::audit::{Found, Reconciled};
use crate::domain::backfill::Job;
use crate::domain::check::{Check, Verdict};
use crate::domain::heartbeat::{Counts, Heartbeat, RowType, Status};
use crate::domain::job_state::JobState;
use crate::domain::memo::Met;
use crate::domain::progress::SetBack;
use crate::domain::retirement;
use crate::domain::runs::{Kind, Seen};
use crate::domain::standing::{Lifetime, Standing};
use crate::domain::timestamp::Timestamp;
use crate::domain::visible;
use crate::domain::window::Window;
use crate::source::Api;

/// For a backlog that waits for calls.
pub(super) const AS_CALLS_BECOME_FREE: &str = "Nothing to do: it goes on as calls become free. If this stays for hours, ask the central team whether FunctionConfigCallsPerHour may be raised.";

/// What a run knows of itself while it goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// Where alerts come from.
    pub(super) api: Api,
    /// What it did, also if it was broken off; zeros until it began to read.
    pub(super) counts: Told,
    /// Whose alerts it met.
    pub(super) groups: Seen,
    /// What it read.
    pub(super) read: Option<Window>,
    /// The renewed sign-in works but could not be stored.
    pub(super) sign_in_unsaved: bool,
    /// What the last run that asked the source had to tell people.
    pub(super) said: Option<Advice>,
    /// Every alert met since the device groups were last changed was withheld.
    pub(super) only_others: bool,
    /// Since when no alert of ours was met, if for long.
    pub(super) quiet_since: Option<Timestamp>,
    /// Everything before this is delivered; `None` if the state was not read, or
    /// nobody has begun to export.
    pub(super) position: Option<Timestamp>,
    /// It may have what is left of the run's time.
    pub(super) backfill: Option<JobState>,
    /// A backfill whose process died before it told of its end.
    pub(super) untold: Option<Job>,
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

/// Counts that are there also when whoever counts is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(Arc<Mutex<Counts>>);

impl Told {
    pub(super) fn get(&self) -> Counts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, counts: Counts) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }
}

impl From<Counts> for Told {
    fn from(counts: Counts) -> Self {
        Self(Arc::new(Mutex::new(counts)))
    }
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
    /// Whose alerts were met under `scope`, by this run and those before it.
    pub(super) fn has_met(&mut self, met: &Met, scope: &str, now: Timestamp) {
        self.only_others = met.only_others(scope);
        self.quiet_since = met.quiet_since(scope, now);
    }

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
            counts: self.counts.get(),
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
    Found { counted: alerts, repaired, quarantined, .. }: Found,
) -> (String, &'static str) {
    let mut message = format!(
        "Complete to {}: {} counted, {repaired} repaired.",
        span.end().to_the_second(),
        counted(alerts, "alert")
    );
    if repaired > 0 {
        message.push_str(" Those had not been delivered and now are. The audit finds alerts that Defender showed late, and older ones of devices that were moved into the device group.");
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
        _ => REPLAY,
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
            let lifetime = working.map(|working| working.lifetime);
            let (mut status, mut advice) = done(*left, report, lifetime);
            if report.only_others && status != Status::ScopeViolation {
                advice = both(&advice, &never_ours());
                if matches!(status, Status::Ok | Status::CatchingUp | Status::SignInExpiring) {
                    // Nothing is exported: whoever watches the status alone must see it.
                    status = Status::ScopeViolation;
                }
            }
            if let Some(since) = report.quiet_since.filter(|_| !report.only_others) {
                advice = both(&advice, &visible::silence(since));
            }
            if report.counts.get().quarantined > 0 {
                advice = set_aside(report.counts.get().quarantined, &advice);
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
        Err(failure @ RunError::Foreign) if report.only_others => {
            let (status, advice) = failed(failure, report.api);
            (status, both(&advice, &never_ours()))
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
    let Counts { delivered, withheld, .. } = report.counts.get();
    let api = report.api;
    let until = report.position.map(Timestamp::to_the_second);
    let until = until.map_or_else(String::new, |position| format!(" up to {position}"));
    let alerts = counted(delivered, "alert");
    if withheld > 0 {
        return (Status::ScopeViolation, foreign(withheld, report.only_others));
    }
    match (left, lifetime) {
        (left, Some(Lifetime::Expiring(at))) if left.is_complete() => (
            Status::SignInExpiring,
            Advice::new(
                format!(
                    "Alerts are flowing{until}, but the sign-in has not been renewed for weeks and ends on {}.",
                    at.to_the_second()
                ),
                "Sign in again before then, in this app's portal or with `defender-alert-export sign-in`.",
            ),
        ),
        (Left::Nothing, _) if report.read.is_none() && report.counts.get().calls == 0 => {
            not_yet::nothing_settled(report.position, api)
        }
        (Left::Nothing, _) if delivered == 0 && report.counts.get().quarantined > 0 => {
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
            (Status::Ok, Advice::new(format!("{alerts} delivered; complete{until}."), ""))
        }
        (Left::More, _) => (
            Status::CatchingUp,
            Advice::new(
                format!("{alerts} delivered; complete{until}, with newer ones still to come."),
                "Nothing to do: the next runs go on from there.",
            ),
        ),
        (Left::Budget, _) => (
            Status::CatchingUp,
            Advice::new(
                format!(
                    "{alerts} delivered; complete{until}. This trust's calls to {api} are used up for now."
                ),
                AS_CALLS_BECOME_FREE,
            ),
        ),
        (Left::Waiting, _) => (Status::SourceThrottled, throttled(api)),
        (Left::NotYet(later), _) => not_yet::describe(later, report.said.as_ref(), &until, api),
    }
}

/// Said beside what else happened: an analyst does not see these alerts.
fn set_aside(count: u64, also: &Advice) -> Advice {
    let were = if count == 1 { "alert was" } else { "alerts were" };
    let message = format!(
        "{count} {were} set aside: not delivered, but kept whole in the storage container. {}",
        also.message
    );
    let next_step = format!("{REPLAY} {}", also.next_step);
    Advice::new(message, next_step.trim_end())
}

/// Said beside what else happened.
fn overdue(due: Timestamp, also: Advice) -> Advice {
    let message = format!(
        "{} The daily comparison with Defender has been due since {} and is not done.",
        also.message,
        due.to_the_second()
    );
    let next_step = if also.next_step.is_empty() {
        "If this stays, the export has too few calls for it: ask the central team whether FunctionConfigCallsPerHour may be raised, or lower FunctionConfigAuditHours.".to_owned()
    } else {
        also.next_step
    };
    Advice::new(message, next_step)
}
