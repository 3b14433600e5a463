//! Killed while what was set aside is sent again.

use std::process::Output;
use std::time::Duration;

use defender_alert_export::sandbox::script::Fault::DoAndHang;
use serde_json::Value;
use tokio::process::Command;

use super::gate::Side;
use super::kill;
use super::stage::{Kept, Stage, within};

/// A deployment that has set one of its rows aside, and that row, which would
/// be taken now.
async fn with_one_refused(kept: Kept) -> Option<(Stage, String)> {
    let mut stage = Stage::set(kept).await?;
    stage.sign_in().await;
    stage.alerts(6, Duration::from_mins(5));
    let refused = stage.alerts.keys().nth(2).unwrap().clone();
    stage.clouds.monitor.tables.refuse_rows_matching(&refused);
    let done = stage.run().await.heartbeat;
    assert_eq!((done["Delivered"].as_u64(), done["Quarantined"].as_u64()), (Some(5), Some(1)));
    stage.clouds.monitor.tables.refuse_nothing();
    Some((stage, refused))
}

fn replay(stage: &Stage) -> Command {
    let folder = stage.folder.to_str().unwrap();
    stage.command(&["replay", "--all", "--json", "--state-dir", folder])
}

/// Kills a replay while `standing`.
async fn killed(stage: &Stage, standing: impl Future<Output = ()>) {
    kill(replay(stage).spawn().unwrap(), standing).await;
}

async fn blobs(stage: &Stage) -> [usize; 2] {
    let app = stage.app();
    let count = async |prefix| app.blobs.list(prefix).await.unwrap().len();
    [count("quarantine/").await, count("replayed/").await]
}

/// The next replay ends with `outcome`, and the row is there so often.
async fn goes_on(stage: &Stage, refused: &str, outcome: &str, times: usize) {
    let Output { stdout, stderr, status } =
        within("the end of a replay", replay(stage).output()).await.unwrap();
    let told: Value = serde_json::from_slice(&stdout)
        .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&stderr)));
    assert!(status.success(), "{told}");
    assert_eq!(told["Results"][0]["Outcome"], outcome, "{told}");
    assert_eq!(blobs(stage).await, [0, 1], "moved");
    assert_eq!(stage.rows()[refused], times);
    assert_eq!(stage.run_well().await, 0, "the ledger knows it");
    assert_eq!(stage.delivered(), stage.alerts.keys().cloned().collect());
    assert_eq!(stage.rows().values().sum::<usize>(), 5 + times);
}

#[tokio::test]
async fn killed_between_the_sinks_answer_and_the_mark_the_row_is_sent_once_more() {
    for kept in [Kept::Folder, Kept::Azurite] {
        let Some((stage, refused)) = with_one_refused(kept).await else { continue };
        stage.clouds.monitor.script.push([DoAndHang]);
        killed(&stage, stage.clouds.monitor.script.hung()).await;
        assert_eq!(stage.rows()[&refused], 1);
        assert_eq!(blobs(&stage).await, [1, 0], "nothing is moved before it is known to be taken");
        goes_on(&stage, &refused, "Sent", 2).await;
    }
}

#[tokio::test]
async fn killed_while_a_row_that_was_taken_is_moved_the_mark_decides() {
    for (side, method, name, left, outcome, times) in [
        (Side::Before, "PUT", "replayed%2F", [1, 0], "Sent", 2),
        (Side::After, "PUT", "replayed%2F", [1, 1], "SentBefore", 1),
        (Side::Before, "DELETE", "quarantine%2F", [1, 1], "SentBefore", 1),
    ] {
        let Some((stage, refused)) = with_one_refused(Kept::Azurite).await else { return };
        let gate = stage.gate.as_ref().unwrap();
        gate.stop(side, method, name, 0);
        killed(&stage, gate.stopped()).await;
        assert_eq!(blobs(&stage).await, left, "{side:?} {method}");
        goes_on(&stage, &refused, outcome, times).await;
    }
}
