//! The Logs Ingestion row: the columns of `{TableName}_CL`.
//!
//! The data collection rule drops columns it does not declare without a word,
//! so the list here, the rule's and the table's are held together by a test.
//! `id` and `title` are reserved column names, hence `AlertId` and `AlertTitle`:
//! <https://learn.microsoft.com/azure/azure-monitor/logs/logs-ingestion-api-overview>

use std::io::Write as _;

use super::super::alert::{Alert, Member};
use super::super::ledger::ExportKey;
use super::super::timestamp::Timestamp;
use super::promote::{self, Promoted};
use super::{Limits, Stamp, UNLIMITED, cut, original_name, push_string};

/// A column's type in the table and the rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ColumnType {
    /// `datetime`.
    DateTime,
    /// `string`.
    Text,
    /// `long`.
    Long,
    /// `boolean`.
    Boolean,
    /// `dynamic`: JSON as it is.
    Dynamic,
}

impl ColumnType {
    /// As a data collection rule's stream declares it.
    pub const fn declared(self) -> &'static str {
        match self {
            Self::DateTime => "datetime",
            Self::Text => "string",
            Self::Long => "long",
            Self::Boolean => "boolean",
            Self::Dynamic => "dynamic",
        }
    }
}

use ColumnType::{Boolean, DateTime, Dynamic, Long, Text};

/// Where a column's value comes from.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// The send time.
    SentAt,
    Key,
    Trust,
    Run,
    /// A member of the alert.
    Of(Member),
    /// The first non-null member of this name, in document order.
    First(Promoted),
    /// Every member that has no column.
    TheRest,
    WasCut,
    Original,
}

use Origin::{First, Key, Of, Original, Run, SentAt, TheRest, Trust, WasCut};

/// One column of the row.
struct Column {
    name: &'static str,
    /// `,"name":`, as it stands in a row.
    lead: &'static [u8],
    kind: ColumnType,
    origin: Origin,
}

macro_rules! columns {
    ($(($name:literal, $kind:ident, $origin:expr),)+) => {
        &[$(Column {
            name: $name,
            lead: concat!(",\"", $name, "\":").as_bytes(),
            kind: $kind,
            origin: $origin,
        },)+]
    };
}

/// Every column in order.
const COLUMNS: &[Column] = columns![
    ("TimeGenerated", DateTime, SentAt),
    ("ExportKey", Text, Key),
    ("TrustName", Text, Trust),
    ("RunId", Text, Run),
    ("AlertId", Text, Of(Member::Id)),
    ("AlertTitle", Text, Of(Member::Title)),
    ("Severity", Text, Of(Member::Severity)),
    ("Status", Text, Of(Member::Status)),
    ("Category", Text, Of(Member::Category)),
    ("Description", Text, Of(Member::Description)),
    ("DetectionSource", Text, Of(Member::DetectionSource)),
    ("DetectorId", Text, Of(Member::DetectorId)),
    ("ThreatFamilyName", Text, Of(Member::ThreatFamilyName)),
    ("ThreatName", Text, Of(Member::ThreatName)),
    ("IncidentId", Long, Of(Member::IncidentId)),
    ("InvestigationId", Long, Of(Member::InvestigationId)),
    ("InvestigationState", Text, Of(Member::InvestigationState)),
    ("Classification", Text, Of(Member::Classification)),
    ("Determination", Text, Of(Member::Determination)),
    ("AssignedTo", Text, Of(Member::AssignedTo)),
    ("AlertCreationTime", DateTime, Of(Member::AlertCreationTime)),
    ("FirstEventTime", DateTime, Of(Member::FirstEventTime)),
    ("LastEventTime", DateTime, Of(Member::LastEventTime)),
    ("LastUpdateTime", DateTime, Of(Member::LastUpdateTime)),
    ("ResolvedTime", DateTime, Of(Member::ResolvedTime)),
    ("MachineId", Text, Of(Member::MachineId)),
    ("ComputerDnsName", Text, Of(Member::ComputerDnsName)),
    ("RbacGroupName", Text, Of(Member::RbacGroupName)),
    ("AadTenantId", Text, Of(Member::AadTenantId)),
    ("DomainName", Text, First(Promoted::DomainName)),
    ("AccountName", Text, First(Promoted::AccountName)),
    ("IpAddress", Text, First(Promoted::IpAddress)),
    ("MitreTechniques", Dynamic, Of(Member::MitreTechniques)),
    ("LoggedOnUsers", Dynamic, Of(Member::LoggedOnUsers)),
    ("RelatedUser", Dynamic, Of(Member::RelatedUser)),
    ("Comments", Dynamic, Of(Member::Comments)),
    ("Evidence", Dynamic, Of(Member::Evidence)),
    ("AdditionalFields", Dynamic, TheRest),
    ("Truncated", Boolean, WasCut),
    ("OriginalBlob", Text, Original),
];

/// Every column's name and type, for whatever must declare them.
pub const ALERT_COLUMNS: [(&str, ColumnType); COLUMNS.len()] = {
    let mut columns = [("", Text); COLUMNS.len()];
    let mut n = 0;
    while n < COLUMNS.len() {
        #[expect(clippy::indexing_slicing, reason = "evaluated when compiling")]
        {
            columns[n] = (COLUMNS[n].name, COLUMNS[n].kind);
        }
        n += 1;
    }
    columns
};

/// Writes the row and says whether a field was cut. Null columns are left out.
pub(super) fn write(
    row: &mut Vec<u8>,
    alert: &Alert,
    key: &ExportKey,
    stamp: Stamp<'_>,
    limits: Limits,
) -> bool {
    let mut was_cut = false;
    row.push(b'{');
    for Column { lead, kind, origin, .. } in COLUMNS {
        match origin {
            SentAt => push_time(row, lead, stamp.sent_at),
            Key => push_text(row, lead, key.as_str()),
            Trust => push_text(row, lead, stamp.trust),
            Run => push_text(row, lead, stamp.run),
            Of(member) => {
                if let Some(value) = alert.member_bytes(*member) {
                    push_lead(row, lead);
                    was_cut |= push_value(row, *kind, value, limits);
                }
            }
            First(nested) => {
                if let Some(value) = promote::first(alert.raw(), *nested) {
                    push_lead(row, lead);
                    was_cut |= push_value(row, *kind, value.as_bytes(), limits);
                }
            }
            TheRest => was_cut |= push_rest(row, lead, alert, limits),
            WasCut => {
                push_lead(row, lead);
                row.extend_from_slice(if was_cut { b"true" } else { b"false" });
            }
            Original if was_cut => push_text(row, lead, &original_name(alert, limits.entry)),
            Original => {}
        }
    }
    row.push(b'}');
    was_cut
}

/// Begins a column: no comma before the first.
fn push_lead(row: &mut Vec<u8>, lead: &[u8]) {
    let comma = usize::from(row.last() == Some(&b'{'));
    row.extend_from_slice(lead.get(comma..).unwrap_or_default());
}

fn push_text(row: &mut Vec<u8>, lead: &[u8], text: &str) {
    push_lead(row, lead);
    push_string(row, text);
}

fn push_time(row: &mut Vec<u8>, lead: &[u8], time: Timestamp) {
    push_lead(row, lead);
    // Writing to memory does not fail.
    let _written = write!(row, "\"{time}\"");
}

/// Writes a value in the column's type. A value of another type than
/// documented is kept: a text column gets it as text, and digits in quotes
/// (Graph's incident ids) lose them in a number column.
fn push_value(row: &mut Vec<u8>, column: ColumnType, value: &[u8], limits: Limits) -> bool {
    let has_the_type = match column {
        Text | DateTime => value.starts_with(b"\""),
        Dynamic => true,
        Long | Boolean => false,
    };
    if has_the_type && value.len() <= limits.longest_field {
        row.extend_from_slice(value);
        return false;
    }
    let Ok(value) = str::from_utf8(value) else {
        row.extend_from_slice(b"null");
        return true;
    };
    match column {
        Text | DateTime if !value.starts_with('"') => {
            let text = cut::plain(value, limits.longest_field);
            push_string(row, text);
            text.len() < value.len()
        }
        Long => {
            let digits = value.trim_matches('"');
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            // A file has no types to keep to.
            let is_kept = is_number || limits.longest_field == UNLIMITED;
            let kept = if is_number { digits } else { value };
            row.extend_from_slice(if is_kept { kept.as_bytes() } else { b"null" });
            !is_kept
        }
        Text | DateTime | Boolean | Dynamic => cut::push(row, value, limits.longest_field),
    }
}

fn push_rest(row: &mut Vec<u8>, lead: &[u8], alert: &Alert, limits: Limits) -> bool {
    let mut members = alert.unknown().peekable();
    if members.peek().is_none() {
        return false;
    }
    push_lead(row, lead);
    cut::push_members(row, members, limits.longest_field)
}
