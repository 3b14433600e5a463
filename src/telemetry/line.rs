//! One record, one line: level, time, message, then `name=value`.
//!
//! The host reads line by line, so that a line break inside a value would make
//! two records of one.

use std::fmt;

use tracing::Level;
use tracing::field::{Field, Visit};

use crate::domain::timestamp::Timestamp;

/// Bytes of one value at most; a longer one is cut and ends in `…`.
const MAX_VALUE_BYTES: usize = 4 * 1024;

/// Collects a record's fields as text.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) message: String,
    /// Each with a space before it.
    pub(super) rest: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            escape(&mut self.message, value, false);
            return;
        }
        let quoted = value.is_empty() || value.contains([' ', '"', '=']);
        self.rest.push(' ');
        self.rest.push_str(field.name());
        self.rest.push('=');
        if quoted {
            self.rest.push('"');
        }
        escape(&mut self.rest, value, quoted);
        if quoted {
            self.rest.push('"');
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// Appends `text` with everything that could break a line made visible.
fn escape(line: &mut String, text: &str, quoted: bool) {
    let start = line.len();
    for c in text.chars() {
        if line.len() - start > MAX_VALUE_BYTES {
            line.push('…');
            return;
        }
        match c {
            '"' | '\\' if quoted => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                line.extend(c.escape_unicode());
            }
            c => line.push(c),
        }
    }
}

/// A whole line, with its end. `spans` are the fields of what it happened in.
pub(super) fn line(level: Level, at: Timestamp, fields: &Fields, spans: &str) -> String {
    let Fields { message, rest } = fields;
    format!("{level} {} {message}{rest}{spans}\n", at.sortable())
}

/// `text` without the word by which the host takes a line on standard error for
/// a warning: `warn`, in any case, becomes `w_arn`.
pub(super) fn without_warn(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, found, after)) = split_at_warn(rest) {
        clean.push_str(before);
        let mut letters = found.chars();
        clean.extend(letters.next());
        clean.push('_');
        clean.extend(letters);
        rest = after;
    }
    clean.push_str(rest);
    clean
}

/// What lies before, in and after the first `warn`.
fn split_at_warn(text: &str) -> Option<(&str, &str, &str)> {
    const WORD: &[u8] = b"warn";
    let at =
        text.as_bytes().windows(WORD.len()).position(|part| part.eq_ignore_ascii_case(WORD))?;
    let (before, rest) = text.split_at_checked(at)?;
    let (found, after) = rest.split_at_checked(WORD.len())?;
    Some((before, found, after))
}

/// Tells, in place of lines that are gone, how many they were.
pub(super) fn lost(count: u64, at: Timestamp) -> String {
    format!("WARN {} log lines were lost log.lost={count}\n", at.sortable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_value_holds_a_record_stays_one_line() {
        for (value, expected) in [
            ("two\nlines\r\n", "two\\nlines\\r\\n"),
            ("tab\tbell\u{7}", "tab\\tbell\\u{7}"),
            ("\u{85}\u{2028}\u{1b}[31m", "\\u{85}\\u{2028}\\u{1b}[31m"),
            ("D:\\logs \"a\"", "D:\\logs \"a\""),
            ("Æøå 🏥", "Æøå 🏥"),
        ] {
            let mut line = String::new();
            escape(&mut line, value, false);
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn a_quoted_value_ends_where_it_ends() {
        let mut line = String::new();
        escape(&mut line, r#"say "no" \ now"#, true);
        assert_eq!(line, r#"say \"no\" \\ now"#);
    }

    #[test]
    fn a_huge_value_is_cut_and_says_so() {
        let mut line = "kept ".to_owned();
        escape(&mut line, &"é".repeat(100_000), false);
        assert!(line.starts_with("kept é") && line.ends_with("é…"));
        assert!(line.len() < 5_000, "{}", line.len());
    }

    #[test]
    fn the_hosts_word_for_a_warning_is_broken_wherever_it_stands() {
        for (text, expected) in [
            ("nothing to see", "nothing to see"),
            ("warn", "w_arn"),
            ("a Warning from WARNFORD, é warned", "a W_arning from W_ARNFORD, é w_arned"),
            ("wawarnrn", "waw_arnrn"),
            ("wärn", "wärn"),
            ("", ""),
        ] {
            assert_eq!(without_warn(text), expected);
            assert!(!without_warn(text).to_lowercase().contains("warn"));
        }
    }
}
