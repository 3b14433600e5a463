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
        // Five at most share both times, and must fit a page.
        top in 8_u32..60,
        cap in prop::option::of(6_usize..20),
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
