//! The members of a JSON object in order, undecoded.
//!
//! For texts that are passed on: values are copied byte by byte, so numbers,
//! escapes and spaces arrive as they were sent.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Names and values as JSON text; a name that comes twice is there twice.
#[derive(Clone, Debug, Default)]
pub struct Members<'a>(pub Vec<(&'a RawValue, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Of `json`; `None` if it is not an object.
    pub fn of(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// The first value of `name`, null or not.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| decoded(key) == name).map(|(_, value)| *value)
    }
}

/// A JSON text without its quotes and escapes; empty if it is not a text.
pub fn decoded(text: &RawValue) -> Cow<'_, str> {
    let inner = text.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
        Some(_) | None => serde_json::from_str(text.get()).unwrap_or_default(),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl<'de> Visitor<'de> for Visit {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Visit).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_their_bytes_and_their_doubles() {
        let members = Members::of(r#"{"b":1.50,"a":{"x" : [ ]},"b":null,"c\u0064":"\n"}"#).unwrap();
        let texts: Vec<_> = members.0.iter().map(|(k, v)| (k.get(), v.get())).collect();
        assert_eq!(
            texts,
            [
                (r#""b""#, "1.50"),
                (r#""a""#, r#"{"x" : [ ]}"#),
                (r#""b""#, "null"),
                (r#""c\u0064""#, r#""\n""#)
            ]
        );
        assert_eq!(members.get("b").map(RawValue::get), Some("1.50"));
        assert_eq!(members.get("cd").map(decoded).as_deref(), Some("\n"));
        assert_eq!(members.get("a").map(decoded).as_deref(), Some(""));
        assert!(members.get("x").is_none());
        assert!(Members::of("[]").is_none());
    }
}
