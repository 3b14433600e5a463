//! When runs are due, and what it says that they did not come.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::timestamp::Timestamp;

/// So many runs in a row must be missing before the app is taken for dead: less
/// would call for every late one. As in the deployment's alarms.
const MISSING: usize = 3;
/// And so much time must have passed since the first of them was due.
const LATE: Duration = Duration::from_mins(25);

/// The first time after another at which a run is due, if there is one.
type Next = dyn Fn(Timestamp) -> Option<Timestamp> + Send + Sync;

/// When runs are due. Clones share the schedule.
#[derive(Clone)]
pub struct Timetable(Arc<Next>);

impl Timetable {
    /// By `next`: when a run is due first after a time.
    pub fn new(next: impl Fn(Timestamp) -> Option<Timestamp> + Send + Sync + 'static) -> Self {
        Self(Arc::new(next))
    }

    /// When a run is due first after `at`.
    pub fn next(&self, at: Timestamp) -> Option<Timestamp> {
        (self.0)(at)
    }

    /// Whether nothing is heard of the app at `now`: of runs that were due since
    /// `last` ended. By night or at weekends none may be.
    pub fn is_silent(&self, last: Timestamp, now: Timestamp) -> bool {
        let mut due = std::iter::successors(self.next(last), |at| self.next(*at));
        let late = due.next().is_some_and(|first| first + LATE <= now);
        late && due.nth(MISSING - 2).is_some_and(|third| third <= now)
    }

    /// Whether a run was due after `from` and up to `to`, and none of those that
    /// ended, at `ended`, came before the next was due.
    pub(super) fn missed(
        &self,
        from: Timestamp,
        to: Timestamp,
        now: Timestamp,
        mut ended: impl Iterator<Item = Timestamp>,
    ) -> bool {
        let Some(due) = self.next(from).filter(|due| *due <= to) else { return false };
        let Some(next) = self.next(due).filter(|next| *next <= now) else { return false };
        !ended.any(|at| due <= at && at < next)
    }
}

impl fmt::Debug for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Timetable")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(count: u64) -> Duration {
        Duration::from_mins(count)
    }

    fn at(minute: u64) -> Timestamp {
        Timestamp::EPOCH + minutes(minute)
    }

    /// Every so many minutes of the hours from `first` to before `end` of a day.
    fn every(tick: u64, first: u64, end: u64) -> Timetable {
        Timetable::new(move |after| {
            let minute = after.since(Timestamp::EPOCH).as_secs() / 60;
            let due = |minute: &u64| {
                minute.is_multiple_of(tick) && (first..end).contains(&(minute / 60 % 24))
            };
            (minute + 1..minute + 3_000).find(due).map(at)
        })
    }

    #[test]
    fn silence_is_three_runs_and_at_least_half_an_hour_of_the_usual_schedule() {
        for (tick, silent) in [(1, 26), (5, 30), (10, 35), (15, 45), (20, 60), (30, 90)] {
            let runs = every(tick, 0, 24);
            assert!(!runs.is_silent(at(0), at(silent - 1)), "every {tick} minutes");
            assert!(runs.is_silent(at(0), at(silent)), "every {tick} minutes");
        }
    }

    #[test]
    fn a_schedule_that_pauses_at_night_is_silent_only_once_the_day_has_begun() {
        let by_day = every(5, 8, 18);
        let evening = at(17 * 60 + 55);
        assert!(!by_day.is_silent(evening, at((24 + 8) * 60 + 24)));
        assert!(by_day.is_silent(evening, at((24 + 8) * 60 + 25)));
        let never = Timetable::new(|_| None);
        assert!(!never.is_silent(at(0), at(1_000_000)));
    }

    #[test]
    fn a_run_is_missed_if_it_was_due_and_none_ended_before_the_next_was() {
        let runs = every(20, 0, 24);
        let missed = |from: u64, ended: &[u64], now: u64| {
            runs.missed(at(from), at(from + 15), at(now), ended.iter().copied().map(at))
        };
        assert!(missed(10, &[], 60), "due at 20");
        assert!(!missed(10, &[26], 60), "late");
        assert!(missed(10, &[41], 60), "that was the next");
        assert!(!missed(10, &[], 39), "it may still come");
        assert!(!missed(20, &[], 60), "nothing was due from 20 to 35");
    }
}
