//! What the page is made of. No secret is in it but the code in an
//! [`Invitation`], which is shown to the bearer of its ticket only.

use secrecy::SecretString;

use super::Timetable;
use crate::domain::advice::Advice;
use crate::domain::backfill::Span;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::heartbeat::Unsent;
use crate::domain::job_state::JobState;
use crate::domain::runs::PastRun;
use crate::domain::standing::Standing;
use crate::domain::timestamp::Timestamp;

/// How things stand.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When this was found out.
    pub now: Timestamp,
    /// Whose deployment.
    pub trust: String,
    /// What is wrong with the settings.
    pub faults: Vec<Fault>,
    /// The export; `None` while the settings are not in order.
    pub export: Option<Export>,
}

/// One thing that is wrong with the settings, without its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// The setting; empty when it is no single one's.
    pub name: String,
    /// What is wrong.
    pub what: String,
}

/// An export that can run. What cannot be read says why, in words.
#[derive(Clone, Debug)]
pub struct Export {
    /// The sign-in.
    pub sign_in: Result<Standing, Advice>,
    /// The code that waits, if one does.
    pub invitation: Option<Invitation>,
    /// How far; `None` before the first run.
    pub checkpoint: Result<Option<Checkpoint>, Advice>,
    /// The longest span that can be backfilled; `None` before the first run.
    pub possible: Option<Span>,
    /// The backfill that was begun last; `None` before the first.
    pub backfill: Result<Option<JobState>, Advice>,
    /// The runs of the last 24 hours, oldest first.
    pub runs: Result<Vec<PastRun>, Advice>,
    /// The last run, which may be older where the schedule pauses.
    pub last_run: Option<PastRun>,
    /// When runs are due.
    pub due: Timetable,
    /// The device groups whose alerts may leave; `*` when the guard is off.
    pub allowed: Vec<String>,
    /// Heartbeats that were not taken, if any.
    pub unsent: Option<Unsent>,
    /// Every alert met under that list of groups was withheld.
    pub only_others: bool,
}

impl Export {
    /// The live export, if it has run and can be read.
    pub(super) fn live(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref().ok().and_then(Option::as_ref)
    }
}

/// A code, for the person who asked for it and nobody else.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// What to type in.
    pub user_code: SecretString,
    /// Where.
    pub address: String,
    /// Until when.
    pub expires_at: Timestamp,
    /// Proves that its bearer asked.
    pub ticket: SecretString,
}
