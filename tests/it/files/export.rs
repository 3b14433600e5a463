//! The whole export into files.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use defender_alert_export::azure::blobs::Container;
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::sandbox::clouds::{GROUP, TABLE};
use defender_alert_export::sandbox::sample::{self, Sample};
use defender_alert_export::sandbox::script::{Fault, Script};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::bucket::{self, BUCKET, WRITER, objects};
use super::{keys_in, lines};
use crate::crash::gate::Side;
use crate::crash::killed;
use crate::crash::stage::{Kept, Stage};
use crate::proxy::before;
use crate::store::{access, azurite, connection, storage};
use crate::traces::{Traces, hold};
use crate::world::{World, keys, minutes};

/// Where one deployment's files are.
pub(super) enum Files {
    Blobs { address: Url, container: String },
    Bucket { address: Url, prefix: String },
}

fn name() -> String {
    format!("c{}", Uuid::new_v4().simple())
}

impl Files {
    /// Both, each nobody else's; those that are not there are skipped in words.
    pub(super) fn each() -> Vec<Self> {
        let blobs =
            azurite("AZURITE_BLOB").map(|address| Self::Blobs { address, container: name() });
        let bucket = bucket::server()
            .map(|address| Self::Bucket { address, prefix: format!("{}/", name()) });
        blobs.into_iter().chain(bucket).collect()
    }

    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Blobs { container, .. } => vec![
                ("FunctionConfigAlertTargetType", "StorageBlob".to_owned()),
                ("FunctionConfigAlertBlobContainer", container.clone()),
                ("AzureWebJobsStorage", connection().unwrap()),
                ("FunctionConfigStorageTable", name()),
                ("FunctionConfigStorageContainer", name()),
            ],
            Self::Bucket { address, prefix } => vec![
                ("FunctionConfigAlertTargetType", "S3".to_owned()),
                ("FunctionConfigS3Endpoint", address.to_string()),
                ("FunctionConfigS3Region", "eu-west-2".to_owned()),
                ("FunctionConfigS3Bucket", BUCKET.to_owned()),
                ("FunctionConfigS3Prefix", prefix.clone()),
                ("FunctionConfigS3AccessKeyId", WRITER.0.to_owned()),
                ("FunctionConfigS3SecretAccessKey", WRITER.1.to_owned()),
            ],
        }
    }

    async fn held(&self) -> Vec<(String, Bytes)> {
        match self {
            Self::Bucket { address, prefix } => objects(address, prefix).await,
            Self::Blobs { address, container } => {
                let auth = storage(address).auth;
                let container = Container::new(address, &auth, container, access()).unwrap();
                let mut held = Vec::new();
                for name in container.list("").await.unwrap() {
                    let bytes = container.get(&name).await.unwrap().unwrap();
                    held.push((name, bytes));
                }
                held
            }
        }
    }

    /// Every line of every file.
    pub(super) async fn rows(&self) -> Vec<Value> {
        self.held().await.iter().flat_map(|(_, bytes)| lines(bytes)).collect()
    }

    pub(super) async fn world(&self) -> World {
        let settings = self.settings();
        let extra: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        World::new(&extra).await
    }
}

#[tokio::test]
async fn every_version_is_in_a_file_once_over_many_runs() {
    for files in Files::each() {
        let mut world = files.world().await;
        let expected = world.live_through_nine_runs(minutes(10)).await;
        let rows = files.rows().await;
        assert_eq!(keys_in(&rows), keys(&expected));
        assert!(rows.iter().all(|row| row["TrustName"] == "RXX" && row["Truncated"] == false));
        assert_eq!(world.beats().len(), 9, "heartbeats go to the workspace");
        assert!(world.clouds.monitor.tables.rows(TABLE).is_empty(), "alerts do not");
        let folder = |hour| format!("DefenderRawAlert/date=2026-11-21/hour={hour}/");
        let held = files.held().await;
        assert!(
            held.iter().all(|(name, _)| {
                name.starts_with(&folder(10)) || name.starts_with(&folder(11))
            })
        );
        if matches!(files, Files::Blobs { .. }) {
            assert_eq!(held.len(), 2, "a file an hour");
        }
    }
}

#[tokio::test]
async fn evidence_too_long_for_a_table_is_whole_in_a_file() {
    for files in Files::each() {
        let world = files.world().await;
        let long = Sample { evidence: 400, ..sample::alert(1, GROUP, world.now() - minutes(3)) };
        world.clouds.defender.add([long.clone()]);
        assert_eq!(world.run().await.counts.delivered, 1);
        let row = files.rows().await.remove(0);
        let alert: Value = serde_json::from_slice(&long.json()).unwrap();
        assert!(alert["evidence"].to_string().len() > 100_000);
        assert_eq!(row["Evidence"], alert["evidence"]);
        assert_eq!((&row["Truncated"], row.get("OriginalBlob")), (&false.into(), None));
        assert_eq!(world.blobs("").await, [], "nothing had to be kept beside it");
    }
}

#[tokio::test]
async fn files_that_cannot_be_written_are_told_and_hold_the_position() {
    for files in Files::each() {
        let mut world = files.world().await;
        let (wrong, right, said) = match &files {
            Files::Blobs { .. } => (
                ("FunctionConfigAlertBlobServiceUri", "http://127.0.0.1:9"),
                ("FunctionConfigAlertBlobServiceUri", ""),
                "FunctionConfigAlertBlobServiceUri",
            ),
            Files::Bucket { .. } => (
                ("FunctionConfigS3SecretAccessKey", "hunter2"),
                ("FunctionConfigS3SecretAccessKey", WRITER.1),
                "FunctionConfigS3SecretAccessKey",
            ),
        };
        world.run().await;
        let expected = world.add(1..9, minutes(2));
        world.restart(&[wrong]);
        let position = world.position().await;
        let heartbeat = world.five_minutes_later().await;
        assert_eq!(heartbeat.status, Status::SinkFailed, "{}", heartbeat.message);
        assert!(heartbeat.next_step.contains(said), "{}", heartbeat.next_step);
        assert_eq!(world.position().await, position);
        world.restart(&[right]);
        assert_eq!(world.five_minutes_later().await.status, Status::Ok);
        assert_eq!(keys_in(&files.rows().await), keys(&expected));
    }
}

#[tokio::test]
async fn no_secret_of_a_bucket_is_left_in_a_log_the_state_or_the_workspace() {
    let Some(server) = bucket::server() else { return };
    let script = Script::default();
    let (_proxy, address) = before(&server, &script).await;
    let files = Files::Bucket { address, prefix: format!("{}/", name()) };
    let traces = Traces::listen();
    let mut world = files.world().await;
    for (round, fault) in [
        Fault::status(403),
        Fault::status(503),
        Fault::LoseAnswer,
        Fault::status(301),
        Fault::Answer { status: 200, headers: vec![], body: "no".to_owned() },
    ]
    .into_iter()
    .enumerate()
    {
        let first = 10 * (round as u64 + 1);
        world.add(first..first + 3, minutes(2));
        script.push([fault]);
        world.five_minutes_later().await;
    }
    let debug = format!("{:?} {:?}", world.app(), world.app().exporter).into_bytes();
    let mut everything = traces.of(&mut world);
    everything.push(debug);
    assert!(hold(&everything, b"request failed; trying again"), "the log is among them");
    for secret in [WRITER.1, "c2VhLXdlZWQ", "AWS4-HMAC-SHA256", "Signature="] {
        assert!(!hold(&everything, secret.as_bytes()), "{secret} was found");
    }
}

/// How often each row is in the files.
async fn counted(files: &Files) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for key in keys_in(&files.rows().await) {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

async fn deployed(kept: Kept, files: &Files) -> Option<Stage> {
    let mut stage = Stage::set(kept).await?;
    for (name, value) in files.settings() {
        // The state stays behind the gate.
        if kept == Kept::Folder || !name.contains("Storage") {
            stage.settings.insert(name.to_owned(), value);
        }
    }
    stage.sign_in().await;
    stage.alerts(60, Duration::from_mins(5));
    Some(stage)
}

async fn run(stage: &Stage) -> u64 {
    let done = stage.run().await;
    assert_eq!(done.code, Some(0), "{}", done.heartbeat);
    done.heartbeat["Delivered"].as_u64().unwrap()
}

#[tokio::test]
async fn killed_at_an_append_no_line_is_torn_and_the_rows_come_again() {
    let Some(address) = azurite("AZURITE_BLOB") else { return };
    for side in [Side::Before, Side::After] {
        let files = Files::Blobs { address: address.clone(), container: name() };
        let Some(stage) = deployed(Kept::Azurite, &files).await else { return };
        let gate = stage.gate.as_ref().unwrap();
        gate.stop(side, "PUT", "comp=appendblock", 0);
        killed(&stage, gate.stopped()).await;
        let times = match side {
            Side::Before => 0,
            Side::After => 1,
        };
        let all = |times: usize| -> BTreeMap<_, _> {
            stage.alerts.keys().filter(|_| times > 0).map(|key| (key.clone(), times)).collect()
        };
        assert_eq!(counted(&files).await, all(times), "{side:?}");
        assert_eq!(run(&stage).await, 60);
        assert_eq!(counted(&files).await, all(times + 1), "{side:?}");
        assert_eq!(run(&stage).await, 0);
        assert_eq!(counted(&files).await, all(times + 1), "{side:?}");
    }
}

#[tokio::test]
async fn killed_at_an_object_every_row_is_there_and_no_line_is_torn() {
    let Some(server) = bucket::server() else { return };
    for fault in [Fault::Hang, Fault::DoAndHang] {
        let script = Script::default();
        let (_proxy, address) = before(&server, &script).await;
        let files = Files::Bucket { address, prefix: format!("{}/", name()) };
        let Some(stage) = deployed(Kept::Folder, &files).await else { return };
        script.push([fault.clone()]);
        killed(&stage, script.hung()).await;
        let taken = counted(&files).await.len();
        assert_eq!(taken, if matches!(fault, Fault::Hang) { 0 } else { 60 });
        assert_eq!(run(&stage).await, 60);
        let counts = counted(&files).await;
        assert!(counts.keys().eq(stage.alerts.keys()), "{fault:?}");
        // Once, unless the hour struck in between.
        let files_made = files.held().await.len();
        assert!(counts.values().all(|times| *times == files_made), "{counts:?}");
        assert_eq!(run(&stage).await, 0);
    }
}

#[tokio::test]
async fn files_that_are_down_cost_the_workspace_nothing_and_are_caught_up() {
    for files in Files::each() {
        let mut world = files.world().await;
        let (kind, wrong, right) = match &files {
            Files::Blobs { .. } => (
                "LogsIngestion;StorageBlob",
                ("FunctionConfigAlertBlobServiceUri", "http://127.0.0.1:9"),
                ("FunctionConfigAlertBlobServiceUri", ""),
            ),
            Files::Bucket { .. } => (
                "LogsIngestion;S3",
                ("FunctionConfigS3SecretAccessKey", "hunter2"),
                ("FunctionConfigS3SecretAccessKey", WRITER.1),
            ),
        };
        world.restart(&[("FunctionConfigAlertTargetType", kind), wrong]);
        let mut expected = Vec::new();
        for round in 0..3 {
            expected.extend(world.add(round * 10 + 1..round * 10 + 11, minutes(2)));
            let heartbeat = world.run().await;
            assert_eq!(heartbeat.status, Status::SinkFailed, "{}", heartbeat.message);
            world.pass(minutes(5));
        }
        assert_eq!(files.rows().await.len(), 0);
        world.restart(&[right]);
        let heartbeat = world.run().await;
        assert_eq!(heartbeat.status, Status::Ok, "{}", heartbeat.message);
        assert_eq!(keys_in(&files.rows().await), keys(&expected));
        let workspace = world.clouds.monitor.tables.rows(TABLE);
        assert_eq!(keys_in(&workspace), keys(&expected), "once, although the files were down");
    }
}

#[tokio::test]
async fn a_first_test_of_a_target_leaves_no_row_and_names_what_is_missing() {
    for files in Files::each() {
        let settings = files.settings();
        let extra: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let world = World::new(&extra).await;
        let sink = &world.app().exporter.sinks[0];
        sink.probe(world.now()).await.unwrap();
        let held = files.held().await;
        assert!(held.iter().all(|(name, bytes)| name.ends_with("/_doctor") && bytes.is_empty()));
        let is_bucket = matches!(files, Files::Bucket { .. });
        assert_eq!(held.len(), usize::from(is_bucket), "a container is left as it was");
    }
    let address = "http://127.0.0.1:9".to_owned();
    let nowhere = Files::Bucket { address: address.parse().unwrap(), prefix: "x/".to_owned() };
    let settings = nowhere.settings();
    let extra: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let world = World::new(&extra).await;
    let unsent = world.app().exporter.sinks[0].probe(world.now()).await.unwrap_err();
    assert!(unsent.advice.next_step.contains("FunctionConfigS3"), "{:?}", unsent.advice);
}
