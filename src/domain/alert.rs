//! One version of one alert: the raw JSON, and where its members lie in it.
//!
//! The alert is parsed once, at the top level only. Members are kept as spans
//! of the raw text, so that shaping copies bytes and allocates nothing, and
//! unknown members and values pass through untouched.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::scan;
use super::scope::Group;
use super::timestamp::Timestamp;

macro_rules! members {
    ($($name:ident = $text:literal,)+) => {
        /// A member of a Defender alert that has a column of its own, in the
        /// order in which Defender sends them.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Member { $(#[doc = concat!("`", $text, "`.")] $name,)+ }

        impl Member {
            /// Every member, in the order of the discriminants.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name in Defender's JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The name as it stands in JSON.
            const fn quoted(self) -> &'static str {
                match self { $(Self::$name => concat!("\"", $text, "\""),)+ }
            }

            fn named(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

members! {
    Id = "id",
    IncidentId = "incidentId",
    InvestigationId = "investigationId",
    AssignedTo = "assignedTo",
    Severity = "severity",
    Status = "status",
    Classification = "classification",
    Determination = "determination",
    InvestigationState = "investigationState",
    DetectionSource = "detectionSource",
    DetectorId = "detectorId",
    Category = "category",
    ThreatFamilyName = "threatFamilyName",
    Title = "title",
    Description = "description",
    AlertCreationTime = "alertCreationTime",
    FirstEventTime = "firstEventTime",
    LastEventTime = "lastEventTime",
    LastUpdateTime = "lastUpdateTime",
    ResolvedTime = "resolvedTime",
    MachineId = "machineId",
    ComputerDnsName = "computerDnsName",
    RbacGroupName = "rbacGroupName",
    AadTenantId = "aadTenantId",
    ThreatName = "threatName",
    MitreTechniques = "mitreTechniques",
    RelatedUser = "relatedUser",
    LoggedOnUsers = "loggedOnUsers",
    Comments = "comments",
    Evidence = "evidence",
}

/// Bytes of the raw text, end exclusive.
type Span = (u32, u32);
/// Of a member that is absent.
const NOWHERE: Span = (0, 0);

/// One version of one alert.
#[derive(Clone)]
pub struct Alert {
    raw: Bytes,
    /// [`NOWHERE`] where there is none.
    known: [Span; Member::ALL.len()],
    unknown: Vec<(Span, Span)>,
    /// Its [`Member::LastUpdateTime`], which is asked for again and again.
    updated: Option<Timestamp>,
    /// [`DEVICE_GROUPS`].
    device_groups: Option<Span>,
    /// The device group stands there twice, so neither can be believed.
    group_is_ambiguous: bool,
}

/// Where a source whose alerts name several devices puts the group of each: a
/// list of names, null where a device has none. Part of the text, so that it
/// stays with the alert wherever that is kept.
pub const DEVICE_GROUPS: &str = "rbacGroupNames";

/// Not one JSON object; the answer it came in is garbage.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an alert is not a JSON object")]
pub struct NotAnAlert;

/// Which member an alert lacks or garbles that it cannot be exported without.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{}` is missing or not of its documented form", .0.name())]
pub struct Unusable(pub Member);

impl Alert {
    /// Parses one element of the answer's `value` array.
    ///
    /// # Errors
    ///
    /// [`NotAnAlert`] if `raw` is not one JSON object.
    pub fn parse(raw: Bytes) -> Result<Self, NotAnAlert> {
        let text = str::from_utf8(&raw).map_err(|_quotes_the_alert| NotAnAlert)?;
        let (alert, end) = Self::read(text).ok_or(NotAnAlert)?;
        if scan::space(&raw, end) == raw.len() { Ok(alert.of(raw)) } else { Err(NotAnAlert) }
    }

    /// Takes the alert that `bytes` begin with off their front. `None`, and
    /// `bytes` as they were, if it is not all there or is none. `text` is the
    /// same, as far as it is text: for many alerts that is found out at once.
    pub fn take(bytes: &mut Bytes, text: &str) -> Option<Self> {
        let (alert, end) = Self::read(text)?;
        (end <= bytes.len()).then(|| alert.of(bytes.split_to(end)))
    }

    /// Where the members lie in `text`, and where the alert ends that it begins
    /// with.
    fn read(text: &str) -> Option<(Self, usize)> {
        let mut alert = Self {
            raw: Bytes::new(),
            known: [NOWHERE; Member::ALL.len()],
            unknown: Vec::new(),
            updated: None,
            device_groups: None,
            group_is_ambiguous: false,
        };
        // Members mostly come in one order: the next is tried first.
        let mut next = 0;
        let end = scan::members(text, |name, value| {
            let quoted = text.get(name.clone())?;
            let expected = Member::ALL.get(next).copied().filter(|it| it.quoted() == quoted);
            let (member, lists_groups) = match expected {
                Some(_) => (expected, false),
                None => {
                    let plain = unescaped(quoted)?;
                    (Member::named(&plain), plain == DEVICE_GROUPS)
                }
            };
            next = member.map_or(next, |member| member as usize + 1);
            alert.place(member, lists_groups, span(name)?, span(value)?);
            Some(())
        })?;
        Some((alert, end))
    }

    /// Of two members of one name the first gets the column; a group named
    /// twice is no proof of either.
    fn place(&mut self, member: Option<Member>, lists_groups: bool, name: Span, value: Span) {
        match member.and_then(|member| self.known.get_mut(member as usize)) {
            Some(slot) if *slot == NOWHERE => *slot = value,
            Some(_) | None => {
                let twice = lists_groups && self.device_groups.replace(value).is_some();
                self.group_is_ambiguous |= twice || member == Some(Member::RbacGroupName);
                self.unknown.push((name, value));
            }
        }
    }

    /// With the text its spans are of.
    fn of(mut self, raw: Bytes) -> Self {
        self.raw = raw;
        self.updated = self.time(Member::LastUpdateTime);
        self
    }

    /// The alert as it was sent.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// A member's JSON text; `None` if it is absent or null.
    pub fn member(&self, member: Member) -> Option<&str> {
        std::str::from_utf8(self.member_bytes(member)?).ok()
    }

    /// As [`Self::member`], for copying: its UTF-8 is not checked once more.
    pub fn member_bytes(&self, member: Member) -> Option<&[u8]> {
        let (start, end) = *self.known.get(member as usize)?;
        let json = self.raw.get(start as usize..end as usize)?;
        Some(json).filter(|json| !json.is_empty() && json != b"null")
    }

    /// Members without a column: name and value as JSON text, in order.
    pub fn unknown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unknown
            .iter()
            .filter_map(|(name, value)| Some((self.text(*name)?, self.text(*value)?)))
    }

    /// Every member, null ones too, as name and JSON text: those with a column
    /// first, then the others.
    pub fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        let known = Member::ALL
            .iter()
            .zip(&self.known)
            .filter(|(_, span)| **span != NOWHERE)
            .filter_map(|(member, span)| Some((member.name(), self.text(*span)?)));
        let unknown = self.unknown().map(|(name, value)| (unquoted(name), value));
        known.chain(unknown)
    }

    /// The id Defender gave it.
    ///
    /// # Errors
    ///
    /// [`Unusable`] if there is none.
    pub fn id(&self) -> Result<Cow<'_, str>, Unusable> {
        self.string(Member::Id).filter(|id| !id.is_empty()).ok_or(Unusable(Member::Id))
    }

    /// When this version was made.
    ///
    /// # Errors
    ///
    /// [`Unusable`] if there is no time.
    pub fn last_update(&self) -> Result<Timestamp, Unusable> {
        self.updated.ok_or(Unusable(Member::LastUpdateTime))
    }

    /// A member that is a time, if it is one.
    pub fn time(&self, member: Member) -> Option<Timestamp> {
        self.string(member)?.parse().ok()
    }

    /// The device group of each device it names; one at least.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> + Clone {
        let further = self.device_groups.map(|span| self.further_groups(span));
        [self.group()].into_iter().chain(further.unwrap_or_default())
    }

    fn further_groups(&self, span: Span) -> Vec<Group<'_>> {
        let list = self.text(span).and_then(|text| serde_json::from_str(text).ok());
        let Some::<Vec<&RawValue>>(list) = list else { return vec![Group::Unreadable] };
        let group = |name: &'_ RawValue| match serde_json::from_str::<Option<String>>(name.get()) {
            Ok(Some(name)) => Group::named(name.into()),
            Ok(None) => Group::Ungrouped,
            Err(_not_a_name) => Group::Unreadable,
        };
        list.into_iter().map(group).collect()
    }

    fn group(&self) -> Group<'_> {
        match self.member(Member::RbacGroupName) {
            _ if self.group_is_ambiguous => Group::Unreadable,
            None => Group::Ungrouped,
            Some(_) => self.string(Member::RbacGroupName).map_or(Group::Unreadable, Group::named),
        }
    }

    fn string(&self, member: Member) -> Option<Cow<'_, str>> {
        unescaped(self.member(member)?)
    }

    fn text(&self, (start, end): Span) -> Option<&str> {
        std::str::from_utf8(self.raw.get(start as usize..end as usize)?).ok()
    }
}

impl fmt::Debug for Alert {
    /// Never the content: a `Debug` may reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alert").field("bytes", &self.raw.len()).finish_non_exhaustive()
    }
}

/// What a JSON text says; `None` if it is not one.
fn unescaped(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(json).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// What stands between the quotes of a JSON text.
fn unquoted(json: &str) -> &str {
    json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(json)
}

fn span(range: Range<usize>) -> Option<Span> {
    Some((u32::try_from(range.start).ok()?, u32::try_from(range.end).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(json: &str) -> Alert {
        Alert::parse(Bytes::copy_from_slice(json.as_bytes())).expect("an object")
    }

    fn group(alert: &Alert) -> Group<'_> {
        alert.groups().next().expect("one at least")
    }

    #[test]
    fn what_is_needed_is_read_and_the_rest_is_kept_as_sent() {
        let json = r#"{"id":"da1","title":"caf\u00e9 \"x\"","lastUpdateTime":"2026-11-19T08:41:53.17Z","rbacGroupName":"RXX","newThing":{"a":[1, 2]},"severity":"Extreme","assignedTo":null}"#;
        let alert = alert(json);
        assert_eq!(alert.id().unwrap(), "da1");
        assert_eq!(alert.last_update().unwrap().to_string(), "2026-11-19T08:41:53.17Z");
        assert_eq!(group(&alert), Group::named("RXX".into()));
        assert_eq!(alert.member(Member::Title), Some(r#""caf\u00e9 \"x\"""#));
        assert_eq!(alert.member(Member::Severity), Some(r#""Extreme""#));
        assert_eq!(alert.member(Member::AssignedTo), None);
        assert_eq!(alert.unknown().collect::<Vec<_>>(), [(r#""newThing""#, r#"{"a":[1, 2]}"#)]);
        assert_eq!(alert.raw(), json.as_bytes());
    }

    #[test]
    fn what_an_alert_cannot_be_exported_without_is_named() {
        assert_eq!(alert("{}").id(), Err(Unusable(Member::Id)));
        assert_eq!(alert(r#"{"id":7}"#).id(), Err(Unusable(Member::Id)));
        let timeless = alert(r#"{"id":"a","lastUpdateTime":"soon"}"#).last_update().unwrap_err();
        assert_eq!(
            timeless.to_string(),
            "`lastUpdateTime` is missing or not of its documented form"
        );
    }

    #[test]
    fn a_group_that_cannot_be_believed_proves_nothing() {
        let named = |name: &'static str| Group::named(name.into());
        let cases = [
            (r#"{"rbacGroupName":7}"#, vec![Group::Unreadable]),
            (r#"{"rbacGroupName":"a","rbacGroupName":"b"}"#, vec![Group::Unreadable]),
            (r#"{"rbacGroup\u004eame":"b"}"#, vec![named("b")]),
            (r#"{"rbacGroupName":"a\u0062"}"#, vec![named("ab")]),
            (r#"{"rbacGroupName":null}"#, vec![Group::Ungrouped]),
            ("{}", vec![Group::Ungrouped]),
        ];
        for (json, expected) in cases {
            assert_eq!(alert(json).groups().collect::<Vec<_>>(), expected, "{json}");
        }
    }

    #[test]
    fn every_group_that_is_listed_counts_beside_the_first() {
        let named = |name: &'static str| Group::named(name.into());
        let cases = [
            (r#"["a","b\u0063",null]"#, vec![named("a"), named("bc"), Group::Ungrouped]),
            (r#"["UnassignedGroup",""]"#, vec![Group::Ungrouped, Group::Ungrouped]),
            (r#"["a",false,["a"]]"#, vec![named("a"), Group::Unreadable, Group::Unreadable]),
            ("[]", vec![]),
            ("null", vec![Group::Unreadable]),
            (r#""a""#, vec![Group::Unreadable]),
            (r#"{"a":1}"#, vec![Group::Unreadable]),
        ];
        for (list, listed) in cases {
            let alert = alert(&format!(r#"{{"rbacGroupNames":{list},"rbacGroupName":"a"}}"#));
            let mut groups = alert.groups();
            assert_eq!(groups.next(), Some(named("a")));
            assert_eq!(groups.collect::<Vec<_>>(), listed, "{list}");
        }
        let twice = alert(r#"{"rbacGroupName":"a","rbacGroupNames":["b"],"rbacGroupNames":["a"]}"#);
        assert_eq!(twice.groups().next(), Some(Group::Unreadable), "one may hide the other");
    }

    #[test]
    fn garbage_is_not_an_alert() {
        for garbage in ["", "[]", "7", "{", r#"{"id":"a"} x"#, "{}\u{c}", "{\"id\":\"\u{1}\"}"] {
            assert!(Alert::parse(Bytes::copy_from_slice(garbage.as_bytes())).is_err(), "{garbage}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_not_an_alert() {
        let whole =
            br#"{"id":"a","description":"long enough for some words","evidence":[{"x":"y"}]}"#;
        for place in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[place] = 0xC3;
            assert!(Alert::parse(bytes.into()).is_err(), "byte {place}");
        }
        assert!(Alert::parse(Bytes::from_static(whole)).is_ok());
    }

    #[test]
    fn an_alert_is_taken_off_the_front_once_it_is_all_there() {
        let json = r#"{"n":-1.5e3,"id":"d\u0061","t":[true,null]}"#;
        let whole = format!("{json},{{\"id\":\"next\"");
        for cut in 0..whole.len() {
            let mut text = Bytes::copy_from_slice(&whole.as_bytes()[..cut]);
            let taken = Alert::take(&mut text, whole.get(..cut).unwrap());
            assert_eq!(taken.is_some(), cut >= json.len(), "{cut} bytes");
            let raw = taken.map_or_else(Bytes::new, |alert| alert.raw);
            assert_eq!([&raw[..], &text[..]].concat(), whole.as_bytes()[..cut]);
        }
        let mut text = Bytes::from(whole.clone());
        assert_eq!(Alert::take(&mut text, &whole).unwrap().id().unwrap(), "da");
    }

    #[test]
    fn debug_output_shows_no_content() {
        assert_eq!(format!("{:?}", alert(r#"{"id":"secret"}"#)), "Alert { bytes: 15, .. }");
    }
}
