//! One window, pulled alert by alert.

use std::ops::ControlFlow;

use reqwest::Response;
use secrecy::SecretString;
use tracing::{debug, warn};
use url::Url;

use super::elements::NotAPage;
use super::failure::{Failure, FetchError};
use super::page::Page;
use super::page_size::PageSize;
use super::paging::{Paging, Stuck};
use super::{Detail, Source};
use crate::domain::alert::Alert;
use crate::domain::budget::Budget;
use crate::domain::pace::Manner;
use crate::domain::timestamp::Timestamp;
use crate::domain::window::Window;
use crate::http::retry::{Attempts, GaveUp};

/// What a window gives, one after the other.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are alerts; a box for each costs more")]
pub enum Item {
    /// One version of one alert, in no order to rely on. One that lacks its id
    /// or time comes too.
    Alert(Alert),
    /// Every alert of the window with `lastUpdateTime` before this has been
    /// yielded. Only ever later; the last one is the window's end.
    Through(Timestamp),
}

/// Reads one window. Asks for a page only when the one before is used up, and
/// holds no more of it than 2 MiB and what the network has just delivered.
///
/// In calm conditions no alert version comes twice. After a page that broke, or
/// where the API does not keep the order asked for, some may: the ledger keeps
/// them from being sent twice. An alert outside the window may come, if
/// the API sends it.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    detail: Detail,
    token: SecretString,
    paging: Paging,
    pages: PageSize,
    budget: Budget,
    manner: Manner,
    calls: u64,
    pages_read: u64,
    hour_spent: bool,
    page: Option<Page>,
    link: Option<Url>,
    attempts: Option<Attempts>,
}

/// Whether there is something to hand out; `None` is the end.
type Step = ControlFlow<Option<Item>>;

impl Reader {
    pub(super) fn new(
        source: Source,
        window: Window,
        detail: Detail,
        token: SecretString,
        pages: PageSize,
        budget: Budget,
    ) -> Self {
        Self {
            paging: source.paging(window),
            pages: pages.at_most(source.largest_page()),
            source,
            detail,
            token,
            budget,
            manner: Manner::FREE,
            calls: 0,
            pages_read: 0,
            hour_spent: false,
            page: None,
            link: None,
            attempts: None,
        }
    }

    /// The next alert or mark; `None` at the end of the window.
    ///
    /// A page that breaks, or is not one, is asked for again from the last mark
    /// on, under the client's retry rules and with fewer alerts at once.
    ///
    /// # Errors
    ///
    /// [`FetchError`] when it is no use to go on now. Marks already yielded
    /// hold; after them some alerts may have been yielded and some not.
    pub async fn next(&mut self) -> Result<Option<Item>, FetchError> {
        loop {
            match self.step().await {
                Ok(Step::Break(item)) => return Ok(item),
                Ok(Step::Continue(())) => {}
                Err(failure) => self.recover(failure).await?,
            }
        }
    }

    /// Asks as `manner` says: no more calls than that, and without patience a
    /// first call that fails is not repeated.
    #[must_use]
    pub fn with_manner(mut self, manner: Manner) -> Self {
        self.manner = manner;
        self
    }

    /// Whether Defender refused a call because the hour's are used up, even if
    /// a later one was answered.
    pub fn met_spent_hour(&self) -> bool {
        self.hour_spent
    }

    /// Calls made so far, the failed ones included.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// The page size as it is now, for the next run to begin with.
    pub fn page_size(&self) -> PageSize {
        self.pages
    }

    /// What is left of the hour's calls, for the next run to begin with.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    async fn step(&mut self) -> Result<Step, Failure> {
        let Some(page) = &mut self.page else {
            self.page = self.open().await?;
            return Ok(if self.page.is_some() { Step::Continue(()) } else { Step::Break(None) });
        };
        let Some(alert) = page.next().await? else { return self.close() };
        if self.paging.note(&alert) {
            Ok(Step::Break(Some(Item::Alert(alert))))
        } else {
            Ok(Step::Continue(()))
        }
    }

    /// Asks for the next page; `None` if the window is read.
    async fn open(&mut self) -> Result<Option<Page>, Failure> {
        let answer = match self.link.take() {
            None => self.ask().await?,
            Some(link) => match self.call(link).await {
                // Graph's own links may skip more than Graph allows.
                Err(Failure::Refused(said)) if said.status == 400 => {
                    warn!("the link to a next page was refused; reading on without links");
                    self.paging.stop_following();
                    self.ask().await?
                }
                answer => Some(answer?),
            },
        };
        Ok(answer.map(|answer| Page::read(self.source.clone(), answer)))
    }

    async fn ask(&mut self) -> Result<Option<Response>, Failure> {
        let endpoint = self.source.endpoint();
        let (api, ordered) = (endpoint.api, endpoint.takes_order());
        let Some(ask) = self.paging.ask(self.pages.get(), ordered) else { return Ok(None) };
        match self.call(self.source.address(&ask, self.detail)).await {
            Err(Failure::Refused(said)) if said.status == 400 && ordered => {
                let Some(ask) = self.paging.ask(self.pages.get(), false) else { return Ok(None) };
                let answer = self.call(self.source.address(&ask, self.detail)).await?;
                warn!(source = %api, "$orderby is not taken; reading in spans that fit a page");
                self.source.endpoint().stop_asking_for_order();
                Ok(Some(answer))
            }
            answer => answer.map(Some),
        }
    }

    async fn call(&mut self, url: Url) -> Result<Response, Failure> {
        if self.calls >= u64::from(self.manner.calls) {
            return Err(Failure::TurnOver);
        }
        self.budget.spend(self.source.endpoint().clock.now()).map_err(Failure::BudgetSpent)?;
        self.calls += 1;
        let answer = self.source.get(url, &self.token).await;
        self.hour_spent |= answer.as_ref().is_err_and(Failure::is_spent_hour);
        answer
    }

    /// Ends a page, if it is whole.
    fn close(&mut self) -> Result<Step, Failure> {
        let Some(page) = self.page.take() else { return Ok(Step::Continue(())) };
        let (url, link) = page.whole()?;
        let link = link.map(|link| self.source.endpoint().linked(&link)).transpose()?;
        if link.as_ref() == Some(&url) {
            return Err(NotAPage::Garbage.into());
        }
        let believed = self.paging.believes_order();
        let closed = self.paging.close(link.is_some()).map_err(|stuck| match stuck {
            Stuck::Shifted => Failure::Shifted,
            Stuck::Crowded => Failure::Crowded,
        })?;
        if believed && !self.paging.believes_order() {
            let api = self.source.api();
            warn!(source = %api, "$orderby was ignored; reading in spans that fit a page");
        }
        self.link = link.filter(|_| closed.follow);
        self.pages.grow();
        self.pages_read += 1;
        if closed.settled {
            self.attempts = None;
        }
        debug!(calls = self.calls, page.size = self.pages.get(), "page read");
        Ok(closed.through.map_or(Step::Continue(()), |at| Step::Break(Some(Item::Through(at)))))
    }

    /// Waits until the page may be asked for again.
    async fn recover(&mut self, failure: Failure) -> Result<(), FetchError> {
        self.page = None;
        if failure.may_be_size() {
            self.pages.shrink();
        }
        let first = self.pages_read == 0 && !self.manner.patient;
        let refused = !self.manner.patient && matches!(failure, Failure::Throttled { .. });
        if first && failure.is_outage() || refused || failure.is_spent_hour() {
            let (api, calls) = (self.source.api(), self.calls);
            return Err(FetchError { api, calls, attempts: 1, failure });
        }
        // Counted from the first failure: between two alerts time passes that
        // is not the API's.
        let attempts =
            self.attempts.get_or_insert_with(|| self.source.endpoint().http.retry.begin());
        let (api, calls) = (self.source.api(), self.calls);
        let again = attempts.again(failure).await;
        again.map_err(|GaveUp { attempts, last, .. }| {
            self.attempts = None;
            FetchError { api, calls, attempts, failure: last }
        })
    }
}
