//! What a file did not take is sent again, and kept until a file holds it.

use std::pin::pin;
use std::sync::{Arc, Mutex};

use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::pipeline::replay::{Kept, Outcome, Why};
use tokio::sync::Notify;

use super::export::Files;
use super::keys_in;
use crate::proxy::{Fate, asking};
use crate::store::{azurite, connection};
use crate::world::{FOREIGN, World, key, keys, minutes};

/// What becomes of whatever would write a text into a file.
#[derive(Clone, Default)]
struct Rule {
    of: Arc<Mutex<Option<(String, Fate)>>>,
    hung: Arc<Notify>,
}

impl Rule {
    fn set(&self, of: Option<(String, Fate)>) {
        *self.of.lock().unwrap() = of;
    }

    fn fate(&self, target: &str, body: &[u8]) -> Fate {
        let of = self.of.lock().unwrap();
        // Documents that are set aside end in .json.
        let Some((text, fate)) = of.as_ref().filter(|_| target.contains(".jsonl")) else {
            return Fate::Pass;
        };
        let written = String::from_utf8_lossy(body).contains(text);
        if written && *fate == Fate::Hang {
            self.hung.notify_one();
        }
        if written { *fate } else { Fate::Pass }
    }
}

async fn kept(world: &World) -> Vec<Kept> {
    world.app().exporter.kept().await.unwrap()
}

async fn replay(world: &World) -> Outcome {
    let outcome = world.app().exporter.replay(&kept(world).await).await.unwrap().remove(0);
    outcome.unwrap()
}

#[tokio::test]
async fn a_row_a_file_refused_is_moved_once_a_file_holds_it_and_not_before() {
    for files in Files::each() {
        let rule = Rule::default();
        let asked = rule.clone();
        let real = match &files {
            Files::Blobs { .. } => azurite("AZURITE_BLOB").unwrap(),
            Files::Bucket { address, .. } => address.clone(),
        };
        let (_proxy, address) = asking(&real, move |target, body| asked.fate(target, body)).await;
        let (setting, value, target) = match &files {
            Files::Blobs { .. } => {
                let through = connection().unwrap().replace(real.as_str(), address.as_str());
                ("AzureWebJobsStorage", through, "StorageBlob")
            }
            Files::Bucket { .. } => ("FunctionConfigS3Endpoint", address.to_string(), "S3"),
        };
        let mut world = files.world().await;
        world.restart(&[(setting, value.as_str())]);
        let expected = world.add(1..21, minutes(3));
        let poison = expected[7].id();
        rule.set(Some((poison.clone(), Fate::Refuse(413))));
        let heartbeat = world.run().await;
        assert_eq!(heartbeat.status, Status::Ok, "{}", heartbeat.message);
        assert_eq!((heartbeat.counts.delivered, heartbeat.counts.quarantined), (19, 1));
        let listed = kept(&world).await;
        let [Kept { name, why: Why::Refused { sink, reason, alert_id, .. }, .. }] = &listed[..]
        else {
            panic!("{listed:?}");
        };
        assert_eq!((sink.as_str(), alert_id.as_deref()), (target, Some(poison.as_str())));
        assert!(reason.starts_with("the sink answered 413"), "{reason}");

        assert!(matches!(replay(&world).await, Outcome::Refused(_)));
        rule.set(Some((poison.clone(), Fate::Refuse(403))));
        assert!(matches!(replay(&world).await, Outcome::NotTaken(_)));
        // Killed before the file took it.
        rule.set(Some((poison, Fate::Hang)));
        {
            let mut killed = pin!(replay(&world));
            tokio::select! {
                biased;
                () = rule.hung.notified() => {}
                outcome = &mut killed => panic!("{outcome:?}"),
            }
        }
        rule.set(None);
        world.restart(&[("FunctionConfigDeviceGroups", FOREIGN)]);
        assert_eq!(replay(&world).await, Outcome::Withheld);
        assert_eq!(files.rows().await.len(), 19, "{target}");
        assert_eq!(world.blobs("replayed/").await, []);
        let still: Vec<_> = kept(&world).await.into_iter().map(|kept| kept.name).collect();
        assert_eq!(still, std::slice::from_ref(name), "{target}");

        world.restart(&[("FunctionConfigDeviceGroups", "RXX Example Trust")]);
        assert_eq!(replay(&world).await, Outcome::Sent);
        assert_eq!(keys_in(&files.rows().await), keys(&expected), "{target}");
        assert_eq!(kept(&world).await, []);
        let marked = world.blobs("replayed/").await;
        let [(moved, document)] = &marked[..] else { panic!("{marked:?}") };
        assert_eq!(*moved, format!("replayed/{name}"));
        assert!(document.contains("replayedAt") && document.contains(&key(&expected[7])));
        assert_eq!(world.five_minutes_later().await.counts.delivered, 0, "the ledger knows it");
        assert_eq!(files.rows().await.len(), 20);
    }
}
