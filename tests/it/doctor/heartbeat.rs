//! What a run notices of the same, in the same words.

use defender_alert_export::clock::Clock;
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::sandbox::sample;

use crate::world::{World, at, minutes};

#[tokio::test]
async fn a_quiet_run_of_a_sound_deployment_says_nothing_more() {
    let world = World::new(&[]).await;
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::Ok);
    assert_eq!(heartbeat.next_step, "");
    assert!(
        heartbeat.message.ends_with("no new alert up to 2026-11-21T09:59:05Z."),
        "{heartbeat:?}"
    );
}

#[tokio::test]
async fn a_run_whose_clock_is_off_says_so_and_exports_all_the_same() {
    let world = World::new(&[]).await;
    // By the clouds' clock, which is ten minutes behind, three minutes ago.
    world.add(1..4, minutes(13));
    let wrong = Clock::stopped_at(at("2026-11-21T09:50:05Z"));
    let clouds = &world.clouds;
    for script in
        [clouds.defender.script(), &clouds.monitor.script, &clouds.managed_identity.script]
    {
        script.tell_time_by(wrong.clone());
    }
    let heartbeat = world.run().await;
    assert_eq!((heartbeat.status, heartbeat.counts.delivered), (Status::Ok, 3));
    assert!(heartbeat.message.contains("complete up to"), "{}", heartbeat.message);
    assert!(heartbeat.message.contains("clock is 600 s ahead of"), "{}", heartbeat.message);
    assert!(heartbeat.next_step.contains("(NTP)"), "{}", heartbeat.next_step);
}

#[tokio::test]
async fn a_run_says_which_key_opened_the_sign_in() {
    let mut world = World::new(&[]).await;
    world.restart(&[
        ("FunctionConfigSessionKey", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ("FunctionConfigSessionKeyPrevious", "c2Vzc2lvbi1rZXktZm9yLXRoZS1zYW5kYm94LW9ubHk="),
    ]);
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::Ok);
    assert!(heartbeat.message.contains("still sealed with FunctionConfigSessionKeyPrevious"));
    world.pass(minutes(90));
    let heartbeat = world.run().await;
    assert!(!heartbeat.message.contains("SessionKey"), "{}", heartbeat.message);
}

#[tokio::test]
async fn alerts_of_no_group_are_told_from_those_of_others() {
    let world = World::new(&[]).await;
    world.clouds.defender.add([sample::alert(1, "UnassignedGroup", world.now() - minutes(3))]);
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::ScopeViolation);
    assert!(heartbeat.message.contains("1 alert is of no device group"), "{}", heartbeat.message);
    assert!(heartbeat.next_step.contains("FunctionConfigAllowUngrouped"));
}
