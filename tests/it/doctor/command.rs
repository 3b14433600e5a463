//! The verb itself: the real program, its lines, its JSON, its exit code.

use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::crash::stage::{Kept, Stage, within};

async fn doctor(stage: &Stage, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = stage.folder.to_str().unwrap();
    let arguments = [&["doctor", "--state-dir", folder], arguments].concat();
    let output = within("the doctor's end", stage.command(&arguments).output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn it_prints_a_line_each_with_what_to_do_and_ends_by_the_worst() {
    let Some(mut stage) = Stage::set(Kept::Folder).await else { return };
    stage.sign_in().await;
    let (code, out, err) = doctor(&stage, &[]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let first = out.lines().next().unwrap();
    assert_eq!(first, "ok    settings     All settings are well-formed.");
    assert!(
        out.contains("\nok    sign-in      Signed in as alerts.rxx@identity.example.nhs.uk"),
        "{out}"
    );
    assert!(out.contains("\nwarn  groups       The account saw no alert"), "{out}");
    assert!(
        out.contains("\n                   Next step: Compare FunctionConfigDeviceGroups"),
        "{out}"
    );
    assert!(out.contains("\n                   More: docs/doctor.md#device-groups\n"), "{out}");
    assert!(out.trim_end().ends_with(" failed."), "{out}");

    stage.settings.insert("FunctionConfigSessionKey".to_owned(), "c2hvcnQ-and-secret".to_owned());
    stage.settings.remove("FunctionConfigDeviceGroups");
    let (code, out, _) = doctor(&stage, &[]).await;
    assert_eq!(code, Some(2), "wrong settings end every verb so: {out}");
    assert!(
        out.contains("fail  settings     FunctionConfigSessionKey: not 32 bytes in base64."),
        "{out}"
    );
    assert!(out.contains("fail  settings     FunctionConfigDeviceGroups: not set."), "{out}");
    assert!(out.contains("ok    target       LogsIngestion: an empty post was taken."), "{out}");
    assert!(!out.contains("c2hvcnQ"), "{out}");

    let (code, ..) = doctor(&stage, &["--colour"]).await;
    assert_eq!(code, Some(2));
}

#[tokio::test]
async fn machines_get_one_object_and_nobody_a_secret() {
    let Some(stage) = Stage::set(Kept::Folder).await else { return };
    stage.sign_in().await;
    stage.clouds.entra.revoke_all();
    let (code, out, err) = doctor(&stage, &["--json"]).await;
    let report: Value = serde_json::from_str(&out).unwrap();
    let keys: Vec<_> = report.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["Checks", "Verdict", "Version"]);
    let checks = report["Checks"].as_array().unwrap();
    assert_eq!(checks.len(), 17);
    for check in checks {
        let keys: Vec<_> = check.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["Name", "NextStep", "Reason", "Section", "Verdict"]);
        assert!(["ok", "warn", "fail"].contains(&check["Verdict"].as_str().unwrap()));
    }
    let failed = checks.iter().any(|check| check["Verdict"] == "fail");
    assert_eq!(code, Some(i32::from(failed)));
    let everything = format!("{out}{err}");
    for secret in stage.clouds.secrets() {
        assert!(!everything.contains(secret.expose_secret()), "a secret was printed");
    }
}
