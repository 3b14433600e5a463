//! Microsoft Graph's list of alerts, the successor of Defender's own.
//!
//! `GET {base}v1.0/security/alerts_v2` with `$filter`, `$top` (1,000 at most;
//! more is clamped without a word), `$skip` (500 at most, then 400; never sent
//! here) and `$orderby`, which is not documented. Evidence always comes with
//! the alert. Answers `{"value":[..],"@odata.nextLink":..}`; a link may itself
//! have a `$skip` and run into the 500. 206, or a `Warning: 199`
//! with `Vendor/Provider/Status/Milliseconds`, means that a service behind
//! Graph did not answer, so the list may lack something.
//! <https://learn.microsoft.com/graph/api/security-list-alerts_v2>,
//! <https://learn.microsoft.com/graph/api/resources/security-error-codes>
//!
//! Enum words that are younger than the API come as `unknownFutureValue`
//! unless the request prefers otherwise.
//! <https://learn.microsoft.com/graph/best-practices-concept>

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, WARNING};
use reqwest::{Response, StatusCode};
use secrecy::SecretString;
use url::Url;

use super::endpoint::Endpoint;
use super::failure::{Api, Failure};
use super::paging::Ask;
use super::wire::{after_creation, plain_words, within};
use crate::clock::Clock;
use crate::http::Http;

/// Alerts one call gives at most.
pub(super) const LARGEST_PAGE: u32 = 1_000;

/// Alerts of the other products are not exported, and name no device group.
const ONLY_ENDPOINT: &str = "serviceSource eq 'microsoftDefenderForEndpoint'";

/// Microsoft Graph of one cloud. Clones share what was learned of it.
#[derive(Clone, Debug)]
pub struct Graph {
    pub(super) endpoint: Endpoint,
}

impl Graph {
    /// For `FunctionConfigGraphEndpoint`, which ends in `/`.
    pub fn new(http: Http, clock: Clock, base: Url) -> Self {
        Self { endpoint: Endpoint::new(Api::Graph, http, clock, base) }
    }

    pub(super) fn address(&self, ask: &Ask) -> Url {
        let mut filter = format!("{ONLY_ENDPOINT} and {}", within("lastUpdateDateTime", ask.span));
        filter.push_str(&after_creation("createdDateTime", ask.created));
        let mut url = self.endpoint.at("v1.0/security/alerts_v2");
        let mut query = url.query_pairs_mut();
        query.append_pair("$filter", &filter);
        if ask.ordered {
            query.append_pair("$orderby", "lastUpdateDateTime asc");
        }
        query.append_pair("$top", &ask.top.to_string());
        drop(query);
        url
    }

    /// Asks for a page, which may be [partial](Self::shortfall). The answer's
    /// body is still to come.
    pub(super) async fn get(&self, url: Url, token: &SecretString) -> Result<Response, Failure> {
        let prefer = HeaderValue::from_static("include-unknown-enum-members");
        let headers = HeaderMap::from_iter([(HeaderName::from_static("prefer"), prefer)]);
        let pages = [StatusCode::OK, StatusCode::PARTIAL_CONTENT];
        self.endpoint.get(url, token, headers, &pages).await
    }

    /// What says that a page may lack alerts.
    pub(super) fn shortfall(answer: &Response) -> Option<Failure> {
        let warnings = answer.headers().get_all(WARNING).iter();
        let warning = warnings
            .filter_map(|warning| warning.to_str().ok()?.trim().strip_prefix("199"))
            .map(|rest| plain_words(rest.trim_matches([' ', '-', '"'])))
            .next();
        let partial = answer.status() == StatusCode::PARTIAL_CONTENT || warning.is_some();
        partial.then(|| Failure::Partial { missing: warning.flatten() })
    }
}
