//! What is at work beside a live run, and what is told of it: a backfill, whose
//! calls count too, and the audit.

use super::report::Report;
use super::{Exporter, RunError};
use crate::domain::audit::Audit;
use crate::domain::backfill::Job;
use crate::domain::calls::Calls;
use crate::domain::job_state::JobState;
use crate::domain::timestamp::Timestamp;
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
    /// What a run tells of a backfill and the `audit` that leaves the source
    /// alone. The end of a job is for one that holds the claim: two would tell
    /// of it.
    pub(super) async fn look_beside(
        &self,
        report: &mut Report,
        audit: Audit,
    ) -> Result<(), RunError> {
        report.backfill = self.beside_live().await?.backfill;
        report.overdue = self.overdue(audit);
        Ok(())
    }

    /// Since when `audit` is due, if for too long.
    pub(super) fn overdue(&self, audit: Audit) -> Option<Timestamp> {
        self.rules.audit.and_then(|policy| policy.overdue(audit, self.clock.now()))
    }

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
