//! Tokens of the app's own identity.
//!
//! Under App Service and Functions: `GET {IDENTITY_ENDPOINT}?api-version=2019-08-01&resource=..[&client_id=..]`
//! with `X-IDENTITY-HEADER`; 200 with `access_token` and `expires_on` in
//! seconds since 1970, as text or as a number; 400 when no identity is
//! assigned.
//! <https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference>
//!
//! An own client, because `azure_identity` reads the process environment itself
//! and cannot be given settings: it could neither follow [`crate::config`] nor
//! be pointed at the embedded clouds. It serves engineers who run the program
//! by hand: without an identity endpoint, the sign-in of `az` or `azd` is used.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_identity::DeveloperToolsCredential;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::clock::Clock;
use crate::config::ManagedIdentityEndpoint;
use crate::domain::timestamp::Timestamp;
use crate::http::retry::{Classify, Verdict};
use crate::http::{Broken, Http, read_at_most, retry_after};

const API_VERSION: &str = "2019-08-01";
/// A token is replaced this long before it expires, so that none expires on
/// its way. App Service itself renews tokens earlier than that.
const MARGIN: Duration = Duration::from_mins(5);
/// Far more than a token with many claims.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Gets and keeps tokens for Azure services. Clones share them.
#[derive(Clone, Debug)]
pub struct Credential {
    http: Http,
    clock: Clock,
    endpoint: Option<ManagedIdentityEndpoint>,
    held: Arc<Mutex<HashMap<String, Slot>>>,
}

/// One resource's token. Locked while it is fetched, so that it is fetched once
/// however many wait for it.
type Slot = Arc<tokio::sync::Mutex<Option<Held>>>;

#[derive(Clone, Debug)]
struct Held {
    token: SecretString,
    expires_on: Timestamp,
}

/// Why no token could be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The app has no such identity.
    #[error("no managed identity is assigned to this app")]
    NoIdentity,
    /// The identity endpoint said no.
    #[error("the app's identity endpoint answered {status}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// From `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// No answer.
    #[error("the app's identity endpoint cannot be reached")]
    Unreachable(#[source] Broken),
    /// An answer without a token or without its expiry.
    #[error("the app's identity endpoint answered something other than a token")]
    Garbled,
    /// This process runs outside App Service, and neither `az` nor `azd` gave a
    /// token.
    #[error(
        "no managed identity is available to this process, and nobody is signed in with az or azd"
    )]
    NotSignedIn(#[source] azure_core::Error),
}

impl Classify for CredentialError {
    /// Asking for a token twice is harmless: it changes nothing.
    fn verdict(&self) -> Verdict {
        match self {
            Self::Refused { status: 408 | 429 | 500..=599, retry_after } => {
                Verdict::Retry { after: *retry_after }
            }
            Self::Unreachable(_) => Verdict::Retry { after: None },
            Self::NoIdentity | Self::Refused { .. } | Self::Garbled | Self::NotSignedIn(_) => {
                Verdict::Fatal
            }
        }
    }
}

/// The identity endpoint's answer.
#[derive(Deserialize)]
struct WireToken {
    access_token: String,
    expires_on: WireSeconds,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireSeconds {
    Number(i64),
    Text(String),
}

impl WireToken {
    fn into_held(self) -> Option<Held> {
        let seconds = match self.expires_on {
            WireSeconds::Number(seconds) => seconds,
            WireSeconds::Text(text) => text.parse().ok()?,
        };
        let expires_on = Timestamp::from_unix_seconds(seconds);
        Some(Held { token: self.access_token.into(), expires_on })
    }
}

impl Credential {
    /// For the identity behind `endpoint`, or the surroundings' own.
    pub fn new(http: Http, clock: Clock, endpoint: Option<ManagedIdentityEndpoint>) -> Self {
        Self { http, clock, endpoint, held: Arc::default() }
    }

    /// A token for `resource`, such as `https://storage.azure.com`: the one at
    /// hand until five minutes before it expires, then a new one.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if none can be had. Nothing is remembered of the
    /// failure; the next call asks again.
    pub async fn token(&self, resource: &str) -> Result<SecretString, CredentialError> {
        self.held(resource).await.map(|held| held.token)
    }

    /// Forgets the token for `resource`, which the service refused. The next
    /// call asks for a new one.
    pub fn forget(&self, resource: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(resource);
    }

    async fn held(&self, resource: &str) -> Result<Held, CredentialError> {
        let slot = self.slot(resource);
        let mut slot = slot.lock().await;
        let now = self.clock.now();
        if let Some(held) = slot.as_ref().filter(|held| now + MARGIN < held.expires_on) {
            return Ok(held.clone());
        }
        let fresh = match &self.endpoint {
            Some(endpoint) => {
                let asked = self.http.retry.run(|| self.ask(endpoint, resource)).await;
                asked.map_err(|gave_up| gave_up.last)?
            }
            None => ask_developer_tools(resource).await?,
        };
        Ok(slot.insert(fresh).clone())
    }

    fn slot(&self, resource: &str) -> Slot {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(held.entry(resource.to_owned()).or_default())
    }

    async fn ask(
        &self,
        identity: &ManagedIdentityEndpoint,
        resource: &str,
    ) -> Result<Held, CredentialError> {
        let mut query = vec![("api-version", API_VERSION), ("resource", resource)];
        query.extend(identity.client_id.as_deref().map(|id| ("client_id", id)));
        let request = self
            .http
            .client
            .get(identity.endpoint.clone())
            .query(&query)
            .header("x-identity-header", identity.header.expose_secret());
        let answer = self.http.send(request).await.map_err(CredentialError::Unreachable)?;
        let status = answer.status().as_u16();
        let retry_after = retry_after(answer.headers(), self.clock.now().to_utc().into());
        let body =
            read_at_most(answer, LARGEST_ANSWER).await.map_err(CredentialError::Unreachable)?;
        match status {
            // The parser's own words would quote the answer.
            200 => serde_json::from_slice::<WireToken>(&body)
                .ok()
                .and_then(WireToken::into_held)
                .ok_or(CredentialError::Garbled),
            400 if names_no_identity(&body) => Err(CredentialError::NoIdentity),
            _ => Err(CredentialError::Refused { status, retry_after }),
        }
    }
}

/// `No Managed Identity found for specified ClientId/ResourceId/PrincipalId.`
fn names_no_identity(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).to_ascii_lowercase().contains("no managed identity")
}

async fn ask_developer_tools(resource: &str) -> Result<Held, CredentialError> {
    let tools = DeveloperToolsCredential::new(None).map_err(CredentialError::NotSignedIn)?;
    let scope = format!("{resource}/.default");
    let token = tools.get_token(&[&scope], None).await.map_err(CredentialError::NotSignedIn)?;
    Ok(Held { token: token.token.secret().into(), expires_on: Timestamp::from(token.expires_on) })
}

/// For the SDK's own clients. A scope is a resource with `/.default` behind it.
impl TokenCredential for Credential {
    // What `async_trait`, which the trait is declared with, makes of
    // `async fn get_token(&self, scopes: &[&str], options: Option<..>)`.
    fn get_token<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        scopes: &'life1 [&'life2 str],
        _options: Option<TokenRequestOptions<'life3>>,
    ) -> Pin<Box<dyn Future<Output = azure_core::Result<AccessToken>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let scope = scopes.first().copied().unwrap_or_default();
            let resource = scope.strip_suffix("/.default").unwrap_or(scope);
            let held = self
                .held(resource)
                .await
                .map_err(|error| azure_core::Error::new(ErrorKind::Credential, error))?;
            let token = held.token.expose_secret().to_owned();
            Ok(AccessToken::new(token, held.expires_on.to_utc().into()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(json: &str) -> Option<Held> {
        serde_json::from_str::<WireToken>(json).ok().and_then(WireToken::into_held)
    }

    #[test]
    fn an_expiry_is_read_as_text_or_as_a_number() {
        let expiry = |json| held(json).map(|held| held.expires_on.to_string());
        let expected = Some("2027-01-15T08:00:00Z".to_owned());
        assert_eq!(expiry(r#"{"access_token":"t","expires_on":"1800000000"}"#), expected);
        assert_eq!(expiry(r#"{"access_token":"t","expires_on":1800000000}"#), expected);
        assert_eq!(expiry(r#"{"access_token":"t","expires_on":"soon"}"#), None);
        assert_eq!(expiry(r#"{"access_token":"t"}"#), None);
    }

    #[test]
    fn a_token_is_never_printed() {
        let held = held(r#"{"access_token":"eyJ0","expires_on":1800000000}"#).unwrap();
        assert!(!format!("{held:?}").contains("eyJ0"));
    }
}
