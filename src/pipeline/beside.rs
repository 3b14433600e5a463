//! What is at work beside a live run: a backfill, whose calls count too.

use super::report::Report;
use super::{Exporter, RunError};
use crate::domain::backfill::Job;
use crate::domain::calls::Calls;
use crate::domain::job_state::JobState;
use crate::store::backfill::{Backfill, Caller};

/// As a live run sees it.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Calls that others made and booked.
    pub(super) calls: Vec<Calls>,
    /// Waits for the live export to leave time.
    backfill: Option<JobState>,
    /// Has ended, and its process with it.
    untold: Option<Job>,
}

impl Beside {
    /// Hands over what the run is to tell of it.
    pub(super) fn report(self, report: &mut Report) {
        report.backfill = self.backfill;
        report.untold = self.untold;
    }
}

impl Exporter {
    /// What is at work beside a live run.
    pub(super) async fn beside_live(&self) -> Result<Beside, RunError> {
        let now = self.clock.now();
        let neighbours = self.state.neighbours(Caller::Live).await?;
        let mut beside = Beside { calls: neighbours.calls, ..Beside::default() };
        match neighbours.backfill {
            Some(Backfill { job, checkpoint, cancelling }) if job.is_under_way() => {
                let state = JobState::of(job, &checkpoint.progress, cancelling, None, now);
                beside.backfill = Some(state);
            }
            Some(Backfill { job, .. }) => {
                beside.untold = Some(job)
                    .filter(|job| job.ended.is_some_and(|ended| ended.is_left_untold(now)));
            }
            None => {}
        }
        Ok(beside)
    }
}
