//! A span of the past is exported beside the live export: each version once,
//! without moving the live position, its calls or its time.

pub(crate) mod beside_live;
mod end;
mod few_calls;
mod halted;
mod long;
mod sent_again;

use std::pin::pin;
use std::time::Duration;

use defender_alert_export::domain::backfill::{Ending, Known, Span, Waits};
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::domain::progress::Progress;
use defender_alert_export::domain::timestamp::Timestamp;
use defender_alert_export::pipeline::Ended;
use defender_alert_export::pipeline::backfill::{Seen, Stay, Stopped};
use defender_alert_export::pipeline::estimate::Estimate;
use defender_alert_export::sandbox::clouds::{GROUP, TABLE};
use defender_alert_export::sandbox::sample::{self, Sample};
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::store::backfill::{Caller, Cancel, Start};
use tokio::time::Instant;
use uuid::Uuid;

use crate::world::{FOREIGN, World, keys, minutes};

const BOTH: (&str, &str) = ("FunctionConfigAlertTargetType", "LogsIngestion;EventHub");

const fn hours(count: u64) -> Duration {
    Duration::from_hours(count)
}

/// As long as a test may take, waiting for nothing.
fn now_or_never() -> Stay {
    Stay::Until(Instant::now() + minutes(5))
}

const PATIENT: Stay = Stay::ToTheEnd { look_every: Duration::from_millis(1) };

/// The `count` hours before `ago`.
fn span(world: &World, count: u64, ago: Duration) -> Span {
    let to = world.now() - ago;
    Span { from: to - hours(count), to }
}

/// A deployment whose first run has looked back 24 hours, with alerts of two
/// days before that.
async fn deployed(extra: &[(&str, &str)]) -> (World, Vec<Sample>) {
    let world = World::new(extra).await;
    // One with few calls an hour takes several runs.
    let mut status = world.run().await.status;
    while status == Status::CatchingUp {
        status = world.five_minutes_later().await.status;
    }
    assert_eq!(status, Status::Ok);
    let mut old = Vec::new();
    for slice in 0..8 {
        old.extend(world.add(1_000 + slice * 20..1_020 + slice * 20, hours(73 - slice * 6)));
    }
    (world, old)
}

async fn start(world: &World, span: Span) -> Start {
    world.app().exporter.start_backfill(span, Known::PassedOver, "the test").await.unwrap()
}

async fn work(world: &World, stay: Stay) -> Stopped {
    world.app().exporter.backfill(Uuid::new_v4(), stay, &mut |_| {}).await
}

/// The job's position.
async fn reached(world: &World) -> Timestamp {
    let backfill = world.app().state.backfill().await.unwrap().expect("a job");
    backfill.checkpoint.progress.position()
}

fn ended(stopped: &Stopped, how: Ending) -> u64 {
    let Stopped::Ended(job) = stopped else { panic!("{stopped:?}") };
    assert_eq!(job.ended.map(|ended| ended.how), Some(how));
    job.counts.delivered
}

#[tokio::test]
async fn a_span_is_delivered_once_and_the_live_position_never_moves() {
    let (world, old) = deployed(&[]).await;
    let position = world.position().await;
    assert_eq!(start(&world, span(&world, 72, hours(24))).await, Start::Begun);
    let mut told = Vec::new();
    let stopped = world
        .app()
        .exporter
        .backfill(Uuid::new_v4(), now_or_never(), &mut |seen| {
            told.push((seen.position, seen.job.counts.delivered));
        })
        .await;
    assert_eq!(ended(&stopped, Ending::Done), 160);
    assert_eq!(world.delivered(), keys(&old));
    assert_eq!(world.position().await, position);
    assert_eq!(told.len(), 12, "a slice of six hours at a time");
    assert!(told.is_sorted(), "{told:?}");

    let beat = world.beats().pop().unwrap();
    assert_eq!((&beat["Status"], &beat["Delivered"]), (&"Ok".into(), &160.into()));
    assert!(beat["Message"].as_str().unwrap().starts_with("Backfill from 2026-11-17T"), "{beat}");
    assert_eq!(work(&world, now_or_never()).await, Stopped::Nothing);

    let live = world.five_minutes_later().await;
    assert_eq!((live.status, live.counts.delivered), (Status::Ok, 0));
    assert_eq!(world.delivered(), keys(&old));
}

#[tokio::test]
async fn what_the_live_export_delivered_is_not_sent_again() {
    let world = World::new(&[]).await;
    // All in the live export's ledger, half of it delivered.
    let mut expected = world.add(1..20, minutes(60));
    world.run().await;
    for (number, sample) in (500..).zip(expected.clone()) {
        let late = sample::alert(number, GROUP, sample.updated);
        world.clouds.defender.add([late.clone()]);
        expected.push(late);
    }
    start(&world, span(&world, 1, minutes(40))).await;
    assert_eq!(ended(&work(&world, now_or_never()).await, Ending::Done), 19);
    assert_eq!(world.delivered(), keys(&expected));
    // The audit reads that again, and knows what the backfill sent.
    for _ in 0..24 {
        world.pass(hours(1));
        world.run().await;
    }
    let audits = world.beats().into_iter().filter(|row| row["Status"] == "Reconciled");
    assert_eq!(audits.map(|row| row["Fetched"].clone()).collect::<Vec<_>>(), [38]);
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn where_only_first_versions_are_exported_a_backfilled_alert_does_not_come_again() {
    let (world, old) = deployed(&[("FunctionConfigExportUpdates", "False")]).await;
    start(&world, span(&world, 72, hours(24))).await;
    assert_eq!(ended(&work(&world, now_or_never()).await, Ending::Done), 160);
    world.pass(minutes(5));
    world.update(&old[3], minutes(2));
    assert_eq!(world.run().await.counts.delivered, 0);
    assert_eq!(world.delivered(), keys(&old));
}

#[tokio::test]
async fn a_backfill_that_is_killed_goes_on_there_and_repeats_at_most_the_slice_at_hand() {
    let (mut world, old) = deployed(&[]).await;
    let span = span(&world, 72, hours(24));
    start(&world, span).await;
    {
        let mut nobody = |_: Seen<'_>| {};
        let work = world.app().exporter.backfill(Uuid::new_v4(), PATIENT, &mut nobody);
        let mut work = pin!(work);
        let taken = async {
            while world.delivered().len() < 70 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            stopped = &mut work => panic!("{stopped:?}"),
            () = taken => {}
        }
    }
    world.restart(&[]);
    assert_eq!(start(&world, span).await, Start::GoesOn);
    let before = reached(&world).await;
    assert!(before > span.from + hours(6), "{before}");
    let mut told = Vec::new();
    let mut watch = |seen: Seen<'_>| told.push(seen.position);
    let exporter = &world.app().exporter;
    ended(&exporter.backfill(Uuid::new_v4(), now_or_never(), &mut watch).await, Ending::Done);
    assert!(told[0] > before, "it begins where it was saved: {told:?}");
    assert!(world.delivered_once().into_iter().eq(keys(&old)), "nothing is missing");
    let repeated = world.delivered().len() - old.len();
    assert!(repeated <= 20, "{repeated} came twice");
}

#[tokio::test]
async fn a_backfill_that_is_out_of_time_is_resumed_without_a_repeat() {
    let (mut world, old) = deployed(&[]).await;
    let span = span(&world, 72, hours(24));
    start(&world, span).await;
    for _ in 0..40 {
        let stopped = work(&world, Stay::Until(Instant::now())).await;
        world.restart(&[]);
        if let Stopped::Ended(_) = stopped {
            break;
        }
        assert_eq!(stopped, Stopped::Later);
    }
    // One alert a process is as little as there can be.
    while let Stopped::Later = work(&world, now_or_never()).await {}
    assert_eq!(world.delivered(), keys(&old));
}

#[tokio::test]
async fn it_waits_while_a_live_run_is_at_it_and_then_goes_on() {
    let (world, old) = deployed(&[]).await;
    start(&world, span(&world, 72, hours(24))).await;
    // A live run of another instance stands between its claim and its end.
    world.pass(minutes(5));
    world.clouds.defender.script().push([Fault::Hang]);
    let other = world.another_instance();
    {
        let mut live = pin!(other.run(Uuid::new_v4()));
        tokio::select! {
            biased;
            () = world.clouds.defender.script().hung() => {}
            ended = &mut live => panic!("{ended:?}"),
        }
        let calls = world.calls();
        let mut waits = Vec::new();
        let mut watch = |seen: Seen<'_>| waits.push(seen.waits);
        let stopped =
            world.app().exporter.backfill(Uuid::new_v4(), now_or_never(), &mut watch).await;
        assert_eq!((stopped, waits), (Stopped::Later, vec![Some(Waits::ForLive)]));
        assert_eq!((world.calls(), world.delivered().len()), (calls, 0));
    }
    // The live run died; its claim ends.
    world.pass(minutes(6));
    ended(&work(&world, now_or_never()).await, Ending::Done);
    assert_eq!(world.delivered(), keys(&old));
}

#[tokio::test]
async fn it_stops_after_the_page_at_hand_when_a_live_run_begins() {
    let (world, old) = deployed(&[("FunctionConfigPageSize", "50")]).await;
    let many = world.add(5_000..5_400, hours(30));
    start(&world, span(&world, 72, hours(24))).await;
    let mut position = None;
    let exporter = &world.app().exporter;
    let other = world.another_instance();
    world.pass(minutes(5));
    let live = async {
        while world.delivered().is_empty() {
            tokio::task::yield_now().await;
        }
        let ended = other.run(Uuid::new_v4()).await;
        assert!(matches!(&ended, Ended::Reported(it, _) if it.status == Status::Ok), "{ended:?}");
        position = Some(world.position().await);
    };
    let mut watch = |_: Seen<'_>| {};
    let (stopped, ()) = tokio::join!(exporter.backfill(Uuid::new_v4(), PATIENT, &mut watch), live);
    ended(&stopped, Ending::Done);
    assert_eq!(world.delivered(), keys(old.iter().chain(&many)));
    assert_eq!(position, Some(world.position().await));
}

#[tokio::test]
async fn once_a_live_run_has_claimed_it_asks_for_no_other_page() {
    let (world, _old) = deployed(&[("FunctionConfigPageSize", "50")]).await;
    let many = world.add(5_000..5_400, hours(90));
    let from = many[0].updated;
    let span = Span { from, to: from + hours(1) };
    start(&world, span).await;
    let (app, calls) = (world.app(), world.calls());
    let mut nobody = |_: Seen<'_>| {};
    let mut work = pin!(app.exporter.backfill(Uuid::new_v4(), now_or_never(), &mut nobody));
    let two_pages = async {
        while world.calls() < calls + 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = two_pages => {}
        stopped = &mut work => panic!("{stopped:?}"),
    }
    // It stands still meanwhile, with a page on its way at most.
    let mut opened = app.state.open(world.now(), world.now()).await.unwrap();
    let progress = &mut opened.checkpoint.progress;
    *progress = progress.claim("live", "elsewhere", "", world.now()).unwrap();
    app.state.save(&mut opened).await.unwrap();
    let at_claim = world.calls();
    assert_eq!(work.await, Stopped::Later);
    assert!(world.calls() <= at_claim + 1, "{} after {at_claim}", world.calls());
}

#[tokio::test]
async fn calls_are_shared_both_ways_and_some_are_always_left_to_the_live_export() {
    let settings = [("FunctionConfigCallsPerHour", "20"), ("FunctionConfigPageSize", "50")];
    let (world, old) = deployed(&settings).await;
    assert_eq!(world.calls(), 2, "the first run took its slices");
    start(&world, span(&world, 24 * 20, hours(24))).await;
    let mut waits = Vec::new();
    let mut watch = |seen: Seen<'_>| waits.extend(seen.waits);
    let exporter = &world.app().exporter;
    let before = world.calls();
    assert_eq!(exporter.backfill(Uuid::new_v4(), now_or_never(), &mut watch).await, Stopped::Later);
    assert_eq!(world.calls() - before, 5, "fifteen are the live export's");
    assert!(matches!(waits.last(), Some(Waits::ForCalls { .. })), "{waits:?}");
    // What the backfill used counts for the live export too.
    let live = world.add(1..900, minutes(2));
    let beat = world.five_minutes_later().await;
    assert_eq!(beat.status, Status::CatchingUp);
    for _ in 0..10 {
        world.five_minutes_later().await;
    }
    assert!(world.calls() > 9 && world.calls() <= 20, "{} calls in the hour", world.calls());
    for _ in 0..300 {
        world.five_minutes_later().await;
        if let Stopped::Nothing = work(&world, now_or_never()).await {
            break;
        }
    }
    assert_eq!(world.delivered(), keys(old.iter().chain(&live)));
}

#[tokio::test]
async fn whoever_books_calls_sees_that_the_other_side_has_saved_meanwhile() {
    let (world, _old) = deployed(&[]).await;
    start(&world, span(&world, 72, hours(24))).await;
    let state = &world.app().state;
    for (who, other) in [(Caller::Backfill, "a live run"), (Caller::Live, "a backfill")] {
        let before = state.neighbours(who).await.unwrap();
        assert!(state.neighbours(who).await.unwrap().stand_as_in(&before), "{other} was idle");
        if who == Caller::Backfill {
            world.five_minutes_later().await;
            start(&world, span(&world, 72, hours(24))).await;
        } else {
            ended(&work(&world, now_or_never()).await, Ending::Done);
        }
        assert!(!state.neighbours(who).await.unwrap().stand_as_in(&before), "{other} was missed");
    }
}

#[tokio::test]
async fn of_two_processes_one_works_and_nothing_comes_twice() {
    let (world, old) = deployed(&[]).await;
    start(&world, span(&world, 72, hours(24))).await;
    let other = world.another_instance();
    let (mut one_watch, mut two_watch) = (|_: Seen<'_>| {}, |_: Seen<'_>| {});
    let (one, two) = tokio::join!(
        world.app().exporter.backfill(Uuid::new_v4(), PATIENT, &mut one_watch),
        other.backfill(Uuid::new_v4(), PATIENT, &mut two_watch)
    );
    let elsewhere = [&one, &two].into_iter().filter(|it| **it == Stopped::Elsewhere).count();
    assert_eq!(elsewhere, 1, "{one:?} {two:?}");
    assert_eq!(world.delivered(), keys(&old));
}

#[tokio::test]
async fn only_one_job_at_a_time_and_the_same_one_goes_on() {
    let (world, _old) = deployed(&[]).await;
    let first = span(&world, 72, hours(24));
    assert_eq!(start(&world, first).await, Start::Begun);
    assert_eq!(start(&world, first).await, Start::GoesOn);
    let second = Span { from: first.from + hours(1), ..first };
    let Start::Another(job) = start(&world, second).await else { panic!("a second job") };
    assert_eq!(job.span, first);
    let now = world.now();
    assert_eq!(world.app().state.cancel_backfill(now).await.unwrap(), Cancel::Ended);
    assert_eq!(world.app().state.cancel_backfill(now).await.unwrap(), Cancel::Nothing);
    assert_eq!(start(&world, second).await, Start::Begun);
}

#[tokio::test]
async fn a_job_that_is_being_worked_on_is_cancelled_at_its_next_page() {
    let (world, _old) = deployed(&[]).await;
    start(&world, span(&world, 72, hours(24))).await;
    let state = &world.app().state;
    let mut watch = |_: Seen<'_>| {};
    let cancel = async {
        while world.delivered().is_empty() {
            tokio::task::yield_now().await;
        }
        state.cancel_backfill(world.now()).await.unwrap()
    };
    let (stopped, cancelled) =
        tokio::join!(world.app().exporter.backfill(Uuid::new_v4(), PATIENT, &mut watch), cancel);
    assert_eq!(cancelled, Cancel::Asked);
    let delivered = ended(&stopped, Ending::Cancelled);
    assert_eq!(delivered, world.delivered().len() as u64);
    assert!(delivered < 160);
}

#[tokio::test]
async fn foreign_alerts_are_withheld_and_reported_at_the_end() {
    let (world, old) = deployed(&[]).await;
    let foreign = sample::alert(9_001, FOREIGN, world.now() - hours(50));
    world.clouds.defender.add([foreign]);
    start(&world, span(&world, 72, hours(24))).await;
    ended(&work(&world, now_or_never()).await, Ending::Done);
    assert_eq!(world.delivered(), keys(&old));
    let beat = world.beats().pop().unwrap();
    assert_eq!((&beat["Status"], &beat["Withheld"]), (&"ScopeViolation".into(), &1.into()));
}

#[tokio::test]
async fn a_guard_that_halts_halts_the_backfill_until_a_person_resumes() {
    let (world, _old) = deployed(&[("FunctionConfigScopeGuard", "halt")]).await;
    let foreign = sample::alert(9_001, FOREIGN, world.now() - hours(50));
    world.clouds.defender.add([foreign]);
    start(&world, span(&world, 72, hours(24))).await;
    for words in ["alert of device groups", "has been stopped since"] {
        let Stopped::Failed(advice) = work(&world, now_or_never()).await else { panic!("no halt") };
        assert!(advice.message.contains(words), "{}", advice.message);
    }
    let backfill = world.app().state.backfill().await.unwrap().unwrap();
    assert!(matches!(backfill.checkpoint.progress, Progress::Halted { .. }));
    // Who sees the heartbeats alone must hear of it too.
    let live = world.five_minutes_later().await;
    assert_eq!(live.status, Status::Ok);
    assert!(live.message.contains(" does not go on. Halted since 2026-11-21T"), "{}", live.message);
    assert!(live.next_step.contains("Then resume, or cancel the backfill."), "{}", live.next_step);
    assert!(world.app().state.resume().await.unwrap());
    assert!(matches!(work(&world, now_or_never()).await, Stopped::Failed(_)), "it is still there");
}

#[tokio::test]
async fn one_target_down_does_not_keep_the_span_from_the_other() {
    let (world, old) = deployed(&[BOTH]).await;
    start(&world, span(&world, 72, hours(24))).await;
    world.clouds.hub.script.push(vec![Fault::status(503); 1_000]);
    let Stopped::Failed(advice) = work(&world, now_or_never()).await else { panic!("no failure") };
    assert!(advice.message.starts_with("EventHub did not take"), "{}", advice.message);
    let job = world.app().state.backfill().await.unwrap().unwrap().job;
    assert_eq!(job.problem.map(|problem| problem.message), Some(advice.message));
    let workspace = || World::keys_of(&world.clouds.monitor.tables.rows(TABLE));
    assert_eq!(workspace(), keys(&old));
    let position = reached(&world).await;
    assert!((job.span.from..=old[0].updated).contains(&position), "the slowest holds it");
    world.clouds.hub.script.clear();
    ended(&work(&world, now_or_never()).await, Ending::Done);
    assert_eq!(workspace(), keys(&old));
    assert_eq!(world.clouds.hub.events().len(), 160);
}

#[tokio::test]
async fn a_live_run_goes_on_with_a_backfill_somebody_started_in_the_portal() {
    let (world, old) = deployed(&[]).await;
    start(&world, span(&world, 72, hours(24))).await;
    let new = world.add(1..10, minutes(0));
    let live = world.five_minutes_later().await;
    assert_eq!((live.status, live.counts.delivered), (Status::Ok, 9), "its own alone");
    assert_eq!(world.delivered(), keys(old.iter().chain(&new)));
    let said: Vec<_> = world.beats().iter().map(|beat| beat["Delivered"].clone()).collect();
    assert_eq!(said, [0, 9, 160]);
}

#[tokio::test]
async fn a_dry_run_counts_and_sends_nothing_and_its_calls_count_for_others() {
    let settings = [("FunctionConfigCallsPerHour", "60"), ("FunctionConfigPageSize", "50")];
    let (world, old) = deployed(&settings).await;
    world.clouds.defender.add([sample::alert(9_001, FOREIGN, world.now() - hours(50))]);
    let (calls, beats) = (world.calls(), world.beats().len());
    let span = span(&world, 72, hours(24));
    let mut nobody = |_: &Estimate, _: Option<Waits>| {};
    let exporter = &world.app().exporter;
    let estimate = exporter.estimate(span, Duration::from_millis(1), &mut nobody).await.unwrap();
    assert_eq!((estimate.alerts, estimate.withheld, estimate.calls), (160, 1, 12));
    assert_eq!((estimate.calls_per_hour, estimate.minutes()), (45, 16));
    let bytes: u64 = old.iter().map(|sample| sample.json().len() as u64).sum();
    assert!(estimate.bytes.abs_diff(bytes) < bytes / 100, "{} for {bytes}", estimate.bytes);
    assert_eq!(world.calls() - calls, 13, "a slice each, and a page to measure");
    assert_eq!((world.delivered(), world.beats().len()), (vec![], beats));
    assert_eq!(world.blobs("").await, []);
    assert!(world.app().state.backfill().await.unwrap().is_none());

    let neighbours = world.app().state.neighbours(Caller::Live).await.unwrap();
    let used: u32 = neighbours.calls.iter().map(|calls| calls.used(world.now())).sum();
    assert_eq!(used, 13);
    start(&world, span).await;
    ended(&work(&world, now_or_never()).await, Ending::Done);
}

#[tokio::test]
async fn a_span_that_cannot_be_backfilled_is_refused_in_words() {
    let fresh = World::new(&[]).await;
    let refused = |world: &World, span| {
        let exporter = world.app().exporter.clone();
        async move {
            exporter
                .start_backfill(span, Known::PassedOver, "the test")
                .await
                .unwrap_err()
                .to_string()
        }
    };
    let ordinary = span(&fresh, 10, hours(1));
    assert!(refused(&fresh, ordinary).await.contains("has not run yet"));
    let (world, _old) = deployed(&[("FunctionConfigCallsPerHour", "3")]).await;
    let said = refused(&world, span(&world, 10, hours(1))).await;
    assert!(said.contains("at least 4"), "{said}");
    assert!(world.app().state.backfill().await.unwrap().is_none());
}
