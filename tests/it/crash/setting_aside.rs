//! Killed while a row or a whole alert is written to the container.

use std::time::Duration;

use defender_alert_export::sandbox::clouds::{GROUP, TABLE};
use defender_alert_export::sandbox::sample::{self, Sample};

use super::gate::Side;
use super::killed;
use super::stage::{Kept, Stage, key};

async fn blobs(stage: &Stage, prefix: &str) -> usize {
    stage.app().blobs.list(prefix).await.unwrap().len()
}

#[tokio::test]
async fn killed_while_a_refused_row_is_set_aside() {
    for (side, written) in [(Side::Before, 0), (Side::After, 1)] {
        let Some(mut stage) = Stage::set(Kept::Azurite).await else { return };
        stage.sign_in().await;
        stage.alerts(6, Duration::from_mins(5));
        let refused = stage.alerts.keys().nth(2).unwrap().clone();
        stage.clouds.monitor.tables.refuse_rows_matching(&refused);
        let gate = stage.gate.as_ref().unwrap();
        // The container is made on the way.
        stage.app().blobs.put("made", bytes::Bytes::from_static(b"x")).await.unwrap();
        gate.stop(side, "PUT", "quarantine%2F", 0);
        killed(&stage, gate.stopped()).await;
        assert_eq!(blobs(&stage, "quarantine/").await, written);
        stage.position_is_not_ahead().await;
        let taken = stage.delivered();

        let done = stage.run().await.heartbeat;
        assert_eq!((done["Status"].as_str(), done["Quarantined"].as_u64()), (Some("Ok"), Some(1)));
        assert_eq!(blobs(&stage, "quarantine/").await, 1, "set aside once");
        let mut expected = stage.alerts.clone();
        expected.remove(&refused);
        assert!(stage.delivered().iter().eq(expected.keys()));
        let repeated = stage.rows().into_iter().filter(|(_, times)| *times > 1);
        assert!(repeated.map(|(key, _)| key).eq(taken), "what was taken is sent again");

        let done = stage.run().await.heartbeat;
        assert_eq!((done["Delivered"].as_u64(), done["Quarantined"].as_u64()), (Some(0), Some(0)));
        stage.position_is_not_ahead().await;
    }
}

#[tokio::test]
async fn killed_between_a_whole_alert_in_the_container_and_its_row() {
    for (side, written) in [(Side::Before, 0), (Side::After, 1)] {
        let Some(mut stage) = Stage::set(Kept::Azurite).await else { return };
        stage.sign_in().await;
        stage.alerts(3, Duration::from_mins(5));
        let at = Stage::whole_second() - Duration::from_mins(2);
        let long = Sample { evidence: 120, ..sample::alert(77, GROUP, at) };
        let name = key(&long);
        stage.alert(long);
        let gate = stage.gate.as_ref().unwrap();
        stage.app().blobs.put("made", bytes::Bytes::from_static(b"x")).await.unwrap();
        gate.stop(side, "PUT", "alerts%2F", 0);
        killed(&stage, gate.stopped()).await;
        assert_eq!(blobs(&stage, "alerts/").await, written);
        assert!(!stage.delivered().contains(&name), "no row names a blob that is not there");

        stage.run_well().await;
        assert_eq!(stage.delivered(), stage.alerts.keys().cloned().collect());
        let rows = stage.clouds.monitor.tables.rows(TABLE);
        let row = rows.iter().find(|row| row["ExportKey"] == name.as_str()).unwrap();
        assert_eq!(row["Truncated"], true);
        let original = row["OriginalBlob"].as_str().unwrap().to_owned();
        let app = stage.app();
        let whole = app.blobs.get(&original).await.unwrap().unwrap();
        let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(whole["evidence"].as_array().unwrap().len(), 120);
        assert_eq!(app.blobs.list("alerts/").await.unwrap().len(), 1);
        drop(app);
        assert_eq!(stage.run_well().await, 0);
    }
}
