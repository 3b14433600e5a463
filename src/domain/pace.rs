//! How often Defender is asked.
//!
//! The timer may fire for every trust each five minutes; 250 trusts would then
//! make 3,000 calls an hour of the 1,500 that they share. So a run asks only
//! when this trust's turn has come. The turn comes
//!
//! - after a period that takes two thirds of the trust's share of the hour; a
//!   third is left for pages, backlogs and mishaps;
//! - after a longer one, as soon as Defender has said that the hour's calls are
//!   used up: this fleet is larger than its settings say. Back only after days;
//! - every ten minutes at least while Defender fails, with one call, so that
//!   all are current ten minutes after it works again;
//! - in the trust's own second of the schedule, when a run comes at another
//!   time: after a restart of everything all would call at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::timestamp::Timestamp;

/// Periods in minutes. A refusal makes it two steps longer, quiet days one step
/// shorter.
const LADDER: [u32; 9] = [1, 2, 3, 5, 10, 15, 20, 30, 60];
/// The timer's usual period, where the schedule is not known.
const USUAL_TICK: Duration = Duration::from_mins(5);
/// Longest wait between two calls while Defender fails, in minutes.
const FAILING: u32 = 10;
/// A run that begins so long after its second of the schedule is on time: a
/// sleeping app takes that long to start.
const ON_TIME: Duration = Duration::from_secs(30);
/// The quota's span; also how long after a failure a spent quota says nothing
/// about the size of the fleet: the calls that failed are still counted.
const HOUR: Duration = Duration::from_hours(1);
/// After this a failure's calls are out of the quota for all trusts.
const RECOVERED: Duration = Duration::from_mins(75);
/// Longest time without a refusal before the period is shortened again, in days.
const LONGEST_HOLD: u32 = 32;

/// When Defender was asked and what that says about when to ask again.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pace {
    /// The last time it was asked; nothing before the first.
    asked: Option<Asked>,
    /// A longer period than the share asks for.
    forced: Option<Forced>,
    /// When Defender last failed.
    failed_at: Option<Timestamp>,
    /// The run before this one waited for the trust's own second.
    waited: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Asked {
    at: Timestamp,
    found: Found,
}

/// Set by a refusal for the hour's quota.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Forced {
    minutes: u32,
    /// When `minutes` was last changed.
    since: Timestamp,
    refused_at: Timestamp,
    hold_days: u32,
}

/// What became of a run that asked Defender.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Everything that had settled is delivered.
    Everything,
    /// As above, and foreign alerts were withheld.
    Foreign,
    /// More is there than this run could read. Also while a run is under way,
    /// which is what one that was killed leaves behind.
    More,
    /// Rows could not be delivered or set aside.
    Undelivered,
    /// Defender failed or could not be reached.
    Failing,
    /// Defender refused the call because the minute's are used up.
    Throttled,
    /// Defender refused the call because the hour's are used up.
    Spent,
    /// Defender said no for a reason that stays until a person acts.
    Refused,
}

/// A run's place in the schedule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Slot {
    /// Since the schedule last fired.
    pub since: Duration,
    /// From there to its next firing.
    pub length: Duration,
}

/// What a run may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// Ask.
    Ask(Manner),
    /// Leave Defender alone this time.
    Later(Later),
}

/// How a run is to ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Manner {
    /// Calls it may make, at least one.
    pub calls: u32,
    /// Whether a call that fails may be repeated at once. Else the next run is
    /// the next attempt: what the whole fleet repeats is not left for later.
    pub patient: bool,
    /// Whether to ask for as many alerts at once as Defender gives: there is a
    /// backlog, or a page more is a period more.
    pub large_pages: bool,
}

impl Manner {
    /// As often as the budget allows, where no turn is kept.
    pub const FREE: Self = Self { calls: u32::MAX, patient: true, large_pages: false };
}

/// Why not now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Later {
    /// When Defender is asked next, to a few minutes.
    pub at: Timestamp,
    /// When it was asked last.
    pub asked_at: Timestamp,
    /// The period, in minutes.
    pub minutes: u32,
    /// What the run at that time found; it still holds.
    pub found: Found,
    /// Only until the trust's own second of the schedule.
    pub own_slot: bool,
}

fn minutes(count: u32) -> Duration {
    Duration::from_secs(u64::from(count) * 60)
}

fn whole_minutes(span: Duration) -> u32 {
    u32::try_from(span.as_secs().div_ceil(60)).unwrap_or(u32::MAX)
}

/// The calls an hour of a trust whose share is `share`, while nothing is amiss
/// and its timer fires every five minutes.
pub(super) fn ordinary_calls(share: u32) -> u32 {
    60_u32.div_ceil(planned(share).max(5)).min(share)
}

/// The shortest period that takes at most two thirds of `share` calls an hour;
/// an hour if none does.
fn planned(share: u32) -> u32 {
    let fits = |minutes: &u32| 60 * 3 <= share.saturating_mul(*minutes).saturating_mul(2);
    LADDER.into_iter().find(fits).unwrap_or(60)
}

fn longer_than(minutes: u32) -> u32 {
    LADDER.into_iter().filter(|longer| *longer > minutes).take(2).last().unwrap_or(60)
}

fn shorter_than(minutes: u32) -> u32 {
    LADDER.into_iter().rev().find(|shorter| *shorter < minutes).unwrap_or(1)
}

/// The share a period leaves room for: it takes two thirds.
fn share_of(minutes: u32) -> u32 {
    (90 / minutes.max(1)).max(1)
}

impl Pace {
    /// Minutes from one turn to the next while nothing is amiss.
    pub fn period(&self, budget: &Budget, slot: Option<Slot>) -> u32 {
        let forced = self.forced.map_or(0, |forced| forced.minutes);
        let tick = slot.map_or(USUAL_TICK, |slot| slot.length);
        planned(budget.per_hour()).max(forced).max(whole_minutes(tick))
    }

    /// Whether a run that begins now may ask. `slot` is `None` where the trust's
    /// own schedule is not known; then nobody waits for it.
    pub fn turn(&self, budget: &Budget, slot: Option<Slot>, now: Timestamp) -> Turn {
        let period = self.period(budget, slot);
        let tick = slot.map_or(USUAL_TICK, |slot| slot.length);
        let share = self.forced.map_or(u32::MAX, |forced| share_of(forced.minutes));
        let share = share.min(budget.per_hour()).max(1);
        let left = share.saturating_sub(budget.used(now));
        // What the ordinary turns of the next hour need.
        let kept = 60_u32.div_ceil(period);
        let spacing = self.asked.map_or(Duration::ZERO, |asked| match asked.found {
            // Refused calls may count too: a spent hour is not asked after again
            // and again.
            Found::Everything | Found::Foreign | Found::Refused | Found::Spent => minutes(period),
            Found::Failing => minutes(period.min(FAILING)),
            Found::Throttled => Duration::ZERO,
            Found::More | Found::Undelivered if left > kept => Duration::ZERO,
            Found::More | Found::Undelivered => minutes(period).min(HOUR / share),
        });
        let spacing = spacing.max(tick);
        // What a refusal has taught binds once the hour it fell into is over.
        let taught = self.forced.is_some_and(|forced| now.since(forced.since) >= HOUR);
        // Without a schedule somebody calls by hand or by a clock of their own.
        let free = slot.is_none() && minutes(period) <= tick;
        if let Some(Asked { at, found }) = self.asked
            && now >= at
            && !free
        {
            let later = |at_last, own_slot| {
                Turn::Later(Later { at: at_last, asked_at: at, minutes: period, found, own_slot })
            };
            // Timers are late by seconds and then on time again.
            let due = at + spacing - tick / 2;
            if now < due {
                return later(at + spacing, false);
            }
            if taught && left == 0 {
                return later(now + tick, false);
            }
            if let Some(Slot { since, length }) = slot
                && now > due + tick
                && since > ON_TIME
                && !self.waited
            {
                return later(now + length.saturating_sub(since), true);
            }
        }
        let found = self.asked.map(|asked| asked.found);
        let troubled =
            found.is_some_and(|it| matches!(it, Found::Failing | Found::Throttled | Found::Spent));
        let long = minutes(period) > tick;
        Turn::Ask(Manner {
            // One by one where each is scarce: a whole fleet with a backlog
            // would else be too much for the minute.
            calls: if long { 1 } else { left.saturating_sub(kept).max(1) },
            patient: !long && !troubled,
            large_pages: long || found == Some(Found::More),
        })
    }

    /// A run leaves Defender alone until the trust's own second.
    pub fn wait(&mut self) {
        self.waited = true;
    }

    /// A run begins to ask.
    pub fn ask(&mut self, now: Timestamp) {
        self.waited = false;
        self.asked = Some(Asked { at: now, found: Found::More });
        if let Some(forced) = &mut self.forced {
            let quiet = now.since(forced.since.max(forced.refused_at));
            if quiet >= Duration::from_hours(24) * forced.hold_days {
                forced.minutes = shorter_than(forced.minutes);
                forced.since = now;
            }
        }
    }

    /// What the run found that began with [`Self::ask`].
    pub fn found(&mut self, found: Found, now: Timestamp) {
        if found == Found::Failing {
            self.failed_at = Some(now);
        }
        if let Some(asked) = &mut self.asked {
            asked.found = found;
        }
    }

    /// Defender said that the hour's calls are used up: the period is longer
    /// from now on. Not twice for the calls of one hour, and not for those that
    /// failed: they say nothing about the size of the fleet.
    pub fn refused(&mut self, budget: &Budget, slot: Option<Slot>, now: Timestamp) {
        if self.failed_at.is_some_and(|failed| now.since(failed) < RECOVERED) {
            return;
        }
        let period = self.period(budget, slot);
        match &mut self.forced {
            None => {
                let minutes = longer_than(period);
                self.forced = Some(Forced { minutes, since: now, refused_at: now, hold_days: 1 });
            }
            Some(forced) => {
                forced.refused_at = now;
                if now.since(forced.since) >= HOUR {
                    forced.minutes = longer_than(period);
                    forced.since = now;
                    forced.hold_days = (forced.hold_days * 2).min(LONGEST_HOLD);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds after a firing of a timer with a period of five minutes.
    fn slot(since: u64) -> Slot {
        Slot { since: Duration::from_secs(since), length: Duration::from_mins(5) }
    }

    fn at(minute: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_795_000_000) + Duration::from_mins(minute)
    }

    fn asks(pace: &Pace, budget: &Budget, minute: u64) -> bool {
        matches!(pace.turn(budget, Some(slot(0)), at(minute)), Turn::Ask(_))
    }

    fn manner(pace: &Pace, budget: &Budget, minute: u64) -> Manner {
        match pace.turn(budget, Some(slot(0)), at(minute)) {
            Turn::Ask(manner) => manner,
            Turn::Later(later) => panic!("{later:?}"),
        }
    }

    /// The minutes of an hour, from `from` on, at which a trust asks that finds
    /// `found` each time, with one call each.
    fn asked(pace: &mut Pace, budget: &mut Budget, from: u64, found: Found) -> Vec<u64> {
        let mut asked = Vec::new();
        for minute in (from..from + 60).step_by(5) {
            if asks(pace, budget, minute) && budget.spend(at(minute)).is_ok() {
                pace.ask(at(minute));
                pace.found(found, at(minute));
                asked.push(minute);
            }
        }
        asked
    }

    #[test]
    fn the_period_takes_two_thirds_of_the_share() {
        for (share, period) in [
            (120, 5),
            (37, 5),
            (18, 5),
            (17, 10),
            (9, 10),
            (8, 15),
            (6, 15),
            (5, 20),
            (3, 30),
            (1, 60),
        ] {
            let pace = Pace::default();
            assert_eq!(pace.period(&Budget::new(share), Some(slot(0))), period, "{share}");
            let mut budget = Budget::new(share);
            let calls = asked(&mut pace.clone(), &mut budget, 0, Found::Everything).len();
            assert_eq!(calls, usize::try_from(60 / period).unwrap(), "{share}");
        }
    }

    #[test]
    fn a_timer_slower_than_the_period_is_never_told_to_wait() {
        let slow = Some(Slot { since: Duration::ZERO, length: Duration::from_mins(30) });
        let mut pace = Pace::default();
        pace.ask(at(0));
        pace.found(Found::Everything, at(0));
        assert!(matches!(pace.turn(&Budget::new(6), slow, at(30)), Turn::Ask(_)));
    }

    #[test]
    fn whoever_runs_it_by_hand_is_not_told_to_wait_while_calls_are_plenty() {
        let mut pace = Pace::default();
        pace.ask(at(0));
        pace.found(Found::Everything, at(0));
        assert!(matches!(pace.turn(&Budget::new(120), None, at(0)), Turn::Ask(_)));
        assert!(matches!(pace.turn(&Budget::new(6), None, at(0)), Turn::Later(_)));
    }

    #[test]
    fn in_an_outage_it_asks_every_ten_minutes_with_one_call() {
        let (mut pace, mut budget) = (Pace::default(), Budget::new(6));
        asked(&mut pace, &mut budget, 0, Found::Everything);
        assert!(!manner(&pace, &budget, 60).patient);
        let failing = asked(&mut pace, &mut budget, 60, Found::Failing);
        assert_eq!(failing, [60, 70, 80, 90, 100, 110]);
        // The call of an hour ago is free ten seconds later; the run waits so long.
        let spent = budget.spend(at(120)).unwrap_err();
        assert!(spent.free_in <= Duration::from_secs(10), "{spent:?}");
        let plenty = Budget::new(120);
        assert!(manner(&Pace::default(), &plenty, 0).patient);
        assert!(!manner(&pace, &plenty, 120).patient, "it has failed just now");
    }

    #[test]
    fn a_backlog_gets_what_the_ordinary_turns_leave() {
        let (mut pace, mut budget) = (Pace::default(), Budget::new(6));
        assert_eq!(manner(&pace, &budget, 0).calls, 1);
        let behind = asked(&mut pace, &mut budget, 0, Found::More);
        assert_eq!(behind, [0, 5, 15, 25, 35, 45]);
        let plenty = Budget::new(120);
        assert_eq!(manner(&Pace::default(), &plenty, 0).calls, 108);
        assert!(manner(&pace, &budget, 60).large_pages);
    }

    #[test]
    fn a_spent_hour_makes_the_period_longer_at_once_and_shorter_after_days() {
        let (mut pace, budget) = (Pace::default(), Budget::new(120));
        let day = 24 * 60;
        pace.refused(&budget, Some(slot(0)), at(0));
        assert_eq!(pace.period(&budget, Some(slot(0))), 15);
        pace.refused(&budget, Some(slot(0)), at(59));
        assert_eq!(pace.period(&budget, Some(slot(0))), 15, "the same hour's calls");
        pace.refused(&budget, Some(slot(0)), at(60));
        assert_eq!(pace.period(&budget, Some(slot(0))), 30);
        for (minute, period) in [(60 + 2 * day - 1, 30), (60 + 2 * day, 20)] {
            pace.ask(at(minute));
            assert_eq!(pace.period(&budget, Some(slot(0))), period, "after {minute} minutes");
        }
        // Refused again: longer, and each time it holds twice as long.
        let again = 60 + 2 * day + 90;
        pace.refused(&budget, Some(slot(0)), at(again));
        assert_eq!(pace.period(&budget, Some(slot(0))), 60);
        pace.ask(at(again + 4 * day - 1));
        assert_eq!(pace.period(&budget, Some(slot(0))), 60);
        pace.ask(at(again + 4 * day));
        assert_eq!(pace.period(&budget, Some(slot(0))), 30);
    }

    #[test]
    fn after_an_hour_a_refusal_limits_the_calls_of_each_hour() {
        let (mut pace, mut budget) = (Pace::default(), Budget::new(120));
        pace.refused(&budget, Some(slot(0)), at(0));
        let first = asked(&mut pace, &mut budget, 0, Found::More);
        assert_eq!(first, [0, 5, 15, 25, 35, 45, 55], "the period alone");
        let later = asked(&mut pace, &mut budget, 60, Found::More);
        assert_eq!(later, [70, 80, 90, 100, 110], "never more than six in any hour");
    }

    #[test]
    fn a_spent_hour_is_not_asked_after_at_once() {
        let (mut pace, budget) = (Pace::default(), Budget::new(120));
        pace.ask(at(0));
        pace.refused(&budget, Some(slot(0)), at(0));
        pace.found(Found::Spent, at(0));
        assert!(!asks(&pace, &budget, 5) && !asks(&pace, &budget, 10) && asks(&pace, &budget, 15));
        pace.found(Found::Throttled, at(0));
        assert!(asks(&pace, &budget, 5), "a minute's calls are back by then");
    }

    #[test]
    fn calls_that_an_outage_used_up_say_nothing_about_the_fleet() {
        let (mut pace, budget) = (Pace::default(), Budget::new(120));
        pace.ask(at(0));
        pace.found(Found::Failing, at(0));
        pace.refused(&budget, Some(slot(0)), at(74));
        assert_eq!(pace.period(&budget, Some(slot(0))), 5);
        pace.refused(&budget, Some(slot(0)), at(75));
        assert_eq!(pace.period(&budget, Some(slot(0))), 15);
    }

    #[test]
    fn a_late_run_waits_for_the_trusts_own_second_once() {
        let (mut pace, budget) = (Pace::default(), Budget::new(6));
        pace.ask(at(0));
        pace.found(Found::Everything, at(0));
        let late = at(47);
        let Turn::Later(later) = pace.turn(&budget, Some(slot(120)), late) else {
            panic!("it asks")
        };
        assert!(later.own_slot);
        assert_eq!(later.at, late + Duration::from_mins(3));
        assert!(matches!(pace.turn(&budget, Some(slot(30)), late), Turn::Ask(_)), "its own second");
        assert!(matches!(pace.turn(&budget, None, late), Turn::Ask(_)), "none is known");
        pace.wait();
        assert!(matches!(pace.turn(&budget, Some(slot(120)), late), Turn::Ask(_)), "not twice");
        pace.ask(late);
        pace.found(Found::Everything, late);
        let waits =
            |minute| matches!(pace.turn(&budget, Some(slot(120)), at(minute)), Turn::Later(_));
        // Late by less than half a timer's period is on time.
        assert!(waits(59) && !waits(60) && !waits(64) && waits(65));
    }

    #[test]
    fn a_clock_set_back_holds_nobody_up() {
        let mut pace = Pace::default();
        pace.ask(at(1_000));
        pace.found(Found::Everything, at(1_000));
        assert!(asks(&pace, &Budget::new(6), 0));
    }

    #[test]
    fn the_stored_form_is_stable() {
        let mut pace = Pace::default();
        pace.refused(&Budget::new(120), Some(slot(0)), at(0));
        pace.ask(at(1));
        pace.found(Found::Failing, at(2));
        let stored = r#"{"asked":{"at":"2026-11-18T11:07:40Z","found":"failing"},"forced":{"minutes":15,"since":"2026-11-18T11:06:40Z","refused_at":"2026-11-18T11:06:40Z","hold_days":1},"failed_at":"2026-11-18T11:08:40Z","waited":false}"#;
        assert_eq!(serde_json::to_string(&pace).unwrap(), stored);
        assert_eq!(serde_json::from_str::<Pace>(stored).unwrap(), pace);
    }
}
