//! What a backfill would take: its span is read and counted, and nothing is
//! sent or kept but the number of calls made.

use std::collections::HashSet;
use std::time::Duration;

use super::backfill::{CannotStart, Waits};
use super::report::{Report, failed};
use super::{Exporter, RunError};
use crate::domain::advice::Advice;
use crate::domain::alert::Alert;
use crate::domain::backfill::{BOOKED_AT_ONCE, BOOKED_FOR, Span, WINDOWS};
use crate::domain::budget::{Budget, Spent, reserve};
use crate::domain::ledger::Digest;
use crate::domain::scope::Ruling;
use crate::domain::timestamp::Timestamp;
use crate::domain::window::Window;
use crate::http::retry::pause;
use crate::identity::AccessToken;
use crate::source::{Failure, FetchError, Item, PageSize, Reader};
use crate::store::ETag;
use crate::store::backfill::Caller;

/// What a backfill would take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Estimate {
    /// Of which span.
    pub span: Span,
    /// Everything of it before this is counted.
    pub position: Timestamp,
    /// Alerts that would be delivered.
    pub alerts: u64,
    /// Alerts that are not ours.
    pub withheld: u64,
    /// Calls to the source.
    pub calls: u64,
    /// Calls an hour a backfill may make.
    pub calls_per_hour: u32,
    /// Bytes of the alerts, with their evidence.
    pub bytes: u64,
}

/// Why there is no estimate.
#[derive(Debug, thiserror::Error)]
pub enum NoEstimate {
    /// The backfill could not be started either.
    #[error(transparent)]
    Start(#[from] CannotStart),
    /// A backfill is being worked on; its calls come first.
    #[error("a backfill is under way; wait for its end, or cancel it")]
    UnderWay,
    /// It could not be read, in words.
    #[error("{}", .0.message)]
    Failed(Advice),
}

impl Estimate {
    /// Minutes the calls take at the rate that is allowed, rounded up.
    pub fn minutes(&self) -> u64 {
        self.calls.saturating_mul(60).div_ceil(u64::from(self.calls_per_hour.max(1)))
    }
}

/// Whoever watches.
pub type Watch<'a> = dyn FnMut(&Estimate, Option<Waits>) + Send + 'a;

/// A count in progress.
struct Count<'a> {
    exporter: &'a Exporter,
    estimate: Estimate,
    budget: Budget,
    etag: Option<ETag>,
    /// Of the slice at hand: after a page that broke some come again.
    met: HashSet<Digest>,
}

impl Exporter {
    /// Counts what lies in `span`. Waits for calls and for live runs, and looks
    /// `look_every` whether it may go on.
    ///
    /// # Errors
    ///
    /// [`NoEstimate`] says why not. Calls made are counted all the same.
    pub async fn estimate(
        &self,
        span: Span,
        look_every: Duration,
        watch: &mut Watch<'_>,
    ) -> Result<Estimate, NoEstimate> {
        let live = self.may_backfill(span).await?;
        let failed = |error: RunError| NoEstimate::Failed(failed(&error).1);
        let now = self.clock.now();
        let job = self.state.backfill().await.map_err(CannotStart::from)?;
        if job.is_some_and(|job| job.is_held(now)) {
            return Err(NoEstimate::UnderWay);
        }
        let (budget, etag) = self.state.estimate_calls(now).await.map_err(CannotStart::from)?;
        let token = self.token(&mut Report::default()).await.map_err(failed)?;
        let per_hour = live.budget.per_hour();
        let estimate = Estimate {
            span,
            position: span.from,
            alerts: 0,
            withheld: 0,
            calls: 0,
            calls_per_hour: per_hour - reserve(per_hour),
            bytes: 0,
        };
        let met = HashSet::new();
        let mut count = Count { exporter: self, estimate, budget, etag, met };
        count.all(&token, look_every, watch).await.map_err(failed)?;
        Ok(count.estimate)
    }
}

impl Count<'_> {
    async fn all(
        &mut self,
        token: &AccessToken,
        look_every: Duration,
        watch: &mut Watch<'_>,
    ) -> Result<(), RunError> {
        let Self { exporter, .. } = *self;
        let mut pages = PageSize::new(exporter.rules.page_size);
        let mut slice_ends = self.estimate.span.from;
        loop {
            if self.estimate.position >= slice_ends {
                let next = WINDOWS.next(slice_ends, None, self.estimate.span.to);
                let Some(plan) = next else { return Ok(()) };
                slice_ends = plan.read.end();
                self.met.clear();
            }
            let Some(window) = Window::new(self.estimate.position, slice_ends) else {
                return Ok(());
            };
            if let Some(waits) = self.turn().await? {
                watch(&self.estimate, Some(waits));
                pause(look_every).await;
                continue;
            }
            let secret = token.secret.clone();
            let mut reader = exporter.source.read(window, secret, pages, self.budget.clone());
            let read = self.read(&mut reader).await;
            pages = reader.page_size();
            self.estimate.calls += reader.calls();
            self.budget = reader.budget().clone();
            self.budget.settle();
            self.save().await?;
            match read {
                Ok(()) | Err(FetchError { failure: Failure::BudgetSpent(_), .. }) => {}
                Err(error) => return Err(error.into()),
            }
            watch(&self.estimate, None);
        }
    }

    async fn read(&mut self, reader: &mut Reader) -> Result<(), FetchError> {
        while let Some(item) = reader.next().await? {
            match item {
                Item::Through(time) => self.estimate.position = time,
                Item::Alert(alert) => self.count(&alert),
            }
        }
        Ok(())
    }

    fn count(&mut self, alert: &Alert) {
        let text = String::from_utf8_lossy(alert.raw());
        if !self.met.insert(Digest::of(&text)) {
            return;
        }
        match self.exporter.rules.scope.rule(&alert.group()) {
            Ruling::Export => {
                self.estimate.alerts += 1;
                self.estimate.bytes += u64::try_from(alert.raw().len()).unwrap_or(u64::MAX);
            }
            Ruling::Foreign | Ruling::Ungrouped | Ruling::Unproven => self.estimate.withheld += 1,
        }
    }

    /// What must be waited for before calls may be made; else they are booked.
    async fn turn(&mut self) -> Result<Option<Waits>, RunError> {
        let Self { exporter, .. } = *self;
        loop {
            let now = exporter.clock.now();
            let others = exporter.state.neighbours(Caller::Estimate).await?;
            if let Some(hold_up) = others.hold_up(None, now) {
                return Ok(Some(hold_up.into()));
            }
            self.budget = self.budget.clone().beside(others.calls.clone());
            let reserve = reserve(self.budget.per_hour());
            let booked = self.budget.book(BOOKED_AT_ONCE, reserve, now, now + BOOKED_FOR);
            if let Err(Spent { free_in }) = booked {
                return Ok(Some(Waits::ForCalls { until: now + free_in }));
            }
            self.save().await?;
            if exporter.state.neighbours(Caller::Estimate).await?.stand_as_in(&others) {
                return Ok(None);
            }
            self.budget.settle();
        }
    }

    async fn save(&mut self) -> Result<(), RunError> {
        let etag = self.etag.take();
        self.etag = self.exporter.state.save_estimate_calls(&self.budget, etag).await?;
        Ok(())
    }
}
