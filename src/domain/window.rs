//! Which span of update time to read next.
//!
//! Alerts are read by `lastUpdateTime`. The saved position moves in spans that
//! tile; what is read reaches back over the overlap too, because an alert may
//! surface after its time. The ledger keeps those from being sent twice.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ledger::RETENTION;
use super::timestamp::Timestamp;

/// A half-open span of update time: `start` is in, `end` is out.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Window {
    start: Timestamp,
    end: Timestamp,
}

impl Window {
    /// `None` unless `start` is before `end`.
    pub fn new(start: Timestamp, end: Timestamp) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// First instant inside.
    pub fn start(self) -> Timestamp {
        self.start
    }

    /// First instant after.
    pub fn end(self) -> Timestamp {
        self.end
    }

    /// The part from `start` on; `None` if nothing is left.
    pub fn from(self, start: Timestamp) -> Option<Self> {
        Self::new(start.max(self.start), self.end)
    }

    /// Whether both hold an instant.
    pub fn meets(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Two halves that tile the whole; `None` for a span of one tick.
    pub fn halves(self) -> Option<(Self, Self)> {
        let middle = self.start + self.end.since(self.start) / 2;
        Some((Self::new(self.start, middle)?, Self::new(middle, self.end)?))
    }
}

/// How far a position goes back that cannot be believed: as far as the audit
/// looks, where nobody has chosen otherwise.
const GOES_BACK: Duration = Duration::from_hours(72);

/// From one run that reads to the next, at most.
const LONGEST_PERIOD: Duration = Duration::from_hours(1);

/// The shortest slice of a backlog.
const SLICE: Duration = Duration::from_hours(6);
/// Slices are longer by what the calls lack of this: each costs one.
const CALLS_ENOUGH: u32 = 28;

/// How much of a backlog is read at once with `calls`: six hours where they are
/// plenty, a week where there is one.
pub fn slice(calls: u32) -> Duration {
    SLICE * (CALLS_ENOUGH / calls.max(1)).max(1)
}

/// What is read at once is longer by this each time that all of it was read.
const LONGER: u32 = 2;

/// How much to read at once after all of `slice` was read.
pub fn longer(slice: Duration) -> Duration {
    slice.saturating_mul(LONGER)
}

/// How far behind now, how far back, and how much at once.
#[derive(Clone, Copy, Debug)]
pub struct WindowPolicy {
    /// How long an alert may take to become visible with its evidence.
    pub settle: Duration,
    /// How far before the position each run reads again.
    pub overlap: Duration,
    /// How far back the first run ever begins.
    pub initial_lookback: Duration,
    /// Longest span the position moves in one window, for catching up.
    pub max_advance: Duration,
    /// Every run reads only this much, whatever was saved.
    pub only_last: Option<Duration>,
}

/// What to read, and how far the position may move for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plan {
    /// What to read.
    pub read: Window,
    /// The position before.
    pub position: Timestamp,
    /// Whether another window is left once this one is done.
    pub more: bool,
}

impl WindowPolicy {
    /// The contract's defaults.
    pub const DEFAULT: Self = Self {
        settle: Duration::from_mins(1),
        overlap: Duration::from_mins(30),
        initial_lookback: Duration::from_hours(24),
        max_advance: SLICE,
        only_last: None,
    };

    /// The same for a run that may make so many calls: the fewer, the more each
    /// is to bring of a backlog.
    #[must_use]
    pub fn for_calls(self, calls: u32) -> Self {
        Self { max_advance: slice(calls).max(self.max_advance), ..self }
    }

    /// For a run that reads all there is in one window.
    #[must_use]
    pub fn at_once(self) -> Self {
        Self { max_advance: RETENTION, ..self }
    }

    /// How far before the position a run may read. Where every run reads the
    /// last minutes, it goes back to the end of the window before if that is no
    /// longer ago than twice as many and a period, which is an hour at most.
    pub fn reach(&self) -> Duration {
        let last = self.only_last.map_or(Duration::ZERO, |depth| depth * 3 + LONGEST_PERIOD);
        self.overlap.max(last)
    }

    /// What lies before this no run reads again once the position is `position`,
    /// but an audit: it is left to a backfill, and what is later is not.
    pub fn rereads_from(&self, position: Timestamp) -> Timestamp {
        position - self.reach()
    }

    /// Where a deployment with nothing saved begins.
    pub fn first_position(&self, now: Timestamp) -> Timestamp {
        now - self.initial_lookback
    }

    /// Where a deployment goes on whose saved position cannot be believed: three
    /// days back, not before it began, and at least over the overlap.
    pub fn fallback(&self, deployed_at: Timestamp, now: Timestamp) -> Timestamp {
        let began = self.first_position(deployed_at.min(now));
        (now - GOES_BACK).max(began).min(now - self.overlap)
    }

    /// The next window after `position`; `None` while nothing new has settled.
    /// The overlap is read again from its beginning, or from `read_to` on if a
    /// run that was cut short had come that far.
    ///
    /// With `only_last` the window ignores the position, and `read_to` is where
    /// the window before it ended, if it is to go on there. It may then leave a
    /// gap behind it, which [`Plan::reaches_position`] tells.
    pub fn next(
        &self,
        position: Timestamp,
        read_to: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Plan> {
        let settled = now - self.settle;
        if let Some(depth) = self.only_last {
            let start = settled - depth;
            let read = Window::new(read_to.map_or(start, |end| end.min(start)), settled)?;
            return Some(Plan { read, position, more: false });
        }
        let end = settled.min(position + self.max_advance);
        if end <= position {
            return None;
        }
        let overlap = position - self.overlap;
        let start = read_to.map_or(overlap, |read_to| read_to.clamp(overlap, position));
        let read = Window::new(start, end)?;
        Some(Plan { read, position, more: end < settled })
    }
}

impl Plan {
    /// The same with no more read at once than `longest`. It may end within the
    /// overlap, if the next window can go on there.
    #[must_use]
    pub fn at_most(self, longest: Duration, goes_on_anywhere: bool) -> Self {
        let from = if goes_on_anywhere { self.read.start } else { self.position };
        match Window::new(self.read.start, from + longest) {
            Some(read) if read.end < self.read.end => Self { read, more: true, ..self },
            Some(_) | None => self,
        }
    }

    /// Whether nothing lies between the position and the window, so that the
    /// position may move to the window's end.
    pub fn reaches_position(&self) -> bool {
        self.read.start <= self.position
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: WindowPolicy = WindowPolicy::DEFAULT;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time literal")
    }

    #[test]
    fn waits_until_something_has_settled() {
        let position = at("2026-01-01T00:00:00Z");
        assert_eq!(POLICY.next(position, None, at("2026-01-01T00:01:00Z")), None);
        assert!(POLICY.next(position, None, at("2026-01-01T00:01:00.0000001Z")).is_some());
    }

    #[test]
    fn reads_again_what_may_have_surfaced_late() {
        let plan =
            POLICY.next(at("2026-01-01T12:00:00Z"), None, at("2026-01-01T12:06:00Z")).unwrap();
        assert_eq!(plan.read.start(), at("2026-01-01T11:30:00Z"));
        assert_eq!(plan.read.end(), at("2026-01-01T12:05:00Z"));
        assert!(!plan.more);
    }

    #[test]
    fn deliveries_are_remembered_as_far_back_as_any_window_begins() {
        assert_eq!(POLICY.reach(), Duration::from_mins(30));
        let (depth, period) = (Duration::from_hours(24), Duration::from_hours(1));
        let policy = WindowPolicy { only_last: Some(depth), ..POLICY };
        let position = at("2026-01-05T12:00:00Z");
        let now = position + depth * 2 + period + policy.settle;
        let plan = policy.next(position, Some(position - depth * 2 - period), now).unwrap();
        assert!(plan.read.start() >= position - policy.reach(), "{plan:?}");
        let few = WindowPolicy { only_last: Some(Duration::from_mins(1)), ..POLICY };
        assert_eq!(few.reach(), Duration::from_mins(63));
        let wide = WindowPolicy { overlap: Duration::from_hours(24), ..few };
        assert_eq!(wide.reach(), Duration::from_hours(24));
    }

    #[test]
    fn a_run_cut_short_is_followed_from_where_it_was() {
        let (position, now) = (at("2026-01-01T12:00:00Z"), at("2026-01-01T12:06:00Z"));
        let start = |read_to| POLICY.next(position, Some(at(read_to)), now).unwrap().read.start();
        assert_eq!(start("2026-01-01T11:45:00Z"), at("2026-01-01T11:45:00Z"));
        assert_eq!(start("2026-01-01T01:00:00Z"), at("2026-01-01T11:30:00Z"));
        assert_eq!(start("2026-01-01T12:03:00Z"), position, "never past the position");
    }

    #[test]
    fn catches_up_in_slices() {
        let plan =
            POLICY.next(at("2026-01-01T00:00:00Z"), None, at("2026-01-03T00:00:00Z")).unwrap();
        assert_eq!(plan.read.end(), at("2026-01-01T06:00:00Z"));
        assert!(plan.more);
    }

    #[test]
    fn a_position_that_cannot_be_goes_back_three_days_or_to_the_beginning() {
        let now = at("2026-01-10T12:00:00Z");
        let fallback = |deployed_at| POLICY.fallback(at(deployed_at), now);
        assert_eq!(fallback("2025-01-01T00:00:00Z"), at("2026-01-07T12:00:00Z"));
        assert_eq!(fallback("2026-01-09T00:00:00Z"), at("2026-01-08T00:00:00Z"));
        assert_eq!(fallback("2027-01-01T00:00:00Z"), at("2026-01-09T12:00:00Z"));
        let none = WindowPolicy { initial_lookback: Duration::ZERO, ..POLICY };
        assert_eq!(none.fallback(now, now), at("2026-01-10T11:30:00Z"));
    }

    #[test]
    fn few_calls_catch_up_in_longer_slices() {
        let end = |calls| {
            let policy = POLICY.for_calls(calls);
            policy.next(at("2026-01-01T00:00:00Z"), None, at("2026-03-03T00:00:00Z")).unwrap()
        };
        assert_eq!(end(108).read.end(), at("2026-01-01T06:00:00Z"));
        assert_eq!(end(15).read.end(), at("2026-01-01T06:00:00Z"));
        assert_eq!(end(6).read.end(), at("2026-01-02T00:00:00Z"));
        assert_eq!(end(1).read.end(), at("2026-01-08T00:00:00Z"));
        assert_eq!(end(0).read.end(), at("2026-01-08T00:00:00Z"));
    }

    #[test]
    fn what_brought_nothing_to_an_end_is_read_in_shorter_spans_that_grow_back() {
        let (position, now) = (at("2026-01-02T00:00:00Z"), at("2026-01-09T00:00:00Z"));
        let plan = POLICY.for_calls(1).next(position, None, now).unwrap();
        assert_eq!(longer(Duration::from_mins(1)), Duration::from_mins(2));
        let minute = Duration::from_mins(1);
        let cut = plan.at_most(minute, true);
        assert_eq!(
            (cut.read.start(), cut.read.end()),
            (plan.read.start(), plan.read.start() + minute)
        );
        assert!(cut.more && cut.reaches_position());
        assert_eq!(plan.at_most(minute, false).read.end(), position + minute);
        assert_eq!(plan.at_most(Duration::from_hours(1_000), true), plan);
    }

    #[test]
    fn a_clock_set_back_reads_nothing_and_moves_nothing() {
        assert_eq!(POLICY.next(at("2026-01-02T00:00:00Z"), None, at("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn reading_only_the_last_minutes_never_hides_the_gap_it_leaves() {
        let policy = WindowPolicy { only_last: Some(Duration::from_mins(5)), ..POLICY };
        let now = at("2026-01-01T12:00:00Z");
        let late = policy.next(at("2026-01-01T11:00:00Z"), None, now).unwrap();
        assert_eq!(late.read.start(), at("2026-01-01T11:54:00Z"));
        assert!(!late.reaches_position());
        assert!(policy.next(at("2026-01-01T11:54:00Z"), None, now).unwrap().reaches_position());
        let start = |end| policy.next(now, Some(at(end)), now).unwrap().read.start();
        assert_eq!(start("2026-01-01T11:53:58Z"), at("2026-01-01T11:53:58Z"));
        assert_eq!(start("2026-01-01T11:55:00Z"), at("2026-01-01T11:54:00Z"), "no less");
    }

    proptest! {
        #[test]
        fn saved_spans_tile_without_gap_or_overlap(ticks in prop::collection::vec(0_u64..90_000, 1..60)) {
            let mut now = at("2026-01-01T00:00:00Z");
            let mut position = now;
            for tick in ticks {
                now = now + Duration::from_secs(tick);
                if let Some(plan) = POLICY.next(position, None, now) {
                    prop_assert_eq!(plan.position, position);
                    prop_assert!(plan.reaches_position());
                    prop_assert!(plan.read.end() > position);
                    prop_assert!(plan.read.end() <= now - POLICY.settle);
                    prop_assert!(plan.read.end() <= position + POLICY.max_advance);
                    prop_assert_eq!(plan.more, plan.read.end() < now - POLICY.settle);
                    position = plan.read.end();
                }
            }
        }

        #[test]
        fn halves_tile_the_whole(start in 0_u64..1_000_000, length in 0_u64..1_000_000) {
            let start = Timestamp::EPOCH + Duration::from_nanos(start * 100);
            let end = start + Duration::from_nanos(length * 100);
            if let Some(window) = Window::new(start, end) {
                match window.halves() {
                    Some((first, second)) => {
                        prop_assert_eq!(first.start(), start);
                        prop_assert_eq!(first.end(), second.start());
                        prop_assert_eq!(second.end(), end);
                    }
                    None => prop_assert_eq!(start.next_tick(), end),
                }
            }
        }
    }
}
