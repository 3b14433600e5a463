//! What one request carries, and how many are under way at once.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::http::retry::pause;
use defender_alert_export::sandbox::script::Fault;
use flate2::read::GzDecoder;
use tokio::time::timeout;
use uuid::Uuid;

use crate::world::{TARGETS, World, keys, minutes};

/// What was sent, unpacked where it is packed, and whether it was.
fn unpacked(body: &Bytes) -> (usize, bool) {
    let mut plain = Vec::new();
    match GzDecoder::new(&body[..]).read_to_end(&mut plain) {
        Ok(_) => (plain.len(), true),
        Err(_not_gzip) => (body.len(), false),
    }
}

#[tokio::test]
async fn every_request_is_filled_to_what_its_target_takes_and_no_further() {
    let largest = [1_000_000, 2_000_000, 900_000];
    for (target, largest) in TARGETS.into_iter().zip(largest) {
        let world = World::new(&[("FunctionConfigAlertTargetType", target)]).await;
        // Rows of some 4 KB, 3 MB of them.
        let expected = world.add(1..801, minutes(3));
        assert_eq!(world.run().await.status, Status::Ok, "{target}");
        assert_eq!(world.delivered(), keys(&expected));
        let mut bodies = world.clouds.monitor.tables.bodies();
        bodies.extend(world.clouds.hub.bodies());
        let sizes: Vec<_> = bodies.iter().map(|body| unpacked(body).0).collect();
        let (most, all) = (sizes.iter().max().unwrap(), sizes.iter().sum::<usize>());
        assert!(all > 2_500_000, "{target}: {all} bytes");
        let filled = largest - 20_000..=largest;
        assert!(filled.contains(most), "{target}: {most} bytes in one request");
        // The heartbeat's may go elsewhere.
        let packed = bodies.iter().filter(|body| unpacked(body).1).count();
        let all_packed = [bodies.len(), 0, 1];
        let at = TARGETS.iter().position(|it| *it == target).unwrap();
        assert_eq!(packed, all_packed[at], "{target}");
    }
}

#[tokio::test]
async fn four_requests_are_under_way_at_once_and_not_five() {
    let world = World::new(&[]).await;
    // Six batches.
    world.add(1..1_500, minutes(3));
    let script = world.clouds.monitor.script.clone();
    script.push(vec![Fault::Hang; 4]);
    let run = world.app().exporter.run(Uuid::new_v4());
    let four_hang = async {
        while script.seen().len() < 4 {
            pause(Duration::from_millis(5)).await;
        }
        // A fifth would be answered at once.
        pause(Duration::from_millis(300)).await;
    };
    tokio::select! {
        ended = run => panic!("{ended:?}"),
        waited = timeout(Duration::from_secs(20), four_hang) => waited.unwrap(),
    }
    assert_eq!(script.seen().len(), 4);
}
