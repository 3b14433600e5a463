//! Delivery through the HTTP Data Collector API.
//!
//! `POST {endpoint}api/logs?api-version=2016-04-01` with `Log-Type`,
//! `x-ms-date` and a signature by the workspace key over the body's length; 200
//! when taken. 400 with a code, 403 for a wrong signature or a clock more than
//! 15 minutes off, 404 for a wrong address, 429 and 503 to come back later.
//! Compression is not documented and not used; a `charset` in `Content-Type`
//! would break the signature. 30 MB a post; fields beyond 32 KB are cut.
//!
//! Microsoft retired the API on 14 September 2026 and says that clients with
//! TLS 1.2 keep working. Should it go, 410 or an unknown host says so, and
//! nothing is lost: the position stays where it is.
//! <https://learn.microsoft.com/previous-versions/azure/azure-monitor/logs/data-collector-api>

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::answer::{PostError, exchange};
use crate::azure::{http_date, workspace_key};
use crate::clock::Clock;
use crate::config;
use crate::domain::batch::BatchLimits;
use crate::http::Http;

/// Far below the service's 30 MB: a larger body would save few requests and
/// cost memory that a consumption plan does not have.
pub(super) const LIMITS: BatchLimits = BatchLimits::of(10_000, 2_000_000);

/// One `Log-Type` of a workspace.
#[derive(Clone, Debug)]
pub struct DataCollector {
    pub(super) http: Http,
    pub(super) clock: Clock,
    address: Url,
    workspace: String,
    key: SecretString,
    log_type: String,
}

impl DataCollector {
    pub(super) fn new(
        workspace: &config::DataCollector,
        log_type: &str,
        http: Http,
        clock: Clock,
    ) -> Self {
        let mut address = workspace.endpoint.clone();
        address.set_path(&format!("{}api/logs", address.path()));
        address.set_query(Some("api-version=2016-04-01"));
        let config::DataCollector { workspace, key, .. } = workspace.clone();
        Self { http, clock, address, workspace, key, log_type: log_type.to_owned() }
    }

    /// Posts a JSON array once.
    pub(super) async fn post(&self, body: Bytes) -> Result<(), PostError> {
        let date = http_date(self.clock.now());
        let signed = workspace_key::authorization(&self.workspace, &self.key, body.len(), &date)
            .map_err(PostError::BadKey)?;
        let request = self
            .http
            .client
            .post(self.address.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("log-type", &self.log_type)
            .header("x-ms-date", date)
            .header(AUTHORIZATION, signed.expose_secret())
            .body(body);
        exchange(&self.http, request, 200, None, &self.clock).await
    }
}
