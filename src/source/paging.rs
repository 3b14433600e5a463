//! What to ask for next, so that a window is read whole.
//!
//! Pages are asked for in order of update time, and the next one begins at the
//! time the last one ended with. Nothing documents that an API keeps that
//! order, so a full page is taken for the beginning of its span only if it is
//! in order beyond chance; if it might be chance, what lies before its last
//! time is asked for too. If it is not in order, the span is halved until its
//! parts fit a page each: a page that is not full is complete whatever its
//! order. More alerts of one and the same 100 ns than fit a page are told apart
//! as [`Ties`] says. A link to a next page proves that there is more; it is
//! followed where that is safe.

use std::collections::BTreeSet;
use std::time::Duration;

use super::answer::Answer;
use super::ties::{Created, Ties};
use crate::domain::alert::{Alert, Member};
use crate::domain::timestamp::Timestamp;
use crate::domain::window::Window;

/// The first page of an answer to ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ask {
    /// Update times.
    pub span: Window,
    /// Alerts to pass over, within one tick only.
    pub skip: u64,
    /// Creation times, bounded within one tick only.
    pub created: Created,
    /// Alerts wanted at most.
    pub top: u32,
    /// Whether to ask for ascending update times.
    pub ordered: bool,
}

/// What the end of a page means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Closed {
    /// The time all before which has now been yielded, if it moved.
    pub through: Option<Timestamp>,
    /// Whether the page's link leads on in what is being read.
    pub follow: bool,
    /// Whether this page will not be asked for again.
    pub settled: bool,
}

/// Why a tick cannot be read on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stuck {
    /// Pages of one tick overlap by one alert; this one was another. The tick
    /// is to be read again.
    Shifted,
    /// More alerts than fit a page were updated at the same time, and created
    /// at the same time.
    Crowded,
}

/// A part of the window that is read with one kind of request.
#[derive(Debug)]
enum Part {
    Span(Window),
    Tick {
        span: Window,
        skip: u64,
        /// The alert the next page must begin with: if it does not, alerts came
        /// or went before it, and some would be passed over.
        anchor: Option<Box<str>>,
    },
    /// One tick, by what of it is still to be read, the next last.
    Born {
        span: Window,
        left: Vec<Created>,
    },
}

/// How far a window has been read.
#[derive(Debug)]
pub(super) struct Paging {
    window: Window,
    /// What is still to be read, the earliest last.
    left: Vec<Part>,
    /// All before this has been yielded.
    through: Timestamp,
    ties: Ties,
    /// Whether links to a next page are worth following.
    follows_links: bool,
    /// Whether pages in order are believed to be sorted.
    believes_order: bool,
    /// What has been yielded from `through` on.
    seen: BTreeSet<(Timestamp, Box<str>)>,
    /// Whether an alert came that had not been yielded.
    news: bool,
    /// The half of a span without order that was to be asked for last.
    half: Option<Window>,
    answer: Answer,
}

impl Paging {
    pub(super) fn new(window: Window, ties: Ties) -> Self {
        Self {
            window,
            ties,
            follows_links: true,
            left: vec![Part::Span(window)],
            through: window.start(),
            believes_order: true,
            seen: BTreeSet::new(),
            news: false,
            half: None,
            answer: Answer::new(window, 0, false),
        }
    }

    /// Begins a new answer; one that broke is forgotten, what it yielded is
    /// not. `None` once the window is read.
    pub(super) fn ask(&mut self, top: u32, ordered: bool) -> Option<Ask> {
        let mut top = top;
        let (span, skip, created) = match self.left.last()? {
            Part::Span(span) => (*span, 0, Created::default()),
            Part::Tick { span, skip, .. } => (*span, *skip, Created::default()),
            Part::Born { span, left } => (*span, 0, left.last().copied().unwrap_or_default()),
        };
        if let Ties::ByCreation { largest } = self.ties
            && created.is_one_time()
        {
            top = largest;
        }
        self.answer = Answer::new(span, top, ordered);
        Some(Ask { span, skip, created, top, ordered })
    }

    /// From now on a link to a next page only says that there is one: its kind
    /// was refused.
    pub(super) fn stop_following(&mut self) {
        self.follows_links = false;
    }

    /// Takes note of the answer's next alert and says whether it is to be
    /// yielded. One without time or id always is: it may be the only copy.
    pub(super) fn note(&mut self, alert: &Alert) -> bool {
        let (at, id) = (alert.last_update().ok(), alert.id().ok());
        match self.left.last() {
            Some(Part::Span(_)) => self.answer.note(at),
            Some(Part::Tick { .. }) => self.answer.note_in_tick(id.as_deref()),
            Some(Part::Born { .. }) => {
                self.answer.note_birth(alert.time(Member::AlertCreationTime));
            }
            None => {}
        }
        match (at, id) {
            (Some(at), Some(id)) => {
                let is_new = self.seen.insert((at, id.as_ref().into()));
                self.news |= is_new;
                is_new
            }
            _ => true,
        }
    }

    /// Whether an alert came since this was last asked that had not been yielded.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Whether the answer has no alert so far.
    pub(super) fn is_empty_answer(&self) -> bool {
        self.answer.count() == 0
    }

    /// Ends a page; `linked_on` if it names a next one.
    ///
    /// # Errors
    ///
    /// [`Stuck`] if a tick cannot be read on.
    pub(super) fn close(&mut self, linked_on: bool) -> Result<Closed, Stuck> {
        let is_whole = !linked_on && self.answer.is_whole();
        let linked_on = linked_on && self.may_follow();
        if linked_on {
            self.answer.goes_on();
        }
        match self.left.pop() {
            None => Ok(Closed { through: None, follow: false, settled: true }),
            Some(Part::Span(span)) if self.order_was_ignored(span) => {
                // What came before this span was taken on trust.
                self.left = vec![Part::Span(self.window)];
                Ok(Closed { through: None, follow: false, settled: true })
            }
            Some(Part::Span(span)) => {
                let through = self.close_span(span, is_whole, linked_on);
                Ok(Closed { through, follow: linked_on, settled: through.is_some() || !linked_on })
            }
            Some(Part::Tick { span, skip, anchor }) => {
                if anchor.is_some() && anchor.as_deref() != self.answer.first_id() {
                    self.left.push(Part::Tick { span, skip: 0, anchor: None });
                    return Err(Stuck::Shifted);
                }
                if is_whole {
                    let through = self.reach(span.end());
                    return Ok(Closed { through, follow: false, settled: true });
                }
                self.left.push(if linked_on {
                    Part::Tick { span, skip, anchor }
                } else {
                    let anchor = self.answer.anchor();
                    let skip = skip + self.answer.count() - u64::from(anchor.is_some());
                    Part::Tick { span, skip, anchor }
                });
                // Should a later page not fit, all of the tick is read again.
                Ok(Closed { through: None, follow: linked_on, settled: false })
            }
            Some(Part::Born { span, left }) => self.close_born(span, left, is_whole, linked_on),
        }
    }

    /// Whether a link is the way on. Where `$skip` has an end it is so only if
    /// there is no other: a link that skips leaves out an alert for each that
    /// was updated meanwhile and went elsewhere.
    fn may_follow(&self) -> bool {
        let is_the_only_way = match (self.ties, self.left.last()) {
            (Ties::Counted, _) => true,
            (Ties::ByCreation { .. }, _) if self.answer.count() == 0 => true,
            (Ties::ByCreation { .. }, Some(Part::Born { left, .. })) => {
                left.last().is_some_and(|created| created.is_one_time())
            }
            (Ties::ByCreation { .. }, _) => false,
        };
        is_the_only_way && self.follows_links
    }

    fn close_born(
        &mut self,
        span: Window,
        mut left: Vec<Created>,
        is_whole: bool,
        linked_on: bool,
    ) -> Result<Closed, Stuck> {
        if !linked_on {
            let is_whole = is_whole || self.answer.was_linked();
            let read = left.pop().unwrap_or_default();
            let parts = if is_whole { Vec::new() } else { read.split(self.answer.births()) };
            let crowded = !is_whole && parts.is_empty();
            left.extend(if crowded { vec![read] } else { parts });
            if crowded {
                self.left.push(Part::Born { span, left });
                return Err(Stuck::Crowded);
            }
        }
        let through = if left.is_empty() { self.reach(span.end()) } else { None };
        if !left.is_empty() {
            self.left.push(Part::Born { span, left });
        }
        Ok(Closed { through, follow: linked_on, settled: !linked_on })
    }

    /// Whether the answer is the first to show that the order asked for is not
    /// kept, and pages before it were taken on trust.
    fn order_was_ignored(&mut self, span: Window) -> bool {
        let ignored = self.believes_order && self.answer.broke_its_order();
        self.believes_order &= !ignored;
        ignored && span.start() > self.window.start()
    }

    fn close_span(&mut self, span: Window, is_whole: bool, linked_on: bool) -> Option<Timestamp> {
        if is_whole {
            return self.reach(span.end());
        }
        match self.answer.sorted(span).filter(|_| self.believes_order) {
            Some((_, last)) if self.answer.rises_beyond_chance() => {
                self.left.extend(span.from(last).map(Part::Span));
                return self.reach(last);
            }
            _ if linked_on => self.left.push(Part::Span(span)),
            Some((first, last)) if first == last => {
                self.left.extend(span.from(last.next_tick()).map(Part::Span));
                self.left.extend(self.tick(last));
                self.left.extend(Window::new(span.start(), last).map(Part::Span));
            }
            Some((_, last)) => {
                self.left.extend(span.from(last).map(Part::Span));
                self.left.extend(Window::new(span.start(), last).map(Part::Span));
            }
            None => match span.halves() {
                Some((early, late)) => {
                    self.half = Some(early);
                    self.left.extend([Part::Span(late), Part::Span(early)]);
                }
                None => self.left.extend(self.tick(span.start())),
            },
        }
        None
    }

    /// How little had to be asked for at once, where alerts come in no order.
    pub(super) fn half(&self) -> Option<Duration> {
        self.half.map(|half| half.end().since(half.start()))
    }

    /// Whether pages in order are still believed to be sorted.
    pub(super) fn believes_order(&self) -> bool {
        self.believes_order
    }

    fn tick(&self, at: Timestamp) -> Option<Part> {
        let span = Window::new(at, at.next_tick())?;
        Some(match self.ties {
            Ties::Counted => Part::Tick { span, skip: 0, anchor: None },
            Ties::ByCreation { .. } => Part::Born { span, left: vec![Created::default()] },
        })
    }

    fn reach(&mut self, to: Timestamp) -> Option<Timestamp> {
        if to <= self.through {
            return None;
        }
        self.through = to;
        self.seen = self.seen.split_off(&(to, Box::from("")));
        Some(to)
    }
}

#[cfg(test)]
#[path = "paging_tests.rs"]
mod tests;
