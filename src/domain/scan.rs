//! Where the members of a JSON object lie in its text, and whether all of it is
//! JSON.
//!
//! An alert's text is copied into its row as it came: every byte must be proven
//! to be JSON, and none need be decoded. This accepts what `serde_json` skips,
//! which a property test holds, and tells where each member lies in the time
//! which that takes to skip them all (`cargo bench --bench stages` shows both);
//! skipping is most of what reading a page takes. Nothing here calls itself, so
//! no nesting is too deep.
//!
//! Each function says where what begins at `at` ends, or `None` if it is not
//! all there or is none: <https://www.rfc-editor.org/rfc/rfc8259>.

use std::ops::Range;

/// Bytes of a text, end exclusive.
type Span = Range<usize>;

/// Where the object ends that `text` begins with; tells `found` of every member
/// in order, its name with the quotes and its value. `None` as well once `found`
/// says so.
pub(super) fn members(
    text: &str,
    mut found: impl FnMut(Span, Span) -> Option<()>,
) -> Option<usize> {
    let text = text.as_bytes();
    let mut at = space(text, 0);
    if byte(text, at)? != b'{' {
        return None;
    }
    at = space(text, at + 1);
    if byte(text, at)? == b'}' {
        return Some(at + 1);
    }
    let mut open = Vec::new();
    loop {
        let name = at..string(text, at)?;
        let start = colon(text, name.end)?;
        let end = value(text, start, &mut open)?;
        found(name, start..end)?;
        at = space(text, end);
        match byte(text, at)? {
            b',' => at = space(text, at + 1),
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

/// Any value. `open` is room for the brackets that are still to be closed.
fn value(text: &[u8], mut at: usize, open: &mut Vec<u8>) -> Option<usize> {
    open.clear();
    loop {
        at = match byte(text, at)? {
            b'"' => string(text, at)?,
            b'n' => word(text, at, b"null")?,
            b't' => word(text, at, b"true")?,
            b'f' => word(text, at, b"false")?,
            bracket @ (b'{' | b'[') => {
                // In ASCII the closing one is the next but one.
                let close = bracket + 2;
                let first = space(text, at + 1);
                if byte(text, first)? == close {
                    first + 1
                } else {
                    open.push(close);
                    at = element(text, first, close)?;
                    continue;
                }
            }
            _ => number(text, at)?,
        };
        // A value has ended, and what it is in may end with it.
        loop {
            let Some(close) = open.last().copied() else { return Some(at) };
            at = space(text, at);
            let next = byte(text, at)?;
            if next == b',' {
                at = element(text, space(text, at + 1), close)?;
                break;
            }
            if next != close {
                return None;
            }
            open.pop();
            at += 1;
        }
    }
}

/// What stands before the value of an element: a name and a colon, in an
/// object.
#[inline]
fn element(text: &[u8], at: usize, close: u8) -> Option<usize> {
    if close == b'}' { colon(text, string(text, at)?) } else { Some(at) }
}

/// A colon and the space around it.
#[inline]
fn colon(text: &[u8], at: usize) -> Option<usize> {
    let at = space(text, at);
    (byte(text, at)? == b':').then(|| space(text, at + 1))
}

/// Spaces, if there are any.
#[inline]
pub(super) fn space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = byte(text, at) {
        at += 1;
    }
    at
}

#[inline]
fn word(text: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    text.get(at..)?.starts_with(word).then_some(at + word.len())
}

#[inline]
fn string(text: &[u8], at: usize) -> Option<usize> {
    if byte(text, at)? != b'"' {
        return None;
    }
    let mut at = at + 1;
    loop {
        at += plain(text.get(at..)?);
        match byte(text, at)? {
            b'"' => return Some(at + 1),
            b'\\' => at = escape(text, at)?,
            0..b' ' => return None,
            _ => at += 1,
        }
    }
}

fn escape(text: &[u8], at: usize) -> Option<usize> {
    match byte(text, at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 2),
        b'u' => {
            let digits = text.get(at + 2..at + 6)?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(at + 6)
        }
        _ => None,
    }
}

fn number(text: &[u8], mut at: usize) -> Option<usize> {
    if byte(text, at)? == b'-' {
        at += 1;
    }
    // A zero in front stands alone.
    at = if byte(text, at)? == b'0' { at + 1 } else { digits(text, at)? };
    if byte(text, at) == Some(b'.') {
        at = digits(text, at + 1)?;
    }
    if let Some(b'e' | b'E') = byte(text, at) {
        let is_signed = matches!(byte(text, at + 1), Some(b'+' | b'-'));
        at = digits(text, at + 1 + usize::from(is_signed))?;
    }
    Some(at)
}

/// One at least.
fn digits(text: &[u8], at: usize) -> Option<usize> {
    let count = text.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then_some(at + count)
}

#[inline]
fn byte(text: &[u8], at: usize) -> Option<u8> {
    text.get(at).copied()
}

/// So many bytes at the front of `text` stand for themselves within a string;
/// of the last seven that is not said.
///
/// Eight at a time. Of a byte that is taken from, the highest bit says whether
/// it was less; it is wrong at most where a lower byte was less too, and the
/// lowest counts: <https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord>.
#[inline]
fn plain(text: &[u8]) -> usize {
    const EACH: u64 = u64::MAX / 0xFF;
    const QUOTE: u64 = EACH * 0x22;
    const BACKSLASH: u64 = EACH * 0x5C;
    const SPACE: u64 = EACH * 0x20;
    let less = |word: u64, than: u64| word.wrapping_sub(than) & !word & (EACH << 7);
    let mut at = 0;
    for word in text.as_chunks().0 {
        let word = u64::from_le_bytes(*word);
        let stops = less(word, SPACE) | less(word ^ QUOTE, EACH) | less(word ^ BACKSLASH, EACH);
        if stops != 0 {
            return at + (stops.trailing_zeros() / u8::BITS) as usize;
        }
        at += size_of::<u64>();
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use serde_json::{Deserializer, Value};

    use super::*;

    /// Where the object ends, by this module and by `serde_json`.
    fn both(text: &str) -> (Option<usize>, Option<usize>) {
        let mut json = Deserializer::from_str(text).into_iter::<IgnoredAny>();
        let is_whole =
            json.next().is_some_and(|it| it.is_ok()) && text.trim_start().starts_with('{');
        (members(text, |_, _| Some(())), is_whole.then(|| json.byte_offset()))
    }

    #[test]
    fn members_are_told_in_order_with_their_bytes() {
        let text = r#" { "a" : 1 ,"b\"\u0041":[ {"c":"}"} , -0.5e+7 ],"d":{},"d":null}, rest"#;
        let mut told = Vec::new();
        let end = members(text, |name, value| {
            told.push((text.get(name).unwrap(), text.get(value).unwrap()));
            Some(())
        });
        assert_eq!(text.get(end.unwrap()..), Some(", rest"));
        let expected = [
            (r#""a""#, "1"),
            (r#""b\"\u0041""#, r#"[ {"c":"}"} , -0.5e+7 ]"#),
            (r#""d""#, "{}"),
            (r#""d""#, "null"),
        ];
        assert_eq!(told, expected);
        assert_eq!(members(text, |_, _| None), None);
    }

    #[test]
    fn what_is_not_json_is_refused_as_serde_json_refuses_it() {
        let values = [
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "1e+",
            "+1",
            "--1",
            "nul",
            "nulll",
            "True",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{1:2}",
            "{\"a\" 1}",
            "{\"a\":1 \"b\":2}",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u123\"",
            "\"a\tb\"",
            "\"aaaaaaaa\u{1f}\"",
            "\"\u{7f}é\u{80}\"",
            "'a'",
            "",
            "[[]",
            "]",
            "\"\\ud800\"",
            "-0",
            "-0.0E-0",
            "1e5",
            "[ ]",
            "{ }",
            "[[[]],{}]",
            "\"\\/\\b\\f\"",
        ];
        let mut refused = 0;
        for value in values {
            let text = format!("{{\"m\":{value}}}");
            let (ours, theirs) = both(&text);
            assert_eq!(ours, theirs, "{text}");
            refused += usize::from(ours.is_none());
        }
        assert_eq!((refused, values.len()), (31, 40));
    }

    #[test]
    fn no_nesting_is_too_deep() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(members(&deep, |_, _| Some(())), Some(deep.len()));
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,9}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_takes_what_serde_json_takes_and_ends_where_that_ends(
            value in json(),
            is_spaced in any::<bool>(),
            place in any::<prop::sample::Index>(),
            instead in prop::option::of(prop::sample::select(b"\"\\{}[]:, \t\n0-.eE+ntfu1a\x01\x7f".to_vec())),
        ) {
            let object = Value::Object([("m".to_owned(), value)].into_iter().collect());
            let text = if is_spaced { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
            let mut text = text.unwrap().into_bytes();
            if let Some(instead) = instead {
                let place = place.index(text.len());
                text[place] = instead;
            }
            let text = String::from_utf8_lossy(&text);
            let (ours, theirs) = both(&text);
            prop_assert_eq!(ours, theirs, "{}", text);
        }
    }
}
