//! Killed around a heartbeat that could not go and waits for the next run.

use std::collections::BTreeMap;
use std::time::Duration;

use defender_alert_export::sandbox::script::Fault::{self, Pass};

use super::gate::Side;
use super::killed;
use super::stage::{Kept, Stage};

/// A run's rows are taken, and its heartbeat is not.
async fn deployed() -> Option<Stage> {
    let mut stage = Stage::set(Kept::Azurite).await?;
    stage.sign_in().await;
    stage.alerts(5, Duration::from_mins(5));
    stage.clouds.monitor.script.push([Pass, Fault::status(404)]);
    Some(stage)
}

/// How often each run's heartbeat is in the workspace.
fn told(stage: &Stage) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for row in stage.heartbeats() {
        *told.entry(row["RunId"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    told
}

async fn waiting(stage: &Stage) -> usize {
    stage.app().state.pending().await.unwrap().len()
}

async fn every_alert_is_there_once(stage: &Stage) {
    assert_eq!(stage.run_well().await, 0);
    assert_eq!(stage.delivered(), stage.alerts.keys().cloned().collect());
    assert!(stage.rows().values().all(|times| *times == 1), "{:?}", stage.rows());
    assert_eq!(waiting(stage).await, 0);
}

#[tokio::test]
async fn killed_while_a_heartbeat_is_kept_no_alert_is_lost_and_what_was_kept_goes_once() {
    for (side, kept) in [(Side::Before, 0), (Side::After, 1)] {
        let Some(stage) = deployed().await else { return };
        stage.gate.as_ref().unwrap().stop(side, "POST", "Pending.", 0);
        killed(&stage, stage.gate.as_ref().unwrap().stopped()).await;
        assert_eq!(waiting(&stage).await, kept);
        assert_eq!(stage.heartbeats().len(), 0);
        every_alert_is_there_once(&stage).await;
        let told = told(&stage);
        assert_eq!(told.len(), kept + 1, "its own, and the one that was kept");
        assert!(told.values().all(|times| *times == 1), "{told:?}");
    }
}

#[tokio::test]
async fn killed_while_a_heartbeat_that_was_sent_is_forgotten_it_goes_once_more_at_most() {
    for (side, left) in [(Side::Before, 1), (Side::After, 0)] {
        let Some(stage) = deployed().await else { return };
        let first = stage.run().await.heartbeat["RunId"].as_str().unwrap().to_owned();
        assert_eq!((waiting(&stage).await, stage.heartbeats().len()), (1, 0));
        stage.gate.as_ref().unwrap().stop(side, "DELETE", "Pending.", 0);
        killed(&stage, stage.gate.as_ref().unwrap().stopped()).await;
        assert_eq!(told(&stage), BTreeMap::from([(first.clone(), 1)]), "taken before the kill");
        assert_eq!(waiting(&stage).await, left);
        every_alert_is_there_once(&stage).await;
        let told = told(&stage);
        assert_eq!(told[&first], 1 + left);
        assert!(told.iter().all(|(run, times)| *run == first || *times == 1), "{told:?}");
    }
}
