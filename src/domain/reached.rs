//! How far each target has everything, where rows go to several.
//!
//! The position is that of the slowest target. The others may be ahead of it:
//! a target that is down holds up nobody else, and what the others have is not
//! sent to them again once it is back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::progress::{Receipt, SetBack};
use super::timestamp::Timestamp;

/// Targets no further apart than this read together. One that is further behind
/// is caught up by itself, after the others have what is new.
pub const TOGETHER: Duration = Duration::from_hours(1);

/// Everything before these times is delivered, target by target.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reached {
    by_target: BTreeMap<String, Timestamp>,
}

impl Reached {
    /// As it was saved.
    pub fn from_saved(by_target: BTreeMap<String, Timestamp>) -> Self {
        Self { by_target }
    }

    /// What is saved.
    pub fn by_target(&self) -> &BTreeMap<String, Timestamp> {
        &self.by_target
    }

    /// The same for `targets` alone: one that is new begins at `position`, one
    /// that is no longer named is forgotten.
    #[must_use]
    pub fn of<'a>(&self, targets: impl Iterator<Item = &'a str>, position: Timestamp) -> Self {
        let at = |name| self.by_target.get(name).copied().unwrap_or(position).max(position);
        Self { by_target: targets.map(|name| (name.to_owned(), at(name))).collect() }
    }

    /// How far `target` is; `None` if it is not one.
    pub fn at(&self, target: &str) -> Option<Timestamp> {
        self.by_target.get(target).copied()
    }

    /// Moves `target` past what `receipt` proves delivered to it. Never back.
    pub fn advance(&mut self, target: &str, receipt: Receipt) {
        if let Some(at) = self.by_target.get_mut(target) {
            *at = receipt.through().max(*at);
        }
    }

    /// The furthest of them; `None` without targets.
    pub fn furthest(&self) -> Option<Timestamp> {
        self.by_target.values().max().copied()
    }

    /// Goes back with the position, each target that is further.
    #[must_use]
    pub fn set_back(&self, back: SetBack) -> Self {
        let at = |(name, at): (&String, &Timestamp)| (name.clone(), back.to().min(*at));
        Self { by_target: self.by_target.iter().map(at).collect() }
    }

    /// Proof for the position: what every target has. `None` without targets.
    pub fn slowest(&self) -> Option<Receipt> {
        self.by_target.values().min().copied().map(Receipt::of_all)
    }

    /// Of the targets that are `open`, those to read for next: the leader and
    /// all that are at most `apart` behind it. `None` if none is open.
    pub fn next_group(&self, open: impl Fn(&str) -> bool, apart: Duration) -> Option<Group> {
        let open = || self.by_target.iter().filter(|(name, _)| open(name)).map(|(_, at)| *at);
        let leader = open().max()?;
        let from = open().filter(|at| leader.since(*at) <= apart).min()?;
        Some(Group { from })
    }
}

/// Targets that are near enough to read together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Group {
    /// How far the slowest of them is.
    pub from: Timestamp,
}

impl Group {
    /// Whether a target that is at `at` belongs to it.
    pub fn holds(self, at: Timestamp) -> bool {
        at >= self.from
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::progress::Tally;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::EPOCH + Duration::from_mins(minutes)
    }

    fn receipt(minutes: u64) -> Receipt {
        let mut tally = Tally::default();
        tally.mark(at(minutes), false);
        tally.receipt().expect("nothing is outstanding")
    }

    fn reached(pairs: &[(&str, u64)]) -> Reached {
        Reached::from_saved(pairs.iter().map(|(name, m)| ((*name).to_owned(), at(*m))).collect())
    }

    #[test]
    fn the_slowest_target_holds_the_position() {
        let mut reached = reached(&[("a", 10), ("b", 10)]);
        reached.advance("a", receipt(30));
        assert_eq!(reached.slowest().map(Receipt::through), Some(at(10)));
        reached.advance("b", receipt(20));
        assert_eq!(reached.slowest().map(Receipt::through), Some(at(20)));
        reached.advance("b", receipt(5));
        assert_eq!(reached.at("b"), Some(at(20)), "never back");
    }

    #[test]
    fn a_new_target_begins_at_the_position_and_one_given_up_holds_up_nobody() {
        let reached = reached(&[("down", 10), ("up", 90)]);
        let next = reached.of(["new", "up"].into_iter(), at(10));
        assert_eq!(next.at("new"), Some(at(10)));
        assert_eq!(next.at("down"), None);
        let alone = reached.of(["up"].into_iter(), at(10));
        assert_eq!(alone.slowest().map(Receipt::through), Some(at(90)));
    }

    #[test]
    fn a_target_far_behind_is_caught_up_by_itself() {
        let near = reached(&[("a", 100), ("b", 40)]);
        assert_eq!(near.next_group(|_| true, TOGETHER), Some(Group { from: at(40) }));
        let far = reached(&[("a", 101), ("b", 40)]);
        let first = far.next_group(|_| true, TOGETHER).unwrap();
        assert_eq!(first, Group { from: at(101) });
        assert!(!first.holds(at(40)));
        assert_eq!(far.next_group(|name| name != "a", TOGETHER), Some(Group { from: at(40) }));
        assert_eq!(far.next_group(|_| false, TOGETHER), None);
    }

    proptest! {
        #[test]
        fn the_position_is_never_ahead_of_any_target(
            moves in prop::collection::vec((0_usize..3, 0_u64..500), 0..60),
        ) {
            let names = ["a", "b", "c"];
            let mut reached = reached(&[("a", 0), ("b", 0), ("c", 0)]);
            let mut proven = [0; 3];
            for (which, to) in moves {
                reached.advance(names[which], receipt(to));
                proven[which] = proven[which].max(to);
                let position = reached.slowest().unwrap().through();
                prop_assert_eq!(Some(position), proven.iter().map(|m| at(*m)).min());
            }
        }
    }
}
