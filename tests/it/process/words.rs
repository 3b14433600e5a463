//! What a verb says when it fails: what happened, and what to do.

use std::fs;

use axum::Router;
use axum::http::StatusCode;
use defender_alert_export::sandbox::script::{Script, listen};

use crate::crash::stage::{Kept, Stage, within};

/// Every verb that reads the state first.
const VERBS: [&[&str]; 5] = [
    &["status"],
    &["status", "--verify"],
    &["resume"],
    &["backfill", "--from", "2026-01-01", "--to", "2026-01-02"],
    &["replay", "--all"],
];

/// What it ended with and wrote on standard error.
async fn ended(stage: &Stage, verb: &[&str]) -> (Option<i32>, String) {
    let folder = stage.folder.to_str().unwrap();
    let arguments = [verb, &["--state-dir", folder]].concat();
    let output = within("the end", stage.command(&arguments).output()).await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn storage_that_refuses_is_told_with_what_to_do_by_every_verb() {
    let Some(mut stage) = Stage::set(Kept::Folder).await else { return };
    let refusing = Router::new().fallback(|| async { StatusCode::FORBIDDEN });
    let listening = listen(refusing, Script::default()).await.unwrap();
    for service in ["table", "blob"] {
        let name = format!("AzureWebJobsStorage__{service}ServiceUri");
        stage.settings.insert(name, listening.url.to_string());
    }
    for verb in VERBS {
        let (code, said) = ended(&stage, verb).await;
        assert_eq!(code, Some(1), "{verb:?}: {said}");
        assert!(said.contains("answered 403)."), "{verb:?}: {said}");
        let role = if verb[0] == "replay" { "Blob" } else { "Table" };
        let next = "Next step: Give the app's identity (on a command line: your own account)";
        for words in [next, &format!("Storage {role} Data Contributor")] {
            assert!(said.contains(words), "{verb:?}: {said}");
        }
    }
}

#[tokio::test]
async fn a_damaged_state_file_is_told_with_what_moving_it_away_costs() {
    let Some(stage) = Stage::set(Kept::Folder).await else { return };
    fs::create_dir_all(&stage.folder).unwrap();
    for broken in ["no database at all".repeat(500).into_bytes(), vec![0; 5_000], vec![b'x'; 3]] {
        fs::write(stage.folder.join("state.redb"), broken).unwrap();
        let (code, said) = ended(&stage, &["status"]).await;
        assert_eq!(code, Some(1), "{said}");
        for words in [
            "`state.redb` is damaged",
            "out of the folder",
            "sign in again",
            "FunctionConfigInitialLookbackHours",
            "backfill",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}
