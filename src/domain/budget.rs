//! How many calls this deployment may still make within the hour.
//!
//! Defender allows 1,500 calls an hour to all deployments of one application
//! together, so each keeps to its share, `FunctionConfigCallsPerHour`, and
//! remembers across runs what it has used.
//! <https://learn.microsoft.com/defender-endpoint/api/get-alerts>

use std::time::Duration;

use super::calls::{BIN, Calls, HOUR, bin};
use super::pace::ordinary_calls;
use super::timestamp::Timestamp;

/// A sliding hour of calls, this side's own and those made beside it.
///
/// A call counts until an hour after the end of its own bin, so that no sixty
/// minutes ever hold more than the allowance, and one that is made every ten
/// minutes is held back for seconds only. Times never grant anything by going
/// back: a small step back counts in the newest bin, and after a large one
/// everything counts as made now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Budget {
    per_hour: u32,
    own: Calls,
    /// Of those who call too and keep their counts themselves.
    beside: Vec<Calls>,
}

/// The hour's calls are used up; nothing was counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the calls allowed for this hour are used up")]
pub struct Spent {
    /// When a call is free again, at ten seconds' precision.
    pub free_in: Duration,
}

/// The stored text is not a budget.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a stored call budget")]
pub struct BadBudget;

/// The smallest allowance of which [`reserve`] leaves any.
pub const LEAST_TO_SHARE: u32 = 4;

/// Calls left to the live export of `per_hour`, whatever works beside it: a
/// quarter, and at least those of its runs in an hour and one to three more.
pub fn reserve(per_hour: u32) -> u32 {
    let runs = ordinary_calls(per_hour) + (per_hour / 6).clamp(1, 3);
    (per_hour / 4).max(runs).min(per_hour)
}

impl Budget {
    /// Nothing used yet.
    pub fn new(per_hour: u32) -> Self {
        Self { per_hour, own: Calls::default(), beside: Vec::new() }
    }

    /// The same with what others have made and booked.
    #[must_use]
    pub fn beside(self, others: Vec<Calls>) -> Self {
        Self { beside: others, ..self }
    }

    /// This side's own calls, for others to count.
    pub fn own(&self) -> &Calls {
        &self.own
    }

    /// Calls allowed in an hour.
    pub fn per_hour(&self) -> u32 {
        self.per_hour
    }

    /// Calls of an hour for whatever works beside the live export.
    pub fn beside_live(&self) -> u32 {
        self.per_hour - reserve(self.per_hour)
    }

    /// Calls made that still count, others' too.
    pub fn used(&self, now: Timestamp) -> u32 {
        self.own.used(now).saturating_add(self.others(now))
    }

    /// Calls that may be made now.
    pub fn remaining(&self, now: Timestamp) -> u32 {
        self.per_hour.saturating_sub(self.own.used(now)).saturating_sub(self.others(now))
    }

    /// Counts one call; where calls are booked, one of those.
    ///
    /// # Errors
    ///
    /// [`Spent`] if it may not be made.
    pub fn spend(&mut self, now: Timestamp) -> Result<(), Spent> {
        self.turn_to(now);
        let may = self.own.is_booked() || self.remaining(now) > 0;
        if may && self.own.count(now) {
            Ok(())
        } else {
            Err(Spent { free_in: self.free_in(now, 0) })
        }
    }

    /// Books at most `at_most` calls, to be made by `until`, and leaves others
    /// `reserve` calls of the hour. Nothing else may be made until they are
    /// settled. The booking must be saved before the first is made.
    ///
    /// # Errors
    ///
    /// [`Spent`] if not one is free.
    pub fn book(
        &mut self,
        at_most: u32,
        reserve: u32,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<u32, Spent> {
        self.own.settle();
        self.turn_to(now);
        let calls = self.free(now, reserve).min(at_most);
        if calls == 0 {
            return Err(Spent { free_in: self.free_in(now, reserve) });
        }
        self.own.book(calls, until);
        Ok(calls)
    }

    /// The same for the audit: half the allowance, or where that is less than
    /// the runs of the hour make, one call more than those. When it asks, the
    /// run of an hour ago still counts beside the one it is part of.
    #[must_use]
    pub fn for_audit(&self) -> Self {
        let beside = ordinary_calls(self.per_hour) + 2;
        Self { per_hour: (self.per_hour / 2).max(beside).min(self.per_hour), ..self.clone() }
    }

    /// The same allowance, with the calls that `other` has counted.
    #[must_use]
    pub fn counted_by(&self, other: &Self) -> Self {
        Self { per_hour: self.per_hour, ..other.clone() }
    }

    /// Calls that were booked and not made are free again.
    pub fn settle(&mut self) {
        self.own.settle();
    }

    /// Takes over from a process that may have died: what it had booked counts
    /// as made now.
    pub fn inherit(&mut self, now: Timestamp) {
        self.own.inherit(now);
    }

    /// After a large step back of the clock every call counts as made then.
    fn turn_to(&mut self, now: Timestamp) {
        [&mut self.own].into_iter().chain(&mut self.beside).for_each(|calls| calls.turn_to(now));
    }

    fn others(&self, now: Timestamp) -> u32 {
        self.beside.iter().fold(0, |sum, calls| sum.saturating_add(calls.used(now)))
    }

    /// What is left when others are to have at least `reserve` of the hour.
    fn free(&self, now: Timestamp, reserve: u32) -> u32 {
        let others = self.others(now).max(reserve);
        self.per_hour.saturating_sub(self.own.used(now)).saturating_sub(others)
    }

    /// Until enough calls have slid out of the hour.
    fn free_in(&self, now: Timestamp, reserve: u32) -> Duration {
        let mut settled = self.clone();
        settled.own.settle();
        // A clock set back makes calls an hour younger at most. Calls only slide
        // out as time passes, so the first moment can be halved towards.
        let at = |passed: i64| {
            let start = bin(now).saturating_add(passed).saturating_mul(BIN);
            Timestamp::from_unix_seconds(start).max(now)
        };
        let (mut first, mut last) = (0, 2 * HOUR + 60);
        if settled.free(at(last), reserve) == 0 {
            return Duration::from_hours(1);
        }
        while first < last {
            let middle = i64::midpoint(first, last);
            if settled.free(at(middle), reserve) > 0 {
                last = middle;
            } else {
                first = middle + 1;
            }
        }
        at(first).since(now)
    }

    /// For the position's row: `179500000:3,0,1`, the newest bin and the calls
    /// of each bin from there back.
    pub fn encode(&self) -> String {
        self.own.encode()
    }

    /// From its stored form, under an allowance that may have changed since.
    ///
    /// # Errors
    ///
    /// [`BadBudget`] for any other text.
    pub fn decode(text: &str, per_hour: u32) -> Result<Self, BadBudget> {
        Ok(Self { per_hour, own: Calls::decode(text)?, beside: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    const START: i64 = 1_795_000_000;

    #[test]
    fn a_backfill_leaves_the_live_export_its_runs_and_a_few_calls_more() {
        for (share, left) in
            [(1, 1), (3, 3), (4, 3), (6, 5), (9, 7), (17, 8), (18, 15), (37, 15), (120, 30)]
        {
            assert_eq!(reserve(share), left, "{share}");
        }
        let first = (1..=120).find(|share| reserve(*share) < *share);
        assert_eq!(first, Some(LEAST_TO_SHARE));
    }

    #[test]
    fn an_audit_takes_half_the_calls_or_one_beside_the_runs_of_the_hour() {
        for (share, audits) in
            [(120, 60), (37, 18), (18, 14), (9, 8), (6, 6), (5, 5), (4, 4), (3, 3), (1, 1)]
        {
            assert_eq!(Budget::new(share).for_audit().per_hour(), audits, "{share}");
        }
        let mut whole = Budget::new(40);
        for _ in 0..13 {
            whole.spend(second(0)).unwrap();
        }
        let mut audits = whole.for_audit();
        assert_eq!(audits.remaining(second(0)), 7);
        for _ in 0..7 {
            audits.spend(second(0)).unwrap();
        }
        assert!(audits.spend(second(0)).is_err());
        assert_eq!(whole.counted_by(&audits).remaining(second(0)), 20);
    }

    #[test]
    fn a_call_is_free_again_when_its_ten_seconds_have_left_the_hour() {
        let mut budget = Budget::new(2);
        let start = 179_500_000 * 10;
        assert_eq!(budget.spend(second(start + 9)), Ok(()));
        assert_eq!(budget.spend(second(start + 20)), Ok(()));
        assert_eq!(budget.remaining(second(start + 3_600)), 0);
        let spent = budget.spend(second(start + 3_600)).unwrap_err();
        assert_eq!(spent.free_in, Duration::from_secs(10));
        assert_eq!(budget.remaining(second(start + 3_610)), 1);
        assert_eq!(budget.remaining(second(start + 3_630)), 2);
        assert_eq!(budget.used(second(start + 3_610)), 1);
    }

    #[test]
    fn the_stored_form_is_stable() {
        let mut budget = Budget::new(9);
        assert_eq!(budget.encode(), "0:");
        budget.spend(second(1_795_000_000)).unwrap();
        budget.spend(second(1_795_000_025)).unwrap();
        budget.spend(second(1_795_000_029)).unwrap();
        assert_eq!(budget.encode(), "179500002:2,0,1");
        assert_eq!(Budget::decode("179500002:2,0,1", 9), Ok(budget));
        for text in ["", "x:1", "5", "5:1,", "5:-1", &format!("5:{}0", "0,".repeat(361))] {
            assert_eq!(Budget::decode(text, 9), Err(BadBudget), "{text}");
        }
    }

    #[test]
    fn a_smaller_allowance_takes_effect_at_once() {
        let budget = Budget::decode("179500002:5", 3).unwrap();
        assert_eq!(budget.remaining(second(1_795_000_020)), 0);
    }

    #[test]
    fn a_clock_that_jumps_back_neither_grants_nor_blocks_forever() {
        for back in [1, 59, 3_600, 3_700, 86_400 * 3_650] {
            let mut budget = Budget::new(1);
            budget.spend(second(START)).unwrap();
            let now = START - back;
            assert_eq!(budget.remaining(second(now)), 0, "back by {back}");
            assert!(budget.spend(second(now)).is_err());
            let spent = budget.spend(second(now)).unwrap_err();
            assert!(spent.free_in <= Duration::from_mins(121), "{spent:?}");
            let free = now + i64::try_from(spent.free_in.as_secs()).unwrap();
            assert_eq!(budget.remaining(second(free - 1)), 0, "back by {back}");
            assert_eq!(budget.remaining(second(free)), 1, "back by {back}");
        }
    }

    #[test]
    fn a_small_step_back_does_not_make_calls_older() {
        let mut budget = Budget::new(1);
        budget.spend(second(START)).unwrap();
        budget.spend(second(START - 1_800)).unwrap_err();
        assert_eq!(budget.remaining(second(START + 1_810)), 0);
        assert_eq!(budget.remaining(second(START + 3_610)), 1);
    }

    proptest! {
        #[test]
        fn no_sixty_minutes_hold_more_calls_than_allowed(
            per_hour in 1_u32..20,
            gaps in prop::collection::vec(0_i64..600, 1..300),
        ) {
            let mut budget = Budget::new(per_hour);
            let mut made = Vec::new();
            let mut now = START;
            for gap in gaps {
                now += gap;
                // Saved and read back between any two calls.
                budget = Budget::decode(&budget.encode(), per_hour).unwrap();
                let remaining = budget.remaining(second(now));
                let spent = budget.spend(second(now));
                prop_assert_eq!(spent.is_ok(), remaining > 0);
                if spent.is_ok() {
                    made.push(now);
                }
                let within = made.iter().filter(|at| **at > now - 3_600).count();
                prop_assert!(within <= usize::try_from(per_hour).unwrap());
                // And no call is held back that ten seconds more would not free.
                let near = made.iter().filter(|at| **at > now - 3_620).count();
                if spent.is_err() {
                    prop_assert!(near >= usize::try_from(per_hour).unwrap());
                }
            }
        }

        /// One side calls whenever it likes, the other books first; each is
        /// stopped or killed at any moment and reads what was saved last.
        #[test]
        fn two_that_share_an_hour_never_make_more_calls_than_allowed(
            per_hour in 1_u32..40,
            acts in prop::collection::vec((0_u8..6, 0_i64..240, 1_u32..9), 1..300),
        ) {
            let reserve = reserve(per_hour);
            let (mut live, mut slow) = (Budget::new(per_hour), Budget::new(per_hour));
            // What each has saved; only the slow side can die with calls unsaved.
            let (mut live_saved, mut slow_saved) = (live.encode(), slow.encode());
            let mut made = Vec::new();
            let mut now = START;
            for (act, gap, count) in acts {
                now += gap;
                let at = second(now);
                let calls = |text: &str| vec![Calls::decode(text).unwrap()];
                match act {
                    0 | 1 => {
                        live = Budget::decode(&live_saved, per_hour).unwrap().beside(calls(&slow_saved));
                        for _ in 0..count {
                            if live.spend(at).is_ok() {
                                made.push(now);
                            }
                        }
                        live_saved = live.encode();
                    }
                    2 | 3 => {
                        slow = slow.beside(calls(&live_saved));
                        if slow.book(count, reserve, at, second(now + 300)).is_ok() {
                            slow_saved = slow.encode();
                        }
                    }
                    4 => {
                        // A booking is made use of while it lasts, saved or not.
                        let may = slow_saved.contains('+') && slow.encode().contains('+');
                        if may && slow.spend(at).is_ok() {
                            made.push(now);
                        }
                    }
                    _ => {
                        slow = Budget::decode(&slow_saved, per_hour).unwrap();
                        slow.inherit(at);
                        slow_saved = slow.encode();
                    }
                }
                if act == 3 {
                    slow.settle();
                    slow_saved = slow.encode();
                }
                let within = made.iter().filter(|at| **at > now - 3_600).count();
                prop_assert!(within <= usize::try_from(per_hour).unwrap());
            }
        }
    }
}
