//! What Entra's refusals mean, in words for the people who must act.
//!
//! The words are chosen by AADSTS code, else by `suberror`, else by `error`.
//! Nothing but words hangs on the code, except which errors pass by
//! themselves: Microsoft adds and changes codes.

use super::audience::permission;
use super::id_token::BadIdToken;
use super::meanings::{
    BY_WORD, CODE_LATE, Meaning, PASSING, PERMISSION, ROWS, SIGN_IN, START_AGAIN, UNKNOWN,
};
use super::wire::Complaint;
use crate::domain::advice::Advice;
use crate::domain::sign_in::{Class, Refusal};
use crate::domain::timestamp::Timestamp;

/// Whether the refusal passes by itself: throttling, a data centre in trouble.
pub(super) fn passes(complaint: &Complaint) -> bool {
    matches!(complaint.error.as_str(), "temporarily_unavailable" | "server_error")
        || complaint.code.is_some_and(|code| PASSING.contains(&code))
}

/// Whether the refresh token itself has ended: expired, revoked, not this app's.
/// A policy, a blocked account or a second factor that is asked for may be gone
/// within the hour, and what is refused for a reason not known here may be
/// taken later: Microsoft's own libraries keep the token then too.
pub(super) fn ends_the_sign_in(complaint: &Complaint) -> bool {
    let by_code = complaint.code.and_then(|code| ROWS.iter().find(|row| row.codes.contains(&code)));
    match by_code {
        Some(row) => row.meaning.class == Class::SignInAgain,
        None => matches!(complaint.suberror.as_deref(), Some("bad_token" | "token_expired")),
    }
}

/// What to tell people, with what support needs to find the attempt.
pub(super) fn refusal(complaint: &Complaint, audience: &str, now: Timestamp) -> Refusal {
    let Meaning { class, message, next_step } = meaning(complaint);
    let next_step = next_step.replace(PERMISSION, permission(audience));
    let message = format!("{message} (For support: {}.)", for_support(complaint, now));
    let advice = Advice { message, next_step };
    Refusal { class, advice, claims: complaint.claims.clone(), at: now }
}

/// What support needs to find the attempt.
pub(super) fn for_support(complaint: &Complaint, now: Timestamp) -> String {
    let at = complaint.timestamp.clone().unwrap_or_else(|| now.to_string());
    let details: Vec<String> = [
        Some(complaint.error.clone()),
        complaint.code.map(|code| format!("AADSTS{code}")),
        complaint.suberror.clone(),
        complaint.trace.map(|id| format!("trace id {id}")),
        complaint.correlation.map(|id| format!("correlation id {id}")),
        Some(format!("at {at}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    details.join(", ")
}

fn meaning(complaint: &Complaint) -> Meaning {
    let by_code = complaint
        .code
        .and_then(|code| ROWS.iter().find(|row| row.codes.contains(&code)))
        .map(|row| row.meaning);
    let by_word =
        |word: &str| BY_WORD.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning);
    by_code
        .or_else(|| complaint.suberror.as_deref().and_then(by_word))
        .or_else(|| by_word(&complaint.error))
        .unwrap_or(UNKNOWN)
}

/// Tokens came, and the id token among them proves nothing.
pub(super) fn not_proven(why: Option<BadIdToken>, now: Timestamp) -> Refusal {
    let (class, message, next_step) = match why {
        Some(BadIdToken::OtherTenant) => (
            Class::WrongAccount,
            "The account was signed in to another tenant than the identity tenant. Nothing of it was kept.",
            "In this app's portal, or with `defender-alert-export sign-in`, sign in again with the export account that the central identity team issued for the trust, not with your own.",
        ),
        Some(BadIdToken::OutOfTime) => (
            Class::SignInAgain,
            "The proof of the sign-in has ended or has not begun: this app's clock and the identity service's are more than two minutes apart.",
            "In a Function App restart the app, as Azure keeps the clock; elsewhere check the clock of the machine. Then sign in again.",
        ),
        Some(BadIdToken::NotForUs) => (
            Class::Settings,
            "The proof of the sign-in was made for another app or by another service.",
            "Compare FunctionConfigMDEClientAppId and FunctionConfigIdentityAuthority with what the central identity team issued.",
        ),
        Some(BadIdToken::Unreadable) | None => (
            Class::Unknown,
            "The identity service did not say who signed in. Nothing was kept.",
            SIGN_IN,
        ),
    };
    ours(class, message, next_step, now)
}

/// Tokens came without one to renew them with.
pub(super) fn not_lasting(now: Timestamp) -> Refusal {
    ours(
        Class::Registration,
        "The identity service gave no lasting sign-in: it would end within the hour.",
        "Ask the central identity team to allow `offline_access` for the export application. Then sign in again.",
        now,
    )
}

/// A renewal brought tokens of another account.
pub(super) fn changed_account(now: Timestamp) -> Refusal {
    ours(
        Class::WrongAccount,
        "The identity service renewed the sign-in for another account than the one that signed in. Its tokens were thrown away.",
        "Tell the central team. Then in this app's portal, or with `defender-alert-export sign-in`, sign in again with the trust's export account.",
        now,
    )
}

/// Nobody used the code.
pub(super) fn too_late(now: Timestamp) -> Refusal {
    ours(Class::CodeExpired, CODE_LATE, START_AGAIN, now)
}

/// Nobody has signed in yet, or somebody signed out.
pub(super) fn nobody() -> Advice {
    Advice {
        message: "Nobody is signed in, so no alerts can be read.".to_owned(),
        next_step: "In this app's portal, or with `defender-alert-export sign-in`, sign in with the trust's export account.".to_owned(),
    }
}

fn ours(class: Class, message: &str, next_step: &str, now: Timestamp) -> Refusal {
    let advice = Advice { message: message.to_owned(), next_step: next_step.to_owned() };
    Refusal { class, advice, claims: None, at: now }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{DEFENDER_AUDIENCE, GRAPH_AUDIENCE};
    use super::*;

    fn complaint(error: &str, code: Option<u32>, suberror: Option<&str>) -> Complaint {
        Complaint {
            error: error.to_owned(),
            code,
            suberror: suberror.map(str::to_owned),
            trace: None,
            correlation: None,
            timestamp: None,
            claims: None,
        }
    }

    fn class(error: &str, code: Option<u32>, suberror: Option<&str>) -> Class {
        refusal(&complaint(error, code, suberror), DEFENDER_AUDIENCE, Timestamp::EPOCH).class
    }

    #[test]
    fn the_code_chooses_the_words_then_the_suberror_then_the_error() {
        assert_eq!(class("invalid_grant", Some(53_003), Some("bad_token")), Class::Policy);
        assert_eq!(class("invalid_grant", Some(1), Some("consent_required")), Class::Permission);
        assert_eq!(class("invalid_grant", Some(1), Some("new_word")), Class::SignInAgain);
        assert_eq!(class("new_error", None, None), Class::Unknown);
    }

    #[test]
    fn a_missing_permission_is_named_and_does_not_end_the_sign_in() {
        for complaint in [
            complaint("invalid_grant", Some(65_001), None),
            complaint("invalid_grant", None, Some("consent_required")),
        ] {
            let words = |audience| refusal(&complaint, audience, Timestamp::EPOCH);
            let (defender, graph) = (words(DEFENDER_AUDIENCE), words(GRAPH_AUDIENCE));
            assert!(defender.advice.next_step.contains("WindowsDefenderATP / Alert.Read"));
            assert!(graph.advice.next_step.contains("Microsoft Graph / SecurityAlert.Read.All"));
            assert!(!ends_the_sign_in(&complaint));
        }
    }

    #[test]
    fn only_what_ends_the_token_itself_ends_the_sign_in() {
        for (code, suberror, ends) in [
            (Some(70_008), None, true),
            (Some(700_082), None, true),
            (Some(70_043), None, true),
            (Some(70_000), None, true),
            (Some(50_173), None, true),
            (None, Some("bad_token"), true),
            (None, Some("token_expired"), true),
            (Some(53_003), Some("bad_token"), false),
            (Some(50_053), None, false),
            (Some(50_076), None, false),
            (Some(65_001), None, false),
            (Some(7_654_321), None, false),
            (None, None, false),
        ] {
            let complaint = complaint("invalid_grant", code, suberror);
            assert_eq!(ends_the_sign_in(&complaint), ends, "{code:?} {suberror:?}");
        }
    }

    #[test]
    fn support_finds_the_attempt_by_what_the_message_says() {
        let refusal = refusal(
            &Complaint {
                trace: Some(uuid::Uuid::from_u128(1)),
                correlation: Some(uuid::Uuid::from_u128(2)),
                timestamp: Some("2026-11-21 10:00:00Z".to_owned()),
                ..complaint("invalid_grant", Some(50_057), None)
            },
            DEFENDER_AUDIENCE,
            Timestamp::EPOCH,
        );
        assert_eq!(
            refusal.advice.message,
            "The account is blocked: locked or disabled. (For support: invalid_grant, AADSTS50057, trace id 00000000-0000-0000-0000-000000000001, correlation id 00000000-0000-0000-0000-000000000002, at 2026-11-21 10:00:00Z.)"
        );
    }

    #[test]
    fn no_code_has_two_meanings() {
        let mut seen: BTreeSet<u32> = PASSING.iter().copied().collect();
        assert_eq!(seen.len(), PASSING.len());
        for code in ROWS.iter().flat_map(|row| row.codes) {
            assert!(seen.insert(*code), "AADSTS{code} twice");
        }
    }

    #[test]
    fn every_word_of_advice_is_a_sentence_and_says_what_to_do() {
        let rows = ROWS.iter().map(|row| row.meaning);
        for meaning in rows.chain(BY_WORD.iter().map(|(_, meaning)| *meaning)).chain([UNKNOWN]) {
            for text in [meaning.message, meaning.next_step] {
                assert!(text.starts_with(char::is_uppercase) && text.ends_with('.'), "{text}");
            }
            // Whoever reads it may have the page, or a terminal.
            let step = meaning.next_step;
            assert_eq!(step.contains("portal"), step.contains("-export sign-in"), "{step}");
        }
    }
}
