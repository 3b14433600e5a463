//! Verbs to their end: what a person reads, what a machine reads, and the exit
//! code.

use std::process::Stdio;
use std::time::Duration;

use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::sandbox::clouds::{ACCOUNT, ACCOUNT_ID, TENANT};
use defender_alert_export::sandbox::sample;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::terminal::ended;
use crate::crash::stage::{Kept, Stage, within};

/// Standard output of a verb that must end with `code` and complain of nothing.
async fn said(stage: &Stage, verb: &[&str], code: i32) -> String {
    let (ended_with, out, err) = ended(stage, verb).await;
    assert_eq!((ended_with, err.as_str()), (Some(code), ""), "{verb:?}: {out}");
    out
}

async fn quiet() -> Stage {
    let mut stage = Stage::set(Kept::Folder).await.unwrap();
    stage.settings.insert("FunctionConfigLoggingLevel".to_owned(), "5".to_owned());
    stage
}

/// `sign-in` as a person at the terminal does it.
async fn sign_in(stage: &Stage) -> (Option<i32>, String) {
    let folder = stage.folder.to_str().unwrap();
    let mut process = stage.command(&["sign-in", "--state-dir", folder]).spawn().unwrap();
    let mut out = BufReader::new(process.stdout.take().unwrap());
    let mut printed = String::new();
    let shown = async {
        while !printed.contains("Waiting (Ctrl-C cancels)") {
            assert_ne!(out.read_line(&mut printed).await.unwrap(), 0, "{printed}");
        }
    };
    within("the code is shown", shown).await;
    assert!(stage.clouds.entra.approve(ACCOUNT, ACCOUNT_ID));
    stage.clouds.clock.advance(Duration::from_secs(6));
    within("the rest", out.read_to_string(&mut printed)).await.unwrap();
    let status = within("the end", process.wait()).await.unwrap();
    (status.code(), printed)
}

#[tokio::test]
async fn a_person_signs_in_looks_and_signs_out() {
    let stage = quiet().await;
    let (code, printed) = sign_in(&stage).await;
    assert_eq!(code, Some(0), "{printed}");
    let lines: Vec<_> = printed.lines().map(str::trim).collect();
    let address = lines.iter().position(|line| line.starts_with("http://")).expect(&printed);
    assert!(lines[address].contains("device"), "{printed}");
    let user_code = lines[address + 4];
    assert!(user_code.len() == 9 && !user_code.contains(' '), "{user_code}: {printed}");
    assert!(printed.contains(&format!("Signed in as {ACCOUNT} in tenant {TENANT}.")), "{printed}");

    let status: Value =
        serde_json::from_str(&said(&stage, &["status", "--json"], 0).await).unwrap();
    let golden = serde_json::json!({
        "Phase": "never run",
        "Position": null,
        "LagSeconds": null,
        "SignedInAs": ACCOUNT,
        "SignIn": "signed in",
        "SignInIdleDays": 0,
        "UnsentHeartbeats": 0,
        "Backfill": null,
        "Version": env!("CARGO_PKG_VERSION"),
    });
    assert_eq!(status, golden);
    assert!(said(&stage, &["status"], 0).await.contains(&format!("Sign-in: {ACCOUNT}")));

    let out = said(&stage, &["sign-out"], 0).await;
    assert!(out.starts_with("Signed out: the stored sign-in is forgotten"), "{out}");
    assert!(out.contains("https://mysignins.microsoft.com"), "{out}");
    let out = said(&stage, &["status"], 1).await;
    assert!(out.contains("Sign-in: signed out"), "{out}");
    assert!(out.contains("Next step: run `defender-alert-export sign-in`"), "{out}");
}

#[tokio::test]
async fn a_halted_export_waits_for_resume_and_goes_on() {
    let mut stage = quiet().await;
    stage.settings.insert("FunctionConfigScopeGuard".to_owned(), "halt".to_owned());
    stage.sign_in().await;
    stage.alerts(3, Duration::from_mins(5));
    assert!(said(&stage, &["resume"], 0).await.starts_with("Nothing to resume"));
    let seen = Stage::whole_second() - Duration::from_mins(3);
    stage.clouds.defender.add([sample::alert(900_001, "RYY Another Trust", seen)]);

    let statuses = [Status::ScopeViolation, Status::Halted].map(|status| format!("{status:?}"));
    for (status, code) in statuses.iter().zip([Some(0), Some(1)]) {
        let done = stage.run().await;
        assert_eq!((done.heartbeat["Status"].as_str(), done.code), (Some(status.as_str()), code));
    }
    let out = said(&stage, &["status"], 1).await;
    assert!(out.contains("Export:  halted") && out.contains("resume"), "{out}");
    assert!(said(&stage, &["resume"], 0).await.starts_with("Resumed."));
    said(&stage, &["status"], 0).await;
    assert!(said(&stage, &["resume"], 0).await.starts_with("Nothing to resume"));
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
