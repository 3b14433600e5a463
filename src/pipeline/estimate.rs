//! What a backfill would take: its span is surveyed and counted, and nothing is
//! sent or kept but the number of calls made. What alerts weigh with their
//! evidence is measured on one page of the busiest slice.

use std::collections::HashSet;
use std::time::Duration;

use super::backfill::{CannotStart, book};
use super::failed::failed;
use super::report::Report;
use super::{Exporter, Rules, RunError};
use crate::domain::advice::Advice;
use crate::domain::alert::Alert;
use crate::domain::backfill::{Span, Waits, are_few, windows};
use crate::domain::budget::Budget;
use crate::domain::ledger::Digest;
use crate::domain::scope::Ruling;
use crate::domain::timestamp::Timestamp;
use crate::domain::window::Window;
use crate::http::retry::pause;
use crate::identity::Demand;
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
    /// Calls the backfill would make.
    pub calls: u64,
    /// Calls an hour a backfill may make.
    pub calls_per_hour: u32,
    /// Bytes of the alerts, with their evidence; 0 until a page is measured.
    pub bytes: u64,
}

/// Alerts asked for in one call of the survey: as many as the source gives.
const SURVEY_PAGE: u32 = 10_000;

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
    /// Of the slice at hand, alerts of ours.
    found: u64,
    /// The slice with most alerts of ours, and how many.
    busiest: Option<(u64, Window)>,
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
        let api = self.source.api();
        let failed = |error: RunError| NoEstimate::Failed(failed(&error, api).1);
        let now = self.clock.now();
        let job = self.state.backfill().await.map_err(CannotStart::from)?;
        if job.is_some_and(|job| job.is_held(now)) {
            return Err(NoEstimate::UnderWay);
        }
        let (budget, etag) = self.state.estimate_calls(now).await.map_err(CannotStart::from)?;
        self.token(&mut Report::default()).await.map_err(failed)?;
        let estimate = Estimate {
            span,
            position: span.from,
            alerts: 0,
            withheld: 0,
            calls: 0,
            calls_per_hour: live.budget.beside_live(),
            bytes: 0,
        };
        let mut count = Count {
            exporter: self,
            estimate,
            budget,
            etag,
            met: HashSet::new(),
            found: 0,
            busiest: None,
        };
        count.all(look_every, watch).await.map_err(failed)?;
        count.weigh(look_every, watch).await.map_err(failed)?;
        Ok(count.estimate)
    }
}

impl Count<'_> {
    /// Slice by slice, as the backfill would.
    async fn all(&mut self, look_every: Duration, watch: &mut Watch<'_>) -> Result<(), RunError> {
        let Span { from, to } = self.estimate.span;
        let mut begin = from;
        let windows = windows(self.estimate.calls_per_hour);
        while let Some(plan) = windows.next(begin, None, to) {
            while let Some(rest) = Window::new(self.estimate.position, plan.read.end()) {
                self.wait(look_every, watch).await?;
                let pages = PageSize::new(SURVEY_PAGE);
                let (source, budget) = (&self.exporter.source, self.budget.clone());
                let token = self.exporter.access(Demand::Any).await?;
                let mut reader = source.survey(rest, token.secret, pages, budget);
                let read = self.read(&mut reader).await;
                self.has_read(&reader).await?;
                match read {
                    Ok(()) | Err(FetchError { failure: Failure::BudgetSpent(_), .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            self.slice_done(plan.read);
            watch(&self.estimate, None);
            begin = plan.read.end();
        }
        Ok(())
    }

    /// A page more for every page full, and one that is not.
    fn slice_done(&mut self, slice: Window) {
        let alerts = u64::try_from(self.met.len()).unwrap_or(u64::MAX);
        self.met.clear();
        let rules = &self.exporter.rules;
        let pages = PageSize::new(rules.page_size);
        let few = are_few(self.estimate.calls_per_hour);
        let pages = if few { pages.largest() } else { pages };
        let page = pages.get().min(self.exporter.source.largest_page());
        self.estimate.calls += alerts / u64::from(page.max(1)) + 1;
        let found = std::mem::take(&mut self.found);
        if found > self.busiest.map_or(0, |(most, _)| most) {
            self.busiest = Some((found, slice));
        }
    }

    /// Measures one page as the backfill would read it.
    async fn weigh(&mut self, look_every: Duration, watch: &mut Watch<'_>) -> Result<(), RunError> {
        let Some((_, slice)) = self.busiest else { return Ok(()) };
        self.wait(look_every, watch).await?;
        let Rules { page_size, scope, .. } = &self.exporter.rules;
        let (source, budget) = (&self.exporter.source, self.budget.clone());
        let token = self.exporter.access(Demand::Any).await?;
        let mut reader = source.read(slice, token.secret, PageSize::new(*page_size), budget);
        let (mut alerts, mut bytes) = (0_u64, 0_u64);
        for _ in 0..*page_size {
            // The rest of the slice is no use: one page is measured.
            let Some(Item::Alert(alert)) = reader.next().await? else { break };
            if scope.rule_all(alert.groups()) == Ruling::Export {
                alerts += 1;
                bytes += u64::try_from(alert.raw().len()).unwrap_or(u64::MAX);
            }
        }
        self.has_read(&reader).await?;
        self.estimate.bytes = bytes.saturating_mul(self.estimate.alerts) / alerts.max(1);
        Ok(())
    }

    async fn has_read(&mut self, reader: &Reader) -> Result<(), RunError> {
        self.budget = reader.budget();
        self.budget.settle();
        self.save().await
    }

    async fn wait(&mut self, look_every: Duration, watch: &mut Watch<'_>) -> Result<(), RunError> {
        while let Some(waits) = self.turn().await? {
            watch(&self.estimate, Some(waits));
            pause(look_every).await;
        }
        Ok(())
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
        match self.exporter.rules.scope.rule_all(alert.groups()) {
            Ruling::Export => {
                self.estimate.alerts += 1;
                self.found += 1;
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
            if let Some(waits) = book(&mut self.budget, None, &others, now) {
                return Ok(Some(waits));
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
