//! Many trusts share one quota: none is refused in calm hours, and all are
//! current soon after an outage or a restart. `cargo bench --bench fleet` does
//! the same with 250 trusts and a whole day.

#[path = "../../benches/fleet/day.rs"]
mod day;
#[path = "../../benches/fleet/report.rs"]
mod report;

use std::time::Duration;

use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::sandbox::defender::Outage;
use defender_alert_export::sandbox::sample;

use self::day::{Event, Fleet, Phase};
use crate::world::{FOREIGN, Folder, World, minutes};

/// A twenty-fifth of England: ten trusts, and a twenty-fifth of the quota.
#[tokio::test(start_paused = true)]
async fn ten_trusts_share_sixty_calls_an_hour_through_whatever_happens() {
    let phase = |event, length| Phase { name: "", event, lasts: minutes(length) };
    let fleet = Fleet {
        trusts: 10,
        share: Some(6),
        quotas: (10, 60),
        refused_count: true,
        day: vec![
            phase(Event::Nothing, 120),
            phase(Event::Nothing, 60),
            phase(Event::Outage(Outage::Unavailable), 90),
            phase(Event::Restart(minutes(20)), 60),
            phase(Event::MassUpdate(600), 60),
        ],
    };
    let folder = Folder::new();
    let lived = day::live(&fleet, folder.path()).await.unwrap();
    let [_, calm, outage, restart, update] = &lived.rows[..] else { panic!("five parts") };

    assert_eq!((calm.calls, calm.refused), (40, 0), "every fifteen minutes");
    assert_eq!(calm.worst_lag, minutes(16));
    assert!(outage.calls <= 6 * 10 * 3 / 2, "{outage}");
    assert!(outage.current_after.unwrap() <= minutes(10), "{outage}");
    assert_eq!(restart.refused, 0, "{restart}");
    assert!(restart.current_after.unwrap() < minutes(5), "{restart}");
    assert!(restart.busiest.0 < 10, "not all in one minute: {restart}");
    assert!(update.current_after.unwrap() <= minutes(20), "{update}");
    assert_eq!(lived.periods, [15; 10]);
    assert_eq!(lived.delivered, lived.expected, "each alert once");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_does_not_know_its_size_finds_a_period_that_fits() {
    let phase = |length| Phase { name: "", event: Event::Nothing, lasts: minutes(length) };
    let fleet = Fleet {
        trusts: 10,
        share: None,
        quotas: (10, 60),
        refused_count: true,
        day: vec![phase(240), phase(120)],
    };
    let folder = Folder::new();
    let lived = day::live(&fleet, folder.path()).await.unwrap();
    let [first, calm] = &lived.rows[..] else { panic!("two parts") };
    assert!(first.refused > 0, "the quota is met: {first}");
    assert_eq!(calm.refused, 0, "{calm}");
    assert!(lived.periods.iter().all(|period| (10..=20).contains(period)), "{:?}", lived.periods);
    assert_eq!(lived.delivered, lived.expected);
}

#[tokio::test]
async fn a_run_that_is_not_due_says_when_and_looks_after_the_sign_in() {
    let few = [("FunctionConfigCallsPerHour", "6"), ("FunctionConfigInitialLookbackHours", "1")];
    let world = World::new(&few).await;
    let expected = world.add(1..5, minutes(3));
    assert_eq!(world.run().await.status, Status::Ok);
    let calls = world.calls();
    for _ in 0..2 {
        let idle = world.five_minutes_later().await;
        assert_eq!(idle.status, Status::Ok, "{}", idle.message);
        assert!(idle.message.contains("every 15 minutes"), "{}", idle.message);
    }
    assert_eq!(world.calls(), calls);
    assert_eq!(world.five_minutes_later().await.counts.calls, 1);
    assert_eq!(world.delivered(), crate::world::keys(&expected));

    world.clouds.entra.revoke_all();
    world.pass(Duration::from_hours(2));
    world.run().await;
    assert_eq!(world.five_minutes_later().await.status, Status::SignInNeeded);
}

#[tokio::test]
async fn between_turns_the_remedy_itself_is_said_again() {
    let few = [("FunctionConfigCallsPerHour", "6"), ("FunctionConfigInitialLookbackHours", "1")];
    let mut world = World::new(&few).await;
    world.add(1..5, minutes(3));
    world.clouds.defender.add([sample::alert(777_001, FOREIGN, world.now() - minutes(2))]);
    let asked = world.run().await;
    assert_eq!(asked.status, Status::ScopeViolation);
    let calls = world.calls();
    for _ in 0..2 {
        world.restart(&[]);
        let idle = world.five_minutes_later().await;
        assert_eq!((idle.status, &idle.next_step), (Status::ScopeViolation, &asked.next_step));
        let again = format!("At 10:00 UTC: {}", asked.message);
        assert!(idle.message.starts_with(&again), "{}", idle.message);
    }
    assert_eq!(world.calls(), calls);
    // Past the overlap.
    world.pass(minutes(60));
    world.run().await;
    world.pass(minutes(60));
    assert_eq!(world.run().await.status, Status::Ok);
    let idle = world.five_minutes_later().await;
    assert_eq!((idle.status, idle.next_step.as_str()), (Status::Ok, ""));
}

#[tokio::test]
async fn a_late_run_waits_for_the_trusts_own_second_and_only_once() {
    let own = [("FunctionConfigTimerSchedule", "30 2-59/5 * * * *")];
    let mut world = World::new(&own).await;
    let tick = |world: &World| {
        let into = world.now().unix_seconds() % 300;
        world.pass(Duration::from_secs(u64::try_from((150 - into).rem_euclid(300)).unwrap()));
    };
    tick(&world);
    world.run().await;
    world.pass(Duration::from_secs(3_600 + 40));
    let calls = world.calls();
    let late = world.run().await;
    assert_eq!((late.status, world.calls()), (Status::Ok, calls), "{}", late.message);
    assert!(late.message.contains("this trust's own time"), "{}", late.message);
    // Not twice, even if the app starts again at another odd moment.
    world.restart(&[]);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.run().await.counts.calls, 1);
}
