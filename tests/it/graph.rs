//! Microsoft Graph as the source: the same rows, the same guard, and a switch
//! in the middle of a day that neither loses nor doubles.

use std::collections::BTreeMap;
use std::time::Duration;

use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::sandbox::clouds::GROUP;
use defender_alert_export::sandbox::entra::AadstsError;
use defender_alert_export::sandbox::sample::{self, Sample};
use defender_alert_export::sandbox::script::Fault;
use serde_json::{Value, json};

use crate::traces::{Traces, hold};
use crate::world::{FOREIGN, TARGETS, World, at, key, keys, minutes};

const GRAPH: (&str, &str) = ("FunctionConfigAlertSource", "Graph");
const DEFENDER: (&str, &str) = ("FunctionConfigAlertSource", "Defender");

fn graph_calls(world: &World) -> usize {
    world.clouds.graph.script().seen().len()
}

#[tokio::test]
async fn every_version_reaches_each_kind_of_target_once() {
    for target in TARGETS {
        let world = World::new(&[GRAPH, ("FunctionConfigAlertTargetType", target)]).await;
        let mut expected = world.add(1..60, minutes(3));
        assert_eq!(world.run().await.status, Status::Ok);
        for number in 100..104 {
            world.pass(minutes(5));
            expected.push(world.update(&expected[3], minutes(2)));
            expected.extend(world.add(number..number + 1, minutes(2)));
            let heartbeat = world.run().await;
            assert_eq!((heartbeat.status, heartbeat.counts.delivered), (Status::Ok, 2));
        }
        assert_eq!(world.delivered(), keys(&expected), "{target}");
        // The first day is read in four windows.
        assert_eq!((world.calls(), graph_calls(&world)), (0, 8));
        assert_eq!(world.clouds.monitor.tables.observed(), [], "{target}");
    }
}

#[tokio::test]
async fn a_source_switched_and_switched_back_in_mid_day_loses_and_doubles_nothing() {
    for target in TARGETS {
        let mut world = World::new(&[("FunctionConfigAlertTargetType", target)]).await;
        let mut expected = world.add(1..120, minutes(3));
        world.run().await;
        for (round, source) in [GRAPH, DEFENDER, GRAPH, GRAPH, DEFENDER].into_iter().enumerate() {
            // A version that waits, one whose row is out, and a late one.
            world.pass(minutes(5));
            expected.push(world.update(&expected[round], minutes(2)));
            let number = 200 + u64::try_from(round).unwrap();
            let late = sample::alert(number, GROUP, world.now() - minutes(20));
            world.clouds.defender.add([late.clone()]);
            expected.push(late);
            world.restart(&[source]);
            let heartbeat = world.run().await;
            assert_eq!(heartbeat.status, Status::Ok, "{}", heartbeat.message);
            assert_eq!(heartbeat.counts.delivered, 2, "{target} round {round}");
            assert!(heartbeat.counts.duplicates > 0, "the overlap was read again");
        }
        assert_eq!(world.delivered(), keys(&expected), "{target}");
        // Nobody signed in again.
        let asked = world.clouds.entra.asked();
        let codes = asked.iter().filter(|asked| asked.grant_type.is_empty()).count();
        assert_eq!(codes, 1);
        let scope =
            "https://graph.microsoft.com/SecurityAlert.Read.All offline_access openid profile";
        assert!(asked.iter().any(|asked| asked.scope == scope), "{asked:?}");
    }
}

/// The one row of alert `number`, without what is the run's.
async fn row(source: (&str, &str), target: &str) -> Value {
    let world = World::new(&[source, ("FunctionConfigAlertTargetType", target)]).await;
    let mut alert = world.add(7..8, minutes(3)).remove(0);
    alert.status = "Resolved";
    world.clouds.defender.add([alert]);
    assert_eq!(world.run().await.counts.delivered, 1);
    let mut row = world.rows().remove(0);
    for of_the_run in ["TimeGenerated", "RunId", "_ResourceId"] {
        row.as_object_mut().unwrap().remove(of_the_run);
    }
    row
}

#[tokio::test]
async fn a_row_is_the_same_column_by_column_whatever_the_source() {
    for target in TARGETS {
        let mut rows = BTreeMap::from([
            ("Defender", row(DEFENDER, target).await),
            ("Graph", row(GRAPH, target).await),
        ]);
        let mut take = |source: &str, column: &str| {
            rows.get_mut(source).unwrap().as_object_mut().unwrap().remove(column)
        };
        // Graph says more of each, and nothing less.
        let name = if target == "LogsIngestion" { "Evidence" } else { "evidence" };
        let [defenders, graphs] = ["Defender", "Graph"].map(|source| take(source, name).unwrap());
        let parsed = |value: Value| {
            value.as_str().map_or_else(|| value.clone(), |text| serde_json::from_str(text).unwrap())
        };
        let (Value::Array(defenders), Value::Array(graphs)) = (parsed(defenders), parsed(graphs))
        else {
            panic!("lists")
        };
        assert_eq!(graphs[0]["entityType"], "Device");
        for (defenders, graphs) in defenders.iter().zip(&graphs[1..]) {
            for (member, value) in defenders.as_object().unwrap() {
                if !value.is_null() {
                    assert_eq!(&graphs[member], value, "{target}: {member}");
                }
            }
        }
        take("Graph", "AdditionalFields");
        let (defenders, graphs) = (rows.remove("Defender").unwrap(), rows.remove("Graph").unwrap());
        for (column, value) in defenders.as_object().unwrap() {
            // Defender sends what it has not as null, where the alert is the row.
            if !value.is_null() {
                assert_eq!(graphs.get(column), Some(value), "{target}: {column}");
            }
        }
        if target == "LogsIngestion" {
            assert_eq!(defenders, graphs, "no column more");
        }
    }
}

#[tokio::test]
async fn an_alert_that_names_any_device_not_ours_appears_nowhere() {
    let traces = Traces::listen();
    let mut world = World::new(&[GRAPH]).await;
    let ours = world.add(1..10, minutes(2));
    let at = world.now() - minutes(2);
    let with = |number: u64, groups: &[Option<&str>]| Sample {
        further_groups: groups.iter().map(|group| group.map(str::to_owned)).collect(),
        ..sample::alert(number, GROUP, at)
    };
    let of_two_devices = with(11, &[Some(GROUP)]);
    world.clouds.defender.add([
        of_two_devices.clone(),
        with(777_001, &[Some(FOREIGN)]),
        with(777_002, &[Some(GROUP), Some(GROUP), Some(FOREIGN)]),
        with(777_003, &[None]),
        Sample { group: None, ..with(777_004, &[Some(GROUP)]) },
        Sample { group: None, ..with(777_005, &[]) },
        Sample { group: Some(FOREIGN.to_owned()), ..with(777_006, &[Some(GROUP)]) },
    ]);
    let device = r##""@odata.type":"#microsoft.graph.security.deviceEvidence""##;
    for (number, evidence) in [
        (7, r#""what it is""#.to_owned()),
        (8, format!(r#"[{{{device},"rbacGroupName":["{GROUP}"]}}]"#)),
        (
            9,
            format!(
                r#"[{{{device},"rbacGroupName":"{GROUP}","of":[{{"rbacGroupName":"{FOREIGN}"}}]}}]"#
            ),
        ),
    ] {
        let alert = format!(
            r#"{{"id":"da1_77700{number}","lastUpdateDateTime":"{at}","evidence":{evidence}}}"#
        );
        world.clouds.graph.add_raw(&alert, at);
    }
    // No id, and not ours: not even set aside.
    let nameless = format!(r#"{{"title":"777010","evidence":[{{"rbacGroupName":"{FOREIGN}"}}]}}"#);
    world.clouds.graph.add_raw(&nameless, at);
    // Refused rows are ours, and set aside.
    world.clouds.monitor.tables.refuse_rows_matching(&key(&ours[3]));

    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::ScopeViolation);
    assert_eq!((heartbeat.counts.withheld, heartbeat.counts.delivered), (10, 9));
    assert!(world.delivered().contains(&key(&of_two_devices)));
    let everything = traces.of(&mut world);
    assert!(hold(&everything, b"an alert was withheld"), "the log is among them");
    assert!(hold(&everything, ours[3].id().as_bytes()), "the quarantine is among them");
    for stranger in ["_77700", "777010", FOREIGN] {
        assert!(!hold(&everything, stranger.as_bytes()), "{stranger} was found");
    }
}

#[tokio::test]
async fn a_group_the_alert_itself_names_counts_beside_those_of_its_devices() {
    let world = World::new(&[GRAPH]).await;
    let at = world.now() - minutes(2);
    let device = r##""@odata.type":"#microsoft.graph.security.deviceEvidence""##;
    for (number, own, of_device) in
        [(1, GROUP, GROUP), (2, FOREIGN, GROUP), (3, GROUP, FOREIGN), (4, FOREIGN, FOREIGN)]
    {
        let alert = format!(
            r#"{{"id":"da1_{number}","lastUpdateDateTime":"{at}","rbacGroupName":"{own}","machineId":"own","evidence":[{{{device},"mdeDeviceId":"its","rbacGroupName":"{of_device}"}}]}}"#
        );
        world.clouds.graph.add_raw(&alert, at);
    }
    let heartbeat = world.run().await;
    assert_eq!((heartbeat.counts.withheld, heartbeat.counts.delivered), (3, 1));
    let row = world.rows().remove(0);
    assert_eq!((&row["AlertId"], &row["MachineId"]), (&json!("da1_1"), &json!("own")));
    assert_eq!(row["RbacGroupName"], json!(GROUP));
}

#[tokio::test]
async fn what_is_set_aside_or_kept_whole_still_proves_whose_it_is() {
    let world = World::new(&[GRAPH]).await;
    let large = Sample {
        evidence: 400,
        further_groups: vec![Some(GROUP.to_owned())],
        ..sample::alert(1, GROUP, world.now() - minutes(3))
    };
    world.clouds.defender.add([large]);
    assert_eq!(world.run().await.counts.delivered, 1);
    let row = world.rows().remove(0);
    assert_eq!((&row["Truncated"], &row["RbacGroupName"]), (&json!(true), &json!(GROUP)));
    let (name, whole) = world.blobs("alerts/").await.remove(0);
    assert_eq!(row["OriginalBlob"], json!(name));
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole["evidence"].as_array().unwrap().len(), 402);
    assert_eq!(whole["rbacGroupNames"], json!([GROUP, GROUP]));
    assert_eq!(whole["recommendedActions"], "Look at the device's timeline.");
}

#[tokio::test]
async fn a_switch_without_consent_is_told_in_words_and_costs_no_sign_in() {
    let mut world = World::new(&[]).await;
    let mut expected = world.add(1..5, minutes(3));
    world.run().await;
    world.restart(&[GRAPH]);
    let refuse = || world.clouds.entra.fail_with(AadstsError::new("invalid_grant", 65_001));
    refuse();
    let heartbeat = world.five_minutes_later().await;
    assert_eq!(heartbeat.status, Status::SignInNeeded);
    let next_step = &heartbeat.next_step;
    assert!(next_step.contains("Microsoft Graph / SecurityAlert.Read.All"), "{next_step}");
    assert!(next_step.contains("admin consent"), "{next_step}");

    // Granted: the next question is answered.
    expected.extend(world.add(10..12, minutes(1)));
    world.pass(minutes(15));
    assert_eq!(world.run().await.status, Status::Ok);
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn a_switch_that_was_not_granted_can_be_taken_back() {
    let mut world = World::new(&[]).await;
    world.run().await;
    world.restart(&[GRAPH]);
    for _ in 0..3 {
        world.clouds.entra.fail_with(AadstsError::new("invalid_grant", 65_001));
        world.pass(minutes(20));
        assert_eq!(world.run().await.status, Status::SignInNeeded);
    }
    let expected = world.add(1..5, minutes(3));
    world.restart(&[DEFENDER]);
    world.pass(minutes(15));
    assert_eq!(world.run().await.status, Status::Ok);
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn alerts_of_a_partial_answer_are_delivered_and_the_position_waits_for_the_rest() {
    let world = World::new(&[GRAPH]).await;
    world.run().await;
    let position = world.position().await;
    world.clouds.graph.lack(Some("Microsoft/WDATP/504/10000"));
    let expected = world.add(1..21, minutes(0));
    let heartbeat = world.five_minutes_later().await;
    assert_eq!((heartbeat.status, heartbeat.counts.delivered), (Status::SourceFailed, 10));
    for words in ["Microsoft Graph", "a part of the alerts only", "Microsoft/WDATP/504/10000"] {
        assert!(heartbeat.message.contains(words), "{}", heartbeat.message);
    }
    assert_eq!(world.position().await, position);
    world.clouds.graph.lack(None);
    assert_eq!(world.five_minutes_later().await.counts.delivered, 10);
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn the_words_name_the_source_that_is_used() {
    let world = World::new(&[GRAPH]).await;
    let heartbeat = world.run().await;
    assert!(heartbeat.message.contains("Microsoft Graph answered"), "{}", heartbeat.message);
    world.clouds.graph.script().push(vec![Fault::status(403); 2]);
    let heartbeat = world.five_minutes_later().await;
    assert_eq!(heartbeat.status, Status::SourceFailed);
    assert!(heartbeat.message.contains("SecurityAlert.Read.All"), "{}", heartbeat.message);
    assert!(!heartbeat.message.contains(".."), "{}", heartbeat.message);
}

#[tokio::test]
async fn from_december_on_the_heartbeat_says_how_to_leave_defender_and_hides_nothing() {
    let mut world = World::new(&[]).await;
    world.pass(at("2026-11-30T23:50:00Z").since(world.now()));
    assert!(!world.run().await.message.contains("MC1220762"));
    world.pass(minutes(10));
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::Ok);
    assert!(heartbeat.message.starts_with("Nothing new:"), "{}", heartbeat.message);
    assert!(heartbeat.message.ends_with("(MC1220762)."), "{}", heartbeat.message);
    assert!(heartbeat.next_step.contains("set FunctionConfigAlertSource to `Graph`"));

    // A person who has something else to do is told that alone.
    world.clouds.defender.add([sample::alert(9, FOREIGN, world.now() - minutes(2))]);
    let heartbeat = world.five_minutes_later().await;
    assert_eq!(heartbeat.status, Status::ScopeViolation);
    assert!(!heartbeat.message.contains("MC1220762"));

    // Should it stop one day, this is what to do.
    world.pass(Duration::from_hours(24 * 80));
    world.clouds.defender.script().push(vec![Fault::status(410); 4]);
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::SourceFailed);
    assert!(heartbeat.message.contains("410") && heartbeat.message.ends_with("(MC1220762)."));
    assert!(heartbeat.next_step.contains("SecurityAlert.Read.All"), "{}", heartbeat.next_step);

    world.restart(&[GRAPH]);
    let heartbeat = world.five_minutes_later().await;
    assert!(!heartbeat.message.contains("MC1220762"), "{}", heartbeat.message);
}
