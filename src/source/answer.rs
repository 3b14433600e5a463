//! What one answer shows of the order it came in.

use crate::domain::timestamp::Timestamp;
use crate::domain::window::Window;

/// Times an answer must have risen to count as sorted. Alerts changed in bulk
/// share a few times, and any order of those looks sorted easily.
const RISES: u32 = 8;

/// What an answer's order proves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Order {
    /// Ascending, all with times: if the order asked for is
    /// kept, this is the beginning of the span.
    Ascending,
    /// Something in it has no place in the span's order.
    Unclear,
    /// Two alerts of the span stood in the wrong order: it is not kept.
    Broken,
}

/// One answer, as far as it has arrived: one page, or several joined by links.
#[derive(Debug)]
pub(super) struct Answer {
    asked: Window,
    top: u64,
    ordered: bool,
    linked: bool,
    count: u64,
    order: Order,
    /// How often a time was later than the one before it.
    rises: u32,
    /// Time of the first alert that lies in the span.
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    first_id: Option<Box<str>>,
    last_id: Option<Box<str>>,
    /// Creation times, in a tick that is told apart by them.
    births: Vec<Timestamp>,
}

fn holds(span: Window, at: Timestamp) -> bool {
    span.start() <= at && at < span.end()
}

impl Answer {
    /// None of it yet. `top` alerts of `asked` are wanted, sorted if `ordered`.
    pub(super) fn new(asked: Window, top: u32, ordered: bool) -> Self {
        Self {
            asked,
            top: u64::from(top),
            ordered,
            linked: false,
            count: 0,
            order: Order::Ascending,
            rises: 0,
            first: None,
            last: None,
            first_id: None,
            last_id: None,
            births: Vec::new(),
        }
    }

    /// Alerts so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The first alert's id, in a tick.
    pub(super) fn first_id(&self) -> Option<&str> {
        self.first_id.as_deref()
    }

    /// The alert that the next page of a tick is to begin with.
    pub(super) fn anchor(&mut self) -> Option<Box<str>> {
        self.last_id.take().filter(|_| self.count > 1)
    }

    /// Whether the answer, if it ends with this page, holds all that was asked
    /// for.
    pub(super) fn is_whole(&self) -> bool {
        // Followed links that gave more than `$top` have given everything.
        self.count < self.top || self.linked && self.count > self.top
    }

    /// Its next page comes by a link.
    pub(super) fn goes_on(&mut self) {
        self.linked = true;
    }

    /// Whether pages of it came by a link.
    pub(super) fn was_linked(&self) -> bool {
        self.linked
    }

    /// Whether it shows that the order asked for is not kept.
    pub(super) fn broke_its_order(&self) -> bool {
        self.ordered && self.order == Order::Broken
    }

    /// Whether it is sorted for a reason.
    pub(super) fn rises_beyond_chance(&self) -> bool {
        self.rises >= RISES
    }

    /// Takes note of the next alert of a tick.
    pub(super) fn note_in_tick(&mut self, id: Option<&str>) {
        self.count += 1;
        self.last_id = id.map(Box::from);
        if self.count == 1 {
            self.first_id.clone_from(&self.last_id);
        }
    }

    /// Takes note of the next alert of a tick that is told apart by creation.
    pub(super) fn note_birth(&mut self, at: Option<Timestamp>) {
        self.count += 1;
        self.births.extend(at);
    }

    /// When its alerts were created.
    pub(super) fn births(&self) -> &[Timestamp] {
        &self.births
    }

    /// Takes note of the next alert, of the span or not.
    pub(super) fn note(&mut self, at: Option<Timestamp>) {
        let span = self.asked;
        self.count += 1;
        let Some(at) = at else {
            self.find(Order::Unclear);
            return;
        };
        match self.last.replace(at) {
            Some(before) if at < before => {
                let both = holds(span, at) && holds(span, before);
                self.find(if both { Order::Broken } else { Order::Unclear });
            }
            Some(before) if before < at && holds(span, before) => self.rises += 1,
            _ => {}
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

    /// First and last time, if the answer may be the beginning of the span;
    /// `left` is what is left of it.
    pub(super) fn sorted(&self, left: Window) -> Option<(Timestamp, Timestamp)> {
        let (first, last) = self.first.zip(self.last)?;
        let sorted = self.ordered && self.order == Order::Ascending;
        (sorted && holds(left, last)).then_some((first, last))
    }
}
