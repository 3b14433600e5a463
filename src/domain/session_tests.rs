use secrecy::ExposeSecret as _;
use uuid::Uuid;

use super::super::sign_in::Class;
use super::super::sign_in::tests::{flow, second};
use super::*;

const API: &str = "https://api.example";

fn account(oid: u128) -> Account {
    let username = format!("export{oid}@example.nhs.uk");
    Account { username, name: None, oid: Uuid::from_u128(oid), tenant: Uuid::from_u128(7) }
}

/// Access tokens here live for an hour.
fn grant(text: &str, now: Timestamp) -> Grant {
    let expires_at = now + Duration::from_hours(1);
    let access = Access { secret: text.into(), expires_at, audience: API.to_owned() };
    Grant { refresh_token: text.into(), access }
}

fn refusal() -> Refusal {
    let advice = Advice { message: "no".to_owned(), next_step: "ask".to_owned() };
    Refusal { class: Class::Policy, advice, claims: Some("{}".to_owned()), at: second(9) }
}

fn pending() -> Session {
    Session::default().begin(flow("code"), second(0)).unwrap()
}

fn signed_in() -> Session {
    pending().complete(&"code".into(), grant("one", second(5)), account(1), second(5)).unwrap()
}

/// `use`, `renew`, `wait SECOND`, `sign in` or `sign in: WHY`.
fn way(session: &Session, force: bool, now: u64) -> String {
    match session.way(API, force, second(now)) {
        Way::Use(access) => format!("use {}", access.secret.expose_secret()),
        Way::Renew(_) => "renew".to_owned(),
        Way::Wait(until) => format!("wait {}", until.unix_seconds()),
        Way::SignIn(None) => "sign in".to_owned(),
        Way::SignIn(Some(advice)) => format!("sign in: {}", advice.message),
    }
}

#[test]
fn only_one_code_waits_at_a_time_until_it_ends() {
    assert!(pending().begin(flow("other"), second(899)).is_err());
    let next = pending().begin(flow("other"), second(900)).unwrap();
    assert!(next.flow().unwrap().has(&"other".into()));
}

#[test]
fn what_another_code_brings_is_thrown_away() {
    let other = SecretString::from("other");
    let now = second(5);
    assert!(pending().poll_later(&other, Pace::Keep, now).is_err());
    assert!(pending().complete(&other, grant("x", now), account(1), now).is_err());
    assert!(pending().reject(&other, refusal()).is_err());
    let cancelled = pending().cancel().unwrap();
    assert!(cancelled.complete(&"code".into(), grant("x", now), account(1), now).is_err());
}

#[test]
fn a_token_serves_until_five_minutes_before_its_end() {
    let session = signed_in();
    let end = 5 + 3_600;
    assert_eq!(way(&session, false, end - 301), "use one");
    assert_eq!(way(&session, false, end - 300), "renew");
    assert_eq!(way(&session, true, 6), "renew");
    assert!(matches!(session.way("https://other", false, second(6)), Way::Renew(_)));
}

#[test]
fn while_entra_is_left_alone_the_old_token_serves_to_its_end() {
    let end = 5 + 3_600;
    let session = signed_in().back_off(&"one".into(), second(end + 60)).unwrap();
    assert_eq!(way(&session, false, end - 1), "use one");
    assert_eq!(way(&session, true, end - 1), "wait 3665");
    assert_eq!(way(&session, false, end), "wait 3665");
    assert_eq!(way(&session, false, end + 60), "renew");
    let renewed = session.renew(&"one".into(), grant("two", second(4_000)), second(4_000));
    assert_eq!(way(&renewed.unwrap(), false, 4_001), "use two");
}

#[test]
fn a_sign_in_renewed_by_others_is_neither_lost_nor_overwritten() {
    let used = SecretString::from("one");
    let others = || signed_in().renew(&used, grant("two", second(9)), second(9)).unwrap();
    assert!(others().lose(&used, refusal(), Fate::Forgotten).is_err());
    assert!(others().renew(&used, grant("three", second(9)), second(9)).is_err());
    assert!(others().back_off(&used, second(99)).is_err());
}

#[test]
fn a_refused_sign_in_leaves_a_name_and_no_token() {
    let session = signed_in().lose(&"one".into(), refusal(), Fate::Forgotten).unwrap();
    assert_eq!(way(&session, false, 6), "sign in: no");
    assert!(session.sign_in().is_none());
    assert_eq!(session.settled().account(), Some(&account(1)));
    assert_eq!(session.demanded_claims(), Some("{}"));
}

#[test]
fn a_sign_in_refused_for_the_apps_sake_is_tried_again_later() {
    let fate = Fate::KeptUntil(second(100));
    let session = signed_in().lose(&"one".into(), refusal(), fate).unwrap();
    assert_eq!(way(&session, false, 99), "sign in: no");
    assert_eq!(way(&session, false, 100), "renew");
    let later = session.clone().back_off(&"one".into(), second(200)).unwrap();
    assert_eq!(way(&later, false, 199), "sign in: no");
    let renewed = session.renew(&"one".into(), grant("two", second(100)), second(100));
    assert_eq!(way(&renewed.unwrap(), false, 101), "use two");
}

#[test]
fn a_code_that_comes_to_nothing_gives_back_what_was_there() {
    let again = || signed_in().begin(flow("again"), second(10)).unwrap();
    assert_eq!(way(&again(), false, 11), "use one");
    assert_eq!(way(&again().cancel().unwrap(), false, 11), "use one");
    let rejected = again().reject(&"again".into(), refusal()).unwrap();
    assert_eq!(way(&rejected, false, 11), "use one");
    assert_eq!(rejected.sign_in().unwrap().failed_attempt, Some(refusal()));
    assert_eq!(
        way(&pending().reject(&"code".into(), refusal()).unwrap(), false, 11),
        "sign in: no"
    );
}

#[test]
fn another_account_than_before_is_noticed_even_after_signing_out() {
    let next = |before: Session, oid| {
        let again = before.begin(flow("again"), second(1_000)).unwrap();
        let done =
            again.complete(&"again".into(), grant("n", second(1_000)), account(oid), second(1_000));
        done.unwrap().sign_in().unwrap().replaced.clone()
    };
    let refused = signed_in().lose(&"one".into(), refusal(), Fate::Forgotten).unwrap();
    for before in [signed_in(), signed_in().sign_out(), refused] {
        assert_eq!(next(before.clone(), 1), None);
        assert_eq!(next(before, 2), Some(account(1)));
    }
}

#[test]
fn signing_out_leaves_no_token_and_no_code() {
    let session = signed_in().begin(flow("again"), second(10)).unwrap().sign_out();
    assert!(session.flow().is_none() && session.sign_in().is_none());
    assert_eq!(way(&session, false, 11), "sign in");
}
