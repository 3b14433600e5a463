//! One window, pulled alert by alert.

use std::panic::resume_unwind;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::elements::NotAPage;
use super::failure::{Api, FetchError};
use super::page_size::PageSize;
use super::reading::{Learnt, Piece, Read, Reading};
use super::{Detail, Source};
use crate::domain::alert::Alert;
use crate::domain::budget::Budget;
use crate::domain::pace::Manner;
use crate::domain::timestamp::Timestamp;
use crate::domain::window::Window;

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

/// Reads one window, in a task of its own that ends with this. Asks for a page
/// only when the one before is used up, unless told to ask ahead, and holds no
/// more than 4 MiB of alerts and what the network has just delivered.
///
/// In calm conditions no alert version comes twice. After a page that broke, or
/// where the API does not keep the order asked for, some may: the ledger keeps
/// them from being sent twice. An alert outside the window may come, if
/// the API sends it.
#[derive(Debug)]
pub struct Reader {
    api: Api,
    /// While it does not run: until the first alert is asked for.
    waiting: Option<Box<Reading>>,
    learnt: watch::Receiver<Learnt>,
    /// The task and what comes from it.
    running: JoinSet<Box<Reading>>,
    coming: Option<mpsc::UnboundedReceiver<Result<Read, FetchError>>>,
    /// What is at hand of it.
    piece: Piece,
    ended: bool,
}

impl Reader {
    pub(super) fn new(
        source: Source,
        window: Window,
        detail: Detail,
        token: SecretString,
        pages: PageSize,
        budget: Budget,
    ) -> Self {
        let api = source.api();
        let pages = pages.at_most(source.largest_page());
        let first = Learnt { calls: 0, pages, budget, hour_spent: false, half: None };
        let (notes, learnt) = watch::channel(first);
        let reading = Reading::new(source, window, detail, token, notes);
        Self {
            api,
            waiting: Some(Box::new(reading)),
            learnt,
            running: JoinSet::new(),
            coming: None,
            piece: Piece::default(),
            ended: false,
        }
    }

    /// Asks as `manner` says: no more calls than that, and without patience a
    /// first call that fails is not repeated. For before the first alert.
    #[must_use]
    pub fn with_manner(mut self, manner: Manner) -> Self {
        self.waiting = self.waiting.map(|reading| Box::new(reading.with_manner(manner)));
        self
    }

    /// How little had to be asked for at once until something was brought to an
    /// end, or is to be next; `None` where alerts come in order.
    pub fn half(&self) -> Option<Duration> {
        self.learnt.borrow().half
    }

    /// Asks for the next page while alerts of the one before are still being
    /// used: faster, and a call for nothing where reading stops early. For
    /// before the first alert.
    #[must_use]
    pub fn asking_ahead(mut self) -> Self {
        self.waiting = self.waiting.map(|reading| Box::new(reading.asking_ahead()));
        self
    }

    /// The next alert or mark; `None` at the end of the window.
    ///
    /// A page that breaks, or is not one, is asked for again from the last mark
    /// on, under the client's retry rules and with fewer alerts at once.
    ///
    /// # Errors
    ///
    /// [`FetchError`] when it is no use to go on now. Marks already yielded
    /// hold; after them some alerts may have been yielded and some not. Called
    /// again, it goes on from there.
    pub async fn next(&mut self) -> Result<Option<Item>, FetchError> {
        if let Some(reading) = self.waiting.take() {
            let (out, coming) = mpsc::unbounded_channel();
            self.coming = Some(coming);
            self.running.spawn(reading.run(out).in_current_span());
        }
        loop {
            if let Some(item) = self.piece.items.next() {
                return Ok(Some(item));
            }
            if self.ended {
                return Ok(None);
            }
            // Its room, for more to be read.
            self.piece = Piece::default();
            let coming = match &mut self.coming {
                Some(coming) => coming.recv().await,
                None => None,
            };
            match coming {
                Some(Ok(Read::Piece(piece))) => self.piece = piece,
                Some(Ok(Read::End)) => self.ended = true,
                Some(Err(error)) => {
                    // Where it stopped it can go on.
                    self.waiting = self.running.join_next().await.and_then(Result::ok);
                    return Err(error);
                }
                // Whoever read it is gone, and did not say that this was all.
                None => return Err(self.cut_off().await),
            }
        }
    }

    /// Ends the reading, so that no call is made that is not counted yet.
    /// Afterwards nothing more comes.
    pub async fn stop(&mut self) {
        self.running.shutdown().await;
    }

    /// Whether Defender refused a call because the hour's are used up, even if
    /// a later one was answered.
    pub fn met_spent_hour(&self) -> bool {
        self.learnt.borrow().hour_spent
    }

    /// Calls made so far, the failed ones included.
    pub fn calls(&self) -> u64 {
        self.learnt.borrow().calls
    }

    /// The page size as it is now, for the next run to begin with.
    pub fn page_size(&self) -> PageSize {
        self.learnt.borrow().pages
    }

    /// What is left of the hour's calls, for the next run to begin with.
    pub fn budget(&self) -> Budget {
        self.learnt.borrow().budget.clone()
    }

    /// A panic of the task goes on here, as if there were none.
    async fn cut_off(&mut self) -> FetchError {
        if let Some(Err(ended)) = self.running.join_next().await
            && let Ok(panic) = ended.try_into_panic()
        {
            resume_unwind(panic);
        }
        let failure = NotAPage::CutOff.into();
        FetchError { api: self.api, calls: self.calls(), attempts: 1, failure }
    }
}

#[cfg(test)]
mod tests {
    use super::super::failure::Failure;
    use super::*;

    #[tokio::test]
    async fn a_window_that_nobody_reads_to_its_end_is_not_read() {
        let (out, coming) = mpsc::unbounded_channel();
        let alert = Alert::parse(br#"{"id":"da1"}"#.as_slice().into()).unwrap();
        out.send(Ok(Read::Piece(Piece::of(vec![Item::Alert(alert)], None)))).unwrap();
        drop(out);
        let pages = PageSize::new(50);
        let learnt =
            Learnt { calls: 2, pages, budget: Budget::new(9), hour_spent: false, half: None };
        let mut reader = Reader {
            api: Api::Defender,
            waiting: None,
            learnt: watch::channel(learnt).1,
            running: JoinSet::new(),
            coming: Some(coming),
            piece: Piece::default(),
            ended: false,
        };
        assert!(matches!(reader.next().await, Ok(Some(Item::Alert(_)))));
        for _ in 0..2 {
            let error = reader.next().await.unwrap_err();
            assert!(matches!(error.failure, Failure::NotAPage(NotAPage::CutOff)), "{error:?}");
            assert_eq!(error.calls, 2);
        }
    }
}
