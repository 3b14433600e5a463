//! The embedded clouds refuse what the real ones are documented to refuse, so
//! that a test passed over them means something.

use std::time::Duration;

use bytes::Bytes;
use secrecy::ExposeSecret as _;
use serde_json::json;

use defender_alert_export::azure::{http_date, sas, workspace_key};
use defender_alert_export::domain::timestamp::Timestamp;
use defender_alert_export::sink::logs_ingestion;

use crate::sinks::{KEY, NOW, TABLE, Trust, WORKSPACE, batch, classic};

#[tokio::test]
async fn the_embedded_rule_is_as_strict_as_the_real_one() {
    let trust = Trust::start().await.unwrap();
    let token = trust.credential.token(logs_ingestion::AUDIENCE).await.unwrap();
    let good = "dataCollectionRules/dcr-0123456789abcdef0123456789abcdef/streams/Custom-DefenderRawAlert?api-version=2023-01-01";
    let row = json!([{ "TimeGenerated": NOW, "ExportKey": "k" }]).to_string();
    let wrong = |from: &str, to: &str| good.replace(from, to);
    for (why, path, kind, token, body, status) in [
        ("as it should be", good.to_owned(), "application/json", Some(&token), row.clone(), 204),
        ("nothing", good.to_owned(), "application/json", Some(&token), "[]".to_owned(), 204),
        ("no token", good.to_owned(), "application/json", None, row.clone(), 401),
        ("version", wrong("2023", "2021"), "application/json", Some(&token), row.clone(), 400),
        ("type", good.to_owned(), "text/plain", Some(&token), row.clone(), 415),
        ("rule", wrong("dcr-0", "dcr-1"), "application/json", Some(&token), row.clone(), 404),
        ("stream", wrong("Raw", "Cooked"), "application/json", Some(&token), row.clone(), 404),
        ("an object", good.to_owned(), "application/json", Some(&token), "{}".to_owned(), 400),
        ("no time", good.to_owned(), "application/json", Some(&token), "[{}]".to_owned(), 400),
        ("large", good.to_owned(), "application/json", Some(&token), "x".repeat(1_048_577), 413),
    ] {
        let mut request = trust
            .http
            .client
            .post(trust.monitor.url().join(&path).unwrap())
            .header("content-type", kind)
            .body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose_secret());
        }
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{why}");
    }
    let silent = json!([{
        "TimeGenerated": NOW, "Unknown": 1, "Severity": 7, "AlertTitle": "x".repeat(65_537),
    }]);
    trust.rule().send(Bytes::from(silent.to_string()), trust.clock.now()).await.unwrap();
    let observed = format!("{:?}", trust.monitor.tables.observed());
    for said in ["Dropped", "Unknown", "Mistyped", "Severity", "Truncated", "65537"] {
        assert!(observed.contains(said), "{said} missing from {observed}");
    }
}

#[tokio::test]
async fn an_embedded_service_that_only_counts_keeps_nothing() {
    let trust = Trust::start().await.unwrap();
    trust.monitor.tables.only_count();
    trust.rule().deliver(batch(100, &[]), trust.standing()).await.unwrap();
    trust.workspace().deliver(classic(50), trust.standing()).await.unwrap();
    assert_eq!(trust.monitor.tables.count(TABLE), 150);
    assert!(trust.keys().is_empty() && trust.monitor.tables.bodies().is_empty());
}

#[tokio::test]
async fn the_embedded_workspace_is_as_strict_as_the_real_one() {
    let trust = Trust::start().await.unwrap();
    let date = http_date(trust.clock.now());
    let late = http_date(trust.clock.now() - Duration::from_secs(15 * 60 + 1));
    let (json, good) = ("application/json", "[{\"a\":\"é\"}]");
    for (why, version, kind, log_type, date, body, status) in [
        ("as it should be", "2016-04-01", json, "Alert_1", &date, good, 200),
        ("one object", "2016-04-01", json, "Alert", &date, "{\"a\":1}", 200),
        ("version", "2015-01-01", json, "Alert", &date, good, 400),
        ("charset", "2016-04-01", "application/json; charset=utf-8", "Alert", &date, good, 400),
        ("log type", "2016-04-01", json, "Alert-1", &date, good, 400),
        ("date", "2016-04-01", json, "Alert", &late, good, 403),
        ("characters", "2016-04-01", json, "Alert", &date, good, 403),
        ("reserved", "2016-04-01", json, "Alert", &date, "[{\"TimeGenerated\":1}]", 400),
        ("not json", "2016-04-01", json, "Alert", &date, "[{\"a\":]", 400),
    ] {
        let bytes = if why == "characters" { body.chars().count() } else { body.len() };
        let signed = workspace_key::authorization(WORKSPACE, &KEY.into(), bytes, date).unwrap();
        let url = trust.monitor.url().join(&format!("api/logs?api-version={version}")).unwrap();
        let request = trust
            .http
            .client
            .post(url)
            .header("content-type", kind)
            .header("log-type", log_type)
            .header("x-ms-date", date)
            .header("authorization", signed.expose_secret())
            .body(body);
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{why}");
    }
    assert_eq!(trust.monitor.tables.count("Alert_1_CL"), 1);
}

#[tokio::test]
async fn the_embedded_hub_is_as_strict_as_the_real_one() {
    let trust = Trust::start().await.unwrap();
    let policy = trust.hub.policy();
    let config = trust.hub.hub(defender_alert_export::config::EventHubAuth::Identity);
    let address = |path: &str| config.endpoint.join(path).unwrap();
    let later = trust.clock.now() + Duration::from_mins(1);
    let now = trust.clock.now();
    let sign = |path: &str, expires_at: Timestamp| {
        sas::token(address(path).as_str(), &policy.name, &policy.key, expires_at)
    };
    let kind = "application/vnd.microsoft.servicebus.json";
    let good = "[{\"Body\":\"x\"}]";
    let path = "alerts/messages?timeout=60&api-version=2014-01";
    for (why, path, token, kind, body, status) in [
        ("as it should be", path, sign("alerts", later), kind, good, 201),
        ("expired", path, sign("alerts", now), kind, good, 401),
        ("another hub's", path, sign("others", later), kind, good, 401),
        ("namespace by a hub's policy", path, sign("", later), kind, good, 401),
        ("no token", path, "".into(), kind, good, 401),
        ("type", path, sign("alerts", later), "application/json", good, 400),
        ("a row as it is", path, sign("alerts", later), kind, "[{\"a\":1}]", 400),
        ("version", "alerts/messages", sign("alerts", later), kind, good, 400),
    ] {
        let request = trust
            .http
            .client
            .post(address(path))
            .header("content-type", kind)
            .header("authorization", token.expose_secret())
            .body(body);
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{why}");
    }
    assert_eq!(trust.hub.events(), ["x"]);
}
