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
//! - after an hour of silence, when the hour's calls were not enough to bring
//!   anything to an end;
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
    /// The run before this one used up the hour's calls and brought nothing to
    /// an end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    starved: bool,
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
    /// From the firing before to the last.
    pub before: Duration,
}

impl Slot {
    /// How often the schedule fires: what comes after its last firing of a day,
    /// or before its first, is a pause and no slower timer.
    pub fn tick(self) -> Duration {
        self.length.min(self.before)
    }
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
    /// Calls it may make while they have brought nothing to an end, if more:
    /// the next run would have to make the same ones again.
    pub unfinished: u32,
    /// Whether a call that fails may be repeated at once. Else the next run is
    /// the next attempt: what the whole fleet repeats is not left for later.
    pub patient: bool,
    /// Whether to ask for as many alerts at once as Defender gives: there is a
    /// backlog, or a page more is a period more.
    pub large_pages: bool,
}

impl Manner {
    /// As often as the budget allows, where no turn is kept.
    pub const FREE: Self =
        Self { calls: u32::MAX, unfinished: u32::MAX, patient: true, large_pages: false };
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

/// The shortest period, in minutes, that takes at most two thirds of `share`
/// calls an hour; an hour if none does.
pub fn planned(share: u32) -> u32 {
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
        let tick = slot.map_or(USUAL_TICK, Slot::tick);
        planned(budget.per_hour()).max(forced).max(whole_minutes(tick))
    }

    /// Whether a run that begins now may ask. `slot` is `None` where the trust's
    /// own schedule is not known; then nobody waits for it.
    pub fn turn(&self, budget: &Budget, slot: Option<Slot>, now: Timestamp) -> Turn {
        let period = self.period(budget, slot);
        let tick = slot.map_or(USUAL_TICK, Slot::tick);
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
            // Two hours suffice, whatever others call beside it.
            if self.starved && budget.used(now) > 0 && now.since(at) < HOUR * 2 {
                return later((at + HOUR).max(now + tick), false);
            }
            if taught && left == 0 {
                return later(now + tick, false);
            }
            if let Some(Slot { since, length, .. }) = slot
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
            unfinished: left,
            patient: !long && !troubled,
            large_pages: long || found == Some(Found::More),
        })
    }

    /// What a run says that leaves Defender alone until `at`, if Defender failed
    /// when it was last asked.
    pub fn failing(&self, at: Timestamp, budget: &Budget, slot: Option<Slot>) -> Option<Later> {
        let Asked { at: asked_at, found } = self.asked?;
        (found == Found::Failing).then(|| Later {
            at,
            asked_at,
            minutes: self.period(budget, slot),
            found,
            own_slot: false,
        })
    }

    /// A run leaves Defender alone until the trust's own second.
    pub fn wait(&mut self) {
        self.waited = true;
    }

    /// Forgets what a clock that ran ahead has written: it is this trust's turn.
    pub fn set_back(&mut self, now: Timestamp) {
        self.asked = None;
        self.failed_at = self.failed_at.filter(|at| *at <= now);
        self.forced = self.forced.filter(|it| it.since.max(it.refused_at) <= now);
        self.starved = false;
    }

    /// What a clock that ran ahead has noted counts as noted now.
    pub fn no_later_than(&mut self, now: Timestamp) {
        self.failed_at = self.failed_at.map(|at| at.min(now));
        if let Some(forced) = &mut self.forced {
            forced.since = forced.since.min(now);
            forced.refused_at = forced.refused_at.min(now);
        }
    }

    /// A run begins to ask.
    pub fn ask(&mut self, now: Timestamp) {
        self.waited = false;
        self.starved = false;
        self.asked = Some(Asked { at: now, found: Found::More });
        if let Some(forced) = &mut self.forced {
            let quiet = now.since(forced.since.max(forced.refused_at));
            if quiet >= Duration::from_hours(24) * forced.hold_days {
                forced.minutes = shorter_than(forced.minutes);
                forced.since = now;
            }
        }
    }

    /// The run used up the hour's calls and brought nothing to an end: the next
    /// one needs a whole hour's at once, not each as it becomes free.
    pub fn starve(&mut self) {
        self.starved = true;
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
#[path = "pace_tests.rs"]
mod tests;
