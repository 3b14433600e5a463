//! What is kept of each run, so that people can look back: counts and words,
//! nothing of an alert.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::heartbeat::{Counts, Heartbeat, Status};
use super::scope::{Group, Ruling, Scope};
use super::timestamp::Timestamp;

/// How long runs are kept.
pub const KEPT: Duration = Duration::from_hours(30 * 24);
/// Groups noted by name in one run at most, so that a row stays small.
const NAMES: usize = 100;
/// Longest name noted; Defender's own limit is shorter.
const NAME_CHARS: usize = 256;

/// What a record is of. Stored: the names last.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Kind {
    /// A run of the live export.
    #[default]
    Run,
    /// The end of a backfill, with the counts of all of it.
    Backfill,
}

/// One run that has ended. Stored: the names of its members last.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PastRun {
    /// When it ended.
    pub at: Timestamp,
    /// How.
    pub status: Status,
    /// What happened, in plain words.
    pub message: String,
    /// What a person should do; empty when nothing.
    pub next_step: String,
    /// What it did.
    #[serde(flatten)]
    pub counts: Counts,
    /// Its end minus the position; absent while there was none.
    pub lag_seconds: Option<u64>,
    /// From start to heartbeat.
    pub duration_ms: u64,
    /// Whose alerts it met.
    pub groups: Seen,
    /// What it is of; written only where it is no run.
    #[serde(default, skip_serializing_if = "Kind::is_run")]
    pub kind: Kind,
}

/// The device groups one run met.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Seen {
    /// Those whose alerts may leave, by name.
    pub allowed: BTreeSet<String>,
    /// How many others. Their names are another trust's business.
    pub foreign: u64,
    /// Alerts withheld because they have no group.
    pub ungrouped: u64,
    /// Alerts withheld because their group cannot be read.
    pub unreadable: u64,
}

/// Collects [`Seen`] while alerts pass. Keeps no name of a foreign group.
#[derive(Debug, Default)]
pub struct Sightings {
    seen: Seen,
    foreign: BTreeSet<u64>,
}

impl Sightings {
    /// Rules on an alert of `groups` and remembers whose it was.
    pub fn rule<'a>(
        &mut self,
        scope: &Scope,
        groups: impl Iterator<Item = Group<'a>> + Clone,
    ) -> Ruling {
        let ruling = scope.rule_all(groups.clone());
        match ruling {
            Ruling::Export => groups.for_each(|group| self.note_allowed(&group)),
            Ruling::Foreign => groups
                .filter(|group| scope.rule(group) == Ruling::Foreign)
                .for_each(|group| self.note_foreign(&group)),
            Ruling::Ungrouped => self.seen.ungrouped += 1,
            Ruling::Unproven => self.seen.unreadable += 1,
        }
        ruling
    }

    fn note_allowed(&mut self, group: &Group<'_>) {
        let Group::Named(name) = group else { return };
        let allowed = &mut self.seen.allowed;
        if !allowed.contains(name.as_ref()) && allowed.len() < NAMES {
            allowed.insert(name.chars().take(NAME_CHARS).collect());
        }
    }

    fn note_foreign(&mut self, group: &Group<'_>) {
        let mut hasher = DefaultHasher::new();
        if let Group::Named(name) = group {
            name.hash(&mut hasher);
        }
        self.foreign.insert(hasher.finish());
    }

    /// What was met so far.
    pub fn seen(&self) -> Seen {
        let foreign = u64::try_from(self.foreign.len()).unwrap_or(u64::MAX);
        Seen { foreign, ..self.seen.clone() }
    }
}

impl Kind {
    /// Whether it is a run of the live export.
    pub fn is_run(&self) -> bool {
        *self == Self::Run
    }
}

impl PastRun {
    /// Of a run that ended at `at` with `heartbeat`.
    pub fn of(heartbeat: &Heartbeat, groups: Seen, at: Timestamp) -> Self {
        Self {
            at,
            status: heartbeat.status,
            message: heartbeat.message.clone(),
            next_step: heartbeat.next_step.clone(),
            counts: heartbeat.counts,
            lag_seconds: heartbeat.lag_seconds,
            duration_ms: heartbeat.duration_ms,
            groups,
            kind: Kind::Run,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of 30 days are read by the next version, letter by letter.
    #[test]
    fn the_stored_form_is_stable() {
        let run = PastRun {
            at: Timestamp::EPOCH,
            status: Status::Ok,
            message: "m".to_owned(),
            next_step: String::new(),
            counts: Counts { fetched: 3, delivered: 2, withheld: 1, ..Counts::default() },
            lag_seconds: Some(60),
            duration_ms: 7,
            groups: Seen { allowed: ["RXX".to_owned()].into(), foreign: 1, ..Seen::default() },
            kind: Kind::Run,
        };
        let stored = r#"{"At":"1970-01-01T00:00:00Z","Status":"Ok","Message":"m","NextStep":"","Fetched":3,"Delivered":2,"Duplicates":0,"Withheld":1,"Quarantined":0,"Calls":0,"LagSeconds":60,"DurationMs":7,"Groups":{"Allowed":["RXX"],"Foreign":1,"Ungrouped":0,"Unreadable":0}}"#;
        assert_eq!(serde_json::to_string(&run).unwrap(), stored);
        assert_eq!(serde_json::from_str::<PastRun>(stored).unwrap(), run);
        let backfill = PastRun { kind: Kind::Backfill, ..run };
        let stored = stored.replace("}}", r#"},"Kind":"Backfill"}"#);
        assert_eq!(serde_json::to_string(&backfill).unwrap(), stored);
        assert_eq!(serde_json::from_str::<PastRun>(&stored).unwrap(), backfill);
    }

    #[test]
    fn foreign_groups_are_counted_once_each_and_never_named() {
        let mut sightings = Sightings::default();
        let scope = Scope::parse("RXX", false).unwrap();
        let named = |name: &'static str| Group::Named(name.into());
        let mut rule = |groups: &[Group<'static>]| sightings.rule(&scope, groups.iter().cloned());
        assert_eq!(rule(&[named("RXX"), named("RXX")]), Ruling::Export);
        for name in ["RYY", "RYY", "RZZ"] {
            assert_eq!(rule(&[named(name)]), Ruling::Foreign);
        }
        assert_eq!(rule(&[named("RXX"), named("RYY"), Group::Ungrouped]), Ruling::Foreign);
        assert_eq!(rule(&[Group::Ungrouped, Group::Ungrouped]), Ruling::Ungrouped);
        assert_eq!(rule(&[named("RXX"), Group::Unreadable]), Ruling::Unproven);
        let seen = sightings.seen();
        let expected =
            Seen { allowed: ["RXX".to_owned()].into(), foreign: 2, ungrouped: 1, unreadable: 1 };
        assert_eq!(seen, expected);
        assert!(!format!("{sightings:?}").contains("RYY"));
    }
}
