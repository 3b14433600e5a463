//! One page on its way in, taken apart beside whoever uses its alerts.
//!
//! ```text
//! network -> elements -> alerts   (a task of its own)
//!                          | so many bytes ahead at most
//!                          v
//!                       whoever pulls
//! ```
//!
//! Taking an answer apart is about half of what an alert costs; in a task of
//! its own it runs while the alerts before are shaped and packed, and goes on
//! while the state is saved.

use std::sync::Arc;

use reqwest::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tracing::Instrument as _;
use url::Url;

use super::Source;
use super::elements::{Elements, NotAPage};
use super::failure::Failure;
use crate::domain::alert::Alert;
use crate::http::Broken;

/// Bytes of the answer that may wait, taken apart, to be used.
const AHEAD: usize = 2 * 1_024 * 1_024;

/// One page. Dropping it gives the answer up.
#[derive(Debug)]
pub(super) struct Page {
    url: Url,
    /// What the answer itself says it lacks.
    shortfall: Option<Failure>,
    pieces: mpsc::UnboundedReceiver<Result<Piece, Failure>>,
    /// What is left of the last piece.
    alerts: std::vec::IntoIter<Alert>,
    /// Its room, for another piece once it is used up.
    room: Option<OwnedSemaphorePermit>,
    end: Option<End>,
    /// Ends with the page.
    _reading: JoinSet<()>,
}

#[derive(Debug)]
enum Piece {
    Alerts(Vec<Alert>, OwnedSemaphorePermit),
    End(End),
}

/// Every byte of the page was read and understood.
#[derive(Debug)]
struct End {
    link: Option<String>,
}

impl Page {
    /// Begins to read `answer`.
    pub(super) fn read(source: Source, answer: Response) -> Self {
        let (url, shortfall) = (answer.url().clone(), source.shortfall(&answer));
        let (sender, pieces) = mpsc::unbounded_channel();
        let mut reading = JoinSet::new();
        reading.spawn(take_apart(source, answer, sender).in_current_span());
        let alerts = Vec::new().into_iter();
        Self { url, shortfall, pieces, alerts, room: None, end: None, _reading: reading }
    }

    /// The next alert; `None` at the end of the answer.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the answer broke or is not a page; the alerts so far are
    /// not all.
    pub(super) async fn next(&mut self) -> Result<Option<Alert>, Failure> {
        loop {
            if let Some(alert) = self.alerts.next() {
                return Ok(Some(alert));
            }
            if self.end.is_some() {
                return Ok(None);
            }
            self.room = None;
            match self.pieces.recv().await {
                Some(Ok(Piece::Alerts(alerts, room))) => {
                    (self.alerts, self.room) = (alerts.into_iter(), Some(room));
                }
                Some(Ok(Piece::End(end))) => self.end = Some(end),
                Some(Err(failure)) => return Err(failure),
                // Whoever read it is gone, and did not say that this was all.
                None => return Err(NotAPage::CutOff.into()),
            }
        }
    }

    /// Where the page came from and the link it ended with, once
    /// [`Self::next`] gave `None`.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it is not whole, or its answer says that alerts are
    /// missing.
    pub(super) fn whole(self) -> Result<(Url, Option<String>), Failure> {
        let Some(End { link }) = self.end else { return Err(NotAPage::CutOff.into()) };
        self.shortfall.map_or(Ok((self.url, link)), Err)
    }
}

/// Sends what arrives until the end, the first failure, or until nobody wants
/// more.
async fn take_apart(
    source: Source,
    mut answer: Response,
    sender: mpsc::UnboundedSender<Result<Piece, Failure>>,
) {
    let room = Arc::new(Semaphore::new(AHEAD));
    let mut elements = Elements::default();
    loop {
        let (alerts, broken) = alerts(&source, &mut elements);
        if !alerts.is_empty() {
            let bytes: usize = alerts.iter().map(|alert| alert.raw().len()).sum();
            let bytes = u32::try_from(bytes.min(AHEAD)).unwrap_or(u32::MAX);
            // It is never closed.
            let Ok(room) = Arc::clone(&room).acquire_many_owned(bytes).await else { return };
            if sender.send(Ok(Piece::Alerts(alerts, room))).is_err() {
                return;
            }
        }
        let chunk = match broken {
            None => answer.chunk().await.map_err(|error| Broken::from(error).into()),
            Some(failure) => Err(failure),
        };
        let last = match chunk {
            Ok(Some(chunk)) => {
                elements.feed(&chunk);
                continue;
            }
            Ok(None) => elements.finish().map(|link| Piece::End(End { link })).map_err(Into::into),
            Err(failure) => Err(failure),
        };
        // Nobody wants it any more: then it does not matter.
        let _nobody = sender.send(last).is_err();
        return;
    }
}

/// Every alert that has arrived, and why there can be no more, if so.
fn alerts(source: &Source, elements: &mut Elements) -> (Vec<Alert>, Option<Failure>) {
    let mut alerts = Vec::new();
    loop {
        match source.alert(elements) {
            Ok(Some(alert)) => alerts.push(alert),
            Ok(None) => return (alerts, None),
            Err(failure) => return (alerts, Some(failure)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(pieces: mpsc::UnboundedReceiver<Result<Piece, Failure>>) -> Page {
        let url = "https://api.example/".parse().unwrap();
        let alerts = Vec::new().into_iter();
        let reading = JoinSet::new();
        Page { url, shortfall: None, pieces, alerts, room: None, end: None, _reading: reading }
    }

    #[tokio::test]
    async fn a_page_that_nobody_reads_to_its_end_is_not_whole() {
        let (sender, pieces) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(1));
        let alert = Alert::parse(br#"{"id":"da1"}"#.as_slice().into()).unwrap();
        let permit = Arc::clone(&room).acquire_owned().await.unwrap();
        sender.send(Ok(Piece::Alerts(vec![alert], permit))).unwrap();
        drop(sender);
        let mut page = page(pieces);
        assert_eq!(page.next().await.unwrap().unwrap().id().unwrap(), "da1");
        assert_eq!(room.available_permits(), 0, "it may still be in use");
        let failure = page.next().await.unwrap_err();
        assert!(matches!(failure, Failure::NotAPage(NotAPage::CutOff)), "{failure:?}");
        assert_eq!(room.available_permits(), 1);
        let failure = page.whole().unwrap_err();
        assert!(matches!(failure, Failure::NotAPage(NotAPage::CutOff)), "{failure:?}");
    }
}
