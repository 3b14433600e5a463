//! One heartbeat a run, whatever happened, in the contract's columns.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use defender_alert_export::app::Faulty;
use defender_alert_export::config::{Config, Vars};
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::pipeline::Ended;
use defender_alert_export::sandbox::script::Fault;
use serde_json::Value;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::{Layer, Registry};
use uuid::Uuid;

use crate::world::{World, keys, minutes};

const COLUMNS: &str = "RunId, TrustName, Status, Message, NextStep, Fetched, Delivered, \
    Duplicates, Withheld, Quarantined, Calls, WindowStart, WindowEnd, LagSeconds, DurationMs, \
    SignedInAs, SignInIdleDays, Version, InstanceId, RecordNumber, RecordHash, RowType";

fn columns(row: &Value) -> BTreeSet<&str> {
    row.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn the_columns_are_the_contracts_for_every_target() {
    let expected: BTreeSet<_> = COLUMNS.split(", ").collect();
    for (target, has_time) in [("LogsIngestion", true), ("LogAnalytics", false)] {
        let world = World::new(&[("FunctionConfigAlertTargetType", target)]).await;
        world.add(1..3, minutes(3));
        world.run().await;
        let beats = world.beats();
        let mut found = columns(&beats[0]);
        assert_eq!(found.remove("TimeGenerated"), has_time, "{target}");
        assert_eq!(found, expected, "{target}");
        assert_eq!((&beats[0]["Status"], &beats[0]["Delivered"]), (&"Ok".into(), &2.into()));
        assert_eq!((&beats[0]["TrustName"], &beats[0]["LagSeconds"]), (&"RXX".into(), &60.into()));
        assert_eq!(world.clouds.monitor.tables.observed(), []);
    }
}

#[tokio::test]
async fn what_a_sink_that_was_down_missed_is_sent_first_and_in_order() {
    let mut world = World::new(&[]).await;
    let expected = world.add(1..5, minutes(3));
    let mut runs = Vec::new();
    for _ in 0..3 {
        // Everything fails for as long as a run tries.
        world.clouds.monitor.script.push((0..12).map(|_| Fault::status(503)));
        let heartbeat = world.five_minutes_later().await;
        assert_eq!(heartbeat.status, Status::SinkFailed);
        runs.push(heartbeat.run_id);
        world.clouds.monitor.script.clear();
        assert!(world.beats().is_empty());
        world.restart(&[]);
    }
    assert_eq!(world.app().state.pending().await.unwrap().len(), 3);
    for _ in 0..2 {
        runs.push(world.five_minutes_later().await.run_id);
    }
    let sent: Vec<_> =
        world.beats().iter().map(|row| row["RunId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(sent, runs);
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn what_could_not_be_sent_goes_before_the_next_run_reads() {
    let world = World::new(&[]).await;
    world.run().await;
    world.clouds.monitor.script.push((0..4).map(|_| Fault::status(503)));
    let missed = world.five_minutes_later().await;
    assert_eq!(world.beats().len(), 1);
    // The next one never comes to its end: it is as good as killed.
    world.pass(minutes(5));
    world.clouds.defender.script().push([Fault::Hang]);
    let run = world.app().exporter.run(Uuid::new_v4());
    tokio::select! {
        ended = run => panic!("{ended:?}"),
        () = world.clouds.defender.script().hung() => {}
    }
    let sent = || -> Vec<_> {
        world.beats().iter().map(|row| row["RunId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(sent()[1..], [missed.run_id.as_str()]);
    assert!(world.app().state.pending().await.unwrap().is_empty());
    world.pass(minutes(5));
    let last = world.run().await;
    assert_eq!(sent()[1..], [missed.run_id, last.run_id], "no one twice");
}

#[tokio::test]
async fn a_run_whose_heartbeat_was_not_taken_says_how_many_wait_why_and_what_to_do() {
    let world = World::new(&[("FunctionConfigAlertTargetType", "EventHub")]).await;
    world.add(1..5, minutes(3));
    world.run().await;
    for waiting in 1..3 {
        world.pass(minutes(40));
        // The earlier one's, then both together.
        world.clouds.monitor.script.push((0..waiting).map(|_| Fault::status(403)));
        let ended = world.app().exporter.run(Uuid::new_v4()).await;
        let Ended::Reported(heartbeat, Some(unsent)) = ended else { panic!("{ended:?}") };
        assert_eq!(heartbeat.status, Status::Ok, "alerts go elsewhere");
        assert_eq!(unsent.count, waiting);
        assert!(unsent.message().contains("does not let the app in (403)"), "{unsent:?}");
        assert!(unsent.advice.next_step.contains("Monitoring Metrics Publisher"), "{unsent:?}");
        assert_eq!(world.app().state.unsent().await.unwrap(), Some(*unsent));
    }
    let ended = world.app().exporter.run(Uuid::new_v4()).await;
    assert!(matches!(&ended, Ended::Reported(_, None)), "{ended:?}");
    assert_eq!(world.app().state.unsent().await.unwrap(), None);
    assert_eq!(world.beats().len(), 4);
}

#[tokio::test]
async fn a_heartbeat_that_no_sink_takes_holds_up_none_after_it() {
    let world = World::new(&[]).await;
    world.clouds.monitor.script.push([Fault::status(400)]);
    world.five_minutes_later().await;
    assert_eq!(world.app().state.pending().await.unwrap().len(), 1, "the fault may not be its own");
    // The first before the run, then both together, then the first alone.
    world.clouds.monitor.script.push((0..3).map(|_| Fault::status(400)));
    let second = world.five_minutes_later().await;
    let sent: Vec<_> = world.beats().iter().map(|row| row["RunId"].clone()).collect();
    assert_eq!(sent, [second.run_id.as_str()]);
    assert!(world.app().state.pending().await.unwrap().is_empty());
    // All of them, as long as a column is missing.
    world.clouds.monitor.script.push((0..40).map(|_| Fault::status(400)));
    for _ in 0..3 {
        world.five_minutes_later().await;
    }
    world.clouds.monitor.script.clear();
    assert_eq!(world.app().state.pending().await.unwrap().len(), 3);
    world.five_minutes_later().await;
    assert_eq!(world.beats().len(), 5);
}

#[tokio::test]
async fn a_heartbeat_says_when_its_run_was_also_when_it_is_sent_later() {
    let world = World::new(&[]).await;
    world.clouds.monitor.script.push((0..4).map(|_| Fault::status(503)));
    let then = world.now();
    world.run().await;
    world.five_minutes_later().await;
    let times: Vec<_> = world.beats().iter().map(|row| row["TimeGenerated"].clone()).collect();
    assert_eq!(times, [then.to_string(), world.now().to_string()]);
}

/// Panics in the middle of a run, as a bug would.
struct Bug(AtomicBool);

impl<S: Subscriber> Layer<S> for Bug {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let target = event.metadata().target();
        let is_there = target == "defender_alert_export::source::reading";
        assert!(!is_there || self.0.swap(true, Ordering::Relaxed), "a bug");
    }
}

#[tokio::test]
async fn a_run_that_panics_reports_it_and_the_next_one_goes_on() {
    // With one subscriber alone, other threads' tests decide what is logged.
    let _second = tracing::Dispatch::new(Registry::default());
    let bug = Registry::default().with(Bug(AtomicBool::new(false)));
    let _guard = tracing::subscriber::set_default(bug);
    let world = World::new(&[("FunctionConfigInitialLookbackHours", "1")]).await;
    let expected = world.add(1..5, minutes(3));
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::StorageFailed);
    assert!(heartbeat.message.contains("panicked"), "{}", heartbeat.message);
    assert!(heartbeat.next_step.contains("the central team"), "{}", heartbeat.next_step);
    assert_eq!((heartbeat.counts.fetched, heartbeat.counts.calls), (4, 0), "as far as it came");
    assert_eq!(heartbeat.lag_seconds, Some(3_600), "from where it began");
    assert_eq!(world.beats().len(), 1);
    assert_eq!(world.five_minutes_later().await.status, Status::Ok);
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn faulty_settings_are_told_to_the_workspace_by_name_and_without_values() {
    let world = World::new(&[]).await;
    let Vars::Map(mut settings) = world.vars() else { panic!("a map") };
    settings.insert("FunctionConfigPageSize".to_owned(), "hunter2".to_owned());
    settings.remove("FunctionConfigDeviceGroups");
    let vars = Vars::Map(settings);
    let faults = Config::load(&vars).unwrap_err().to_string();
    let deployment = Faulty::new(&vars, &faults);
    for _ in 0..2 {
        let ended = deployment.run(Uuid::new_v4()).await;
        assert!(!ended.did_its_duty());
        assert!(matches!(ended, Ended::Reported(_, _)));
    }
    let beats = world.beats();
    assert_eq!(beats.len(), 2);
    assert_eq!(beats[0]["Status"], "ConfigInvalid");
    let message = beats[0]["Message"].as_str().unwrap();
    assert!(message.contains("FunctionConfigPageSize"), "{message}");
    assert!(message.contains("FunctionConfigDeviceGroups"), "{message}");
    assert!(!beats[0].to_string().contains("hunter2"));
    let mut found = columns(&beats[0]);
    found.remove("TimeGenerated");
    assert!(found.into_iter().eq(COLUMNS.split(", ").collect::<BTreeSet<_>>()));
}

#[tokio::test]
async fn a_heartbeat_of_faulty_settings_that_was_not_taken_is_told_and_goes_first_next_time() {
    let world = World::new(&[]).await;
    let deployment = Faulty::new(&world.vars(), "FunctionConfigPageSize: wrong");
    world.clouds.monitor.script.push([Fault::status(404)]);
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    let Ended::Reported(_, Some(unsent)) = deployment.run(first).await else { panic!("not told") };
    assert_eq!(unsent.count, 1);
    assert!(unsent.advice.next_step.contains("FunctionConfigLogsIngestionRuleId"), "{unsent:?}");
    let Ended::Reported(_, None) = deployment.run(second).await else { panic!("told again") };
    let runs: Vec<_> = world.beats().iter().map(|beat| beat["RunId"].clone()).collect();
    assert_eq!(runs, [first.to_string(), second.to_string()]);
    assert!(world.beats().iter().all(|beat| beat["Status"] == "ConfigInvalid"));
}

#[tokio::test]
async fn heartbeats_that_are_switched_off_are_not_sent() {
    let off = [("FunctionConfigSendHeartbeatToLogAnalytics", "False")];
    let world = World::new(&off).await;
    let expected = world.add(1..5, minutes(3));
    assert_eq!(world.run().await.status, Status::Ok);
    assert_eq!((world.beats().len(), world.delivered()), (0, keys(&expected)));
}

#[tokio::test]
async fn a_run_that_asked_nobody_does_not_say_that_defender_answered() {
    let mut world = World::new(&[]).await;
    world.pass(Duration::from_nanos(1_234_567_800));
    let asked = world.run().await;
    let until = "2026-11-21T09:59:06Z";
    assert_eq!(
        asked.message,
        format!("Nothing new: Defender answered and there was no new alert up to {until}.")
    );
    let not_asked = format!(
        "Complete up to {until}. Defender was not asked this time: alerts are read once they have settled, and nothing after {until} has yet."
    );
    // Again at the same instant, and with more to wait for than has passed.
    let again = world.run().await;
    assert_eq!((again.counts.calls, again.message), (0, not_asked.clone()));
    world.restart(&[("FunctionConfigSettleSeconds", "3600")]);
    let later = world.five_minutes_later().await;
    assert_eq!((later.counts.calls, later.message), (0, not_asked));
}

#[tokio::test]
async fn an_export_that_never_began_claims_to_be_up_to_date_to_no_time() {
    let world = World::signed_out(&[]).await;
    for _ in 0..2 {
        let waits = world.five_minutes_later().await;
        assert_eq!((waits.status, waits.lag_seconds), (Status::SignInNeeded, None));
    }
    assert!(world.beats().iter().all(|beat| beat["LagSeconds"].is_null()));
    // Once it has begun, it is known from where on.
    world.sign_in().await;
    world.clouds.defender.script().push([Fault::status(403)]);
    let begun = world.five_minutes_later().await;
    assert_eq!((begun.status, begun.lag_seconds), (Status::SourceFailed, Some(86_400)));
    assert_eq!(world.five_minutes_later().await.lag_seconds, Some(60));
}
