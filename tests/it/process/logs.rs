//! Where the lines of a real run go, and that each says whose it is.

use defender_alert_export::sandbox::sample;
use defender_alert_export::sandbox::script::Fault;
use reqwest::StatusCode;

use super::{Hosted, deployed};
use crate::crash::stage::Stage;
use crate::handler::{INVOCATION, envelope};

/// A run with something to say: a foreign alert, and a busy workspace.
async fn eventful(logging: &str) -> Option<Stage> {
    let mut stage = deployed().await?;
    let seen = crate::crash::stage::Stage::whole_second() - std::time::Duration::from_mins(3);
    stage.clouds.defender.add([sample::alert(900_001, "RYY Another Trust", seen)]);
    stage.clouds.monitor.script.push([Fault::status(503)]);
    stage.clouds.defender.script().push([Fault::status(503)]);
    stage.settings.insert("FunctionConfigLoggingType".to_owned(), logging.to_owned());
    stage.settings.insert("FunctionConfigLoggingLevel".to_owned(), "1".to_owned());
    Some(stage)
}

#[tokio::test]
async fn every_line_of_a_run_names_its_invocation_and_goes_where_its_level_does() {
    let Some(stage) = eventful("logging").await else { return };
    let hosted = Hosted::ready(&stage).await;
    let (before_out, before_err) = (hosted.out.now().len(), hosted.err.now().len());
    hosted.invoke_well(INVOCATION).await;
    stage.clouds.defender.script().push(vec![Fault::status(403); 8]);
    let (status, _) = envelope(hosted.invoke(INVOCATION).await).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    hosted.signal("TERM").await;
    let (_, out, err) = hosted.end().await;
    let stopping = |line: &&String| !line.contains("asked to stop");
    let out: Vec<_> = out[before_out..].iter().filter(stopping).collect();
    let err: Vec<_> = err[before_err..].iter().collect();
    for line in out.iter().chain(&err) {
        assert!(line.contains(&format!("invocation.id={INVOCATION}")), "{line}");
    }
    let at = |level: &'static str| move |line: &&&String| line.starts_with(level);
    assert!(out.iter().all(|line| !at("WARN")(&line) && !at("ERROR")(&line)), "{out:?}");
    assert!(err.iter().all(|line| at("WARN")(&line) || at("ERROR")(&line)), "{err:?}");
    let retries = out.iter().filter(|line| line.contains("request failed; trying again"));
    assert!(retries.count() >= 2, "the source's and the sink's: {out:?}");
    // The host takes a line with that word for a warning.
    let errors: Vec<_> = err.iter().filter(at("ERROR")).collect();
    assert!(!errors.is_empty());
    assert!(errors.iter().all(|line| !line.to_lowercase().contains("warn")), "{errors:?}");
}

#[tokio::test]
async fn with_logging_to_a_blob_the_lines_are_in_the_days_blob_once() {
    let Some(stage) = eventful("blob").await else { return };
    let hosted = Hosted::ready(&stage).await;
    let second = "7c4a8c1e-92ad-4a57-a9bb-fdcb2d5dfb6c";
    hosted.invoke_well(INVOCATION).await;
    hosted.invoke_well(second).await;
    hosted.signal("TERM").await;
    let (_, out, err) = hosted.end().await;
    assert_eq!((out, err), (vec![], vec![]), "nothing but errors is for the host then");
    let app = stage.app();
    let names = app.blobs.list("log/").await.unwrap();
    let mut lines = Vec::new();
    for name in &names {
        let bytes = app.blobs.get(name).await.unwrap().unwrap();
        lines.extend(String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned));
    }
    // A run at midnight has two.
    assert!(names.len() == 1 || names.len() == 2, "{names:?}");
    for id in [INVOCATION, second] {
        let done = |line: &&String| line.contains("run done") && line.contains(id);
        assert_eq!(lines.iter().filter(done).count(), 1, "{lines:?}");
    }
    let mut once = lines.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), lines.len(), "no line twice");
    assert!(lines.iter().any(|line| line.contains("asked to stop")), "the last ones too");
}
