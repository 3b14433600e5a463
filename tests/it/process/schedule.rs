//! `run` without `--once`: the schedule, and being told to stop.

use std::time::Duration;

use defender_alert_export::domain::heartbeat::{Heartbeat, Status};
use defender_alert_export::sandbox::script::Fault::Hang;
use tokio::process::Child;

use super::send_signal;
use crate::crash::stage::{Kept, Stage, until, within};

async fn every_second() -> Stage {
    let mut stage = Stage::set(Kept::Folder).await.unwrap();
    stage.settings.insert("FunctionConfigTimerSchedule".to_owned(), "* * * * * *".to_owned());
    stage.sign_in().await;
    stage.alerts(3, Duration::from_mins(5));
    stage
}

fn start(stage: &Stage) -> Child {
    start_with(stage, &[])
}

fn start_with(stage: &Stage, flags: &[&str]) -> Child {
    let folder = stage.folder.to_str().unwrap();
    let arguments: Vec<_> = ["run", "--state-dir", folder].iter().chain(flags).copied().collect();
    stage.command(&arguments).spawn().unwrap()
}

async fn interrupted(process: Child) -> (Option<i32>, String) {
    told(process, "INT").await
}

async fn told(process: Child, signal: &str) -> (Option<i32>, String) {
    send_signal(&process, signal).await;
    let output = within("the end", process.wait_with_output()).await.unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn it_runs_on_the_schedule_until_ctrl_c() {
    let stage = every_second().await;
    let process = start(&stage);
    until("three runs", || stage.heartbeats().len() >= 3).await;
    let (code, printed) = interrupted(process).await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.trim_end().ends_with("Stopped."), "{printed}");
    assert_eq!(stage.rows().values().copied().collect::<Vec<_>>(), [1, 1, 1]);
}

#[tokio::test]
async fn for_a_machine_it_prints_a_heartbeat_a_line_and_nothing_else() {
    let stage = every_second().await;
    let process = start_with(&stage, &["--json"]);
    until("two runs", || stage.heartbeats().len() >= 2).await;
    let (code, printed) = interrupted(process).await;
    assert_eq!(code, Some(0), "{printed}");
    let statuses = printed.lines().map(|line| {
        let heartbeat: Heartbeat = serde_json::from_str(line).expect(line);
        heartbeat.status
    });
    assert!(statuses.eq([Status::Ok].into_iter().cycle().take(printed.lines().count())));
    assert!(printed.lines().count() >= 2, "{printed}");
}

#[tokio::test]
async fn ctrl_c_in_the_middle_of_a_run_ends_it_too() {
    let mut stage = every_second().await;
    stage.clouds.defender.script().push([Hang]);
    let process = start(&stage);
    within("the first run hangs", stage.clouds.defender.script().hung()).await;
    assert_eq!(interrupted(process).await.0, Some(0));

    let process = start(&stage);
    until("a run", || stage.heartbeats().len() == 1).await;
    stage.alerts(1, Duration::from_mins(2));
    stage.clouds.defender.script().push([Hang]);
    within("a later run hangs", stage.clouds.defender.script().hung()).await;
    assert_eq!(interrupted(process).await.0, Some(0));

    assert_eq!(stage.run_well().await, 1);
    assert_eq!(stage.delivered(), stage.alerts.keys().cloned().collect());
}

/// What `systemctl stop` and container hosts send.
#[tokio::test]
async fn sigterm_ends_it_as_ctrl_c_does() {
    let stage = every_second().await;
    let process = start(&stage);
    until("a run", || !stage.heartbeats().is_empty()).await;
    let (code, printed) = told(process, "TERM").await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.trim_end().ends_with("Stopped."), "{printed}");

    let stage = every_second().await;
    stage.clouds.defender.script().push([Hang]);
    let process = start(&stage);
    within("a run hangs", stage.clouds.defender.script().hung()).await;
    assert_eq!(told(process, "TERM").await.0, Some(0));
}
