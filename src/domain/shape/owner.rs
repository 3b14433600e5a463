//! A row that was written before -> whose alert it is of.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Shape;
use crate::domain::alert::{Alert, DEVICE_GROUPS, Member};
use crate::domain::members::{Members, decoded};
use crate::domain::scope::Group;

/// What a row tells of its alert.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owner {
    /// The alert's id, where it can be read.
    pub alert_id: Option<String>,
    /// Its device groups, one at least. What cannot be read proves nothing.
    pub groups: Vec<Group<'static>>,
    /// Where the whole alert lies, if the row was cut: only that proves whose
    /// it is.
    pub original: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Columns<'a> {
    #[serde(borrow)]
    alert_id: Option<&'a RawValue>,
    #[serde(borrow)]
    rbac_group_name: Option<&'a RawValue>,
    #[serde(borrow)]
    additional_fields: Option<&'a RawValue>,
    original_blob: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Classic {
    original_blob: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    body: String,
}

impl Shape {
    /// Whose alert `row`, which is of this shape, is of. A name that stands
    /// there twice, or is no text, leaves it unreadable.
    pub fn owner(self, row: &[u8]) -> Owner {
        let owner = match self {
            Self::Columns | Self::Lines => of_columns(row),
            Self::Classic => of_classic(row),
            Self::Event => serde_json::from_slice::<Event>(row)
                .ok()
                .and_then(|event| of_classic(event.body.as_bytes())),
        };
        let unreadable = vec![Group::Unreadable];
        owner.unwrap_or(Owner { alert_id: None, groups: unreadable, original: None })
    }
}

/// The members that tell of groups, put back as the alert had them.
fn of_columns(row: &[u8]) -> Option<Owner> {
    let row: Columns<'_> = serde_json::from_slice(row).ok()?;
    let mut members = Vec::new();
    for (member, value) in
        [(Member::Id, row.alert_id), (Member::RbacGroupName, row.rbac_group_name)]
    {
        members.extend(value.map(|value| format!(r#""{}":{}"#, member.name(), value.get())));
    }
    if let Some(rest) = row.additional_fields {
        let rest = Members::of(rest.get())?;
        let lists = rest.0.iter().filter(|(name, _)| decoded(name) == DEVICE_GROUPS);
        members.extend(lists.map(|(name, value)| format!("{}:{}", name.get(), value.get())));
    }
    let alert = Alert::parse(Bytes::from(format!("{{{}}}", members.join(",")))).ok()?;
    Some(Owner { original: row.original_blob, ..Owner::of(&alert) })
}

fn of_classic(row: &[u8]) -> Option<Owner> {
    let Classic { original_blob } = serde_json::from_slice(row).ok()?;
    let alert = Alert::parse(Bytes::copy_from_slice(row)).ok()?;
    Some(Owner { original: original_blob, ..Owner::of(&alert) })
}

impl Owner {
    /// Of a whole alert.
    pub fn of(alert: &Alert) -> Self {
        let owned = |group| match group {
            Group::Named(name) => Group::Named(String::into(name.into_owned())),
            Group::Ungrouped => Group::Ungrouped,
            Group::Unreadable => Group::Unreadable,
        };
        Self {
            alert_id: alert.id().ok().map(Cow::into_owned),
            groups: alert.groups().map(owned).collect(),
            original: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_a_written_row_are_read_back_and_doubt_is_no_proof() {
        let named = |name: &str| Group::Named(name.to_owned().into());
        let two = || vec![named("RXX"), named("RYY")];
        let cases = [
            (Shape::Columns, r#"{"AlertId":"da1","RbacGroupName":"RXX"}"#, vec![named("RXX")]),
            (Shape::Lines, r#"{"AlertId":"da1","RbacGroupName":"RXX"}"#, vec![named("RXX")]),
            (Shape::Columns, r#"{"AlertId":"da1"}"#, vec![Group::Ungrouped]),
            (Shape::Columns, r#"{"RbacGroupName":"UnassignedGroup"}"#, vec![Group::Ungrouped]),
            (
                Shape::Columns,
                r#"{"RbacGroupName":"RXX","AdditionalFields":{"a":1,"rbacGroupNames":["RYY"]}}"#,
                two(),
            ),
            (
                Shape::Columns,
                r#"{"RbacGroupName":"RXX","AdditionalFields":7}"#,
                vec![Group::Unreadable],
            ),
            (
                Shape::Columns,
                r#"{"RbacGroupName":"RXX","RbacGroupName":"RYY"}"#,
                vec![Group::Unreadable],
            ),
            (Shape::Columns, r#"{"RbacGroupName":7}"#, vec![Group::Unreadable]),
            (Shape::Columns, "[]", vec![Group::Unreadable]),
            (Shape::Classic, r#"{"id":"da1","rbacGroupName":"RXX"}"#, vec![named("RXX")]),
            (Shape::Classic, r#"{"rbacGroupName":"RXX","rbacGroupNames":["RYY"]}"#, two()),
            (
                Shape::Classic,
                r#"{"rbacGroupName":"RXX","rbacGroupName":"RYY"}"#,
                vec![Group::Unreadable],
            ),
            (Shape::Event, r#"{"Body":"{\"rbacGroupName\":\"RXX\"}"}"#, vec![named("RXX")]),
            (Shape::Event, r#"{"Body":7}"#, vec![Group::Unreadable]),
        ];
        for (shape, row, groups) in cases {
            assert_eq!(shape.owner(row.as_bytes()).groups, groups, "{row}");
        }
        for (shape, row) in [
            (Shape::Columns, r#"{"AlertId":"da1","OriginalBlob":"alerts/x.json"}"#),
            (Shape::Event, r#"{"Body":"{\"id\":\"da1\",\"OriginalBlob\":\"alerts/x.json\"}"}"#),
        ] {
            let owner = shape.owner(row.as_bytes());
            assert_eq!(owner.alert_id.as_deref(), Some("da1"));
            assert_eq!(owner.original.as_deref(), Some("alerts/x.json"));
        }
    }
}
