//! What the APIs are asked in and how they say no.
//!
//! Defender's errors are `{"error":{"code","message","target"}}`; `target` is
//! the correlation id Microsoft support asks for. The code of a 429 is `"429"`
//! as often as the documented `TooManyRequests`. Graph's have
//! `"innerError":{"request-id"}` instead of `target`. Gateways in front of
//! either answer in HTML.
//! <https://learn.microsoft.com/defender-endpoint/api/common-errors>,
//! <https://learn.microsoft.com/graph/errors>

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::failure::{Cause, Quota};
use super::ties::Created;
use crate::domain::timestamp::Timestamp;
use crate::domain::window::Window;

/// What an error answer says, as far as it says anything.
#[derive(Debug, Default)]
pub(super) struct ErrorBody {
    code: Option<String>,
    message: String,
    target: Option<String>,
}

#[derive(Deserialize)]
struct Envelope {
    error: Inner,
}

#[derive(Deserialize)]
struct Inner {
    code: Option<String>,
    message: Option<String>,
    target: Option<String>,
    #[serde(rename = "innerError", alias = "innererror")]
    further: Option<serde_json::Value>,
}

/// Longest code or correlation id believed to be one.
const MAX_NAME: usize = 64;

/// `text` if it can be shown to anyone: one word of letters, digits, `-`, `.`
/// and `_`. A body is never quoted otherwise.
fn name(text: Option<String>) -> Option<String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    text.filter(|text| (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(word))
}

impl ErrorBody {
    /// Reads an error answer; one of another form says nothing.
    pub(super) fn parse(body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(Envelope { error: Inner { code, message, target, further } }) => Self {
                code: name(code),
                message: message.unwrap_or_default().to_lowercase(),
                target: name(
                    target.or_else(|| Some(further?.get("request-id")?.as_str()?.to_owned())),
                ),
            },
            Err(_of_another_form) => Self::default(),
        }
    }

    /// The API's code, such as `ODataError`.
    pub(super) fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The correlation id.
    pub(super) fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// Which quota a 429 is about: its message ends in `per 00:01:00` or
    /// `per 01:00:00`.
    pub(super) fn quota(&self) -> Option<Quota> {
        if self.message.contains("01:00:00") {
            Some(Quota::Hour)
        } else if self.message.contains("00:01:00") {
            Some(Quota::Minute)
        } else {
            None
        }
    }

    /// Why a 403 was given. Messages are free text that may change, so this
    /// only chooses which help comes first.
    pub(super) fn cause(&self) -> Cause {
        let says = |words: &[&str]| words.iter().any(|word| self.message.contains(word));
        if self.code() == Some("DisabledFeature") || says(&["permissions or user"]) {
            Cause::Unknown
        } else if says(&["audience", "resource"]) {
            Cause::Audience
        } else if says(&["scope", "application role", "application permission", "api required"]) {
            Cause::ApiPermission
        } else if says(&["user", "rbac", "view data", "viewdata", "role"]) {
            Cause::Role
        } else {
            Cause::Unknown
        }
    }
}

/// The claims a 401 asks for in its challenge, as JSON text.
///
/// `WWW-Authenticate: Bearer .., error="insufficient_claims", claims="<base64>"`.
/// <https://learn.microsoft.com/entra/identity-platform/claims-challenge>
pub(super) fn claims_challenge(headers: &HeaderMap) -> Option<String> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decode = |text: &str| {
        [STANDARD, URL_SAFE]
            .iter()
            .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
    };
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|challenge| challenge.to_str().ok())
        .filter_map(|challenge| challenge.split_once("claims=\"")?.1.split_once('"'))
        .filter_map(|(claims, _)| String::from_utf8(decode(claims)?).ok())
        .find(|claims| claims.starts_with('{'))
}

/// `text` if it can be shown to anyone: short, and nothing but letters, digits
/// and `-._/`.
pub(super) fn plain_words(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    let text = text.split([',', '"']).next()?.trim();
    ((1..=MAX_NAME).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

/// `{member} ge .. and {member} lt ..`: half-open, at 100 ns.
///
/// Times stand unquoted, in UTC with `Z`; an offset's `+` would not survive.
/// <https://learn.microsoft.com/defender-endpoint/api/exposed-apis-odata-samples>
pub(super) fn within(member: &str, span: Window) -> String {
    format!("{member} ge {} and {member} lt {}", span.start(), span.end())
}

/// ` and {member} ge .. and {member} lt ..`, as far as there are bounds.
pub(super) fn after_creation(member: &str, created: Created) -> String {
    let bound = |word: &str, at: Option<Timestamp>| {
        at.map_or_else(String::new, |at| format!(" and {member} {word} {at}"))
    };
    format!("{}{}", bound("ge", created.from), bound("lt", created.before))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn body(code: &str, message: &str) -> ErrorBody {
        let target = "0f6c1f7e-5d2b-4a43-9a57-3d6f0c9b2e11";
        let body =
            serde_json::json!({"error": {"code": code, "message": message, "target": target}});
        ErrorBody::parse(body.to_string().as_bytes())
    }

    #[test]
    fn a_spent_quota_says_which_in_either_form() {
        let hour = "API calls quota exceeded! maximum allowed 1500 per 01:00:00";
        let minute = "API calls quota exceeded! maximum allowed 100 per 00:01:00";
        assert_eq!(body("429", hour).quota(), Some(Quota::Hour));
        assert_eq!(body("TooManyRequests", minute).quota(), Some(Quota::Minute));
        assert_eq!(body("429", "slow down").quota(), None);
        assert_eq!(body("429", hour).target(), Some("0f6c1f7e-5d2b-4a43-9a57-3d6f0c9b2e11"));
    }

    #[test]
    fn graphs_request_id_stands_where_defenders_correlation_id_does() {
        for inner in ["innerError", "innererror"] {
            let json = serde_json::json!({"error": {"code": "Forbidden", "message": "x",
                inner: {"date": "2026-11-19T12:00:00", "request-id": "0f6c1f7e-5d2b"}}});
            let body = ErrorBody::parse(json.to_string().as_bytes());
            assert_eq!((body.code(), body.target()), (Some("Forbidden"), Some("0f6c1f7e-5d2b")));
        }
    }

    #[test]
    fn a_warning_is_shown_only_if_it_can_hold_nothing_personal() {
        assert_eq!(
            plain_words(r#"Microsoft/WDATP/401/228", 199 - "x"#).as_deref(),
            Some("Microsoft/WDATP/401/228")
        );
        assert_eq!(plain_words("mail of a.patel@rxx.example"), None);
        assert_eq!(plain_words(""), None);
    }

    #[test]
    fn an_answer_of_another_form_says_nothing() {
        for text in ["", "<html>", "{}", r#"{"error":"x"}"#, r#"{"error":{"code":7}}"#] {
            let body = ErrorBody::parse(text.as_bytes());
            assert_eq!((body.code(), body.target(), body.quota()), (None, None, None), "{text}");
        }
    }

    #[test]
    fn a_code_that_could_be_anything_else_is_not_shown() {
        assert_eq!(body("ODataError", "").code(), Some("ODataError"));
        assert_eq!(body("a.patel@rxx.example", "").code(), None);
        assert_eq!(body("two words", "").code(), None);
        assert_eq!(body(&"x".repeat(65), "").code(), None);
    }

    #[test]
    fn the_three_causes_of_a_403_are_told_apart() {
        let cases = [
            ("Missing scopes. API required scopes: Alert.Read", Cause::ApiPermission),
            (
                "The application does not have any of the required application permissions",
                Cause::ApiPermission,
            ),
            ("User does not have the View Data permission", Cause::Role),
            (
                "Missing scope permissions on the request. API requires one of 'SecurityAlert.Read.All'",
                Cause::ApiPermission,
            ),
            ("User is not in the allowed roles", Cause::Role),
            (
                "Auth token does not contain valid permissions or user does not have valid roles.",
                Cause::Unknown,
            ),
            ("Unauthorized by RBAC", Cause::Role),
            ("The token's audience is not valid", Cause::Audience),
            ("Forbidden", Cause::Unknown),
            ("", Cause::Unknown),
        ];
        for (message, cause) in cases {
            assert_eq!(body("Forbidden", message).cause(), cause, "{message}");
        }
    }

    #[test]
    fn the_claims_of_a_challenge_are_decoded() {
        let claims = |text: &'static str| {
            claims_challenge(&HeaderMap::from_iter([(
                WWW_AUTHENTICATE,
                HeaderValue::from_static(text),
            )]))
        };
        let expected =
            Some(r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#.to_owned());
        assert_eq!(
            claims(
                r#"Bearer realm="", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxIn19fQ==""#
            ),
            expected
        );
        assert_eq!(
            claims(
                r#"Bearer claims="eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxIn19fQ", realm="x""#
            ),
            expected
        );
        assert_eq!(claims(r#"Bearer error="invalid_token""#), None);
        assert_eq!(claims(r#"Bearer claims="%%%""#), None);
    }
}
