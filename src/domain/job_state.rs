//! How a backfill stands, as people and machines are told.

use serde::Serialize;

use super::advice::Advice;
use super::backfill::{Ended, Ending, Job, Span, Waits};
use super::heartbeat::Counts;
use super::progress::Progress;
use super::timestamp::Timestamp;

/// A job, how far it is, and what comes next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JobState {
    /// What was asked for and done.
    pub job: Job,
    /// Everything of the span before this is delivered.
    pub position: Timestamp,
    /// What comes next.
    pub phase: Phase,
}

/// What comes next for a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// A process is at it.
    Working,
    /// It waits, whoever is at it.
    Waiting(Waits),
    /// Nobody is at it; the next run goes on.
    Next,
    /// The last attempt failed; the next run tries again.
    Failed,
    /// A person must resume it.
    Halted {
        /// Since when.
        since: Timestamp,
    },
    /// The process that is at it ends it before its next page.
    Cancelling,
    /// It has ended.
    Ended(Ended),
}

/// The same for machines.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Told {
    /// `Working`, `Waiting`, `Failed`, `Halted`, `Cancelling`, `Done` or
    /// `Cancelled`.
    phase: &'static str,
    #[serde(flatten)]
    span: Span,
    started_by: String,
    started_at: Timestamp,
    position: Timestamp,
    percent: u64,
    #[serde(flatten)]
    counts: Counts,
    ended_at: Option<Timestamp>,
    message: String,
    next_step: String,
}

impl Waits {
    /// In words, with times as `time` writes them.
    pub fn words(self, time: impl Fn(Timestamp) -> String) -> String {
        match self {
            Self::ForResume { since } => format!(
                "the export has been halted since {}, and nothing leaves until somebody resumes it.",
                time(since)
            ),
            Self::ForLive => "a live run goes first.".to_owned(),
            Self::ForLiveToPass => "what comes next the live export still reads by itself; it goes on once that has gone further.".to_owned(),
            Self::ForCalls { until } => format!(
                "until {}: this hour's calls are used up, but for those left to the live export.",
                time(until)
            ),
            Self::ForSource { until } => {
                format!("until {}: Microsoft asked for fewer calls.", time(until))
            }
        }
    }
}

impl JobState {
    /// Of a job at `progress`, which somebody may want to end, and which waits
    /// for what keeps anybody from going on with it.
    pub fn of(
        job: Job,
        progress: &Progress,
        cancelling: bool,
        waits: Option<Waits>,
        now: Timestamp,
    ) -> Self {
        let held = matches!(progress, Progress::Running { claim, .. } if claim.until > now);
        let phase = match (job.ended, progress, waits) {
            (Some(ended), _, _) => Phase::Ended(ended),
            (None, _, _) if cancelling => Phase::Cancelling,
            (None, Progress::Halted { since, .. }, _) => Phase::Halted { since: *since },
            (None, _, _) if !held && job.problem.is_some() => Phase::Failed,
            (None, _, Some(waits)) => Phase::Waiting(waits),
            (None, _, None) => {
                if held {
                    Phase::Working
                } else {
                    Phase::Next
                }
            }
        };
        let position = match job.ended {
            Some(Ended { how: Ending::Done, .. }) => job.span.to,
            Some(Ended { how: Ending::Cancelled, .. }) | None => progress.position(),
        };
        Self { job, position, phase }
    }

    /// Hundredths of the span that are delivered, rounded down.
    pub fn percent(&self) -> u64 {
        self.job.span.percent(self.position)
    }

    /// Whether it does not go on, or not well, until a person has acted.
    pub fn needs_a_person(&self) -> bool {
        matches!(self.phase, Phase::Failed | Phase::Halted { .. })
    }

    /// What a person is told who did not ask.
    pub fn trouble(&self) -> Option<Advice> {
        let Span { from, to } = self.job.span;
        let message = self.message(|at| at.to_the_second().to_string());
        let (from, to) = (from.to_the_second(), to.to_the_second());
        let message = format!("The backfill from {from} to {to} does not go on. {message}");
        self.needs_a_person().then(|| Advice::new(message, self.next_step()))
    }

    /// What comes next, in words, with times as `time` writes them.
    pub fn message(&self, time: impl Fn(Timestamp) -> String) -> String {
        match (self.phase, &self.job.problem) {
            (Phase::Working, _) => "A run is working on it.".to_owned(),
            (Phase::Waiting(waits), _) => format!("It waits: {}", waits.words(time)),
            (Phase::Failed, Some(problem)) => {
                format!("The last attempt, {}, failed: {}", time(problem.at), problem.message)
            }
            (Phase::Next | Phase::Failed, _) => {
                "It goes on with the next run that has brought everything new.".to_owned()
            }
            (Phase::Halted { since }, _) => format!(
                "Halted since {}: an alert of another device group was met, and FunctionConfigScopeGuard is `halt`.",
                time(since)
            ),
            (Phase::Cancelling, _) => {
                "It was cancelled, and ends before the next page is asked for.".to_owned()
            }
            (Phase::Ended(Ended { how: Ending::Done, at, .. }), _) => {
                format!(
                    "Done on {}: everything of it is delivered, met before, or set aside.",
                    time(at)
                )
            }
            (Phase::Ended(Ended { how: Ending::Cancelled, at, .. }), _) => {
                format!("Cancelled on {}. What it delivered stays delivered.", time(at))
            }
        }
    }

    /// What a person should do; empty when nothing.
    pub fn next_step(&self) -> &str {
        match (self.phase, &self.job.problem) {
            (Phase::Failed, Some(problem)) => &problem.next_step,
            (Phase::Halted { .. }, _) => {
                "Find out why the account sees other groups and have it put right, or correct FunctionConfigDeviceGroups. Then resume, or cancel the backfill. Do either in this app's portal, or with `defender-alert-export resume` or `defender-alert-export backfill --cancel`."
            }
            (
                Phase::Working
                | Phase::Waiting(_)
                | Phase::Next
                | Phase::Failed
                | Phase::Cancelling
                | Phase::Ended(_),
                _,
            ) => "",
        }
    }

    /// For machines.
    pub fn told(&self) -> Told {
        let Job { span, started_by, started_at, counts, ended, .. } = &self.job;
        Told {
            phase: match self.phase {
                Phase::Working => "Working",
                Phase::Waiting(_) | Phase::Next => "Waiting",
                Phase::Failed => "Failed",
                Phase::Halted { .. } => "Halted",
                Phase::Cancelling => "Cancelling",
                Phase::Ended(Ended { how: Ending::Done, .. }) => "Done",
                Phase::Ended(Ended { how: Ending::Cancelled, .. }) => "Cancelled",
            },
            span: *span,
            started_by: started_by.clone(),
            started_at: *started_at,
            position: self.position,
            percent: self.percent(),
            counts: *counts,
            ended_at: ended.map(|ended| ended.at),
            message: self.message(|at| at.to_the_second().to_string()),
            next_step: self.next_step().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::backfill::Known;
    use super::*;
    use crate::domain::progress::Claim;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_unix_seconds(hour * 3_600)
    }

    fn job() -> Job {
        Job::new(Span { from: at(0), to: at(100) }, Known::PassedOver, "jane", at(200))
    }

    fn failed() -> Job {
        let mut job = job();
        job.held_up(Advice::new("No role.", "Give it the role."), at(201));
        job
    }

    fn ended(how: Ending) -> Job {
        let mut job = failed();
        job.end(how, at(203));
        job
    }

    fn held(until: i64) -> Progress {
        let claim = Claim { run: "r".to_owned(), instance: "i".to_owned(), until: at(until) };
        Progress::Running { position: at(40), claim }
    }

    #[test]
    fn what_comes_next_is_told_in_one_word_and_one_sentence() {
        let idle = Progress::Idle { position: at(40) };
        let halted = Progress::Halted { position: at(40), since: at(202), scope: String::new() };
        let calls = Some(Waits::ForCalls { until: at(205) });
        let now = at(204);
        for (job, progress, cancelling, waits, word, sentence, person) in [
            (job(), &idle, false, None, "Waiting", "next run that has brought everything", false),
            (job(), &idle, false, calls, "Waiting", "It waits: until 1970-01-09T13:00:00Z", false),
            (job(), &held(205), false, None, "Working", "working on it", false),
            (job(), &held(204), false, None, "Waiting", "next run", false),
            (
                job(),
                &held(205),
                false,
                Some(Waits::ForLive),
                "Waiting",
                "a live run goes first",
                false,
            ),
            (job(), &held(205), true, calls, "Cancelling", "before the next page", false),
            (
                failed(),
                &idle,
                false,
                calls,
                "Failed",
                "1970-01-09T09:00:00Z, failed: No role.",
                true,
            ),
            (failed(), &held(205), false, None, "Working", "working on it", false),
            (failed(), &halted, false, None, "Halted", "since 1970-01-09T10:00:00Z", true),
            (
                ended(Ending::Done),
                &idle,
                false,
                calls,
                "Done",
                "Done on 1970-01-09T11:00:00Z",
                false,
            ),
            (ended(Ending::Cancelled), &halted, true, None, "Cancelled", "stays delivered", false),
        ] {
            let state = JobState::of(job, progress, cancelling, waits, now);
            let told = state.told();
            assert_eq!((told.phase, state.needs_a_person()), (word, person), "{told:?}");
            assert!(told.message.contains(sentence), "{told:?}");
            assert_eq!(told.next_step.is_empty(), !person, "{told:?}");
            assert_eq!(state.trouble().is_some(), person, "{told:?}");
            let percent = if word == "Done" { 100 } else { 40 };
            assert_eq!(told.percent, percent, "{told:?}");
        }
    }

    /// What `status --json` and `status.json` promise, letter by letter.
    #[test]
    fn the_form_for_machines_is_stable() {
        let state = JobState::of(ended(Ending::Cancelled), &held(0), false, None, at(204));
        assert_eq!(
            serde_json::to_string(&state.told()).unwrap(),
            r#"{"Phase":"Cancelled","From":"1970-01-01T00:00:00Z","To":"1970-01-05T04:00:00Z","StartedBy":"jane","StartedAt":"1970-01-09T08:00:00Z","Position":"1970-01-02T16:00:00Z","Percent":40,"Fetched":0,"Delivered":0,"Duplicates":0,"Withheld":0,"Quarantined":0,"Calls":0,"EndedAt":"1970-01-09T11:00:00Z","Message":"Cancelled on 1970-01-09T11:00:00Z. What it delivered stays delivered.","NextStep":""}"#
        );
    }
}
