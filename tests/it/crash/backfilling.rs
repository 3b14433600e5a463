//! A backfill from the command line: killed and resumed, refused, counted.

use std::time::Duration;

use defender_alert_export::sandbox::script::Fault::{DoAndHang, Pass};
use serde_json::Value;

use super::stage::{Kept, Stage, within};

/// A day and a half ago for a day, whole hours.
fn span() -> [String; 2] {
    let now = Stage::whole_second();
    [now - Duration::from_hours(36), now - Duration::from_hours(12)].map(|at| at.to_string())
}

/// A deployment whose live export has run, with alerts in two slices of the
/// day before.
async fn stage(kept: Kept) -> Option<Stage> {
    let mut stage = Stage::set(kept).await?;
    stage.sign_in().await;
    assert_eq!(stage.run_well().await, 0);
    stage.alerts(12, Duration::from_hours(32));
    stage.alerts(12, Duration::from_hours(20));
    Some(stage)
}

fn verb<'a>(stage: &'a Stage, span: &'a [String; 2], more: &[&'a str]) -> Vec<&'a str> {
    let folder = stage.folder.to_str().unwrap();
    let mut verb = vec!["backfill", "--from", &span[0], "--to", &span[1], "--state-dir", folder];
    verb.extend_from_slice(more);
    verb
}

/// Every line it printed as JSON, what it said besides, and its exit code.
async fn backfill(stage: &Stage, verb: &[&str]) -> (Vec<Value>, String, Option<i32>) {
    let process = stage.command(verb).spawn().unwrap();
    let output = within("the end of a backfill", process.wait_with_output()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines, String::from_utf8(output.stderr).unwrap(), output.status.code())
}

#[tokio::test]
async fn a_killed_backfill_is_resumed_and_repeats_only_what_was_not_saved() {
    for kept in [Kept::Folder, Kept::Azurite] {
        let Some(stage) = stage(kept).await else { continue };
        let span = span();
        let position = stage.app().state.checkpoint().await.unwrap().unwrap().progress.position();
        // The first slice's one batch is answered, the second's is not.
        stage.clouds.monitor.script.push([Pass, DoAndHang]);
        let mut process = stage.command(&verb(&stage, &span, &["--json"])).spawn().unwrap();
        within("the second batch", stage.clouds.monitor.script.hung()).await;
        process.kill().await.unwrap();
        assert_eq!(stage.rows().len(), 24);

        let (lines, said, code) = backfill(&stage, &verb(&stage, &span, &["--json"])).await;
        assert_eq!(code, Some(0), "{said}");
        let last = lines.last().unwrap();
        assert_eq!((&last["Status"], &last["Percent"]), (&"Done".into(), &100.into()));
        assert_eq!((last["Delivered"].as_u64(), last["To"].as_str()), (Some(24), Some(&*span[1])));
        assert!(lines.len() < 6, "it did not begin anew: {lines:?}");
        let rows = stage.rows();
        assert_eq!(stage.delivered(), stage.alerts.keys().cloned().collect());
        assert_eq!(rows.values().filter(|times| **times == 2).count(), 12, "{rows:?}");
        let now = stage.app().state.checkpoint().await.unwrap().unwrap().progress.position();
        assert_eq!(now, position);

        // Asked for anew, it is a new job, beside what is remembered.
        assert_eq!(stage.run_well().await, 0);
    }
}

#[tokio::test]
async fn a_dry_run_prints_one_estimate_and_sends_nothing() {
    let Some(stage) = stage(Kept::Folder).await else { return };
    let span = span();
    let (lines, said, code) =
        backfill(&stage, &verb(&stage, &span, &["--dry-run", "--json"])).await;
    assert_eq!(code, Some(0), "{said}");
    let last = lines.last().unwrap();
    assert_eq!(
        *last,
        serde_json::json!({
            "Status": "Estimated", "From": span[0], "To": span[1], "Alerts": 24, "Withheld": 0,
            "Calls": 4, "Minutes": 1, "Gigabytes": 0.001,
        })
    );
    assert_eq!(stage.rows().len(), 0);

    let folder = stage.folder.to_str().unwrap();
    let [from, to] = &span;
    let verb = ["backfill", "--from", from, "--to", to, "--dry-run", "--state-dir", folder];
    let output = within("the end", stage.command(&verb).output()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for words in ["holds 24 alerts of this trust", "passes over what is delivered already"] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("would deliver"), "{said}");
}

#[tokio::test]
async fn wrong_usage_is_told_in_words_and_ends_with_2() {
    let Some(stage) = stage(Kept::Folder).await else { return };
    let [from, to] = span();
    let turned = [to.clone(), from.clone()];
    let old = ["2020-01-01".to_owned(), to.clone()];
    let ahead = [from.clone(), (Stage::whole_second() + Duration::from_hours(1)).to_string()];
    let garbled = ["yesterday".to_owned(), to];
    for (span, words) in [
        (&turned, "--from, --to: the beginning"),
        (&old, "the earliest is"),
        (&ahead, "the live export no longer reads again"),
        (&garbled, "not a time such as 2026-01-31T09:30:00Z"),
    ] {
        let (_, said, code) = backfill(&stage, &verb(&stage, span, &[])).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let folder = stage.folder.to_str().unwrap();
    let (_, said, code) = backfill(&stage, &["backfill", "--state-dir", folder]).await;
    assert_eq!(code, Some(2));
    assert!(said.contains("--from") && said.contains("--to"), "{said}");
    let (lines, _, code) =
        backfill(&stage, &["backfill", "--cancel", "--json", "--state-dir", folder]).await;
    assert_eq!((lines, code), (vec![serde_json::json!({ "Status": "Nothing" })], Some(0)));
}
