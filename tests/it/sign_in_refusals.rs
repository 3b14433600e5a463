//! What Entra refuses is explained; what only fails is tried again.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use defender_alert_export::domain::sign_in::Class;
use defender_alert_export::domain::standing::Standing;
use defender_alert_export::identity::{DEFENDER_AUDIENCE, Demand, Identity, IdentityError};
use defender_alert_export::sandbox::entra::AadstsError;
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::store::Value;
use secrecy::ExposeSecret as _;
use serde_json::json;
use uuid::Uuid;

use crate::sign_in::{EXPORT, OID, ONE, TWO, World, at};

const SIGN_IN: &str = "sign in again";
const IDENTITY_TEAM: &str = "central identity team";

/// Microsoft's codes, and what each must lead people to.
const CODES: &[(&str, &[u32], Class, &str)] = &[
    ("invalid_grant", &[70_008, 700_082, 70_000], Class::SignInAgain, SIGN_IN),
    ("invalid_grant", &[70_043], Class::SignInAgain, "exempt"),
    ("invalid_grant", &[50_173, 50_132, 50_133, 50_089], Class::SignInAgain, "central team"),
    (
        "interaction_required",
        &[50_076, 50_079, 50_074, 50_072, 50_078, 50_158],
        Class::SecondFactor,
        "second factor",
    ),
    ("interaction_required", &[53_003, 530_032, 50_131], Class::Policy, "device code"),
    ("invalid_grant", &[530_035], Class::Policy, "security defaults"),
    ("invalid_grant", &[53_000, 53_001, 53_002, 50_097, 50_129], Class::Policy, "exception"),
    ("invalid_grant", &[53_004, 53_011, 50_053, 50_057], Class::Account, IDENTITY_TEAM),
    ("invalid_grant", &[50_055, 50_144], Class::Account, "Set a new password"),
    ("interaction_required", &[50_105], Class::Permission, "assign"),
    (
        "invalid_grant",
        &[65_001, 65_004, 90_094, 90_095, 90_008, 650_057, 650_056, 65_005],
        Class::Permission,
        "admin consent",
    ),
    ("invalid_resource", &[500_011, 650_052], Class::Settings, "licence"),
    ("unauthorized_client", &[700_016, 700_011], Class::Settings, "FunctionConfigMDEClientAppId"),
    ("invalid_client", &[7_000_218], Class::Registration, "Allow public client flows"),
    ("invalid_client", &[700_025], Class::Product, "central team"),
    ("unauthorized_client", &[7_000_112, 70_001], Class::Registration, "enable"),
    ("invalid_request", &[90_002, 90_019, 50_059], Class::Settings, "FunctionConfigMDETenantId"),
    (
        "invalid_grant",
        &[50_020, 50_034, 50_014, 51_004, 90_072, 16_000, 16_003],
        Class::WrongAccount,
        "not with your own",
    ),
    ("access_denied", &[500_212, 500_213, 500_021], Class::Policy, "cross-tenant"),
    (
        "invalid_scope",
        &[70_011, 28_002, 700_022, 900_144, 90_014, 9_002_313],
        Class::Product,
        "Update the app",
    ),
    ("invalid_grant", &[90_119, 90_120, 50_134], Class::CodeUnusable, "new code"),
];

#[tokio::test]
async fn every_known_code_is_explained_when_a_sign_in_is_refused() {
    let world = World::new().await;
    for (error, codes, class, advice) in CODES {
        for code in *codes {
            world.start().await;
            world.pass(5);
            world.entra.fail_with(AadstsError::new(error, *code));
            let standing = world.poll().await;
            let Standing::Refused { class: said, advice: words, .. } = standing else {
                panic!("{code}: {standing:?}")
            };
            assert_eq!(said, *class, "{code}");
            assert!(words.next_step.contains(advice), "{code}: {}", words.next_step);
            for part in [format!("AADSTS{code}"), "trace id".into(), "correlation id".into()] {
                assert!(words.message.contains(&part), "{code}: {}", words.message);
            }
            assert!(!words.message.contains("jane.doe"), "{code}: {}", words.message);
        }
    }
}

#[tokio::test]
async fn every_known_code_is_explained_when_a_renewal_is_refused() {
    for (error, codes, class, _) in CODES {
        let world = World::signed_in().await;
        world.pass(75 * 60);
        world.entra.fail_with(AadstsError::new(error, codes[0]));
        let Err(IdentityError::SignInNeeded(advice)) = world.token().await else {
            panic!("{codes:?}")
        };
        assert!(advice.message.contains(&format!("AADSTS{}", codes[0])));
        let standing = world.poll().await;
        let Standing::Refused { class: said, resumes, .. } = standing else {
            panic!("{codes:?}: {standing:?}")
        };
        let has_ended = *class == Class::SignInAgain;
        assert_eq!((said, resumes), (*class, !has_ended), "{codes:?}");
        let requests = world.requests();
        assert!(matches!(world.token().await, Err(IdentityError::SignInNeeded(_))));
        assert_eq!(world.requests(), requests, "nothing is asked again: {codes:?}");
    }
}

#[tokio::test]
async fn every_ending_of_a_code_is_explained() {
    let cases = [
        ("authorization_declined", Class::Declined),
        ("access_denied", Class::Declined),
        ("bad_verification_code", Class::CodeUnusable),
        ("expired_token", Class::CodeExpired),
        ("invalid_grant", Class::SignInAgain),
        ("interaction_required", Class::SecondFactor),
        ("invalid_client", Class::Registration),
        ("unauthorized_client", Class::Registration),
        ("something_new", Class::Unknown),
    ];
    for (error, class) in cases {
        let world = World::new().await;
        world.start().await;
        world.pass(5);
        let failure = AadstsError { error: error.to_owned(), ..AadstsError::default() };
        world.entra.fail_with(failure);
        let standing = world.poll().await;
        let Standing::Refused { class: said, .. } = standing else { panic!("{standing:?}") };
        assert_eq!(said, class, "{error}");
        world.start().await;
    }
}

#[tokio::test]
async fn a_person_may_decline() {
    let world = World::new().await;
    world.start().await;
    world.entra.decline();
    world.pass(5);
    let Standing::Refused { class, .. } = world.poll().await else { panic!("refused") };
    assert_eq!(class, Class::Declined);
}

#[tokio::test]
async fn passing_trouble_loses_no_sign_in_and_is_not_pressed() {
    let codes =
        [90_006, 90_012, 90_024, 90_033, 90_055, 90_090, 50_033, 50_087].map(|code| (code, 60));
    for (code, wait) in codes.into_iter().chain([(50_196, 3 * 60 * 60)]) {
        let world = World::signed_in().await;
        world.pass(75 * 60);
        world.entra.fail_with(AadstsError::new("invalid_grant", code));
        let Err(IdentityError::Busy { retry_at, .. }) = world.token().await else {
            panic!("{code}")
        };
        assert_eq!(retry_at, at("2026-11-21T11:15:05Z") + Duration::from_secs(wait), "{code}");
        let requests = world.requests();
        world.pass(wait - 1);
        assert!(matches!(world.token().await, Err(IdentityError::Busy { .. })), "{code}");
        assert_eq!(world.requests(), requests, "{code}");
        world.pass(1);
        assert!(world.opens_defender(&world.token().await.unwrap()), "{code}");
    }
}

#[tokio::test]
async fn while_entra_is_busy_the_old_token_serves_to_its_end() {
    for (fault, wait) in [(Fault::status(503), 60), (Fault::throttled(120), 120)] {
        let world = World::signed_in().await;
        let first = world.token().await.unwrap();
        world.pass(75 * 60 - 200);
        world.entra.script.push([fault.clone()]);
        let requests = world.requests();
        for _ in 0..3 {
            let same = world.token().await.unwrap();
            assert_eq!(same.secret.expose_secret(), first.secret.expose_secret(), "{fault:?}");
        }
        assert_eq!(world.requests(), requests + 1, "asked once: {fault:?}");
        let forced = world.identity().access_token(Demand::Renewed { claims: None }).await;
        assert!(matches!(forced, Err(IdentityError::Busy { .. })), "{fault:?}");
        world.pass(wait);
        let renewed = world.token().await.unwrap();
        assert_ne!(renewed.secret.expose_secret(), first.secret.expose_secret(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_token_the_api_refused_does_not_come_back_while_entra_is_busy() {
    let world = World::signed_in().await;
    world.entra.script.push([Fault::status(503)]);
    let forced = world.identity().access_token(Demand::Renewed { claims: None }).await;
    assert!(matches!(forced, Err(IdentityError::Busy { .. })));
}

#[tokio::test]
async fn a_lost_answer_to_a_renewal_is_asked_for_again_at_once() {
    let world = World::signed_in().await;
    world.pass(75 * 60);
    world.entra.script.push([Fault::LoseAnswer, Fault::CutAfter(40)]);
    assert!(world.opens_defender(&world.token().await.unwrap()));
}

#[tokio::test]
async fn a_fault_in_the_registration_heals_without_a_new_sign_in() {
    let world = World::signed_in().await;
    world.pass(75 * 60);
    world.entra.fail_with(AadstsError::new("invalid_client", 7_000_218));
    assert!(matches!(world.token().await, Err(IdentityError::SignInNeeded(_))));
    world.pass(60 * 60);
    assert!(world.opens_defender(&world.token().await.unwrap()));
    assert!(matches!(world.poll().await, Standing::SignedIn(_)));
}

#[tokio::test]
async fn what_a_refusal_demands_is_sent_with_the_next_sign_in() {
    let world = World::signed_in().await;
    world.pass(75 * 60);
    let claims = r#"{"access_token":{"capolids":{"essential":true,"values":["1"]}}}"#;
    world.entra.fail_with(AadstsError {
        claims: Some(claims.to_owned()),
        ..AadstsError::new("interaction_required", 50_076)
    });
    assert!(matches!(world.token().await, Err(IdentityError::SignInNeeded(_))));
    world.sign_in_as(EXPORT, OID).await;
    assert_eq!(world.entra.asked().last().unwrap().claims.as_deref(), Some(claims));
}

#[tokio::test]
async fn revoked_sessions_need_a_person() {
    let world = World::signed_in().await;
    world.entra.revoke_all();
    let renewed = world.identity().access_token(Demand::Renewed { claims: None }).await;
    let Err(IdentityError::SignInNeeded(advice)) = renewed else { panic!("{renewed:?}") };
    assert!(advice.message.contains("AADSTS50173"), "{}", advice.message);
}

#[tokio::test]
async fn an_account_of_another_tenant_is_refused_and_nothing_of_it_kept() {
    let world = World::new().await;
    world.start().await;
    world.entra.approve_from("jane@elsewhere.example", OID, Uuid::from_u128(0xcccc));
    world.pass(5);
    let Standing::Refused { class, advice, .. } = world.poll().await else { panic!("refused") };
    assert_eq!(class, Class::WrongAccount);
    assert!(!advice.message.contains("elsewhere"));
    assert!(matches!(world.token().await, Err(IdentityError::SignInNeeded(_))));
    let row = world.store.get("Session").await.unwrap().unwrap();
    assert!(!row.fields.contains_key("Expires"), "no tokens");
}

#[tokio::test]
async fn tokens_of_another_account_are_never_taken_for_ours() {
    let world = World::signed_in().await;
    world.pass(75 * 60);
    let claims = json!({
        "tid": world.config.tenant.to_string(),
        "oid": "99999999-2222-4333-8444-555555555555",
        "aud": "", "iss": "", "exp": 1,
    });
    let id_token = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let body = json!({
        "token_type": "Bearer", "expires_in": 3_600,
        "access_token": "a", "refresh_token": "r", "id_token": id_token,
    });
    let body = body.to_string();
    world.entra.script.push([Fault::Answer { status: 200, headers: vec![], body }]);
    assert!(matches!(world.token().await, Err(IdentityError::SignInNeeded(_))));
    let Standing::Refused { class, .. } = world.poll().await else { panic!("refused") };
    assert_eq!(class, Class::WrongAccount);
}

#[tokio::test]
async fn a_start_that_entra_refuses_changes_nothing() {
    let world = World::signed_in().await;
    world.entra.fail_with(AadstsError::new("unauthorized_client", 700_016));
    let error = world.identity().start("jane").await.unwrap_err();
    assert!(matches!(error, IdentityError::NotStarted(_)));
    assert!(error.advice().next_step.contains("FunctionConfigMDEClientAppId"));
    assert!(matches!(world.poll().await, Standing::SignedIn(_)));
    world.entra.script.push([Fault::status(503)]);
    assert!(matches!(world.identity().start("jane").await, Err(IdentityError::Busy { .. })));
}

fn with_keys(world: &World, current: &str, previous: Option<&str>) -> Identity {
    let mut config = world.config.clone();
    config.session_key = current.into();
    config.session_key_previous = previous.map(Into::into);
    world.identity_with(&config, DEFENDER_AUDIENCE)
}

#[tokio::test]
async fn a_changed_key_needs_no_new_sign_in_while_the_previous_one_is_set() {
    let world = World::signed_in().await;
    let rotated = with_keys(&world, TWO, Some(ONE));
    world.pass(75 * 60);
    assert!(world.opens_defender(&rotated.access_token(Demand::Any).await.unwrap()));
    let later = with_keys(&world, TWO, None);
    assert!(matches!(later.standing().await, Ok(Standing::SignedIn(_))));
}

#[tokio::test]
async fn a_wrong_key_names_the_setting_and_a_new_sign_in_replaces_what_it_cannot_open() {
    let world = World::signed_in().await;
    let wrong = with_keys(&world, TWO, None);
    let error = wrong.access_token(Demand::Any).await.unwrap_err();
    assert!(matches!(error, IdentityError::SealingKey(_)));
    assert!(error.advice().message.contains("FunctionConfigSessionKey"));
    assert!(wrong.standing().await.is_err());
    wrong.start("jane").await.unwrap();
    world.entra.approve(EXPORT, OID);
    world.pass(5);
    assert!(matches!(wrong.poll().await, Ok(Standing::SignedIn(_))));
}

#[tokio::test]
async fn the_stored_row_holds_sealed_bytes_and_dates_only() {
    let world = World::signed_in().await;
    let row = world.store.get("Session").await.unwrap().unwrap();
    let fields: Vec<_> = row.fields.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let [("Expires", expires), ("Sealed", Value::Bytes(_)), ("Updated", updated)] = &fields[..]
    else {
        panic!("{fields:?}")
    };
    assert_eq!(**expires, Value::Text("2027-02-19T10:00:05Z".to_owned()));
    assert_eq!(**updated, Value::Text("2026-11-21T10:00:05Z".to_owned()));
}
