//! What to ask for next, so that a window is read whole.
//!
//! Pages are asked for in order of update time, and the next one begins at the
//! time the last one ended with. Nothing documents that Defender keeps that
//! order, so a full page is taken for the beginning of its span only if it is
//! in order. If it is not, the span is halved until its parts fit a page each:
//! a page that is not full is complete whatever its order. More alerts of one
//! and the same 100 ns than fit a page are counted through with `$skip`.

use std::collections::BTreeSet;

use crate::domain::alert::Alert;
use crate::domain::timestamp::Timestamp;
use crate::domain::window::Window;

/// The first page of an answer to ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ask {
    /// Update times.
    pub span: Window,
    /// Alerts to pass over, within one tick only.
    pub skip: u64,
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
}

/// Pages of one tick overlap by one alert; this one was another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Shifted;

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
}

/// What an answer's order proves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Order {
    /// Ascending, all with times, none past the span: if the order asked for is
    /// kept, this is the beginning of the span.
    #[default]
    Ascending,
    /// Something in it has no place in the span's order.
    Unclear,
    /// Two alerts of the span stood in the wrong order: it is not kept.
    Broken,
}

/// One answer, as far as it has arrived: one page, or several joined by links.
#[derive(Debug, Default)]
struct Answer {
    top: u64,
    ordered: bool,
    linked: bool,
    count: u64,
    order: Order,
    /// Time of the first alert that lies in the span.
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    first_id: Option<Box<str>>,
    last_id: Option<Box<str>>,
}

/// How far a window has been read.
#[derive(Debug)]
pub(super) struct Paging {
    window: Window,
    /// What is still to be read, the earliest last.
    left: Vec<Part>,
    /// All before this has been yielded.
    through: Timestamp,
    /// Whether pages in order are believed to be sorted.
    believes_order: bool,
    /// What has been yielded from `through` on.
    seen: BTreeSet<(Timestamp, Box<str>)>,
    answer: Answer,
}

fn holds(span: Window, at: Timestamp) -> bool {
    span.start() <= at && at < span.end()
}

impl Paging {
    pub(super) fn new(window: Window) -> Self {
        Self {
            window,
            left: vec![Part::Span(window)],
            through: window.start(),
            believes_order: true,
            seen: BTreeSet::new(),
            answer: Answer::default(),
        }
    }

    /// Begins a new answer; one that broke is forgotten, what it yielded is
    /// not. `None` once the window is read.
    pub(super) fn ask(&mut self, top: u32, ordered: bool) -> Option<Ask> {
        self.answer = Answer { top: u64::from(top), ordered, ..Answer::default() };
        match *self.left.last()? {
            Part::Span(span) => Some(Ask { span, skip: 0, top, ordered }),
            Part::Tick { span, skip, .. } => Some(Ask { span, skip, top, ordered }),
        }
    }

    /// Takes note of the answer's next alert and says whether it is to be
    /// yielded. One without time or id always is: it may be the only copy.
    pub(super) fn note(&mut self, alert: &Alert) -> bool {
        let (at, id) = (alert.last_update().ok(), alert.id().ok());
        match self.left.last() {
            Some(Part::Span(span)) => self.answer.note(*span, at),
            Some(Part::Tick { .. }) => self.answer.note_in_tick(id.as_deref()),
            None => {}
        }
        match (at, id) {
            (Some(at), Some(id)) => self.seen.insert((at, id.as_ref().into())),
            _ => true,
        }
    }

    /// Ends a page; `linked_on` if it names a next one.
    ///
    /// # Errors
    ///
    /// [`Shifted`] if pages of one tick do not fit together; the tick is to be
    /// read again.
    pub(super) fn close(&mut self, linked_on: bool) -> Result<Closed, Shifted> {
        let (top, count) = (self.answer.top, self.answer.count);
        // Followed links that gave more than `$top` have given everything.
        let is_whole = !linked_on && (count < top || self.answer.linked && count > top);
        self.answer.linked |= linked_on;
        match self.left.pop() {
            None => Ok(Closed { through: None, follow: false }),
            Some(Part::Span(span)) if self.order_was_ignored(span) => {
                // What came before this span was taken on trust.
                self.left = vec![Part::Span(self.window)];
                Ok(Closed { through: None, follow: false })
            }
            Some(Part::Span(span)) => {
                let through = self.close_span(span, is_whole, linked_on);
                Ok(Closed { through, follow: linked_on })
            }
            Some(Part::Tick { span, skip, anchor }) => {
                if anchor.is_some() && anchor != self.answer.first_id {
                    self.left.push(Part::Tick { span, skip: 0, anchor: None });
                    return Err(Shifted);
                }
                if is_whole {
                    return Ok(Closed { through: self.reach(span.end()), follow: false });
                }
                self.left.push(if linked_on {
                    Part::Tick { span, skip, anchor }
                } else {
                    let anchor = self.answer.last_id.take().filter(|_| count > 1);
                    let skip = skip + count - u64::from(anchor.is_some());
                    Part::Tick { span, skip, anchor }
                });
                Ok(Closed { through: None, follow: linked_on })
            }
        }
    }

    /// Whether the answer is the first to show that the order asked for is not
    /// kept, and pages before it were taken on trust.
    fn order_was_ignored(&mut self, span: Window) -> bool {
        let ignored =
            self.believes_order && self.answer.ordered && self.answer.order == Order::Broken;
        self.believes_order &= !ignored;
        ignored && span.start() > self.window.start()
    }

    fn close_span(&mut self, span: Window, is_whole: bool, linked_on: bool) -> Option<Timestamp> {
        if is_whole {
            return self.reach(span.end());
        }
        match self.answer.sorted_up_to(span).filter(|_| self.believes_order) {
            Some((first, last)) => {
                let rest = if !linked_on && first == last { last.next_tick() } else { last };
                self.left.extend(span.from(rest).map(Part::Span));
                if rest > last {
                    self.left.extend(tick(last));
                }
                self.reach(last)
            }
            None if linked_on => {
                self.left.push(Part::Span(span));
                None
            }
            None => {
                match span.halves() {
                    Some((early, late)) => {
                        self.left.extend([Part::Span(late), Part::Span(early)]);
                    }
                    None => self.left.extend(tick(span.start())),
                }
                None
            }
        }
    }

    /// Whether pages in order are still believed to be sorted.
    pub(super) fn believes_order(&self) -> bool {
        self.believes_order
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

fn tick(at: Timestamp) -> Option<Part> {
    let span = Window::new(at, at.next_tick())?;
    Some(Part::Tick { span, skip: 0, anchor: None })
}

impl Answer {
    fn note_in_tick(&mut self, id: Option<&str>) {
        self.count += 1;
        self.last_id = id.map(Box::from);
        if self.count == 1 {
            self.first_id.clone_from(&self.last_id);
        }
    }

    fn note(&mut self, span: Window, at: Option<Timestamp>) {
        self.count += 1;
        let Some(at) = at else {
            self.find(Order::Unclear);
            return;
        };
        if let Some(before) = self.last.replace(at).filter(|before| at < *before) {
            let both = holds(span, at) && holds(span, before);
            self.find(if both { Order::Broken } else { Order::Unclear });
        }
        if at >= span.end() {
            self.find(Order::Unclear);
        }
        if holds(span, at) {
            self.first = self.first.or(Some(at));
        }
    }

    fn find(&mut self, order: Order) {
        if self.order != Order::Broken {
            self.order = order;
        }
    }

    /// First and last time of the span's alerts that are all here up to the
    /// last; `None` if that is not known.
    fn sorted_up_to(&self, span: Window) -> Option<(Timestamp, Timestamp)> {
        let (first, last) = self.first.zip(self.last)?;
        let sorted = self.ordered && self.order == Order::Ascending;
        (sorted && holds(span, last)).then_some((first, last))
    }
}
