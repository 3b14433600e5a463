//! The document kept of a row the sink refuses, so that nothing of an alert is
//! lost and `replay` can send it once the cause is mended.

use serde::Serialize;
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
}

/// What a document keeps as its `row`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
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
    serde_json::to_vec(&Document { reason, sink, export_key_digest, at, holds, row })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::ledger::{Digest, Entry};

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
