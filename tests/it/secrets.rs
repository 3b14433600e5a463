//! No secret is logged, stored in clear, or sent to the workspace, whatever
//! happens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use defender_alert_export::config::LogOutput;
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::sandbox::entra::AadstsError;
use defender_alert_export::sandbox::script::Fault;
use secrecy::ExposeSecret;

use crate::sign_in_secrets::disguises;
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
