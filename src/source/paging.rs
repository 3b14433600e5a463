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
            (Some(at), Some(id)) => self.seen.insert((at, id.as_ref().into())),
            _ => true,
        }
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
                Some((early, late)) => self.left.extend([Part::Span(late), Part::Span(early)]),
                None => self.left.extend(self.tick(span.start())),
            },
        }
        None
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
mod tests {
    use std::cmp::Reverse;
    use std::collections::HashSet;
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn at(tick: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_795_000_000) + Duration::from_nanos(tick * 100)
    }

    fn alert(tick: u64, id: usize) -> Alert {
        let json = format!(
            r#"{{"id":"{id}","lastUpdateTime":"{}","alertCreationTime":"{}"}}"#,
            at(tick),
            born(id)
        );
        Alert::parse(Bytes::from(json)).expect("an object")
    }

    /// Many alerts were created at once, a few of them after their update.
    fn born(id: usize) -> Timestamp {
        at(u64::try_from((id * 31) % 97).unwrap() * 1_000)
    }

    /// A server that sorts by what is asked for, or by something else.
    #[derive(Clone, Copy, Debug)]
    enum Sorts {
        AsAsked,
        NewestFirst,
        Jumbled,
    }

    struct Server {
        /// Update times by id.
        alerts: Vec<u64>,
        sorts: Sorts,
        /// Alerts in one linked page, where pages are linked.
        cap: Option<usize>,
        ties: Ties,
        /// Links followed before one is refused.
        links: usize,
    }

    impl Server {
        /// The whole answer, page by page.
        fn answer(&self, ask: &Ask) -> Vec<Vec<(u64, usize)>> {
            let found = self.alerts.iter().copied().zip(0..);
            let mut found: Vec<(u64, usize)> = found
                .filter(|(tick, _)| ask.span.start() <= at(*tick) && at(*tick) < ask.span.end())
                .filter(|(_, id)| ask.created.holds(born(*id)))
                .collect();
            let jumbled = |id: usize| (id * 7_919) % 104_729;
            match self.sorts {
                Sorts::AsAsked if ask.ordered => {
                    found.sort_by_key(|(tick, id)| (*tick, jumbled(*id)));
                }
                Sorts::NewestFirst => {
                    found.sort_by_key(|(tick, id)| (Reverse(*tick), jumbled(*id)));
                }
                Sorts::AsAsked | Sorts::Jumbled => found.sort_by_key(|(_, id)| jumbled(*id)),
            }
            let skip = usize::try_from(ask.skip).unwrap();
            let top = usize::try_from(ask.top).unwrap();
            let found: Vec<_> = found.into_iter().skip(skip).take(top).collect();
            match self.cap {
                Some(cap) if !found.is_empty() => found.chunks(cap).map(<[_]>::to_vec).collect(),
                _ => vec![found],
            }
        }
    }

    const CALM: Server = Server {
        alerts: Vec::new(),
        sorts: Sorts::AsAsked,
        cap: None,
        ties: Ties::Counted,
        links: usize::MAX,
    };

    struct Read {
        calls: usize,
        repeats: usize,
    }

    /// Reads all of it, breaking pages where told, and checks every mark.
    fn read(server: &Server, top: u32, ordered: bool, breaks: &[Option<usize>]) -> Read {
        let end = server.alerts.iter().max().copied().unwrap_or(0) + 5;
        let mut paging = Paging::new(Window::new(at(0), at(end)).unwrap(), server.ties);
        let mut breaks = breaks.iter().copied();
        let mut yielded = HashSet::new();
        let mut mark = at(0);
        let (mut calls, mut repeats) = (0, 0);
        while let Some(ask) = paging.ask(top, ordered) {
            let pages = server.answer(&ask);
            for (number, page) in pages.iter().enumerate() {
                calls += 1;
                assert!(calls < 200_000, "no end in sight");
                if number > server.links {
                    paging.stop_following();
                    break;
                }
                let broken = breaks.next().flatten().filter(|after| *after < page.len());
                for (tick, id) in page.iter().take(broken.unwrap_or(usize::MAX)) {
                    if paging.note(&alert(*tick, *id)) && !yielded.insert(*id) {
                        repeats += 1;
                    }
                }
                if broken.is_some() {
                    break;
                }
                let closed = paging.close(number + 1 < pages.len()).expect("a still server");
                if let Some(through) = closed.through {
                    assert!(through > mark, "marks only move on");
                    mark = through;
                    for (tick, id) in server.alerts.iter().zip(0..) {
                        assert!(at(*tick) >= mark || yielded.contains(&id), "mark ran ahead");
                    }
                }
                if !closed.follow {
                    break;
                }
            }
        }
        assert_eq!(mark, at(end), "the last mark is the window's end");
        assert_eq!(yielded.len(), server.alerts.len());
        Read { calls, repeats }
    }

    fn any_alerts() -> impl Strategy<Value = Vec<u64>> {
        // From all at one time to hardly two at one.
        (1_u64..5_000).prop_flat_map(|range| prop::collection::vec(0..range, 0..400))
    }

    #[test]
    fn a_quiet_window_takes_one_call_and_a_sorted_one_a_call_a_page() {
        let server = |alerts| Server { alerts, ..CALM };
        assert_eq!(read(&server(vec![]), 50, true, &[]).calls, 1);
        assert_eq!(read(&server((0..49).collect()), 50, true, &[]).calls, 1);
        // Every page begins with the alert the last one ended with.
        let read = read(&server((0..4_901).collect()), 50, true, &[]);
        assert_eq!((read.calls, read.repeats), (101, 0));
    }

    #[test]
    fn many_alerts_of_one_time_newest_first_are_no_proof_of_order() {
        let mut alerts = vec![900; 60];
        alerts.extend(0..40);
        read(&Server { alerts, sorts: Sorts::NewestFirst, ..CALM }, 50, true, &[]);
    }

    #[test]
    fn a_tick_whose_pages_do_not_fit_together_is_read_again() {
        let mut paging = Paging::new(Window::new(at(0), at(1)).unwrap(), Ties::Counted);
        let page = |paging: &mut Paging, ids: &[usize]| {
            let ask = paging.ask(2, true).unwrap();
            for id in ids {
                paging.note(&alert(0, *id));
            }
            (ask.skip, paging.close(false))
        };
        assert_eq!(page(&mut paging, &[1, 2]).0, 0);
        assert_eq!(page(&mut paging, &[1, 2]).0, 0);
        // 1 has gone elsewhere: 3 would be passed over.
        assert_eq!(page(&mut paging, &[4, 5]), (1, Err(Stuck::Shifted)));
        assert_eq!(page(&mut paging, &[2, 3]).0, 0);
        assert_eq!(page(&mut paging, &[3, 4]).0, 1);
        // So does an end that comes before the alert expected.
        assert_eq!(page(&mut paging, &[]), (2, Err(Stuck::Shifted)));
        let (_, closed) = page(&mut paging, &[2]);
        assert_eq!(closed.unwrap().through, Some(at(1)));
    }

    #[test]
    fn a_tick_told_apart_by_creation_is_left_only_when_all_of_it_was_read() {
        let mut paging =
            Paging::new(Window::new(at(0), at(1)).unwrap(), Ties::ByCreation { largest: 2 });
        let mut page = |ids: &[usize]| {
            let ask = paging.ask(2, true).unwrap();
            for id in ids {
                paging.note(&alert(0, *id));
            }
            (ask.skip, ask.created, paging.close(false))
        };
        let created = |from: Option<usize>, before: Option<usize>| Created {
            from: from.map(born),
            before: before.map(born),
        };
        // Created at 0, 31,000, 62,000 and, number 97, at 0 again.
        let (_, all, closed) = page(&[1, 2]);
        assert_eq!((all, closed.unwrap().through), (Created::default(), None));
        assert_eq!(page(&[1, 2]).1, Created::default(), "the tick itself, once more");
        let (skip, first, closed) = page(&[0, 1]);
        assert_eq!((skip, first), (0, created(None, Some(2))));
        assert_eq!(closed.unwrap().through, None);
        assert_eq!(page(&[0, 97]).1, created(None, Some(1)));
        // Both at one time: nothing before it, both at it, nothing after it.
        assert_eq!(page(&[]).1, created(None, Some(0)));
        let (_, crowded, closed) = page(&[0, 97]);
        assert_eq!(crowded, Created { from: Some(born(0)), before: Some(born(0).next_tick()) });
        assert_eq!(closed, Err(Stuck::Crowded));
        // Should one of them go elsewhere, it can be read.
        assert_eq!(page(&[0]).2.unwrap().through, None);
        let after = Created { from: Some(born(0).next_tick()), before: Some(born(1)) };
        assert_eq!(page(&[]).1, after);
        assert_eq!(page(&[1]).1, created(Some(1), Some(2)));
        let (_, last, closed) = page(&[2]);
        assert_eq!((last, closed.unwrap().through), (created(Some(2), None), Some(at(1))));
    }

    #[test]
    fn a_stray_alert_is_yielded_and_moves_nothing() {
        let mut paging = Paging::new(Window::new(at(100), at(200)).unwrap(), Ties::Counted);
        paging.ask(10, true).unwrap();
        for tick in [50, 101, 102, 103, 104, 105, 106, 107, 108, 900] {
            assert!(paging.note(&alert(tick, usize::try_from(tick).unwrap())));
        }
        let closed = paging.close(false).unwrap();
        assert_eq!(closed.through, None, "the page may be anything");
        assert_eq!(paging.ask(10, true).unwrap().span, Window::new(at(100), at(150)).unwrap());
    }

    #[test]
    fn an_alert_without_time_leaves_unknown_where_a_full_page_ends() {
        let mut paging = Paging::new(Window::new(at(0), at(200)).unwrap(), Ties::Counted);
        paging.ask(10, true).unwrap();
        for tick in 1..10 {
            paging.note(&alert(tick, usize::try_from(tick).unwrap()));
        }
        let timeless = || Alert::parse(Bytes::from_static(b"{\"id\":\"x\"}")).unwrap();
        assert!(paging.note(&timeless()));
        assert!(paging.note(&timeless()), "it may be the only copy");
        assert_eq!(paging.close(false).unwrap().through, None);
    }

    #[test]
    fn pages_taken_on_trust_are_read_again_once_the_order_proves_ignored() {
        let mut paging = Paging::new(Window::new(at(0), at(100)).unwrap(), Ties::Counted);
        let mut page = |ticks: &[u64]| {
            let span = paging.ask(10, true).unwrap().span;
            for tick in ticks {
                paging.note(&alert(*tick, usize::try_from(*tick).unwrap()));
            }
            (span.start(), paging.close(false).unwrap().through)
        };
        assert_eq!(page(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 40]), (at(0), Some(at(40))));
        assert_eq!(page(&[50, 45]), (at(40), None));
        assert_eq!(page(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 40]), (at(0), None));
        assert_eq!(page(&[30, 20]), (at(0), Some(at(50))));
    }

    proptest! {
        #[test]
        fn a_window_is_read_whole_whatever_the_page_size(alerts in any_alerts(), top in 1_u32..60) {
            let server = Server { alerts, ..CALM };
            prop_assert_eq!(read(&server, top, true, &[]).repeats, 0);
        }

        #[test]
        fn a_window_is_read_whole_where_the_order_is_ignored(
            alerts in any_alerts(),
            top in 1_u32..60,
            newest_first: bool,
            ordered: bool,
        ) {
            // Of a jumble of few alerts, chance makes a sorted page.
            let sorts = if newest_first || top < 12 { Sorts::NewestFirst } else { Sorts::Jumbled };
            let server = Server { alerts, sorts, ..CALM };
            prop_assert_eq!(read(&server, top, ordered, &[]).repeats, 0);
        }

        #[test]
        fn a_window_is_read_whole_where_pages_are_linked(
            alerts in any_alerts(),
            top in 1_u32..60,
            cap in 1_usize..20,
            newest_first: bool,
        ) {
            let sorts = if newest_first { Sorts::NewestFirst } else { Sorts::AsAsked };
            prop_assert_eq!(read(&Server { alerts, sorts, cap: Some(cap), ..CALM }, top, true, &[]).repeats, 0);
        }

        #[test]
        fn a_window_is_read_whole_where_links_are_refused_and_ties_told_apart_by_creation(
            alerts in any_alerts(),
            top in 8_u32..60,
            cap in prop::option::of(1_usize..20),
            links in 0_usize..4,
            newest_first: bool,
            breaks in prop::collection::vec(prop::option::of(0_usize..30), 0..20),
        ) {
            let sorts = if newest_first { Sorts::NewestFirst } else { Sorts::AsAsked };
            let server = Server { alerts, sorts, cap, ties: Ties::ByCreation { largest: 1_000 }, links };
            read(&server, top, true, &breaks);
        }

        #[test]
        fn a_window_is_read_whole_where_pages_break(
            alerts in any_alerts(),
            top in 1_u32..60,
            newest_first: bool,
            cap in prop::option::of(1_usize..20),
            breaks in prop::collection::vec(prop::option::of(0_usize..30), 0..60),
        ) {
            let sorts = if newest_first { Sorts::NewestFirst } else { Sorts::AsAsked };
            read(&Server { alerts, sorts, cap, ..CALM }, top, true, &breaks);
        }
    }
}
