//! Against a task hub by others, `durabletask` of the Python package index,
//! through `tests/durabletask/bridge.py`.

use std::io::{Write as _, stderr};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use defender_alert_export::clock::Clock;
use defender_alert_export::config::Vars;
use defender_alert_export::domain::heartbeat::Status as Run;
use defender_alert_export::durable::message::Status;
use defender_alert_export::durable::{Durable, NotKept, Sidecar};
use defender_alert_export::http::retry::pause;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use uuid::Uuid;

use super::{ENTITY, KEY, cell, kept, told};
use crate::handler::{Handler, runs_ending};

#[tokio::test]
async fn a_task_hub_by_others_understands_us_and_we_it() {
    let Some(packages) = Vars::Process.get("DURABLETASK_PYTHONPATH") else {
        writeln!(stderr(), "SKIPPED a check against `durabletask`: run scripts/check-durable.sh")
            .unwrap();
        return;
    };
    let durable =
        Durable { sidecar: Sidecar::outside_host(), key: Some(KEY), clock: Clock::System };
    let handler = Handler::with(runs_ending(Run::Ok).0, durable).await;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let mut bridge = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/durabletask/bridge.py"))
        .args([port.to_string(), handler.url.clone()])
        .env("PYTHONPATH", packages)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(bridge.stdout.take().unwrap()).read_line(&mut ready).await.unwrap();
    assert_eq!(ready, "ready\n");

    // StartInstance, GetInstance, GetEntity, PurgeInstances.
    let url = format!("http://127.0.0.1:{port}");
    let cell = cell(&url, Duration::from_mins(1));
    assert_eq!(cell.read().await, Ok(None));
    cell.write(&kept("1", None)).await.unwrap();
    cell.write(&kept("2", Some("1"))).await.unwrap();
    assert_eq!(cell.read().await, Ok(Some(kept("2", Some("1")))));
    assert_eq!(cell.write(&kept("9", Some("1"))).await, Err(NotKept::Conflict));

    // What failed, failed for the reason we gave.
    let sidecar = told(&url);
    assert!(sidecar.start("stale", "orchestrator", r#"{"version":"9"}"#).await.unwrap());
    let failed = loop {
        let state = sidecar.instance("stale").await.unwrap().unwrap();
        if state.status() == Status::Failed {
            break state;
        }
        pause(Duration::from_millis(20)).await;
    };
    assert_eq!(failed.failure.unwrap().error_type, "Conflict");

    // SignalEntity.
    sidecar.signal(ENTITY, "delete", None, Uuid::new_v4()).await.unwrap();
    while cell.read().await != Ok(None) {
        pause(Duration::from_millis(20)).await;
    }
    bridge.kill().await.unwrap();
}
