//! Whose alerts the signed-in account sees, against whose may leave.
//!
//! Names of foreign groups are another trust's business: they are counted and
//! compared, and kept by nobody.

use std::collections::{BTreeMap, BTreeSet};

use super::advice::Advice;
use super::check::{Check, Section, Verdict};
use super::runs::{Seen, Sightings};
use super::scope::{Group, Ruling, Scope};
use super::timestamp::Timestamp;

/// Collects what a sample of alerts shows.
#[derive(Debug)]
pub struct Visible {
    /// Allowed names by what is left of them without capitals and spaces.
    folded: BTreeMap<String, String>,
    sightings: Sightings,
    similar: BTreeSet<String>,
    alerts: u64,
}

/// What the sample and the runs of the days before it showed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Groups {
    /// Alerts looked at.
    pub alerts: u64,
    /// Whose they were.
    pub seen: Seen,
    /// Allowed names that differ from a foreign group's only in capitals and
    /// spaces.
    pub similar: BTreeSet<String>,
    /// Allowed names met by the runs of the same days.
    pub met: BTreeSet<String>,
}

impl Visible {
    /// To be compared with `scope`.
    pub fn new(scope: &Scope) -> Self {
        let folded = scope.names().into_iter().map(|name| (fold(name), name.to_owned())).collect();
        Self { folded, sightings: Sightings::default(), similar: BTreeSet::new(), alerts: 0 }
    }

    /// An alert of `groups`, ruled on by `scope`.
    pub fn note<'a>(&mut self, scope: &Scope, groups: impl Iterator<Item = Group<'a>> + Clone) {
        self.alerts += 1;
        self.sightings.rule(scope, groups.clone());
        for group in groups.filter(|group| scope.rule(group) == Ruling::Foreign) {
            if let Group::Named(name) = group
                && let Some(ours) = self.folded.get(&fold(&name))
            {
                self.similar.insert(ours.clone());
            }
        }
    }

    /// What was seen, beside what `runs` met.
    pub fn groups(&self, runs: impl IntoIterator<Item = Seen>) -> Groups {
        Groups {
            alerts: self.alerts,
            seen: self.sightings.seen(),
            similar: self.similar.clone(),
            met: runs.into_iter().flat_map(|seen| seen.allowed).collect(),
        }
    }
}

/// Without capitals, and with one space where there are several.
fn fold(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

const NAME: &str = "groups";
const CENTRAL: &str = "the central team";

/// The groups the account sees, against `FunctionConfigDeviceGroups`. Lines
/// that a person acts on come first.
pub fn groups(scope: &Scope, groups: &Groups, days: u64) -> Vec<Check> {
    let names = scope.names();
    if names == ["*"] {
        return vec![Check::new(
            NAME,
            Section::Groups,
            Verdict::Warn,
            "The scope guard is off: FunctionConfigDeviceGroups is `*`, so alerts of every group that the account sees leave.",
            "If that is not on purpose, write this trust's device groups into FunctionConfigDeviceGroups.",
        )];
    }
    let mut checks: Vec<_> =
        [misspelt(groups), foreign(groups), nobodys(&groups.seen), unreadable(groups)]
            .into_iter()
            .flatten()
            .collect();
    checks.extend(silent(&names, groups, days));
    if checks.is_empty() {
        let reason = format!(
            "The account sees alerts of {} and of nobody else ({} looked at).",
            listed(groups.seen.allowed.iter().chain(&groups.met)),
            groups.alerts
        );
        checks.push(Check::ok(NAME, Section::Groups, reason));
    }
    checks
}

/// Alerts of groups that are not ours.
pub fn foreign(groups: &Groups) -> Option<Check> {
    let count =
        groups.seen.foreign.saturating_sub(u64::try_from(groups.similar.len()).unwrap_or(0));
    if count == 0 {
        return None;
    }
    let what = if count == 1 {
        "1 device group that is"
    } else {
        &format!("{count} device groups that are")
    };
    Some(Check::new(
        NAME,
        Section::Groups,
        Verdict::Fail,
        format!(
            "The account sees alerts of {what} not in FunctionConfigDeviceGroups. They are withheld."
        ),
        limit_the_account(),
    ))
}

/// What a person should do when alerts of other groups are seen.
pub fn limit_the_account() -> String {
    format!(
        "Ask {CENTRAL} to limit the account to this trust's device groups and to leave no device without a group. If it is limited already, one of those groups belongs to nobody: a device group without a user group assigned is shown to everybody, and they must assign one. If a group is this trust's, add its exact name to FunctionConfigDeviceGroups."
    )
}

/// Every alert that was met is withheld: a heartbeat says so, and the page.
pub fn nothing_ours(what: &str) -> Advice {
    Advice::new(
        format!(
            "Nothing is exported: {what} of device groups that FunctionConfigDeviceGroups does not name, or of no group."
        ),
        compare_names(),
    )
}

/// No alert of ours was met since `since`: an account that lost its view gets
/// the same empty list as a quiet trust.
pub fn silence(since: Timestamp) -> Advice {
    Advice::new(
        format!(
            "No alert of this trust's device groups was met since {}. Either it was quiet, or the account can no longer see them: Defender answers both with an empty list.",
            since.date()
        ),
        format!(
            "Raise a test alert on one device (learn.microsoft.com/defender-endpoint/run-detection-test). If it does not arrive within half an hour, ask {CENTRAL} whether the account's user group is still assigned to this trust's device groups."
        ),
    )
}

/// What a person should do when every alert that was met is withheld.
pub fn compare_names() -> String {
    format!(
        "Compare the names in FunctionConfigDeviceGroups with those in the Defender portal (Settings, Endpoints, Device groups), letter by letter: capitals and spaces count. If one was wrong, correct it and then run a backfill over the time since it was set, in this app's portal or with `defender-alert-export backfill`: what was withheld does not all come by itself. If all names are right, ask {CENTRAL} why the account sees other groups and whether its user group is assigned to this trust's."
    )
}

/// Alerts of devices in no group.
pub fn nobodys(seen: &Seen) -> Option<Check> {
    if seen.ungrouped == 0 {
        return None;
    }
    let (count, devices) = if seen.ungrouped == 1 {
        ("1 alert is".to_owned(), "its device")
    } else {
        (format!("{} alerts are", seen.ungrouped), "their devices")
    };
    Some(Check::new(
        NAME,
        Section::Groups,
        Verdict::Warn,
        format!("{count} of no device group and withheld: nobody owns {devices}."),
        format!(
            "Ask {CENTRAL} to put such devices into a device group with a user group assigned. Only if every one of them is this trust's, set FunctionConfigAllowUngrouped to True."
        ),
    ))
}

fn unreadable(groups: &Groups) -> Option<Check> {
    let count = groups.seen.unreadable;
    (count > 0).then(|| {
        Check::new(
            NAME,
            Section::Groups,
            Verdict::Warn,
            format!("The device group of {count} of the alerts cannot be read; they are withheld."),
            "Report this to the central team.",
        )
    })
}

fn misspelt(groups: &Groups) -> Option<Check> {
    (!groups.similar.is_empty()).then(|| {
        Check::new(
            NAME,
            Section::Groups,
            Verdict::Fail,
            format!(
                "In FunctionConfigDeviceGroups, {} differs from a group that the account sees only in capital letters or spaces. Names are compared exactly, so its alerts are withheld.",
                listed(&groups.similar)
            ),
            "Copy the name from the Defender portal (Settings, Endpoints, Device groups), letter by letter.",
        )
    })
}

/// Allowed names that no alert carried.
fn silent(names: &[&str], groups: &Groups, days: u64) -> Option<Check> {
    let carried = |name: &str| {
        let Groups { seen, met, similar, .. } = groups;
        seen.allowed.contains(name) || met.contains(name) || similar.contains(name)
    };
    let (heard, silent): (Vec<&str>, Vec<&str>) =
        names.iter().copied().partition(|name| carried(name));
    if silent.is_empty() {
        return None;
    }
    let nothing = heard.is_empty() && groups.alerts == 0;
    let reason = if nothing {
        format!(
            "The account saw no alert at all in {days} days. Either it was quiet, or the account belongs to no device group: Defender does not say which."
        )
    } else {
        format!(
            "No alert of {} in {days} days. Either it was quiet, or the name is misspelt.",
            listed(silent)
        )
    };
    let next_step = format!(
        "Compare FunctionConfigDeviceGroups with the names in the Defender portal (Settings, Endpoints, Device groups), and ask {CENTRAL} whether the account's user group is assigned to them. A test alert on one device settles it."
    );
    Some(Check::new(NAME, Section::Groups, Verdict::Warn, reason, next_step))
}

/// `` `A`, `B` ``, each once.
fn listed(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names: BTreeSet<_> = names.into_iter().map(|name| format!("`{}`", name.as_ref())).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}
