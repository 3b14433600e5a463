//! Table and container of a storage account, as the doctor sees them.

use std::time::Duration;

use axum::http::StatusCode;
use defender_alert_export::app;
use defender_alert_export::config::Vars;
use defender_alert_export::doctor::{Patient, examine};
use defender_alert_export::domain::check::Verdict;
use defender_alert_export::http::Http;
use defender_alert_export::sandbox::script::{Script, listen};

use super::says;
use crate::crash::stage::{Kept, Stage};
use crate::proxy::forgetting_versions;
use crate::store::azurite;
use crate::world::quick;

fn patient(stage: &Stage) -> Patient {
    let vars = Vars::Map(stage.settings.clone());
    let clock = stage.clouds.clock.clone();
    let http = Http::network(quick()).unwrap();
    app::patient(&vars, clock, http, &stage.folder, Duration::from_secs(20))
}

#[tokio::test]
async fn a_storage_account_is_tried_and_left_as_it_was() {
    let Some(stage) = Stage::set(Kept::Azurite).await else { return };
    stage.sign_in().await;
    let patient = patient(&stage);
    let checks = examine(&patient).await;
    says(&checks, "table", Verdict::Ok, &["old version", "(ETag) was refused"]);
    says(&checks, "container", Verdict::Ok, &["written, read and removed"]);
    says(&checks, "sign-in", Verdict::Ok, &["Signed in as"]);
    let store = patient.kept.as_ref().unwrap().store.as_ref().unwrap();
    assert_eq!(store.scan("Doctor.", "Doctor/").await.unwrap(), []);
}

#[tokio::test]
async fn a_proxy_that_lets_an_old_version_win_is_found_out() {
    let Some(mut stage) = Stage::set(Kept::Azurite).await else { return };
    stage.sign_in().await;
    let (_proxy, address) = forgetting_versions(&azurite("AZURITE_TABLE").unwrap()).await;
    let gate = stage.gate.as_ref().unwrap().tables.to_string();
    let setting = stage.settings.get_mut("AzureWebJobsStorage").unwrap();
    assert!(setting.contains(&gate), "the table's address is in the connection string");
    *setting = setting.replace(&gate, address.as_str());
    let checks = examine(&patient(&stage)).await;
    let said =
        ["took a change to an old version", "lose each other's position", "no proxy answers"];
    says(&checks, "table", Verdict::Fail, &said);
    says(&checks, "container", Verdict::Ok, &[]);
}

#[tokio::test]
async fn an_account_that_refuses_or_is_not_there_says_what_to_do() {
    let Some(mut stage) = Stage::set(Kept::Folder).await else { return };
    let identity = |stage: &mut Stage, address: &str| {
        for service in ["table", "blob"] {
            let name = format!("AzureWebJobsStorage__{service}ServiceUri");
            stage.settings.insert(name, address.to_owned());
        }
    };
    identity(&mut stage, "http://127.0.0.1:9");
    let checks = examine(&patient(&stage)).await;
    says(&checks, "table", Verdict::Fail, &["cannot be reached", "storage account exists"]);
    says(&checks, "container", Verdict::Fail, &["cannot be used", "storage account exists"]);
    says(&checks, "sign-in", Verdict::Fail, &["could not be read", "AzureWebJobsStorage"]);
    says(&checks, "target", Verdict::Ok, &[]);

    stage.settings.remove("IDENTITY_ENDPOINT");
    let checks = examine(&patient(&stage)).await;
    says(&checks, "table", Verdict::Warn, &["Not checked", "az or azd"]);
    says(&checks, "container", Verdict::Warn, &["Not checked", "az or azd"]);
}

#[tokio::test]
async fn a_folder_that_another_process_uses_says_so() {
    let Some(stage) = Stage::set(Kept::Folder).await else { return };
    let app = stage.app();
    let checks = examine(&patient(&stage)).await;
    says(&checks, "table", Verdict::Fail, &["only one process may use it"]);
    says(&checks, "sign-in", Verdict::Warn, &["the state storage cannot be used"]);
    drop(app);
}

#[tokio::test]
async fn a_person_without_the_roles_is_not_told_that_the_app_lacks_them() {
    let Some(mut stage) = Stage::set(Kept::Folder).await else { return };
    let refusing = axum::Router::new().fallback(|| async { StatusCode::FORBIDDEN });
    let listening = listen(refusing, Script::default()).await.unwrap();
    for service in ["table", "blob"] {
        let name = format!("AzureWebJobsStorage__{service}ServiceUri");
        stage.settings.insert(name, listening.url.to_string());
    }
    let mut patient = patient(&stage);
    says(&examine(&patient).await, "table", Verdict::Fail, &["Storage Table Data Contributor"]);
    patient.parts.host.managed_identity = None;
    let checks = examine(&patient).await;
    for line in ["table", "container", "sign-in"] {
        says(&checks, line, Verdict::Warn, &["you may not look (403)", "nothing of the app's own"]);
    }
}
