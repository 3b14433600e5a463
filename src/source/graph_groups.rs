//! Whose devices an alert of Graph names. Fails closed.
//!
//! Defender's alert is about one device and names its group; Graph's names the
//! group of each device in its evidence
//! (<https://learn.microsoft.com/graph/api/resources/security-deviceevidence>).
//! What says `rbacGroupName` anywhere else, in kinds of evidence that are not
//! known yet or beside it, counts as well.

use serde_json::value::RawValue;

use crate::domain::members::{Members, decoded};

/// The member that names a group.
const GROUP: &str = "rbacGroupName";
/// Alerts are a few levels deep. What lies deeper is not looked at.
const DEEPEST: u32 = 32;
/// Stands for a group that cannot be read: no text and not null.
const UNREADABLE: &str = "false";

/// The group of every device an alert names, as JSON: a text, null for none,
/// anything else for one that cannot be read.
pub(super) fn every_group<'a>(sent: &Members<'a>) -> Vec<&'a str> {
    let mut groups = Vec::new();
    for (name, value) in &sent.0 {
        if decoded(name) == "evidence" {
            groups_of_evidence(value, &mut groups);
        } else {
            groups_within(name, value, DEEPEST, &mut groups);
        }
    }
    groups
}

fn groups_of_evidence<'a>(evidence: &'a RawValue, groups: &mut Vec<&'a str>) {
    if evidence.get() == "null" {
        return;
    }
    let Ok(entries) = serde_json::from_str::<Vec<&RawValue>>(evidence.get()) else {
        groups.push(UNREADABLE);
        return;
    };
    for entry in entries {
        let Some(members) = Members::of(entry.get()) else {
            groups.push(UNREADABLE);
            continue;
        };
        if kind(&members).as_deref() == Some("Device") && members.get(GROUP).is_none() {
            groups.push("null");
        }
        for (name, value) in members.0 {
            groups_within(name, value, DEEPEST, groups);
        }
    }
}

fn groups_within<'a>(name: &RawValue, value: &'a RawValue, levels: u32, groups: &mut Vec<&'a str>) {
    if decoded(name) == GROUP {
        groups.push(value.get());
    } else {
        descend(value, levels, groups);
    }
}

fn descend<'a>(value: &'a RawValue, levels: u32, groups: &mut Vec<&'a str>) {
    let json = value.get();
    if !json.starts_with(['{', '[']) {
        return;
    }
    let Some(levels) = levels.checked_sub(1) else {
        groups.push(UNREADABLE);
        return;
    };
    if let Some(members) = Members::of(json) {
        for (name, value) in members.0 {
            groups_within(name, value, levels, groups);
        }
    } else {
        let list: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
        for value in list {
            descend(value, levels, groups);
        }
    }
}

/// What an entry of evidence is about, in Defender's words: `Device` for
/// `#microsoft.graph.security.deviceEvidence`.
pub(super) fn kind(entry: &Members<'_>) -> Option<String> {
    let full = decoded(entry.get("@odata.type")?);
    let name = full.rsplit('.').next()?.strip_suffix("Evidence")?;
    Some(match name {
        "registryKey" | "registryValue" => "Registry".to_owned(),
        _ => pascal(name),
    })
}

/// `inProgress` as `InProgress`.
pub(super) fn pascal(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(json: &str) -> Vec<String> {
        let members = Members::of(json).expect("an object");
        every_group(&members).into_iter().map(str::to_owned).collect()
    }

    const DEVICE: &str = r##""@odata.type":"#microsoft.graph.security.deviceEvidence""##;

    #[test]
    fn every_device_counts_with_or_without_a_group() {
        let evidence = |entries: &str| groups(&format!(r#"{{"evidence":{entries}}}"#));
        let with = |group: &str| format!(r#"{{{DEVICE},"rbacGroupName":{group}}}"#);
        assert_eq!(evidence("[]"), [""; 0]);
        assert_eq!(evidence("null"), [""; 0]);
        assert_eq!(groups("{}"), [""; 0]);
        assert_eq!(evidence(&format!("[{}]", with(r#""RXX""#))), [r#""RXX""#]);
        let two = format!("[{},{{\"x\":1}},{}]", with(r#""RXX""#), with(r#""RYY""#));
        assert_eq!(evidence(&two), [r#""RXX""#, r#""RYY""#]);
        assert_eq!(evidence(&format!("[{}]", with("null"))), ["null"]);
        assert_eq!(evidence(&format!("[{{{DEVICE}}}]")), ["null"]);
        let twice = format!(r#"[{{{DEVICE},"rbacGroupName":"RXX","rbacGroupName":"RYY"}}]"#);
        assert_eq!(evidence(&twice), [r#""RXX""#, r#""RYY""#]);
    }

    #[test]
    fn a_group_named_elsewhere_or_in_other_letters_counts_too() {
        let cases = [
            (
                r##"{"evidence":[{"@odata.type":"#x.newEvidence","rbacGroupName":"RYY"}]}"##,
                r#""RYY""#,
            ),
            (r#"{"evidence":[{"a":[{"b":{"rbacGroupName":"RYY"}}]}]}"#, r#""RYY""#),
            (r#"{"evidence":[{"rbacGroup\u004eame":"RYY"}]}"#, r#""RYY""#),
            (r#"{"evid\u0065nce":[{"rbacGroupName":7}]}"#, "7"),
            (r#"{"rbacGroupName":"RYY"}"#, r#""RYY""#),
            (r#"{"other":{"rbacGroupName":"RYY"}}"#, r#""RYY""#),
        ];
        for (json, group) in cases {
            assert_eq!(groups(json), [group], "{json}");
        }
    }

    #[test]
    fn evidence_that_cannot_be_read_proves_nothing() {
        for evidence in ["{}", "7", r#""x""#, "[7]", "[null]", "[[]]"] {
            let json = format!(r#"{{"evidence":{evidence}}}"#);
            assert_eq!(groups(&json), ["false"], "{json}");
        }
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(100), "]".repeat(100));
        assert_eq!(groups(&deep), ["false"]);
    }

    #[test]
    fn a_kind_of_evidence_has_defenders_name() {
        let kind = |name: &str| {
            kind(&Members::of(&format!(r#"{{"@odata.type":"{name}"}}"#)).expect("an object"))
        };
        assert_eq!(kind("#microsoft.graph.security.userEvidence").as_deref(), Some("User"));
        assert_eq!(
            kind("#microsoft.graph.security.registryValueEvidence").as_deref(),
            Some("Registry")
        );
        assert_eq!(
            kind("microsoft.graph.security.azureResourceEvidence").as_deref(),
            Some("AzureResource")
        );
        assert_eq!(kind("#microsoft.graph.security.alert"), None);
    }
}
