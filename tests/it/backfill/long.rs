//! A job, and the count before one, may take longer than a token lives.

use super::*;

/// Two months back, with a few calls an hour: a wait for calls every hour.
const FEW: (&str, &str) = ("FunctionConfigCallsPerHour", "30");

#[tokio::test]
async fn a_dry_run_outlives_its_token() {
    let (world, _old) = deployed(&[FEW]).await;
    let before = world.clouds.clock.now();
    let clock = world.clouds.clock.clone();
    let mut watch = |_: &Estimate, waits: Option<Waits>| {
        if let Some(Waits::ForCalls { until }) = waits {
            clock.advance(until.since(clock.now()));
        }
    };
    let span = span(&world, 24 * 60, hours(24));
    let exporter = &world.app().exporter;
    let estimate = exporter.estimate(span, Duration::from_millis(1), &mut watch).await.unwrap();
    assert_eq!(estimate.alerts, 160);
    assert!(world.clouds.clock.now().since(before) > hours(3), "longer than a token lives");
}

#[tokio::test]
async fn a_backfill_outlives_its_token() {
    let (world, old) = deployed(&[FEW]).await;
    start(&world, span(&world, 24 * 60, hours(24))).await;
    let (before, clock) = (world.clouds.clock.now(), world.clouds.clock.clone());
    let mut watch = |seen: Seen<'_>| {
        if let Some(Waits::ForCalls { until }) = seen.waits {
            clock.advance(until.since(clock.now()));
        }
    };
    let stopped = world.app().exporter.backfill(Uuid::new_v4(), PATIENT, &mut watch).await;
    assert_eq!(ended(&stopped, Ending::Done), 160);
    assert_eq!(world.delivered(), keys(&old));
    assert!(world.clouds.clock.now().since(before) > hours(3), "longer than a token lives");
}
