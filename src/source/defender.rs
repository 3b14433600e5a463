//! Defender for Endpoint's list of alerts.
//!
//! `GET {base}api/alerts` with `$filter`, `$top` (10,000 at most), `$skip`,
//! `$expand=evidence`, without which evidence is empty, and `$orderby`, which
//! is not documented but works. Answers `{"value":[..]}`; an account that may
//! see no device gets an empty list. 100 calls a minute and 1,500 an hour for
//! all deployments of one application together, then 429 with `Retry-After` in
//! seconds.
//! <https://learn.microsoft.com/defender-endpoint/api/get-alerts>

use reqwest::header::HeaderMap;
use reqwest::{Response, StatusCode};
use secrecy::SecretString;
use url::Url;

use super::Detail;
use super::endpoint::Endpoint;
use super::failure::{Api, Failure};
use super::paging::Ask;
use super::wire::within;
use crate::clock::Clock;
use crate::http::Http;

/// Alerts one call gives at most.
pub(super) const LARGEST_PAGE: u32 = 10_000;

/// The API of one region. Clones share what was learned of it.
#[derive(Clone, Debug)]
pub struct Defender {
    pub(super) endpoint: Endpoint,
}

impl Defender {
    /// For `FunctionConfigDefenderEndpoint`, which ends in `/`.
    pub fn new(http: Http, clock: Clock, base: Url) -> Self {
        Self { endpoint: Endpoint::new(Api::Defender, http, clock, base) }
    }

    pub(super) fn address(&self, ask: &Ask, detail: Detail) -> Url {
        let mut url = self.endpoint.at("api/alerts");
        let mut query = url.query_pairs_mut();
        query.append_pair("$filter", &within("lastUpdateTime", ask.span));
        if ask.ordered {
            query.append_pair("$orderby", "lastUpdateTime asc");
        }
        query.append_pair("$top", &ask.top.to_string());
        if ask.skip > 0 {
            query.append_pair("$skip", &ask.skip.to_string());
        }
        if detail == Detail::Whole {
            query.append_pair("$expand", "evidence");
        }
        drop(query);
        url
    }

    /// Asks for a page. The answer's body is still to come.
    pub(super) async fn get(&self, url: Url, token: &SecretString) -> Result<Response, Failure> {
        self.endpoint.get(url, token, HeaderMap::new(), &[StatusCode::OK]).await
    }
}
