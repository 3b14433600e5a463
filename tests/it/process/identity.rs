//! The real program with state storage by the app's own identity, as it is
//! deployed.

use defender_alert_export::sandbox::clouds::TABLE;
use serde_json::Value;

use super::{Hosted, kept_by};
use crate::crash::stage::Kept;
use crate::handler::INVOCATION;
use crate::store::identity::Account;

#[tokio::test]
async fn state_logs_and_files_are_kept_by_the_apps_identity_alone() {
    let Some(mut stage) = kept_by(Kept::Identity).await else { return };
    let mut set = |name: &str, value: &str| {
        stage.settings.insert(name.to_owned(), value.to_owned());
    };
    set("FunctionConfigLoggingType", "blob");
    set("FunctionConfigAlertTargetType", "LogsIngestion;StorageBlob");
    let container = format!("files{}", uuid::Uuid::new_v4().simple());
    set("FunctionConfigAlertBlobContainer", &container);
    let hosted = Hosted::ready(&stage).await;
    let log = hosted.invoke_well(INVOCATION).await;
    assert!(log.starts_with("Ok: 30 delivered"), "{log}");
    let log = hosted.invoke_well("7c4a8c1e-92ad-4a57-a9bb-fdcb2d5dfb6c").await;
    assert!(log.starts_with("Ok: 0 delivered"), "{log}");
    hosted.signal("TERM").await;
    let (_, out, err) = hosted.end().await;
    assert_eq!((out, err), (vec![], vec![]));

    assert_eq!(stage.delivered(), stage.alerts.keys().cloned().collect());
    stage.position_is_not_ahead().await;
    let app = stage.app();
    let logs = app.blobs.list("log/").await.unwrap();
    assert!(!logs.is_empty());
    let status = stage.command(&["status", "--json"]).output().await.unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        status["SignedInAs"].as_str(),
        Some(defender_alert_export::sandbox::clouds::ACCOUNT)
    );
    assert_eq!(stage.clouds.monitor.tables.rows(TABLE).len(), 30);
    let account = Account::of_identity().await.unwrap();
    let files = account.named_container(&container);
    let mut lines = 0;
    for name in files.list("").await.unwrap() {
        lines += String::from_utf8(files.get(&name).await.unwrap().unwrap().to_vec())
            .unwrap()
            .lines()
            .count();
    }
    assert_eq!(lines, 30, "and each is a line of a file");
}
