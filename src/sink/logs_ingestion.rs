//! Delivery through the Logs Ingestion API.
//!
//! `POST {endpoint}dataCollectionRules/{rule}/streams/{stream}?api-version=2023-01-01`
//! with a bearer token for `https://monitor.azure.com` and a JSON array, 1 MB at
//! most before and after compression; 204 when taken. 403 until the role
//! assignment has taken effect (up to 30 minutes), 404 for an unknown rule or
//! stream, 413 above the limit, 429 with `Retry-After`. Columns the stream does
//! not declare and what a field has beyond 64 KB are dropped without a word.
//! <https://learn.microsoft.com/azure/azure-monitor/logs/logs-ingestion-api-overview>

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use secrecy::ExposeSecret as _;
use url::Url;
use uuid::Uuid;

use super::answer::{PostError, exchange};
use crate::azure::credential::Credential;
use crate::clock::Clock;
use crate::config;
use crate::domain::batch::BatchLimits;
use crate::http::Http;

/// Whom a token must be for.
pub const AUDIENCE: &str = "https://monitor.azure.com";
/// Below the service's 1,048,576 bytes, so that no reading of "1 MB" is
/// exceeded.
pub(super) const LIMITS: BatchLimits = BatchLimits::of(10_000, 1_000_000);

/// A full batch of the embedded Defender's alerts takes 0.47 ms and shrinks
/// 33-fold; level 3 takes a third longer for 39-fold, level 1 a fifth less for
/// 20-fold. Too little to move off the async threads.
const LEVEL: Compression = Compression::new(2);

/// One stream of a data collection rule.
#[derive(Clone, Debug)]
pub struct LogsIngestion {
    pub(super) http: Http,
    pub(super) clock: Clock,
    credential: Credential,
    address: Url,
}

impl LogsIngestion {
    pub(super) fn new(
        rule: &config::LogsIngestion,
        stream: &str,
        http: Http,
        clock: Clock,
        credential: Credential,
    ) -> Self {
        let mut address = rule.endpoint.clone();
        let base = address.path();
        address.set_path(&format!("{base}dataCollectionRules/{}/streams/{stream}", rule.rule_id));
        address.set_query(Some("api-version=2023-01-01"));
        Self { http, clock, credential, address }
    }

    pub(super) fn forget_token(&self) {
        self.credential.forget(AUDIENCE);
    }

    /// Posts a gzipped JSON array once.
    pub(super) async fn post(&self, gzipped: Bytes) -> Result<(), PostError> {
        let token = self.credential.token(AUDIENCE).await.map_err(PostError::NoToken)?;
        let id = Uuid::new_v4();
        let request = self
            .http
            .client
            .post(self.address.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_ENCODING, "gzip")
            .header("x-ms-client-request-id", id.to_string())
            .bearer_auth(token.expose_secret())
            .body(gzipped);
        exchange(&self.http, request, 204, Some(id), &self.clock).await
    }
}

/// Compresses a body, once however often it is sent.
///
/// # Errors
///
/// None that writing to memory can cause.
pub fn gzip(body: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), LEVEL);
    encoder.write_all(body)?;
    encoder.finish().map(Bytes::from)
}
