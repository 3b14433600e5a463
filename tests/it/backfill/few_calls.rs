//! A backfill of a trust whose share is that of a fleet of 250.

use std::time::Duration;

use defender_alert_export::domain::backfill::Ending;
use defender_alert_export::domain::heartbeat::Status;

use super::{deployed, hours, span, start};
use crate::world::{keys, minutes};

#[tokio::test]
async fn of_six_calls_an_hour_one_is_left_and_brings_days_of_the_past() {
    let (world, mut expected) = deployed(&[("FunctionConfigCallsPerHour", "6")]).await;
    start(&world, span(&world, 24 * 14, hours(24))).await;
    let began = world.now();
    let mut ended = None;
    for number in 0..12 * 8 {
        if number % 12 == 0 {
            expected.extend(world.add(9_000 + number..9_001 + number, minutes(2)));
        }
        let live = world.five_minutes_later().await;
        assert_eq!(live.status, Status::Ok, "{}", live.message);
        assert!(live.lag_seconds.unwrap() <= 20 * 60, "{live:?}");
        let job = world.app().state.backfill().await.unwrap().unwrap().job;
        if job.ended.is_some() && ended.is_none() {
            ended = job.ended;
        }
    }
    let ended = ended.expect("two weeks are done in a few hours");
    assert_eq!(ended.how, Ending::Done);
    assert!(ended.at.since(began) <= hours(6), "{ended:?}");
    assert_eq!(world.delivered(), keys(&expected));

    let called: Vec<_> = world.clouds.defender.called().iter().map(|call| call.at).collect();
    let within = |end: usize| {
        let hour = |at| called[end].since(at) < Duration::from_hours(1);
        called[..=end].iter().filter(|at| hour(**at)).count()
    };
    assert_eq!((0..called.len()).map(within).max(), Some(5), "four runs, and one of the past");
}
