//! Alert -> row, one file per destination.
//!
//! Rows are written as JSON text straight from the alert's own bytes: values
//! are copied, not parsed and printed again, so numbers, escapes and unknown
//! enum words arrive as Defender sent them.
//!
//! Destinations cut long fields without saying so, which would leave broken
//! JSON. A field over the destination's limit is therefore cut here, at an
//! entry; the row then says `Truncated` and names where the whole alert lies.
//! Files have no such limit.

mod classic;
mod columns;
mod cut;
mod owner;
mod promote;

use super::alert::Alert;
use super::ledger::{Entry, ExportKey};
use super::timestamp::Timestamp;

pub use self::columns::{ALERT_COLUMNS, ColumnType};
pub use self::owner::Owner;

/// Which form a destination takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// Logs Ingestion: the contract's columns. Fields of at most 64 KB.
    Columns,
    /// Data Collector: the alert as sent. Fields of at most 32 KB.
    Classic,
    /// Event Hub: the classic row as the text of one event.
    Event,
    /// Files: the contract's columns, nothing cut.
    Lines,
}

/// What a row carries that is not the alert's.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// When rows are sent: `TimeGenerated`.
    pub sent_at: Timestamp,
    /// `TrustName`.
    pub trust: &'a str,
    /// `RunId`.
    pub run: &'a str,
}

/// A row as written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shaped {
    /// Where the whole alert must be kept before the row is sent; `None` if the
    /// row holds all of it.
    pub original: Option<String>,
}

/// No limit: nothing is ever cut.
const UNLIMITED: usize = usize::MAX;
/// The smallest limit fields are cut to before a row is given up.
const LEAST_FIELD: usize = 1_024;

impl Shape {
    fn longest_field(self) -> usize {
        match self {
            Self::Columns => 64 * 1_024,
            Self::Classic | Self::Event => 32 * 1_024,
            Self::Lines => UNLIMITED,
        }
    }

    /// Adds the row of `alert` to what `rows` holds.
    ///
    /// Fields are cut to the destination's limit, and further if the row would
    /// still be longer than `largest_row` bytes. A row that cannot be made
    /// small enough is left too large for the batcher to refuse.
    pub fn write(
        self,
        rows: &mut Vec<u8>,
        alert: &Alert,
        key: &ExportKey,
        entry: Entry,
        stamp: Stamp<'_>,
        largest_row: usize,
    ) -> Shaped {
        let start = rows.len();
        let mut longest = self.longest_field();
        loop {
            rows.truncate(start);
            let limits = Limits { longest_field: longest, entry };
            let cut = match self {
                Self::Columns | Self::Lines => columns::write(rows, alert, key, stamp, limits),
                Self::Classic => classic::write(rows, alert, key, limits),
                Self::Event => classic::write_event(rows, alert, key, limits),
            };
            longest /= 4;
            let is_whole = self.longest_field() == UNLIMITED;
            if rows.len() - start <= largest_row || is_whole || longest < LEAST_FIELD {
                return Shaped { original: cut.then(|| original_name(alert, entry)) };
            }
        }
    }
}

/// What a row's fields must keep to, and what a row with cut ones is of.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// [`UNLIMITED`] for a destination that takes any value whole.
    longest_field: usize,
    entry: Entry,
}

/// `alerts/2026-11-19/{digest}.json`: the same for every copy of one version.
fn original_name(alert: &Alert, entry: Entry) -> String {
    let day = alert.last_update().unwrap_or(entry.at).date();
    format!("alerts/{day}/{}.json", entry.digest.hex())
}

/// Appends `text` as a JSON string.
fn push_string(row: &mut Vec<u8>, text: &str) {
    // Writing to memory does not fail.
    if serde_json::to_writer(&mut *row, text).is_err() {
        row.extend_from_slice(b"\"\"");
    }
}

/// Appends `"name":`, after a comma where one is needed.
fn push_name(row: &mut Vec<u8>, name: &str) {
    if !matches!(row.last(), None | Some(b'{')) {
        row.push(b',');
    }
    row.push(b'"');
    row.extend_from_slice(name.as_bytes());
    row.extend_from_slice(b"\":");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::super::ledger::Digest;
    use super::*;

    const EVERYTHING: usize = usize::MAX;

    fn shape(shape: Shape, alert: &Value, largest_row: usize) -> (Value, Shaped) {
        let alert = Alert::parse(Bytes::from(serde_json::to_vec(alert).unwrap())).unwrap();
        let key = ExportKey::of(&alert).unwrap();
        let entry = Entry { at: Timestamp::EPOCH, digest: Digest::of("abc") };
        let stamp =
            Stamp { sent_at: "2026-11-21T10:00:00Z".parse().unwrap(), trust: "RXX", run: "run-1" };
        let mut row = b"[".to_vec();
        let shaped = shape.write(&mut row, &alert, &key, entry, stamp, largest_row);
        assert_eq!(row.remove(0), b'[', "what was there stays");
        assert!(row.len() <= largest_row, "{} bytes", row.len());
        (serde_json::from_slice(&row).expect("a row is JSON"), shaped)
    }

    fn alert() -> Value {
        json!({
            "id": "da1", "incidentId": 41877, "investigationId": null, "severity": "High",
            "title": "caf\u{e9}", "lastUpdateTime": "2026-11-19T08:41:53.17Z",
            "rbacGroupName": "RXX Example Trust", "mitreTechniques": ["T1059.001"],
            "newThing": {"a": [1.50]}, "evidence": [
                {"entityType": "Process", "accountName": null, "domainName": null, "ipAddress": null},
                {"entityType": "User", "accountName": "a.patel", "domainName": "RXXDOM", "ipAddress": null},
            ],
        })
    }

    #[test]
    fn a_row_has_the_contracts_columns_and_loses_nothing() {
        let (row, shaped) = shape(Shape::Columns, &alert(), EVERYTHING);
        assert_eq!(shaped.original, None);
        assert_eq!(
            row,
            json!({
                "TimeGenerated": "2026-11-21T10:00:00Z", "ExportKey": "da1|2026-11-19T08:41:53.17Z",
                "TrustName": "RXX", "RunId": "run-1", "AlertId": "da1", "AlertTitle": "caf\u{e9}",
                "Severity": "High", "IncidentId": 41877, "LastUpdateTime": "2026-11-19T08:41:53.17Z",
                "RbacGroupName": "RXX Example Trust", "DomainName": "RXXDOM", "AccountName": "a.patel",
                "MitreTechniques": ["T1059.001"], "Evidence": alert()["evidence"],
                "AdditionalFields": {"newThing": {"a": [1.50]}}, "Truncated": false,
            })
        );
    }

    #[test]
    fn a_line_of_a_file_has_the_same_columns_and_is_never_cut() {
        let mut large = alert();
        large["evidence"] = (0..4_000).map(|n| json!({"n": n, "pad": "x".repeat(50)})).collect();
        large["description"] = json!("y".repeat(300_000));
        large["incidentId"] = json!("none");
        let (row, shaped) = shape(Shape::Lines, &large, EVERYTHING);
        assert_eq!(shaped.original, None);
        assert_eq!(row["Evidence"], large["evidence"]);
        assert_eq!(row["Description"], large["description"]);
        assert_eq!((&row["IncidentId"], &row["Truncated"]), (&json!("none"), &json!(false)));
        assert_eq!(row.get("OriginalBlob"), None);
        let same = shape(Shape::Columns, &alert(), EVERYTHING).0;
        assert_eq!(shape(Shape::Lines, &alert(), EVERYTHING).0, same);
    }

    #[test]
    fn a_line_too_large_for_its_file_is_not_cut_either() {
        let mut large = alert();
        large["description"] = json!("y".repeat(300_000));
        let alert = Alert::parse(Bytes::from(serde_json::to_vec(&large).unwrap())).unwrap();
        let key = ExportKey::of(&alert).unwrap();
        let entry = Entry { at: Timestamp::EPOCH, digest: Digest::of("abc") };
        let stamp = Stamp { sent_at: Timestamp::EPOCH, trust: "RXX", run: "run-1" };
        let mut row = Vec::new();
        let limit = 99_000;
        assert_eq!(Shape::Lines.write(&mut row, &alert, &key, entry, stamp, limit).original, None);
        assert!(row.len() > 300_000);
    }

    #[test]
    fn a_classic_row_is_the_alert_as_sent_with_four_members_added() {
        let mut expected = alert();
        expected["domainName"] = json!("RXXDOM");
        expected["accountName"] = json!("a.patel");
        expected["ExportKey"] = json!("da1|2026-11-19T08:41:53.17Z");
        assert_eq!(shape(Shape::Classic, &alert(), EVERYTHING).0, expected);
        let event = shape(Shape::Event, &alert(), EVERYTHING).0;
        let body: Value = serde_json::from_str(event["Body"].as_str().unwrap()).unwrap();
        assert_eq!(body, expected);
    }

    #[test]
    fn a_field_over_the_limit_is_cut_at_an_entry_and_the_whole_is_named() {
        let mut large = alert();
        large["evidence"] = json!(vec!["x".repeat(1_000); 100]);
        for (form, field, limit) in
            [(Shape::Columns, "Evidence", 64 * 1_024), (Shape::Classic, "evidence", 32 * 1_024)]
        {
            let (row, shaped) = shape(form, &large, EVERYTHING);
            let kept = row[field].as_array().unwrap();
            assert!(
                kept.len() > 30 && kept.iter().all(|entry| entry.as_str().unwrap().len() == 1_000)
            );
            assert!(row[field].to_string().len() <= limit);
            assert_eq!(row["Truncated"], json!(true));
            let name = "alerts/2026-11-19/ba7816bf8f01cfea414140de5dae2223.json";
            assert_eq!(row["OriginalBlob"], json!(name));
            assert_eq!(shaped.original.as_deref(), Some(name));
        }
    }

    #[test]
    fn a_row_no_request_could_carry_is_cut_until_one_can() {
        let mut large = alert();
        for name in ["title", "description", "category", "evidence", "comments"] {
            large[name] = json!(vec!["y".repeat(100); 600]);
        }
        for form in [Shape::Columns, Shape::Classic, Shape::Event] {
            let (_, shaped) = shape(form, &large, 100_000);
            assert!(shaped.original.is_some(), "{form:?}");
        }
    }

    #[test]
    fn a_value_of_another_type_than_documented_is_kept() {
        let mut odd = alert();
        odd["severity"] = json!({"level": 3});
        odd["incidentId"] = json!("41877");
        odd["alertCreationTime"] = json!(7);
        let (row, _) = shape(Shape::Columns, &odd, EVERYTHING);
        assert_eq!(row["Severity"], json!(r#"{"level":3}"#));
        assert_eq!(row["IncidentId"], json!(41877));
        assert_eq!(row["AlertCreationTime"], json!("7"));
    }

    #[test]
    fn names_the_service_reserves_do_not_spoil_a_classic_row() {
        let mut odd = alert();
        odd["TimeGenerated"] = json!("x");
        odd["ipAddress"] = json!(null);
        odd["domainName"] = json!("ROOT");
        let (row, _) = shape(Shape::Classic, &odd, EVERYTHING);
        assert_eq!(row["TimeGenerated_"], json!("x"));
        assert_eq!(row.get("TimeGenerated"), None);
        assert_eq!(row.get("ipAddress"), None);
    }
}
