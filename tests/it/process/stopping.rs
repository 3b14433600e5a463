//! SIGTERM: whatever hangs, it ends, and never with exit code 0. That it ends
//! before hosts kill is a matter of two constants, which a test in
//! `src/cli/serve.rs` adds up.

use defender_alert_export::sandbox::script::Fault::Hang;

use super::{Hosted, deployed};
use crate::crash::gate::Side;
use crate::crash::stage::{Kept, Stage, within};
use crate::handler::INVOCATION;

#[tokio::test]
async fn told_to_stop_with_nothing_to_do_it_ends_with_143() {
    let Some(stage) = Stage::set(Kept::Folder).await else { return };
    let hosted = Hosted::ready(&stage).await;
    hosted.signal("TERM").await;
    let (status, ..) = hosted.end().await;
    assert_eq!(status.code(), Some(143));
}

/// Stops a run once it `hangs`, and has the next process do its work.
async fn stops(stage: &Stage, hangs: impl Future<Output = ()>) {
    let hosted = Hosted::ready(stage).await;
    let run = hosted.client.post(format!("{}/timer_export", hosted.url)).send();
    let stop = async {
        within("everything hangs", hangs).await;
        hosted.signal("TERM").await;
    };
    // The answer comes, or the connection breaks, when the handler gives up.
    let (answer, ()) = within("the run is given up", async { tokio::join!(run, stop) }).await;
    drop(answer);
    let (status, ..) = hosted.end().await;
    assert_eq!(status.code(), Some(143));
    assert!(stage.delivered().is_empty(), "the run was abandoned");
    let hosted = Hosted::ready(stage).await;
    assert!(hosted.invoke_well(INVOCATION).await.starts_with("Ok: 30 delivered"));
    hosted.kill().await;
}

#[tokio::test]
async fn a_run_that_hangs_is_abandoned_and_done_again() {
    let Some(stage) = deployed().await else { return };
    stage.clouds.defender.script().push([Hang]);
    stops(&stage, stage.clouds.defender.script().hung()).await;
}

#[tokio::test]
async fn a_log_container_that_hangs_as_well_does_not_keep_it_from_stopping() {
    let Some(mut stage) = deployed().await else { return };
    stage.settings.insert("FunctionConfigLoggingType".to_owned(), "blob".to_owned());
    let gate = stage.gate.as_ref().unwrap();
    gate.stop(Side::Before, "HEAD", "log%2F", 0);
    stage.clouds.defender.script().push([Hang]);
    let both = async {
        stage.clouds.defender.script().hung().await;
        gate.stopped().await;
    };
    stops(&stage, both).await;
}
