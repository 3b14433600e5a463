//! Delivery into files of an S3 bucket: JSON lines, an object a batch.
//!
//! `PUT {prefix}{table}/date=2026-11-21/hour=10/{digest}.jsonl`, signed with
//! Signature Version 4; 200 with an `ETag` when stored. The name is made of what
//! the rows are of, so that a batch sent again takes its own place. 403 for a
//! wrong key, signature or clock (15 minutes) and for a missing right, 404
//! without the bucket, 301 or 400 from another region, 503 `SlowDown` to come
//! back later; errors are XML with a `Code`.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>
//!
//! The signature is dated by the machine's clock: the library takes no other.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential, Checksum};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, CredentialProvider, ObjectStore as _, PutOptions, RetryConfig,
};
use secrecy::{ExposeSecret as _, SecretString};

use super::Parcel;
use super::answer::PostError;
use super::s3_call::{Connector, Kept};
use crate::clock::Clock;
use crate::config;
use crate::domain::batch::BatchLimits;
use crate::domain::lines;
use crate::http::Http;

/// Far below the 5 GB of one `PUT`: memory is what counts here. The largest
/// alert that is read (16 MiB) fits alone, whole.
pub(super) const LIMITS: BatchLimits =
    BatchLimits { rows: 10_000, bytes: 4_000_000, lone_row: 32 * 1024 * 1024 };

/// A bucket of files.
#[derive(Clone)]
pub struct S3 {
    pub(super) http: Http,
    pub(super) clock: Clock,
    store: Arc<AmazonS3>,
    bucket: String,
    folder: String,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

/// The library refuses the settings. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("the S3 bucket, region or endpoint cannot be used as it is configured")]
pub struct NoBucket;

impl S3 {
    pub(super) fn new(target: &config::S3, http: Http, clock: Clock) -> Result<Self, NoBucket> {
        let keys =
            Keys { id: target.access_key_id.clone(), secret: target.secret_access_key.clone() };
        let connector = Connector { http: http.clone(), clock: clock.clone() };
        let builder = AmazonS3Builder::new()
            .with_bucket_name(&target.bucket)
            .with_region(&target.region)
            .with_credentials(Arc::new(keys))
            .with_http_connector(connector)
            .with_checksum_algorithm(Checksum::SHA256)
            // This crate has one retry loop.
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        let builder = match &target.endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint.as_str()),
            // A dot in the name is one level more than Amazon's certificate covers.
            None => builder.with_virtual_hosted_style_request(!target.bucket.contains('.')),
        };
        let store = Arc::new(builder.build().map_err(|_said_with_values| NoBucket)?);
        let folder = format!("{}{}", target.prefix, target.table);
        Ok(Self { http, clock, store, bucket: target.bucket.clone(), folder })
    }

    /// Stores the lines as one object, once.
    pub(super) async fn put(&self, parcel: &Parcel) -> Result<(), PostError> {
        let folder = lines::folder(&self.folder, parcel.packed_at);
        let name = format!("{folder}{}.jsonl", parcel.digest.hex());
        self.store(&name, parcel.body.clone()).await
    }

    /// Stores an empty object, once. It stays: nothing here may delete.
    pub(super) async fn probe(&self) -> Result<(), PostError> {
        self.store(&format!("{}/_doctor", self.folder), Bytes::new()).await
    }

    async fn store(&self, name: &str, body: Bytes) -> Result<(), PostError> {
        let name = Path::from(name);
        let kind = (Attribute::ContentType, "application/x-ndjson");
        let options =
            PutOptions { attributes: Attributes::from_iter([kind]), ..Default::default() };
        let stored = self.store.put_opts(&name, body.into(), options).await;
        stored.map(|_stored| ()).map_err(|error| kept_in(&error).unwrap_or(PostError::Garbled))
    }
}

/// What [`Connector`] hid in the library's error. Nothing else of that is
/// used: it quotes the answer.
fn kept_in(error: &object_store::Error) -> Option<PostError> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(kept) = error.downcast_ref::<Kept>() {
            return kept.take();
        }
        next = error.source();
    }
    None
}

/// The access key.
#[derive(Debug)]
struct Keys {
    id: String,
    secret: SecretString,
}

#[async_trait]
impl CredentialProvider for Keys {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let secret_key = self.secret.expose_secret().to_owned();
        Ok(Arc::new(AwsCredential { key_id: self.id.clone(), secret_key, token: None }))
    }
}
