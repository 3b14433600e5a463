//! Verbs to their end: what a person reads, what a machine reads, and the exit
//! code.

use std::process::Stdio;
use std::time::Duration;

use super::terminal::ended;
use crate::crash::stage::{Kept, Stage, within};

async fn quiet() -> Stage {
    let mut stage = Stage::set(Kept::Folder).await.unwrap();
    stage.settings.insert("FunctionConfigLoggingLevel".to_owned(), "5".to_owned());
    stage
}

/// As with `| head`: nobody reads any more.
#[tokio::test]
async fn a_reader_who_is_gone_is_no_fault_of_the_program() {
    let stage = quiet().await;
    stage.sign_in().await;
    let folder = stage.folder.to_str().unwrap();
    for verb in [&["status"][..], &["replay"], &["run", "--once", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let arguments = [verb, &["--state-dir", folder]].concat();
        let mut command = stage.command(&arguments);
        let process = command.stdout(Stdio::from(writer)).spawn().unwrap();
        let output = within("the end", process.wait_with_output()).await.unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{verb:?}");
    }
}

#[tokio::test]
async fn a_backfill_whose_place_is_kept_says_when_it_can_go_on() {
    let Some(mut stage) = Stage::set(Kept::Azurite).await else { return };
    stage.settings.remove("WEBSITE_INSTANCE_ID");
    stage.settings.insert("FunctionConfigLoggingLevel".to_owned(), "5".to_owned());
    stage.sign_in().await;
    assert_eq!(stage.run_well().await, 0);
    let now = Stage::whole_second();
    let (from, to) = (now - Duration::from_hours(30), now - Duration::from_hours(24));
    let (from, to) = (from.to_string(), to.to_string());
    let verb = ["backfill", "--from", &from, "--to", &to];
    stage.clouds.defender.script().push([defender_alert_export::sandbox::script::Fault::Hang]);
    let mut first = stage.command(&verb).spawn().unwrap();
    within("it is at it", stage.clouds.defender.script().hung()).await;
    super::send_signal(&first, "INT").await;
    within("the end", first.wait()).await.unwrap();
    let (code, out, _) = ended(&stage, &verb).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("Another process is working on this backfill, and will report."), "{out}");
    assert!(out.contains("five minutes after its last save"), "{out}");
}
