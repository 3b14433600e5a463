//! The hourly call budget.
//!
//! Defender counts calls by application and tenant, and all trusts share both:
//! 100 a minute and 1,500 an hour for the whole fleet
//! (<https://learn.microsoft.com/defender-endpoint/api/get-alerts>). Each
//! deployment keeps to its share of any sixty minutes, across runs.

use std::collections::BTreeMap;

use super::timestamp::Timestamp;

/// Minutes that count towards an hour. One more than sixty, because a call may
/// lie anywhere in its minute.
const COUNTED: i64 = 61;

/// Calls made in the last hour, by minute.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Budget(BTreeMap<i64, u32>);

impl Budget {
    /// Calls that may be made now without more than `per_hour` in any sixty
    /// minutes.
    pub fn remaining(&self, per_hour: u32, now: Timestamp) -> u32 {
        let counts = self.0.iter().filter(|(minute, _)| counted(**minute, now));
        let spent = counts.fold(0_u32, |sum, (_, calls)| sum.saturating_add(*calls));
        per_hour.saturating_sub(spent)
    }

    /// Notes calls made.
    pub fn spend(&mut self, now: Timestamp, calls: u32) {
        self.0.retain(|minute, _| counted(*minute, now));
        if calls > 0 {
            let spent = self.0.entry(minute(now)).or_default();
            *spent = spent.saturating_add(calls);
        }
    }

    /// `29400123=2 29400128=1`: minutes since 1970 and calls.
    pub fn encode(&self) -> String {
        let bins: Vec<_> =
            self.0.iter().map(|(minute, calls)| format!("{minute}={calls}")).collect();
        bins.join(" ")
    }

    /// From its stored form; `None` if it is not one.
    pub fn decode(text: &str) -> Option<Self> {
        let bin = |part: &str| {
            let (minute, calls) = part.split_once('=')?;
            Some((minute.parse().ok()?, calls.parse().ok()?))
        };
        text.split_whitespace().map(bin).collect::<Option<_>>().map(Self)
    }
}

fn minute(at: Timestamp) -> i64 {
    at.unix_seconds().div_euclid(60)
}

/// Minutes ahead of now are from before a clock was set back. They count for
/// an hour, so that setting it back grants nothing, and no longer, so that it
/// blocks nothing for good.
fn counted(bin: i64, now: Timestamp) -> bool {
    (minute(now) - bin).abs() < COUNTED
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn calls_become_free_an_hour_later() {
        let mut budget = Budget::default();
        budget.spend(at(30), 5);
        assert_eq!(budget.remaining(5, at(3_600)), 0);
        assert_eq!(budget.remaining(5, at(3_659)), 0);
        assert_eq!(budget.remaining(5, at(3_660)), 5);
    }

    #[test]
    fn a_clock_set_back_neither_grants_nor_blocks_for_good() {
        let mut budget = Budget::default();
        budget.spend(at(100_000), 5);
        assert_eq!(budget.remaining(5, at(99_000)), 0);
        assert_eq!(budget.remaining(5, at(0)), 5);
    }

    #[test]
    fn the_stored_form_is_stable() {
        let mut budget = Budget::default();
        budget.spend(at(60), 2);
        budget.spend(at(190), 1);
        assert_eq!(budget.encode(), "1=2 3=1");
        assert_eq!(Budget::decode("1=2 3=1"), Some(budget));
        assert_eq!(Budget::decode(""), Some(Budget::default()));
        assert_eq!(Budget::decode("x"), None);
    }

    proptest! {
        #[test]
        fn no_sixty_minutes_hold_more_than_the_share(
            steps in prop::collection::vec((0_u64..1_200, 1_u32..9), 1..200),
            share in 1_u32..40,
        ) {
            let mut budget = Budget::default();
            let (mut now, mut calls) = (0, Vec::new());
            for (wait, wanted) in steps {
                now += wait;
                let made = wanted.min(budget.remaining(share, at(now)));
                budget.spend(at(now), made);
                budget = Budget::decode(&budget.encode()).unwrap();
                calls.extend(std::iter::repeat_n(now, made as usize));
                let last_hour = calls.iter().filter(|call| now - **call < 3_600).count();
                prop_assert!(last_hour <= share as usize);
            }
        }
    }
}
