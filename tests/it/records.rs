//! Every run that reports leaves a record, and nobody changes one unseen.

use std::sync::atomic::{AtomicUsize, Ordering};

use defender_alert_export::domain::chain::{Verified, verify};
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::domain::scope::OnForeign;
use defender_alert_export::sandbox::sample;
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::sandbox::script::Fault::DoAndHang;
use defender_alert_export::store::{Change, Local, Row, Store, Value as Field};
use serde_json::Value;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::{Layer, Registry};
use uuid::Uuid;

use crate::crash::gate::Side;
use crate::crash::killed;
use crate::crash::stage::{Kept, Stage, within};
use crate::world::{FOREIGN, World, minutes};

async fn look(world: &World) -> Verified {
    let (kept, checkpoint) = world.app().state.records().await.unwrap();
    let progress = checkpoint.map(|checkpoint| checkpoint.progress);
    verify(kept.chain, &kept.stored, progress.as_ref())
}

/// How many records an unbroken chain has.
async fn unbroken(world: &World) -> usize {
    let found = look(world).await;
    let findings: Vec<_> = found.findings.iter().map(ToString::to_string).collect();
    assert_eq!(findings, Vec::<String>::new());
    found.records.len()
}

#[tokio::test]
async fn runs_that_end_in_any_way_leave_one_unbroken_chain_whose_head_is_in_the_heartbeat() {
    let mut world = World::signed_out(&[]).await;
    let mut statuses = vec![world.run().await.status];
    world.sign_in().await;
    world.add(1..30, minutes(3));
    statuses.push(world.five_minutes_later().await.status);
    world.clouds.defender.script().push((0..8).map(|_| Fault::throttled(600)));
    statuses.push(world.five_minutes_later().await.status);
    world.clouds.defender.script().clear();
    statuses.push(world.five_minutes_later().await.status);
    world.pass(minutes(10));
    world.add(30..60, minutes(3));
    world.clouds.monitor.script.push((0..4).map(|_| Fault::status(503)));
    statuses.push(world.five_minutes_later().await.status);
    world.clouds.monitor.script.clear();
    world.restart(&[("FunctionConfigScopeGuard", "halt")]);
    // The spent hour made the period a quarter of an hour.
    world.pass(minutes(10));
    world.clouds.defender.add([sample::alert(90, FOREIGN, world.now() - minutes(2))]);
    statuses.push(world.five_minutes_later().await.status);
    statuses.push(world.five_minutes_later().await.status);
    assert_eq!(world.app().exporter.rules.on_foreign, OnForeign::Halt);
    assert_eq!(
        statuses,
        [
            Status::SignInNeeded,
            Status::Ok,
            Status::SourceThrottled,
            Status::SourceThrottled,
            Status::SinkFailed,
            Status::ScopeViolation,
            Status::Halted,
        ]
    );
    assert_eq!(unbroken(&world).await, 7);
    let found = look(&world).await;
    let told: Vec<_> = world
        .beats()
        .iter()
        .map(|beat| (beat["RecordNumber"].as_u64(), beat["RecordHash"].as_str().map(str::to_owned)))
        .collect();
    let kept: Vec<_> = found
        .records
        .iter()
        .map(|record| (Some(record.name.number), Some(record.hash.to_string())))
        .collect();
    assert_eq!(told, kept);
    let head = found.head.unwrap();
    assert_eq!((Some(head.number), Some(head.hash.to_string())), kept[6]);
}

#[tokio::test]
async fn two_instances_that_end_at_once_keep_one_unbroken_chain() {
    let world = World::signed_out(&[]).await;
    let other = world.another_instance();
    for _ in 0..5 {
        tokio::join!(world.app().exporter.run(Uuid::new_v4()), other.run(Uuid::new_v4()));
        world.pass(minutes(5));
    }
    assert_eq!(unbroken(&world).await, 10);
    world.sign_in().await;
    for round in 0..5 {
        world.add(100 * round..100 * round + 20, minutes(2));
        tokio::join!(world.app().exporter.run(Uuid::new_v4()), other.run(Uuid::new_v4()));
        world.pass(minutes(5));
    }
    // The one that stood aside left none.
    assert_eq!(unbroken(&world).await, 15);
}

#[tokio::test]
async fn records_older_than_30_days_go_and_the_rest_stays_proven() {
    let world = World::new(&[]).await;
    for days in [1, 14, 14, 2, 13] {
        world.run().await;
        world.pass(minutes(days * 24 * 60));
    }
    world.run().await;
    assert_eq!(unbroken(&world).await, 4);
}

#[tokio::test]
async fn a_record_tells_the_window_the_counts_the_position_and_both_digests() {
    let mut world = World::new(&[]).await;
    world.add(1..4, minutes(3));
    let heartbeat = world.run().await;
    world.restart(&[("FunctionConfigPageSize", "777")]);
    world.five_minutes_later().await;
    let (kept, _) = world.app().state.records().await.unwrap();
    let records: Vec<Value> =
        kept.stored.iter().map(|row| serde_json::from_str(&row.text).unwrap()).collect();
    let [first, second] = &records[..] else { panic!("{records:?}") };
    assert_eq!(first["RunId"], heartbeat.run_id);
    assert_eq!(first["Delivered"], 3);
    assert_eq!(first["WindowEnd"], "2026-11-21T09:59:05Z");
    assert_eq!(first["Position"]["Before"], Value::Null);
    assert_eq!(first["Position"]["After"], "2026-11-21T09:59:05Z");
    assert_eq!(second["Position"]["Before"], "2026-11-21T09:59:05Z");
    assert_eq!(second["Previous"], heartbeat.record_hash.unwrap().to_string());
    assert_ne!(first["Settings"], second["Settings"]);
    assert_eq!(first["Binary"], second["Binary"]);
    assert_eq!(first["Binary"].as_str().unwrap().len(), 64);
}

/// Panics at the first page of a run's second window.
struct Bug(AtomicUsize);

impl<S: Subscriber> Layer<S> for Bug {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let page = event.metadata().target() == "defender_alert_export::source::reading";
        assert!(!page || self.0.fetch_add(1, Ordering::Relaxed) != 1, "a bug");
    }
}

#[tokio::test]
async fn a_run_that_breaks_off_after_a_save_records_how_far_it_came() {
    // With one subscriber alone, other threads' tests decide what is logged.
    let _second = tracing::Dispatch::new(Registry::default());
    let bug = Registry::default().with(Bug(AtomicUsize::new(0)));
    let _guard = tracing::subscriber::set_default(bug);
    let world = World::new(&[]).await;
    assert_eq!(world.run().await.status, Status::StorageFailed);
    let (kept, _) = world.app().state.records().await.unwrap();
    let record: Value = serde_json::from_str(&kept.stored[0].text).unwrap();
    assert_eq!(record["Position"]["After"], world.position().await.to_string());
    assert_ne!(record["Position"]["After"], record["Position"]["Before"]);
    world.five_minutes_later().await;
    assert_eq!(unbroken(&world).await, 2);
}

/// Changes rows behind the program's back, while no process has them open.
async fn tamper(world: &mut World, change: impl Fn(Vec<Row>) -> Vec<Change>) {
    world.stop();
    let store = Store::Local(Local::open(world.folder.path()).unwrap());
    let mut rows = store.scan("Run.", "Run/").await.unwrap();
    rows.extend(store.get("Chain").await.unwrap());
    store.commit(&change(rows)).await.unwrap();
    drop(store);
    world.restart(&[]);
}

#[tokio::test]
async fn what_is_done_to_a_record_is_found_by_the_command_line_and_goes_on_being_found() {
    let mut world = World::new(&[]).await;
    for n in 0..4 {
        world.add(10 * n..10 * n + 3, minutes(2));
        world.five_minutes_later().await;
    }
    assert_eq!(unbroken(&world).await, 4);
    tamper(&mut world, |mut rows| {
        let row = rows.remove(1);
        let Some(Field::Text(text)) = row.fields.get("Run") else { panic!("{row:?}") };
        let text = text.replace("\"Withheld\":0", "\"Withheld\":1");
        let fields = [("Run".to_owned(), Field::Text(text))].into();
        vec![Change::Replace { key: row.key, etag: row.etag, fields }]
    })
    .await;
    world.five_minutes_later().await;
    let found = look(&world).await.findings;
    assert!(found.len() == 1 && found[0].to_string().starts_with("Changed: record 2"), "{found:?}");
    tamper(&mut world, |mut rows| {
        let row = rows.remove(2);
        vec![Change::Delete { key: row.key, etag: row.etag }]
    })
    .await;
    world.five_minutes_later().await;
    let found = look(&world).await.findings;
    assert!(found[0].to_string().starts_with("Missing: record 3, between record 2"), "{found:?}");
}

#[tokio::test]
async fn a_record_that_cannot_be_written_keeps_no_heartbeat_back() {
    let mut world = World::new(&[]).await;
    world.run().await;
    tamper(&mut world, |rows| {
        let mut row = rows.into_iter().last().unwrap();
        row.fields.insert("HeadNumber".to_owned(), Field::Int(i64::MAX));
        vec![Change::Replace { key: row.key, etag: row.etag, fields: row.fields }]
    })
    .await;
    world.add(1..3, minutes(1));
    let heartbeat = world.five_minutes_later().await;
    assert_eq!((heartbeat.status, heartbeat.counts.delivered), (Status::Ok, 2));
    assert_eq!((heartbeat.record_number, heartbeat.record_hash), (None, None));
    assert_eq!(world.beats().len(), 2);
}

/// What `status --verify` prints and ends with.
async fn ask(stage: &Stage, more: &[&str]) -> (String, Option<i32>) {
    let folder = stage.folder.to_str().unwrap();
    let mut command = stage.command(&["status", "--verify", "--state-dir", folder]);
    let output = within("an answer", command.args(more).output()).await.unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[tokio::test]
async fn a_process_killed_anywhere_but_before_its_record_leaves_no_gap() {
    for kept in [Kept::Folder, Kept::Azurite] {
        let Some(mut stage) = Stage::set(kept).await else { continue };
        let (text, code) = ask(&stage, &[]).await;
        assert_eq!((text.trim(), code), ("No run has left a record yet.", Some(0)));
        stage.sign_in().await;
        stage.run_well().await;
        stage.alerts(60, minutes(5));
        stage.clouds.monitor.script.push([Fault::Pass, DoAndHang]);
        killed(&stage, stage.clouds.monitor.script.hung()).await;
        stage.run_well().await;
        let (text, code) = ask(&stage, &[]).await;
        assert_eq!(code, Some(0), "{text}");
        let beat = stage.heartbeats().pop().unwrap();
        let hash = beat["RecordHash"].as_str().unwrap();
        assert!(text.starts_with("2 records from "), "{text}");
        assert!(text.contains("unbroken.\n") && text.contains(&format!("record 2, {hash}")));
        assert!(text.contains("DefenderExportRecordHead | where TrustName == 'RXX'"), "{text}");
        let (json, _) = ask(&stage, &["--json"]).await;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["Unbroken"], &json["HeadHash"]), (&true.into(), &hash.into()));
        assert_eq!(json["Records"][1]["RecordHash"], hash);
    }
}

#[tokio::test]
async fn a_process_killed_between_save_and_record_is_named_by_the_span_it_moved() {
    let Some(mut stage) = Stage::set(Kept::Azurite).await else { return };
    stage.sign_in().await;
    stage.run_well().await;
    stage.alerts(5, minutes(5));
    let gate = stage.gate.as_ref().unwrap();
    gate.stop(Side::Before, "POST", "Chain", 0);
    let before = stage.app().state.checkpoint().await.unwrap().unwrap().progress.position();
    killed(&stage, gate.stopped()).await;
    let after = stage.app().state.checkpoint().await.unwrap().unwrap().progress.position();
    assert_ne!(before, after);
    let (text, code) = ask(&stage, &[]).await;
    assert_eq!(code, Some(1));
    assert!(text.contains(&format!("moved from {before} to {after}; record 1 of")), "{text}");
    stage.run_well().await;
    let (text, code) = ask(&stage, &[]).await;
    assert_eq!(code, Some(1));
    assert!(text.starts_with("2 records from ") && text.contains("NOT unbroken"), "{text}");
    let span = format!("Without a record the position moved from {before} to {after}");
    assert!(text.contains(&span) && text.contains("was killed between"), "{text}");
}
