//! What is told of a backfill: by `status` while it goes on, by a record and a
//! heartbeat at its end.

use std::pin::pin;

use defender_alert_export::domain::backfill::{Ending, Known, Span, Waits};
use defender_alert_export::domain::chain::{Verified, verify};
use defender_alert_export::domain::job_state::{JobState, Phase};
use defender_alert_export::pipeline::backfill::{Seen, Stopped};
use defender_alert_export::sandbox::sample;
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::store::backfill::Cancel;
use serde_json::Value;
use uuid::Uuid;

use super::{PATIENT, deployed, ended, hours, now_or_never, span, start, work};
use crate::crash::gate::Side;
use crate::crash::stage::{Kept, Stage, within};
use crate::world::{FOREIGN, World, keys, minutes};

async fn look(world: &World) -> (Verified, Vec<Value>) {
    let (kept, checkpoint) = world.app().state.records().await.unwrap();
    let progress = checkpoint.map(|checkpoint| checkpoint.progress);
    let records = kept.stored.iter().map(|row| serde_json::from_str(&row.text).unwrap());
    let mut records: Vec<Value> = records.collect();
    // Of one instant, rows are in no order.
    records.sort_by_key(|record| record["Number"].as_u64());
    (verify(kept.chain, &kept.stored, progress.as_ref()), records)
}

async fn state(world: &World) -> JobState {
    world.app().exporter.backfill_state().await.unwrap().expect("a job")
}

#[tokio::test]
async fn the_end_of_a_backfill_leaves_a_record_like_a_runs_and_the_chain_goes_on() {
    let (world, _old) = deployed(&[]).await;
    let foreign = sample::alert(9_001, FOREIGN, world.now() - hours(27));
    world.clouds.defender.add([foreign]);
    let position = world.position().await;
    let span = span(&world, 72, hours(24));
    start(&world, span).await;
    let live = world.five_minutes_later().await;
    world.five_minutes_later().await;
    let (verified, records) = look(&world).await;
    assert_eq!(verified.findings, []);
    let [_, of_run, of_job, of_next] = &records[..] else { panic!("{records:?}") };
    assert_eq!(of_run["RunId"], live.run_id);
    for (name, value) in [
        ("Kind", Value::from("Backfill")),
        ("Number", 3.into()),
        ("WindowStart", span.from.to_string().into()),
        ("WindowEnd", span.to.to_string().into()),
        ("Delivered", 160.into()),
        ("Withheld", 1.into()),
        ("Status", "ScopeViolation".into()),
    ] {
        assert_eq!(of_job[name], value, "{name} {of_job}");
    }
    assert_eq!(of_job["Groups"]["Foreign"], 1);
    let passed = position + minutes(5);
    assert_eq!(of_job["Position"]["Before"], passed.to_string());
    assert_eq!(of_job["Position"]["After"], passed.to_string());
    assert_eq!((&of_run["Kind"], &of_next["Kind"]), (&Value::Null, &Value::Null));
    let beat = &world.beats()[2];
    assert_eq!((&beat["RecordNumber"], &beat["RecordHash"]), (&3.into(), &of_next["Previous"]));
}

#[tokio::test]
async fn a_backfill_that_ends_during_a_live_run_claims_nothing_of_the_position() {
    let (world, old) = deployed(&[]).await;
    start(&world, span(&world, 72, hours(24))).await;
    world.pass(minutes(5));
    let other = world.another_instance();
    world.clouds.defender.script().push([Fault::Hang]);
    let mut live = pin!(other.run(Uuid::new_v4()));
    tokio::select! {
        biased;
        () = world.clouds.defender.script().hung() => {}
        ended = &mut live => panic!("{ended:?}"),
    }
    assert_eq!(world.app().exporter.cancel_backfill().await.unwrap(), Cancel::Ended);
    let (_, records) = look(&world).await;
    assert_eq!((&records[1]["Kind"], &records[1]["Position"]), (&"Backfill".into(), &Value::Null));
    assert!(world.delivered().is_empty() && !old.is_empty());
}

#[tokio::test]
async fn a_backfill_cancelled_while_nobody_is_at_it_is_reported_by_the_next_run() {
    let (world, _old) = deployed(&[]).await;
    start(&world, span(&world, 72, hours(24))).await;
    assert_eq!(world.app().exporter.cancel_backfill().await.unwrap(), Cancel::Ended);
    assert_eq!(world.app().exporter.cancel_backfill().await.unwrap(), Cancel::Nothing);
    assert_eq!(world.beats().len(), 1);
    world.five_minutes_later().await;
    let beats = world.beats();
    assert_eq!(beats.len(), 3);
    assert!(beats[1]["Message"].as_str().unwrap().contains(" cancelled: 0 delivered"));
    assert_eq!(look(&world).await.0.findings, []);
}

#[tokio::test]
async fn an_end_that_nobody_told_of_is_told_once_by_a_later_run() {
    let (world, _old) = deployed(&[]).await;
    start(&world, span(&world, 72, hours(24))).await;
    // As a process leaves it that is killed after its last save.
    assert_eq!(world.app().state.cancel_backfill(world.now()).await.unwrap(), Cancel::Ended);
    let told = || {
        let beats = world.beats();
        let ends = beats.iter().filter(|it| it["Message"].as_str().unwrap().contains("Backfill"));
        ends.count()
    };
    for expected in [0, 0, 1, 1] {
        world.five_minutes_later().await;
        assert_eq!(told(), expected, "after {} heartbeats", world.beats().len());
    }
    assert_eq!(look(&world).await.0.findings, []);
}

#[tokio::test]
async fn whoever_is_asked_to_wait_waits_also_in_the_next_run_and_it_is_no_failure() {
    let (world, old) = deployed(&[]).await;
    start(&world, span(&world, 72, hours(24))).await;
    world.clouds.defender.script().push((0..20).map(|_| Fault::throttled(1_500)));
    assert_eq!(work(&world, now_or_never()).await, Stopped::Later);
    world.clouds.defender.script().clear();
    let calls = world.calls();
    let until = world.now() + minutes(25);
    for _ in 0..2 {
        world.pass(minutes(5));
        assert_eq!(state(&world).await.phase, Phase::Waiting(Waits::ForSource { until }));
        assert_eq!(work(&world, now_or_never()).await, Stopped::Later);
    }
    assert!(!state(&world).await.needs_a_person());
    assert_eq!(world.calls(), calls, "it was left alone");
    world.pass(minutes(15));
    ended(&work(&world, now_or_never()).await, Ending::Done);
    assert_eq!(world.delivered(), keys(&old));
}

#[tokio::test]
async fn what_it_waits_for_is_told_while_a_process_is_at_it() {
    let settings = [("FunctionConfigCallsPerHour", "20"), ("FunctionConfigPageSize", "50")];
    let (world, _old) = deployed(&settings).await;
    start(&world, span(&world, 24 * 20, hours(24))).await;
    assert_eq!(state(&world).await.phase, Phase::Next);
    let mut seen = Vec::new();
    let exporter = &world.app().exporter;
    let mut watch = |told: Seen<'_>| seen.extend(told.waits);
    assert_eq!(exporter.backfill(Uuid::new_v4(), now_or_never(), &mut watch).await, Stopped::Later);
    let told = state(&world).await;
    assert_eq!(told.phase, Phase::Waiting(seen[0]));
    assert!(told.percent() > 0 && told.percent() < 100, "{told:?}");
    assert!(told.message(|at| at.to_string()).contains("this hour's calls are used up"));

    world.pass(minutes(61));
    world.clouds.defender.script().push([Fault::Hang]);
    let mut nobody = |_: Seen<'_>| {};
    let mut work = pin!(exporter.backfill(Uuid::new_v4(), PATIENT, &mut nobody));
    tokio::select! {
        biased;
        () = world.clouds.defender.script().hung() => {}
        stopped = &mut work => panic!("{stopped:?}"),
    }
    assert_eq!(state(&world).await.phase, Phase::Working);
    assert_eq!(exporter.cancel_backfill().await.unwrap(), Cancel::Asked);
    assert_eq!(state(&world).await.phase, Phase::Cancelling);
}

/// What `status` prints and ends with.
async fn status(stage: &Stage, more: &[&str]) -> (String, Option<i32>) {
    let folder = stage.folder.to_str().unwrap();
    let mut command = stage.command(&["status", "--state-dir", folder]);
    let output = within("an answer", command.args(more).output()).await.unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

/// A deployment whose live export has run, with alerts of the day before, and
/// a backfill of that day started by jane.
async fn begun(kept: Kept) -> Option<Stage> {
    let mut stage = Stage::set(kept).await?;
    stage.sign_in().await;
    assert_eq!(stage.run_well().await, 0);
    stage.alerts(12, hours(32));
    let now = Stage::whole_second();
    let span = Span { from: now - hours(36), to: now - hours(30) };
    stage.app().exporter.start_backfill(span, Known::PassedOver, "jane").await.unwrap();
    Some(stage)
}

#[tokio::test]
async fn status_shows_the_backfill_and_ends_with_1_once_a_person_must_act() {
    let Some(stage) = begun(Kept::Folder).await else { return };
    let (text, code) = status(&stage, &[]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(", started by jane at 20") && text.contains("\n  0 %: "), "{text}");
    assert!(text.contains("next run that has brought everything new"), "{text}");
    assert!(text.contains("Everything of it before "), "{text}");

    // The live run's heartbeat is taken; the backfill's rows are not.
    stage.clouds.monitor.script.push([Fault::Pass]);
    stage.clouds.monitor.script.push(vec![Fault::status(403); 20]);
    assert_eq!(stage.run().await.code, Some(0));
    let (text, code) = status(&stage, &[]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(", failed: ") && text.contains("\n  Next step: "), "{text}");
    let (json, code) = status(&stage, &["--json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["Backfill"]["Phase"], code), (&"Failed".into(), Some(1)));
    assert_eq!(json["Backfill"]["StartedBy"], "jane");

    stage.clouds.monitor.script.clear();
    assert_eq!(stage.run_well().await, 0);
    let (text, code) = status(&stage, &[]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("  100 %: 12 delivered, 0 already delivered"), "{text}");
    assert!(text.contains("  Done on 20"), "{text}");
    assert_eq!(stage.rows().len(), 12);
}

#[tokio::test]
async fn a_process_killed_before_the_record_of_a_backfill_breaks_no_chain() {
    let Some(stage) = begun(Kept::Azurite).await else { return };
    let gate = stage.gate.as_ref().unwrap();
    // The live run's record passes, the backfill's does not.
    gate.stop(Side::Before, "POST", "Chain", 1);
    crate::crash::killed(&stage, gate.stopped()).await;
    let (json, code) = status(&stage, &["--json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["Backfill"]["Phase"], code), (&"Done".into(), Some(0)), "{json}");
    stage.run_well().await;
    let (text, code) = status(&stage, &["--verify"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("3 records from "), "{text}");
    assert!(stage.rows().values().all(|times| *times == 1), "nothing is sent again");
    assert_eq!(stage.rows().len(), 12);
}
