//! Cutting a long field where the rest still means something.

use serde_json::value::RawValue;

use super::super::members::Members;

/// Appends `value`, cut to at most `limit` bytes of JSON, and says whether it
/// was cut. Arrays lose whole entries from the end, objects whole members,
/// strings characters.
pub(super) fn push(row: &mut Vec<u8>, value: &str, limit: usize) -> bool {
    if value.len() <= limit {
        row.extend_from_slice(value.as_bytes());
        return false;
    }
    match value.as_bytes().first() {
        Some(b'[') => push_entries(row, value, limit),
        Some(b'{') => match Members::of(value) {
            Some(members) => {
                push_members(
                    row,
                    members.0.iter().map(|(name, value)| (name.get(), value.get())),
                    limit,
                );
            }
            None => row.extend_from_slice(b"{}"),
        },
        _ => push_cut_string(row, value, limit),
    }
    true
}

/// Appends an object of `members` (JSON names and values), as many from the
/// front as fit in `limit` bytes; says whether any was left out.
pub(super) fn push_members<'a>(
    row: &mut Vec<u8>,
    members: impl Iterator<Item = (&'a str, &'a str)>,
    limit: usize,
) -> bool {
    let start = row.len();
    let mut was_cut = false;
    row.push(b'{');
    for (name, value) in members {
        // Comma, colon and the closing brace.
        if row.len() - start + name.len() + value.len() + 3 > limit {
            was_cut = true;
            continue;
        }
        if row.last() != Some(&b'{') || row.len() - start > 1 {
            row.push(b',');
        }
        row.extend_from_slice(name.as_bytes());
        row.push(b':');
        row.extend_from_slice(value.as_bytes());
    }
    row.push(b'}');
    was_cut
}

/// At most `limit` bytes of `text`, cut at a character.
pub(super) fn plain(text: &str, limit: usize) -> &str {
    text.split_at_checked(text.floor_char_boundary(limit)).map_or(text, |(kept, _)| kept)
}

fn push_entries(row: &mut Vec<u8>, array: &str, limit: usize) {
    let entries: Vec<&RawValue> = serde_json::from_str(array).unwrap_or_default();
    let start = row.len();
    row.push(b'[');
    for entry in entries {
        // Comma and closing bracket. Entries stay in order, so the first that
        // does not fit ends the list.
        if row.len() - start + entry.get().len() + 2 > limit {
            break;
        }
        if row.len() - start > 1 {
            row.push(b',');
        }
        row.extend_from_slice(entry.get().as_bytes());
    }
    row.push(b']');
}

/// A JSON string keeps its quotes and loses no half of an escape.
fn push_cut_string(row: &mut Vec<u8>, value: &str, limit: usize) {
    let mut kept = plain(value, limit.saturating_sub(1));
    // Six bytes hold the longest escape, twelve a pair of them.
    for _ in 0..12 {
        let whole = format!("{kept}\"");
        if serde_json::from_str::<String>(&whole).is_ok() {
            row.extend_from_slice(whole.as_bytes());
            return;
        }
        kept = plain(kept, kept.len().saturating_sub(1));
    }
    row.extend_from_slice(b"\"\"");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn cut(value: &str, limit: usize) -> (String, bool) {
        let mut row = Vec::new();
        let was_cut = push(&mut row, value, limit);
        (String::from_utf8(row).unwrap(), was_cut)
    }

    #[test]
    fn what_fits_is_untouched() {
        assert_eq!(cut("[1, 2]", 6), ("[1, 2]".to_owned(), false));
    }

    #[test]
    fn arrays_are_cut_at_an_entry() {
        assert_eq!(cut(r#"["aaa","bbb","ccc"]"#, 14), (r#"["aaa","bbb"]"#.to_owned(), true));
        assert_eq!(cut(r#"["aaaaaaaaaaaa"]"#, 8), ("[]".to_owned(), true));
    }

    #[test]
    fn objects_are_cut_at_a_member() {
        assert_eq!(cut(r#"{"a":1,"b":"long","c":2}"#, 15), (r#"{"a":1,"c":2}"#.to_owned(), true));
    }

    #[test]
    fn strings_are_cut_between_characters_and_escapes() {
        assert_eq!(cut(r#""ab\u00e9cd""#, 8), (r#""ab""#.to_owned(), true));
        assert_eq!(cut("\"éééé\"", 6), ("\"éé\"".to_owned(), true));
    }

    proptest! {
        #[test]
        fn a_cut_value_is_json_within_the_limit(text in "\\PC{0,80}", limit in 2_usize..60) {
            for value in [serde_json::to_string(&text).unwrap(), serde_json::to_string(&[&text, &text]).unwrap()] {
                let (kept, was_cut) = cut(&value, limit);
                prop_assert!(kept.len() <= limit, "{kept}");
                prop_assert_eq!(was_cut, value.len() > limit);
                prop_assert!(serde_json::from_str::<Value>(&kept).is_ok(), "{kept}");
            }
        }
    }
}
