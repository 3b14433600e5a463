//! What both APIs have in common: one address, links that must stay on it, and
//! answers that are no page.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use time::OffsetDateTime;
use url::Url;

use super::failure::{Api, Failure, Said};
use super::wire::{ErrorBody, claims_challenge};
use crate::clock::Clock;
use crate::domain::timestamp::Timestamp;
use crate::http::{Http, read_at_most, retry_after};

/// What is read of an error answer.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// So long after `$orderby` was refused it is tried again: the app may run for
/// months, and without it reading takes more calls.
const ORDER_AGAIN: Duration = Duration::from_hours(24);

/// One API at one address. Clones share what was learned of it.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) api: Api,
    pub(super) http: Http,
    pub(super) clock: Clock,
    base: Url,
    /// When it last answered 400 with `$orderby`, and not without.
    refused_order_at: Arc<Mutex<Option<Timestamp>>>,
}

impl Endpoint {
    /// `base` ends in `/`.
    pub(super) fn new(api: Api, http: Http, clock: Clock, base: Url) -> Self {
        Self { api, http, clock, base, refused_order_at: Arc::default() }
    }

    /// Whether `$orderby` is worth sending.
    pub(super) fn takes_order(&self) -> bool {
        let refused_at = *self.refused_order_at.lock().unwrap_or_else(PoisonError::into_inner);
        refused_at.is_none_or(|at| at + ORDER_AGAIN <= self.clock.now())
    }

    /// From now on, for a day.
    pub(super) fn orders_are_taken(&self, taken: bool) {
        let refused_at = (!taken).then(|| self.clock.now());
        *self.refused_order_at.lock().unwrap_or_else(PoisonError::into_inner) = refused_at;
    }

    /// The address of `path`, which begins without `/`.
    pub(super) fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }

    /// Where a page's `@odata.nextLink` leads, if it stays on this server.
    pub(super) fn linked(&self, link: &str) -> Result<Url, Failure> {
        let url = self.base.join(link).map_err(|_not_an_address| Failure::ForeignLink)?;
        let plain = url.username().is_empty() && url.password().is_none();
        if plain && url.origin() == self.base.origin() {
            Ok(url)
        } else {
            Err(Failure::ForeignLink)
        }
    }

    /// Asks for a page, with further headers. An answer is a page if its status
    /// is one of `pages`; its body is still to come.
    pub(super) async fn get(
        &self,
        url: Url,
        token: &SecretString,
        headers: HeaderMap,
        pages: &[StatusCode],
    ) -> Result<Response, Failure> {
        let request = self.http.client.get(url).headers(headers);
        let answer = self.http.send(request.bearer_auth(token.expose_secret())).await?;
        if pages.contains(&answer.status()) { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    async fn refusal(&self, answer: Response) -> Failure {
        let status = answer.status();
        let after = retry_after(answer.headers(), OffsetDateTime::from(self.clock.now().to_utc()));
        let claims = claims_challenge(answer.headers());
        // An error whose text is lost is still that error.
        let body = read_at_most(answer, MAX_ERROR_BYTES).await.unwrap_or_default();
        let body = ErrorBody::parse(&body);
        let said = Said {
            status: status.as_u16(),
            code: body.code().map(str::to_owned),
            target: body.target().map(str::to_owned),
        };
        match status {
            StatusCode::UNAUTHORIZED => Failure::Unauthorized { claims, said },
            StatusCode::FORBIDDEN => {
                Failure::Forbidden { api: self.api, cause: body.cause(), said }
            }
            StatusCode::TOO_MANY_REQUESTS => {
                Failure::Throttled { after, quota: body.quota(), said }
            }
            StatusCode::REQUEST_TIMEOUT => Failure::Failing { after, said },
            _ if status.is_server_error() => Failure::Failing { after, said },
            _ => Failure::Refused(said),
        }
    }
}
