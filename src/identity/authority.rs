//! The three requests: ask for a code, poll it, renew.
//!
//! `POST {authority}/{tenant}/oauth2/v2.0/devicecode` and `…/token`, forms
//! without a secret: the app is a public client
//! (<https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code>).

use std::time::Duration;

use oauth2::StandardDeviceAuthorizationResponse;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;
use uuid::Uuid;

use super::audience::scope;
use super::wire::{self, Configuration, Heard, Tokens, Undecided};
use crate::clock::Clock;
use crate::config::IdentityConfig;
use crate::http::retry::GaveUp;
use crate::http::{Http, read_at_most, retry_after};

/// One request takes no longer than this: a claim on a poll lasts as long.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Answers are a few kilobytes.
const ANSWER_BYTES: usize = 64 * 1024;

/// The identity tenant's endpoints.
#[derive(Clone, Debug)]
pub(super) struct Authority {
    http: Http,
    clock: Clock,
    client: Uuid,
    scope: String,
    code_url: Url,
    token_url: Url,
    discovery_url: Url,
}

struct Answer {
    status: u16,
    asked: Option<Duration>,
    body: bytes::Bytes,
}

impl Authority {
    pub(super) fn new(http: Http, clock: Clock, config: &IdentityConfig, audience: &str) -> Self {
        let below = |path: &str| {
            let mut url = config.authority.clone();
            url.set_path(&format!("{}{}/{path}", url.path(), config.tenant));
            url
        };
        let url = |name: &str| below(&format!("oauth2/v2.0/{name}"));
        Self {
            http,
            clock,
            client: config.client,
            // One resource in one token; the rest is for the refresh token and
            // for learning who signed in.
            scope: format!("{} offline_access openid profile", scope(audience)),
            code_url: url("devicecode"),
            token_url: url("token"),
            discovery_url: below("v2.0/.well-known/openid-configuration"),
        }
    }

    /// Asks for a code. Sent again when no answer came: a code nobody has seen
    /// does no harm.
    pub(super) async fn ask(
        &self,
    ) -> Result<Heard<StandardDeviceAuthorizationResponse>, GaveUp<Undecided>> {
        let client = self.client.to_string();
        let form = [("client_id", client.as_str()), ("scope", &self.scope)];
        let once = || async {
            let answer = self.post(&self.code_url, &form).await?;
            wire::code(answer.status, answer.asked, &answer.body)
        };
        self.http.retry.run(once).await
    }

    /// Asks once whether the person has agreed. Never sent again by itself: the
    /// first answer may have held the tokens.
    pub(super) async fn poll(
        &self,
        device_code: &SecretString,
        claims: Option<&str>,
    ) -> Result<Heard<Tokens>, Undecided> {
        let client = self.client.to_string();
        let mut form = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", &client),
            ("device_code", device_code.expose_secret()),
        ];
        form.extend(claims.map(|claims| ("claims", claims)));
        let answer = self.post(&self.token_url, &form).await?;
        wire::tokens(answer.status, answer.asked, &answer.body)
    }

    /// Trades a refresh token for new tokens. Sent again when no answer came:
    /// the old one stays valid when used.
    pub(super) async fn renew(
        &self,
        refresh_token: &SecretString,
        claims: Option<&str>,
    ) -> Result<Heard<Tokens>, GaveUp<Undecided>> {
        let client = self.client.to_string();
        let mut form = vec![
            ("grant_type", "refresh_token"),
            ("client_id", &client),
            ("refresh_token", refresh_token.expose_secret()),
            ("scope", &self.scope),
        ];
        form.extend(claims.map(|claims| ("claims", claims)));
        let once = || async {
            let answer = self.post(&self.token_url, &form).await?;
            wire::tokens(answer.status, answer.asked, &answer.body)
        };
        self.http.retry.run(once).await
    }

    /// Trades a refresh token for a token of another API, named by `scope`.
    /// What comes is for nobody: the refresh token stays valid.
    pub(super) async fn try_scope(
        &self,
        refresh_token: &SecretString,
        scope: &str,
    ) -> Result<Heard<Tokens>, GaveUp<Undecided>> {
        let client = self.client.to_string();
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &client),
            ("refresh_token", refresh_token.expose_secret()),
            ("scope", scope),
        ];
        let once = || async {
            let answer = self.post(&self.token_url, &form).await?;
            wire::tokens(answer.status, answer.asked, &answer.body)
        };
        self.http.retry.run(once).await
    }

    /// Asks what there is to know of the tenant. Needs no right.
    pub(super) async fn configuration(&self) -> Result<Heard<Configuration>, GaveUp<Undecided>> {
        let once = || async {
            let request = self.http.client.get(self.discovery_url.clone()).timeout(PATIENCE);
            let answer = self.read(request).await?;
            wire::configuration(answer.status, answer.asked, &answer.body)
        };
        self.http.retry.run(once).await
    }

    /// Whether `address` is the token endpoint used here.
    pub(super) fn asks_at(&self, address: &str) -> bool {
        Url::parse(address).is_ok_and(|url| url == self.token_url)
    }

    async fn post(&self, url: &Url, form: &[(&str, &str)]) -> Result<Answer, Undecided> {
        self.read(self.http.client.post(url.clone()).timeout(PATIENCE).form(form)).await
    }

    async fn read(&self, request: reqwest::RequestBuilder) -> Result<Answer, Undecided> {
        let answer = self.http.send(request).await.map_err(Undecided::Broken)?;
        let status = answer.status().as_u16();
        let asked = retry_after(answer.headers(), self.clock.now().to_utc().into());
        let body = read_at_most(answer, ANSWER_BYTES).await.map_err(Undecided::Broken)?;
        Ok(Answer { status, asked, body })
    }
}
