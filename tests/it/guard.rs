//! What is not ours appears nowhere, and a halt lasts until a person acts.

use std::io;
use std::sync::{Arc, Mutex};

use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::sandbox::clouds::GROUP;
use defender_alert_export::sandbox::sample;

use crate::traces::{Traces, hold};
use crate::world::{FOREIGN, World, key, keys, minutes};

/// Alerts that are not ours, each with a number that shows in its id.
fn add_strangers(world: &World) {
    let at = world.now() - minutes(2);
    let ungrouped = sample::Sample { group: None, ..sample::alert(777_002, "", at) };
    world.clouds.defender.add([
        sample::alert(777_001, FOREIGN, at),
        ungrouped,
        sample::alert(777_003, "UnassignedGroup", at),
        sample::alert(777_004, &format!("{GROUP} "), at),
        sample::alert(777_005, &GROUP.to_lowercase(), at),
    ]);
    for (number, group) in [(6, "[\"RXX Example Trust\"]"), (7, "42"), (8, "{}")] {
        let alert = format!(
            r#"{{"id":"da1_77700{number}","lastUpdateTime":"{at}","rbacGroupName":{group}}}"#
        );
        world.clouds.defender.add_raw(&alert, at);
    }
    // Its row would be cut, and the whole kept under a name of its own.
    let large = sample::Sample { evidence: 400, ..sample::alert(777_010, FOREIGN, at) };
    world.clouds.defender.add([large]);
    // No id, and not ours: not even set aside.
    let nameless = r#"{"title":"777009","rbacGroupName":"RYY Another Trust"}"#;
    world.clouds.defender.add_raw(nameless, at);
}

#[tokio::test]
async fn nothing_that_is_not_ours_reaches_a_sink_a_log_a_blob_or_the_state() {
    let traces = Traces::listen();
    let mut world = World::new(&[]).await;
    let ours = world.add(1..30, minutes(2));
    add_strangers(&world);
    // Refused bodies count too.
    world.clouds.monitor.tables.refuse_rows_matching(&key(&ours[3]));
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::ScopeViolation);
    assert_eq!((heartbeat.counts.withheld, heartbeat.counts.delivered), (10, 28));
    assert!(heartbeat.message.contains("10 alerts of device groups"), "{}", heartbeat.message);
    assert!(heartbeat.next_step.contains("limit the account"));
    assert!(heartbeat.next_step.contains("FunctionConfigDeviceGroups"));

    let everything = traces.of(&mut world);
    assert!(hold(&everything, b"an alert was withheld"), "the log is among them");
    assert!(hold(&everything, ours[3].id().as_bytes()), "the quarantine is among them");
    for stranger in ["_77700", "_777010", "777009", FOREIGN] {
        assert!(!hold(&everything, stranger.as_bytes()), "{stranger} was found");
    }
}

#[tokio::test]
async fn a_halt_lasts_until_a_person_resumes_or_changes_the_list() {
    let world = World::new(&[("FunctionConfigScopeGuard", "halt")]).await;
    let before = world.add(1..10, minutes(8));
    world.run().await;
    let after = world.add(10..20, minutes(0));
    world.clouds.defender.add([sample::alert(777_001, FOREIGN, world.now() - minutes(1))]);
    world.pass(minutes(5));
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::ScopeViolation);
    assert!(heartbeat.message.contains("The export has stopped"), "{}", heartbeat.message);
    assert_eq!(world.delivered(), keys(&before), "nothing after it");
    for _ in 0..3 {
        let heartbeat = world.five_minutes_later().await;
        assert_eq!(heartbeat.status, Status::Halted);
        for way in ["Resume in this app's portal", "`defender-alert-export resume`"] {
            assert!(heartbeat.next_step.contains(way), "{}", heartbeat.next_step);
        }
        assert!(!Status::Halted.did_its_duty());
    }
    let calls = world.calls();
    world.five_minutes_later().await;
    assert_eq!(world.calls(), calls, "not even a question");

    // The account is limited to the trust, and a person says so.
    world.clouds.defender.show_only(Arc::new(|_, group| group == Some(GROUP)));
    assert!(world.app().state.resume().await.unwrap());
    assert_eq!(world.five_minutes_later().await.status, Status::Ok);
    assert_eq!(world.delivered(), keys(before.iter().chain(&after)));
    assert!(!world.app().state.resume().await.unwrap(), "nothing left to resume");
}

#[tokio::test]
async fn a_corrected_list_of_groups_ends_a_halt_by_itself() {
    let mut world = World::new(&[("FunctionConfigScopeGuard", "halt")]).await;
    let foreign = sample::alert(5, FOREIGN, world.now() - minutes(2));
    world.clouds.defender.add([foreign.clone()]);
    assert_eq!(world.run().await.status, Status::ScopeViolation);
    world.restart(&[]);
    assert_eq!(world.five_minutes_later().await.status, Status::Halted);
    world.restart(&[("FunctionConfigDeviceGroups", &format!("{GROUP};{FOREIGN}"))]);
    assert_eq!(world.five_minutes_later().await.status, Status::Ok);
    assert_eq!(world.delivered(), keys(&[foreign]));
}

#[tokio::test]
async fn a_misspelt_group_is_said_to_export_nothing_until_an_alert_of_ours_is_met() {
    let misspelt = [("FunctionConfigDeviceGroups", "rxx example trust")];
    let mut world = World::new(&misspelt).await;
    let ours = world.add(1..30, minutes(2));
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::ScopeViolation);
    assert_eq!((heartbeat.counts.withheld, heartbeat.counts.delivered), (29, 0));
    assert!(
        heartbeat.message.starts_with("Nothing is exported: all 29 alerts met are of"),
        "{}",
        heartbeat.message
    );
    for words in ["letter by letter", "capitals", "backfill", "FunctionConfigDeviceGroups"] {
        assert!(heartbeat.next_step.contains(words), "{}", heartbeat.next_step);
    }
    for text in [&heartbeat.message, &heartbeat.next_step] {
        assert!(!text.contains(GROUP), "{text}");
    }
    // When the overlap is past nothing has changed, and the next process knows it.
    world.pass(minutes(60));
    world.run().await;
    world.restart(&[]);
    world.pass(minutes(60));
    let quiet = world.run().await;
    assert_eq!((quiet.counts.withheld, quiet.status), (0, Status::ScopeViolation));
    assert!(quiet.message.contains("Nothing is exported: every alert"), "{}", quiet.message);
    assert!(quiet.next_step.contains("letter by letter"), "{}", quiet.next_step);

    world.restart(&[("FunctionConfigDeviceGroups", GROUP)]);
    let fresh = world.add(50..60, minutes(2));
    let heartbeat = world.five_minutes_later().await;
    assert_eq!((heartbeat.status, heartbeat.counts.delivered), (Status::Ok, 10));
    assert!(!heartbeat.message.contains("Nothing is exported"), "{}", heartbeat.message);
    assert!(world.delivered_once().is_superset(&keys(&fresh).into_iter().collect()));
    assert!(!ours.is_empty());
    // From then on an alert of others is one too many, and no more.
    world.clouds.defender.add([sample::alert(777_001, FOREIGN, world.now() + minutes(3))]);
    let heartbeat = world.five_minutes_later().await;
    assert_eq!(heartbeat.status, Status::ScopeViolation);
    assert!(heartbeat.message.starts_with("1 alert of device groups"), "{}", heartbeat.message);
}

#[tokio::test]
async fn a_star_alone_exports_every_group() {
    let world = World::new(&[("FunctionConfigDeviceGroups", "*")]).await;
    add_strangers(&world);
    let heartbeat = world.run().await;
    assert_eq!((heartbeat.status, heartbeat.counts.withheld), (Status::Ok, 0));
    assert_eq!((heartbeat.counts.delivered, heartbeat.counts.quarantined), (9, 1));
}

#[tokio::test]
async fn where_ungrouped_alerts_are_ours_those_without_a_group_are_delivered_and_no_others() {
    let world = World::new(&[("FunctionConfigAllowUngrouped", "True")]).await;
    let ours = world.add(1..4, minutes(2));
    add_strangers(&world);
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::ScopeViolation);
    assert_eq!((heartbeat.counts.delivered, heartbeat.counts.withheld), (5, 8));
    let at = world.now() - minutes(2);
    // `null`, and Defender's own name for none.
    let ungrouped = [sample::alert(777_002, "", at), sample::alert(777_003, "", at)];
    assert_eq!(world.delivered(), keys(ours.iter().chain(&ungrouped)));
}

/// What is written to a stream, kept.
#[derive(Clone, Default)]
pub(crate) struct Written(pub(crate) Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
