//! Defender for Endpoint's list of alerts.
//!
//! `GET {base}api/alerts` with `$filter`, `$top` (10,000 at most), `$skip`,
//! `$expand=evidence`, without which evidence is empty, and `$orderby`, which
//! is not documented but works. Answers `{"value":[..]}`; an account that may
//! see no device gets an empty list. 100 calls a minute and 1,500 an hour for
//! all deployments of one application together, then 429 with `Retry-After` in
//! seconds.
//! <https://learn.microsoft.com/defender-endpoint/api/get-alerts>

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use time::OffsetDateTime;
use url::Url;

use super::failure::{Failure, Said};
use super::paging::Ask;
use super::wire::{ErrorBody, claims_challenge, updated_within};
use crate::clock::Clock;
use crate::http::{Http, read_at_most, retry_after};

/// What is read of an error answer.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// The API of one region. Clones share what was learned of it.
#[derive(Clone, Debug)]
pub struct Defender {
    pub(super) http: Http,
    pub(super) clock: Clock,
    base: Url,
    /// It answered 400 with `$orderby` and a page without.
    refuses_order: Arc<AtomicBool>,
}

impl Defender {
    /// For `FunctionConfigDefenderEndpoint`, which ends in `/`.
    pub fn new(http: Http, clock: Clock, base: Url) -> Self {
        Self { http, clock, base, refuses_order: Arc::default() }
    }

    /// Whether `$orderby` is worth sending.
    pub(super) fn takes_order(&self) -> bool {
        !self.refuses_order.load(Ordering::Relaxed)
    }

    pub(super) fn stop_asking_for_order(&self) {
        self.refuses_order.store(true, Ordering::Relaxed);
    }

    pub(super) fn address(&self, ask: &Ask) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}api/alerts", self.base.path()));
        let mut query = url.query_pairs_mut();
        query.append_pair("$filter", &updated_within(ask.span));
        if ask.ordered {
            query.append_pair("$orderby", "lastUpdateTime asc");
        }
        query.append_pair("$top", &ask.top.to_string());
        if ask.skip > 0 {
            query.append_pair("$skip", &ask.skip.to_string());
        }
        query.append_pair("$expand", "evidence");
        drop(query);
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

    /// Asks for a page. The answer's body is still to come.
    pub(super) async fn get(&self, url: Url, token: &SecretString) -> Result<Response, Failure> {
        let request = self.http.client.get(url).bearer_auth(token.expose_secret());
        let answer = self.http.send(request).await?;
        if answer.status() == StatusCode::OK { Ok(answer) } else { Err(self.refusal(answer).await) }
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
            StatusCode::FORBIDDEN => Failure::Forbidden { cause: body.cause(), said },
            StatusCode::TOO_MANY_REQUESTS => {
                Failure::Throttled { after, quota: body.quota(), said }
            }
            StatusCode::REQUEST_TIMEOUT => Failure::Failing { after, said },
            _ if status.is_server_error() => Failure::Failing { after, said },
            _ => Failure::Refused(said),
        }
    }
}
