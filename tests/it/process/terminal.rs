//! What the verbs log beside what they print: on standard error, or in the
//! container.

use std::time::Duration;

use defender_alert_export::domain::heartbeat::Heartbeat;
use defender_alert_export::sandbox::script::Fault;

use crate::crash::stage::{Kept, Stage, within};

/// Its exit code and what it wrote on both streams.
pub(super) async fn ended(stage: &Stage, verb: &[&str]) -> (Option<i32>, String, String) {
    let folder = stage.folder.to_str().unwrap();
    let arguments = [verb, &["--state-dir", folder]].concat();
    let output = within("the end", stage.command(&arguments).output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn signed_in(settings: &[(&str, &str)]) -> Stage {
    let mut stage = Stage::set(Kept::Folder).await.unwrap();
    for (name, value) in settings {
        stage.settings.insert((*name).to_owned(), (*value).to_owned());
    }
    stage.sign_in().await;
    stage.alerts(3, Duration::from_mins(5));
    stage
}

fn is_log(line: &str) -> bool {
    ["ERROR ", "WARN ", "INFO ", "DEBUG ", "TRACE "].iter().any(|level| line.starts_with(level))
}

#[tokio::test]
async fn run_logs_on_standard_error_and_prints_on_standard_output() {
    for logging in ["logging", "print"] {
        let stage = signed_in(&[("FunctionConfigLoggingType", logging)]).await;
        stage.clouds.monitor.script.push([Fault::status(404)]);
        let (code, out, err) = ended(&stage, &["run", "--once", "--json"]).await;
        assert_eq!(code, Some(1), "{out} {err}");
        let heartbeat: Heartbeat = serde_json::from_str(out.trim_end()).expect(&out);
        let failed = err.lines().find(|line| line.contains("the export run failed")).expect(&err);
        assert!(failed.starts_with("ERROR "), "{failed}");
        assert!(failed.contains(&format!("run.id={}", heartbeat.run_id)), "{failed}");

        stage.clouds.monitor.script.push([Fault::status(404)]);
        let (_, out, err) = ended(&stage, &["run", "--once"]).await;
        assert!(err.contains("the export run failed"), "{err}");
        assert!(!out.lines().any(is_log), "{out}");
        assert!(out.starts_with("SinkFailed"), "{out}");
    }
}

#[tokio::test]
async fn with_logging_to_a_blob_a_run_writes_its_lines_there_and_errors_twice() {
    let stage = signed_in(&[("FunctionConfigLoggingType", "blob")]).await;
    stage.clouds.monitor.script.push([Fault::status(404)]);
    let (_, _, err) = ended(&stage, &["run", "--once"]).await;
    assert!(err.lines().all(|line| line.starts_with("ERROR ")), "{err}");
    assert!(err.contains("the export run failed"), "{err}");
    let app = stage.app();
    let mut logged = String::new();
    for name in app.blobs.list("log/").await.unwrap() {
        let bytes = app.blobs.get(&name).await.unwrap().unwrap();
        logged.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    assert!(logged.contains("the export run failed"), "{logged}");
}

#[tokio::test]
async fn a_code_for_the_log_is_there_at_every_level() {
    for level in ["3", "5"] {
        let mut stage = Stage::set(Kept::Folder).await.unwrap();
        for (name, value) in
            [("FunctionConfigSignInPrompt", "log"), ("FunctionConfigLoggingLevel", level)]
        {
            stage.settings.insert(name.to_owned(), value.to_owned());
        }
        let (_, out, err) = ended(&stage, &["run", "--once"]).await;
        assert!(out.starts_with("SignInNeeded"), "{out} {err}");
        let prompt = err.lines().find(|line| line.contains("with this code")).expect(&err);
        let shown = prompt.split(" code=").nth(1).unwrap().split(' ').next().unwrap();
        assert!(shown.len() > 5 && !out.contains(shown), "{prompt} {out}");
    }
}

#[tokio::test]
async fn verbs_that_only_look_log_nothing_but_errors() {
    let stage = signed_in(&[("FunctionConfigLoggingLevel", "1")]).await;
    for verb in [&["status"][..], &["status", "--json"], &["status", "--verify"]] {
        let (_, out, err) = ended(&stage, verb).await;
        assert_eq!(err, "", "{verb:?}: {out}");
    }
}
