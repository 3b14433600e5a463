//! Rows go to several targets: each has every version once, the position waits
//! for all, and one being down costs the others nothing.

use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::domain::timestamp::Timestamp;
use defender_alert_export::sandbox::clouds::TABLE;
use defender_alert_export::sandbox::sample::Sample;
use defender_alert_export::sandbox::script::Fault;

use crate::world::{World, keys, minutes};

const BOTH: (&str, &str) = ("FunctionConfigAlertTargetType", "LogsIngestion;EventHub");
const RULE_ALONE: (&str, &str) = ("FunctionConfigAlertTargetType", "LogsIngestion");

/// What the workspace has, sorted; twice what is there twice.
fn workspace(world: &World) -> Vec<String> {
    World::keys_of(&world.clouds.monitor.tables.rows(TABLE))
}

/// What the event hub has.
fn hub(world: &World) -> Vec<String> {
    let events = world.clouds.hub.events();
    World::keys_of(&events.iter().map(|it| serde_json::from_str(it).unwrap()).collect::<Vec<_>>())
}

/// The event hub answers 503 until [`hub_is_back`].
fn hub_is_down(world: &World) {
    world.clouds.hub.script.push(vec![Fault::status(503); 1_000]);
}

fn hub_is_back(world: &World) {
    world.clouds.hub.script.clear();
}

#[tokio::test]
async fn every_target_has_every_version_once_and_each_alert_counts_once() {
    let world = World::new(&[BOTH]).await;
    let mut expected = world.add(1..40, minutes(3));
    let heartbeat = world.run().await;
    assert_eq!((heartbeat.status, heartbeat.counts.delivered), (Status::Ok, 39));
    expected.push(world.update(&expected[3], minutes(2)));
    let heartbeat = world.five_minutes_later().await;
    assert_eq!((heartbeat.counts.delivered, heartbeat.counts.duplicates), (1, 38));
    assert_eq!(workspace(&world), keys(&expected));
    assert_eq!(hub(&world), keys(&expected));
}

#[tokio::test]
async fn one_target_down_holds_the_position_and_neither_delays_nor_repeats_the_other() {
    let world = World::new(&[BOTH]).await;
    world.run().await;
    let stays_at = world.position().await;
    hub_is_down(&world);
    let mut expected: Vec<Sample> = Vec::new();
    for run in 0..3 {
        world.pass(minutes(5));
        expected.extend(world.add(run * 10 + 1..run * 10 + 11, minutes(2)));
        let heartbeat = world.run().await;
        assert_eq!(heartbeat.status, Status::SinkFailed);
        assert!(heartbeat.message.starts_with("EventHub did not take"), "{}", heartbeat.message);
        assert_eq!(heartbeat.counts.delivered, 10);
        assert_eq!(workspace(&world), keys(&expected), "run {run}");
        assert_eq!(world.position().await, stays_at);
    }
    hub_is_back(&world);
    assert_eq!(world.five_minutes_later().await.status, Status::Ok);
    assert_eq!(workspace(&world), keys(&expected));
    assert_eq!(hub(&world), keys(&expected));
    assert_eq!(world.position().await, world.now() - minutes(1));
}

#[tokio::test]
async fn a_target_down_for_days_is_caught_up_after_the_others_have_what_is_new() {
    let world = World::new(&[BOTH]).await;
    world.run().await;
    hub_is_down(&world);
    let mut expected: Vec<Sample> = Vec::new();
    for run in 0..8 {
        world.pass(minutes(6 * 60));
        expected.extend(world.add(run * 10 + 1..run * 10 + 11, minutes(30)));
        assert_eq!(world.run().await.status, Status::SinkFailed);
        assert_eq!(workspace(&world), keys(&expected), "run {run}");
    }
    // Two days behind; what the others need costs one page, not two days.
    let calls = world.calls();
    world.five_minutes_later().await;
    assert!(world.calls() - calls <= 3, "{} calls", world.calls() - calls);
    hub_is_back(&world);
    assert_eq!(world.five_minutes_later().await.status, Status::Ok);
    assert_eq!(workspace(&world), keys(&expected));
    assert_eq!(hub(&world), keys(&expected));

    let before = world.calls();
    world.five_minutes_later().await;
    assert_eq!(world.calls() - before, 1, "read together again");
}

#[tokio::test]
async fn a_target_that_is_given_up_no_longer_holds_the_position() {
    let mut world = World::new(&[BOTH]).await;
    hub_is_down(&world);
    let expected = world.add(1..20, minutes(3));
    assert_eq!(world.run().await.status, Status::SinkFailed);
    world.restart(&[RULE_ALONE]);
    assert_eq!(world.five_minutes_later().await.status, Status::Ok);
    assert_eq!(workspace(&world), keys(&expected));
    assert_eq!(world.position().await, world.now() - minutes(1));
}

#[tokio::test]
async fn a_target_named_later_begins_at_the_position_and_misses_nothing_after_it() {
    let mut world = World::new(&[RULE_ALONE]).await;
    let old = world.add(1..20, minutes(3 * 60));
    world.run().await;
    world.restart(&[BOTH]);
    world.pass(minutes(5));
    let new = world.add(100..120, minutes(2));
    assert_eq!(world.run().await.status, Status::Ok);
    assert_eq!(workspace(&world), keys(old.iter().chain(&new)));
    assert_eq!(hub(&world), keys(&new));
}

#[tokio::test]
async fn a_target_named_after_a_run_was_cut_short_gets_all_that_is_read_again() {
    let mut world = World::new(&[RULE_ALONE]).await;
    let expected = world.add(1..20, minutes(10));
    world.run().await;
    world.was_cut_short(minutes(5)).await;
    world.restart(&[BOTH]);
    assert_eq!(world.five_minutes_later().await.status, Status::Ok);
    assert_eq!(hub(&world), keys(&expected));
    assert_eq!(workspace(&world), keys(&expected));
}

#[tokio::test]
async fn of_several_targets_that_are_down_each_is_named_with_its_reason() {
    for (targets, two, others) in [
        ("LogsIngestion;EventHub", ["LogsIngestion", "EventHub"], false),
        ("LogsIngestion;LogAnalytics;EventHub", ["LogsIngestion", "LogAnalytics"], true),
    ] {
        let world = World::new(&[("FunctionConfigAlertTargetType", targets)]).await;
        world.add(1..20, minutes(3));
        world.clouds.monitor.script.push(vec![Fault::status(503); 1_000]);
        if !others {
            hub_is_down(&world);
        }
        let heartbeat = world.run().await;
        let (message, next_step) = (heartbeat.message, heartbeat.next_step);
        let said = format!("{} did not take their rows", two.join(" and "));
        assert!(message.starts_with(&said), "{message}");
        assert_eq!(message.contains("the other targets get theirs"), others, "{message}");
        for name in two.map(|name| format!("{name}: ")) {
            assert!(message.contains(&name) && next_step.contains(&name), "{message} {next_step}");
        }
    }
}

#[tokio::test]
async fn a_row_only_one_target_refuses_reaches_the_other() {
    let world = World::new(&[BOTH]).await;
    let expected = world.add(1..20, minutes(3));
    world.clouds.hub.refuse_events_matching(&expected[7].id());
    let heartbeat = world.run().await;
    assert_eq!((heartbeat.status, heartbeat.counts.quarantined), (Status::Ok, 1));
    assert_eq!(workspace(&world), keys(&expected));
    assert_eq!(hub(&world).len(), 18);
    let names: Vec<_> = world.blobs("quarantine/").await.into_iter().map(|it| it.0).collect();
    assert!(matches!(&names[..], [name] if name.ends_with(".EventHub.json")), "{names:?}");
    assert_eq!(world.five_minutes_later().await.counts.quarantined, 0, "not again");
}

#[tokio::test]
async fn a_target_that_was_down_is_caught_up_with_few_calls_too() {
    let few = [BOTH, ("FunctionConfigCallsPerHour", "6")];
    let slow = ("FunctionConfigTimerSchedule", "0 */15 * * * *");
    for (extra, step, late) in [(few.to_vec(), 5, 20), ([&few[..], &[slow]].concat(), 15, 30)] {
        let world = World::new(&extra).await;
        for _ in 0..8 {
            world.pass(minutes(step));
            world.run().await;
        }
        hub_is_down(&world);
        let mut expected: Vec<Sample> = Vec::new();
        for run in 0..60 {
            world.pass(minutes(step));
            expected.extend(world.add(run * 10 + 1..run * 10 + 3, minutes(2)));
            world.run().await;
        }
        hub_is_back(&world);
        for run in 60..84 {
            world.pass(minutes(step));
            expected.extend(world.add(run * 10 + 1..run * 10 + 3, minutes(2)));
            world.run().await;
            assert!(world.now().since(newest(&world)) <= minutes(late), "the other has its turns");
        }
        for _ in 0..4 {
            world.pass(minutes(step));
            world.run().await;
        }
        assert_eq!(workspace(&world), keys(&expected), "every {step} minutes");
        assert_eq!(hub(&world), keys(&expected), "every {step} minutes");
    }
}

/// When the newest version in the workspace was sent.
fn newest(world: &World) -> Timestamp {
    let rows = world.clouds.monitor.tables.rows(TABLE);
    let sent = |row: &serde_json::Value| row["TimeGenerated"].as_str().unwrap().parse().unwrap();
    rows.iter().map(sent).max().unwrap()
}
