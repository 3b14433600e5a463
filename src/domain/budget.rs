//! How many calls this deployment may still make within the hour.
//!
//! Defender allows 1,500 calls an hour to all deployments of one application
//! together, so each keeps to its share, `FunctionConfigCallsPerHour`, and
//! remembers across runs what it has used.
//! <https://learn.microsoft.com/defender-endpoint/api/get-alerts>

use std::collections::VecDeque;
use std::time::Duration;

use super::pace::ordinary_calls;
use super::timestamp::Timestamp;

/// Length of a bin, in seconds.
const BIN: i64 = 10;
/// Bins a call counts for: those of the hour after the one it was made in.
const HOUR: i64 = 3_600 / BIN;
/// How far back the clock may step and still be believed to have stood right
/// before: an hour, in bins.
const BELIEVED_STEP: i64 = HOUR;

/// A sliding hour of calls, in bins of ten seconds.
///
/// A call counts until an hour after the end of its own bin, so that no sixty
/// minutes ever hold more than the allowance, and one that is made every ten
/// minutes is held back for seconds only. Times never grant anything by going
/// back: a small step back counts in the newest bin, and after a large one
/// everything counts as made now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Budget {
    per_hour: u32,
    /// Number of the front bin, counted from 1970.
    newest: i64,
    /// Calls by bin, the newest first; at most 361 bins.
    bins: VecDeque<u32>,
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

fn bin(at: Timestamp) -> i64 {
    at.unix_seconds().div_euclid(BIN)
}

impl Budget {
    /// Nothing used yet.
    pub fn new(per_hour: u32) -> Self {
        Self { per_hour, newest: 0, bins: VecDeque::new() }
    }

    /// Calls an hour.
    pub fn per_hour(&self) -> u32 {
        self.per_hour
    }

    /// Calls made that still count.
    pub fn used(&self, now: Timestamp) -> u32 {
        let mut then = self.clone();
        then.turn_to(now);
        then.counted()
    }

    /// Calls that may be made now.
    pub fn remaining(&self, now: Timestamp) -> u32 {
        let mut then = self.clone();
        then.turn_to(now);
        then.left()
    }

    /// Counts one call.
    ///
    /// # Errors
    ///
    /// [`Spent`] if it may not be made.
    pub fn spend(&mut self, now: Timestamp) -> Result<(), Spent> {
        self.turn_to(now);
        if self.left() == 0 {
            return Err(Spent { free_in: self.free_in(now) });
        }
        match self.bins.front_mut() {
            Some(bin) => *bin = bin.saturating_add(1),
            None => self.bins.push_front(1),
        }
        Ok(())
    }

    /// The same for the audit: half the allowance, or where that is less than
    /// the runs of the hour make, one call more than those.
    #[must_use]
    pub fn for_audit(&self) -> Self {
        let beside = ordinary_calls(self.per_hour) + 1;
        Self { per_hour: (self.per_hour / 2).max(beside).min(self.per_hour), ..self.clone() }
    }

    /// The same allowance, with the calls that `other` has counted.
    #[must_use]
    pub fn counted_by(&self, other: &Self) -> Self {
        Self { per_hour: self.per_hour, ..other.clone() }
    }

    fn left(&self) -> u32 {
        self.per_hour.saturating_sub(self.counted())
    }

    fn counted(&self) -> u32 {
        self.bins.iter().fold(0_u32, |sum, bin| sum.saturating_add(*bin))
    }

    /// Makes the bin of `now` the newest, and drops bins that no longer
    /// count.
    fn turn_to(&mut self, now: Timestamp) {
        let now = bin(now);
        if self.bins.is_empty() || now < self.newest - BELIEVED_STEP {
            self.newest = now;
        }
        let passed = (now - self.newest).clamp(0, HOUR + 1);
        for _ in 0..passed {
            self.bins.push_front(0);
        }
        self.bins.truncate(BINS);
        self.newest = self.newest.max(now);
    }

    /// Until the oldest bins, as many as need be, have slid out.
    fn free_in(&self, now: Timestamp) -> Duration {
        let mut kept = self.counted();
        let mut free_at = self.newest + HOUR + 1;
        for (age, bin) in (0_u32..361).zip(&self.bins).rev() {
            if kept < self.per_hour {
                break;
            }
            kept -= bin;
            free_at = self.newest - i64::from(age) + HOUR + 1;
        }
        Timestamp::from_unix_seconds(free_at.saturating_mul(BIN)).since(now)
    }

    /// For the position's row: `179500000:3,0,1`, the newest bin and the calls
    /// of each bin from there back.
    pub fn encode(&self) -> String {
        let used = self.bins.iter().rposition(|bin| *bin > 0).map_or(0, |last| last + 1);
        let bins: Vec<_> = self.bins.iter().take(used).map(u32::to_string).collect();
        format!("{}:{}", self.newest, bins.join(","))
    }

    /// From its stored form, under an allowance that may have changed since.
    ///
    /// # Errors
    ///
    /// [`BadBudget`] for any other text.
    pub fn decode(text: &str, per_hour: u32) -> Result<Self, BadBudget> {
        let (newest, bins) = text.split_once(':').ok_or(BadBudget)?;
        let newest = newest.parse().map_err(|_not_a_number| BadBudget)?;
        let bins: VecDeque<u32> = bins
            .split(',')
            .filter(|_| !bins.is_empty())
            .map(|bin| bin.parse().map_err(|_not_a_number| BadBudget))
            .collect::<Result<_, _>>()?;
        if bins.len() > BINS { Err(BadBudget) } else { Ok(Self { per_hour, newest, bins }) }
    }
}

/// The bin a call is made in, and those it counts for after it.
const BINS: usize = 361;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    const START: i64 = 1_795_000_000;

    #[test]
    fn an_audit_takes_half_the_calls_or_one_beside_the_runs_of_the_hour() {
        for (share, audits) in [(120, 60), (37, 18), (18, 13), (9, 7), (6, 5), (3, 3), (1, 1)] {
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
    }
}
