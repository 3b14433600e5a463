//! A span of the past, exported once beside the live export.
//!
//! ```text
//!          start              end(done)
//! nothing -------> under way -----------> done
//!                  under way --end(cancelled)--> cancelled
//! done, cancelled --start--> under way
//! ```

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::advice::Advice;
use super::checkpoint::Checkpoint;
use super::heartbeat::Counts;
use super::ledger::RETENTION;
use super::timestamp::{BadTimestamp, Timestamp};
use super::window::{Window, WindowPolicy, slice};

/// Calls booked at once: few enough that a process that dies keeps few from
/// the live export, and enough for a busy slice.
pub const BOOKED_AT_ONCE: u32 = 8;
const MINUTE: Duration = Duration::from_mins(1);
/// How long booked calls may be made.
pub const BOOKED_FOR: Duration = Duration::from_mins(5);

/// How long the heartbeat of an end may be on its way.
const TOLD_WITHIN: Duration = Duration::from_mins(10);

/// Whether `calls` an hour are so few that each should bring as much as it can.
pub fn are_few(calls: u32) -> bool {
    calls < BOOKED_AT_ONCE
}

/// Windows of a backfill that may make `calls` an hour: everything in it has
/// settled, and nothing is read again. Six hours where calls are plenty, a week
/// where there is one.
pub fn windows(calls: u32) -> WindowPolicy {
    WindowPolicy {
        settle: Duration::ZERO,
        overlap: Duration::ZERO,
        initial_lookback: Duration::ZERO,
        max_advance: slice(calls),
        only_last: None,
    }
}

/// What a process that holds a job may have on its way: the slice at hand, of
/// whichever target it is for.
pub fn at_hand(job: &Checkpoint) -> Option<Window> {
    let position = job.progress.position();
    let furthest = job.reached.furthest().unwrap_or(position).max(position);
    Window::new(position, furthest + windows(job.budget.beside_live()).max_advance)
}

/// What was asked for, and what came of it so far. Stored: the names of its
/// members last.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Job {
    /// The span of `lastUpdateTime`.
    #[serde(flatten)]
    pub span: Span,
    /// What becomes of what was delivered before.
    #[serde(default, skip_serializing_if = "Known::is_usual")]
    pub known: Known,
    /// Who asked for it.
    pub started_by: String,
    /// When.
    pub started_at: Timestamp,
    /// What was done.
    #[serde(flatten)]
    pub counts: Counts,
    /// How it ended; `None` while it is under way.
    pub ended: Option<Ended>,
    /// What holds it up; `None` once it goes on.
    pub problem: Option<Problem>,
}

/// From when to when; `from` is in, `to` is out.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Span {
    /// First instant inside.
    pub from: Timestamp,
    /// First instant after.
    pub to: Timestamp,
}

/// The end of a job.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ended {
    /// How.
    pub how: Ending,
    /// When.
    pub at: Timestamp,
    /// Whether its heartbeat was sent, or kept to be sent.
    #[serde(default = "yes")]
    pub told: bool,
}

/// Of ends that were saved before that was noted.
fn yes() -> bool {
    true
}

impl Ended {
    /// Whether nobody will tell of it who has not by now: the process at whose
    /// end it was is gone.
    pub fn is_left_untold(&self, now: Timestamp) -> bool {
        !self.told && now.since(self.at) > TOLD_WITHIN
    }
}

/// How a job ends.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Ending {
    /// All of it is delivered or set aside.
    Done,
    /// A person did not want the rest.
    Cancelled,
}

/// Why a job does not go on, in words.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Problem {
    /// What happened.
    pub message: String,
    /// What a person should do; empty when nothing.
    pub next_step: String,
    /// When.
    pub at: Timestamp,
}

/// What becomes of alerts that the export remembers delivering.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Known {
    /// They are passed over.
    #[default]
    PassedOver,
    /// They are sent once more: a target lost what it had accepted.
    SentAgain,
}

impl Known {
    /// As a person chose.
    pub fn chosen(again: bool) -> Self {
        if again { Self::SentAgain } else { Self::PassedOver }
    }

    /// As every job of earlier versions.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
    fn is_usual(&self) -> bool {
        *self == Self::PassedOver
    }
}

/// What a job waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waits {
    /// The live export is halted: nothing may leave until it is resumed.
    ForResume {
        /// Since when it is halted.
        since: Timestamp,
    },
    /// A live run is at it.
    ForLive,
    /// The live export reads again what comes next, or has yet to come there.
    ForLiveToPass,
    /// This hour's calls, but those left to the live export, are used up.
    ForCalls {
        /// When one is free.
        until: Timestamp,
    },
    /// The source asked for fewer calls.
    ForSource {
        /// When it may be called.
        until: Timestamp,
    },
}

/// Why a span cannot be backfilled. Nothing was started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadSpan {
    /// It is empty.
    Empty(Span),
    /// Defender has forgotten its beginning.
    Forgotten {
        /// As asked.
        from: Timestamp,
        /// The earliest whole minute there is.
        earliest: Timestamp,
    },
    /// The live export reads its end again, or has yet to come there.
    AheadOfLive {
        /// As asked.
        to: Timestamp,
        /// The last whole minute that it leaves to a backfill.
        latest: Timestamp,
    },
    /// As above, but it reads only the last minutes: what lies between may
    /// never come by itself.
    BesideLastMinutes {
        /// As asked.
        to: Timestamp,
        /// The last whole minute that is left to a backfill.
        latest: Timestamp,
    },
}

impl Span {
    /// Whether it can be backfilled at `now`, beside a live export at `position`
    /// that reads on, and again, as `windows` say. Of two who read the same at
    /// once neither would know what the other sends.
    ///
    /// # Errors
    ///
    /// [`BadSpan`] says why not.
    pub fn check(
        self,
        windows: &WindowPolicy,
        position: Timestamp,
        now: Timestamp,
    ) -> Result<Self, BadSpan> {
        let Self { from, to } = self;
        let within = Self::possible(windows, position, now);
        if Window::new(from, to).is_none() {
            Err(BadSpan::Empty(self))
        } else if from < now - RETENTION {
            Err(BadSpan::Forgotten { from, earliest: within.from })
        } else if to > windows.rereads_from(position) {
            let latest = within.to;
            Err(match windows.only_last {
                None => BadSpan::AheadOfLive { to, latest },
                Some(_) => BadSpan::BesideLastMinutes { to, latest },
            })
        } else {
            Ok(self)
        }
    }

    /// The longest that can be backfilled at `now`, in whole minutes; nothing
    /// of it passes before the next minute begins.
    pub fn possible(windows: &WindowPolicy, position: Timestamp, now: Timestamp) -> Self {
        let earliest = (now - RETENTION).floor(MINUTE);
        let from = if earliest < now - RETENTION { earliest + MINUTE } else { earliest };
        Self { from, to: windows.rereads_from(position).floor(MINUTE) }
    }

    /// Hundredths of the span before `position`, rounded down.
    pub fn percent(self, position: Timestamp) -> u64 {
        let whole = self.to.since(self.from).as_millis().max(1);
        let done = position.min(self.to).since(self.from).as_millis();
        u64::try_from(done.saturating_mul(100) / whole).unwrap_or(100)
    }
}

/// An edge of a span as people write it: `2026-01-31T09:30:00Z`, the same
/// without seconds or without `Z`, and `2026-01-31` for its first instant. All
/// are UTC.
///
/// # Errors
///
/// [`BadTimestamp`] for any other text.
pub fn edge(text: &str) -> Result<Timestamp, BadTimestamp> {
    let text = text.trim();
    let utc = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let forms =
        [text.to_owned(), format!("{utc}Z"), format!("{utc}:00Z"), format!("{utc}T00:00:00Z")];
    forms.iter().find_map(|form| form.parse().ok()).ok_or(BadTimestamp)
}

impl BadSpan {
    /// What is wrong, with times as `time` writes them.
    pub fn words(self, time: impl Fn(Timestamp) -> String) -> String {
        match self {
            Self::Empty(Span { from, to }) => {
                format!("the beginning, {}, is not before the end, {}", time(from), time(to))
            }
            Self::Forgotten { from, earliest } => format!(
                "the beginning, {}, is too long ago: Defender keeps alerts for 180 days, so the earliest is {}",
                time(from),
                time(earliest)
            ),
            Self::AheadOfLive { to, latest } => format!(
                "the end, {}, lies after {}, up to where the live export no longer reads again; what is later it brings by itself",
                time(to),
                time(latest)
            ),
            Self::BesideLastMinutes { to, latest } => format!(
                "the end, {}, lies after {}, up to where a backfill can go while FunctionConfigUse_last_saved_time is off; what was missed after that does not come by itself",
                time(to),
                time(latest)
            ),
        }
    }
}

impl fmt::Display for BadSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(|at| at.to_string()))
    }
}

impl Error for BadSpan {}

impl Job {
    /// Asked for by `person`, and nothing done yet.
    pub fn new(span: Span, known: Known, person: &str, now: Timestamp) -> Self {
        Self {
            span,
            known,
            started_by: person.to_owned(),
            started_at: now,
            counts: Counts::default(),
            ended: None,
            problem: None,
        }
    }

    /// Whether there is something left to do.
    pub fn is_under_way(&self) -> bool {
        self.ended.is_none()
    }

    /// Ends it. What has ended stays as it ended.
    pub fn end(&mut self, how: Ending, at: Timestamp) {
        self.ended.get_or_insert(Ended { how, at, told: false });
        self.problem = None;
    }

    /// Something holds it up since `at`.
    pub fn held_up(&mut self, advice: Advice, at: Timestamp) {
        let Advice { message, next_step } = advice;
        self.problem = Some(Problem { message, next_step, at });
    }
}

impl Counts {
    /// Both together.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        Self {
            fetched: self.fetched.saturating_add(more.fetched),
            delivered: self.delivered.saturating_add(more.delivered),
            duplicates: self.duplicates.saturating_add(more.duplicates),
            withheld: self.withheld.saturating_add(more.withheld),
            quarantined: self.quarantined.saturating_add(more.quarantined),
            calls: self.calls.saturating_add(more.calls),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: WindowPolicy = WindowPolicy::DEFAULT;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time literal")
    }

    fn span(from: &str, to: &str) -> Span {
        Span { from: at(from), to: at(to) }
    }

    #[test]
    fn a_span_lies_within_what_defender_keeps_and_before_what_the_live_export_reads_again() {
        let (now, position) = (at("2026-07-01T00:00:00Z"), at("2026-06-30T23:59:00Z"));
        let check =
            |from, to| span(from, to).check(&WINDOWS, position, now).map_err(|bad| bad.to_string());
        assert!(check("2026-01-02T00:00:00Z", "2026-06-30T23:29:00Z").is_ok());
        for (from, to, words) in [
            ("2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z", "is not before"),
            ("2026-03-03T00:00:00Z", "2026-03-02T00:00:00Z", "is not before"),
            (
                "2026-01-01T23:59:59Z",
                "2026-03-02T00:00:00Z",
                "the earliest is 2026-01-02T00:00:00Z",
            ),
            (
                "2026-03-02T00:00:00Z",
                "2026-06-30T23:29:00.1Z",
                "lies after 2026-06-30T23:29:00Z, up to where the live export no longer reads again",
            ),
        ] {
            let said = check(from, to).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn what_is_named_as_possible_is_possible_and_in_whole_minutes() {
        let (now, position) = (at("2026-07-01T00:00:00.5Z"), at("2026-06-30T23:58:59.7Z"));
        let named = Span::possible(&WINDOWS, position, now);
        assert_eq!(named, span("2026-01-02T00:01:00Z", "2026-06-30T23:28:00Z"));
        assert_eq!(named.check(&WINDOWS, position, now), Ok(named));
        let (earliest, latest) = (named.from - Duration::from_mins(1), named.to + MINUTE);
        for (from, to) in [(earliest, named.to), (named.from, latest)] {
            let said = Span { from, to }.check(&WINDOWS, position, now).unwrap_err().to_string();
            assert!(said.contains(":01:00Z") || said.contains(":28:00Z"), "{said}");
        }
    }

    #[test]
    fn where_only_the_last_minutes_are_read_nobody_is_told_that_the_rest_comes_by_itself() {
        let (now, position) = (at("2026-07-01T00:00:00Z"), at("2026-06-30T20:00:00Z"));
        let windows = WindowPolicy { only_last: Some(Duration::from_mins(5)), ..WINDOWS };
        let asked = span("2026-06-30T18:00:00Z", "2026-06-30T23:00:00Z");
        let said = asked.check(&windows, position, now).unwrap_err().to_string();
        assert!(said.contains("lies after 2026-06-30T18:45:00Z"), "{said}");
        assert!(said.contains("FunctionConfigUse_last_saved_time is off"), "{said}");
        assert!(said.ends_with("does not come by itself"), "{said}");
    }

    #[test]
    fn edges_are_utc_however_people_write_them() {
        for text in [
            "2026-01-31T09:30:00Z",
            "2026-01-31T09:30:00",
            "2026-01-31T09:30Z",
            "2026-01-31T09:30",
            " 2026-01-31T10:30:00+01:00 ",
        ] {
            assert_eq!(edge(text), Ok(at("2026-01-31T09:30:00Z")), "{text}");
        }
        assert_eq!(edge("2026-01-31"), Ok(at("2026-01-31T00:00:00Z")));
        for text in ["", "yesterday", "31/01/2026", "2026-02-30", "2026-01-31T25:00"] {
            assert_eq!(edge(text), Err(BadTimestamp), "{text}");
        }
    }

    #[test]
    fn how_far_it_is_never_passes_a_hundred() {
        let span = span("2026-01-01T00:00:00Z", "2026-01-11T00:00:00Z");
        for (position, percent) in [
            ("2025-12-31T00:00:00Z", 0),
            ("2026-01-01T00:00:00Z", 0),
            ("2026-01-04T12:00:00Z", 35),
            ("2026-01-11T00:00:00Z", 100),
            ("2026-02-11T00:00:00Z", 100),
        ] {
            assert_eq!(span.percent(at(position)), percent, "{position}");
        }
    }

    #[test]
    fn the_stored_form_is_stable() {
        let mut job = Job::new(
            span("2026-01-01T00:00:00Z", "2026-01-11T00:00:00Z"),
            Known::PassedOver,
            "somebody",
            at("2026-02-01T00:00:00Z"),
        );
        job.end(Ending::Done, at("2026-02-02T00:00:00Z"));
        let text = r#"{"From":"2026-01-01T00:00:00Z","To":"2026-01-11T00:00:00Z","StartedBy":"somebody","StartedAt":"2026-02-01T00:00:00Z","Fetched":0,"Delivered":0,"Duplicates":0,"Withheld":0,"Quarantined":0,"Calls":0,"Ended":{"How":"Done","At":"2026-02-02T00:00:00Z","Told":false},"Problem":null}"#;
        assert_eq!(serde_json::to_string(&job).unwrap(), text);
        assert_eq!(serde_json::from_str::<Job>(text).unwrap(), job);
        let earlier = text.replace(r#","Told":false"#, "");
        let earlier: Job = serde_json::from_str(&earlier).unwrap();
        assert!(earlier.ended.unwrap().told, "of a version that did not note it");
    }
}
