//! What is wrong with a chain of run records, in words that name the record.

use std::fmt;

use super::timestamp::Timestamp;

/// Which record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Name {
    /// Its number.
    pub number: u64,
    /// When its run ended.
    pub at: Timestamp,
    /// Its run.
    pub run: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of {} (run {})", self.number, self.at, self.run)
    }
}

/// A gap or a change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Finding {
    /// A position, and no record at all.
    NoRecords {
        /// The position.
        position: Timestamp,
    },
    /// Records, and no row `Chain` that names the newest.
    NoHead,
    /// The row `Chain`, and no record.
    NothingKept {
        /// The number of the newest record there should be.
        head: u64,
    },
    /// A row under a record's name holds none.
    NotARecord {
        /// The row's key.
        row: String,
    },
    /// A record in another's row.
    Misplaced {
        /// The record.
        record: Name,
        /// The row's key.
        row: String,
    },
    /// It does not belong to the chain.
    Inserted {
        /// The record.
        record: Name,
    },
    /// Its hash is not the one the next record, or the row `Chain`, carries.
    Changed {
        /// The record.
        record: Name,
        /// Whether it is the newest: then the row `Chain` may be what changed.
        newest: bool,
    },
    /// It carries no hash, as only the first does.
    Anew {
        /// The record.
        record: Name,
    },
    /// The record after it was changed and no longer carries its hash.
    Unproven {
        /// The record.
        record: Name,
    },
    /// Numbers with no record.
    Missing {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
        /// What is kept before them.
        before: Option<Name>,
        /// What is kept after them.
        after: Option<Name>,
    },
    /// The oldest kept record does not follow those let go by age.
    Unanchored {
        /// The oldest.
        record: Name,
    },
    /// A run found the position elsewhere than the run before had left it.
    Leap {
        /// Where the record before left it.
        from: Option<Timestamp>,
        /// Where this record found it.
        to: Option<Timestamp>,
        /// This record.
        record: Name,
    },
    /// The position is elsewhere than the newest record left it.
    Elsewhere {
        /// Where the newest record left it.
        left: Option<Timestamp>,
        /// Where it is.
        now: Option<Timestamp>,
        /// The newest record.
        record: Name,
    },
}

/// Why a position may have moved without a record, and what it means if not.
const UNRECORDED: &str = "A process that was killed between saving the position and writing its record explains one such move, and so does state storage that failed just then; otherwise somebody changed the row `Position`.";

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRecords { position } => write!(
                f,
                "There is a position ({position}) and not one record of a run. That is so until the first run of a version that keeps records has ended; after that somebody deleted all of them and the row `Chain`."
            ),
            Self::NoHead => write!(
                f,
                "The row `Chain`, which names the newest record, is gone: whether records are missing after the newest one cannot be told."
            ),
            Self::NothingKept { head } => {
                write!(f, "Every record up to the newest, number {head}, is gone.")
            }
            Self::NotARecord { row } => write!(
                f,
                "The row `{row}` holds no record that can be read: it was changed, or this program did not write it."
            ),
            Self::Misplaced { record, row } => {
                write!(
                    f,
                    "The row `{row}` holds {record}: it was copied, or its time or run changed."
                )
            }
            Self::Inserted { record } => {
                write!(f, "In the chain there is no {record}: it was inserted.")
            }
            Self::Changed { record, newest: false } => write!(
                f,
                "Changed: {record}. Its hash is not the one that the record after it carries."
            ),
            Self::Changed { record, newest: true } => write!(
                f,
                "Changed: {record}, the newest, or the row `Chain`, which carries another hash for it."
            ),
            Self::Anew { record } => write!(
                f,
                "With {record} the chain begins anew: the row `Chain` was gone or unreadable when that run ended, and nothing proves what came before."
            ),
            Self::Unproven { record } => write!(
                f,
                "Nothing proves {record} any more: the record after it was changed and no longer carries its hash."
            ),
            Self::Missing { first, last, before, after } => {
                missing(f, (*first, *last), before.as_ref(), after.as_ref())
            }
            Self::Unanchored { record } => write!(
                f,
                "The oldest one kept, {record}, does not follow the records that were let go after 30 days: it, or the row `Chain`, was changed."
            ),
            Self::Leap { from, to, record } => {
                moved(f, (*from, *to), &format!(", where {record} found it"), "")
            }
            Self::Elsewhere { left, now, record } => {
                let newest = format!("; {record}, the newest, left it at {}", place(*left));
                moved(f, (*left, *now), &newest, " If a run was just ending, ask again.")
            }
        }
    }
}

fn moved(
    f: &mut fmt::Formatter<'_>,
    (from, to): (Option<Timestamp>, Option<Timestamp>),
    by: &str,
    also: &str,
) -> fmt::Result {
    let (from, to) = (place(from), place(to));
    write!(f, "Without a record the position moved from {from} to {to}{by}. {UNRECORDED}{also}")
}

fn place(position: Option<Timestamp>) -> String {
    position.map_or_else(|| "nowhere".to_owned(), |position| position.to_string())
}

fn missing(
    f: &mut fmt::Formatter<'_>,
    (first, last): (u64, u64),
    before: Option<&Name>,
    after: Option<&Name>,
) -> fmt::Result {
    if first == last {
        write!(f, "Missing: record {first}")?;
    } else {
        write!(f, "Missing: records {first} to {last}")?;
    }
    match (before, after) {
        (Some(before), Some(after)) => write!(
            f,
            ", between {before} and {after}. Nothing proves {before} while they are missing."
        ),
        (Some(before), None) => {
            write!(f, ", the newest. Nothing proves {before} while they are missing.")
        }
        (None, Some(after)) => write!(f, ", the oldest kept, before {after}."),
        (None, None) => write!(f, "."),
    }
}
