//! The tables behind [`super::advice`]: AADSTS codes and error names, and what
//! they mean to a trust.
//!
//! <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>,
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code#expected-errors>

use crate::domain::sign_in::Class;

/// One meaning, and the codes that have it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) codes: &'static [u32],
    pub(super) meaning: Meaning,
}

/// Who can help, and the words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meaning {
    pub(super) class: Class,
    pub(super) message: &'static str,
    pub(super) next_step: &'static str,
}

const fn row(
    codes: &'static [u32],
    class: Class,
    message: &'static str,
    next_step: &'static str,
) -> Row {
    Row { codes, meaning: means(class, message, next_step) }
}

const fn means(class: Class, message: &'static str, next_step: &'static str) -> Meaning {
    Meaning { class, message, next_step }
}

/// Stands in a text for the permission that alerts are read with.
pub(super) const PERMISSION: &str = "{permission}";

/// Errors that pass by themselves.
pub(super) const PASSING: &[u32] =
    &[90_006, 90_012, 90_024, 90_033, 90_055, 90_090, 50_033, 50_087];

pub(super) const ROWS: &[Row] = &[
    row(
        &[70_008, 700_082],
        Class::SignInAgain,
        "The sign-in has ended because it was not used for too long.",
        "In this app's portal, or with `defender-alert-export sign-in`, sign in again with the trust's export account. If the app was stopped for weeks, check that it runs every few minutes from now on.",
    ),
    row(
        &[70_043],
        Class::SignInAgain,
        "A sign-in frequency policy of the identity tenant has ended the sign-in.",
        "In this app's portal, or with `defender-alert-export sign-in`, sign in again. Ask the central identity team to exempt the trust's export account from the sign-in frequency policy, or this repeats.",
    ),
    row(
        &[50_173, 50_132, 50_133, 50_089],
        Class::SignInAgain,
        "The sign-in has ended because the account's sessions were revoked or its password was changed.",
        "If you know why, in this app's portal, or with `defender-alert-export sign-in`, sign in again. If you do not, ask the central team first whether the account is under suspicion.",
    ),
    row(
        &[70_000],
        Class::SignInAgain,
        "The stored sign-in is not valid for this app and tenant.",
        "In this app's portal, or with `defender-alert-export sign-in`, sign in again. If it is refused again, compare FunctionConfigMDEClientAppId and FunctionConfigMDETenantId with what the central identity team issued.",
    ),
    row(
        &[50_076, 50_079, 50_074, 50_072, 50_078, 50_158],
        Class::SecondFactor,
        "The identity tenant asks for a second factor (MFA), which only a person can give.",
        "In this app's portal, or with `defender-alert-export sign-in`, sign in again and complete the second factor. If none is registered for the account yet, register one first at https://aka.ms/mfasetup.",
    ),
    row(
        &[53_003, 530_032, 50_131],
        Class::Policy,
        "A Conditional Access policy of the identity tenant blocks this sign-in. Most often it is the policy that blocks device code flow.",
        "Send this message to the central identity team. Ask them to exclude the trust's export account from the device code policy; they find the attempt in the sign-in log under `Original transfer method: Device code flow`. Then sign in in this app's portal or with `defender-alert-export sign-in`; a sign-in that worked before goes on by itself within an hour.",
    ),
    row(
        &[530_035],
        Class::Policy,
        "The identity tenant's security defaults block this sign-in.",
        "Send this message to the central identity team: with security defaults on, device code sign-in needs a Conditional Access set-up instead. Then sign in in this app's portal or with `defender-alert-export sign-in`; a sign-in that worked before goes on by itself within an hour.",
    ),
    row(
        &[53_000, 53_001, 53_002, 50_097, 50_129],
        Class::Policy,
        "A policy of the identity tenant demands a managed or approved device. This app runs on a server and can never be one.",
        "Send this message to the central identity team and ask for an exception for the trust's export account. Then sign in in this app's portal or with `defender-alert-export sign-in`; a sign-in that worked before goes on by itself within an hour.",
    ),
    row(
        &[53_004, 53_011],
        Class::Account,
        "The account is blocked because it is seen as at risk.",
        "Ask the central identity team to look at the account and unblock it. Then sign in in this app's portal or with `defender-alert-export sign-in`.",
    ),
    row(
        &[50_053, 50_057],
        Class::Account,
        "The account is blocked: locked or disabled.",
        "Ask the central identity team to look at the account and unblock it. Then sign in in this app's portal or with `defender-alert-export sign-in`; a sign-in that worked before goes on by itself within an hour.",
    ),
    row(&[50_055, 50_144], Class::Account, PASSWORD_EXPIRED, NEW_PASSWORD),
    row(
        &[50_105],
        Class::Permission,
        "The account is not assigned to the export application.",
        "Ask the central identity team to assign the account to the enterprise application. Then sign in in this app's portal or with `defender-alert-export sign-in`; a sign-in that worked before goes on by itself within a quarter of an hour.",
    ),
    row(
        &[65_001, 65_004, 90_094, 90_095, 90_008, 650_057, 650_056, 65_005],
        Class::Permission,
        "The export application may not read alerts: consent is missing or was declined.",
        "Ask the central identity team to add the delegated permission {permission} to the application and to grant admin consent. Then sign in in this app's portal or with `defender-alert-export sign-in`; a sign-in that worked before goes on by itself within a quarter of an hour.",
    ),
    row(
        &[500_011, 650_052],
        Class::Settings,
        "The tenant does not have Defender for Endpoint: the tenant id is wrong, or its licence is missing.",
        "Compare FunctionConfigMDETenantId with the tenant id the central identity team issued. If it is right, ask them about the Defender for Endpoint licence.",
    ),
    row(
        &[700_016, 700_011],
        Class::Settings,
        "The tenant does not know the export application.",
        "Compare FunctionConfigMDEClientAppId and FunctionConfigMDETenantId with the pair the central identity team issued, and correct them in the app's settings.",
    ),
    row(
        &[7_000_218],
        Class::Registration,
        "The export application is not registered as a public client.",
        "Ask the central identity team to set `Allow public client flows` to Yes on the app registration. The export goes on by itself within an hour after that, or sign in in the portal or with `defender-alert-export sign-in`.",
    ),
    row(
        &[700_025],
        Class::Product,
        "The identity service says that a secret was sent, which this app never does.",
        "Check that no proxy changes the app's requests, and report this message to the central team.",
    ),
    row(
        &[7_000_112, 70_001],
        Class::Registration,
        "The export application is disabled or missing in the identity tenant.",
        "Ask the central identity team to enable it. The export goes on by itself within an hour after that, or sign in in the portal or with `defender-alert-export sign-in`.",
    ),
    row(
        &[90_002, 90_019, 50_059],
        Class::Settings,
        "The identity tenant cannot be found.",
        "Compare FunctionConfigMDETenantId with the tenant id the central identity team issued, and FunctionConfigIdentityAuthority with its cloud, and correct them in the app's settings.",
    ),
    row(
        &[50_020, 50_034, 50_014, 51_004, 90_072, 16_000, 16_003],
        Class::WrongAccount,
        "The account used is not known in the identity tenant.",
        "In this app's portal, or with `defender-alert-export sign-in`, sign in again with the export account that the central identity team issued for the trust, not with your own.",
    ),
    row(
        &[500_212, 500_213, 500_021],
        Class::Policy,
        "A policy about access between tenants blocks this sign-in.",
        "Send this message to the central identity team and to your own network team: a cross-tenant or tenant restriction policy must allow the identity tenant.",
    ),
    row(
        &[70_011, 28_002, 700_022, 900_144, 90_014, 9_002_313],
        Class::Product,
        "The identity service did not understand this app's request.",
        "Update the app. If it is the newest version, report this message to the central team.",
    ),
    row(&[70_016], Class::CodeUnusable, CODE_LOST, START_AGAIN),
    row(&[70_018], Class::CodeUnusable, CODE_LOST, START_AGAIN),
    row(&[70_019, 70_020], Class::CodeExpired, CODE_LATE, START_AGAIN),
    row(&[90_119], Class::CodeUnusable, "The code typed in was not right.", START_AGAIN),
    row(&[90_120], Class::CodeUnusable, "The code was used already.", START_AGAIN),
    row(&[50_134], Class::CodeUnusable, "The sign-in reached the wrong data centre.", START_AGAIN),
];

const PASSWORD_EXPIRED: &str = "The account's password has expired.";
/// A new password ends the sign-in that was made with the old one.
const NEW_PASSWORD: &str = "Set a new password for the trust's export account. Then in this app's portal, or with `defender-alert-export sign-in`, sign in again.";
const CODE_LOST: &str = "The identity service does not know the code.";
pub(super) const CODE_LATE: &str = "The code was not used in time.";
pub(super) const START_AGAIN: &str = "Start the sign-in again, in this app's portal or with `defender-alert-export sign-in`, and type in the new code within 15 minutes.";

/// When the code says nothing.
pub(super) const BY_WORD: &[(&str, Meaning)] = &[
    (
        "consent_required",
        means(
            Class::Permission,
            "The export application may not read alerts: consent is missing.",
            "Ask the central identity team to grant admin consent for {permission}. Then sign in in this app's portal or with `defender-alert-export sign-in`; a sign-in that worked before goes on by itself within a quarter of an hour.",
        ),
    ),
    ("user_password_expired", means(Class::Account, PASSWORD_EXPIRED, NEW_PASSWORD)),
    ("bad_token", means(Class::SignInAgain, "The stored sign-in is no longer accepted.", SIGN_IN)),
    ("token_expired", means(Class::SignInAgain, "The sign-in has ended.", SIGN_IN)),
    ("basic_action", INTERACTION),
    ("additional_action", INTERACTION),
    (
        "message_only",
        means(Class::Policy, "The identity tenant blocks this sign-in.", ASK_IDENTITY),
    ),
    (
        "protection_policy_required",
        means(
            Class::Policy,
            "The identity tenant demands a protected app, which this one cannot be.",
            ASK_IDENTITY,
        ),
    ),
    (
        "device_authentication_failed",
        means(
            Class::Policy,
            "The identity tenant demands a known device, which this app cannot be.",
            ASK_IDENTITY,
        ),
    ),
    (
        "client_mismatch",
        means(
            Class::Settings,
            "The stored sign-in belongs to another application.",
            "Compare FunctionConfigMDEClientAppId with the id the central identity team issued. Then in this app's portal, or with `defender-alert-export sign-in`, sign in again.",
        ),
    ),
    ("access_denied", DECLINED),
    ("authorization_declined", DECLINED),
    ("bad_verification_code", means(Class::CodeUnusable, CODE_LOST, START_AGAIN)),
    ("expired_token", means(Class::CodeExpired, CODE_LATE, START_AGAIN)),
    ("invalid_grant", means(Class::SignInAgain, "The sign-in is no longer accepted.", SIGN_IN)),
    ("interaction_required", INTERACTION),
    (
        "login_required",
        means(Class::SignInAgain, "The identity tenant asks for a new sign-in.", SIGN_IN),
    ),
    ("invalid_client", REGISTRATION),
    ("unauthorized_client", REGISTRATION),
    ("invalid_request", BUG),
    ("invalid_scope", BUG),
    ("unsupported_grant_type", BUG),
];

pub(super) const SIGN_IN: &str = "In this app's portal, or with `defender-alert-export sign-in`, sign in again with the trust's export account. If it is refused again, send this message to the central identity team.";
const ASK_IDENTITY: &str = "Send this message to the central identity team and ask for an exception for the trust's export account. Then sign in in this app's portal or with `defender-alert-export sign-in`; a sign-in that worked before goes on by itself within an hour.";
const INTERACTION: Meaning = means(
    Class::SecondFactor,
    "The identity tenant asks for something only a person can give, such as a second factor (MFA).",
    SIGN_IN,
);
const DECLINED: Meaning = means(
    Class::Declined,
    "The person who was asked to sign in declined.",
    "If it was you, start again when you are ready, in this app's portal or with `defender-alert-export sign-in`. If it was nobody you know, tell the central team.",
);
const REGISTRATION: Meaning = means(
    Class::Registration,
    "The identity tenant refuses the export application.",
    "Compare FunctionConfigMDEClientAppId with the id the central identity team issued. If it is right, send them this message: the app registration must be enabled and allow public client flows.",
);
const BUG: Meaning = means(
    Class::Product,
    "The identity service did not understand this app's request.",
    "Update the app. If it is the newest version, report this message to the central team.",
);
pub(super) const UNKNOWN: Meaning = means(
    Class::Unknown,
    "The identity service refused for a reason this app does not know.",
    SIGN_IN,
);
