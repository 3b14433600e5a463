//! A share that leaves a run one call still gets everything through, also where
//! one call alone brings nothing to an end.

use std::time::Duration;

use defender_alert_export::sandbox::clouds::GROUP;
use defender_alert_export::sandbox::defender::Orderby;
use defender_alert_export::sandbox::sample::{self, Sample};
use defender_alert_export::sandbox::script::{Fault, Seen};

use crate::world::{World, keys, minutes};

/// Runs every five minutes for so many hours; no hour has more than `share`
/// calls.
async fn hours(world: &World, count: u64, share: usize) {
    let mut calls = Vec::new();
    for _ in 0..count * 12 {
        let before = world.calls();
        world.five_minutes_later().await;
        calls.push(world.calls() - before);
        let hour: usize = calls.iter().rev().take(12).sum();
        assert!(hour <= share, "{hour} calls in an hour");
    }
}

/// So many alerts updated in the same moment.
fn at_one_time(world: &World, count: u64) -> Vec<Sample> {
    let together = world.now() - minutes(10);
    let alerts: Vec<_> = (0..count).map(|n| sample::alert(n, GROUP, together)).collect();
    world.clouds.defender.add(alerts.clone());
    alerts
}

#[tokio::test]
async fn a_server_that_takes_no_order_is_read_with_one_call_a_run() {
    let world = World::new(&[("FunctionConfigCallsPerHour", "6")]).await;
    world.clouds.defender.behave(|manners| manners.orderby = Orderby::Rejected);
    let mut expected = world.add(1..40, minutes(3));
    hours(&world, 1, 6).await;
    expected.extend(world.add(100..140, minutes(3)));
    hours(&world, 1, 6).await;
    assert_eq!(world.delivered(), keys(&expected));
    let seen = world.clouds.defender.script().seen();
    let ordered = seen.iter().filter(|Seen { target, .. }| target.contains("%24orderby"));
    assert_eq!(ordered.count(), 1, "the refusal is remembered");
}

#[tokio::test]
async fn a_refusal_that_takes_the_only_call_of_an_hour_is_remembered_in_the_next() {
    let extra = [("FunctionConfigCallsPerHour", "1"), ("FunctionConfigInitialLookbackHours", "1")];
    let world = World::new(&extra).await;
    world.clouds.defender.behave(|manners| manners.orderby = Orderby::Rejected);
    let expected = world.add(1..40, minutes(3));
    hours(&world, 3, 1).await;
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn more_alerts_of_one_time_than_fit_a_page_are_read_with_few_calls() {
    let extra = [("FunctionConfigCallsPerHour", "6"), ("FunctionConfigPageSize", "50")];
    let world = World::new(&extra).await;
    let mut expected = at_one_time(&world, 120);
    expected.extend(world.add(200..205, minutes(3)));
    hours(&world, 3, 6).await;
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn more_alerts_of_one_time_than_graph_gives_at_once_are_read_with_few_calls() {
    let extra = [("FunctionConfigCallsPerHour", "6"), ("FunctionConfigAlertSource", "Graph")];
    let world = World::new(&extra).await;
    let together = world.now() - minutes(10);
    let created = |n| together - Duration::from_millis(n % 100);
    let expected: Vec<_> = (0..1_001)
        .map(|n| Sample { created: created(n), ..sample::alert(n, GROUP, together) })
        .collect();
    world.clouds.defender.add(expected.clone());
    for _ in 0..36 {
        world.five_minutes_later().await;
    }
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn a_page_that_is_done_is_enough_for_one_run() {
    let extra = [
        ("FunctionConfigCallsPerHour", "6"),
        ("FunctionConfigPageSize", "50"),
        ("FunctionConfigInitialLookbackHours", "1"),
    ];
    let world = World::new(&extra).await;
    let expected = world.add(1..200, minutes(3));
    assert_eq!(world.run().await.counts.calls, 1);
    hours(&world, 1, 6).await;
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn what_takes_all_calls_of_an_hour_waits_until_all_are_free_and_is_read() {
    let extra = [("FunctionConfigCallsPerHour", "6"), ("FunctionConfigPageSize", "50")];
    let world = World::new(&extra).await;
    // A page that shows the tick, and five of the tick.
    let mut expected = at_one_time(&world, 220);
    hours(&world, 3, 6).await;
    assert_eq!(world.delivered(), keys(&expected));
    expected.extend(world.add(300..305, minutes(3)));
    hours(&world, 1, 6).await;
    assert_eq!(world.delivered(), keys(&expected), "and then as ever");
}

#[tokio::test]
async fn a_backlog_of_a_month_with_few_alerts_is_caught_up_within_two_hours() {
    let few = [("FunctionConfigCallsPerHour", "6")];
    let mut world = World::after_the_predecessor("2026-10-22T10:00:00.000Z").await;
    world.restart(&few);
    let mut expected: Vec<_> = (1..30)
        .map(|day| world.add(day..day + 1, Duration::from_hours(24 * day)).remove(0))
        .collect();
    expected.extend(world.add(100..105, minutes(3)));
    for _ in 0..24 {
        let before = world.calls();
        world.five_minutes_later().await;
        assert!(world.calls() - before <= 1, "one call a run, so that others have theirs");
    }
    assert_eq!(world.delivered(), keys(&expected));
    assert!(world.now().since(world.position().await) <= minutes(16));
}

#[tokio::test]
async fn what_defender_has_forgotten_is_not_asked_for_after_a_predecessor_of_long_ago() {
    let world = World::after_the_predecessor("2024-01-01T00:00:00.000Z").await;
    let expected = world.add(1..5, Duration::from_hours(24 * 179));
    let first = world.run().await;
    let earliest = world.now() - Duration::from_hours(24 * 180) - minutes(30);
    assert_eq!(first.window_start, Some(earliest));
    for _ in 0..12 {
        world.five_minutes_later().await;
    }
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn a_page_of_ten_thousand_that_fails_is_asked_for_again_with_fewer() {
    let world = World::new(&[("FunctionConfigCallsPerHour", "6")]).await;
    let expected = world.add(1..40, minutes(3));
    world.clouds.defender.script().push((0..5).map(|_| Fault::status(504)));
    for _ in 0..6 {
        world.run().await;
        world.pass(minutes(10));
    }
    let seen = world.clouds.defender.script().seen();
    let top = |Seen { target, .. }: &Seen| {
        let (_, rest) = target.split_once("top=").unwrap();
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    let tops: Vec<u32> = seen.iter().map(top).collect();
    assert_eq!(tops, [10_000, 5_000, 2_500, 1_250, 625, 312]);
    hours(&world, 1, 6).await;
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn a_week_that_comes_in_no_order_is_caught_up_with_few_calls() {
    let extra = [
        ("FunctionConfigCallsPerHour", "6"),
        ("FunctionConfigPageSize", "50"),
        ("FunctionConfigInitialLookbackHours", "168"),
    ];
    let world = World::new(&extra).await;
    world.clouds.defender.behave(|manners| manners.orderby = Orderby::Ignored);
    let every_five_minutes = |n| sample::alert(n, GROUP, world.now() - minutes(5 * (n + 1)));
    let expected: Vec<_> = (0..12 * 168).map(every_five_minutes).collect();
    world.clouds.defender.add(expected.clone());
    let began = world.now() - Duration::from_hours(168);
    hours(&world, 4, 6).await;
    let position = world.position().await;
    assert!(position > began + Duration::from_hours(6), "{position}");
    hours(&world, 44, 6).await;
    assert_eq!(world.delivered(), keys(&expected));
    let late = world.now().since(world.position().await);
    assert!(late <= minutes(31), "{late:?}");
}
