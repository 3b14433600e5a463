//! One window, read in a task of its own.
//!
//! ```text
//! network -> elements -> alerts -> paging   (this task)
//!                                    | so many bytes ahead at most
//!                                    v
//!                                  the reader that is pulled
//! ```
//!
//! Taking an answer apart is about half of what an alert costs; in a task of
//! its own it runs while the alerts before are shaped and packed, and goes on
//! while the state is saved.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use std::vec;

use reqwest::Response;
use secrecy::SecretString;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tracing::{debug, warn};
use url::Url;

use super::elements::{Elements, NotAPage};
use super::failure::{Failure, FetchError};
use super::page_size::PageSize;
use super::paging::{Paging, Stuck};
use super::{Detail, Item, Source};
use crate::domain::budget::Budget;
use crate::domain::pace::Manner;
use crate::domain::timestamp::Timestamp;
use crate::domain::window::Window;
use crate::http::Broken;
use crate::http::retry::{Attempts, GaveUp};

/// Bytes of alerts that may wait, taken apart, to be used.
const AHEAD: usize = 4 * 1_024 * 1_024;

/// Links of one answer that are followed while nothing new comes: real ones have
/// been seen to lead over an empty page or two, and each costs a call.
const BARREN: usize = 10;

/// What has been read, and the room it takes until it is used up.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) items: vec::IntoIter<Item>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Piece {
    pub(super) fn of(items: Vec<Item>, room: Option<OwnedSemaphorePermit>) -> Self {
        Self { items: items.into_iter(), _room: room }
    }
}

/// What comes of a window, in order.
#[derive(Debug)]
pub(super) enum Read {
    Piece(Piece),
    /// The window is read to its end.
    End,
}

/// What later windows begin with.
#[derive(Clone, Debug)]
pub(super) struct Learnt {
    pub(super) calls: u64,
    pub(super) pages: PageSize,
    pub(super) budget: Budget,
    pub(super) hour_spent: bool,
    /// How little had to be asked for until a mark came.
    pub(super) half: Option<Duration>,
}

/// One window as far as it is read.
#[derive(Debug)]
pub(super) struct Reading {
    source: Source,
    detail: Detail,
    token: SecretString,
    paging: Paging,
    manner: Manner,
    /// Whether pages are asked for before those before them are used up.
    asks_ahead: bool,
    learnt: watch::Sender<Learnt>,
    pages_read: u64,
    /// Whether a mark was handed out: what this run has read, none reads again.
    marked: bool,
    page: Option<Page>,
    link: Option<Url>,
    /// Links followed in this answer since it last brought something new.
    followed: Vec<Url>,
    attempts: Option<Attempts>,
    /// Alerts that came at once.
    at_once: usize,
    /// For what waits to be used.
    room: Arc<Semaphore>,
}

/// Where it goes.
type Out = mpsc::UnboundedSender<Result<Read, FetchError>>;

/// One answer on its way in.
#[derive(Debug)]
struct Page {
    url: Url,
    /// What the answer itself says it lacks.
    shortfall: Option<Failure>,
    answer: Response,
    elements: Elements,
}

impl Page {
    fn read(source: &Source, answer: Response) -> Self {
        let (url, shortfall) = (answer.url().clone(), source.shortfall(&answer));
        Self { url, shortfall, answer, elements: Elements::default() }
    }
}

/// Whether there is more to read.
type Step = ControlFlow<()>;

impl Reading {
    pub(super) fn new(
        source: Source,
        window: Window,
        detail: Detail,
        token: SecretString,
        learnt: watch::Sender<Learnt>,
    ) -> Self {
        Self {
            paging: source.paging(window),
            source,
            detail,
            token,
            manner: Manner::FREE,
            asks_ahead: false,
            learnt,
            pages_read: 0,
            marked: false,
            page: None,
            link: None,
            followed: Vec::new(),
            attempts: None,
            at_once: 0,
            room: Arc::new(Semaphore::new(AHEAD)),
        }
    }

    pub(super) fn with_manner(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    pub(super) fn asking_ahead(self) -> Self {
        Self { asks_ahead: true, ..self }
    }

    /// Sends all of the window in order, then that this was all, or why it is
    /// not. Gives itself back, to go on where it stopped.
    pub(super) async fn run(mut self: Box<Self>, out: Out) -> Box<Self> {
        let last = loop {
            match self.step(&out).await {
                Ok(Step::Continue(())) => {}
                Ok(Step::Break(())) => break Ok(Read::End),
                Err(failure) => {
                    if let Err(error) = self.recover(failure).await {
                        break Err(error);
                    }
                }
            }
        };
        // Nobody wants it any more: then it does not matter.
        let _nobody = out.send(last).is_err();
        self
    }

    /// Takes apart what has arrived of the page, then waits for more of it; or
    /// asks for the next one.
    async fn step(&mut self, out: &Out) -> Result<Step, Failure> {
        let Some(page) = &mut self.page else {
            if !self.asks_ahead {
                self.wait_until_used_up().await;
            }
            self.page = self.open().await?;
            return Ok(if self.page.is_some() { Step::Continue(()) } else { Step::Break(()) });
        };
        let (mut items, mut bytes) = (Vec::with_capacity(self.at_once), 0);
        let taken = self.source.alerts(&mut page.elements, |alert| {
            if self.paging.note(&alert) {
                bytes += alert.raw().len();
                items.push(Item::Alert(alert));
            }
        });
        if !items.is_empty() {
            self.at_once = items.len();
            self.hand_out(items, bytes, out).await;
        }
        taken?;
        let Some(page) = &mut self.page else { return Ok(Step::Continue(())) };
        match page.answer.chunk().await.map_err(Broken::from)? {
            Some(chunk) => page.elements.feed(chunk),
            None => {
                if let Some(through) = self.close()? {
                    self.marked = true;
                    self.hand_out(vec![Item::Through(through)], 0, out).await;
                }
            }
        }
        Ok(Step::Continue(()))
    }

    /// Waits for room. Where nobody wants any more this ends with the task.
    async fn hand_out(&self, items: Vec<Item>, bytes: usize, out: &Out) {
        let room = self.take_room(bytes).await;
        let _nobody = out.send(Ok(Read::Piece(Piece::of(items, room)))).is_err();
    }

    async fn wait_until_used_up(&self) {
        drop(self.take_room(AHEAD).await);
    }

    async fn take_room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(AHEAD)).unwrap_or(u32::MAX);
        // It is never closed.
        Arc::clone(&self.room).acquire_many_owned(bytes).await.ok()
    }

    /// Asks for the next page; `None` if the window is read.
    async fn open(&mut self) -> Result<Option<Page>, Failure> {
        let answer = match self.link.take() {
            None => {
                self.followed.clear();
                self.ask().await?
            }
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
        Ok(answer.map(|answer| Page::read(&self.source, answer)))
    }

    async fn ask(&mut self) -> Result<Option<Response>, Failure> {
        let endpoint = self.source.endpoint();
        let (api, ordered) = (endpoint.api, endpoint.takes_order());
        let Some(ask) = self.paging.ask(self.page_size(), ordered) else { return Ok(None) };
        match self.call(self.source.address(&ask, self.detail)).await {
            Err(Failure::Refused(said)) if said.status == 400 && ordered => {
                // At once, and beyond the calls of this run: one that may make a
                // single call would else never come to know.
                self.source.endpoint().orders_are_taken(false);
                let Some(ask) = self.paging.ask(self.page_size(), false) else { return Ok(None) };
                let answer = self.make(self.source.address(&ask, self.detail)).await;
                match &answer {
                    Ok(_) => {
                        warn!(source = %api, "$orderby is not taken; reading in spans that fit a page");
                    }
                    // The order was not to blame.
                    Err(Failure::Refused(_)) => self.source.endpoint().orders_are_taken(true),
                    Err(_) => {}
                }
                answer.map(Some)
            }
            answer => answer.map(Some),
        }
    }

    /// One call, if this run may make one more.
    async fn call(&mut self, url: Url) -> Result<Response, Failure> {
        let Manner { calls, unfinished, .. } = self.manner;
        let may = if self.marked || calls == 0 { calls } else { calls.max(unfinished) };
        if self.calls() >= u64::from(may) {
            return Err(Failure::TurnOver);
        }
        self.make(url).await
    }

    async fn make(&mut self, url: Url) -> Result<Response, Failure> {
        let now = self.source.endpoint().clock.now();
        let mut spent = Ok(());
        self.learnt.send_modify(|learnt| {
            spent = learnt.budget.spend(now);
            learnt.calls += u64::from(spent.is_ok());
        });
        spent.map_err(Failure::BudgetSpent)?;
        let answer = self.source.get(url, &self.token).await;
        if answer.as_ref().is_err_and(Failure::is_spent_hour) {
            self.learnt.send_modify(|learnt| learnt.hour_spent = true);
        }
        answer
    }

    fn calls(&self) -> u64 {
        self.learnt.borrow().calls
    }

    fn page_size(&self) -> u32 {
        self.learnt.borrow().pages.get()
    }

    /// Ends a page, if it is whole; the time all before which has now come.
    fn close(&mut self) -> Result<Option<Timestamp>, Failure> {
        let Some(page) = self.page.take() else { return Ok(None) };
        let link = page.elements.finish()?;
        if let Some(shortfall) = page.shortfall {
            return Err(shortfall);
        }
        let linked_on = link.is_some();
        let link = self.own(link)?;
        if link.as_ref() == Some(&page.url) {
            return Err(NotAPage::Garbage.into());
        }
        let believed = self.paging.believes_order();
        let closed = self.paging.close(linked_on).map_err(|stuck| match stuck {
            Stuck::Shifted => Failure::Shifted,
            Stuck::Crowded => Failure::Crowded,
        })?;
        if believed && !self.paging.believes_order() {
            let api = self.source.api();
            warn!(source = %api, "$orderby was ignored; reading in spans that fit a page");
        }
        if !self.marked {
            let half = self.paging.half();
            self.learnt.send_modify(|learnt| learnt.half = half);
        }
        self.link = link.filter(|_| closed.follow);
        self.lead_on()?;
        self.learnt.send_modify(|learnt| learnt.pages.grow());
        self.pages_read += 1;
        if closed.settled {
            self.attempts = None;
        }
        debug!(calls = self.calls(), page.size = self.page_size(), "page read");
        Ok(closed.through)
    }

    /// The link, if it stays on this server. One that does not is not needed
    /// where alerts came: reading goes on after the last of them. The access
    /// token goes nowhere else.
    fn own(&mut self, link: Option<String>) -> Result<Option<Url>, Failure> {
        match link.map(|link| self.source.endpoint().linked(&link)).transpose() {
            Err(Failure::ForeignLink) if !self.paging.is_empty_answer() => {
                warn!("a link to a next page leads to another server; reading on without links");
                self.paging.stop_following();
                Ok(None)
            }
            link => link,
        }
    }

    /// Notes the link that is to be followed: in a circle, or on and on without
    /// an alert, it would use up the hour's calls.
    fn lead_on(&mut self) -> Result<(), Failure> {
        if self.paging.take_news() {
            self.followed.clear();
        }
        let Some(link) = &self.link else { return Ok(()) };
        if self.followed.len() == BARREN || self.followed.contains(link) {
            self.link = None;
            return Err(NotAPage::Garbage.into());
        }
        self.followed.push(link.clone());
        Ok(())
    }

    /// Waits until the page may be asked for again.
    async fn recover(&mut self, failure: Failure) -> Result<(), FetchError> {
        self.page = None;
        if failure.may_be_size() {
            self.learnt.send_modify(|learnt| learnt.pages.shrink());
        }
        let outage = self.pages_read == 0 && failure.is_outage()
            || !self.marked && failure.may_be_size()
            || matches!(failure, Failure::Throttled { .. });
        if outage && !self.manner.patient || failure.is_spent_hour() {
            let (api, calls) = (self.source.api(), self.calls());
            return Err(FetchError { api, calls, attempts: 1, failure });
        }
        // Counted from the first failure: between two alerts time passes that
        // is not the API's.
        let (api, calls) = (self.source.api(), self.calls());
        let attempts =
            self.attempts.get_or_insert_with(|| self.source.endpoint().http.retry.begin());
        let again = attempts.again(failure).await;
        again.map_err(|GaveUp { attempts, last, .. }| {
            self.attempts = None;
            FetchError { api, calls, attempts, failure: last }
        })
    }
}
