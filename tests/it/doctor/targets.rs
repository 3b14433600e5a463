//! The app's own identity, every target, and the rule's columns.

use std::time::Duration;

use defender_alert_export::app;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::Vars;
use defender_alert_export::doctor::examine;
use defender_alert_export::domain::check::Verdict;
use defender_alert_export::http::Http;
use defender_alert_export::sandbox::script::Fault;

use super::{Practice, names, says};
use crate::world::{Folder, START, World, at, quick};

#[tokio::test]
async fn a_target_that_refuses_says_what_its_own_advice_is() {
    for (target, status, words) in [
        ("LogsIngestion", 403, "Monitoring Metrics Publisher"),
        ("LogsIngestion", 404, "FunctionConfigLogsIngestionRuleId"),
        ("EventHub", 403, "Azure Event Hubs Data Sender"),
        ("LogAnalytics", 403, "FunctionConfigLogAnalyticsKeyValue"),
    ] {
        let mut practice = Practice::new(&[("FunctionConfigAlertTargetType", target)]).await;
        let refusals = || std::iter::repeat_n(Fault::status(status), 20);
        let patient = practice.patient(&[]);
        practice.world.clouds.monitor.script.push(refusals());
        practice.world.clouds.hub.script.push(refusals());
        let checks = examine(&patient).await;
        says(&checks, "target", Verdict::Fail, &[target, words]);
        says(&checks, "heartbeats", Verdict::Fail, &["Heartbeats"]);
        says(&checks, "container", Verdict::Ok, &[]);
    }
}

#[tokio::test]
async fn a_target_whose_empty_post_proves_nothing_says_so() {
    let mut practice = Practice::new(&[("FunctionConfigAlertTargetType", "EventHub")]).await;
    let patient = practice.patient(&[]);
    practice.world.clouds.hub.script.push([Fault::Pass, Fault::status(400)]);
    says(&examine(&patient).await, "target", Verdict::Warn, &["refuses a post without rows (400)"]);
    assert!(practice.world.clouds.hub.events().len() == 3, "no made-up event");
}

#[tokio::test]
async fn the_retired_interface_works_and_is_warned_of() {
    let mut practice = Practice::new(&[("FunctionConfigAlertTargetType", "LogAnalytics")]).await;
    let checks = practice.visit().await;
    says(&checks, "target", Verdict::Warn, &["14 September 2026", "LogsIngestion"]);
    says(&checks, "identity", Verdict::Ok, &["keys are used throughout"]);
    assert!(!names(&checks).contains(&"columns"), "there is no rule");
}

#[tokio::test]
async fn columns_the_rule_would_drop_are_named() {
    let mut practice = Practice::new(&[]).await;
    practice.world.clouds.directory.drop_column("Evidence");
    practice.world.clouds.directory.drop_column("NextStep");
    practice.world.clouds.directory.make_text("IncidentId");
    let checks = practice.visit().await;
    says(
        &checks,
        "columns",
        Verdict::Fail,
        &[
            "column Evidence of Custom-DefenderRawAlert is missing",
            "column NextStep of Custom-Heartbeat is missing",
            "column IncidentId of Custom-DefenderRawAlert is not of type long",
            "deployment again",
        ],
    );
    practice.world.clouds.directory.hide_rule();
    let checks = practice.visit().await;
    says(&checks, "columns", Verdict::Warn, &["may not read the data collection rule", "Reader"]);
}

#[tokio::test]
async fn an_app_without_its_identity_is_told_where_to_switch_it_on() {
    let mut practice = Practice::new(&[]).await;
    let app = [("IDENTITY_ENDPOINT", ""), ("WEBSITE_SITE_NAME", "rxx-export")];
    let checks = examine(&practice.patient(&app)).await;
    says(
        &checks,
        "identity",
        Verdict::Fail,
        &["no managed identity", "switch the system-assigned"],
    );
    says(&checks, "settings", Verdict::Fail, &["AzureWebJobsStorage: not set"]);
}

#[tokio::test]
async fn a_person_who_may_not_look_learns_nothing_bad_of_the_app() {
    // An event hub answers 401 to who has no right there.
    for (target, status) in [("LogsIngestion", 403), ("EventHub", 403), ("EventHub", 401)] {
        let mut practice = Practice::new(&[("FunctionConfigAlertTargetType", target)]).await;
        let mut patient = practice.patient(&[]);
        patient.parts.host.managed_identity = None;
        let refusals = |status| std::iter::repeat_n(Fault::status(status), 20);
        practice.world.clouds.monitor.script.push(refusals(403));
        practice.world.clouds.hub.script.push(refusals(status));
        let checks = examine(&patient).await;
        let said = |status| format!("you may not look ({status})");
        let own = "says nothing of the app's own";
        says(&checks, "target", Verdict::Warn, &[&said(status), own]);
        says(&checks, "heartbeats", Verdict::Warn, &[&said(403), own]);
    }
}

#[tokio::test]
async fn no_age_is_claimed_of_a_deployment_that_never_ran() {
    let mut practice = Practice::of(World::new(&[]).await);
    let patient = practice.patient(&[]);
    practice.world.clouds.monitor.script.push([Fault::status(403), Fault::status(403)]);
    let checks = examine(&patient).await;
    says(&checks, "target", Verdict::Fail, &["does not let the app in (403)"]);
    assert!(!format!("{checks:?}").contains("younger"), "{checks:?}");
}

#[tokio::test]
async fn without_settings_nothing_is_said_of_keys_or_identities() {
    let http = Http::network(quick()).unwrap();
    let folder = Folder::new();
    let clock = Clock::stopped_at(at(START));
    let empty = Vars::map([("FunctionConfigAlertTargetType", "EventHub")]);
    let patient = app::patient(&empty, clock, http, folder.path(), Duration::from_secs(20));
    let checks = examine(&patient).await;
    says(&checks, "identity", Verdict::Warn, &["Not checked, because settings are wrong"]);
}
