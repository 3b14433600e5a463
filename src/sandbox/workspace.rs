//! What a workspace holds: rows by table, and what it did to them silently.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::monitor::unpack;

/// Something a real service does to a row without a word. A product that loses
/// nothing causes none of these.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Observation {
    /// A column the stream does not declare: dropped.
    Dropped {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A field longer than a column takes: cut.
    Truncated {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its bytes before.
        bytes: usize,
    },
    /// A value not of the column's type: stored as null or as text.
    Mistyped {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
}

/// Rows by table. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tables(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    rows: BTreeMap<String, Vec<Value>>,
    counts: BTreeMap<String, u64>,
    uncounted: Vec<Uncounted>,
    bodies: Vec<Bytes>,
    request_ids: Vec<String>,
    observed: Vec<Observation>,
    poison: Option<String>,
    only_count: bool,
}

/// A body whose rows are counted when somebody asks.
#[derive(Debug)]
struct Uncounted {
    table: String,
    encoding: Option<String>,
    body: Bytes,
}

impl Uncounted {
    /// None if the body is no list of rows, or too large.
    fn rows(&self) -> usize {
        let plain = unpack(self.encoding.as_deref(), &self.body).unwrap_or_default();
        serde_json::from_slice::<Vec<&RawValue>>(&plain).map_or(0, |rows| rows.len())
    }
}

impl Tables {
    /// A table's rows so far, in order of arrival; none if nothing arrived.
    pub fn rows(&self, table: &str) -> Vec<Value> {
        self.held().rows.get(table).cloned().unwrap_or_default()
    }

    /// How many rows a table received.
    pub fn count(&self, table: &str) -> u64 {
        let uncounted = std::mem::take(&mut self.held().uncounted);
        for late in uncounted {
            self.counted(&late.table, late.rows());
        }
        self.held().counts.get(table).copied().unwrap_or_default()
    }

    /// Every body that came as far as being read, accepted or not, as sent.
    pub fn bodies(&self) -> Vec<Bytes> {
        self.held().bodies.clone()
    }

    /// Every `x-ms-client-request-id` sent, for a support ticket to name.
    pub fn request_ids(&self) -> Vec<String> {
        self.held().request_ids.clone()
    }

    /// What was done to rows silently.
    pub fn observed(&self) -> Vec<Observation> {
        self.held().observed.clone()
    }

    /// Bodies that contain `text` are refused with 400 from now on.
    pub fn refuse_rows_matching(&self, text: &str) {
        self.held().poison = Some(text.to_owned());
    }

    /// Rows that were refused are taken from now on.
    pub fn refuse_nothing(&self) {
        self.held().poison = None;
    }

    /// From now on rows are counted and neither checked nor kept, for
    /// measurements. What the Logs Ingestion API takes is not even unpacked
    /// before it is counted: a real service does that on machines of its own.
    pub fn only_count(&self) {
        self.held().only_count = true;
    }

    pub(super) fn saw(&self, body: &Bytes) {
        let mut held = self.held();
        if !held.only_count {
            held.bodies.push(body.clone());
        }
    }

    pub(super) fn saw_request_id(&self, id: &str) {
        self.held().request_ids.push(id.to_owned());
    }

    pub(super) fn refuses(&self, body: &[u8]) -> bool {
        let held = self.held();
        let poison = held.poison.as_deref().map(str::as_bytes);
        poison.is_some_and(|poison| memchr::memmem::find(body, poison).is_some())
    }

    pub(super) fn is_only_counting(&self) -> bool {
        self.held().only_count
    }

    pub(super) fn counted(&self, table: &str, rows: usize) {
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        *self.held().counts.entry(table.to_owned()).or_default() += rows;
    }

    pub(super) fn count_later(&self, table: String, encoding: Option<&str>, body: &Bytes) {
        let encoding = encoding.map(str::to_owned);
        self.held().uncounted.push(Uncounted { table, encoding, body: body.clone() });
    }

    pub(super) fn keep(&self, table: &str, rows: Vec<Value>) {
        self.counted(table, rows.len());
        self.held().rows.entry(table.to_owned()).or_default().extend(rows);
    }

    pub(super) fn observe(&self, observation: Observation) {
        self.held().observed.push(observation);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes a value takes as a field: text by itself, anything else as JSON.
pub(super) fn field_bytes(value: &Value) -> usize {
    value.as_str().map_or_else(|| value.to_string().len(), str::len)
}
