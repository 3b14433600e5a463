//! A span of the past, exported once beside the live export.
//!
//! ```text
//!          start              end(done)
//! nothing -------> under way -----------> done
//!                  under way --end(cancelled)--> cancelled
//! done, cancelled --start--> under way
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::advice::Advice;
use super::heartbeat::Counts;
use super::ledger::RETENTION;
use super::timestamp::Timestamp;
use super::window::{Window, WindowPolicy};

/// Calls booked at once: few enough that a process that dies keeps few from
/// the live export, and enough for a busy slice.
pub const BOOKED_AT_ONCE: u32 = 8;
/// How long booked calls may be made.
pub const BOOKED_FOR: Duration = Duration::from_mins(5);

/// Windows of a backfill: everything in it has settled, and nothing is read
/// again.
pub const WINDOWS: WindowPolicy = WindowPolicy {
    settle: Duration::ZERO,
    overlap: Duration::ZERO,
    initial_lookback: Duration::ZERO,
    max_advance: Duration::from_hours(6),
    only_last: None,
};

/// What was asked for, and what came of it so far. Stored: the names of its
/// members last.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Job {
    /// The span of `lastUpdateTime`.
    #[serde(flatten)]
    pub span: Span,
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

/// Why a span cannot be backfilled. Nothing was started.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadSpan {
    /// It is empty.
    #[error("--from {} is not before --to {}", .0.from, .0.to)]
    Empty(Span),
    /// Defender has forgotten its beginning.
    #[error(
        "--from {from} is too long ago: Defender keeps alerts for 180 days, so the earliest is {earliest}"
    )]
    Forgotten {
        /// As asked.
        from: Timestamp,
        /// The earliest there is.
        earliest: Timestamp,
    },
    /// The live export will come to its end by itself.
    #[error(
        "--to {to} lies after {position}, up to where the live export has delivered; what is later it brings by itself"
    )]
    AheadOfLive {
        /// As asked.
        to: Timestamp,
        /// The live position.
        position: Timestamp,
    },
}

impl Span {
    /// Whether it can be backfilled at `now`, with the live export at
    /// `position`.
    ///
    /// # Errors
    ///
    /// [`BadSpan`] says why not.
    pub fn check(self, position: Timestamp, now: Timestamp) -> Result<Self, BadSpan> {
        let earliest = now - RETENTION;
        if Window::new(self.from, self.to).is_none() {
            Err(BadSpan::Empty(self))
        } else if self.from < earliest {
            Err(BadSpan::Forgotten { from: self.from, earliest })
        } else if self.to > position {
            Err(BadSpan::AheadOfLive { to: self.to, position })
        } else {
            Ok(self)
        }
    }

    /// Hundredths of the span before `position`, rounded down.
    pub fn percent(self, position: Timestamp) -> u64 {
        let whole = self.to.since(self.from).as_millis().max(1);
        let done = position.min(self.to).since(self.from).as_millis();
        u64::try_from(done.saturating_mul(100) / whole).unwrap_or(100)
    }
}

impl Job {
    /// Asked for by `person`, and nothing done yet.
    pub fn new(span: Span, person: &str, now: Timestamp) -> Self {
        Self {
            span,
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
        self.ended.get_or_insert(Ended { how, at });
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

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time literal")
    }

    fn span(from: &str, to: &str) -> Span {
        Span { from: at(from), to: at(to) }
    }

    #[test]
    fn a_span_lies_within_what_defender_keeps_and_before_the_live_position() {
        let (now, position) = (at("2026-07-01T00:00:00Z"), at("2026-06-30T23:59:00Z"));
        let check = |from, to| span(from, to).check(position, now).map_err(|bad| bad.to_string());
        assert!(check("2026-01-02T00:00:00Z", "2026-06-30T23:59:00Z").is_ok());
        for (from, to, words) in [
            ("2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z", "is not before"),
            ("2026-03-03T00:00:00Z", "2026-03-02T00:00:00Z", "is not before"),
            (
                "2026-01-01T23:59:59Z",
                "2026-03-02T00:00:00Z",
                "the earliest is 2026-01-02T00:00:00Z",
            ),
            ("2026-03-02T00:00:00Z", "2026-06-30T23:59:00.1Z", "brings by itself"),
        ] {
            let said = check(from, to).unwrap_err();
            assert!(said.contains(words), "{said}");
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
            "somebody",
            at("2026-02-01T00:00:00Z"),
        );
        job.end(Ending::Done, at("2026-02-02T00:00:00Z"));
        let text = r#"{"From":"2026-01-01T00:00:00Z","To":"2026-01-11T00:00:00Z","StartedBy":"somebody","StartedAt":"2026-02-01T00:00:00Z","Fetched":0,"Delivered":0,"Duplicates":0,"Withheld":0,"Quarantined":0,"Calls":0,"Ended":{"How":"Done","At":"2026-02-02T00:00:00Z"},"Problem":null}"#;
        assert_eq!(serde_json::to_string(&job).unwrap(), text);
        assert_eq!(serde_json::from_str::<Job>(text).unwrap(), job);
    }
}
