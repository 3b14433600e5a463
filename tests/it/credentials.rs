//! The app's own tokens: few requests, never a stale token, never a secret
//! shown.

use std::time::Duration;

use azure_core::credentials::TokenCredential as _;
use secrecy::ExposeSecret as _;

use defender_alert_export::azure::credential::{Credential, CredentialError};
use defender_alert_export::clock::Clock;
use defender_alert_export::domain::timestamp::Timestamp;
use defender_alert_export::error_chain::Chain;
use defender_alert_export::sandbox::managed_identity::{Bearer, ManagedIdentity};
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::sink::logs_ingestion;

use crate::sinks::{NOW, Trust, quick};

#[tokio::test]
async fn a_token_is_fetched_once_however_many_ask_and_again_before_it_expires() {
    let trust = Trust::start().await.unwrap();
    let ask = || trust.credential.token("https://storage.azure.com");
    let (a, b, c) = tokio::join!(ask(), ask(), ask());
    let tokens = [a.unwrap(), b.unwrap(), c.unwrap()];
    assert!(tokens.iter().all(|token| token.expose_secret() == tokens[0].expose_secret()));
    trust.credential.token("https://monitor.azure.com").await.unwrap();
    let asked = || trust.identity.script.seen().len();
    assert_eq!(asked(), 2, "once for each resource");
    trust.clock.advance(Duration::from_mins(24 * 60 - 6));
    ask().await.unwrap();
    assert_eq!(asked(), 2);
    trust.clock.advance(Duration::from_mins(1));
    assert_ne!(ask().await.unwrap().expose_secret(), tokens[0].expose_secret());
    assert_eq!(asked(), 3);
}

#[tokio::test]
async fn the_sdk_gets_the_same_token_with_its_expiry() {
    let trust = Trust::start().await.unwrap();
    let token = trust.credential.token("https://storage.azure.com").await.unwrap();
    let scopes = ["https://storage.azure.com/.default"];
    let sdk = trust.credential.get_token(&scopes, None).await.unwrap();
    assert_eq!(sdk.token.secret(), token.expose_secret());
    let expected: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    assert_eq!(Timestamp::from(sdk.expires_on), expected);
}

#[tokio::test]
async fn an_app_without_its_identity_is_told_so() {
    let clock = Clock::stopped_at(NOW.parse().unwrap());
    let unassigned = ManagedIdentity::start_unassigned(clock.clone()).await.unwrap();
    let credential = Credential::new(quick(), clock.clone(), Some(unassigned.endpoint()));
    let error = credential.token("https://storage.azure.com").await.unwrap_err();
    assert_eq!(error.to_string(), "no managed identity is assigned to this app");
    assert_eq!(unassigned.script.seen().len(), 1, "asking again would not help");

    let user = ManagedIdentity::start_user_assigned(clock.clone(), "me").await.unwrap();
    let credential = Credential::new(quick(), clock.clone(), Some(user.endpoint()));
    credential.token("https://storage.azure.com").await.unwrap();

    user.script.push([Fault::status(500), Fault::LoseAnswer]);
    credential.token("https://vault.azure.net").await.unwrap();
    user.script.push([Fault::status(403)]);
    let error = credential.token("https://monitor.azure.com").await.unwrap_err();
    assert!(matches!(error, CredentialError::Refused { status: 403, .. }), "{error:?}");
    let garbage =
        Fault::Answer { status: 200, headers: vec![], body: r#"{"access_token":"eyJ0"}"#.into() };
    user.script.push([garbage]);
    let error = credential.token("https://monitor.azure.com").await.unwrap_err();
    assert!(matches!(error, CredentialError::Garbled), "{error:?}");
    assert!(!format!("{error:?}{}", Chain(&error)).contains("eyJ0"));
}

#[tokio::test]
async fn a_token_for_another_service_is_refused() {
    let trust = Trust::start().await.unwrap();
    let judge = Bearer::judged_by(|token| token == "good");
    let mut headers = axum::http::HeaderMap::new();
    assert!(!judge.admits(&headers));
    headers.insert("authorization", "Bearer good".parse().unwrap());
    assert!(judge.admits(&headers));
    let storage = trust.credential.token("https://storage.azure.com").await.unwrap();
    let header = format!("Bearer {}", storage.expose_secret());
    headers.insert("authorization", header.parse().unwrap());
    let monitor = trust.identity.tokens.bearer(logs_ingestion::AUDIENCE, &trust.clock);
    let own = trust.identity.tokens.bearer("https://storage.azure.com", &trust.clock);
    assert!(!monitor.admits(&headers) && own.admits(&headers));
    trust.clock.advance(Duration::from_hours(24));
    assert!(!own.admits(&headers), "expired");
}
