//! An account that lost its view of the trust's devices gets the same empty
//! list as a quiet trust: after a week somebody is asked to look.

use std::time::Duration;

use defender_alert_export::domain::heartbeat::Status;

use crate::world::{World, minutes};

const SAID: &str = "No alert of this trust's device groups was met since";
const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn a_week_without_an_alert_asks_for_a_test_alert_until_one_comes() {
    let world = World::new(&[]).await;
    world.add(1..3, minutes(5));
    let first = world.run().await;
    assert_eq!((first.status, first.next_step.as_str()), (Status::Ok, ""), "{}", first.message);
    let met = world.now().date();
    // Out of the overlap: what is seen again is proof that it still can be.
    world.pass(minutes(40));
    world.run().await;

    world.pass(6 * DAY);
    let heartbeat = world.run().await;
    assert!(!heartbeat.message.contains(SAID), "{}", heartbeat.message);
    world.pass(DAY);
    let heartbeat = world.run().await;
    assert_eq!(heartbeat.status, Status::Ok, "nothing is wrong for certain");
    assert!(heartbeat.message.contains(&format!("{SAID} {met}.")), "{}", heartbeat.message);
    assert!(heartbeat.next_step.contains("Raise a test alert"), "{}", heartbeat.next_step);

    // A mail is split by the next step: while nothing changes it stays the same.
    world.pass(DAY);
    let again = world.run().await;
    assert_eq!(again.next_step, heartbeat.next_step);

    world.add(3..4, minutes(2));
    let heartbeat = world.five_minutes_later().await;
    assert_eq!(heartbeat.counts.delivered, 1);
    assert!(!heartbeat.message.contains(SAID), "{}", heartbeat.message);
    assert_eq!(heartbeat.next_step, "");
}
