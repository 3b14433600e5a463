//! Settings and ports that are wrong.

use defender_alert_export::sandbox::script::Fault;
use reqwest::StatusCode;
use tokio::net::TcpListener;

use super::Hosted;
use crate::crash::stage::{Kept, Stage};
use crate::handler::{INVOCATION, envelope};

#[tokio::test]
async fn with_invalid_settings_it_serves_and_says_which() {
    let Some(mut stage) = Stage::set(Kept::Folder).await else { return };
    let wrong = [
        ("FunctionConfigMDETenantId", "tenant-of-nobody"),
        ("FunctionConfigSessionKey", "c2hvcnQ-and-secret"),
        ("FunctionConfigPageSize", "77777"),
        ("FunctionConfigTimerSchedule", "now-and-then"),
        ("FunctionConfigDefenderEndpoint", "http://defender.invalid"),
    ];
    for (name, value) in wrong {
        stage.settings.insert(name.to_owned(), value.to_owned());
    }
    stage.settings.remove("FunctionConfigDeviceGroups");
    let hosted = Hosted::ready(&stage).await;
    for _ in 0..2 {
        let (status, log) = envelope(hosted.invoke(INVOCATION).await).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in wrong {
            assert!(log.contains(name), "{name}: {log}");
            assert!(!log.contains(value), "{value}: {log}");
        }
        assert!(log.contains("FunctionConfigDeviceGroups"), "{log}");
        hosted.probe().await;
    }
    let heartbeats = stage.heartbeats();
    assert_eq!(heartbeats.len(), 2);
    assert_eq!(heartbeats[0]["Status"], "ConfigInvalid");
    let message = heartbeats[0]["Message"].as_str().unwrap();
    assert!(message.contains("FunctionConfigDeviceGroups"), "{message}");
    hosted.signal("TERM").await;
    let (status, out, err) = hosted.end().await;
    assert_eq!(status.code(), Some(143));
    let lines = [out, err].concat().join("\n");
    assert!(lines.contains("FunctionConfigTimerSchedule"), "{lines}");
    for (_, value) in wrong {
        assert!(!lines.contains(value), "{value}: {lines}");
    }
}

#[tokio::test]
async fn a_heartbeat_that_no_log_container_could_tell_of_is_told_to_the_host() {
    let Some(mut stage) = Stage::set(Kept::Folder).await else { return };
    for (name, value) in
        [("FunctionConfigPageSize", "77777"), ("FunctionConfigLoggingType", "blob")]
    {
        stage.settings.insert(name.to_owned(), value.to_owned());
    }
    stage.clouds.monitor.script.push([Fault::status(404)]);
    let hosted = Hosted::ready(&stage).await;
    let (_, log) = envelope(hosted.invoke(INVOCATION).await).await;
    assert!(log.contains("1 heartbeat waits to be sent"), "{log}");
    hosted.signal("TERM").await;
    let (_, _, err) = hosted.end().await;
    let said = |line: &&String| line.contains("heartbeats could not be sent");
    assert!(err.iter().find(said).is_some_and(|line| line.contains(INVOCATION)), "{err:?}");
}

#[tokio::test]
async fn without_storage_it_serves_and_says_so() {
    let Some(stage) = Stage::set(Kept::Folder).await else { return };
    let hosted = Hosted::ready(&stage).await;
    let (status, log) = envelope(hosted.invoke(INVOCATION).await).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(log.contains("AzureWebJobsStorage"), "{log}");
    assert_eq!(stage.heartbeats()[0]["Status"], "ConfigInvalid");
    hosted.kill().await;
}

#[tokio::test]
async fn a_port_that_is_taken_ends_it_with_words() {
    let Some(stage) = Stage::set(Kept::Folder).await else { return };
    let taken = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let (status, out, err) = Hosted::start(&stage, port).end().await;
    assert_eq!(status.code(), Some(1));
    let words = format!("cannot listen on 127.0.0.1:{port}: ");
    assert!(out.is_empty() && err.len() == 1 && err[0].starts_with(&words), "{out:?} {err:?}");
    assert!(err[0].contains("Another process may have this port"), "{err:?}");
}
