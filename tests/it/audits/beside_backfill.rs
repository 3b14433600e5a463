//! An audit beside a backfill that another process is at.

use std::pin::pin;

use defender_alert_export::domain::backfill::{Known, Span};
use defender_alert_export::pipeline::backfill::{Seen, Stay, Stopped};
use tokio::time::Instant;

use super::*;
use crate::backfill::beside_live::asked;

#[tokio::test]
async fn what_a_backfill_has_on_its_way_is_not_taken_for_missing() {
    let world = World::new(&[]).await;
    world.run().await;
    world.pass(HOUR * 3 + minutes(31));
    world.run().await;
    // They surface where no live run looks any more, a minute before the audit.
    let from = world.now() - HOUR * 3;
    let late: Vec<_> = (1..30).map(|n| sample::alert(n, GROUP, from + minutes(n))).collect();
    world.clouds.defender.add(late.clone());
    let span = Span { from, to: from + HOUR * 2 };
    let exporter = &world.app().exporter;
    exporter.start_backfill(span, Known::PassedOver, "the test").await.unwrap();
    let (other, mut nobody) = (world.another_instance(), |_: Seen<'_>| {});
    let stay = Stay::Until(Instant::now() + minutes(5));
    let mut work = pin!(other.backfill(Uuid::new_v4(), stay, &mut nobody));
    asked(&world, world.calls() + 1, &mut work).await;

    world.pass(minutes(2));
    assert_eq!(world.run().await.status, Status::Ok);
    let checkpoint = world.app().state.checkpoint().await.unwrap().unwrap();
    assert!(matches!(checkpoint.audit, Audit::UnderWay { .. }), "it is due, and waits");
    assert!(audits(&world).is_empty());

    assert!(matches!(work.await, Stopped::Ended(_)));
    assert_eq!(world.five_minutes_later().await.status, Status::Ok);
    assert_eq!(audits(&world).iter().map(counted).collect::<Vec<_>>(), [(29, 0)]);
    assert_eq!(world.delivered(), keys(&late));
}
