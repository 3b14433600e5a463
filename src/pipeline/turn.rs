//! Whether it is this trust's turn to ask Defender, and what came of it.

use super::failed::failed;
use super::report::Report;
use super::withheld::foreign;
use super::{Exporter, Left, RunError};
use crate::domain::checkpoint::Checkpoint;
use crate::domain::pace::{Found, Pace, Slot, Turn};
use crate::domain::progress::Progress;
use crate::domain::timestamp::Timestamp;
use crate::source::{Failure, FetchError};
use crate::store::state::Opened;

impl Exporter {
    /// Where `now` lies in this deployment's own schedule.
    pub(super) fn slot(&self, now: Timestamp) -> Option<Slot> {
        self.rules.own_slots.as_ref()?.slot(now)
    }

    /// What a run says that may not ask before `until`, as the source wished. If
    /// it wished so while it failed, the run that heard it still tells why.
    pub(super) fn left_alone(
        &self,
        checkpoint: &Checkpoint,
        until: Timestamp,
        now: Timestamp,
    ) -> Left {
        let Checkpoint { pace, budget, .. } = checkpoint;
        let failing = pace.failing(until, budget, self.slot(now));
        failing.map_or(Left::Waiting, Left::NotYet)
    }

    /// Asked before the claim: a run that leaves Defender alone writes nothing,
    /// but for the one that waits for its own second, which must not wait twice.
    pub(super) async fn turn(&self, opened: &mut Opened, now: Timestamp) -> Result<Turn, RunError> {
        let Checkpoint { pace, budget, progress, .. } = &mut opened.checkpoint;
        if !matches!(progress, Progress::Idle { .. }) {
            // Whether another run lives, or a halt stands, is for the claim to say.
            return Ok(Pace::default().turn(budget, None, now));
        }
        let turn = pace.turn(budget, self.slot(now), now);
        if let Turn::Later(later) = &turn
            && later.own_slot
        {
            pace.wait();
            self.state.save(opened).await?;
        }
        Ok(turn)
    }
}

/// Notes what a run found that asked Defender, and what it had to tell people,
/// for the runs that leave Defender alone meanwhile.
pub(super) fn note(
    checkpoint: &mut Checkpoint,
    outcome: &Result<Left, RunError>,
    report: &Report,
    now: Timestamp,
) {
    let counts = report.counts.get();
    let found = match outcome {
        Ok(Left::Nothing) if counts.withheld > 0 => Found::Foreign,
        Ok(Left::Nothing) => Found::Everything,
        Ok(Left::More | Left::Budget | Left::Waiting | Left::NotYet(_)) => Found::More,
        Err(RunError::Fetch(FetchError { failure, .. })) if failure.is_spent_hour() => Found::Spent,
        Err(RunError::Fetch(FetchError { failure: Failure::Throttled { .. }, .. })) => {
            Found::Throttled
        }
        Err(RunError::Fetch(FetchError { failure, .. })) if failure.is_outage() => Found::Failing,
        Err(RunError::TooLong) => Found::Failing,
        Err(RunError::Fetch(_) | RunError::SignIn(_) | RunError::Foreign | RunError::NotNow(_)) => {
            Found::Refused
        }
        Err(RunError::Deliver(_) | RunError::SetAside(_)) => Found::Undelivered,
        Err(
            RunError::State(_) | RunError::Panicked | RunError::NotJson(_) | RunError::Order(_),
        ) => Found::More,
    };
    checkpoint.pace.found(found, now);
    checkpoint.memo.all_refused =
        matches!(outcome, Err(RunError::Deliver(undelivered)) if undelivered.is_of_all_rows());
    let said = match (found, outcome) {
        (Found::Foreign, _) => Some(foreign(counts.withheld, report.only_others)),
        (Found::Undelivered | Found::Failing | Found::Refused, Err(failure)) => {
            Some(failed(failure, report.api).1)
        }
        (_, Ok(_) | Err(_)) => None,
    };
    checkpoint.memo.say(said.as_ref());
}
