//! While the live export is halted nothing leaves by a backfill either.

use defender_alert_export::domain::job_state::Phase;
use defender_alert_export::pipeline::backfill::CannotStart;

use super::*;

/// An export that a foreign alert has halted, with alerts of two days before.
async fn halted(started: bool) -> (World, Vec<Sample>) {
    let (world, old) = deployed(&[("FunctionConfigScopeGuard", "halt")]).await;
    if started {
        start(&world, span(&world, 72, hours(24))).await;
    }
    world.clouds.defender.add([sample::alert(9_001, FOREIGN, world.now())]);
    let status = world.five_minutes_later().await.status;
    assert_eq!(status, Status::ScopeViolation);
    (world, old)
}

#[tokio::test]
async fn none_can_be_started_until_the_export_is_resumed() {
    let (world, _old) = Box::pin(halted(false)).await;
    let span = span(&world, 72, hours(24));
    let start = async |known| world.app().exporter.start_backfill(span, known, "jane").await;
    let error = start(Known::SentAgain).await.unwrap_err();
    assert!(matches!(error, CannotStart::Halted { .. }), "{error}");
    assert!(error.to_string().starts_with("the export has been halted since 2026-"), "{error}");
    assert!(world.delivered().is_empty());
    assert!(world.app().state.resume().await.unwrap());
    assert_eq!(start(Known::PassedOver).await.unwrap(), Start::Begun);
}

#[tokio::test]
async fn one_that_is_under_way_waits_until_the_export_is_resumed() {
    let (world, old) = Box::pin(halted(true)).await;
    let mut waits = Vec::new();
    let stopped = world
        .app()
        .exporter
        .backfill(Uuid::new_v4(), now_or_never(), &mut |seen| waits.extend(seen.waits))
        .await;
    assert_eq!(stopped, Stopped::Later);
    assert!(matches!(waits[..], [Waits::ForResume { .. }]), "{waits:?}");
    assert!(world.delivered().is_empty(), "nothing leaves");
    let state = world.app().exporter.backfill_state().await.unwrap().unwrap();
    assert!(matches!(state.phase, Phase::Waiting(Waits::ForResume { .. })), "{state:?}");
    let words = state.message(|at| at.to_string());
    assert!(words.contains("nothing leaves until somebody resumes it"), "{words}");
    assert!(world.app().state.resume().await.unwrap());
    ended(&work(&world, now_or_never()).await, Ending::Done);
    assert_eq!(world.delivered(), keys(&old));
}

#[tokio::test]
async fn one_that_is_halted_is_told_of_in_runs_that_are_not_due_too() {
    let (world, _old) = deployed(&[("FunctionConfigCallsPerHour", "6")]).await;
    start(&world, span(&world, 72, hours(24))).await;
    let (app, now) = (world.app(), world.now());
    let mut opened = app.state.open_backfill(now).await.unwrap().unwrap();
    let progress = &mut opened.checkpoint.progress;
    let scope = app.exporter.rules.scope.fingerprint();
    *progress = progress.claim("r", "i", &scope, now).unwrap().halt(&scope, now).unwrap();
    app.state.save(&mut opened).await.unwrap();
    let mut not_due = 0;
    for _ in 0..6 {
        let live = world.five_minutes_later().await;
        not_due += usize::from(live.message.contains("Not due yet"));
        assert!(live.message.contains(" does not go on. Halted since 2026-"), "{}", live.message);
        assert!(live.next_step.contains("Then resume, or cancel"), "{}", live.next_step);
    }
    assert!(not_due > 2);
    world.clouds.defender.script().push([Fault::throttled(900)]);
    while world.five_minutes_later().await.status != Status::SourceThrottled {}
    let waits = world.five_minutes_later().await;
    assert_eq!(waits.status, Status::SourceThrottled);
    assert!(waits.message.contains(" does not go on. Halted since 2026-"), "{}", waits.message);
}
