//! The Data Collector row, which is also the body of an event.
//!
//! The alert as Defender sent it, with `domainName`, `accountName`, `ipAddress`
//! copied to the root and `ExportKey` added. `tenant`, `TimeGenerated` and
//! `RawData` at the root would be refused with 400:
//! <https://learn.microsoft.com/previous-versions/azure/azure-monitor/logs/data-collector-api>

use super::super::alert::Alert;
use super::super::ledger::ExportKey;
use super::promote::{self, Promoted};
use super::{Limits, cut, original_name, push_name, push_string};

/// Names an alert's own member must not have at the root: the service's, and
/// those written here.
const TAKEN: [&str; 6] =
    ["tenant", "TimeGenerated", "RawData", "ExportKey", "Truncated", "OriginalBlob"];

/// Writes the row and says whether a field was cut.
pub(super) fn write(row: &mut Vec<u8>, alert: &Alert, key: &ExportKey, limits: Limits) -> bool {
    let as_sent = |(name, value): (&str, &str)| {
        value.len() <= limits.longest_field && !TAKEN.contains(&name) && !is_promoted(name)
    };
    let whole =
        alert.raw().trim_ascii().strip_suffix(b"}").filter(|_| alert.members().all(as_sent));
    let was_cut = match whole {
        Some(whole) => {
            row.extend_from_slice(whole);
            false
        }
        None => push_members(row, alert, limits),
    };
    for promoted in Promoted::ALL {
        if let Some(value) = promote::first(alert.raw(), promoted) {
            push_name(row, promoted.name());
            cut::push(row, value, limits.longest_field);
        }
    }
    push_name(row, "ExportKey");
    push_string(row, key.as_str());
    if was_cut {
        push_name(row, "Truncated");
        row.extend_from_slice(b"true");
        push_name(row, "OriginalBlob");
        push_string(row, &original_name(alert, limits.entry));
    }
    row.push(b'}');
    was_cut
}

/// Whether members of this name are copied to the root.
fn is_promoted(name: &str) -> bool {
    Promoted::ALL.iter().any(|promoted| promoted.name() == name)
}

/// Writes `{` and the members one by one: long ones cut, taken names with a `_`
/// after them, those that will be copied to the root left out.
fn push_members(row: &mut Vec<u8>, alert: &Alert, limits: Limits) -> bool {
    let mut was_cut = false;
    row.push(b'{');
    for (name, value) in alert.members().filter(|(name, _)| !is_promoted(name)) {
        if TAKEN.contains(&name) {
            push_name(row, &format!("{name}_"));
        } else {
            push_name(row, name);
        }
        was_cut |= cut::push(row, value, limits.longest_field);
    }
    was_cut
}

/// Writes the row as the text of one event of a batch: `{"Body":"…"}`.
///
/// <https://learn.microsoft.com/rest/api/eventhub/send-batch-events>
pub(super) fn write_event(
    row: &mut Vec<u8>,
    alert: &Alert,
    key: &ExportKey,
    limits: Limits,
) -> bool {
    let mut body = Vec::with_capacity(alert.raw().len() + 256);
    let was_cut = write(&mut body, alert, key, limits);
    row.extend_from_slice(b"{\"Body\":");
    match std::str::from_utf8(&body) {
        Ok(text) => push_string(row, text),
        // Copied from texts; cannot be.
        Err(_not_text) => row.extend_from_slice(b"\"\""),
    }
    row.push(b'}');
    was_cut
}
