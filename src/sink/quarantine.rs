//! The document kept of a row the sink refuses, so that nothing of an alert is
//! lost and `replay` can send it once the cause is mended.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::delivery::RefusedRow;
use crate::domain::timestamp::Timestamp;

/// One document. Its members' names are read back by `replay`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    reason: &'a str,
    sink: &'a str,
    /// Of what was refused, as the ledger tells rows apart, in hex.
    export_key_digest: String,
    at: Timestamp,
    holds: Holds,
    row: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed_at: Option<Timestamp>,
}

/// A document as it is read back.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetAside {
    /// Why it was refused, the last time.
    pub reason: String,
    /// By which sink; `none` where none was asked.
    pub sink: String,
    /// Of what was refused, in hex.
    pub export_key_digest: String,
    /// When.
    pub at: Timestamp,
    /// What [`Self::row`] is.
    pub holds: Holds,
    row: Box<RawValue>,
}

impl SetAside {
    /// From its JSON.
    ///
    /// # Errors
    ///
    /// If it is not such a document.
    pub fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// What is kept, byte by byte.
    pub fn row(&self) -> Bytes {
        Bytes::copy_from_slice(self.row.get().as_bytes())
    }

    /// The document's JSON; one that was sent again says when.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub fn write(&self, replayed_at: Option<Timestamp>) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Document {
            reason: &self.reason,
            sink: &self.sink,
            export_key_digest: self.export_key_digest.clone(),
            at: self.at,
            holds: self.holds,
            row: &self.row,
            replayed_at,
        })
    }
}

impl std::fmt::Debug for SetAside {
    /// Never the row: a `Debug` may reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetAside")
            .field("reason", &self.reason)
            .field("sink", &self.sink)
            .field("export_key_digest", &self.export_key_digest)
            .finish_non_exhaustive()
    }
}

/// What a document keeps as its `row`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Holds {
    /// The row as the sink was asked to take it.
    Row,
    /// The whole alert: no row of it could be made or carried.
    Alert,
}

/// `quarantine/{date}/{digest}.{sink}.json`: the same for every refusal of one
/// row by one sink on one day, so that storing it twice is storing it once.
pub fn blob_name(refused: &RefusedRow, sink: &str, at: Timestamp) -> String {
    format!("quarantine/{}/{}.{sink}.json", at.date(), refused.entry.digest.hex())
}

/// The document's JSON.
///
/// # Errors
///
/// If the row is not JSON, which no row made by this program is.
pub fn document(
    refused: &RefusedRow,
    holds: Holds,
    sink: &str,
    at: Timestamp,
) -> Result<Vec<u8>, serde_json::Error> {
    let row: &RawValue = serde_json::from_slice(&refused.row)?;
    let export_key_digest = refused.entry.digest.hex();
    let reason = &refused.reason;
    let replayed_at = None;
    serde_json::to_vec(&Document { reason, sink, export_key_digest, at, holds, row, replayed_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ledger::{Digest, Entry};

    #[test]
    fn a_document_is_written_back_as_it_was_read() {
        let text = r#"{"reason":"r","sink":"EventHub","exportKeyDigest":"ba","at":"2026-11-21T10:00:00Z","holds":"row","row":{"a" : 1.50}}"#;
        let read = SetAside::read(text.as_bytes()).unwrap();
        assert_eq!(read.write(None).unwrap(), text.as_bytes());
        let marked = read.write(Some("2026-11-22T10:00:00Z".parse().unwrap())).unwrap();
        assert!(marked.ends_with(br#","replayedAt":"2026-11-22T10:00:00Z"}"#));
        assert_eq!(SetAside::read(&marked).unwrap().row(), r#"{"a" : 1.50}"#);
        assert!(!format!("{read:?}").contains("1.50"));
    }

    #[test]
    fn the_document_is_what_replay_reads() {
        let refused = RefusedRow {
            row: Bytes::from_static(br#"{"AlertTitle":"caf\u00e9", "n":1.50}"#),
            entry: Entry { at: Timestamp::EPOCH, digest: Digest::of("abc") },
            reason: "the sink answered 400 InvalidDataFormat".to_owned(),
        };
        let at = "2026-11-21T10:00:00Z".parse().unwrap();
        assert_eq!(
            blob_name(&refused, "LogAnalytics", at),
            "quarantine/2026-11-21/ba7816bf8f01cfea414140de5dae2223.LogAnalytics.json"
        );
        assert_eq!(
            String::from_utf8(document(&refused, Holds::Row, "LogAnalytics", at).unwrap()).unwrap(),
            r#"{"reason":"the sink answered 400 InvalidDataFormat","sink":"LogAnalytics","exportKeyDigest":"ba7816bf8f01cfea414140de5dae2223","at":"2026-11-21T10:00:00Z","holds":"row","row":{"AlertTitle":"caf\u00e9", "n":1.50}}"#
        );
    }
}
