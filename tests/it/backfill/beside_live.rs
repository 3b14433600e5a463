//! Who reads the same at once, and what is saved while a page is on its way.

use std::future::Future;

use defender_alert_export::domain::progress::SetBack;
use defender_alert_export::pipeline::backfill::CannotStart;

use super::*;

/// Works until Defender has been asked `calls` times; then the work stands
/// still, with the answer on its way.
pub(crate) async fn asked(
    world: &World,
    calls: usize,
    mut work: impl Future<Output = Stopped> + Unpin,
) {
    let enough = async {
        while world.calls() < calls {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = enough => {}
        stopped = &mut work => panic!("{stopped:?}"),
    }
}

/// The latest end that is possible now.
async fn latest(world: &World) -> Timestamp {
    let live = world.app().state.checkpoint().await.unwrap().unwrap();
    world.app().exporter.possible_backfill(&live).to
}

async fn refused(world: &World, span: Span) -> CannotStart {
    let start = world.app().exporter.start_backfill(span, Known::PassedOver, "the test");
    start.await.unwrap_err()
}

#[tokio::test]
async fn a_live_run_that_begins_and_ends_while_a_page_is_on_its_way_sends_nothing_of_it() {
    let (world, _old) = deployed(&[]).await;
    let to = latest(&world).await;
    let late = sample::alert(7, GROUP, to - Duration::from_secs(10));
    world.clouds.defender.add([late.clone()]);
    start(&world, Span { from: to - hours(2), to }).await;
    let mut nobody = |_: Seen<'_>| {};
    let exporter = &world.app().exporter;
    let mut work = pin!(exporter.backfill(Uuid::new_v4(), now_or_never(), &mut nobody));
    asked(&world, world.calls() + 1, &mut work).await;
    world.pass(minutes(2));
    let live = world.another_instance().run(Uuid::new_v4()).await;
    assert!(matches!(&live, Ended::Reported(it, _) if it.status == Status::Ok), "{live:?}");
    assert_eq!(ended(&work.await, Ending::Done), 1);
    assert_eq!(world.delivered(), keys([&late]));
}

#[tokio::test]
async fn a_halt_while_a_page_is_on_its_way_stops_it_after_that_page() {
    let extra = [("FunctionConfigPageSize", "50"), ("FunctionConfigScopeGuard", "halt")];
    let (world, _old) = deployed(&extra).await;
    let from = world.add(5_000..5_400, hours(90))[0].updated;
    start(&world, Span { from, to: from + hours(1) }).await;
    let mut nobody = |_: Seen<'_>| {};
    let exporter = &world.app().exporter;
    let mut work = pin!(exporter.backfill(Uuid::new_v4(), now_or_never(), &mut nobody));
    asked(&world, world.calls() + 2, &mut work).await;
    world.pass(minutes(2));
    let foreign = sample::alert(9_001, FOREIGN, world.now() - Duration::from_secs(90));
    world.clouds.defender.add([foreign]);
    let live = world.another_instance().run(Uuid::new_v4()).await;
    assert!(matches!(&live, Ended::Reported(it, _) if it.status == Status::ScopeViolation));
    let at_halt = world.calls();
    assert_eq!(work.await, Stopped::Later);
    assert!(world.calls() <= at_halt + 1, "{} after {at_halt}", world.calls());
    assert!(world.delivered().len() <= 150, "{} rows", world.delivered().len());
}

#[tokio::test]
async fn a_job_waits_where_the_live_export_was_set_back_before_it() {
    let (world, old) = deployed(&[]).await;
    let span = span(&world, 72, hours(24));
    start(&world, span).await;
    let state = &world.app().state;
    let mut opened = state.open(world.now(), world.now()).await.unwrap();
    let to = span.from + hours(3);
    let back = SetBack::of(world.position().await, to, world.now() - hours(1)).unwrap();
    state.set_back(&mut opened, back, world.now()).await.unwrap();
    state.save(&mut opened).await.unwrap();

    let mut waits = Vec::new();
    let mut watch = |seen: Seen<'_>| waits.push(seen.waits);
    let exporter = &world.app().exporter;
    assert_eq!(exporter.backfill(Uuid::new_v4(), now_or_never(), &mut watch).await, Stopped::Later);
    assert_eq!((waits, world.delivered()), (vec![Some(Waits::ForLiveToPass)], vec![]));
    let told = exporter.backfill_state().await.unwrap().unwrap();
    let said = told.message(|at| at.to_string());
    assert!(said.contains("what comes next the live export still reads by itself"), "{said}");
    while work(&world, now_or_never()).await != Stopped::Nothing {
        world.five_minutes_later().await;
    }
    assert_eq!(world.delivered(), keys(&old));
}

#[tokio::test]
async fn an_end_that_the_live_export_still_reads_again_is_refused_in_words() {
    let (world, _old) = deployed(&[]).await;
    let error = refused(&world, span(&world, 10, minutes(20))).await;
    let said = error.to_string();
    let latest = latest(&world).await;
    assert_eq!(latest, world.position().await.floor(minutes(1)) - minutes(30));
    assert!(said.contains(&format!("lies after {latest}, up to where the live export")), "{said}");
    assert!(error.next_step().contains("can be asked for half an hour later"), "{error}");
    let span = Span { from: latest - hours(1), to: latest };
    assert_eq!(start(&world, span).await, Start::Begun);
}

#[tokio::test]
async fn a_gap_that_comes_of_reading_only_the_last_minutes_is_not_said_to_come_by_itself() {
    let (mut world, _old) = deployed(&[]).await;
    world.restart(&[("FunctionConfigUse_last_saved_time", "False")]);
    world.pass(hours(10));
    world.run().await;
    let error = refused(&world, span(&world, 8, hours(1))).await;
    let said = error.to_string();
    assert!(!said.contains("by itself") || said.contains("does not come by itself"), "{said}");
    let next_step = error.next_step();
    assert!(next_step.contains("Switch FunctionConfigUse_last_saved_time on"), "{next_step}");
}
