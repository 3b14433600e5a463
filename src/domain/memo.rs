//! What runs leave for later ones to know, beside how far they came.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::advice::Advice;
use super::heartbeat::Counts;

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
    /// A run under `scope` met these.
    pub fn note(&mut self, scope: &str, counts: Counts) {
        if self.scope != scope {
            *self = Self { scope: scope.to_owned(), ..Self::default() };
        }
        self.ours |= counts.fetched > counts.withheld;
        self.others |= counts.withheld > 0;
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

    fn counts(fetched: u64, withheld: u64) -> Counts {
        Counts { fetched, withheld, ..Counts::default() }
    }

    #[test]
    fn one_alert_of_ours_proves_the_list_until_it_is_changed() {
        let mut met = Met::default();
        assert!(!met.only_others("a"));
        met.note("a", counts(0, 0));
        assert!(!met.only_others("a"), "quiet so far");
        met.note("a", counts(5, 5));
        assert!(met.only_others("a"));
        met.note("a", counts(0, 0));
        assert!(met.only_others("a"), "a quiet run proves nothing");
        assert!(!met.only_others("b"), "another list");
        assert!(met.is_of("a") && !met.is_of("b"));
        met.note("a", counts(3, 2));
        assert!(!met.only_others("a"));
        met.note("b", counts(2, 2));
        assert!(met.only_others("b"));
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
        memo.met.note("RXX|false", counts(1, 1));
        memo.note_delivery("EventHub", 0, 2);
        memo.say(Some(&Advice::new("m".repeat(5_000), "n")));
        memo.say(Some(&Advice::new("m", "n")));
        let stored = serde_json::to_string(&memo).unwrap();
        assert_eq!(
            stored,
            r#"{"met":{"scope":"RXX|false","ours":false,"others":true},"refused":{"EventHub":2},"said":{"message":"m","next_step":"n"}}"#
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
