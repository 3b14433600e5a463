//! The state's rows: how a checkpoint, a page of the ledger and the
//! predecessor's time are written and read.

use std::time::Duration;

use uuid::Uuid;

use super::{Change, Fields, Row, StoreError, Value};
use crate::domain::audit::Audit;
use crate::domain::budget::Budget;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::ledger::{Digest, Memory, Page};
use crate::domain::progress::Progress;
use crate::domain::reached::Reached;
use crate::domain::timestamp::Timestamp;

pub(super) const POSITION: &str = "Position";
pub(super) const PREDECESSOR: &str = "QueryEndTime";

/// Digests in one value: 64 KiB.
const DIGESTS_IN_VALUE: usize = super::MAX_VALUE_BYTES / Digest::LEN;
/// Values of digests in one row: under 1 MiB with everything else.
const VALUES_IN_ROW: usize = 15;
/// Digests in one row.
pub(super) const DIGESTS_IN_ROW: usize = DIGESTS_IN_VALUE * VALUES_IN_ROW;

/// What keys of ledger pages begin with.
pub(super) fn prefix(memory: Memory) -> &'static str {
    match memory {
        Memory::Versions { .. } => "Ledger.V.",
        Memory::Alerts => "Ledger.A.",
    }
}

/// From when on the ledger of this kind is whole.
fn whole_from(memory: Memory) -> &'static str {
    match memory {
        Memory::Versions { .. } => "WholeFromVersions",
        Memory::Alerts => "WholeFromAlerts",
    }
}

/// The rows of a page, named with `prefix`.
pub(super) fn page_changes(page: &Page, prefix: &str) -> Vec<Change> {
    let rows = page.digests.chunks(DIGESTS_IN_ROW);
    rows.map(|digests| {
        let values = digests.chunks(DIGESTS_IN_VALUE).enumerate().map(|(n, digests)| {
            let part = Page { newest: page.newest, digests: digests.to_vec() };
            (format!("Digests{n:02}"), Value::Bytes(part.encode()))
        });
        let unique = Uuid::new_v4().simple();
        let key = format!("{prefix}{}.{unique}", page.newest.sortable());
        Change::Insert { key, fields: values.collect() }
    })
    .collect()
}

/// The checkpoint, under the memory and the allowance of calls there are now.
pub(super) fn read_checkpoint(
    row: &Row,
    memory: Memory,
    calls_per_hour: u32,
) -> Result<Checkpoint, StoreError> {
    let progress = text(row, "Progress").and_then(|json| serde_json::from_str(json).ok());
    let time = |name| text(row, name).and_then(|text| text.parse::<Timestamp>().ok());
    // What cannot be read counts as at the position: some rows are repeated.
    let targets = text(row, "Targets").and_then(|json| serde_json::from_str(json).ok());
    // Calls that cannot be read are forgotten: the service has its own limit.
    let calls = text(row, "Calls").and_then(|calls| Budget::decode(calls, calls_per_hour).ok());
    let progress: Progress =
        progress.ok_or_else(|| corrupt(&row.key, "its progress is not this program's"))?;
    // A version that remembered less, or something else, wrote no such time.
    let whole_from = time(whole_from(memory)).unwrap_or(progress.position());
    let audit = text(row, "Audit").and_then(|json| serde_json::from_str(json).ok());
    Ok(Checkpoint {
        whole_from,
        audit: audit.unwrap_or(Audit::Resting { since: progress.position() }),
        progress,
        deployed_at: time("DeployedAt")
            .ok_or_else(|| corrupt(&row.key, "it has no deployment time"))?,
        reached: Reached::from_saved(targets.unwrap_or_default()),
        read_to: time("ReadTo"),
        slice: text(row, "Slice").and_then(|it| it.parse().ok()).map(Duration::from_nanos),
        last_read: time("LastRead"),
        not_before: time("NotBefore"),
        budget: calls.unwrap_or_else(|| Budget::new(calls_per_hour)),
        // Unknown, it is this trust's turn at once.
        pace: text(row, "Pace")
            .and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default(),
        page_size: text(row, "PageSize").map(str::to_owned),
        memo: text(row, "Memo")
            .and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default(),
    })
}

/// The first key after all that begin with `prefix`.
pub(super) fn after(prefix: &str) -> String {
    format!("{}/", prefix.trim_end_matches('.'))
}

/// A value that is text.
pub(super) fn text<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    match row.fields.get(name) {
        Some(Value::Text(text)) => Some(text),
        Some(Value::Bytes(_) | Value::Int(_) | Value::Bool(_)) | None => None,
    }
}

/// Keeps what the predecessor would start from a little before our position:
/// it adds a second and cuts the result to the minute.
pub(super) fn predecessor_change(held: Option<&Row>, position: Timestamp) -> Change {
    let at = (position - Duration::from_secs(1)).to_utc();
    let end_time = format!(
        "{}T{:02}:{:02}:{:02}.{:03}Z",
        Timestamp::from(time::OffsetDateTime::from(at)).date(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    );
    let mut fields = held.map(|row| row.fields.clone()).unwrap_or_default();
    fields.insert("end_time".to_owned(), Value::Text(end_time));
    Change::write(PREDECESSOR, held.map(|row| row.etag.clone()), fields)
}

/// The row of the checkpoint.
pub(super) fn write_checkpoint(
    checkpoint: &Checkpoint,
    memory: Memory,
) -> Result<Fields, StoreError> {
    let corrupt = |_unprintable| corrupt(POSITION, "the progress cannot be written as JSON");
    let progress = serde_json::to_string(&checkpoint.progress).map_err(corrupt)?;
    let targets = serde_json::to_string(checkpoint.reached.by_target()).map_err(corrupt)?;
    let audit = serde_json::to_string(&checkpoint.audit).map_err(corrupt)?;
    let pace = serde_json::to_string(&checkpoint.pace).map_err(corrupt)?;
    let memo = serde_json::to_string(&checkpoint.memo).map_err(corrupt)?;
    let mut fields = Fields::from([
        ("Audit".to_owned(), Value::Text(audit)),
        (whole_from(memory).to_owned(), Value::Text(checkpoint.whole_from.to_string())),
        ("Progress".to_owned(), Value::Text(progress)),
        ("Targets".to_owned(), Value::Text(targets)),
        ("Position".to_owned(), Value::Text(checkpoint.progress.position().to_string())),
        ("DeployedAt".to_owned(), Value::Text(checkpoint.deployed_at.to_string())),
        ("Calls".to_owned(), Value::Text(checkpoint.budget.encode())),
        ("Pace".to_owned(), Value::Text(pace)),
        ("Memo".to_owned(), Value::Text(memo)),
    ]);
    if let Some(read_to) = checkpoint.read_to {
        fields.insert("ReadTo".to_owned(), Value::Text(read_to.to_string()));
    }
    if let Some(slice) = checkpoint.slice {
        fields.insert("Slice".to_owned(), Value::Text(slice.as_nanos().to_string()));
    }
    if let Some(last_read) = checkpoint.last_read {
        fields.insert("LastRead".to_owned(), Value::Text(last_read.to_string()));
    }
    if let Some(not_before) = checkpoint.not_before {
        fields.insert("NotBefore".to_owned(), Value::Text(not_before.to_string()));
    }
    if let Some(page_size) = &checkpoint.page_size {
        fields.insert("PageSize".to_owned(), Value::Text(page_size.clone()));
    }
    Ok(fields)
}

/// A page of the ledger.
pub(super) fn read_page(row: &Row, prefix: &str) -> Result<Page, StoreError> {
    let newest = row
        .key
        .strip_prefix(prefix)
        .and_then(|rest| rest.rsplit_once('.'))
        .and_then(|(newest, _)| newest.parse().ok())
        .ok_or_else(|| corrupt(&row.key, "its name is not a ledger page's"))?;
    let mut bytes = Vec::new();
    for value in row.fields.values() {
        if let Value::Bytes(part) = value {
            bytes.extend_from_slice(part);
        }
    }
    Page::decode(newest, &bytes)
        .map_err(|_torn| corrupt(&row.key, "it does not hold whole digests"))
}

/// A row that this program did not write so.
pub(super) fn corrupt(row: &str, what: &'static str) -> StoreError {
    StoreError::Corrupt { row: row.to_owned(), what }
}
