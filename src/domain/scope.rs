//! Whose alerts may leave. Fails closed.

use std::borrow::Cow;
use std::collections::BTreeSet;

/// Whose alerts this deployment may export: `FunctionConfigDeviceGroups`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scope {
    groups: Groups,
    allow_ungrouped: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Groups {
    /// The guard is off, in words, on purpose.
    Every,
    Named(BTreeSet<String>),
}

/// The device group an alert names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Group<'a> {
    /// A group's name.
    Named(Cow<'a, str>),
    /// None: null, absent, empty, or Defender's own word for no group.
    Ungrouped,
    /// Not a text. Proves nothing.
    Unreadable,
}

/// What may be done with one alert. Ordered: of several rulings the last one
/// counts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Ruling {
    /// Export it.
    Export,
    /// In no group, and ungrouped devices are not declared ours.
    Ungrouped,
    /// Its group cannot be read: absence of proof is not permission.
    Unproven,
    /// Another group's.
    Foreign,
}

/// What a foreign alert means for the run: `FunctionConfigScopeGuard`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnForeign {
    /// It is dropped and counted; the rest goes on.
    Withhold,
    /// Nothing more is delivered until a person resumes.
    Halt,
}

/// What Defender calls the devices that match no group.
const UNASSIGNED: &str = "UnassignedGroup";

impl Scope {
    /// Reads a list of group names separated by `;`, or `*` alone for every
    /// group. `None` if it names nothing, or mixes `*` with names: a list that
    /// says two things is not taken for either.
    pub fn parse(text: &str, allow_ungrouped: bool) -> Option<Self> {
        let names: BTreeSet<String> = text
            .split(';')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        let groups = match (names.len(), names.contains("*")) {
            (0, _) => return None,
            (1, true) => Groups::Every,
            (_, true) => return None,
            (_, false) => Groups::Named(names),
        };
        Some(Self { groups, allow_ungrouped })
    }

    /// Rules on an alert that names `groups`, one for each of its devices. All
    /// of them must be ours; an alert that names none is not even ungrouped.
    pub fn rule_all<'a>(&self, groups: impl Iterator<Item = Group<'a>>) -> Ruling {
        groups.map(|group| self.rule(&group)).max().unwrap_or(Ruling::Unproven)
    }

    /// Rules on one group. Names are compared exactly.
    pub fn rule(&self, group: &Group<'_>) -> Ruling {
        match (&self.groups, group) {
            (Groups::Every, _) => Ruling::Export,
            (Groups::Named(names), Group::Named(name)) if names.contains(name.as_ref()) => {
                Ruling::Export
            }
            (Groups::Named(_), Group::Named(_)) => Ruling::Foreign,
            (Groups::Named(_), Group::Ungrouped) if self.allow_ungrouped => Ruling::Export,
            (Groups::Named(_), Group::Ungrouped) => Ruling::Ungrouped,
            (Groups::Named(_), Group::Unreadable) => Ruling::Unproven,
        }
    }

    /// The names, for people to read; `*` when the guard is off.
    pub fn names(&self) -> Vec<&str> {
        match &self.groups {
            Groups::Every => vec!["*"],
            Groups::Named(names) => names.iter().map(String::as_str).collect(),
        }
    }

    /// A text that differs whenever the scope does. A halt ends by itself once
    /// a person has changed the list.
    pub fn fingerprint(&self) -> String {
        format!("{}|{}", self.names().join(";"), self.allow_ungrouped)
    }
}

impl<'a> Group<'a> {
    /// From the decoded name.
    pub fn named(name: Cow<'a, str>) -> Self {
        if name.is_empty() || name == UNASSIGNED { Self::Ungrouped } else { Self::Named(name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Group<'_> {
        Group::named(Cow::Borrowed(name))
    }

    #[test]
    fn only_an_exactly_named_group_is_exported() {
        let scope = Scope::parse("RXX Example Trust; RYY Other ", false).unwrap();
        let cases = [
            (named("RXX Example Trust"), Ruling::Export),
            (named("RYY Other"), Ruling::Export),
            (named("rxx example trust"), Ruling::Foreign),
            (named("RXX Example Trust "), Ruling::Foreign),
            (named("RXX"), Ruling::Foreign),
            (named("*"), Ruling::Foreign),
            (named(""), Ruling::Ungrouped),
            (named("UnassignedGroup"), Ruling::Ungrouped),
            (Group::Ungrouped, Ruling::Ungrouped),
            (Group::Unreadable, Ruling::Unproven),
        ];
        for (group, expected) in cases {
            assert_eq!(scope.rule(&group), expected, "{group:?}");
        }
    }

    #[test]
    fn one_device_that_is_not_ours_keeps_the_whole_alert_back() {
        let ours = || named("RXX");
        let cases = [
            (vec![ours()], Ruling::Export),
            (vec![ours(), ours()], Ruling::Export),
            (vec![ours(), named("RYY")], Ruling::Foreign),
            (vec![named("RYY"), ours()], Ruling::Foreign),
            (vec![ours(), Group::Ungrouped], Ruling::Ungrouped),
            (vec![ours(), Group::Unreadable], Ruling::Unproven),
            (vec![Group::Unreadable, named("RYY"), Group::Ungrouped], Ruling::Foreign),
            (vec![Group::Ungrouped, Group::Unreadable], Ruling::Unproven),
            (vec![], Ruling::Unproven),
        ];
        let scope = Scope::parse("RXX", false).unwrap();
        let lenient = Scope::parse("RXX", true).unwrap();
        for (groups, expected) in cases {
            assert_eq!(scope.rule_all(groups.iter().cloned()), expected, "{groups:?}");
        }
        assert_eq!(lenient.rule_all([ours(), Group::Ungrouped].into_iter()), Ruling::Export);
        assert_eq!(lenient.rule_all([named("RYY"), ours()].into_iter()), Ruling::Foreign);
    }

    #[test]
    fn ungrouped_devices_are_ours_only_when_said_so() {
        let scope = Scope::parse("RXX", true).unwrap();
        assert_eq!(scope.rule(&Group::Ungrouped), Ruling::Export);
        assert_eq!(scope.rule(&Group::Unreadable), Ruling::Unproven);
    }

    #[test]
    fn a_star_alone_switches_the_guard_off() {
        let scope = Scope::parse("*", false).unwrap();
        assert_eq!(scope.rule(&named("anything")), Ruling::Export);
        assert_eq!(Scope::parse("RXX;*", false), None);
        assert_eq!(Scope::parse(" ;; ", false), None);
    }

    #[test]
    fn a_changed_list_has_another_fingerprint() {
        let fingerprint = |text, ungrouped| Scope::parse(text, ungrouped).unwrap().fingerprint();
        assert_eq!(fingerprint("a;b", false), fingerprint("b; a", false));
        assert_ne!(fingerprint("a;b", false), fingerprint("a", false));
        assert_ne!(fingerprint("a", false), fingerprint("a", true));
    }
}
