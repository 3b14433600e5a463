//! Who signed in: the claims of an id token.
//!
//! The token comes straight from the token endpoint over TLS, which vouches for
//! it in place of its signature
//! (<https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation>,
//! point 6). Access tokens are never read: they are the API's business
//! (<https://learn.microsoft.com/entra/identity-platform/access-tokens>).

use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;
use uuid::Uuid;

use crate::domain::sign_in::Account;
use crate::domain::timestamp::Timestamp;

/// How far the two clocks may be apart.
const SKEW: Duration = Duration::from_mins(2);

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whose tokens are accepted.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// The identity tenant.
    pub(super) tenant: Uuid,
    /// The public client.
    pub(super) client: Uuid,
    /// With a trailing slash.
    pub(super) authority: Url,
}

/// Why an id token proves nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BadIdToken {
    /// Not a token, or a claim is missing.
    Unreadable,
    /// The account was signed in to another tenant.
    OtherTenant,
    /// Made for another app, or by another authority.
    NotForUs,
    /// Ended already, or not begun, by our clock.
    OutOfTime,
}

/// <https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference>
#[derive(Deserialize)]
struct WireClaims {
    tid: Guid,
    oid: Guid,
    aud: String,
    iss: String,
    exp: i64,
    nbf: Option<i64>,
    preferred_username: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Guid(Uuid);

impl TryFrom<String> for Guid {
    type Error = uuid::Error;

    fn try_from(text: String) -> Result<Self, uuid::Error> {
        Uuid::try_parse(&text).map(Self)
    }
}

impl Expected {
    /// The account in `token`, if the token is for us and for now.
    pub(super) fn check(
        &self,
        token: &SecretString,
        now: Timestamp,
    ) -> Result<Account, BadIdToken> {
        let claims = read(token)?;
        if claims.tid.0 != self.tenant {
            return Err(BadIdToken::OtherTenant);
        }
        let issuer = format!("{}{}/v2.0", self.authority, self.tenant);
        if claims.iss != issuer || claims.aud != self.client.to_string() {
            return Err(BadIdToken::NotForUs);
        }
        let begun = claims.nbf.is_none_or(|nbf| Timestamp::from_unix_seconds(nbf) <= now + SKEW);
        if !begun || now >= Timestamp::from_unix_seconds(claims.exp) + SKEW {
            return Err(BadIdToken::OutOfTime);
        }
        Ok(claims.account())
    }
}

/// The account a renewal's id token names, whatever else it says.
pub(super) fn subject(token: &SecretString) -> Result<Account, BadIdToken> {
    read(token).map(WireClaims::account)
}

impl WireClaims {
    fn account(self) -> Account {
        let username = self.preferred_username.unwrap_or_else(|| self.oid.0.to_string());
        Account { username, name: self.name, oid: self.oid.0, tenant: self.tid.0 }
    }
}

fn read(token: &SecretString) -> Result<WireClaims, BadIdToken> {
    let mut parts = token.expose_secret().split('.');
    let (Some(_), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(BadIdToken::Unreadable);
    };
    let claims = BASE64.decode(claims).map_err(|_says_where| BadIdToken::Unreadable)?;
    serde_json::from_slice(&claims).map_err(|_may_quote_it| BadIdToken::Unreadable)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const NOW: i64 = 1_795_000_000;
    const TENANT: &str = "0f6c1f7e-5d2b-4a43-9a57-3d6f0c9b2e11";
    const CLIENT: &str = "7f1c3609-a3ff-40e2-995b-c01770161d68";
    const OID: &str = "11111111-2222-4333-8444-555555555555";

    fn token(claims: &str) -> SecretString {
        format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims)).into()
    }

    fn claims(change: &[(&str, serde_json::Value)]) -> String {
        let mut claims = serde_json::json!({
            "tid": TENANT, "oid": OID, "aud": CLIENT,
            "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
            "iat": NOW, "nbf": NOW, "exp": NOW + 3600,
            "preferred_username": "export.rxx@example.nhs.uk", "name": "RXX export",
        });
        for (name, value) in change {
            claims[*name] = value.clone();
        }
        claims.to_string()
    }

    fn check(change: &[(&str, serde_json::Value)]) -> Result<Account, BadIdToken> {
        let expected = Expected {
            tenant: TENANT.parse().unwrap(),
            client: CLIENT.parse().unwrap(),
            authority: "https://login.microsoftonline.com/".parse().unwrap(),
        };
        expected.check(&token(&claims(change)), Timestamp::from_unix_seconds(NOW))
    }

    #[test]
    fn the_account_is_read_from_the_token() {
        let account = check(&[]).unwrap();
        assert_eq!(account.username, "export.rxx@example.nhs.uk");
        assert_eq!(account.name.as_deref(), Some("RXX export"));
        assert_eq!(account.oid.to_string(), OID);
        assert_eq!(check(&[("preferred_username", ().into())]).unwrap().username, OID);
    }

    #[test]
    fn a_token_that_is_not_ours_or_not_for_now_is_refused() {
        let other = "99999999-2222-4333-8444-555555555555";
        let cases: [(_, serde_json::Value, _); 8] = [
            ("tid", other.into(), BadIdToken::OtherTenant),
            ("tid", "common".into(), BadIdToken::Unreadable),
            ("oid", ().into(), BadIdToken::Unreadable),
            ("aud", other.into(), BadIdToken::NotForUs),
            ("iss", format!("https://sts.windows.net/{TENANT}/").into(), BadIdToken::NotForUs),
            (
                "iss",
                format!("https://login.microsoftonline.com.evil.example/{TENANT}/v2.0").into(),
                BadIdToken::NotForUs,
            ),
            ("exp", (NOW - 120).into(), BadIdToken::OutOfTime),
            ("nbf", (NOW + 121).into(), BadIdToken::OutOfTime),
        ];
        for (name, value, expected) in cases {
            assert_eq!(check(&[(name, value.clone())]), Err(expected), "{name} {value}");
        }
    }

    #[test]
    fn clocks_may_be_two_minutes_apart() {
        assert!(check(&[("exp", (NOW - 119).into())]).is_ok());
        assert!(check(&[("nbf", (NOW + 120).into())]).is_ok());
    }

    #[test]
    fn what_is_not_a_token_is_refused() {
        for text in ["", "a.b", "e30.!!.x", "e30.e30.x", "e30.W10.x", "a.b.c.d"] {
            assert_eq!(subject(&text.into()), Err(BadIdToken::Unreadable), "{text}");
        }
    }
}
