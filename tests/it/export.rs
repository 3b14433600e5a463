//! Every alert and every change of it is in the workspace, once.

use std::collections::BTreeMap;
use std::time::Duration;

use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::sandbox::clouds::GROUP;
use defender_alert_export::sandbox::sample;
use defender_alert_export::sandbox::script::Fault;

use crate::world::{TARGETS, World, at, key, keys, minutes};

#[tokio::test]
async fn every_alert_and_every_change_arrives_once_over_many_runs_whatever_the_target() {
    for target in TARGETS {
        let mut world = World::new(&[("FunctionConfigAlertTargetType", target)]).await;
        let expected = world.live_through_nine_runs(minutes(5)).await;
        assert_eq!(world.delivered(), keys(&expected), "{target}");
        assert_eq!(world.beats().len(), 9, "{target}");
        assert_eq!(world.clouds.monitor.tables.observed(), [], "{target}");
    }
}

#[tokio::test]
async fn with_updates_off_only_the_first_version_of_an_alert_is_sent() {
    let mut world = World::new(&[("FunctionConfigExportUpdates", "False")]).await;
    let first = world.add(1..4, minutes(3));
    world.run().await;
    for round in 0..6 {
        world.pass(minutes(120));
        world.update(&first[round % 3], minutes(2));
        world.restart(&[]);
        let heartbeat = world.run().await;
        assert_eq!(heartbeat.counts.delivered, 0);
        assert!(heartbeat.counts.duplicates > 0);
    }
    assert_eq!(world.delivered(), keys(&first));
}

#[tokio::test]
async fn days_of_alerts_many_to_a_page_and_to_one_moment_are_caught_up_in_one_run() {
    let extra = [("FunctionConfigPageSize", "50"), ("FunctionConfigInitialLookbackHours", "96")];
    let world = World::new(&extra).await;
    let mut expected = Vec::new();
    for n in 0..300_u32 {
        let updated = world.now() - minutes(2) - Duration::from_mins(18) * n;
        expected.push(sample::alert(n.into(), GROUP, updated));
    }
    let moment = world.now() - minutes(700);
    expected.extend((1_000..1_120).map(|n| sample::alert(n, GROUP, moment)));
    world.clouds.defender.add(expected.clone());
    world.pass(minutes(5));

    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::Ok, "{}", heartbeat.message);
    assert_eq!(world.delivered(), keys(&expected));
    assert_eq!(heartbeat.lag_seconds, Some(60));
}

#[tokio::test]
async fn few_calls_an_hour_make_a_backlog_slower_and_never_stop_it() {
    const SHARE: usize = 3;
    let extra = [("FunctionConfigPageSize", "50"), ("FunctionConfigCallsPerHour", "3")];
    let world = World::new(&extra).await;
    // Thin enough that what a run reads again leaves it calls for more.
    let thinly = |n: u32| world.now() - minutes(3) - Duration::from_secs(30) * n;
    let expected: Vec<_> = (0..400).map(|n| sample::alert(n.into(), GROUP, thinly(n))).collect();
    world.clouds.defender.add(expected.clone());
    let (mut calls, mut statuses) = (BTreeMap::new(), Vec::new());
    for minute in (0..60 * 24).step_by(5) {
        let before = world.calls();
        let heartbeat = world.five_minutes_later().await;
        calls.insert(minute, world.calls() - before);
        let within_the_hour: usize = calls.range((minute - 55).max(0)..).map(|(_, n)| n).sum();
        assert!(within_the_hour <= SHARE, "{within_the_hour} calls in an hour");
        if heartbeat.status == Status::CatchingUp {
            let says = |text| heartbeat.message.contains(text);
            assert!(says("calls to Defender are used up for now") || says("Not due yet"));
            assert!(heartbeat.next_step.contains("FunctionConfigCallsPerHour"));
        }
        statuses.push(heartbeat.status);
    }
    assert_eq!(world.delivered(), keys(&expected));
    assert!(statuses.contains(&Status::CatchingUp) && statuses.contains(&Status::Ok));
    assert_eq!(world.delivered().len(), 400);
}

#[tokio::test]
async fn one_call_an_hour_still_gets_on() {
    let extra = [
        ("FunctionConfigPageSize", "50"),
        ("FunctionConfigCallsPerHour", "1"),
        ("FunctionConfigOverlapMinutes", "0"),
    ];
    let world = World::new(&extra).await;
    let expected = world.add(1..180, minutes(3));
    for _ in 0..24 {
        world.pass(minutes(61));
        world.run().await;
    }
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn few_calls_are_not_all_spent_on_what_was_read_before() {
    let extra = [("FunctionConfigPageSize", "50"), ("FunctionConfigCallsPerHour", "3")];
    let world = World::new(&extra).await;
    // More in the half hour that is read again than three pages hold.
    let dense =
        (1..400).map(|n| sample::alert(n, GROUP, world.now() - Duration::from_secs(60 + n)));
    let expected: Vec<_> = dense.collect();
    world.clouds.defender.add(expected.clone());
    for _ in 0..12 {
        world.pass(minutes(61));
        world.run().await;
    }
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn an_alert_that_surfaces_late_is_delivered_as_long_as_the_overlap_reaches() {
    let world = World::new(&[]).await;
    let mut expected = world.add(1..5, minutes(3));
    world.run().await;
    let late = sample::alert(77, GROUP, world.now() - minutes(20));
    world.clouds.defender.add_late(&late, world.now() + minutes(4));
    assert_eq!(world.five_minutes_later().await.counts.delivered, 1);
    expected.push(late);
    for _ in 0..8 {
        world.five_minutes_later().await;
    }
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn the_first_run_goes_on_where_the_predecessor_stopped() {
    let world = World::after_the_predecessor("2026-11-20T04:00:00Z").await;
    let after = sample::alert(1, GROUP, at("2026-11-20T04:00:00Z"));
    let within_the_overlap = sample::alert(2, GROUP, at("2026-11-20T03:45:00Z"));
    let before = sample::alert(3, GROUP, at("2026-11-20T03:00:00Z"));
    world.clouds.defender.add([after.clone(), within_the_overlap.clone(), before]);
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.window_start, Some(at("2026-11-20T03:30:00Z")));
    assert_eq!(world.delivered(), keys(&[after, within_the_overlap]));
}

#[tokio::test]
async fn reading_only_the_last_minutes_repeats_nothing_and_never_moves_over_a_gap() {
    let mut world = World::new(&[]).await;
    let first = world.add(1..5, minutes(3));
    world.run().await;
    let position = world.position().await;

    // Off for half an hour, then the old way: what lies between stays unread.
    world.pass(minutes(30));
    let missed = world.add(10..12, minutes(20));
    let seen = world.add(20..23, minutes(3));
    let only_last = [("FunctionConfigUse_last_saved_time", "False")];
    world.restart(&only_last);
    assert_eq!(world.run().await.counts.delivered, 3);
    assert_eq!(world.run().await.counts.delivered, 0, "the same minutes again");
    world.five_minutes_later().await;
    assert_eq!(world.position().await, position);
    assert_eq!(world.delivered(), keys(first.iter().chain(&seen)));

    // Switched back, the gap is closed.
    world.restart(&[("FunctionConfigUse_last_saved_time", "True")]);
    world.five_minutes_later().await;
    assert_eq!(world.delivered(), keys(first.iter().chain(&seen).chain(&missed)));
    assert_eq!(world.position().await, world.now() - minutes(1));
}

#[tokio::test]
async fn reading_more_of_the_last_minutes_than_the_overlap_repeats_nothing() {
    let mut world = World::new(&[("FunctionConfigQueryDepth", "90")]).await;
    let mut expected = world.add(1..5, minutes(3));
    world.run().await;
    world.restart(&[("FunctionConfigUse_last_saved_time", "False")]);
    for run in 1..24 {
        world.pass(minutes(5));
        expected.extend(world.add(run * 10..run * 10 + 2, minutes(2)));
        assert_eq!(world.run().await.counts.delivered, 2, "run {run}");
    }
    assert_eq!(world.position().await, world.now() - minutes(1));
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn reading_only_the_last_minutes_leaves_no_gap_because_a_timer_is_late() {
    let few = [
        ("FunctionConfigUse_last_saved_time", "False"),
        ("FunctionConfigCallsPerHour", "6"),
        ("FunctionConfigQueryDepth", "15"),
    ];
    for extra in [&few[..1], &few[..]] {
        let mut world = World::new(extra).await;
        world.run().await;
        let mut expected = Vec::new();
        for run in 0..9_u64 {
            // The process ends in between, and one run finds Defender down.
            world.restart(&[]);
            world.pass(Duration::from_secs(301));
            expected.extend(world.add(run * 301..(run + 1) * 301, Duration::ZERO));
            if run == 3 {
                world.clouds.defender.script().push((0..9).map(|_| Fault::status(503)));
            }
            world.run().await;
            world.clouds.defender.script().clear();
        }
        for _ in 0..4 {
            world.five_minutes_later().await;
        }
        assert_eq!(world.delivered(), keys(&expected));
        // An outage of hours is another matter.
        world.pass(minutes(180));
        let missed = world.add(9_000..9_001, minutes(150));
        world.run().await;
        assert!(!world.delivered_once().contains(&key(&missed[0])));
    }
}

#[tokio::test]
async fn a_corrected_list_of_groups_gets_all_that_is_read_again() {
    let mut world = World::new(&[("FunctionConfigDeviceGroups", "misspelt")]).await;
    let expected = world.add(1..20, minutes(10));
    assert_eq!(world.run().await.status, Status::ScopeViolation);
    world.was_cut_short(minutes(5)).await;
    world.restart(&[("FunctionConfigDeviceGroups", GROUP)]);
    assert_eq!(world.five_minutes_later().await.status, Status::Ok);
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn a_row_says_which_alert_run_and_trust_it_is_of() {
    let world = World::new(&[]).await;
    let alert = world.add(1..2, minutes(3)).remove(0);
    let heartbeat = world.run().await;
    let row = world.rows().remove(0);
    assert_eq!(row["ExportKey"], key(&alert));
    assert_eq!(row["AlertId"], alert.id());
    assert_eq!(row["RunId"], heartbeat.run_id);
    assert_eq!(row["TrustName"], "RXX");
    assert_eq!(row["RbacGroupName"], GROUP);
    assert_eq!(row["Truncated"], false);
}

#[tokio::test]
async fn people_are_told_whole_seconds_and_one_of_a_thing_is_one() {
    let world = World::new(&[]).await;
    world.pass(Duration::from_micros(1_234_567));
    world.add(1..2, minutes(3));
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.message, "1 alert delivered; complete up to 2026-11-21T09:59:06Z.");
}
