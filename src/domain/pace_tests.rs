use super::*;

/// Seconds after a firing of a timer with a period of five minutes.
fn slot(since: u64) -> Slot {
    let five = Duration::from_mins(5);
    Slot { since: Duration::from_secs(since), length: five, before: five }
}

fn at(minute: u64) -> Timestamp {
    Timestamp::from_unix_seconds(1_795_000_000) + Duration::from_mins(minute)
}

fn asks(pace: &Pace, budget: &Budget, minute: u64) -> bool {
    matches!(pace.turn(budget, Some(slot(0)), at(minute)), Turn::Ask(_))
}

fn manner(pace: &Pace, budget: &Budget, minute: u64) -> Manner {
    match pace.turn(budget, Some(slot(0)), at(minute)) {
        Turn::Ask(manner) => manner,
        Turn::Later(later) => panic!("{later:?}"),
    }
}

/// The minutes of an hour, from `from` on, at which a trust asks that finds
/// `found` each time, with one call each.
fn asked(pace: &mut Pace, budget: &mut Budget, from: u64, found: Found) -> Vec<u64> {
    let mut asked = Vec::new();
    for minute in (from..from + 60).step_by(5) {
        if asks(pace, budget, minute) && budget.spend(at(minute)).is_ok() {
            pace.ask(at(minute));
            pace.found(found, at(minute));
            asked.push(minute);
        }
    }
    asked
}

#[test]
fn the_period_takes_two_thirds_of_the_share() {
    for (share, period) in
        [(120, 5), (37, 5), (18, 5), (17, 10), (9, 10), (8, 15), (6, 15), (5, 20), (3, 30), (1, 60)]
    {
        let pace = Pace::default();
        assert_eq!(pace.period(&Budget::new(share), Some(slot(0))), period, "{share}");
        let mut budget = Budget::new(share);
        let calls = asked(&mut pace.clone(), &mut budget, 0, Found::Everything).len();
        assert_eq!(calls, usize::try_from(60 / period).unwrap(), "{share}");
    }
}

#[test]
fn a_timer_slower_than_the_period_is_never_told_to_wait() {
    let half = Duration::from_mins(30);
    let slow = Some(Slot { since: Duration::ZERO, length: half, before: half });
    let mut pace = Pace::default();
    pace.ask(at(0));
    pace.found(Found::Everything, at(0));
    assert!(matches!(pace.turn(&Budget::new(6), slow, at(30)), Turn::Ask(_)));
}

#[test]
fn the_last_firing_before_a_pause_and_the_first_after_it_are_firings_like_others() {
    let (five, night) = (Duration::from_mins(5), Duration::from_mins(14 * 60 + 5));
    let mut pace = Pace::default();
    pace.ask(at(0));
    pace.found(Found::Everything, at(0));
    let last = Some(Slot { since: Duration::ZERO, length: night, before: five });
    let budget = Budget::new(120);
    assert!(matches!(pace.turn(&budget, last, at(5)), Turn::Ask(_)));
    assert_eq!(pace.period(&budget, last), 5);
    let first = Some(Slot { since: Duration::ZERO, length: five, before: night });
    assert_eq!(pace.period(&budget, first), 5);
}

#[test]
fn a_failure_and_a_refusal_of_the_future_count_as_of_now() {
    let (mut pace, budget) = (Pace::default(), Budget::new(120));
    pace.refused(&budget, Some(slot(0)), at(10_000));
    pace.found(Found::Failing, at(10_000));
    pace.no_later_than(at(10));
    assert_eq!(pace.failed_at, Some(at(10)));
    let forced = pace.forced.unwrap();
    assert_eq!((forced.since, forced.refused_at), (at(10), at(10)));
    pace.no_later_than(at(20));
    assert_eq!(pace.failed_at, Some(at(10)), "what is past stays");
}

#[test]
fn whoever_runs_it_by_hand_is_not_told_to_wait_while_calls_are_plenty() {
    let mut pace = Pace::default();
    pace.ask(at(0));
    pace.found(Found::Everything, at(0));
    assert!(matches!(pace.turn(&Budget::new(120), None, at(0)), Turn::Ask(_)));
    assert!(matches!(pace.turn(&Budget::new(6), None, at(0)), Turn::Later(_)));
}

#[test]
fn in_an_outage_it_asks_every_ten_minutes_with_one_call() {
    let (mut pace, mut budget) = (Pace::default(), Budget::new(6));
    asked(&mut pace, &mut budget, 0, Found::Everything);
    assert!(!manner(&pace, &budget, 60).patient);
    let failing = asked(&mut pace, &mut budget, 60, Found::Failing);
    assert_eq!(failing, [60, 70, 80, 90, 100, 110]);
    // The call of an hour ago is free ten seconds later; the run waits so long.
    let spent = budget.spend(at(120)).unwrap_err();
    assert!(spent.free_in <= Duration::from_secs(10), "{spent:?}");
    let plenty = Budget::new(120);
    assert!(manner(&Pace::default(), &plenty, 0).patient);
    assert!(!manner(&pace, &plenty, 120).patient, "it has failed just now");
}

#[test]
fn a_backlog_gets_what_the_ordinary_turns_leave() {
    let (mut pace, mut budget) = (Pace::default(), Budget::new(6));
    assert_eq!(manner(&pace, &budget, 0).calls, 1);
    let behind = asked(&mut pace, &mut budget, 0, Found::More);
    assert_eq!(behind, [0, 5, 15, 25, 35, 45]);
    let plenty = Budget::new(120);
    assert_eq!(manner(&Pace::default(), &plenty, 0).calls, 108);
    assert!(manner(&pace, &budget, 60).large_pages);
}

#[test]
fn a_spent_hour_makes_the_period_longer_at_once_and_shorter_after_days() {
    let (mut pace, budget) = (Pace::default(), Budget::new(120));
    let day = 24 * 60;
    pace.refused(&budget, Some(slot(0)), at(0));
    assert_eq!(pace.period(&budget, Some(slot(0))), 15);
    pace.refused(&budget, Some(slot(0)), at(59));
    assert_eq!(pace.period(&budget, Some(slot(0))), 15, "the same hour's calls");
    pace.refused(&budget, Some(slot(0)), at(60));
    assert_eq!(pace.period(&budget, Some(slot(0))), 30);
    for (minute, period) in [(60 + 2 * day - 1, 30), (60 + 2 * day, 20)] {
        pace.ask(at(minute));
        assert_eq!(pace.period(&budget, Some(slot(0))), period, "after {minute} minutes");
    }
    // Refused again: longer, and each time it holds twice as long.
    let again = 60 + 2 * day + 90;
    pace.refused(&budget, Some(slot(0)), at(again));
    assert_eq!(pace.period(&budget, Some(slot(0))), 60);
    pace.ask(at(again + 4 * day - 1));
    assert_eq!(pace.period(&budget, Some(slot(0))), 60);
    pace.ask(at(again + 4 * day));
    assert_eq!(pace.period(&budget, Some(slot(0))), 30);
}

#[test]
fn after_an_hour_a_refusal_limits_the_calls_of_each_hour() {
    let (mut pace, mut budget) = (Pace::default(), Budget::new(120));
    pace.refused(&budget, Some(slot(0)), at(0));
    let first = asked(&mut pace, &mut budget, 0, Found::More);
    assert_eq!(first, [0, 5, 15, 25, 35, 45, 55], "the period alone");
    let later = asked(&mut pace, &mut budget, 60, Found::More);
    assert_eq!(later, [70, 80, 90, 100, 110], "never more than six in any hour");
}

#[test]
fn a_spent_hour_is_not_asked_after_at_once() {
    let (mut pace, budget) = (Pace::default(), Budget::new(120));
    pace.ask(at(0));
    pace.refused(&budget, Some(slot(0)), at(0));
    pace.found(Found::Spent, at(0));
    assert!(!asks(&pace, &budget, 5) && !asks(&pace, &budget, 10) && asks(&pace, &budget, 15));
    pace.found(Found::Throttled, at(0));
    assert!(asks(&pace, &budget, 5), "a minute's calls are back by then");
}

#[test]
fn calls_that_an_outage_used_up_say_nothing_about_the_fleet() {
    let (mut pace, budget) = (Pace::default(), Budget::new(120));
    pace.ask(at(0));
    pace.found(Found::Failing, at(0));
    pace.refused(&budget, Some(slot(0)), at(74));
    assert_eq!(pace.period(&budget, Some(slot(0))), 5);
    pace.refused(&budget, Some(slot(0)), at(75));
    assert_eq!(pace.period(&budget, Some(slot(0))), 15);
}

#[test]
fn a_late_run_waits_for_the_trusts_own_second_once() {
    let (mut pace, budget) = (Pace::default(), Budget::new(6));
    pace.ask(at(0));
    pace.found(Found::Everything, at(0));
    let late = at(47);
    let Turn::Later(later) = pace.turn(&budget, Some(slot(120)), late) else { panic!("it asks") };
    assert!(later.own_slot);
    assert_eq!(later.at, late + Duration::from_mins(3));
    assert!(matches!(pace.turn(&budget, Some(slot(30)), late), Turn::Ask(_)), "its own second");
    assert!(matches!(pace.turn(&budget, None, late), Turn::Ask(_)), "none is known");
    pace.wait();
    assert!(matches!(pace.turn(&budget, Some(slot(120)), late), Turn::Ask(_)), "not twice");
    pace.ask(late);
    pace.found(Found::Everything, late);
    let waits = |minute| matches!(pace.turn(&budget, Some(slot(120)), at(minute)), Turn::Later(_));
    // Late by less than half a timer's period is on time.
    assert!(waits(59) && !waits(60) && !waits(64) && waits(65));
}

#[test]
fn a_clock_set_back_holds_nobody_up() {
    let mut pace = Pace::default();
    pace.ask(at(1_000));
    pace.found(Found::Everything, at(1_000));
    assert!(asks(&pace, &Budget::new(6), 0));
}

#[test]
fn the_stored_form_is_stable() {
    let mut pace = Pace::default();
    pace.refused(&Budget::new(120), Some(slot(0)), at(0));
    pace.ask(at(1));
    pace.found(Found::Failing, at(2));
    let stored = r#"{"asked":{"at":"2026-11-18T11:07:40Z","found":"failing"},"forced":{"minutes":15,"since":"2026-11-18T11:06:40Z","refused_at":"2026-11-18T11:06:40Z","hold_days":1},"failed_at":"2026-11-18T11:08:40Z","waited":false}"#;
    assert_eq!(serde_json::to_string(&pace).unwrap(), stored);
    assert_eq!(serde_json::from_str::<Pace>(stored).unwrap(), pace);
}

#[test]
fn an_hour_that_was_not_enough_is_followed_by_a_whole_one() {
    let (mut pace, mut budget) = (Pace::default(), Budget::new(6));
    for minute in [0, 5] {
        assert_eq!(manner(&pace, &budget, minute).calls, 1);
        budget.spend(at(minute)).unwrap();
        pace.ask(at(minute));
        pace.found(Found::More, at(minute));
    }
    pace.starve();
    let asks: Vec<_> = (10..120).step_by(5).filter(|it| asks(&pace, &budget, *it)).collect();
    assert_eq!(asks[0], 70, "the call of five minutes past has left the hour");
    assert_eq!(manner(&pace, &budget, 70).unfinished, 6);
    // Others who call beside it do not hold it up for ever.
    let beside = (0..13).fold(Budget::new(6), |mut beside, n| {
        let _full = beside.spend(at(10 * n)).is_err();
        beside
    });
    let busy = Budget::new(6).beside(vec![beside.own().clone()]);
    let silent = |minute| !self::asks(&pace, &busy, minute);
    assert!(silent(120) && !silent(125));
    pace.ask(at(70));
    assert_eq!(pace, serde_json::from_str(&serde_json::to_string(&pace).unwrap()).unwrap());
    assert!(self::asks(&pace, &Budget::new(6), 80));
}

#[test]
fn what_brings_nothing_to_an_end_may_take_what_is_left_of_the_hour() {
    let (mut pace, mut budget) = (Pace::default(), Budget::new(120));
    assert_eq!(manner(&pace, &budget, 0).unfinished, 120);
    budget.spend(at(0)).unwrap();
    pace.refused(&budget, Some(slot(0)), at(0));
    let taught = manner(&pace, &budget, 5);
    assert_eq!((taught.calls, taught.unfinished), (1, 5), "of six an hour");
}
