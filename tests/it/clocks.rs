//! A clock that is wrong for a while loses no alert, and is not kept quiet.

use std::time::Duration;

use defender_alert_export::clock::Clock;
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::domain::timestamp::Timestamp;
use defender_alert_export::sandbox::script::Fault;

use crate::world::{World, at, keys, minutes};

const DAY: Duration = Duration::from_hours(24);

/// Sets the clock of the app and of all clouds.
fn set(world: &World, now: Timestamp) {
    let Clock::Manual(hands) = &world.clouds.clock else { panic!("not a clock to be set") };
    *hands.lock().unwrap() = now;
}

/// The clouds go by another clock than the app.
fn clouds_go_by(world: &World, clock: &Clock) {
    let clouds = &world.clouds;
    let scripts = [&clouds.entra.script, clouds.defender.script(), &clouds.monitor.script];
    for script in scripts {
        script.tell_time_by(clock.clone());
    }
}

#[tokio::test]
async fn a_position_in_the_future_is_set_back_and_nothing_is_lost() {
    for target in ["LogsIngestion", "LogsIngestion;EventHub"] {
        let world = World::new(&[("FunctionConfigAlertTargetType", target)]).await;
        let mut expected = world.add(1..5, minutes(3));
        world.run().await;
        let right = world.now();
        set(&world, right + DAY * 10);
        world.run().await;
        assert!(world.position().await > right + DAY * 9);

        set(&world, right + minutes(5));
        expected.extend(world.add(10..14, minutes(2)));
        let first = world.run().await;
        assert_eq!(first.status, Status::CatchingUp, "{}", first.message);
        assert!(
            first.message.contains("2026-12-01T09:59:05Z, lay in the future"),
            "{}",
            first.message
        );
        assert!(first.next_step.contains("clock"), "{}", first.next_step);
        let delivered: Vec<_> = world.delivered_once().into_iter().collect();
        assert_eq!(delivered, keys(&expected));
        assert_eq!(world.position().await, world.now() - minutes(1));

        let next = world.five_minutes_later().await;
        assert_eq!((next.status, next.counts.calls), (Status::Ok, 1), "{}", next.message);
        assert_eq!(next.counts.delivered, 0, "once");
        // What was read again is audited within a day.
        let audits = || world.beats().iter().filter(|it| it["Status"] == "Reconciled").count();
        let before = audits();
        for _ in 0..5 {
            world.pass(DAY / 4);
            world.run().await;
        }
        assert!(audits() > before);
        assert_eq!(world.delivered_once().len(), expected.len());
    }
}

#[tokio::test]
async fn a_clock_that_runs_ahead_of_all_servers_moves_the_position_no_further_than_they_are() {
    let world = World::new(&[]).await;
    let mut expected = world.add(1..5, minutes(3));
    world.run().await;
    let right = world.now() + minutes(5);
    clouds_go_by(&world, &Clock::stopped_at(right));
    set(&world, right + DAY * 10);
    for _ in 0..3 {
        let ahead = world.run().await;
        assert!(ahead.message.contains("864000 s ahead of"), "{}", ahead.message);
        assert!(world.position().await < right);
        assert!(ahead.counts.calls <= 2, "{} calls", ahead.counts.calls);
    }
    set(&world, right + minutes(5));
    clouds_go_by(&world, &world.clouds.clock);
    expected.extend(world.add(10..14, minutes(2)));
    let back = world.run().await;
    assert_eq!(back.status, Status::Ok, "{}", back.message);
    assert_eq!(world.delivered(), keys(&expected));
    // Nor is the next audit put off until then.
    let audits = || world.beats().iter().filter(|it| it["Status"] == "Reconciled").count();
    let before = audits();
    assert!(before > 0, "one ended while the clock ran ahead");
    for _ in 0..5 {
        world.pass(DAY / 4);
        world.run().await;
    }
    assert!(audits() > before);
}

#[tokio::test]
async fn seconds_by_which_a_clock_is_set_are_no_reason_to_go_back() {
    let world = World::new(&[("FunctionConfigSettleSeconds", "0")]).await;
    world.add(1..5, minutes(3));
    world.run().await;
    let position = world.position().await;
    set(&world, world.now() - minutes(2));
    let before = world.calls();
    let early = world.run().await;
    assert_eq!((early.status, world.calls()), (Status::Ok, before), "{}", early.message);
    assert!(early.message.contains("was not asked"), "{}", early.message);
    assert!(!early.message.contains("answered"), "{}", early.message);
    assert_eq!(world.position().await, position);
}

#[tokio::test]
async fn a_predecessor_that_was_ahead_of_its_time_is_not_believed() {
    let world = World::after_the_predecessor("2027-01-01T00:00:00.000Z").await;
    let expected = world.add(1..5, minutes(3));
    let first = world.run().await;
    assert_eq!(first.status, Status::CatchingUp, "{}", first.message);
    assert_eq!(world.delivered(), keys(&expected));
    assert_eq!(world.position().await, at("2026-11-21T09:59:05Z"));
}

#[tokio::test]
async fn a_claim_made_by_a_clock_that_ran_ahead_holds_up_no_other_instance() {
    let world = World::new(&[]).await;
    world.run().await;
    let right = world.now();
    set(&world, right + DAY * 10);
    let mut opened = world.app().state.open(right, right).await.unwrap();
    let claimed = opened.checkpoint.progress.claim("dead", "elsewhere", "*", world.now()).unwrap();
    opened.checkpoint.progress = claimed;
    world.app().state.save(&mut opened).await.unwrap();
    set(&world, right + minutes(5));
    let expected = world.add(1..5, minutes(3));
    world.run().await;
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn a_server_that_asks_to_be_left_alone_for_a_year_is_left_alone_for_an_hour() {
    let world = World::new(&[]).await;
    world.run().await;
    world.clouds.defender.script().push([Fault::throttled(31_536_000)]);
    assert_eq!(world.five_minutes_later().await.status, Status::SourceThrottled);
    let calls = world.calls();
    world.pass(minutes(54));
    assert_eq!(world.run().await.status, Status::SourceThrottled);
    assert_eq!(world.calls(), calls);
    let expected = world.add(1..5, minutes(2));
    world.pass(minutes(66));
    assert_eq!(world.run().await.status, Status::Ok);
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn a_source_that_fails_and_names_a_time_is_left_alone_until_then() {
    for source in ["Defender", "Graph"] {
        let world = World::new(&[("FunctionConfigAlertSource", source)]).await;
        world.run().await;
        let script = match source {
            "Defender" => world.clouds.defender.script(),
            _ => world.clouds.graph.script(),
        };
        let failing = |seconds: &str| Fault::Answer {
            status: 503,
            headers: vec![("retry-after", seconds.to_owned())],
            body: String::new(),
        };
        script.push([failing("1800")]);
        let failed = world.five_minutes_later().await;
        assert_eq!(failed.status, Status::SourceFailed, "{}", failed.message);
        let asked_at = world.now().hour_and_minute();
        let calls = script.seen().len();
        let expected = world.add(1..5, minutes(2));
        for _ in 0..3 {
            let waits = world.five_minutes_later().await;
            assert_eq!(waits.status, Status::SourceFailed, "{}", waits.message);
            assert!(
                waits.message.starts_with(&format!("At {asked_at} UTC: ")),
                "{}",
                waits.message
            );
            assert!(waits.message.contains("503"), "{}", waits.message);
            assert!(waits.message.ends_with("10:35 UTC."), "{}", waits.message);
            assert_eq!(waits.next_step, failed.next_step);
        }
        world.pass(minutes(14));
        assert_eq!(world.run().await.status, Status::SourceFailed);
        assert_eq!(script.seen().len(), calls, "{source} was left alone");
        world.pass(minutes(2));
        let done = world.run().await;
        assert_eq!(done.status, Status::Ok, "{}", done.message);
        assert_eq!(world.delivered(), keys(&expected));
        // For a year means for an hour, and without a time as always.
        script.push([failing("31536000")]);
        assert_eq!(world.five_minutes_later().await.status, Status::SourceFailed);
        world.pass(minutes(59));
        assert_eq!(world.run().await.counts.calls, 0);
        world.pass(minutes(2));
        assert_eq!(world.run().await.status, Status::Ok);
        script.push(vec![Fault::status(503); 4]);
        assert_eq!(world.five_minutes_later().await.status, Status::SourceFailed);
        assert_eq!(world.five_minutes_later().await.status, Status::Ok, "{source}");
    }
}

#[tokio::test]
async fn a_saved_wait_that_is_too_long_to_be_one_is_none() {
    let world = World::new(&[]).await;
    world.run().await;
    let state = &world.app().state;
    for (wait, calls) in [(minutes(59), 0), (minutes(61), 1), (DAY * 365, 1)] {
        world.pass(minutes(5));
        let mut opened = state.open(world.now(), world.now()).await.unwrap();
        opened.checkpoint.not_before = Some(world.now() + wait);
        state.save(&mut opened).await.unwrap();
        drop(opened);
        let heartbeat = world.run().await;
        assert_eq!(heartbeat.counts.calls, calls, "{wait:?}: {}", heartbeat.message);
    }
}
