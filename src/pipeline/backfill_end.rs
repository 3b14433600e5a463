//! How a backfill stands, and what is told at its end: a record and a
//! heartbeat, as of a run.

use tracing::warn;
use uuid::Uuid;

use super::Exporter;
use super::record::Saved;
use super::report::{Described, Report};
use super::withheld::foreign;
use crate::domain::advice::Advice;
use crate::domain::backfill::{Ending, Job, at_hand};
use crate::domain::checkpoint::Checkpoint;
use crate::domain::heartbeat::{Heartbeat, Status};
use crate::domain::job_state::JobState;
use crate::domain::progress::Progress;
use crate::domain::runs::{Kind, Seen};
use crate::domain::window::Window;
use crate::error_chain::Chain;
use crate::store::StoreError;
use crate::store::backfill::{Backfill, Caller, Cancel};

impl Exporter {
    /// How the job stands that was begun last; `None` before the first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be read.
    pub async fn backfill_state(&self) -> Result<Option<JobState>, StoreError> {
        let others = self.state.neighbours(Caller::Backfill).await?;
        let Some(held) = others.backfill.clone() else { return Ok(None) };
        let Backfill { job, checkpoint, cancelling } = held;
        let end = at_hand(&checkpoint).map_or(job.span.from, Window::end).min(job.span.to);
        let Checkpoint { mut budget, not_before, progress, .. } = checkpoint;
        let now = self.clock.now();
        // Booked in a copy: what a process that would go on now would meet.
        let waits = self.waits(end, &mut budget, not_before, &others, now);
        Ok(Some(JobState::of(job, &progress, cancelling, waits, now)))
    }

    /// Ends the job that is under way, or has the process that is at it end it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may go on.
    pub async fn cancel_backfill(&self) -> Result<Cancel, StoreError> {
        let cancel = self.state.cancel_backfill(self.clock.now()).await?;
        if cancel == Cancel::Ended
            && let Some(ended) = self.state.backfill().await?
        {
            // Whoever cancels does not wait for the sink: the next run sends it.
            let heartbeat = self.told_at_end(Uuid::new_v4(), &ended.job, Seen::default()).await;
            self.send_next_time(&heartbeat).await;
            self.note_told().await;
        }
        Ok(cancel)
    }

    /// One heartbeat for the whole, once it has ended.
    pub(super) async fn report_backfill(&self, id: Uuid, job: &Job, groups: Seen) {
        let heartbeat = self.told_at_end(id, job, groups).await;
        // Kept for the next run, which tells, if it is not taken.
        drop(self.send(&heartbeat, None).await);
        self.note_told().await;
    }

    /// Else a later run takes it for untold and tells of it again.
    async fn note_told(&self) {
        if let Err(error) = self.state.backfill_is_told().await {
            warn!(error = %Chain(&error), "it is not noted that the backfill's end was told");
        }
    }

    /// What is told of a job that has ended, its record written.
    async fn told_at_end(&self, id: Uuid, job: &Job, groups: Seen) -> Heartbeat {
        let standing = self.identity.standing().await.ok();
        let live = self.state.checkpoint().await.ok().flatten().map(|live| live.progress);
        let report = Report {
            counts: job.counts.into(),
            groups,
            read: Window::new(job.span.from, job.span.to),
            position: live.as_ref().map(Progress::position),
            saved: match &live {
                // On its way, and not to be held against what runs left behind.
                None | Some(Progress::Running { .. }) => Saved::Unread,
                Some(still) => Saved::Seen(Some(still.position())),
            },
            kind: Kind::Backfill,
            ..Report::default()
        };
        let (status, advice) = said(job);
        let described = Described::of(status, advice, standing.as_ref());
        let now = self.clock.now();
        let took = now.since(job.started_at);
        let mut heartbeat = report.heartbeat(id, &self.rules, described, now, took);
        self.record(&mut heartbeat, report).await;
        heartbeat
    }
}

/// What the heartbeat says of a job that has ended.
fn said(job: &Job) -> (Status, Advice) {
    let counts = job.counts;
    let how = match job.ended.map(|ended| ended.how) {
        Some(Ending::Cancelled) => "cancelled",
        Some(Ending::Done) | None => "done",
    };
    let message = format!(
        "Backfill from {} to {} {how}: {} delivered, {} already delivered, {} set aside, {} withheld.",
        job.span.from.to_the_second(),
        job.span.to.to_the_second(),
        counts.delivered,
        counts.duplicates,
        counts.quarantined,
        counts.withheld
    );
    if counts.withheld > 0 {
        let foreign = foreign(counts.withheld, counts.fetched == counts.withheld);
        let message = format!("{message} {}", foreign.message);
        return (Status::ScopeViolation, Advice::new(message, foreign.next_step));
    }
    (Status::Ok, Advice::new(message, ""))
}
