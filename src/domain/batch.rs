//! Rows -> requests within count and byte limits.
//!
//! Every sink takes a JSON array, so a batch is one: rows are written into its
//! body as they come and its size is known to the byte, never guessed.

use std::fmt;

use bytes::Bytes;

use super::ledger::{Digest, Entry};

/// What one request may carry.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Rows per request.
    pub rows: usize,
    /// Bytes of JSON per request, brackets and commas included, while it holds
    /// more than one row.
    pub bytes: usize,
    /// Bytes of JSON of a request that holds one row: as many, or more where
    /// `bytes` is our own choice and not the destination's limit.
    pub lone_row: usize,
}

impl BatchLimits {
    /// For a destination that takes no more than this.
    pub const fn of(rows: usize, bytes: usize) -> Self {
        Self { rows, bytes, lone_row: bytes }
    }

    /// The largest row that fits in a request of its own.
    pub fn largest_row(self) -> usize {
        self.lone_row.saturating_sub(BRACKETS)
    }
}

const BRACKETS: usize = 2;

/// One row's place in the body, and what it is of.
#[derive(Clone, Copy, Debug)]
struct Row {
    start: usize,
    end: usize,
    entry: Entry,
}

/// A JSON array that fits in one request. Never empty.
#[derive(Clone)]
pub struct Batch {
    body: Bytes,
    rows: Vec<Row>,
}

/// A single row no request could carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a row of {bytes} bytes; one request holds {limit}")]
pub struct RowTooLarge {
    /// Encoded size of the row.
    pub bytes: usize,
    /// Largest row that fits.
    pub limit: usize,
}

/// Collects rows into batches.
pub struct Batcher {
    limits: BatchLimits,
    body: Vec<u8>,
    rows: Vec<Row>,
}

impl fmt::Debug for Batch {
    /// Never the rows: a `Debug` may reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch {{ rows: {}, bytes: {} }}", self.rows.len(), self.body.len())
    }
}

impl fmt::Debug for Batcher {
    /// Never the rows: a `Debug` may reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batcher {{ rows: {}, bytes: {} }}", self.rows.len(), self.body.len())
    }
}

impl Batcher {
    /// An empty one.
    pub fn new(limits: BatchLimits) -> Self {
        Self { limits, body: Vec::new(), rows: Vec::new() }
    }

    /// Adds a row. Hands out the batch before it when there is no room left.
    ///
    /// # Errors
    ///
    /// [`RowTooLarge`] if the row fits in no request; nothing is added.
    pub fn push(&mut self, row: &[u8], entry: Entry) -> Result<Option<Batch>, RowTooLarge> {
        self.write(entry, |body| body.extend_from_slice(row)).1
    }

    /// As [`Self::push`], of a row that `write` adds to the end of what it is
    /// given: a row need not be copied. Gives what `write` gave, too.
    pub fn write<T>(
        &mut self,
        entry: Entry,
        write: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> (T, Result<Option<Batch>, RowTooLarge>) {
        let before = self.body.len();
        self.body.push(if self.rows.is_empty() { b'[' } else { b',' });
        let start = self.body.len();
        let written = write(&mut self.body);
        let (bytes, limit) = (self.body.len() - start, self.limits.largest_row());
        if bytes > limit {
            self.body.truncate(before);
            return (written, Err(RowTooLarge { bytes, limit }));
        }
        if self.rows.is_empty() || self.holds_no_more_than_allowed() {
            self.rows.push(Row { start, end: self.body.len(), entry });
            return (written, Ok(None));
        }
        let row = self.body.split_off(start);
        self.body.truncate(before);
        let full = self.finish();
        self.body.push(b'[');
        let start = self.body.len();
        self.body.extend_from_slice(&row);
        self.rows.push(Row { start, end: self.body.len(), entry });
        (written, Ok(full))
    }

    /// Hands out what was collected; `None` if that is nothing.
    pub fn finish(&mut self) -> Option<Batch> {
        if self.rows.is_empty() {
            return None;
        }
        self.body.push(b']');
        let capacity = self.body.capacity();
        let body = std::mem::replace(&mut self.body, Vec::with_capacity(capacity));
        Some(Batch { body: body.into(), rows: std::mem::take(&mut self.rows) })
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// With one row more than are counted, which is in the body already.
    fn holds_no_more_than_allowed(&self) -> bool {
        // The closing bracket.
        self.rows.len() < self.limits.rows && self.body.len() < self.limits.bytes
    }
}

impl Batch {
    /// The JSON array.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Never; a batch holds at least one row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Each row's JSON and what it is of, in order.
    pub fn rows(&self) -> impl Iterator<Item = (Bytes, Entry)> {
        self.rows.iter().map(|row| (self.body.slice(row.start..row.end), row.entry))
    }

    /// What the batch is of: the same for the same rows in the same order,
    /// whenever and by whichever run they are sent.
    pub fn digest(&self) -> Digest {
        let rows: String = self.rows.iter().map(|row| row.entry.digest.hex()).collect();
        Digest::of(&rows)
    }

    /// Two batches of half the rows each; `None` for a single row.
    pub fn halves(&self) -> Option<(Self, Self)> {
        let (first, second) = self.rows.split_at(self.rows.len() / 2);
        Some((self.part(first)?, self.part(second)?))
    }

    fn part(&self, rows: &[Row]) -> Option<Self> {
        let (first, last) = (rows.first()?, rows.last()?);
        let mut body = Vec::with_capacity(last.end - first.start + BRACKETS);
        body.push(b'[');
        body.extend_from_slice(&self.body.slice(first.start..last.end));
        body.push(b']');
        let shift = first.start - 1;
        let moved =
            |row: &Row| Row { start: row.start - shift, end: row.end - shift, entry: row.entry };
        Some(Self { body: body.into(), rows: rows.iter().map(moved).collect() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::timestamp::Timestamp;
    use super::*;

    fn entry(text: &str) -> Entry {
        Entry { at: Timestamp::EPOCH, digest: Digest::of(text) }
    }

    fn split(texts: &[String], limits: BatchLimits) -> Vec<Batch> {
        let mut open = Batcher::new(limits);
        let mut batches: Vec<_> = texts
            .iter()
            .filter_map(|text| open.push(format!("\"{text}\"").as_bytes(), entry(text)).unwrap())
            .collect();
        batches.extend(open.finish());
        batches
    }

    fn check(batch: &Batch) -> Vec<String> {
        let parsed: Vec<Value> = serde_json::from_slice(batch.body()).expect("a JSON array");
        assert_eq!(parsed.len(), batch.len());
        parsed
            .iter()
            .zip(batch.rows())
            .map(|(value, (row, of))| {
                let text = value.as_str().unwrap();
                assert_eq!(row, format!("\"{text}\"").as_bytes());
                assert_eq!(of, entry(text));
                text.to_owned()
            })
            .collect()
    }

    #[test]
    fn a_row_no_request_could_carry_is_handed_back_and_the_rest_goes_on() {
        let mut batcher = Batcher::new(BatchLimits::of(9, 6));
        assert_eq!(
            batcher.push(b"12345", entry("a")).unwrap_err(),
            RowTooLarge { bytes: 5, limit: 4 }
        );
        assert!(batcher.is_empty());
        assert!(batcher.push(b"1234", entry("b")).unwrap().is_none());
        assert_eq!(batcher.finish().unwrap().body(), &b"[1234]"[..]);
    }

    #[test]
    fn a_large_row_goes_alone_where_that_is_allowed() {
        let mut batcher = Batcher::new(BatchLimits { rows: 9, bytes: 6, lone_row: 10 });
        assert!(batcher.push(b"1", entry("a")).unwrap().is_none());
        assert_eq!(batcher.push(b"12345678", entry("b")).unwrap().unwrap().body(), &b"[1]"[..]);
        assert_eq!(batcher.push(b"2", entry("c")).unwrap().unwrap().body(), &b"[12345678]"[..]);
        assert!(batcher.push(b"123456789", entry("d")).is_err());
        assert_eq!(batcher.finish().unwrap().body(), &b"[2]"[..]);
    }

    #[test]
    fn a_batch_is_known_by_what_its_rows_are_of() {
        let whole = |texts: &[&str], row: &[u8]| {
            let mut batcher = Batcher::new(BatchLimits::of(9, 99));
            for text in texts {
                batcher.push(row, entry(text)).unwrap();
            }
            batcher.finish().unwrap().digest()
        };
        assert_eq!(whole(&["a", "b"], b"1"), whole(&["a", "b"], b"2"), "sent by another run");
        assert_ne!(whole(&["a", "b"], b"1"), whole(&["b", "a"], b"1"));
        assert_ne!(whole(&["a", "b"], b"1"), whole(&["a"], b"1"));
    }

    #[test]
    fn debug_output_shows_no_row() {
        let mut batcher = Batcher::new(BatchLimits::of(9, 99));
        batcher.push(b"7", entry("a")).unwrap();
        assert_eq!(format!("{batcher:?}"), "Batcher { rows: 1, bytes: 2 }");
        assert_eq!(format!("{:?}", batcher.finish().unwrap()), "Batch { rows: 1, bytes: 3 }");
    }

    #[test]
    fn nothing_collected_is_no_batch() {
        assert!(Batcher::new(BatchLimits::of(1, 10)).finish().is_none());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_reordered_or_oversized(
            texts in prop::collection::vec("[a-z]{0,30}", 0..60),
            rows in 1_usize..8,
            bytes in 40_usize..200,
        ) {
            let batches = split(&texts, BatchLimits::of(rows, bytes));
            for batch in &batches {
                prop_assert!(!batch.is_empty() && batch.len() <= rows);
                prop_assert!(batch.body().len() <= bytes);
            }
            let seen: Vec<_> = batches.iter().flat_map(check).collect();
            prop_assert_eq!(seen, texts);
        }

        #[test]
        fn halving_to_single_rows_loses_nothing(texts in prop::collection::vec("[a-z]{0,9}", 1..40)) {
            let whole = split(&texts, BatchLimits::of(99, 9_999));
            let mut waiting = whole;
            waiting.reverse();
            let mut seen = Vec::new();
            while let Some(batch) = waiting.pop() {
                check(&batch);
                match batch.halves() {
                    Some((first, second)) => waiting.extend([second, first]),
                    None => seen.extend(check(&batch)),
                }
            }
            prop_assert_eq!(seen, texts);
        }
    }
}
