//! Whether alerts are flowing, in one sentence, and what to do if not.

use std::collections::BTreeSet;
use std::time::Duration;

use super::words::{count, span, time};
use super::{Export, Facts, Fault};
use crate::domain::advice::{Advice, REPLAY};
use crate::domain::checkpoint::Checkpoint;
use crate::domain::heartbeat::{Status, Unsent};
use crate::domain::job_state::JobState;
use crate::domain::progress::Progress;
use crate::domain::runs::PastRun;
use crate::domain::standing::Standing;
use crate::domain::visible;

/// A target that had everything so long before a run ended is up to date: what
/// is younger had not settled, or the run itself took as long.
const UP_TO_DATE: Duration = Duration::from_mins(30);

/// How the export stands, as a whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flow {
    /// Alerts arrive, and nothing needs a person.
    Flowing,
    /// Alerts arrive or soon will, and a person should look.
    Attention,
    /// Alerts do not arrive.
    Stopped,
}

/// The sentence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Verdict {
    pub(super) flow: Flow,
    pub(super) advice: Advice,
}

impl Verdict {
    pub(super) fn of(facts: &Facts) -> Self {
        match &facts.export {
            Some(export) if facts.faults.is_empty() => of_export(export, facts),
            Some(_) | None => stopped(
                format!("{} to be corrected.", settings(&facts.faults)),
                "Correct what is listed below in the Function App's settings. Nothing is lost meanwhile: the export goes on from where it stopped.",
            ),
        }
    }
}

/// One setting may have several faults.
fn settings(faults: &[Fault]) -> String {
    let names: BTreeSet<_> = faults.iter().map(|fault| &fault.name).collect();
    let number = u64::try_from(names.len()).unwrap_or(u64::MAX);
    format!("{} {}", count(number, "setting"), if number == 1 { "has" } else { "have" })
}

fn of_export(export: &Export, facts: &Facts) -> Verdict {
    let checkpoint = match &export.checkpoint {
        Err(advice) => return stopped(&advice.message, &advice.next_step),
        Ok(checkpoint) => checkpoint,
    };
    if let Some(Checkpoint { progress: Progress::Halted { .. }, .. }) = checkpoint {
        return stopped(
            "the export was halted, because alerts of another device group were met.",
            "Find out why the account sees other groups and have it put right, or correct FunctionConfigDeviceGroups. Then press Resume.",
        );
    }
    let standing = match &export.sign_in {
        Err(advice) => return stopped(&advice.message, &advice.next_step),
        Ok(standing) => standing,
    };
    let Some(working) = standing.working() else {
        return match standing {
            Standing::Refused { advice, .. } => stopped(&advice.message, &advice.next_step),
            Standing::Pending { .. } => stopped(
                "a sign-in is under way and not finished.",
                "Finish it on the device where it was started, or cancel it.",
            ),
            Standing::SignedOut | Standing::SignedIn(_) => stopped(
                "nobody is signed in.",
                "Press Sign in, and sign in with the trust's export account.",
            ),
        };
    };
    let runs = match &export.runs {
        Err(advice) => return stopped(&advice.message, &advice.next_step),
        Ok(runs) => runs,
    };
    let silent = |since| export.due.is_silent(since, facts.now);
    match export.last_run.as_ref() {
        Some(last) if last.at >= working.since && !silent(last.at) => {
            let news = News::of(runs);
            let verdict = unheard(export.unsent.as_ref(), after(last, export, news), news);
            let verdict = set_aside(verdict, runs, news);
            beside(verdict, export.backfill.as_ref().ok().and_then(Option::as_ref), news)
        }
        // Signed in after the last run: the next one has not come yet.
        _ if !silent(working.since) => Verdict {
            flow: Flow::Attention,
            advice: Advice::new(
                "Signed in; alerts start to flow with the next run.",
                next_run(export, facts),
            ),
        },
        last => {
            let silent = last.map_or_else(
                || "for a day".to_owned(),
                |last| format!("for {}", span(facts.now.since(last.at).as_secs())),
            );
            stopped(
                format!("no run has ended {silent}."),
                "Check in the Azure portal that the Function App is running and that the function timer_export is enabled.",
            )
        }
    }
}

fn next_run(export: &Export, facts: &Facts) -> String {
    let due = export.due.next(facts.now);
    let due = due.map_or_else(String::new, |due| format!(" The next run is due at {}.", time(due)));
    format!("Nothing to do: this page shows it.{due}")
}

/// Whether the last 24 hours brought an alert. Where none came, nothing flows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum News {
    Some,
    None,
}

impl News {
    fn of(runs: &[PastRun]) -> Self {
        if runs.iter().any(|run| run.counts.delivered > 0) { Self::Some } else { Self::None }
    }

    /// What is well, in front of what is not.
    fn well(self) -> &'static str {
        match self {
            Self::Some => "Alerts are flowing",
            Self::None => "The export is working",
        }
    }
}

/// What flows is said first; then what does not go on beside it.
fn beside(verdict: Verdict, backfill: Option<&JobState>, news: News) -> Verdict {
    match backfill.filter(|it| verdict.flow == Flow::Flowing && it.needs_a_person()) {
        Some(backfill) => Verdict {
            flow: Flow::Attention,
            advice: Advice::new(
                format!("{}, but the backfill below does not go on.", news.well()),
                backfill.next_step(),
            ),
        },
        None => verdict,
    }
}

/// Monitoring does not see this deployment.
fn unheard(unsent: Option<&Unsent>, verdict: Verdict, news: News) -> Verdict {
    match unsent {
        Some(unsent) if verdict.flow == Flow::Flowing => Verdict {
            flow: Flow::Attention,
            advice: Advice::new(
                format!("{}, but {}", news.well(), unsent.message()),
                unsent.advice.next_step.as_str(),
            ),
        },
        Some(_) | None => verdict,
    }
}

/// Analysts do not see what a target refused.
fn set_aside(verdict: Verdict, runs: &[PastRun], news: News) -> Verdict {
    let aside: u64 = runs.iter().map(|run| run.counts.quarantined).sum();
    if verdict.flow != Flow::Flowing || aside == 0 {
        return verdict;
    }
    let were = if aside == 1 { "was" } else { "were" };
    let message = format!(
        "{}, but {} of the last 24 hours {were} refused and set aside.",
        news.well(),
        count(aside, "alert")
    );
    Verdict { flow: Flow::Attention, advice: Advice::new(message, REPLAY) }
}

fn after(last: &PastRun, export: &Export, news: News) -> Verdict {
    if export.only_others && last.status.did_its_duty() && last.status != Status::SignInNeeded {
        return stopped(
            "every alert met so far is of device groups that FunctionConfigDeviceGroups does not name, or of no group.",
            &visible::compare_names(),
        );
    }
    let flowing = |flow, message: String| Verdict {
        flow,
        advice: Advice::new(message, last.next_step.as_str()),
    };
    let well = news.well();
    match last.status {
        Status::Ok | Status::Reconciled => {
            let nothing = match news {
                News::Some => "",
                News::None => "; no new alert in the last 24 hours",
            };
            if last.next_step.is_empty() {
                flowing(Flow::Flowing, format!("{well}{nothing}."))
            } else {
                let said = &last.message;
                flowing(Flow::Attention, format!("{well}{nothing}. The last run says: {said}"))
            }
        }
        Status::CatchingUp => {
            flowing(Flow::Flowing, format!("{well}; older alerts are still being fetched."))
        }
        Status::SignInExpiring => {
            flowing(Flow::Attention, format!("{well}, but the sign-in ends soon."))
        }
        Status::ScopeViolation => flowing(
            Flow::Attention,
            format!("{well}; alerts of other device groups were met and withheld."),
        ),
        Status::SourceThrottled => flowing(
            Flow::Attention,
            "Alerts are held up: Defender asked for fewer calls, and the export goes on by itself."
                .to_owned(),
        ),
        Status::SinkFailed => match export.live().and_then(|live| left_behind(live, last)) {
            Some(names) => flowing(
                Flow::Attention,
                format!("{well} to the other targets, but not to {names}. {}", last.message),
            ),
            None => stopped(&last.message, &last.next_step),
        },
        Status::SignInNeeded
        | Status::Halted
        | Status::SourceFailed
        | Status::StorageFailed
        | Status::ConfigInvalid => stopped(&last.message, &last.next_step),
    }
}

/// The targets that are behind, if another had everything when `last` ended.
fn left_behind(live: &Checkpoint, last: &PastRun) -> Option<String> {
    let up_to_date = live.reached.furthest().filter(|at| last.at.since(*at) < UP_TO_DATE)?;
    let behind = live.reached.by_target().iter().filter(|(_, at)| **at < up_to_date);
    let behind: Vec<_> = behind.map(|(name, _)| name.as_str()).collect();
    (!behind.is_empty()).then(|| behind.join(" and "))
}

fn stopped(why: impl AsRef<str>, next_step: &str) -> Verdict {
    let message = format!("Alerts are not flowing: {}", why.as_ref());
    Verdict { flow: Flow::Stopped, advice: Advice::new(message, next_step) }
}
