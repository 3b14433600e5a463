//! A row that was written before -> whose alert it is of.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use super::Shape;
use crate::domain::alert::Alert;
use crate::domain::scope::Group;

/// What a row tells of its alert.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owner {
    /// The alert's id, where it can be read.
    pub alert_id: Option<String>,
    /// Its device group. What cannot be read proves nothing.
    pub group: Group<'static>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Columns {
    alert_id: Option<String>,
    rbac_group_name: Option<String>,
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
            Self::Columns => of_columns(row),
            Self::Classic => {
                Alert::parse(Bytes::copy_from_slice(row)).ok().map(|it| Owner::of(&it))
            }
            Self::Event => of_event(row),
        };
        owner.unwrap_or(Owner { alert_id: None, group: Group::Unreadable })
    }
}

fn of_columns(row: &[u8]) -> Option<Owner> {
    let Columns { alert_id, rbac_group_name } = serde_json::from_slice(row).ok()?;
    let group = rbac_group_name.map_or(Group::Ungrouped, |name| Group::named(Cow::Owned(name)));
    Some(Owner { alert_id, group })
}

fn of_event(row: &[u8]) -> Option<Owner> {
    let Event { body } = serde_json::from_slice(row).ok()?;
    Alert::parse(Bytes::from(body)).ok().map(|alert| Owner::of(&alert))
}

impl Owner {
    /// Of a whole alert.
    pub fn of(alert: &Alert) -> Self {
        let group = match alert.group() {
            Group::Named(name) => Group::Named(Cow::Owned(name.into_owned())),
            Group::Ungrouped => Group::Ungrouped,
            Group::Unreadable => Group::Unreadable,
        };
        Self { alert_id: alert.id().ok().map(Cow::into_owned), group }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_a_written_row_is_read_back_and_doubt_is_no_proof() {
        let named = |name: &str| Group::Named(Cow::Owned(name.to_owned()));
        let cases = [
            (
                Shape::Columns,
                r#"{"AlertId":"da1","RbacGroupName":"RXX","Evidence":[]}"#,
                named("RXX"),
            ),
            (Shape::Columns, r#"{"AlertId":"da1"}"#, Group::Ungrouped),
            (Shape::Columns, r#"{"RbacGroupName":"UnassignedGroup"}"#, Group::Ungrouped),
            (Shape::Columns, r#"{"RbacGroupName":"RXX","RbacGroupName":"RYY"}"#, Group::Unreadable),
            (Shape::Columns, r#"{"RbacGroupName":7}"#, Group::Unreadable),
            (Shape::Columns, "[]", Group::Unreadable),
            (Shape::Classic, r#"{"id":"da1","rbacGroupName":"RXX"}"#, named("RXX")),
            (Shape::Classic, r#"{"rbacGroupName":"RXX","rbacGroupName":"RYY"}"#, Group::Unreadable),
            (
                Shape::Event,
                r#"{"Body":"{\"id\":\"da1\",\"rbacGroupName\":\"RXX\"}"}"#,
                named("RXX"),
            ),
            (Shape::Event, r#"{"Body":7}"#, Group::Unreadable),
        ];
        for (shape, row, group) in cases {
            assert_eq!(shape.owner(row.as_bytes()).group, group, "{row}");
        }
        let owner = Shape::Event.owner(br#"{"Body":"{\"id\":\"da1\"}"}"#);
        assert_eq!(owner.alert_id.as_deref(), Some("da1"));
    }
}
