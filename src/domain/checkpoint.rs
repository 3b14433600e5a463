//! What is saved between runs, beside the ledger.

use std::time::Duration;

use super::audit::Audit;
use super::budget::Budget;
use super::memo::Memo;
use super::pace::Pace;
use super::progress::{Progress, SetBack};
use super::reached::Reached;
use super::timestamp::Timestamp;

/// Longest time the source is left alone because it asked for that. What was
/// saved for longer comes of a clock or a server that was wrong.
const LEFT_ALONE: Duration = Duration::from_hours(1);

/// One deployment's state.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// How far, and who is at it.
    pub progress: Progress,
    /// How far each target is; none is behind the position.
    pub reached: Reached,
    /// When this deployment first ran: role assignments of a new deployment
    /// take up to half an hour.
    pub deployed_at: Timestamp,
    /// How far the overlap before the position had been read again when the
    /// last run ran out of calls or time; the next goes on there. Without it a
    /// run that can make only few calls would spend them on the overlap alone.
    pub read_to: Option<Timestamp>,
    /// How much is read at once, where more brought nothing to an end: a source
    /// that keeps no order shows where it is full only part by part.
    pub slice: Option<Duration>,
    /// Where the last window ended that was read and delivered whole, while
    /// every run reads only the last minutes.
    pub last_read: Option<Timestamp>,
    /// The source asked not to be called before this.
    pub not_before: Option<Timestamp>,
    /// From here on the ledger knows every delivery to every target; never
    /// before the deployment's own beginning.
    pub whole_from: Timestamp,
    /// How the daily audit stands.
    pub audit: Audit,
    /// Calls made in the last hour.
    pub budget: Budget,
    /// When Defender was asked and when it is this trust's turn again.
    pub pace: Pace,
    /// How many alerts to ask for at once, as the source notes it.
    pub page_size: Option<String>,
    /// What else later runs must know.
    pub memo: Memo,
}

/// What is left of a wait until `not_before`, as the source asked for it.
pub fn left_alone_until(not_before: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    not_before.filter(|until| now < *until && *until <= now + LEFT_ALONE)
}

impl Checkpoint {
    /// Of a deployment that has never run.
    pub fn first(position: Timestamp, now: Timestamp, calls_per_hour: u32) -> Self {
        Self {
            progress: Progress::Idle { position },
            reached: Reached::default(),
            deployed_at: now,
            read_to: None,
            slice: None,
            last_read: None,
            not_before: None,
            whole_from: position,
            audit: Audit::Resting { since: now },
            budget: Budget::new(calls_per_hour),
            pace: Pace::default(),
            page_size: None,
            memo: Memo::default(),
        }
    }

    /// Until when the source is to be left alone, if it is.
    pub fn left_alone_until(&self, now: Timestamp) -> Option<Timestamp> {
        left_alone_until(self.not_before, now)
    }

    /// What a clock that ran ahead has noted beside the position counts as noted
    /// now: else no audit would be due until that time, and nobody would say so.
    pub fn no_later_than(&mut self, now: Timestamp) {
        self.audit = self.audit.no_later_than(now);
        self.pace.no_later_than(now);
    }

    /// Whether what was saved lies in the future of `now`. `to` is where to go
    /// back to then.
    pub fn impossible(&self, to: Timestamp, now: Timestamp) -> Option<SetBack> {
        let position = self.progress.position();
        SetBack::of(self.reached.furthest().unwrap_or(position).max(position), to, now)
    }

    /// Goes back, and forgets what else a clock that ran ahead has written. The
    /// audit is due: it compares all there is from there on.
    pub fn set_back(&mut self, back: SetBack, now: Timestamp) {
        self.progress = self.progress.set_back(back);
        self.reached = self.reached.set_back(back);
        self.read_to = None;
        self.slice = None;
        self.last_read = None;
        self.not_before = None;
        self.whole_from = self.whole_from.min(back.to());
        self.audit = Audit::Resting { since: now - Duration::from_hours(24) };
        self.pace.set_back(now);
    }
}
