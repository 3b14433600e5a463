//! JSON lines: rows in files, a row a line.
//!
//! <https://jsonlines.org>

use super::timestamp::Timestamp;

/// `{table}/date=2026-11-21/hour=10/`: the folder for what is sent at `at`
/// (UTC). Spark, Synapse, Fabric, Athena and `DuckDB` read such names as columns
/// by themselves, Azure Data Explorer by a `pathformat`.
/// <https://learn.microsoft.com/kusto/management/external-tables-azure-storage#path-format>
pub fn folder(table: &str, at: Timestamp) -> String {
    format!("{table}/date={}/hour={:02}/", at.date(), at.to_utc().hour())
}

/// The entries of a JSON array as lines, each closed by a line feed.
///
/// Values are copied as they are. JSON allows line breaks between values and
/// nowhere else, so they are left out and no line is ever broken.
pub fn of_array(array: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(array.len());
    let mut depth = 0_usize;
    let mut place = Place::Between;
    for &byte in array {
        place = match (place, byte) {
            (Place::Text, b'\\') => Place::Escape,
            (Place::Text, b'"') => Place::Between,
            (Place::Text | Place::Escape, _) => Place::Text,
            (Place::Between, b'"') => Place::Text,
            (Place::Between, _) => Place::Between,
        };
        let structure = place == Place::Between;
        match byte {
            b'[' | b'{' if structure => depth += 1,
            b']' | b'}' if structure => depth = depth.saturating_sub(1),
            _ => {}
        }
        match byte {
            b'\n' | b'\r' => {}
            b' ' | b'\t' if structure && depth <= 1 => {}
            b'[' if structure && depth == 1 => {}
            b',' if structure && depth == 1 => lines.push(b'\n'),
            b']' if structure && depth == 0 => {}
            _ => lines.push(byte),
        }
    }
    if !lines.is_empty() {
        lines.push(b'\n');
    }
    lines
}

/// Where in a JSON text a byte leaves the reader.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Place {
    /// Among values, or just behind a string's closing quote.
    Between,
    /// In a string.
    Text,
    /// Behind a backslash in a string.
    Escape,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn lines(array: &str) -> String {
        String::from_utf8(of_array(array.as_bytes())).unwrap()
    }

    #[test]
    fn the_folder_says_day_and_hour_of_utc() {
        for (at, expected) in [
            ("2026-11-21T10:59:59.9999999Z", "Alerts/date=2026-11-21/hour=10/"),
            ("2026-01-02T00:00:00Z", "Alerts/date=2026-01-02/hour=00/"),
        ] {
            assert_eq!(folder("Alerts", at.parse().unwrap()), expected);
        }
    }

    #[test]
    fn a_line_is_a_row_as_it_was_written() {
        for (array, expected) in [
            ("[]", ""),
            ("[1]", "1\n"),
            (
                r#"[{"a":1.50,"b":"x, y"},{"c":[1,[2]]}]"#,
                "{\"a\":1.50,\"b\":\"x, y\"}\n{\"c\":[1,[2]]}\n",
            ),
            ("[{\"a\":\n  [1,\r\n 2]\n},\n \"t\\n\"]", "{\"a\":  [1, 2]}\n\"t\\n\"\n"),
            (r#"["a\\","],[","\"]","{"]"#, "\"a\\\\\"\n\"],[\"\n\"\\\"]\"\n\"{\"\n"),
        ] {
            assert_eq!(lines(array), expected, "{array}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i32>().prop_map(Value::from), ".{0,9}".prop_map(Value::from)];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                (".{0,4}", inner).prop_map(|(name, value)| json!({ name: value })),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_the_rows_hold_each_is_one_line(
            rows in prop::collection::vec(value(), 0..6),
            pretty in any::<bool>(),
        ) {
            let write = if pretty { serde_json::to_string_pretty } else { serde_json::to_string };
            let text = lines(&write(&Value::Array(rows.clone())).unwrap());
            prop_assert!(text.is_empty() || text.ends_with('\n'));
            let read: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            prop_assert_eq!(read, rows);
        }
    }
}
