//! An alert of Graph in Defender's form.
//!
//! The members that Defender has too get Defender's names, enum words and
//! nesting; evidence, which Graph nests, gets Defender's flat entries; what
//! Defender says of the alert's one device comes from the first device among
//! the evidence. Everything else stays as Graph sent it. Values are copied byte
//! by byte, and nothing is left out.
//!
//! <https://learn.microsoft.com/graph/api/resources/security-alert>,
//! <https://learn.microsoft.com/graph/api/resources/security-alertevidence>,
//! <https://learn.microsoft.com/defender-endpoint/api/alerts>

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::graph_groups::{every_group, kind, pascal};
use crate::domain::alert::DEVICE_GROUPS;
use crate::domain::members::{Members, decoded};

/// What happens to a value.
#[derive(Clone, Copy)]
enum Turn {
    Nothing,
    /// Digits in quotes become a number, as Defender's incident ids are.
    Number,
    /// An enum's word: one of these, or with a capital letter.
    Word(&'static [(&'static str, &'static str)]),
}

use Turn::{Nothing, Number, Word};

/// Graph's name, Defender's name.
type Names = [(&'static str, &'static str)];

const ALERT: &[(&str, &str, Turn)] = &[
    ("incidentId", "incidentId", Number),
    ("investigationId", "investigationId", Number),
    ("status", "status", Word(&[])),
    ("severity", "severity", Word(&[("unknown", "UnSpecified")])),
    ("classification", "classification", Word(&[])),
    // The same meanings under other names, as the two pages word them.
    (
        "determination",
        "determination",
        Word(&[
            ("compromisedAccount", "CompromisedUser"),
            ("confirmedActivity", "ConfirmedUserActivity"),
            ("notMalicious", "Clean"),
            ("notEnoughDataToValidate", "InsufficientData"),
        ]),
    ),
    ("investigationState", "investigationState", Word(&[])),
    // Concluded from samples of both; no page compares them.
    (
        "detectionSource",
        "detectionSource",
        Word(&[
            ("antivirus", "WindowsDefenderAv"),
            ("microsoftDefenderForEndpoint", "WindowsDefenderAtp"),
            ("customTi", "CustomerTI"),
        ]),
    ),
    ("threatDisplayName", "threatName", Nothing),
    ("tenantId", "aadTenantId", Nothing),
    ("createdDateTime", "alertCreationTime", Nothing),
    ("firstActivityDateTime", "firstEventTime", Nothing),
    ("lastActivityDateTime", "lastEventTime", Nothing),
    ("lastUpdateDateTime", "lastUpdateTime", Nothing),
    ("resolvedDateTime", "resolvedTime", Nothing),
];

const COMMENT: &[(&str, &str, Turn)] =
    &[("createdByDisplayName", "createdBy", Nothing), ("createdDateTime", "createdTime", Nothing)];

const ENTRY: &[(&str, &str, Turn)] = &[
    ("createdDateTime", "evidenceCreationTime", Nothing),
    ("processCreationDateTime", "processCreationTime", Nothing),
    ("parentProcessCreationDateTime", "parentProcessCreationTime", Nothing),
    ("detectionStatus", "detectionStatus", Word(&[])),
];

/// Objects within an entry, and those of their members that Defender has in
/// the entry itself.
const NESTED: &[(&str, &Names)] = &[
    ("fileDetails", FILE),
    ("imageFile", FILE),
    (
        "parentProcessImageFile",
        &[("fileName", "parentProcessFileName"), ("filePath", "parentProcessFilePath")],
    ),
    (
        "userAccount",
        &[
            ("accountName", "accountName"),
            ("domainName", "domainName"),
            ("userSid", "userSid"),
            ("azureAdUserId", "aadUserId"),
            ("userPrincipalName", "userPrincipalName"),
        ],
    ),
];
const FILE: &Names =
    &[("sha1", "sha1"), ("sha256", "sha256"), ("fileName", "fileName"), ("filePath", "filePath")];

/// The alert's own members that come from the first device among its evidence.
const MAIN_DEVICE: &Names = &[
    ("mdeDeviceId", "machineId"),
    ("deviceDnsName", "computerDnsName"),
    ("rbacGroupName", "rbacGroupName"),
    ("loggedOnUsers", "loggedOnUsers"),
];

/// `relatedUser`, from the account of the first user among the evidence.
const RELATED_USER: &Names = &[("accountName", "userName"), ("domainName", "domainName")];

/// The alert as Defender would send it; `None` if `element` is not an object.
pub(super) fn in_defenders_form(element: &[u8]) -> Option<String> {
    let element = std::str::from_utf8(element).ok()?;
    let sent = Members::of(element)?;
    let entries: Vec<&RawValue> = sent
        .get("evidence")
        .and_then(|list| serde_json::from_str(list.get()).ok())
        .unwrap_or_default();
    let mut alert = Object::with_capacity(element.len() + element.len() / 4);
    push_ids(&mut alert, &sent);
    // Before the rest: `accountName` and its like are looked for in this order.
    push_main_evidence(&mut alert, &sent, &entries);
    for (name, value) in &sent.0 {
        match decoded(name).as_ref() {
            "id" | "providerAlertId" | "evidence" => {}
            "comments" => alert.push_list("comments", value, push_comment),
            _ => alert.push_turned(name, value, ALERT),
        }
    }
    if let Some(evidence) = sent.get("evidence") {
        alert.push_list("evidence", evidence, push_entry);
    }
    Some(alert.end())
}

/// Defender's id is the provider's, which in Microsoft's samples is Graph's own
/// as well. Where it is not, Graph's is kept as `graphId`.
fn push_ids(alert: &mut Object, sent: &Members<'_>) {
    let (own, providers) = (sent.get("id"), sent.get("providerAlertId"));
    match providers.filter(|id| !decoded(id).is_empty()) {
        Some(id) => {
            alert.push("id", id.get());
            if let Some(own) = own.filter(|own| decoded(own) != decoded(id)) {
                alert.push("graphId", own.get());
            }
        }
        None => {
            for (name, id) in [("id", own), ("providerAlertId", providers)] {
                if let Some(id) = id {
                    alert.push(name, id.get());
                }
            }
        }
    }
}

fn push_main_evidence(alert: &mut Object, sent: &Members<'_>, entries: &[&RawValue]) {
    let first = |wanted: &str| {
        let mut members = entries.iter().filter_map(|entry| Members::of(entry.get()));
        members.find(|entry| kind(entry).as_deref() == Some(wanted)).unwrap_or_default()
    };
    let user = first("User");
    if let Some(account) = user.get("userAccount").and_then(|json| Members::of(json.get()))
        && sent.get("relatedUser").is_none()
    {
        let mut related = Object::default();
        for (graphs, defenders) in RELATED_USER {
            related.push(defenders, account.get(graphs).map_or("null", RawValue::get));
        }
        alert.push("relatedUser", &related.end());
    }
    let device = first("Device");
    let mut main_group = sent.get("rbacGroupName");
    for (graphs, defenders) in MAIN_DEVICE {
        if let Some(value) = device.get(graphs).filter(|_| sent.get(defenders).is_none()) {
            alert.push(defenders, value.get());
            if *defenders == "rbacGroupName" {
                main_group = Some(value);
            }
        }
    }
    let groups = every_group(sent);
    let says_all = match groups.as_slice() {
        [] => true,
        [one] => main_group.map_or("null", RawValue::get) == *one,
        _ => false,
    };
    if !says_all {
        alert.push(DEVICE_GROUPS, &format!("[{}]", groups.join(",")));
    }
}

fn push_comment(comment: &mut Object, sent: &Members<'_>) {
    for (name, value) in &sent.0 {
        comment.push_turned(name, value, COMMENT);
    }
}

fn push_entry(entry: &mut Object, sent: &Members<'_>) {
    if let Some(kind) = kind(sent).filter(|_| sent.get("entityType").is_none()) {
        entry.push("entityType", &format!("\"{kind}\""));
    }
    let mut lifted = Vec::new();
    for (name, value) in &sent.0 {
        let names = NESTED.iter().find(|(nested, _)| *nested == decoded(name));
        match names.and_then(|(_, names)| Some((names, Members::of(value.get())?))) {
            Some((names, nested)) => push_nested(entry, sent, &mut lifted, name, (names, nested)),
            None => entry.push_turned(name, value, ENTRY),
        }
    }
}

/// Lifts what Defender has in the entry itself out of `nested`; the rest stays.
fn push_nested(
    entry: &mut Object,
    sent: &Members<'_>,
    lifted: &mut Vec<&'static str>,
    name: &RawValue,
    (names, nested): (&Names, Members<'_>),
) {
    let mut rest = Object::default();
    for (inner, value) in nested.0 {
        let known = names.iter().find(|(graphs, _)| *graphs == decoded(inner));
        match known {
            Some((_, defenders))
                if !lifted.contains(defenders) && sent.get(defenders).is_none() =>
            {
                lifted.push(defenders);
                entry.push(defenders, value.get());
            }
            Some(_) | None => rest.push_named(inner, value.get()),
        }
    }
    if !rest.is_empty() {
        entry.push_named(name, &rest.end());
    }
}

/// A JSON object being written.
#[derive(Default)]
struct Object(String);

impl Object {
    fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `name` needs no escapes.
    fn push(&mut self, name: &str, value: &str) {
        self.next();
        self.0.push('"');
        self.0.push_str(name);
        self.0.push_str("\":");
        self.0.push_str(value);
    }

    fn push_named(&mut self, name: &RawValue, value: &str) {
        self.next();
        self.0.push_str(name.get());
        self.0.push(':');
        self.0.push_str(value);
    }

    fn next(&mut self) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
    }

    /// Under Defender's name and in its words, if it has them.
    fn push_turned(&mut self, name: &RawValue, value: &RawValue, turns: &[(&str, &str, Turn)]) {
        match turns.iter().find(|(graphs, ..)| *graphs == decoded(name)) {
            Some((_, defenders, turn)) => self.push(defenders, &turn.of(value)),
            None => self.push_named(name, value.get()),
        }
    }

    /// A list of objects, each written by `write`; anything else as sent.
    fn push_list(&mut self, name: &str, list: &RawValue, write: impl Fn(&mut Self, &Members<'_>)) {
        let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(list.get()) else {
            self.push(name, list.get());
            return;
        };
        let rewritten = |element: &RawValue| match Members::of(element.get()) {
            Some(members) => {
                let mut object = Self::default();
                write(&mut object, &members);
                object.end()
            }
            None => element.get().to_owned(),
        };
        let elements: Vec<_> = elements.into_iter().map(rewritten).collect();
        self.push(name, &format!("[{}]", elements.join(",")));
    }

    fn end(mut self) -> String {
        if self.0.is_empty() {
            self.0.push('{');
        }
        self.0.push('}');
        self.0
    }
}

impl Turn {
    fn of(self, value: &RawValue) -> Cow<'_, str> {
        let json = value.get();
        let text = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match (self, text) {
            (Number, Some(digits)) if is_number(digits) => Cow::Borrowed(digits),
            (Word(known), Some(word)) if is_word(word) => {
                let known = known.iter().find(|(graphs, _)| *graphs == word);
                let word = known.map_or_else(|| pascal(word), |(_, word)| (*word).to_owned());
                Cow::Owned(format!("\"{word}\""))
            }
            (Nothing | Number | Word(_), _) => Cow::Borrowed(json),
        }
    }
}

/// Whether `digits` are a JSON number that a 64-bit one holds.
fn is_number(digits: &str) -> bool {
    digits == "0"
        || (1..=18).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0')
}

fn is_word(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
#[path = "graph_alert_tests.rs"]
mod tests;
