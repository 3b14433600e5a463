//! Entra's answers.
//!
//! Success is 200 with JSON. A refusal is 400 or 401 with `error`,
//! `error_description`, `error_codes`, `timestamp`, `trace_id`,
//! `correlation_id`, sometimes `suberror` and `claims`
//! (<https://learn.microsoft.com/entra/identity-platform/reference-error-codes>).
//! Decisions follow `error`; the codes choose the words only.

use std::time::Duration;

use oauth2::basic::BasicTokenType;
use oauth2::{
    DeviceCodeErrorResponse, DeviceCodeErrorResponseType, ExtraTokenFields,
    StandardDeviceAuthorizationResponse, StandardTokenResponse, TokenResponse as _,
};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use super::advice;
use crate::http::retry::{Classify, Verdict};
use crate::http::{Broken, LONGEST_ASKED};

/// How long a token whose answer does not say lives, at least.
const UNSAID_LIFETIME: Duration = Duration::from_mins(10);
/// Entra says that we call in a loop: AADSTS50196. Calling on makes it worse.
const LOOP: u32 = 50_196;
const LOOP_PAUSE: Duration = Duration::from_hours(3);

/// What Entra decided.
#[derive(Debug)]
pub(super) enum Heard<T> {
    /// This.
    Granted(T),
    /// The person has not decided yet.
    Pending,
    /// The person has not decided yet, and we ask too often.
    SlowDown,
    /// No.
    Refused(Complaint),
}

/// Entra decided nothing. The same request may be sent again: a code and a
/// refresh token stay valid until Entra has decided.
#[derive(Debug, thiserror::Error)]
pub enum Undecided {
    /// No complete answer.
    #[error("the identity service could not be reached")]
    Broken(#[source] Broken),
    /// 429, 5xx, or an error that passes.
    #[error("the identity service answered {status}: busy")]
    Busy {
        /// HTTP status.
        status: u16,
        /// `Retry-After`.
        asked: Option<Duration>,
    },
    /// Not Entra's form: a proxy's page, or an answer cut short.
    #[error("the identity service answered {status} with something that is no answer")]
    Garbage {
        /// HTTP status.
        status: u16,
        /// `Retry-After`.
        asked: Option<Duration>,
    },
    /// AADSTS50196.
    #[error("the identity service sees a loop of requests (AADSTS50196)")]
    Loop,
}

impl Undecided {
    /// The least wait asked for.
    pub(super) fn asked(&self) -> Option<Duration> {
        match self {
            Self::Broken(_) => None,
            Self::Busy { asked, .. } | Self::Garbage { asked, .. } => {
                asked.map(|asked| asked.min(LONGEST_ASKED))
            }
            Self::Loop => Some(LOOP_PAUSE),
        }
    }
}

impl Classify for Undecided {
    fn verdict(&self) -> Verdict {
        match self {
            // Sending again is harmless: a second code is one that nobody sees,
            // and a refresh token is not used up by use.
            Self::Broken(_) => Verdict::Retry { after: None },
            // Remembered in the session instead, for every run and instance.
            Self::Busy { .. } | Self::Garbage { .. } | Self::Loop => Verdict::Fatal,
        }
    }
}

/// Tokens as they arrive.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) access_token: SecretString,
    pub(super) lives: Duration,
    /// Absent without `offline_access`.
    pub(super) refresh_token: Option<SecretString>,
    /// Absent without `openid`.
    pub(super) id_token: Option<SecretString>,
}

/// A refusal as it arrived, cut down to what is safe to show and to keep. The
/// description is not: it can name the person.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Complaint {
    pub(super) error: String,
    pub(super) code: Option<u32>,
    pub(super) suberror: Option<String>,
    pub(super) trace: Option<Uuid>,
    pub(super) correlation: Option<Uuid>,
    pub(super) timestamp: Option<String>,
    pub(super) claims: Option<String>,
}

#[derive(Deserialize)]
struct WireError {
    error: DeviceCodeErrorResponseType,
    error_description: Option<String>,
    #[serde(default)]
    error_codes: Vec<u32>,
    suberror: Option<String>,
    trace_id: Option<String>,
    correlation_id: Option<String>,
    timestamp: Option<String>,
    claims: Option<String>,
}

/// What the scope `openid` adds to a token answer.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct OpenId {
    #[serde(default, deserialize_with = "secret", skip_serializing)]
    id_token: Option<SecretString>,
}

impl ExtraTokenFields for OpenId {}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Into::into))
}

/// An answer of the device code endpoint.
pub(super) fn code(
    status: u16,
    asked: Option<Duration>,
    body: &[u8],
) -> Result<Heard<StandardDeviceAuthorizationResponse>, Undecided> {
    if status == 200 {
        let code = serde_json::from_slice(body);
        return code.map(Heard::Granted).map_err(|_may_quote| Undecided::Garbage { status, asked });
    }
    refused(status, asked, body)
}

/// What Entra says of a tenant, as far as it is compared.
#[derive(Debug, Deserialize)]
pub(super) struct Configuration {
    pub(super) issuer: String,
    pub(super) token_endpoint: String,
    pub(super) device_authorization_endpoint: Option<String>,
}

/// An answer of a tenant's discovery document.
pub(super) fn configuration(
    status: u16,
    asked: Option<Duration>,
    body: &[u8],
) -> Result<Heard<Configuration>, Undecided> {
    if status == 200 {
        let found = serde_json::from_slice(body);
        return found
            .map(Heard::Granted)
            .map_err(|_may_quote| Undecided::Garbage { status, asked });
    }
    refused(status, asked, body)
}

/// An answer of the token endpoint.
pub(super) fn tokens(
    status: u16,
    asked: Option<Duration>,
    body: &[u8],
) -> Result<Heard<Tokens>, Undecided> {
    if status != 200 {
        return refused(status, asked, body);
    }
    match serde_json::from_slice::<StandardTokenResponse<OpenId, BasicTokenType>>(body) {
        Ok(answer) if *answer.token_type() == BasicTokenType::Bearer => {
            Ok(Heard::Granted(Tokens {
                lives: answer.expires_in().unwrap_or(UNSAID_LIFETIME),
                access_token: answer.access_token().secret().as_str().into(),
                refresh_token: answer.refresh_token().map(|token| token.secret().as_str().into()),
                id_token: answer.extra_fields().id_token.clone(),
            }))
        }
        Ok(_) | Err(_) => Err(Undecided::Garbage { status, asked }),
    }
}

fn refused<T>(status: u16, asked: Option<Duration>, body: &[u8]) -> Result<Heard<T>, Undecided> {
    let error = match serde_json::from_slice(body) {
        _ if status == 429 || status >= 500 => return Err(busy(status, asked, body)),
        Ok(error) => error,
        Err(_) => match serde_json::from_slice::<DeviceCodeErrorResponse>(body) {
            Ok(basic) => WireError::from(basic),
            Err(_) => return Err(Undecided::Garbage { status, asked }),
        },
    };
    match error.error {
        DeviceCodeErrorResponseType::AuthorizationPending => Ok(Heard::Pending),
        DeviceCodeErrorResponseType::SlowDown => Ok(Heard::SlowDown),
        DeviceCodeErrorResponseType::AccessDenied
        | DeviceCodeErrorResponseType::ExpiredToken
        | DeviceCodeErrorResponseType::Basic(_) => {
            let complaint = Complaint::from(error);
            if complaint.code == Some(LOOP) {
                Err(Undecided::Loop)
            } else if advice::passes(&complaint) {
                Err(Undecided::Busy { status, asked })
            } else {
                Ok(Heard::Refused(complaint))
            }
        }
    }
}

/// 429 is also how a loop can be reported.
fn busy(status: u16, asked: Option<Duration>, body: &[u8]) -> Undecided {
    match serde_json::from_slice::<WireError>(body).map(Complaint::from) {
        Ok(Complaint { code: Some(LOOP), .. }) => Undecided::Loop,
        Ok(_) | Err(_) => Undecided::Busy { status, asked },
    }
}

impl From<DeviceCodeErrorResponse> for WireError {
    fn from(basic: DeviceCodeErrorResponse) -> Self {
        Self {
            error: basic.error().clone(),
            error_description: basic.error_description().cloned(),
            error_codes: Vec::new(),
            suberror: None,
            trace_id: None,
            correlation_id: None,
            timestamp: None,
            claims: None,
        }
    }
}

impl From<WireError> for Complaint {
    fn from(wire: WireError) -> Self {
        let described = || wire.error_description.as_deref().and_then(code_in);
        let id = |text: Option<String>| text.and_then(|text| Uuid::try_parse(&text).ok());
        Self {
            error: word(wire.error.as_ref()).unwrap_or_else(|| "unknown_error".to_owned()),
            code: wire.error_codes.first().copied().or_else(described),
            suberror: wire.suberror.as_deref().and_then(word),
            trace: id(wire.trace_id),
            correlation: id(wire.correlation_id),
            timestamp: wire.timestamp.filter(|text| is_time(text)),
            claims: wire.claims.filter(|claims| claims.len() <= 4096),
        }
    }
}

/// `AADSTS50076: …`: the number.
fn code_in(description: &str) -> Option<u32> {
    let (_, rest) = description.split_once("AADSTS")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// An error's name, unless it is anything but one.
fn word(text: &str) -> Option<String> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (!text.is_empty() && text.len() <= 64 && text.chars().all(is_word)).then(|| text.to_owned())
}

/// `2026-11-21 10:00:00Z`, Entra's own form.
fn is_time(text: &str) -> bool {
    text.len() <= 32 && text.chars().all(|c| c.is_ascii_digit() || "-:. TZ".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(status: u16, body: &str) -> String {
        match tokens(status, Some(Duration::from_secs(7)), body.as_bytes()) {
            Ok(Heard::Granted(tokens)) => format!("granted for {:?}", tokens.lives),
            Ok(Heard::Pending) => "pending".to_owned(),
            Ok(Heard::SlowDown) => "slow down".to_owned(),
            Ok(Heard::Refused(complaint)) => {
                format!("refused {} {:?}", complaint.error, complaint.code)
            }
            Err(undecided) => format!("undecided {undecided}, {:?}", undecided.asked()),
        }
    }

    #[test]
    fn only_a_refusal_in_entras_own_words_is_a_refusal() {
        let busy =
            |status| format!("undecided the identity service answered {status}: busy, Some(7s)");
        let garbage = |status| {
            format!(
                "undecided the identity service answered {status} with something that is no answer, Some(7s)"
            )
        };
        let refusal = r#"{"error":"invalid_grant","error_codes":[700082]}"#;
        let cases = [
            (
                200,
                r#"{"token_type":"Bearer","access_token":"a","expires_in":3599}"#,
                "granted for 3599s".to_owned(),
            ),
            (200, r#"{"token_type":"Bearer","access_token":"a"}"#, "granted for 600s".to_owned()),
            (200, r#"{"token_type":"mac","access_token":"a","expires_in":1}"#, garbage(200)),
            (200, "<html>", garbage(200)),
            (400, r#"{"error":"authorization_pending"}"#, "pending".to_owned()),
            (400, r#"{"error":"slow_down"}"#, "slow down".to_owned()),
            (400, refusal, "refused invalid_grant Some(700082)".to_owned()),
            (
                401,
                r#"{"error":"invalid_client","error_description":"AADSTS7000218: The request"}"#,
                "refused invalid_client Some(7000218)".to_owned(),
            ),
            (
                400,
                r#"{"error":"invalid_grant","error_codes":"odd"}"#,
                "refused invalid_grant None".to_owned(),
            ),
            (400, r#"{"error":"A \u001b[2J name"}"#, "refused unknown_error None".to_owned()),
            (400, r#"{"error":"temporarily_unavailable"}"#, busy(400)),
            (400, r#"{"error":"server_error","error_codes":[90033]}"#, busy(400)),
            (400, "<html>proxy</html>", garbage(400)),
            (403, "", garbage(403)),
            (302, "", garbage(302)),
            (429, "", busy(429)),
            (429, refusal, busy(429)),
            (503, refusal, busy(503)),
            (
                400,
                r#"{"error":"invalid_grant","error_codes":[50196]}"#,
                "undecided the identity service sees a loop of requests (AADSTS50196), Some(10800s)"
                    .to_owned(),
            ),
        ];
        for (status, body, expected) in cases {
            assert_eq!(heard(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn no_wait_longer_than_an_hour_is_obeyed() {
        let busy = Undecided::Busy { status: 429, asked: Some(Duration::from_hours(24)) };
        assert_eq!(busy.asked(), Some(Duration::from_hours(1)));
    }

    #[test]
    fn what_is_kept_of_a_refusal_cannot_name_a_person() {
        let body = r#"{"error":"interaction_required","suberror":"basic_action",
            "error_description":"AADSTS50076: jane@example.nhs.uk must","error_codes":[50076],
            "timestamp":"2026-11-21 10:00:00Z","trace_id":"jane@example.nhs.uk",
            "correlation_id":"22222222-2222-4333-8444-555555555555","claims":"{\"a\":1}"}"#;
        let Ok(Heard::Refused(complaint)) = tokens(400, None, body.as_bytes()) else {
            panic!("a refusal")
        };
        assert!(!format!("{complaint:?}").contains("jane"));
        assert_eq!(complaint.timestamp.as_deref(), Some("2026-11-21 10:00:00Z"));
        assert_eq!(
            complaint.correlation,
            Some(Uuid::from_u128(0x22222222_2222_4333_8444_555555555555))
        );
        assert_eq!(complaint.claims.as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(complaint.suberror.as_deref(), Some("basic_action"));
    }
}
