//! What a target accepted and then lost can be sent once more.

use defender_alert_export::store::{Change, Local, Store};
use tokio::sync::Notify;

use super::*;

async fn start_again(world: &World, span: Span) -> Start {
    world.app().exporter.start_backfill(span, Known::SentAgain, "jane").await.unwrap()
}

#[tokio::test]
async fn what_was_delivered_before_is_sent_again_once_where_a_person_asks_for_it() {
    let world = World::new(&[]).await;
    // Within reach of the live export, whose ledger holds them.
    let alerts = world.add(1..20, hours(3));
    world.run().await;
    assert_eq!(world.delivered(), keys(&alerts));
    let span = span(&world, 4, hours(1));
    start(&world, span).await;
    assert_eq!(ended(&work(&world, now_or_never()).await, Ending::Done), 0, "passed over");

    assert_eq!(start_again(&world, span).await, Start::Begun);
    assert_eq!(ended(&work(&world, now_or_never()).await, Ending::Done), 19);
    let twice: Vec<_> = keys(&alerts).into_iter().flat_map(|key| [key.clone(), key]).collect();
    assert_eq!(world.delivered(), twice);

    start(&world, span).await;
    ended(&work(&world, now_or_never()).await, Ending::Done);
    world.five_minutes_later().await;
    assert_eq!(world.delivered(), twice, "remembered as before");
}

#[tokio::test]
async fn the_other_choice_is_another_job_and_the_usual_one_is_stored_as_before() {
    let (world, _old) = deployed(&[]).await;
    let span = span(&world, 72, hours(24));
    assert_eq!(start(&world, span).await, Start::Begun);
    assert!(matches!(start_again(&world, span).await, Start::Another(_)));
    let job = world.app().state.backfill().await.unwrap().unwrap().job;
    assert_eq!(serde_json::to_value(&job).unwrap().get("Known"), None, "as of earlier versions");
}

#[tokio::test]
async fn whoever_takes_over_sends_nothing_again_that_was_saved() {
    let (world, old) = deployed(&[]).await;
    start_again(&world, span(&world, 72, hours(24))).await;
    let (app, begun) = (world.app(), Notify::new());
    let mut watch = |seen: Seen<'_>| {
        if seen.job.counts.delivered > 0 {
            begun.notify_one();
        }
    };
    tokio::select! {
        stopped = app.exporter.backfill(Uuid::new_v4(), PATIENT, &mut watch) => panic!("{stopped:?}"),
        () = begun.notified() => {}
    }
    let before = world.delivered().len();
    assert!((1..160).contains(&before), "{before} of 160");
    ended(&work(&world, now_or_never()).await, Ending::Done);
    assert_eq!(world.delivered_once().into_iter().collect::<Vec<_>>(), keys(&old));
    // What was on its way when it was cut off, at most.
    assert!(world.delivered().len() <= 180, "{} rows", world.delivered().len());
}

#[tokio::test]
async fn what_a_process_that_died_left_behind_keeps_nothing_from_being_sent_again() {
    let mut world = World::new(&[]).await;
    world.add(1..20, hours(3));
    world.run().await;
    let span = span(&world, 4, hours(1));
    start_again(&world, span).await;
    assert_eq!(work(&world, Stay::Until(Instant::now())).await, Stopped::Later);
    world.stop();
    let store = Store::Local(Local::open(world.folder.path()).unwrap());
    let pages = store.scan("Ledger.B.", "Ledger.B/").await.unwrap();
    assert!(!pages.is_empty());
    drop(store);
    world.restart(&[]);
    ended(&work(&world, now_or_never()).await, Ending::Done);

    // As they lie when the process dies between its last save and their removal.
    world.stop();
    let store = Store::Local(Local::open(world.folder.path()).unwrap());
    for page in pages {
        store.commit(&[Change::Insert { key: page.key, fields: page.fields }]).await.unwrap();
    }
    drop(store);
    world.restart(&[]);
    assert_eq!(start_again(&world, span).await, Start::Begun);
    assert_eq!(ended(&work(&world, now_or_never()).await, Ending::Done), 19);
}
