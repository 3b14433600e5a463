//! The first non-null value of a name anywhere in an alert.
//!
//! The predecessor's trusts query `domainName`, `accountName` and `ipAddress`
//! at the root, where Defender does not put them. With evidence expanded most
//! of their occurrences are null, hence the first that is not.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize as _;
use serde_json::value::RawValue;

/// A name whose first value is copied to the root.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Promoted {
    DomainName,
    AccountName,
    IpAddress,
}

impl Promoted {
    pub(super) const ALL: [Self; 3] = [Self::DomainName, Self::AccountName, Self::IpAddress];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::DomainName => "domainName",
            Self::AccountName => "accountName",
            Self::IpAddress => "ipAddress",
        }
    }

    /// Made once: to make one costs as much as to search an alert.
    fn finder(self) -> &'static Finder<'static> {
        static FINDERS: LazyLock<[Finder<'static>; 3]> =
            LazyLock::new(|| Promoted::ALL.map(|it| Finder::new(it.name())));
        let [domain, account, ip] = &*FINDERS;
        match self {
            Self::DomainName => domain,
            Self::AccountName => account,
            Self::IpAddress => ip,
        }
    }
}

/// The first value of `name` that is not null, in document order, as JSON text.
///
/// `raw` must be valid JSON. The name is searched as text: within a JSON string
/// its opening quote would follow a backslash, and as a value no colon would
/// follow it.
pub(super) fn first(raw: &[u8], name: Promoted) -> Option<&str> {
    let name = name.finder();
    let mut rest = raw;
    loop {
        let (before, value) = next(rest, name)?;
        if !before.ends_with(b"\\")
            && let Some(value) = scalar(value)
        {
            return Some(value);
        }
        rest = value;
    }
}

/// What stands before the next `"name"` and what stands after it.
fn next<'a>(text: &'a [u8], name: &Finder<'_>) -> Option<(&'a [u8], &'a [u8])> {
    let length = name.needle().len();
    let mut from = 0;
    loop {
        let at = from + name.find(text.get(from..)?)?;
        let (before, after) = (text.get(..at)?, text.get(at + length..)?);
        if let (Some(before), Some(after)) = (before.strip_suffix(b"\""), after.strip_prefix(b"\""))
        {
            return Some((before, after));
        }
        from = at + length;
    }
}

/// The value after a member's name, if it is a member and the value is a text,
/// number or truth.
fn scalar(after_name: &[u8]) -> Option<&str> {
    let after_colon = after_name.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    if matches!(after_colon.first(), Some(b'n' | b'{' | b'[')) {
        return None;
    }
    let mut json = serde_json::Deserializer::from_slice(after_colon);
    <&RawValue>::deserialize(&mut json).ok().map(RawValue::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_that_is_not_null_counts() {
        let raw = br#"{"a":{"domainName":null},"evidence":[{"domainName" : "RXX"},{"domainName":"LATER"}]}"#;
        assert_eq!(first(raw, Promoted::DomainName), Some(r#""RXX""#));
        assert_eq!(first(raw, Promoted::AccountName), None);
    }

    #[test]
    fn a_name_inside_a_text_or_as_a_value_does_not_count() {
        let raw = br#"{"title":"{\"ipAddress\":\"10.0.0.1\"}","kind":"ipAddress","xipAddress":"2","ipAddress":"192.0.2.7"}"#;
        assert_eq!(first(raw, Promoted::IpAddress), Some(r#""192.0.2.7""#));
    }

    #[test]
    fn an_object_of_that_name_is_searched_not_taken() {
        let raw = br#"{"accountName":{"accountName":"a.patel"}}"#;
        assert_eq!(first(raw, Promoted::AccountName), Some(r#""a.patel""#));
    }
}
