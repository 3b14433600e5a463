//! The doctor: every check is right when all is well, fails for its own reason
//! and in words, and none stops another.

mod command;
mod groups;
mod heartbeat;
mod source;
mod storage;
mod targets;

use std::time::Duration;

use defender_alert_export::app;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::Vars;
use defender_alert_export::doctor::{Patient, examine};
use defender_alert_export::domain::check::{Check, Section, Verdict};
use defender_alert_export::http::Http;
use defender_alert_export::sandbox::entra::AadstsError;
use defender_alert_export::sandbox::script::Fault;

use crate::world::{World, at, minutes, quick};

/// Every line there is, in order, for a deployment with a rule.
const LINES: [&str; 15] = [
    "settings",
    "clock",
    "tenant",
    "application",
    "sign-in",
    "session-key",
    "alerts",
    "groups",
    "region",
    "graph",
    "table",
    "container",
    "identity",
    "target",
    "heartbeats",
];

/// A deployment, and the doctor's visits.
struct Practice {
    world: World,
}

impl Practice {
    /// Signed in, with an alert exported.
    async fn new(extra: &[(&str, &str)]) -> Self {
        let world = World::new(extra).await;
        world.add(1..4, minutes(3));
        world.run().await;
        Self::of(world)
    }

    fn of(world: World) -> Self {
        Self { world }
    }

    /// With settings changed for the doctor alone.
    fn patient(&mut self, changes: &[(&str, &str)]) -> Patient {
        // One process at a time can have the state open.
        self.world.stop();
        let Vars::Map(mut settings) = self.world.vars() else { panic!("a map") };
        for (name, value) in changes {
            settings.insert((*name).to_owned(), (*value).to_owned());
        }
        let http = Http::network(quick()).unwrap();
        let clock = self.world.clouds.clock.clone();
        let folder = self.world.folder.path();
        let patience = Duration::from_secs(20);
        app::patient(&Vars::Map(settings), clock, http, folder, patience)
    }

    async fn visit(&mut self) -> Vec<Check> {
        examine(&self.patient(&[])).await
    }
}

fn line<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no line {name}"))
}

/// The line and every word of it that matters.
#[track_caller]
fn says(checks: &[Check], name: &str, verdict: Verdict, words: &[&str]) {
    let line = line(checks, name);
    assert_eq!(line.verdict, verdict, "{line:?}");
    let text = format!("{} {}", line.reason, line.next_step);
    for word in words {
        assert!(text.contains(word), "{name}: no `{word}` in: {text}");
    }
}

fn names(checks: &[Check]) -> Vec<&str> {
    let mut names: Vec<_> = checks.iter().map(|check| check.name).collect();
    names.dedup();
    names
}

#[tokio::test]
async fn all_is_well_and_every_line_says_so() {
    let mut practice = Practice::new(&[]).await;
    let checks = practice.visit().await;
    let wrong: Vec<_> = checks.iter().filter(|check| check.verdict != Verdict::Ok).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(names(&checks), [&LINES[..], &["columns", "program"]].concat());
    assert!(checks.iter().all(|check| check.next_step.is_empty()));
    says(&checks, "clock", Verdict::Ok, &["agrees with 5 servers, to 0 s"]);
    says(
        &checks,
        "sign-in",
        Verdict::Ok,
        &["alerts.rxx@identity.example.nhs.uk", "0 days", "90 days more"],
    );
    says(&checks, "groups", Verdict::Ok, &["`RXX Example Trust`", "(3 looked at)"]);
}

#[tokio::test]
async fn a_visit_leaves_nothing_behind_and_the_export_as_it_was() {
    let mut practice = Practice::new(&[]).await;
    let position = practice.world.position().await;
    let rows = practice.world.rows().len();
    let beats = practice.world.beats().len();
    practice.visit().await;
    practice.world.restart(&[]);
    assert_eq!(practice.world.position().await, position);
    assert_eq!((practice.world.rows().len(), practice.world.beats().len()), (rows, beats));
    assert_eq!(practice.world.blobs("doctor").await, []);
    practice.world.pass(minutes(90));
    let heartbeat = practice.world.run().await;
    assert_eq!(heartbeat.signed_in_as.as_deref(), Some("alerts.rxx@identity.example.nhs.uk"));
}

#[tokio::test]
async fn before_the_deployment_nothing_fails_that_only_comes_with_it() {
    let mut practice = Practice::of(World::signed_out(&[]).await);
    let patient = practice.patient(&[("IDENTITY_ENDPOINT", ""), ("IDENTITY_HEADER", "")]);
    let checks = examine(&patient).await;
    says(&checks, "application", Verdict::Ok, &["hands out codes", "first sign-in"]);
    says(&checks, "sign-in", Verdict::Warn, &["Nobody has signed in yet", "sign-in"]);
    says(&checks, "identity", Verdict::Warn, &["not the Function App", "az login"]);
    for name in ["session-key", "alerts", "groups", "graph", "target", "heartbeats"] {
        says(&checks, name, Verdict::Warn, &["Not checked, because"]);
    }
    says(&checks, "columns", Verdict::Warn, &["no token", "Cloud Shell"]);
    assert_eq!(Check::worst(&checks), Verdict::Warn, "{checks:#?}");
    let asked = practice.world.clouds.entra.asked();
    assert_eq!(asked.len(), 2, "a code and one poll: {asked:?}");
}

#[tokio::test]
async fn a_clock_that_is_off_is_noticed_on_either_side() {
    for (theirs, verdict, words) in [
        ("2026-11-21T10:00:25Z", Verdict::Ok, "to 20 s"),
        ("2026-11-21T10:00:50Z", Verdict::Warn, "45 s behind"),
        ("2026-11-21T09:59:00Z", Verdict::Warn, "65 s ahead of"),
        ("2026-11-21T09:57:00Z", Verdict::Fail, "185 s ahead of"),
        ("2026-11-21T12:00:00Z", Verdict::Fail, "7195 s behind"),
    ] {
        let mut practice = Practice::of(World::new(&[]).await);
        let clouds = &practice.world.clouds;
        let scripts = [
            &clouds.entra.script,
            clouds.defender.script(),
            &clouds.monitor.script,
            &clouds.managed_identity.script,
            &clouds.directory.script,
        ];
        for script in scripts {
            script.tell_time_by(Clock::stopped_at(at(theirs)));
        }
        let checks = practice.visit().await;
        says(&checks, "clock", verdict, &[words]);
    }
}

#[tokio::test]
async fn one_server_with_a_wrong_clock_is_not_ours() {
    let mut practice = Practice::of(World::new(&[]).await);
    let entra = &practice.world.clouds.entra.script;
    entra.tell_time_by(Clock::stopped_at(at("2026-11-22T10:00:00Z")));
    says(&practice.visit().await, "clock", Verdict::Ok, &["agrees"]);
}

#[tokio::test]
async fn tenant_and_application_that_do_not_exist_are_told_apart() {
    const OTHER: &str = "11111111-2222-4333-8444-555555555555";
    let mut practice = Practice::of(World::signed_out(&[]).await);
    let checks = examine(&practice.patient(&[("FunctionConfigMDETenantId", OTHER)])).await;
    says(&checks, "tenant", Verdict::Fail, &["AADSTS90002", "FunctionConfigMDETenantId"]);
    let checks = examine(&practice.patient(&[("FunctionConfigMDEClientAppId", OTHER)])).await;
    says(&checks, "tenant", Verdict::Ok, &[]);
    says(&checks, "application", Verdict::Fail, &["AADSTS700016", "FunctionConfigMDEClientAppId"]);
}

#[tokio::test]
async fn an_application_that_is_no_public_client_is_named() {
    let mut practice = Practice::of(World::signed_out(&[]).await);
    let entra = &practice.world.clouds.entra;
    entra.fail_with(AadstsError::new("invalid_client", 7_000_218));
    let checks = practice.visit().await;
    says(&checks, "application", Verdict::Fail, &["Allow public client flows"]);
}

#[tokio::test]
async fn an_authority_that_is_another_is_noticed() {
    let mut practice = Practice::new(&[]).await;
    let document =
        r#"{"issuer":"https://login.example/ID/v2.0","token_endpoint":"https://login.example/t"}"#;
    for (issuer, words) in [
        ("other", "answers for another tenant"),
        ("0f6c1f7e-5d2b-4a43-9a57-3d6f0c9b2e11", "another address for tokens"),
    ] {
        let body = document.replace("ID", issuer);
        let answer = Fault::Answer { status: 200, headers: vec![], body };
        let mut patient = practice.patient(&[]);
        // The clock's question would use it up.
        patient.parts.identity = None;
        practice.world.clouds.entra.script.push([answer]);
        says(&examine(&patient).await, "tenant", Verdict::Fail, &[words]);
    }
}

#[tokio::test]
async fn a_sign_in_that_ended_ends_nothing_else() {
    let mut practice = Practice::new(&[]).await;
    practice.world.clouds.entra.revoke_all();
    practice.world.pass(minutes(90));
    let checks = practice.visit().await;
    says(&checks, "sign-in", Verdict::Fail, &["AADSTS50173", "sign in again"]);
    says(&checks, "application", Verdict::Ok, &["hands out codes"]);
    says(&checks, "alerts", Verdict::Warn, &["Not checked, because there is no token"]);
    says(&checks, "target", Verdict::Ok, &[]);
    assert_eq!(names(&checks).len(), 17);
}

#[tokio::test]
async fn an_identity_service_in_trouble_is_not_taken_for_a_lost_sign_in() {
    let mut practice = Practice::new(&[]).await;
    practice.world.pass(minutes(90));
    let mut patient = practice.patient(&[]);
    // The clock's question would use one up.
    patient.parts.identity = None;
    practice.world.clouds.entra.script.push([Fault::Pass, Fault::status(503)]);
    let checks = examine(&patient).await;
    says(&checks, "sign-in", Verdict::Fail, &["busy", "the sign-in is kept"]);
}

#[tokio::test]
async fn the_key_ring_says_which_key_can_go() {
    const NEW: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const OLD: &str = "c2Vzc2lvbi1rZXktZm9yLXRoZS1zYW5kYm94LW9ubHk=";
    let rotated = [("FunctionConfigSessionKey", NEW), ("FunctionConfigSessionKeyPrevious", OLD)];
    let mut practice = Practice::new(&[]).await;
    let checks = examine(&practice.patient(&rotated)).await;
    says(
        &checks,
        "session-key",
        Verdict::Warn,
        &["still sealed with FunctionConfigSessionKeyPrevious", "next renewal"],
    );
    practice.world.pass(minutes(90));
    let checks = examine(&practice.patient(&rotated)).await;
    says(&checks, "session-key", Verdict::Ok, &["can be removed"]);
    let checks = examine(&practice.patient(&[("FunctionConfigSessionKey", OLD)])).await;
    says(&checks, "sign-in", Verdict::Fail, &["another key than FunctionConfigSessionKey"]);
    says(&checks, "session-key", Verdict::Warn, &["Not checked"]);
}

#[tokio::test]
async fn a_403_is_told_apart_by_its_cause() {
    for (message, words) in [
        ("Missing scopes. API required scopes: Alert.Read", "delegated permission Alert.Read"),
        ("User does not have the View Data permission", "Defender role with View Data"),
        ("The audience of the token is not valid.", "made for another service"),
        ("Forbidden", "One of three things is wrong"),
    ] {
        let mut practice = Practice::new(&[]).await;
        let body = format!(r#"{{"error":{{"code":"Forbidden","message":"{message}"}}}}"#);
        let answer = Fault::Answer { status: 403, headers: vec![], body };
        let mut patient = practice.patient(&[]);
        // The clock's question would use it up.
        patient.parts.source.as_mut().unwrap().defender =
            patient.parts.identity.as_ref().unwrap().authority.clone();
        practice.world.clouds.defender.script().push([answer]);
        let checks = examine(&patient).await;
        says(&checks, "alerts", Verdict::Fail, &["403", words]);
        says(&checks, "groups", Verdict::Warn, &["Not checked, because no alerts could be read"]);
        says(&checks, "table", Verdict::Ok, &[]);
    }
}

#[tokio::test]
async fn a_used_up_quota_is_no_failure_of_the_deployment() {
    let mut practice = Practice::new(&[]).await;
    let mut patient = practice.patient(&[]);
    patient.parts.source.as_mut().unwrap().defender =
        patient.parts.identity.as_ref().unwrap().authority.clone();
    practice.world.clouds.defender.script().push([Fault::throttled(3_000)]);
    says(&examine(&patient).await, "alerts", Verdict::Warn, &["quota", "Nothing to do"]);
}

#[tokio::test]
async fn consent_to_graph_is_asked_for_and_the_sign_in_kept() {
    let mut practice = Practice::new(&[]).await;
    practice.world.clouds.entra.fail_with(AadstsError::new("invalid_grant", 65_001));
    let checks = practice.visit().await;
    says(&checks, "graph", Verdict::Warn, &["AADSTS65001", "SecurityAlert.Read.All", "MC1220762"]);
    says(&checks, "alerts", Verdict::Ok, &[]);
    practice.world.restart(&[]);
    practice.world.pass(minutes(90));
    assert!(practice.world.run().await.signed_in_as.is_some());
}

#[tokio::test]
async fn the_wrong_host_is_noticed() {
    let mut practice = Practice::new(&[]).await;
    for (name, value, verdict, words) in [
        ("FUNCTIONS_WORKER_RUNTIME", "python", Verdict::Fail, "for python"),
        ("FUNCTIONS_WORKER_RUNTIME", "Custom", Verdict::Ok, "0.1.0"),
        ("FUNCTIONS_EXTENSION_VERSION", "~3", Verdict::Warn, "FUNCTIONS_EXTENSION_VERSION is ~3"),
        ("FUNCTIONS_EXTENSION_VERSION", "a secret pasted here", Verdict::Warn, "something else"),
    ] {
        says(&examine(&practice.patient(&[(name, value)])).await, "program", verdict, &[words]);
    }
}

#[tokio::test]
async fn with_wrong_settings_the_rest_is_looked_at_all_the_same() {
    let mut practice = Practice::new(&[]).await;
    let wrong = [
        ("FunctionConfigMDETenantId", "hunter2"),
        ("FunctionConfigPageSize", "77777"),
        ("FunctionConfigDeviceGroups", ""),
    ];
    let checks = examine(&practice.patient(&wrong)).await;
    let settings: Vec<_> = checks.iter().filter(|check| check.name == "settings").collect();
    assert_eq!(settings.len(), 3);
    for ((name, _), check) in wrong.iter().zip(&settings) {
        assert!(check.verdict == Verdict::Fail && check.reason.starts_with(name), "{check:?}");
    }
    says(&checks, "sign-in", Verdict::Warn, &["Not checked, because settings are wrong"]);
    for name in ["clock", "table", "container", "identity", "target", "heartbeats", "columns"] {
        says(&checks, name, Verdict::Ok, &[]);
    }
    assert!(!format!("{checks:?}").contains("hunter2"));
}

#[tokio::test]
async fn with_everything_down_every_line_still_comes_within_its_time() {
    let mut practice = Practice::new(&[]).await;
    let nobody = "http://127.0.0.1:9";
    let patient = practice.patient(&[
        ("FunctionConfigManagementEndpoint", nobody),
        ("FunctionConfigIdentityAuthority", nobody),
        ("FunctionConfigDefenderEndpoint", nobody),
        ("FunctionConfigLogsIngestionEndpoint", nobody),
        ("IDENTITY_ENDPOINT", nobody),
    ]);
    let checks = examine(&patient).await;
    assert_eq!(names(&checks).len(), 17, "{checks:#?}");
    for name in ["tenant", "alerts", "identity", "target"] {
        assert_eq!(line(&checks, name).verdict, Verdict::Fail, "{name}");
    }
    says(&checks, "clock", Verdict::Warn, &["no server answered"]);
    drop(patient);

    let mut patient = practice.patient(&[]);
    patient.patience = Duration::from_millis(30);
    let hang = || std::iter::repeat_n(Fault::Hang, 20);
    practice.world.clouds.entra.script.push(hang());
    practice.world.clouds.defender.script().push(hang());
    practice.world.clouds.monitor.script.push(hang());
    let checks = examine(&patient).await;
    assert_eq!(names(&checks).len(), 17, "{checks:#?}");
    for name in ["tenant", "alerts", "target"] {
        says(&checks, name, Verdict::Fail, &["No answer within", "firewall"]);
    }
}

#[test]
fn every_section_a_line_leads_to_stands_in_the_documents() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let anchor = |heading: &str| {
        let plain = |c: &char| c.is_alphanumeric() || matches!(c, '-' | ' ');
        heading
            .trim_start_matches('#')
            .trim()
            .to_lowercase()
            .chars()
            .filter(plain)
            .collect::<String>()
            .replace(' ', "-")
    };
    for section in Section::ALL {
        let (file, wanted) = section.link().split_once('#').unwrap();
        let page = std::fs::read_to_string(root.join(file)).unwrap();
        let mut headings = page.lines().filter(|line| line.starts_with('#'));
        assert!(headings.any(|line| anchor(line) == wanted), "no heading for {section:?}");
    }
}
