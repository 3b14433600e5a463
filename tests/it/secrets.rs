//! No secret is logged, stored in clear, or sent to the workspace, whatever
//! happens.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use defender_alert_export::azure::http_date;
use defender_alert_export::azure::shared_key::AccountKey;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::LogOutput;
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::http::client;
use defender_alert_export::sandbox::clouds::ACCOUNT;
use defender_alert_export::sandbox::entra::AadstsError;
use defender_alert_export::sandbox::script::Fault;
use secrecy::ExposeSecret;
use url::Url;
use uuid::Uuid;

use crate::crash::stage::{Kept, Stage, within};
use crate::sign_in_secrets::disguises;
use crate::store::{self, azurite, connection};
use crate::traces::{Traces, hold};
use crate::world::{TARGETS, World, minutes};

/// A secret as text, as base64 of text, and, where it is base64, as its bytes.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let mut forms: Vec<_> = disguises(secret).into_iter().map(String::into_bytes).collect();
    forms.extend(STANDARD.decode(secret).ok().filter(|bytes| bytes.len() > 8));
    forms
}

fn found(everything: &[Vec<u8>], secret: &str) -> bool {
    forms(secret).iter().any(|form| hold(everything, form))
}

/// A sign-in, runs, a renewal, refusals by everybody, a wrong key.
async fn a_life(world: &mut World) {
    world.add(1..20, minutes(3));
    world.run().await;
    world.clouds.entra.tokens.void_access_tokens();
    world.five_minutes_later().await;
    world.clouds.managed_identity.script.push([Fault::status(500), Fault::LoseAnswer]);
    world.clouds.defender.script().push([Fault::status(403), Fault::CutAfter(900)]);
    world.five_minutes_later().await;
    world.add(20..40, minutes(0));
    let status = |status| Fault::Answer { status, headers: vec![], body: "no".to_owned() };
    for refusal in [status(401), status(403), status(400), status(500), Fault::LoseAnswer] {
        world.clouds.monitor.script.push([refusal.clone()]);
        world.clouds.hub.script.push([refusal]);
        world.five_minutes_later().await;
    }
    world.pass(minutes(90));
    world.clouds.entra.script.push([Fault::status(503), Fault::LoseAnswer]);
    world.five_minutes_later().await;
    world.restart(&[("FunctionConfigSessionKey", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")]);
    assert_eq!(world.five_minutes_later().await.status, Status::SignInNeeded);
    world.restart(&[(
        "FunctionConfigSessionKeyPrevious",
        "c2Vzc2lvbi1rZXktZm9yLXRoZS1zYW5kYm94LW9ubHk=",
    )]);
    world.five_minutes_later().await;
    world.pass(minutes(90));
    world.clouds.entra.fail_with(AadstsError::new("invalid_grant", 50_173));
    let heartbeat = world.five_minutes_later().await;
    assert_eq!(heartbeat.status, Status::SignInNeeded, "{}", heartbeat.message);
    world.sign_in().await;
    world.five_minutes_later().await;
}

#[tokio::test]
async fn no_secret_is_left_in_a_log_the_state_the_container_or_the_workspace() {
    for (output, target) in
        [LogOutput::Logging, LogOutput::Blob, LogOutput::Print].into_iter().zip(TARGETS)
    {
        let traces = Traces::listen_by(output);
        let policy = [
            ("FunctionConfigAlertTargetType", target),
            ("FunctionConfigEventHubAccessKeyName", "send"),
            (
                "FunctionConfigEventHubAccessKeyValue",
                "ZXZlbnQtaHViLWtleS1mb3ItdGhlLXNhbmRib3gtb25seQ==",
            ),
        ];
        let mut world = World::new(&policy).await;
        let pump = traces.append_to(&world);
        a_life(&mut world).await;
        traces.flush().await;
        drop(pump);
        let debug = format!("{:?} {:?}", world.app(), world.app().exporter).into_bytes();
        let secrets = world.clouds.secrets();
        let mut everything = traces.of(&mut world);
        everything.push(debug);

        assert!(hold(&everything, b"the sign-in was renewed"), "the log is among them");
        assert!(hold(&everything, b"AADSTS50173"), "heartbeats are among them");
        assert!(secrets.len() > 20, "{}", secrets.len());
        let more = ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="];
        for secret in secrets.iter().map(ExposeSecret::expose_secret).chain(more) {
            let start: String = secret.chars().take(12).collect();
            assert!(!found(&everything, secret), "{target}: {start}... was found");
        }
        for header in ["SharedAccessSignature sr", "SharedKey ", "Bearer ey", "sig="] {
            assert!(!hold(&everything, header.as_bytes()), "{target}: {header} was found");
        }
    }
}

/// Every entity of a table, as the service gives it.
async fn entities(tables: &Url, name: &str) -> Vec<u8> {
    let key = AccountKey::new(store::ACCOUNT, &store::KEY.into()).unwrap();
    let url = tables.join(&format!("{name}()")).unwrap();
    let date = http_date(Clock::System.now());
    let request = client()
        .unwrap()
        .get(url.clone())
        .header("x-ms-date", &date)
        .header("x-ms-version", "2020-12-06")
        .header("accept", "application/json;odata=nometadata")
        .header("authorization", key.table(&date, &url));
    let answer = request.send().await.unwrap().error_for_status().unwrap();
    let next = answer.headers().keys().find(|name| name.as_str().contains("continuation"));
    assert_eq!(next, None, "all of them are in one page");
    answer.bytes().await.unwrap().to_vec()
}

#[tokio::test]
async fn no_secret_is_left_in_a_storage_account() {
    let (Some(tables), Some(account)) = (azurite("AZURITE_TABLE"), connection()) else { return };
    let [table, container] = ["t", "c"].map(|kind| format!("{kind}{}", Uuid::new_v4().simple()));
    let traces = Traces::listen_by(LogOutput::Blob);
    let mut world = World::new(&[
        ("AzureWebJobsStorage", &account),
        ("WEBSITE_INSTANCE_ID", "here"),
        ("FunctionConfigStorageTable", &table),
        ("FunctionConfigStorageContainer", &container),
    ])
    .await;
    let pump = traces.append_to(&world);
    let poison = world.add(900..901, minutes(3)).remove(0);
    world.clouds.monitor.tables.refuse_rows_matching(&poison.id());
    a_life(&mut world).await;
    traces.flush().await;
    drop(pump);

    let mut held = vec![entities(&tables, &table).await];
    for (name, text) in world.blobs("").await {
        held.push(name.into_bytes());
        held.push(text.into_bytes());
    }
    assert!(hold(&held[..1], b"\"Session"), "the sign-in is among them");
    assert!(hold(&held[1..], b"the sign-in was renewed"), "the log is among them");
    assert!(hold(&held[1..], poison.id().as_bytes()), "the quarantine is among them");
    let secrets = world.clouds.secrets();
    held.extend(traces.of(&mut world));
    let account_key = [store::KEY, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="];
    for secret in secrets.iter().map(ExposeSecret::expose_secret).chain(account_key) {
        let start: String = secret.chars().take(12).collect();
        assert!(!found(&held, secret), "{start}... was found");
    }
    for header in ["SharedKey", "AccountKey=", "Bearer ey", "sig="] {
        assert!(!hold(&held, header.as_bytes()), "{header} was found");
    }
}

#[tokio::test]
async fn no_secret_is_printed_by_the_program() {
    for output in ["logging", "print"] {
        let Some(mut stage) = Stage::set(Kept::Azurite).await else { return };
        for (name, value) in
            [("FunctionConfigLoggingType", output), ("FunctionConfigLoggingLevel", "1")]
        {
            stage.settings.insert(name.to_owned(), value.to_owned());
        }
        stage.sign_in().await;
        stage.alerts(3, Duration::from_mins(5));
        stage.clouds.managed_identity.script.push([Fault::status(500)]);
        stage.clouds.monitor.script.push([Fault::status(401), Fault::LoseAnswer]);
        stage.clouds.defender.script().push([Fault::status(503)]);
        let mut printed = Vec::new();
        for verb in [&["run", "--once"][..], &["status"], &["doctor"], &["replay"]] {
            let ended = within("the end of the program", stage.command(verb).output()).await;
            let ended = ended.unwrap();
            printed.extend([ended.stdout, ended.stderr]);
        }
        assert!(hold(&printed, b"request failed; trying again"), "the log is among them");
        assert!(hold(&printed, ACCOUNT.as_bytes()), "the status is among them");
        let secrets = stage.clouds.secrets();
        for secret in secrets.iter().map(ExposeSecret::expose_secret).chain([store::KEY]) {
            let start: String = secret.chars().take(12).collect();
            assert!(!found(&printed, secret), "{output}: {start}... was found");
        }
    }
}

#[tokio::test]
async fn the_search_for_secrets_finds_one_wherever_it_is_planted() {
    let traces = Traces::listen();
    let mut world = World::new(&[]).await;
    world.run().await;
    let secrets = world.clouds.secrets();
    let secret = secrets[7].expose_secret().to_owned();
    tracing::trace!(target: "defender_alert_export::test", token = secret, "planted");
    let key = secrets[0].expose_secret().to_owned();
    let raw = STANDARD.decode(&key).unwrap();
    world.app().blobs.put("planted/raw.bin", raw.into()).await.unwrap();
    for (number, other) in secrets[3..6].iter().enumerate() {
        let hidden = STANDARD.encode(format!("{}{}", "x".repeat(number), other.expose_secret()));
        world.app().blobs.put(&format!("planted/{number}"), hidden.into()).await.unwrap();
    }
    let everything = traces.of(&mut world);
    assert!(found(&everything, &secret), "in the log");
    assert!(found(&everything, &key), "as bytes");
    for other in &secrets[3..6] {
        assert!(found(&everything, other.expose_secret()), "in base64");
    }
}
