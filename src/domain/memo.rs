//! What runs leave for later ones to know, beside how far they came.

use std::collections::BTreeMap;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::advice::Advice;
use super::heartbeat::Counts;
use super::timestamp::Timestamp;

/// So long without an alert of ours is told: Defender answers an account that
/// sees nothing with an empty list, as it does when nothing happened.
const QUIET: Duration = Duration::from_hours(7 * 24);

/// Characters kept of each text of [`Memo::said`], so that the state's row
/// stays far below what a table takes in one value (32,768 characters).
const SAID_CHARS: usize = 4_000;

/// Saved with the checkpoint. What an older version did not write reads as
/// nothing known.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "snake_case")]
pub struct Memo {
    /// Whose alerts were met.
    pub met: Met,
    /// By target, rows it refused alone since it last accepted one.
    refused: BTreeMap<String, u64>,
    /// The last run failed because a target refused row after row.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all_refused: bool,
    /// What the last run that asked the source had to tell people.
    said: Option<Said>,
}

/// Whose alerts were met since the device groups were last changed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "snake_case")]
pub struct Met {
    /// The scope they were ruled on by, as
    /// [`Scope::fingerprint`](super::scope::Scope::fingerprint) names it.
    scope: String,
    ours: bool,
    others: bool,
    /// When one of ours was last met; while none was, since when the list holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Said {
    message: String,
    next_step: String,
}

impl Memo {
    /// Rows `target` refused alone since it last accepted one.
    pub fn refused(&self, target: &str) -> u64 {
        self.refused.get(target).copied().unwrap_or_default()
    }

    /// What `target` made of a batch. Rows refused beside accepted ones are
    /// theirs to blame; rows refused with none accepted may not be.
    pub fn note_delivery(&mut self, target: &str, accepted: usize, refused: usize) {
        if accepted > 0 {
            self.refused.remove(target);
        } else if refused > 0 {
            let count = self.refused.entry(target.to_owned()).or_default();
            *count = count.saturating_add(u64::try_from(refused).unwrap_or(u64::MAX));
        }
    }

    /// What the last run that asked the source had to tell people.
    pub fn said(&self) -> Option<Advice> {
        self.said.as_ref().map(|said| Advice::new(&said.message, &said.next_step))
    }

    /// Keeps it for the runs that leave the source alone meanwhile.
    pub fn say(&mut self, advice: Option<&Advice>) {
        let cut = |text: &str| text.chars().take(SAID_CHARS).collect();
        self.said = advice.map(|advice| Said {
            message: cut(&advice.message),
            next_step: cut(&advice.next_step),
        });
    }
}

impl Met {
    /// A run under `scope` that ended `now` met these.
    pub fn note(&mut self, scope: &str, counts: Counts, now: Timestamp) {
        if self.scope != scope {
            *self = Self { scope: scope.to_owned(), ..Self::default() };
        }
        let ours = counts.fetched > counts.withheld;
        self.ours |= ours;
        self.others |= counts.withheld > 0;
        if ours || self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// Since when no alert of ours was met under `scope`, if for a week.
    pub fn quiet_since(&self, scope: &str, now: Timestamp) -> Option<Timestamp> {
        self.since.filter(|since| self.scope == scope && *since + QUIET <= now)
    }

    /// Whether what is noted is of `scope`.
    pub fn is_of(&self, scope: &str) -> bool {
        self.scope == scope
    }

    /// Whether every alert met under `scope` was withheld, and there were some:
    /// the list of groups may name none that exists.
    pub fn only_others(&self, scope: &str) -> bool {
        self.scope == scope && self.others && !self.ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::EPOCH;

    fn counts(fetched: u64, withheld: u64) -> Counts {
        Counts { fetched, withheld, ..Counts::default() }
    }

    #[test]
    fn one_alert_of_ours_proves_the_list_until_it_is_changed() {
        let mut met = Met::default();
        assert!(!met.only_others("a"));
        met.note("a", counts(0, 0), NOW);
        assert!(!met.only_others("a"), "quiet so far");
        met.note("a", counts(5, 5), NOW);
        assert!(met.only_others("a"));
        met.note("a", counts(0, 0), NOW);
        assert!(met.only_others("a"), "a quiet run proves nothing");
        assert!(!met.only_others("b"), "another list");
        assert!(met.is_of("a") && !met.is_of("b"));
        met.note("a", counts(3, 2), NOW);
        assert!(!met.only_others("a"));
        met.note("b", counts(2, 2), NOW);
        assert!(met.only_others("b"));
    }

    #[test]
    fn a_week_without_an_alert_of_ours_is_told_from_the_last_one_on() {
        let day = |day: u64| NOW + Duration::from_hours(24 * day);
        let mut met = Met::default();
        assert_eq!(met.quiet_since("a", day(30)), None, "nothing is known");
        met.note("a", counts(0, 0), day(1));
        met.note("a", counts(2, 2), day(7));
        assert_eq!(met.quiet_since("a", day(8) - Duration::from_secs(1)), None);
        assert_eq!(met.quiet_since("a", day(8)), Some(day(1)), "since the list holds");
        assert_eq!(met.quiet_since("b", day(8)), None, "another list");
        met.note("a", counts(2, 1), day(9));
        met.note("a", counts(0, 0), day(15));
        assert_eq!(met.quiet_since("a", day(15)), None);
        assert_eq!(met.quiet_since("a", day(16)), Some(day(9)));
        met.note("b", counts(0, 0), day(17));
        assert_eq!(met.quiet_since("b", day(17)), None, "a new list begins anew");
    }

    #[test]
    fn refusals_count_until_the_target_accepts_a_row() {
        let mut memo = Memo::default();
        memo.note_delivery("a", 0, 1);
        memo.note_delivery("a", 0, 2);
        memo.note_delivery("b", 5, 1);
        memo.note_delivery("a", 0, 0);
        assert_eq!((memo.refused("a"), memo.refused("b")), (3, 0));
        memo.note_delivery("a", 1, 1);
        assert_eq!(memo.refused("a"), 0);
    }

    #[test]
    fn the_stored_form_is_stable_and_what_is_missing_is_nothing() {
        let mut memo = Memo::default();
        memo.met.note("RXX|false", counts(1, 1), NOW);
        memo.note_delivery("EventHub", 0, 2);
        memo.say(Some(&Advice::new("m".repeat(5_000), "n")));
        memo.say(Some(&Advice::new("m", "n")));
        let stored = serde_json::to_string(&memo).unwrap();
        assert_eq!(
            stored,
            r#"{"met":{"scope":"RXX|false","ours":false,"others":true,"since":"1970-01-01T00:00:00Z"},"refused":{"EventHub":2},"said":{"message":"m","next_step":"n"}}"#
        );
        assert_eq!(serde_json::from_str::<Memo>(&stored).unwrap(), memo);
        assert_eq!(serde_json::from_str::<Memo>("{}").unwrap(), Memo::default());
    }

    #[test]
    fn texts_are_cut_so_that_the_row_stays_small() {
        let mut memo = Memo::default();
        memo.say(Some(&Advice::new("é".repeat(5_000), "n".repeat(9_000))));
        let said = memo.said().unwrap();
        assert_eq!((said.message.chars().count(), said.next_step.chars().count()), (4_000, 4_000));
    }
}
