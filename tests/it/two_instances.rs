//! Of two instances at once, one stands aside or loses quietly; nothing is lost.

use std::pin::pin;

use defender_alert_export::pipeline::Ended;
use uuid::Uuid;

use crate::world::{World, keys, minutes};

async fn until(mut reached: impl FnMut() -> bool) {
    while !reached() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn of_two_runs_at_the_same_time_one_stands_aside() {
    let world = World::new(&[]).await;
    let other = world.another_instance();
    let mut expected = Vec::new();
    for round in 0..5 {
        expected.extend(world.add(100 * round..100 * round + 20, minutes(2)));
        let (one, two) =
            tokio::join!(world.app().exporter.run(Uuid::new_v4()), other.run(Uuid::new_v4()));
        let aside = [&one, &two].into_iter().filter(|ended| **ended == Ended::StoodAside).count();
        assert_eq!(aside, 1, "{one:?} {two:?}");
        assert!(one.did_its_duty() && two.did_its_duty());
        world.pass(minutes(5));
    }
    assert_eq!(world.delivered(), keys(&expected));
    assert_eq!(world.beats().len(), 5, "one reports");
    assert_eq!(world.position().await, world.now() - minutes(6));
}

#[tokio::test]
async fn a_claim_of_an_instance_that_died_is_respected_and_then_taken_over() {
    let world = World::new(&[]).await;
    let other = world.another_instance();
    let expected = world.add(1..20, minutes(2));
    {
        let mut killed = pin!(world.app().exporter.run(Uuid::new_v4()));
        tokio::select! {
            biased;
            () = until(|| world.calls() > 0) => {}
            ended = &mut killed => panic!("{ended:?}"),
        }
    }
    assert_eq!(other.run(Uuid::new_v4()).await, Ended::StoodAside);
    world.pass(minutes(5));
    assert!(matches!(other.run(Uuid::new_v4()).await, Ended::Reported(_, _)));
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn a_run_that_was_overtaken_loses_its_save_and_moves_nothing() {
    let world = World::new(&[]).await;
    let other = world.another_instance();
    let mut expected = world.add(1..20, minutes(2));
    {
        let mut slow = pin!(world.app().exporter.run(Uuid::new_v4()));
        tokio::select! {
            biased;
            () = until(|| world.calls() > 0) => {}
            ended = &mut slow => panic!("{ended:?}"),
        }
        // It sleeps past its claim; the other does the work and more.
        world.pass(minutes(6));
        expected.extend(world.add(20..25, minutes(2)));
        assert!(matches!(other.run(Uuid::new_v4()).await, Ended::Reported(_, _)));
        assert_eq!(world.position().await, world.now() - minutes(1));
        assert_eq!(slow.await, Ended::StoodAside);
    }
    assert_eq!(world.position().await, world.now() - minutes(1));
    assert!(world.delivered_once().into_iter().eq(keys(&expected)));
    assert_eq!(world.beats().len(), 1);
    let delivered = world.delivered().len();
    world.five_minutes_later().await;
    assert_eq!(world.delivered().len(), delivered, "the ledger is the winner's");
}
