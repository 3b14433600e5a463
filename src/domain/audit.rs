//! The daily comparison with the source: whether all it shows of the last days
//! was delivered.
//!
//! The live runs read by update time and never look back further than the
//! overlap. What surfaces later than that, or becomes visible without a new
//! time, as when a device is moved into the group, is found here.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ledger::Digest;
use super::timestamp::Timestamp;
use super::window::Window;

/// How often.
const EVERY: Duration = Duration::from_hours(24);
/// How much later than due is too late.
const LATE: Duration = Duration::from_hours(48);
/// How much longer than it reaches back deliveries are remembered: an audit
/// that has few calls an hour may take so long.
const SLACK: Duration = EVERY;
/// Spans read whole in one go at most.
const SPANS: usize = 20;
/// Times no further apart than this are read in one span.
const TOGETHER: Duration = Duration::from_mins(1);

/// How far back, and when in the day.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AuditPolicy {
    reach: Duration,
    offset: Duration,
}

/// How the audit of a deployment stands. Stored between runs.
///
/// ```text
///            begin                     finish
/// Resting ------------> UnderWay ------------------> Resting
///                       UnderWay --through--> UnderWay
/// ```
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Audit {
    /// None is under way.
    Resting {
        /// When the last one ended; before the first, when they began to count.
        since: Timestamp,
    },
    /// One is, perhaps over several runs.
    UnderWay {
        /// When it fell due.
        due: Timestamp,
        /// What it compares.
        span: Window,
        /// Everything before this is compared.
        through: Timestamp,
        /// What was found so far.
        found: Found,
    },
}

/// What an audit found.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Found {
    /// Alerts of ours that the source shows.
    pub counted: u64,
    /// Of those, delivered now because they had not been.
    pub repaired: u64,
    /// Of those, set aside now because no target takes them.
    pub quarantined: u64,
    /// Calls made to the source.
    pub calls: u64,
}

/// An audit that came to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reconciled {
    /// What was compared.
    pub span: Window,
    /// What was found.
    pub found: Found,
}

impl AuditPolicy {
    /// Of `trust`, so far back; `None` if that is nothing.
    ///
    /// The time of day follows from the trust's name: of a fleet, a few begin
    /// in each minute.
    pub fn new(reach: Duration, trust: &str) -> Option<Self> {
        let minutes = u64::from_str_radix(Digest::of(trust).hex().get(..8)?, 16).ok()? % 1_440;
        (reach > Duration::ZERO).then_some(Self { reach, offset: Duration::from_mins(minutes) })
    }

    /// How far before the position deliveries must be remembered.
    pub fn memory(&self) -> Duration {
        self.reach + SLACK
    }

    /// The audit to begin or go on with, if one is due at `now`: of what lies
    /// before `end`, and not before `whole_from`, from where on the ledger knows
    /// every delivery.
    pub fn next(
        &self,
        audit: Audit,
        whole_from: Timestamp,
        end: Timestamp,
        now: Timestamp,
    ) -> Option<Audit> {
        let anew = |due| {
            let span = Window::new(whole_from.max(end - self.reach), end)?;
            let through = span.start();
            Some(Audit::UnderWay { due, span, through, found: Found::default() })
        };
        match audit {
            Audit::Resting { since } => {
                let due = self.after(since);
                (due <= now).then(|| anew(due)).flatten()
            }
            // It took so long that the ledger has begun to forget.
            Audit::UnderWay { due, through, .. } if through < whole_from => anew(due),
            Audit::UnderWay { .. } => Some(audit),
        }
    }

    /// Since when an audit is due, if that is more than two days ago.
    pub fn overdue(&self, audit: Audit, now: Timestamp) -> Option<Timestamp> {
        let due = match audit {
            Audit::Resting { since } => self.after(since),
            Audit::UnderWay { due, .. } => due,
        };
        (now.since(due) > LATE).then_some(due)
    }

    /// The first time after `at` at which one falls due.
    fn after(&self, at: Timestamp) -> Timestamp {
        (at - self.offset).floor(EVERY) + EVERY + self.offset
    }
}

impl Audit {
    /// What is still to be compared; `None` if nothing is, or none is under way.
    pub fn rest(&self) -> Option<Window> {
        match self {
            Self::Resting { .. } => None,
            Self::UnderWay { span, through, .. } => span.from(*through),
        }
    }

    /// What a clock that ran ahead has noted counts as noted now: the next one
    /// is not put off until then.
    #[must_use]
    pub fn no_later_than(self, now: Timestamp) -> Self {
        match self {
            Self::Resting { since } => Self::Resting { since: since.min(now) },
            Self::UnderWay { due, span, through, found } => {
                Self::UnderWay { due: due.min(now), span, through, found }
            }
        }
    }

    /// Everything before `to` is compared, with `found` in it.
    #[must_use]
    pub fn through(self, to: Timestamp, more: Found) -> Self {
        match self {
            Self::Resting { .. } => self,
            Self::UnderWay { due, span, through, found } => {
                let found = Found {
                    counted: found.counted + more.counted,
                    repaired: found.repaired + more.repaired,
                    quarantined: found.quarantined + more.quarantined,
                    calls: found.calls + more.calls,
                };
                Self::UnderWay { due, span, through: to.max(through), found }
            }
        }
    }

    /// The end of one that is under way and has nothing left to compare.
    pub fn finish(self, now: Timestamp) -> Option<(Self, Reconciled)> {
        match self {
            Self::UnderWay { span, found, .. } if self.rest().is_none() => {
                Some((Self::Resting { since: now }, Reconciled { span, found }))
            }
            Self::Resting { .. } | Self::UnderWay { .. } => None,
        }
    }
}

/// Spans that hold all of `times`: few, and with little in between.
pub fn spans(times: &BTreeSet<Timestamp>) -> Vec<Window> {
    let pairs = times.iter().zip(times.iter().skip(1));
    let mut gaps: Vec<_> = pairs
        .map(|(one, next)| (next.since(*one), *next))
        .filter(|(gap, _)| *gap > TOGETHER)
        .collect();
    gaps.sort_unstable_by(|one, other| other.cmp(one));
    gaps.truncate(SPANS - 1);
    let starts: BTreeSet<_> = gaps.into_iter().map(|(_, next)| next).collect();
    let mut spans = Vec::new();
    let mut open: Option<(Timestamp, Timestamp)> = None;
    for time in times {
        open = match open {
            Some((start, last)) if starts.contains(time) => {
                spans.extend(Window::new(start, last.next_tick()));
                Some((*time, *time))
            }
            Some((start, _)) => Some((start, *time)),
            None => Some((*time, *time)),
        };
    }
    spans.extend(open.and_then(|(start, last)| Window::new(start, last.next_tick())));
    spans
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time literal")
    }

    fn policy(offset_hours: u32) -> AuditPolicy {
        AuditPolicy { reach: HOUR * 72, offset: HOUR * offset_hours }
    }

    fn span(audit: Audit) -> Window {
        audit.rest().expect("something to compare")
    }

    #[test]
    fn one_is_due_once_a_day_at_the_trusts_own_time() {
        let policy = policy(5);
        let end = at("2026-11-20T00:00:00Z");
        let due = |since, now| {
            policy
                .next(Audit::Resting { since: at(since) }, Timestamp::EPOCH, end, at(now))
                .is_some()
        };
        assert!(!due("2026-11-21T04:00:00Z", "2026-11-21T04:59:59Z"));
        assert!(due("2026-11-21T04:00:00Z", "2026-11-21T05:00:00Z"));
        assert!(!due("2026-11-21T05:00:00Z", "2026-11-22T04:59:59Z"));
        assert!(due("2026-11-21T05:00:00Z", "2026-11-22T05:00:00Z"));
    }

    #[test]
    fn a_fleet_is_spread_over_the_day() {
        let mut hours: Vec<u64> = (0..200)
            .map(|n| AuditPolicy::new(HOUR, &format!("RX{n}")).unwrap().offset.as_secs() / 3_600)
            .collect();
        hours.sort_unstable();
        hours.dedup();
        assert_eq!(hours.len(), 24);
        assert_eq!(AuditPolicy::new(Duration::ZERO, "RXX"), None);
    }

    #[test]
    fn it_reaches_back_as_told_and_never_before_what_the_ledger_knows() {
        let resting = Audit::Resting { since: at("2026-11-01T00:00:00Z") };
        let (end, now) = (at("2026-11-21T09:30:00Z"), at("2026-11-21T10:00:00Z"));
        let whole = span(policy(5).next(resting, Timestamp::EPOCH, end, now).unwrap());
        assert_eq!((whole.start(), whole.end()), (at("2026-11-18T09:30:00Z"), end));
        let begun = at("2026-11-20T00:00:00Z");
        assert_eq!(span(policy(5).next(resting, begun, end, now).unwrap()).start(), begun);
        assert_eq!(policy(5).next(resting, end, end, now), None);
    }

    #[test]
    fn one_that_was_cut_off_goes_on_where_it_was_or_begins_again_if_that_is_forgotten() {
        let resting = Audit::Resting { since: at("2026-11-01T00:00:00Z") };
        let (end, now) = (at("2026-11-21T09:30:00Z"), at("2026-11-21T10:00:00Z"));
        let begun = policy(5).next(resting, Timestamp::EPOCH, end, now).unwrap();
        let half = at("2026-11-20T00:00:00Z");
        let more = Found { counted: 5, repaired: 1, quarantined: 0, calls: 2 };
        let cut = begun.through(half, more);
        let later = policy(5).next(cut, half, end + HOUR, now + HOUR).unwrap();
        assert_eq!((span(later).start(), span(later).end()), (half, end));
        assert_eq!(cut.finish(now), None);
        let (_, done) = cut.through(end, more).finish(now).unwrap();
        assert_eq!(done.found, Found { counted: 10, repaired: 2, quarantined: 0, calls: 4 });
        let anew = policy(5).next(cut, half.next_tick(), end + HOUR, now + HOUR).unwrap();
        assert_eq!(span(anew).end(), end + HOUR);
        assert_eq!(span(anew).start(), half.next_tick());
    }

    #[test]
    fn one_is_overdue_two_days_after_it_fell_due_begun_or_not() {
        let resting = Audit::Resting { since: at("2026-11-18T05:00:00Z") };
        let due = at("2026-11-19T05:00:00Z");
        let overdue = |now| policy(5).overdue(resting, at(now));
        assert_eq!(overdue("2026-11-21T05:00:00Z"), None);
        assert_eq!(overdue("2026-11-21T05:00:01Z"), Some(due));
        let begun = policy(5)
            .next(resting, Timestamp::EPOCH, at("2026-11-20T00:00:00Z"), at("2026-11-20T01:00:00Z"))
            .unwrap();
        assert_eq!(policy(5).overdue(begun, at("2026-11-21T05:00:01Z")), Some(due));
    }

    #[test]
    fn one_that_ended_in_the_future_puts_the_next_one_off_by_a_day_at_most() {
        let (now, future) = (at("2026-11-21T10:00:00Z"), at("2026-12-01T10:00:00Z"));
        let ended = Audit::Resting { since: future }.no_later_than(now);
        assert_eq!(ended, Audit::Resting { since: now });
        assert_eq!(ended.no_later_than(future), ended);
        let span = Window::new(Timestamp::EPOCH, now).unwrap();
        let begun = |due| Audit::UnderWay { due, span, through: now, found: Found::default() };
        assert_eq!(begun(future).no_later_than(now), begun(now));
    }

    #[test]
    fn the_stored_form_is_stable() {
        let stored = |audit: &Audit| serde_json::to_string(audit).unwrap();
        let resting = Audit::Resting { since: Timestamp::EPOCH };
        assert_eq!(stored(&resting), r#"{"phase":"resting","since":"1970-01-01T00:00:00Z"}"#);
        let under_way = Audit::UnderWay {
            due: Timestamp::EPOCH,
            span: Window::new(Timestamp::EPOCH, at("1970-01-02T00:00:00Z")).unwrap(),
            through: at("1970-01-01T12:00:00Z"),
            found: Found { counted: 4, repaired: 3, quarantined: 2, calls: 1 },
        };
        let text = r#"{"phase":"under_way","due":"1970-01-01T00:00:00Z","span":{"start":"1970-01-01T00:00:00Z","end":"1970-01-02T00:00:00Z"},"through":"1970-01-01T12:00:00Z","found":{"counted":4,"repaired":3,"quarantined":2,"calls":1}}"#;
        assert_eq!(stored(&under_way), text);
        assert_eq!(serde_json::from_str::<Audit>(text).unwrap(), under_way);
    }

    proptest! {
        #[test]
        fn every_time_is_in_one_span_and_spans_are_few(
            seconds in prop::collection::btree_set(0_i64..300_000, 0..200),
        ) {
            let times: BTreeSet<_> =
                seconds.iter().copied().map(Timestamp::from_unix_seconds).collect();
            let spans = spans(&times);
            prop_assert!(spans.len() <= SPANS);
            prop_assert!(spans.windows(2).all(|pair| pair[0].end() < pair[1].start()));
            for time in &times {
                let held = spans.iter().filter(|it| it.start() <= *time && *time < it.end());
                prop_assert_eq!(held.count(), 1);
            }
            for span in &spans {
                prop_assert!(times.contains(&span.start()));
            }
        }
    }
}
