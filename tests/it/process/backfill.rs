//! A backfill started in the portal is worked on by whatever runs the export.

use std::time::Duration;

use defender_alert_export::domain::backfill::{Known, Span};
use serde_json::Value;

use super::Hosted;
use crate::crash::stage::{Kept, Stage, within};
use crate::handler::INVOCATION;

const fn hours(count: u64) -> Duration {
    Duration::from_hours(count)
}

/// Run once, with two slices of alerts in the day before.
async fn deployed(kept: Kept) -> Option<(Stage, Span)> {
    let mut stage = Stage::set(kept).await?;
    stage.sign_in().await;
    assert_eq!(stage.run_well().await, 0);
    stage.alerts(12, hours(32));
    stage.alerts(12, hours(26));
    let now = Stage::whole_second();
    Some((stage, Span { from: now - hours(36), to: now - hours(24) }))
}

fn all_once(stage: &Stage) {
    assert_eq!(stage.delivered(), stage.alerts.keys().cloned().collect());
    assert!(stage.rows().values().all(|times| *times == 1), "{:?}", stage.rows());
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    text.split_once(before).unwrap().1.split_once(after).unwrap().0
}

async fn told(hosted: &Hosted) -> Value {
    let request = hosted.client.get(format!("{}/api/portal/status.json", hosted.url)).send();
    let answer = within("the facts", request).await.unwrap();
    let facts: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    facts["Backfill"].clone()
}

#[tokio::test]
async fn serve_works_on_a_backfill_that_was_started_in_its_portal() {
    let Some((stage, span)) = deployed(Kept::Azurite).await else { return };
    let hosted = Hosted::ready(&stage).await;
    let portal = format!("{}/api/portal", hosted.url);
    let answer = hosted.client.get(&portal).send().await.unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    let page = String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap();
    let typed = [
        ("token", between(&page, "name=\"token\" value=\"", "\"").to_owned()),
        ("from", span.from.to_string()),
        ("to", span.to.to_string()),
    ];
    let press = hosted.client.post(format!("{portal}/backfill")).form(&typed);
    let press = press.header("cookie", cookie.split(';').next().unwrap());
    let answer = press.send().await.unwrap();
    assert_eq!(answer.headers()["location"], "/api/portal?done=backfill");
    assert_eq!(told(&hosted).await["Phase"], "Waiting");

    let log = hosted.invoke_well(INVOCATION).await;
    assert!(log.starts_with("Ok: 0 delivered"), "the live run's own alone: {log}");
    let told = told(&hosted).await;
    assert_eq!((&told["Phase"], &told["Delivered"]), (&"Done".into(), &24.into()));
    all_once(&stage);
    hosted.kill().await;
}

#[tokio::test]
async fn run_works_on_it_too() {
    let Some((stage, span)) = deployed(Kept::Folder).await else { return };
    stage.app().exporter.start_backfill(span, Known::PassedOver, "the portal").await.unwrap();
    assert_eq!(stage.run_well().await, 0);
    all_once(&stage);
    let told = stage.app().exporter.backfill_state().await.unwrap().unwrap();
    assert!(!told.job.is_under_way(), "{told:?}");
}
