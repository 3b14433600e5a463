//! The real program, from its command line.

use std::fs;
use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

use crate::world::Folder;

async fn program(arguments: &[&str], folder: &Folder) -> Output {
    Command::new(env!("CARGO_BIN_EXE_defender-alert-export"))
        .args(arguments)
        .arg("--state-dir")
        .arg(folder.path())
        .env_clear()
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn the_demo_exports_everything_and_says_so() {
    let folder = Folder::new();
    let output = program(&["demo", "--exit", "--json"], &folder).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (verdict, runs) = lines.split_last().unwrap();
    let statuses: Vec<_> = runs.iter().map(|run| run["Status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["Ok", "Ok", "SourceThrottled", "Ok", "Ok", "ScopeViolation"], "{text}");
    assert!(runs[4]["Message"].as_str().unwrap().starts_with("Nothing new"), "{text}");
    assert_eq!(verdict["Complete"], true, "{text}");
    assert_eq!((&verdict["Delivered"], &verdict["Foreign"]), (&1_000.into(), &0.into()));
    assert_eq!(verdict["Heartbeats"], 6);
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn without_settings_every_missing_one_is_named_and_the_exit_is_2() {
    let folder = Folder::new();
    for verb in [&["run", "--once"][..], &["status", "--json"], &["sign-in"], &["resume"]] {
        let output = program(verb, &folder).await;
        assert_eq!(output.status.code(), Some(2), "{verb:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        for name in [
            "FunctionConfigMDETenantId",
            "FunctionConfigMDEClientAppId",
            "FunctionConfigSessionKey",
            "FunctionConfigDeviceGroups",
            "FunctionConfigLogsIngestionEndpoint",
            "FunctionConfigLogsIngestionRuleId",
        ] {
            assert!(said.contains(name), "{verb:?}: {name} missing from: {said}");
        }
    }
    assert!(!folder.path().exists(), "nothing was made");
}

#[tokio::test]
async fn a_wrong_setting_is_named_and_its_value_is_not_shown() {
    let folder = Folder::new();
    let output = Command::new(env!("CARGO_BIN_EXE_defender-alert-export"))
        .args(["status", "--json", "--state-dir"])
        .arg(folder.path())
        .env_clear()
        .env("FunctionConfigSessionKey", "hunter2")
        .env("FunctionConfigMDETenantId", "correct-horse")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("FunctionConfigSessionKey") && said.contains("32 bytes"), "{said}");
    assert!(!said.contains("hunter2") && !said.contains("correct-horse"), "{said}");
}

#[tokio::test]
async fn the_demo_removes_what_a_former_one_made_and_nothing_else() {
    let folder = Folder::new();
    let own = folder.path().join("demo");
    fs::create_dir_all(own.join("blobs/alerts")).unwrap();
    for (name, held) in [("state.redb", "no database"), ("blobs/alerts/x", "y"), ("theirs", "z")] {
        fs::write(own.join(name), held).unwrap();
    }
    let refused = program(&["demo", "--exit"], &folder).await;
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("holds `theirs`, which no demo made; nothing was removed."), "{said}");
    assert!(said.contains("--state-dir"), "{said}");
    assert_eq!(fs::read_to_string(own.join("theirs")).unwrap(), "z");
    assert_eq!(fs::read_to_string(own.join("state.redb")).unwrap(), "no database");

    fs::remove_file(own.join("theirs")).unwrap();
    let done = program(&["demo", "--exit"], &folder).await;
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(!own.join("blobs/alerts/x").exists());
}
