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
    row: &'a RawValue,
}

/// `quarantine/{date}/{digest}.json`: the same for every refusal of one row on
/// one day, so that storing it twice is storing it once.
pub fn blob_name(refused: &RefusedRow, at: Timestamp) -> String {
    format!("quarantine/{}/{}.json", at.date(), refused.entry.digest.hex())
}

/// The document's JSON.
///
/// # Errors
///
/// If the row is not JSON, which no row made by this program is.
pub fn document(
    refused: &RefusedRow,
    sink: &str,
    at: Timestamp,
) -> Result<Vec<u8>, serde_json::Error> {
    let row: &RawValue = serde_json::from_slice(&refused.row)?;
    let export_key_digest = refused.entry.digest.hex();
    let reason = &refused.reason;
    serde_json::to_vec(&Document { reason, sink, export_key_digest, at, row })
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
            blob_name(&refused, at),
            "quarantine/2026-11-21/ba7816bf8f01cfea414140de5dae2223.json"
        );
        assert_eq!(
            String::from_utf8(document(&refused, "LogAnalytics", at).unwrap()).unwrap(),
            r#"{"reason":"the sink answered 400 InvalidDataFormat","sink":"LogAnalytics","exportKeyDigest":"ba7816bf8f01cfea414140de5dae2223","at":"2026-11-21T10:00:00Z","row":{"AlertTitle":"caf\u00e9", "n":1.50}}"#
        );
    }
}
