//! More alerts of one and the same update time than fit a page.

use crate::domain::timestamp::Timestamp;

/// How alerts of one update time are told apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ties {
    /// Counted through with `$skip`, as far as it goes.
    Counted,
    /// By creation time, where `$skip` has an end: spans of it are divided
    /// until each fits a page.
    ByCreation {
        /// Alerts the largest page holds: asked for where nothing is left to
        /// divide, however small pages have become.
        largest: u32,
    },
}

/// Creation times, open to a side without a bound. The start is in, the end is
/// out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Created {
    pub(super) from: Option<Timestamp>,
    pub(super) before: Option<Timestamp>,
}

impl Created {
    /// Whether an alert created at `at` is meant.
    pub(super) fn holds(self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.before.is_none_or(|before| at < before)
    }

    /// Whether it is one time.
    pub(super) fn is_one_time(self) -> bool {
        self.from.is_some() && self.from.map(Timestamp::next_tick) == self.before
    }

    /// Parts that tile it, the earliest last, each without one at least of the
    /// alerts created at `times`. None if that cannot be: all of them were
    /// created at one time, and this is that time.
    pub(super) fn split(self, times: &[Timestamp]) -> Vec<Self> {
        let mut times: Vec<_> = times.iter().copied().filter(|at| self.holds(*at)).collect();
        times.sort_unstable();
        let (Some(&first), Some(&last)) = (times.first(), times.last()) else { return Vec::new() };
        if first == last {
            return self.around(first);
        }
        let middle = times.get(times.len() / 2).copied().filter(|middle| first < *middle);
        let middle = middle.or_else(|| times.iter().copied().find(|at| first < *at));
        vec![Self { from: middle, ..self }, Self { before: middle, ..self }]
    }

    /// What is after `at`, at it, and before it, as far as it is a part.
    fn around(self, at: Timestamp) -> Vec<Self> {
        if self.is_one_time() {
            return Vec::new();
        }
        let next = at.next_tick();
        let (begins, ends) = (self.from == Some(at), self.before == Some(next));
        let after = (!ends).then_some(Self { from: Some(next), ..self });
        let before = (!begins).then_some(Self { before: Some(at), ..self });
        let itself = Self { from: Some(at), before: Some(next) };
        after.into_iter().chain([itself]).chain(before).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    #[test]
    fn a_time_that_all_share_is_cut_out_and_then_cannot_be_divided() {
        let all = Created::default();
        let parts = all.split(&[at(7); 3]);
        let itself = Created { from: Some(at(7)), before: Some(at(7).next_tick()) };
        assert_eq!(
            parts,
            [
                Created { from: Some(at(7).next_tick()), before: None },
                itself,
                Created { from: None, before: Some(at(7)) },
            ]
        );
        assert_eq!(itself.split(&[at(7); 3]), []);
        assert_eq!(all.split(&[]), [], "nothing to go by");
        assert_eq!(parts[2].split(&[at(9)]), [], "the filter was ignored");
    }

    proptest! {
        #[test]
        fn parts_tile_and_each_lacks_one(
            times in prop::collection::vec(0_i64..50, 1..40),
            from in prop::option::of(0_i64..50),
            length in prop::option::of(1_i64..50),
        ) {
            let from = from.map(at);
            let before = length.map(|length| from.unwrap_or(at(0)) + std::time::Duration::from_secs(length.unsigned_abs()));
            let whole = Created { from, before };
            let times: Vec<_> = times.into_iter().map(at).filter(|at| whole.holds(*at)).collect();
            let parts = whole.split(&times);
            for tick in (0..100).map(at).chain(times.iter().map(|at| at.next_tick())) {
                let holding = parts.iter().filter(|part| part.holds(tick)).count();
                prop_assert_eq!(holding, usize::from(whole.holds(tick) && !times.is_empty()));
            }
            let distinct: std::collections::BTreeSet<_> = times.iter().collect();
            for part in &parts {
                let all = times.iter().all(|at| part.holds(*at));
                prop_assert!(!all || distinct.len() == 1, "{part:?}");
            }
        }
    }
}
