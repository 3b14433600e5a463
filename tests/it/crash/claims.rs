//! Whose claim is taken over, and when.

use std::time::Duration;

use defender_alert_export::domain::progress::{Claim, Progress};
use defender_alert_export::sandbox::script::Fault::DoAndHang;

use super::killed;
use super::stage::{Kept, Stage};

/// A run of this machine was killed while it held the claim.
async fn with_a_dead_claim(kept: Kept) -> Option<Stage> {
    let mut stage = Stage::set(kept).await?;
    stage.sign_in().await;
    stage.alerts(5, Duration::from_mins(5));
    stage.clouds.monitor.script.push([DoAndHang]);
    killed(&stage, stage.clouds.monitor.script.hung()).await;
    Some(stage)
}

#[tokio::test]
async fn a_claim_of_the_same_instance_is_taken_over_at_once() {
    for (kept, name) in [
        (Kept::Folder, "HOSTNAME"),
        (Kept::Azurite, "HOSTNAME"),
        (Kept::Azurite, "WEBSITE_INSTANCE_ID"),
    ] {
        let Some(mut stage) = with_a_dead_claim(kept).await else { continue };
        if name == "WEBSITE_INSTANCE_ID" {
            // Where it is set it counts, whatever the container is called.
            stage.settings.insert("HOSTNAME".to_owned(), "another".to_owned());
            stage.settings.insert(name.to_owned(), "here".to_owned());
        }
        assert_eq!(stage.run_well().await, 5);
    }
}

#[tokio::test]
async fn a_claim_of_another_instance_is_respected_until_its_lease_ends() {
    for kept in [Kept::Folder, Kept::Azurite] {
        let Some(mut stage) = with_a_dead_claim(kept).await else { continue };
        stage.settings.insert("HOSTNAME".to_owned(), "another".to_owned());
        let heartbeats = stage.heartbeats().len();
        let done = stage.run().await;
        assert_eq!((done.heartbeat["Status"].as_str(), done.code), (Some("StoodAside"), Some(0)));
        assert_eq!(stage.rows().values().sum::<usize>(), 5, "nothing was sent");
        assert_eq!(stage.heartbeats().len(), heartbeats, "the other one reports");

        end_the_lease(&stage).await;
        assert_eq!(stage.run_well().await, 5);
        assert_eq!(stage.run_well().await, 0);
    }
}

/// Five minutes pass, without waiting for them.
async fn end_the_lease(stage: &Stage) {
    let app = stage.app();
    let now = Stage::whole_second();
    let mut opened = app.state.open(now, now).await.unwrap();
    let progress = &mut opened.checkpoint.progress;
    let Progress::Running { position, claim } = progress.clone() else { panic!("{progress:?}") };
    assert_eq!(claim.instance, "here");
    assert!(claim.until > now + Duration::from_mins(3), "it was alive");
    *progress = Progress::Running { position, claim: Claim { until: now, ..claim } };
    app.state.save(&mut opened).await.unwrap();
}
