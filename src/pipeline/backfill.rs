//! A span of the past, exported slice by slice while the live export leaves
//! time and calls.
//!
//! ```text
//! look -> book calls -> look again -> one slice: fetch .. deliver -> save
//! ```
//!
//! Calls are booked in the job's own row before they are made, and what the
//! live export is at is looked up before and after: of the two at least one
//! sees the other, so together they never make more than the hour allows. What
//! others save in the middle, a live run or a halt, is met after the page at
//! hand.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::failed::failed;
use super::report::Report;
use super::run::Run;
use super::{Exporter, Finished, HARD_LIMIT, Left, RUN_LIMIT, RunError};
use crate::domain::advice::Advice;
use crate::domain::backfill::{
    BOOKED_AT_ONCE, BOOKED_FOR, BadSpan, Ending, Job, Known, Span, Waits, are_few,
};
use crate::domain::budget::{Budget, LEAST_TO_SHARE, Spent, reserve};
use crate::domain::checkpoint::Checkpoint;
use crate::domain::pace::Manner;
use crate::domain::progress::{NotNow, Progress};
use crate::domain::timestamp::Timestamp;
use crate::domain::window::Plan;
use crate::error_chain::Chain;
use crate::http::retry::pause;
use crate::identity::Demand;
use crate::source::{Failure, FetchError};
use crate::store::StoreError;
use crate::store::backfill::{Caller, HoldUp, Neighbours, Start};

/// Claims are renewed this often while nothing is delivered.
const RENEW_EVERY: Duration = Duration::from_mins(1);
/// How long the source is left alone when it asks for fewer calls and names no
/// time.
const PATIENCE: Duration = Duration::from_mins(5);

/// How long a process works on a backfill.
#[derive(Clone, Copy, Debug)]
pub enum Stay {
    /// Until then, and it waits for nothing.
    Until(Instant),
    /// To the end. What it waits for is looked at this often.
    ToTheEnd {
        /// Between two looks.
        look_every: Duration,
    },
}

impl From<HoldUp> for Waits {
    fn from(hold_up: HoldUp) -> Self {
        match hold_up {
            HoldUp::Live => Self::ForLive,
            HoldUp::Source { until } => Self::ForSource { until },
        }
    }
}

/// What whoever watches is told after every slice and while it waits.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What was asked for and done.
    pub job: &'a Job,
    /// Everything of the span before this is delivered.
    pub position: Timestamp,
    /// What it waits for.
    pub waits: Option<Waits>,
}

/// Whoever watches.
pub type Watch<'a> = dyn FnMut(Seen<'_>) + Send + 'a;

/// How working on a backfill stopped.
#[derive(Clone, Debug, PartialEq)]
pub enum Stopped {
    /// None is under way.
    Nothing,
    /// Another process is at it.
    Elsewhere,
    /// It has ended.
    Ended(Box<Job>),
    /// Its time is over, or it waits; another time.
    Later,
    /// It failed, in words. It can go on from where it stopped.
    Failed(Advice),
}

/// Why a backfill cannot be started. Nothing was.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    /// The span is not one.
    #[error(transparent)]
    Span(#[from] BadSpan),
    /// There is no live position yet.
    #[error("the live export has not run yet, so it is not known where it begins")]
    NeverRun,
    /// The live export is halted.
    #[error(
        "the export has been halted since {}, because an alert of another device group was met",
        since.to_the_second()
    )]
    Halted {
        /// Since when.
        since: Timestamp,
    },
    /// All calls are the live export's.
    #[error(
        "FunctionConfigCallsPerHour is {per_hour} and the live export keeps all of them; at least {least} are needed"
    )]
    TooFewCalls {
        /// As configured.
        per_hour: u32,
        /// The smallest that leaves one.
        least: u32,
    },
    /// The state cannot be used.
    #[error("the state could not be read or saved")]
    State(#[from] StoreError),
}

impl CannotStart {
    /// What a person should do.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Span(BadSpan::Empty(_)) => "Choose a beginning before the end.",
            Self::Span(BadSpan::Forgotten { .. }) => "Choose a later beginning.",
            Self::Span(BadSpan::AheadOfLive { .. }) => {
                "Choose an earlier end. What was delivered after that and then lost can be asked for half an hour later."
            }
            Self::Span(BadSpan::BesideLastMinutes { .. }) => {
                "Switch FunctionConfigUse_last_saved_time on: the export then brings everything it has missed. Or choose an earlier end."
            }
            Self::NeverRun => {
                "Try again once the export has run for the first time: a few minutes after somebody has signed in."
            }
            Self::Halted { .. } => {
                "First have it put right that the account sees other groups, and resume the export."
            }
            Self::TooFewCalls { .. } => {
                "Ask the central team whether FunctionConfigCallsPerHour may be raised for as long as the backfill takes."
            }
            Self::State(_) => {
                "Try again. If that does not help, look at the status: it says what is wrong."
            }
        }
    }
}

/// Whether the next slice may begin.
enum Turn {
    Go,
    Waits(Waits),
    Cancelled,
}

impl Exporter {
    /// Writes down what `person` asks for; whichever process comes to it first
    /// works on it.
    ///
    /// # Errors
    ///
    /// [`CannotStart`] says why not.
    pub async fn start_backfill(
        &self,
        span: Span,
        known: Known,
        person: &str,
    ) -> Result<Start, CannotStart> {
        let live = self.may_backfill(span).await?;
        if let Some(since) = self.halted(&live.progress) {
            return Err(CannotStart::Halted { since });
        }
        let job = Job::new(span, known, person, self.clock.now());
        Ok(self.state.start_backfill(&job, &live).await?)
    }

    /// Since when nothing may leave, if somebody must resume the live export.
    pub(super) fn halted(&self, live: &Progress) -> Option<Timestamp> {
        live.halted_under(&self.rules.scope.fingerprint())
    }

    /// What keeps a process from going on with a job up to `end`: `budget` has
    /// calls booked in it if nothing does, and the source may have asked not to
    /// be called before `not_before`.
    pub(super) fn waits(
        &self,
        end: Timestamp,
        budget: &mut Budget,
        not_before: Option<Timestamp>,
        others: &Neighbours,
        now: Timestamp,
    ) -> Option<Waits> {
        let halted = others.live.as_ref().and_then(|live| self.halted(&live.progress));
        if let Some(since) = halted {
            return Some(Waits::ForResume { since });
        }
        // Else a live run would read the same meanwhile, and neither know what
        // the other sends. The span was checked; then a position was set back.
        let rereads_from = |position| self.rules.windows.rereads_from(position);
        let passed = |live: &Checkpoint| end <= rereads_from(live.progress.position());
        if !others.live.as_ref().is_some_and(passed) {
            return Some(Waits::ForLiveToPass);
        }
        book(budget, not_before, others, now)
    }

    /// The longest span that can be backfilled beside `live`.
    pub fn possible_backfill(&self, live: &Checkpoint) -> Span {
        Span::possible(&self.rules.windows, live.progress.position(), self.clock.now())
    }

    /// The live state, if `span` can be backfilled beside it.
    pub(super) async fn may_backfill(&self, span: Span) -> Result<Checkpoint, CannotStart> {
        let live = self.state.checkpoint().await?.ok_or(CannotStart::NeverRun)?;
        span.check(&self.rules.windows, live.progress.position(), self.clock.now())?;
        if live.budget.beside_live() == 0 {
            let per_hour = live.budget.per_hour();
            return Err(CannotStart::TooFewCalls { per_hour, least: LEAST_TO_SHARE });
        }
        Ok(live)
    }

    /// Works on the backfill that is under way, if one is.
    ///
    /// Never moves the live position. Safe to call at any time, from any number
    /// of instances, and to be dropped at any time: what was not saved is done
    /// again.
    pub async fn backfill(&self, id: Uuid, stay: Stay, watch: &mut Watch<'_>) -> Stopped {
        let mut report = Report::default();
        match self.try_backfill(&id.to_string(), stay, watch, &mut report).await {
            Ok(Some(job)) if job.is_under_way() => Stopped::Later,
            Ok(Some(job)) => {
                self.report_backfill(id, &job, report.groups).await;
                Stopped::Ended(Box::new(job))
            }
            Ok(None) => Stopped::Nothing,
            Err(RunError::NotNow(NotNow::Busy) | RunError::State(StoreError::Conflict)) => {
                info!("another process is at the backfill");
                Stopped::Elsewhere
            }
            Err(failure) => {
                error!(error = %Chain(&failure), "the backfill cannot go on");
                Stopped::Failed(failed(&failure, self.source.api()).1)
            }
        }
    }

    /// What is left of a live run's time.
    pub(super) async fn backfill_meanwhile(&self, started: Instant) {
        let stay = Stay::Until(started + RUN_LIMIT);
        let left = HARD_LIMIT.saturating_sub(started.elapsed());
        let mut nobody = |_: Seen<'_>| {};
        let work = Box::pin(self.backfill(Uuid::new_v4(), stay, &mut nobody));
        if timeout(left, work).await.is_err() {
            warn!("the backfill waited for an answer for too long; the next run goes on with it");
        }
    }

    /// The job as it stands afterwards; `None` if none is under way.
    async fn try_backfill(
        &self,
        id: &str,
        stay: Stay,
        watch: &mut Watch<'_>,
        report: &mut Report,
    ) -> Result<Option<Job>, RunError> {
        let opened = self.state.open_backfill(self.clock.now()).await?;
        let Some(opened) = opened else { return Ok(None) };
        self.token(report).await?;
        let not_before = opened.checkpoint.not_before;
        // Its calls are booked, so it keeps no turn.
        let large_pages = are_few(opened.checkpoint.budget.beside_live());
        let manner = Manner { large_pages, ..Manner::FREE };
        let mut run = Run::begin(self, opened, id, manner, &report.counts).await?;
        run.books.opened.checkpoint.not_before = not_before;
        let work = Work { exporter: self, run: &mut run, renewed: false, stay };
        let outcome = { work }.slices(watch).await;
        let now = self.clock.now();
        let mut job = None;
        if let Some(held) = run.books.opened.job_mut() {
            match &outcome {
                Ok(_) | Err(RunError::State(_)) => {}
                Err(failure) => held.held_up(failed(failure, self.source.api()).1, now),
            }
            job = Some(held.clone());
        }
        run.end(outcome, report).await.map(|_| job)
    }
}

/// One process's work on a job that it holds.
struct Work<'a, 'b> {
    exporter: &'a Exporter,
    run: &'b mut Run<'a>,
    /// The token was renewed, and nothing was read with it yet.
    renewed: bool,
    stay: Stay,
}

impl Work<'_, '_> {
    async fn slices(&mut self, watch: &mut Watch<'_>) -> Result<Left, RunError> {
        while let Some(plan) = self.run.next_plan() {
            match self.turn(plan).await? {
                Turn::Cancelled => {
                    self.end(Ending::Cancelled);
                    return Ok(Left::Nothing);
                }
                Turn::Waits(waits) => {
                    tell(self.run, Some(waits), watch);
                    let Stay::ToTheEnd { look_every } = self.stay else { return Ok(Left::More) };
                    pause(look_every).await;
                    if self.run.unsaved_for() >= RENEW_EVERY {
                        self.run.save().await?;
                    }
                }
                Turn::Go => {
                    let out_of_time = self.slice(plan).await?;
                    if out_of_time {
                        return Ok(Left::More);
                    }
                    self.run.save().await?;
                    tell(self.run, None, watch);
                }
            }
        }
        self.run.undelivered()?;
        self.end(Ending::Done);
        Ok(Left::Nothing)
    }

    /// One slice, or as much of it as others leave time and calls for. Whether
    /// this process's own time is over.
    async fn slice(&mut self, plan: Plan) -> Result<bool, RunError> {
        let Self { exporter, run, .. } = self;
        let give_up_at = match self.stay {
            Stay::Until(at) => at,
            Stay::ToTheEnd { .. } => Instant::now() + RUN_LIMIT,
        };
        let token = exporter.access(Demand::Any).await?;
        let mut reader =
            exporter.source.read(plan.read, token.secret, run.page_size(), run.budget());
        let outcome = exporter.window(run, plan, &mut reader, give_up_at).await;
        run.books.opened.checkpoint.budget.settle();
        match outcome {
            Ok(Finished::Window) => {
                self.renewed = false;
                run.window_done(plan);
                if !plan.more {
                    run.group_done();
                }
            }
            Ok(Finished::OutOfTime) => return Ok(matches!(self.stay, Stay::Until(_))),
            Ok(Finished::GaveWay | Finished::NobodyTakes) => {}
            Err(RunError::Fetch(error)) => self.mend(error).await?,
            Err(error) => return Err(error),
        }
        self.run.books.opened.job_mut().into_iter().for_each(|job| job.problem = None);
        Ok(false)
    }

    /// What can be done about a failed read, if anything: a new token, more
    /// calls booked, or patience.
    async fn mend(&mut self, error: FetchError) -> Result<(), RunError> {
        match error {
            FetchError { failure: Failure::BudgetSpent(_), .. } => Ok(()),
            FetchError { failure: Failure::Unauthorized { claims, .. }, .. } if !self.renewed => {
                self.renewed = true;
                let demand = Demand::Renewed { claims };
                self.exporter.access(demand).await.map(drop)
            }
            FetchError { failure: Failure::Throttled { after, .. }, .. } => {
                let until = self.exporter.clock.now() + after.unwrap_or(PATIENCE);
                self.run.books.opened.checkpoint.not_before = Some(until);
                Ok(())
            }
            error => Err(error.into()),
        }
    }

    /// Whether the next slice may begin, with calls booked for it.
    async fn turn(&mut self, plan: Plan) -> Result<Turn, RunError> {
        let Self { exporter, run, .. } = self;
        loop {
            let now = exporter.clock.now();
            let others = exporter.state.neighbours(Caller::Backfill).await?;
            if others.backfill.as_ref().is_some_and(|it| it.cancelling) {
                return Ok(Turn::Cancelled);
            }
            let Checkpoint { budget, not_before, .. } = &mut run.books.opened.checkpoint;
            let end = plan.read.end();
            if let Some(waits) = exporter.waits(end, budget, *not_before, &others, now) {
                return Ok(Turn::Waits(waits));
            }
            run.save().await?;
            if exporter.state.neighbours(Caller::Backfill).await?.stand_as_in(&others) {
                self.learn(others).await?;
                return Ok(Turn::Go);
            }
            run.books.opened.checkpoint.budget.settle();
        }
    }

    /// Takes over what the live export has delivered meanwhile.
    async fn learn(&mut self, others: Neighbours) -> Result<(), RunError> {
        let news = !self.run.known.as_ref().is_some_and(|known| others.stand_as_in(known));
        if let Some(live) = others.live.as_ref().filter(|_| news) {
            let position = live.progress.position();
            let opened = &mut self.run.books.opened;
            self.exporter.state.learn_from_live(opened, position).await?;
        }
        self.run.known = Some(Box::new(others));
        Ok(())
    }

    fn end(&mut self, how: Ending) {
        let now = self.exporter.clock.now();
        self.run.books.opened.job_mut().into_iter().for_each(|job| job.end(how, now));
    }
}

/// Books calls in `budget`, or says what must be waited for: others, and the
/// source if it asked not to be called before `not_before`.
pub(super) fn book(
    budget: &mut Budget,
    not_before: Option<Timestamp>,
    others: &Neighbours,
    now: Timestamp,
) -> Option<Waits> {
    if let Some(hold_up) = others.hold_up(not_before, now) {
        return Some(hold_up.into());
    }
    *budget = budget.clone().beside(others.calls.clone());
    let booked = budget.book(BOOKED_AT_ONCE, reserve(budget.per_hour()), now, now + BOOKED_FOR);
    booked.err().map(|Spent { free_in }| Waits::ForCalls { until: now + free_in })
}

fn tell(run: &Run<'_>, waits: Option<Waits>, watch: &mut Watch<'_>) {
    let opened = &run.books.opened;
    let progress: &Progress = &opened.checkpoint.progress;
    if let Some(job) = opened.job() {
        watch(Seen { job, position: progress.position(), waits });
    }
}
