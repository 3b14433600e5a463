//! Whose claim is taken over, and when.

use std::time::Duration;

use defender_alert_export::domain::progress::{Claim, Progress};
use defender_alert_export::sandbox::script::Fault::{DoAndHang, Hang};

use super::killed;
use super::stage::{Done, Kept, Stage, within};

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
    for kept in [Kept::Folder, Kept::Azurite] {
        let Some(mut stage) = with_a_dead_claim(kept).await else { continue };
        if kept == Kept::Azurite {
            // The instance counts, whatever the container is called.
            stage.settings.insert("HOSTNAME".to_owned(), "another".to_owned());
        }
        assert_eq!(stage.run_well().await, 5);
    }
}

#[tokio::test]
async fn two_processes_of_one_host_name_on_one_account_never_export_at_once() {
    let Some(mut stage) = Stage::set(Kept::Azurite).await else { return };
    stage.settings.remove("WEBSITE_INSTANCE_ID");
    stage.sign_in().await;
    stage.alerts(5, Duration::from_mins(5));
    stage.clouds.monitor.script.push([Hang]);
    let mut first = stage.start();
    within("the first is at it", stage.clouds.monitor.script.hung()).await;
    let aside = |done: Done| done.heartbeat["Status"] == "StoodAside" && done.code == Some(0);
    assert!(aside(stage.run().await), "the second, while the first lives");
    first.kill().await.unwrap();
    assert!(aside(stage.run().await), "a restart, until the lease ends");
    end_the_lease(&stage).await;
    assert_eq!(stage.run_well().await, 5);
    assert!(stage.rows().values().all(|times| *times == 1), "nothing twice");
}

#[tokio::test]
async fn a_claim_of_another_instance_is_respected_until_its_lease_ends() {
    for kept in [Kept::Folder, Kept::Azurite] {
        let Some(mut stage) = with_a_dead_claim(kept).await else { continue };
        for name in ["HOSTNAME", "WEBSITE_INSTANCE_ID"] {
            stage.settings.insert(name.to_owned(), "another".to_owned());
        }
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
    assert!(claim.instance.starts_with("here"), "{}", claim.instance);
    assert!(claim.until > now + Duration::from_mins(3), "it was alive");
    *progress = Progress::Running { position, claim: Claim { until: now, ..claim } };
    app.state.save(&mut opened).await.unwrap();
}
