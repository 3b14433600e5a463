//! What the workspace, Defender or Entra refuses is said in words, and nothing
//! is lost by it.

use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::sandbox::clouds::GROUP;
use defender_alert_export::sandbox::entra::AadstsError;
use defender_alert_export::sandbox::sample::{self, Sample};
use defender_alert_export::sandbox::script::Fault;
use serde_json::Value;

use crate::traces::{Traces, hold};
use crate::world::{TARGETS, World, at, key, keys, minutes};

#[tokio::test]
async fn a_row_the_sink_never_takes_is_set_aside_once_with_its_reason_and_the_rest_goes_on() {
    for target in TARGETS {
        let world = World::new(&[("FunctionConfigAlertTargetType", target)]).await;
        let mut expected = world.add(1..40, minutes(3));
        let poison = expected.remove(17);
        world.clouds.monitor.tables.refuse_rows_matching(&poison.id());
        world.clouds.hub.refuse_events_matching(&poison.id());
        let heartbeat = world.run().await;
        assert_eq!((heartbeat.counts.delivered, heartbeat.counts.quarantined), (38, 1));
        assert_eq!(heartbeat.status, Status::Ok);
        assert!(heartbeat.message.contains("1 alert was set aside"), "{}", heartbeat.message);
        assert!(heartbeat.next_step.contains("quarantine"), "{}", heartbeat.next_step);
        assert_eq!(world.delivered(), keys(&expected), "{target}");

        for _ in 0..3 {
            assert_eq!(world.five_minutes_later().await.counts.quarantined, 0, "not again");
        }
        let blobs = world.blobs("quarantine/").await;
        assert_eq!(blobs.len(), 1);
        let document: Value = serde_json::from_str(&blobs[0].1).unwrap();
        assert!(document["reason"].as_str().unwrap().starts_with("the sink answered 400"));
        assert_eq!(document["sink"], target);
        assert!(document["row"].to_string().contains(&poison.id()));
        assert_eq!(world.position().await, world.now() - minutes(1));
    }
}

#[tokio::test]
async fn an_only_alert_that_is_set_aside_is_not_called_nothing_new() {
    let world = World::new(&[]).await;
    let poison = world.add(1..2, minutes(3)).remove(0);
    world.clouds.monitor.tables.refuse_rows_matching(&poison.id());
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.counts.quarantined, 1);
    assert!(!heartbeat.message.contains("Nothing new"), "{}", heartbeat.message);
    assert!(heartbeat.message.contains("set aside"), "{}", heartbeat.message);
}

#[tokio::test]
async fn a_sink_that_refuses_every_row_sets_nothing_aside_and_loses_nothing() {
    for target in TARGETS {
        let world = World::new(&[("FunctionConfigAlertTargetType", target)]).await;
        let expected = world.add(1..60, minutes(3));
        world.clouds.monitor.tables.refuse_rows_matching("ExportKey");
        world.clouds.hub.refuse_events_matching("ExportKey");
        for _ in 0..2 {
            let heartbeat = world.run().await;
            assert_eq!(heartbeat.status, Status::SinkFailed, "{target}");
            assert!(heartbeat.message.contains("refuses every alert"), "{}", heartbeat.message);
            assert!(!heartbeat.next_step.is_empty());
            assert!(world.position().await <= expected[0].updated);
        }
        assert_eq!(world.blobs("quarantine/").await, []);
        world.clouds.monitor.tables.refuse_nothing();
        world.clouds.hub.refuse_events_matching("never in any event");
        assert_eq!(world.run().await.status, Status::Ok);
        assert_eq!(world.delivered(), keys(&expected), "{target}");
    }
}

#[tokio::test]
async fn rows_refused_together_do_not_hold_up_what_comes_hours_later() {
    for (target, count) in TARGETS.into_iter().flat_map(|target| [(target, 2), (target, 5)]) {
        let world = World::new(&[("FunctionConfigAlertTargetType", target)]).await;
        world.run().await;
        let mut poison: Vec<_> =
            (1..=count).map(|n| sample::alert(n, GROUP, world.now())).collect();
        for sample in &mut poison {
            sample.status = "Resolved";
        }
        world.clouds.defender.add(poison);
        world.clouds.monitor.tables.refuse_rows_matching("Resolved");
        world.clouds.hub.refuse_events_matching("Resolved");
        world.five_minutes_later().await;
        for _ in 0..3 {
            world.pass(minutes(150));
            world.run().await;
        }
        let good = world.add(100..101, minutes(0));
        for _ in 0..2 {
            world.five_minutes_later().await;
        }
        assert_eq!(world.delivered(), keys(&good), "{target}");
        let blobs = world.blobs("quarantine/").await;
        assert_eq!(u64::try_from(blobs.len()).unwrap(), count, "{target}");
        assert_eq!(world.position().await, world.now() - minutes(1), "{target}");
    }
}

#[tokio::test]
async fn one_alert_a_run_does_not_drain_into_the_quarantine() {
    for target in TARGETS {
        let mut world = World::new(&[("FunctionConfigAlertTargetType", target)]).await;
        world.run().await;
        world.clouds.monitor.tables.refuse_rows_matching("ExportKey");
        world.clouds.hub.refuse_events_matching("ExportKey");
        let mut statuses = Vec::new();
        for number in 1..7 {
            world.pass(minutes(5));
            world.add(number..number + 1, minutes(2));
            let heartbeat = world.run().await;
            statuses.push(heartbeat.status);
            if heartbeat.counts.quarantined > 0 {
                assert!(heartbeat.message.contains("1 alert was set aside"), "{heartbeat:?}");
                assert!(heartbeat.next_step.contains("replay"), "{heartbeat:?}");
                assert!(heartbeat.next_step.contains("quarantine/"), "{heartbeat:?}");
            }
            world.restart(&[]);
        }
        assert_eq!(statuses[..3], [Status::Ok; 3], "{target}");
        assert_eq!(statuses[3..], [Status::SinkFailed; 3], "{target}");
        assert_eq!(world.blobs("quarantine/").await.len(), 3, "{target}");
        let waits = world.position().await;
        assert!(waits < world.now() - minutes(15), "{target}: {waits}");

        // Mended, what waited arrives, and a bad row is a bad row again.
        world.clouds.monitor.tables.refuse_nothing();
        world.clouds.hub.refuse_events_matching("never in any event");
        assert_eq!(world.five_minutes_later().await.counts.delivered, 3, "{target}");
        let poison = world.add(50..51, minutes(0)).remove(0);
        world.clouds.monitor.tables.refuse_rows_matching(&poison.id());
        world.clouds.hub.refuse_events_matching(&poison.id());
        let heartbeat = world.five_minutes_later().await;
        assert_eq!((heartbeat.status, heartbeat.counts.quarantined), (Status::Ok, 1), "{target}");
    }
}

#[tokio::test]
async fn a_role_that_is_not_in_force_yet_is_waited_for_and_has_words_of_its_own_for_half_an_hour() {
    let world = World::new(&[]).await;
    let mut expected = world.add(1..5, minutes(3));
    let seen = || world.clouds.monitor.script.seen().len();
    for (later, requests, words) in
        [(0, 8, "up to 30 minutes"), (31, 3, "does not let the app in (403)")]
    {
        world.pass(minutes(later));
        // For the rows and the heartbeat; then for the one that waits, too.
        world.clouds.monitor.script.push(vec![Fault::status(403); 20]);
        let before = seen();
        let heartbeat = world.run().await;
        world.clouds.monitor.script.clear();
        assert_eq!(seen() - before, requests);
        assert_eq!(heartbeat.status, Status::SinkFailed);
        assert!(heartbeat.message.contains(words), "{}", heartbeat.message);
        assert!(heartbeat.next_step.contains("Monitoring Metrics Publisher"));
    }
    assert_eq!(world.five_minutes_later().await.status, Status::Ok);
    assert_eq!(world.delivered(), keys(&expected));
    let statuses: Vec<_> = world.beats().iter().map(|row| row["Status"].clone()).collect();
    assert_eq!(statuses, ["SinkFailed", "SinkFailed", "Ok"]);

    let world = World::new(&[]).await;
    world.run().await;
    for (later, status) in [(29, Status::Ok), (2, Status::SinkFailed)] {
        world.pass(minutes(later));
        expected = world.add(1..5, minutes(3));
        // The heartbeat passes.
        world.clouds.monitor.script.push([Fault::status(403)]);
        assert_eq!(world.run().await.status, status);
        assert!(later == 2 || world.delivered() == keys(&expected), "in the same run");
    }
}

#[tokio::test]
async fn an_alert_too_large_for_its_columns_is_cut_and_kept_whole_in_the_container() {
    for target in TARGETS {
        let world = World::new(&[("FunctionConfigAlertTargetType", target)]).await;
        let large = Sample { evidence: 400, ..sample::alert(1, GROUP, world.now() - minutes(3)) };
        world.clouds.defender.add([large.clone()]);
        assert_eq!(world.run().await.status, Status::Ok);
        let row = world.rows().remove(0);
        assert_eq!(row["ExportKey"], key(&large));
        assert_eq!(row["Truncated"], true, "{target}");
        let name = row["OriginalBlob"].as_str().unwrap();
        let whole = world.app().blobs.get(name).await.unwrap().expect("the blob it names");
        let whole: Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(whole["evidence"].as_array().unwrap().len(), 400);
        assert_eq!(world.clouds.monitor.tables.observed(), [], "the service cut nothing");
    }
}

#[tokio::test]
async fn an_alert_without_an_id_is_set_aside_once_and_not_once_a_run() {
    let mut world = World::new(&[]).await;
    let expected = world.add(1..5, minutes(3));
    let nameless = format!(r#"{{"title":"no id","rbacGroupName":"{GROUP}"}}"#);
    world.clouds.defender.add_raw(&nameless, world.now() - minutes(3));
    assert_eq!(world.run().await.counts.quarantined, 1);
    for _ in 0..4 {
        world.restart(&[]);
        assert_eq!(world.five_minutes_later().await.counts.quarantined, 0);
    }
    let blobs = world.blobs("quarantine/").await;
    assert_eq!(blobs.len(), 1);
    assert!(blobs[0].1.contains("no id"));
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn a_token_refused_in_the_middle_of_a_window_is_renewed_once_and_reading_goes_on() {
    let world = World::new(&[("FunctionConfigPageSize", "50")]).await;
    let expected = world.add(1..180, minutes(3));
    world.clouds.defender.script().push([Fault::Pass, Fault::Pass, Fault::status(401)]);
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::Ok, "{}", heartbeat.message);
    assert_eq!(world.delivered(), keys(&expected));
    let renewals = world.clouds.entra.asked();
    let renewals = renewals.iter().filter(|asked| asked.grant_type == "refresh_token").count();
    assert_eq!(renewals, 1);

    world.pass(minutes(5));
    world.clouds.defender.script().push([Fault::status(401), Fault::status(401)]);
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::SourceFailed, "once is enough");
    assert!(heartbeat.next_step.contains("Sign in again"), "{}", heartbeat.next_step);
}

#[tokio::test]
async fn a_source_that_asks_for_patience_is_not_called_before_its_time() {
    let mut world = World::new(&[("FunctionConfigInitialLookbackHours", "1")]).await;
    let expected = world.add(1..30, minutes(3));
    world.clouds.defender.script().push([Fault::throttled(1_500)]);
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::SourceThrottled);
    assert!(heartbeat.message.contains("all trusts share"), "{}", heartbeat.message);
    let calls = world.calls();
    for _ in 0..4 {
        world.restart(&[]);
        assert_eq!(world.five_minutes_later().await.status, Status::SourceThrottled);
        assert_eq!(world.calls(), calls);
    }
    assert_eq!(world.five_minutes_later().await.status, Status::Ok);
    assert_eq!(world.delivered(), keys(&expected));
    assert_eq!(world.beats().len(), 6);
}

#[tokio::test]
async fn nobody_signed_in_is_said_every_run_and_nothing_is_begun() {
    let traces = Traces::listen();
    let mut world = World::signed_out(&[]).await;
    for _ in 0..2 {
        let heartbeat = world.five_minutes_later().await;
        assert_eq!(heartbeat.status, Status::SignInNeeded);
        assert!(heartbeat.next_step.contains("sign in"), "{}", heartbeat.next_step);
    }
    assert!(world.app().state.checkpoint().await.unwrap().is_none(), "no position is claimed");
    assert_eq!(world.clouds.entra.asked(), [], "no code is asked for by itself");
    assert_eq!((world.calls(), world.beats().len()), (0, 2));
    let everything = traces.of(&mut world);
    assert!(!hold(&everything, b"devicelogin"));
}

#[tokio::test]
async fn the_timer_logs_a_code_once_where_it_was_told_to() {
    let traces = Traces::listen();
    let mut world = World::signed_out(&[("FunctionConfigSignInPrompt", "log")]).await;
    world.run().await;
    world.five_minutes_later().await;
    assert_eq!(world.clouds.entra.asked().len(), 2, "one code, one poll");
    assert!(world.clouds.entra.approve("a.example@nhs.net", uuid::Uuid::from_u128(5)));
    let heartbeat = world.five_minutes_later().await;
    assert_eq!(heartbeat.signed_in_as.as_deref(), Some("a.example@nhs.net"));
    let log = String::from_utf8(traces.of(&mut world).remove(0)).unwrap();
    assert_eq!(log.matches("sign in at this address with this code").count(), 1);
}

#[tokio::test]
async fn a_revoked_sign_in_is_told_with_microsofts_own_code() {
    let world = World::new(&[]).await;
    world.run().await;
    world.clouds.entra.revoke_all();
    world.clouds.entra.fail_with(AadstsError::new("invalid_grant", 50_173));
    let expected = world.add(1..5, minutes(0));
    let heartbeat = world.five_minutes_later().await;
    assert_eq!(heartbeat.status, Status::SignInNeeded, "{}", heartbeat.message);
    assert!(heartbeat.message.contains("AADSTS50173"), "{}", heartbeat.message);
    assert!(!heartbeat.next_step.is_empty());
    assert_eq!(heartbeat.signed_in_as, None);

    world.pass(minutes(60 * 24 * 3));
    world.sign_in().await;
    assert_eq!(world.run().await.status, Status::Ok);
    assert_eq!(world.delivered(), keys(&expected), "days later, nothing is missing");
    assert!(world.position().await > at("2026-11-24T09:00:00Z"));
}

#[tokio::test]
async fn a_policy_or_a_lockout_of_an_hour_costs_nobody_a_sign_in() {
    for (error, code) in [("interaction_required", 53_003), ("invalid_grant", 50_053)] {
        let world = World::new(&[]).await;
        world.run().await;
        world.pass(minutes(75));
        let expected = world.add(1..10, minutes(2));
        world.clouds.entra.fail_with(AadstsError::new(error, code));
        for _ in 0..2 {
            let heartbeat = world.run().await;
            assert_eq!(heartbeat.status, Status::SignInNeeded);
            assert!(heartbeat.message.contains(&format!("AADSTS{code}")), "{}", heartbeat.message);
            assert!(heartbeat.next_step.contains("central identity team"), "{heartbeat:?}");
            assert!(heartbeat.next_step.contains("by itself within an hour"), "{heartbeat:?}");
        }
        assert_eq!(world.delivered(), keys(&[]), "{code}");
        world.pass(minutes(120));
        let heartbeat = world.run().await;
        assert_eq!(heartbeat.status, Status::Ok, "{}", heartbeat.message);
        assert_eq!(world.delivered(), keys(&expected), "{code}");
    }
}

#[tokio::test]
async fn while_a_refused_sign_in_is_kept_a_new_one_may_be_made_at_once() {
    let world = World::new(&[]).await;
    world.pass(minutes(75));
    world.clouds.entra.fail_with(AadstsError::new("interaction_required", 53_003));
    assert_eq!(world.run().await.status, Status::SignInNeeded);
    world.sign_in().await;
    assert_eq!(world.run().await.status, Status::Ok);
}
