//! SIGTERM: within ten seconds, and never with exit code 0.

use std::time::Duration;

use defender_alert_export::sandbox::script::Fault::Hang;
use tokio::time::timeout;

use super::{Hosted, deployed};
use crate::crash::gate::Side;
use crate::crash::stage::{Kept, Stage, within};
use crate::handler::INVOCATION;

/// The Functions host and container hosts kill then.
const UNTIL_KILLED: Duration = Duration::from_secs(10);

#[tokio::test]
async fn told_to_stop_with_nothing_to_do_it_ends_with_143() {
    let Some(stage) = Stage::set(Kept::Folder).await else { return };
    let hosted = Hosted::ready(&stage).await;
    hosted.signal("TERM").await;
    let (status, ..) = hosted.end().await;
    assert_eq!(status.code(), Some(143));
}

/// Stops a run that hangs, and has the next process do its work.
async fn stops_in_time(stage: &Stage, hangs: impl Future<Output = ()>) {
    let mut hosted = Hosted::ready(stage).await;
    let ended = {
        let run = hosted.client.post(format!("{}/timer_export", hosted.url)).send();
        let stop = async {
            within("the run hangs", hangs).await;
            hosted.signal("TERM").await;
        };
        let (answer, ()) = tokio::join!(run, stop);
        answer
    };
    drop(ended);
    // The answer comes, or the connection breaks, when the handler gives up.
    let status = timeout(UNTIL_KILLED, hosted.process.wait()).await.expect("in time").unwrap();
    assert_eq!(status.code(), Some(143));
    let hosted = Hosted::ready(stage).await;
    assert!(hosted.invoke_well(INVOCATION).await.starts_with("Ok: 30 delivered"));
    hosted.kill().await;
}

#[tokio::test]
async fn a_run_that_hangs_is_abandoned_in_time_and_done_again() {
    let Some(stage) = deployed().await else { return };
    stage.clouds.defender.script().push([Hang]);
    stops_in_time(&stage, stage.clouds.defender.script().hung()).await;
}

#[tokio::test]
async fn a_log_container_that_hangs_does_not_make_stopping_longer() {
    let Some(mut stage) = deployed().await else { return };
    stage.settings.insert("FunctionConfigLoggingType".to_owned(), "blob".to_owned());
    let gate = stage.gate.as_ref().unwrap();
    gate.stop(Side::Before, "HEAD", "log%2F", 0);
    let hosted = Hosted::ready(&stage).await;
    stage.clouds.defender.script().push([Hang]);
    let url = format!("{}/timer_export", hosted.url);
    let run = hosted.client.post(url).send();
    let both = async {
        within("the run hangs", stage.clouds.defender.script().hung()).await;
        within("the log hangs", gate.stopped()).await;
        hosted.signal("TERM").await;
    };
    let mut hosted = {
        let asked = async {
            both.await;
            tokio::time::Instant::now()
        };
        let (answer, at) = tokio::join!(run, asked);
        drop(answer);
        (hosted, at)
    };
    let left = UNTIL_KILLED.saturating_sub(hosted.1.elapsed());
    let status = timeout(left, hosted.0.process.wait()).await.expect("in time").unwrap();
    assert_eq!(status.code(), Some(143));
}
