//! Alerts are used while their page still arrives, and not more of them are held
//! than can be used.

use std::time::Duration;

use defender_alert_export::http::retry::pause;
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::source::Item;
use tokio::time::timeout;

use crate::source_world::{BOTH, World};

/// How long anything may take before a test gives up on it.
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_has_arrived_of_a_page_is_handed_out_while_the_rest_hangs() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(100);
        // 20 alerts and a part of one, or more of them.
        world.script().push([Fault::HangAfter(120_000)]);
        let mut reader = world.reader(100);
        for number in 0..20 {
            let item = timeout(BOUND, reader.next()).await;
            let item = item.unwrap_or_else(|_elapsed| panic!("alert {number} is held back"));
            assert!(matches!(item.unwrap(), Some(Item::Alert(_))));
        }
        world.script().hung().await;
        reader.stop().await;
    }
}

/// Calls made once no more are; `least` come for certain.
async fn calls_made(world: &World, least: usize) -> usize {
    let come = async {
        while world.targets().len() < least {
            pause(Duration::from_millis(5)).await;
        }
        loop {
            let seen = world.targets().len();
            pause(Duration::from_millis(500)).await;
            if world.targets().len() == seen {
                return seen;
            }
        }
    };
    timeout(BOUND, come).await.expect("calls come, and then no more")
}

#[tokio::test]
async fn no_more_is_read_ahead_than_four_megabytes() {
    for api in BOTH {
        // Pages of some 2 MB, 16 MB in all.
        let world = World::of(api).await;
        world.add(4_000);
        let mut reader = world.reader(500).asking_ahead();
        assert!(matches!(reader.next().await.unwrap(), Some(Item::Alert(_))));
        let ahead = calls_made(&world, 2).await;
        assert!(ahead <= 4, "{ahead} pages are held");
        let (mut count, mut bytes) = (1, 0);
        while let Some(item) = reader.next().await.unwrap() {
            if let Item::Alert(alert) = item {
                count += 1;
                bytes += alert.raw().len();
            }
        }
        assert!(count == 4_000 && bytes > 14_000_000, "{count} alerts, {bytes} bytes");
        assert!(world.targets().len() >= 8);

        // Without that nothing is asked for before it can be used.
        let world = World::of(api).await;
        world.add(1_000);
        let mut reader = world.reader(500);
        assert!(matches!(reader.next().await.unwrap(), Some(Item::Alert(_))));
        assert_eq!(calls_made(&world, 1).await, 1);
    }
}
