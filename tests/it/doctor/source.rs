//! Where alerts are read from: Graph, the end of Defender's own API, regions.

use std::time::Duration;

use defender_alert_export::doctor::examine;
use defender_alert_export::domain::check::Verdict;
use defender_alert_export::http::Http;
use defender_alert_export::sandbox::entra::AadstsError;
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::source::{Defender, Source};

use super::{Practice, says};
use crate::world::{minutes, quick};

const GRAPH: (&str, &str) = ("FunctionConfigAlertSource", "Graph");

#[tokio::test]
async fn graph_as_the_source_is_examined_alike() {
    let mut practice = Practice::new(&[GRAPH]).await;
    let checks = practice.visit().await;
    let wrong: Vec<_> = checks.iter().filter(|check| check.verdict != Verdict::Ok).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    says(&checks, "groups", Verdict::Ok, &["`RXX Example Trust`", "(3 looked at)"]);
    says(&checks, "region", Verdict::Ok, &["one address for all regions"]);
    assert_eq!(practice.world.calls(), 0, "Defender is not asked for alerts");
}

#[tokio::test]
async fn consent_that_is_missing_fails_once_alerts_hang_on_it() {
    let mut practice = Practice::new(&[GRAPH]).await;
    practice.world.clouds.entra.fail_with(AadstsError::new("invalid_grant", 65_001));
    says(&practice.visit().await, "graph", Verdict::Fail, &["AADSTS65001", "admin consent"]);
}

#[tokio::test]
async fn in_the_last_weeks_of_defenders_own_api_the_way_on_is_shown() {
    let mut practice = Practice::new(&[]).await;
    practice.world.pass(Duration::from_hours(24 * 14));
    let checks = practice.visit().await;
    says(&checks, "graph", Verdict::Warn, &["MC1220762", "may read alerts from Microsoft Graph"]);
    says(&checks, "graph", Verdict::Warn, &["Set FunctionConfigAlertSource to `Graph`"]);
}

#[tokio::test]
async fn a_region_that_shows_nothing_while_the_common_address_does_is_named() {
    let mut practice = Practice::new(&[]).await;
    let clouds = &practice.world.clouds;
    let nobody = "http://127.0.0.1:9";
    let defender = clouds.settings().into_iter().find(|(name, _)| name.contains("DefenderEnd"));
    let base = defender.unwrap().1.parse().unwrap();
    let http = Http::network(quick()).unwrap();
    let everywhere = Source::Defender(Defender::new(http, clouds.clock.clone(), base));
    let mut patient = practice.patient(&[("FunctionConfigDefenderEndpoint", nobody)]);
    patient.reads.everywhere = Some(everywhere);
    let checks = examine(&patient).await;
    says(&checks, "alerts", Verdict::Fail, &["cannot be reached"]);
    let words = ["same sign-in", "https://api.security.microsoft.com"];
    says(&checks, "region", Verdict::Fail, &words);
}

#[tokio::test]
async fn a_token_the_api_refuses_is_renewed_once_as_a_run_does() {
    let mut practice = Practice::new(&[]).await;
    practice.world.clouds.entra.tokens.void_access_tokens();
    practice.world.pass(minutes(1));
    let checks = practice.visit().await;
    says(&checks, "alerts", Verdict::Ok, &[]);
    practice.world.clouds.entra.tokens.void_access_tokens();
    let patient = practice.patient(&[]);
    let refused = || Fault::status(401);
    practice.world.clouds.defender.script().push([refused(), refused(), refused()]);
    says(&examine(&patient).await, "alerts", Verdict::Fail, &["401", "Sign in again"]);
}
