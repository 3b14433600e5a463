//! A kill while the daily audit delivers what was missing.

use std::time::Duration;

use defender_alert_export::domain::audit::Audit;
use defender_alert_export::sandbox::clouds::GROUP;
use defender_alert_export::sandbox::sample;
use defender_alert_export::sandbox::script::Fault::DoAndHang;

use super::stage::{Kept, Stage};
use super::{Again, survives};

/// An alert that no live run looks for any more, and an audit that is due.
async fn with_something_missing(kept: Kept) -> Option<Stage> {
    let mut stage = Stage::set(kept).await?;
    stage.sign_in().await;
    stage.alerts(5, Duration::from_mins(5));
    stage.run_well().await;
    let late = Stage::whole_second() - Duration::from_mins(50);
    stage.alert(sample::alert(900, GROUP, late));
    let app = stage.app();
    let now = Stage::whole_second();
    let mut opened = app.state.open(now, now).await.unwrap();
    opened.checkpoint.audit = Audit::Resting { since: now - Duration::from_hours(30) };
    app.state.save(&mut opened).await.unwrap();
    Some(stage)
}

#[tokio::test]
async fn killed_between_an_audits_delivery_and_its_save_only_that_is_sent_again() {
    for kept in [Kept::Folder, Kept::Azurite] {
        let Some(stage) = with_something_missing(kept).await else { continue };
        stage.clouds.monitor.script.push([DoAndHang]);
        let standing = stage.clouds.monitor.script.hung();
        survives(&stage, standing, Again::WhatWasTaken).await;
        let audits: Vec<_> =
            stage.heartbeats().into_iter().filter(|row| row["Status"] == "Reconciled").collect();
        assert_eq!(audits.len(), 1);
        assert_eq!((&audits[0]["Fetched"], &audits[0]["Delivered"]), (&1.into(), &1.into()));
    }
}
