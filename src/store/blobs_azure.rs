//! Blobs in a container of the app's storage account.
//!
//! Microsoft's client carries the requests over this process's one connection
//! pool. An append names the length the blob must have, so that one sent again
//! after a lost answer is refused with 412 instead of being written twice.
//! <https://learn.microsoft.com/rest/api/storageservices/append-block>

use std::sync::Arc;

use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, RequestContent, RetryOptions, Transport};
use azure_storage_blob::models::{
    AppendBlobClientAppendBlockOptions, AppendBlobClientCreateOptions, BlobClientDownloadOptions,
    BlobClientGetPropertiesResultHeaders as _, BlobContainerClientListBlobsOptions, HttpRange,
};
use azure_storage_blob::{BlobContainerClient, BlobContainerClientOptions};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::account::{Access, Right};
use super::blob_call::{Authorize, Ended, Failed, run};
use super::blobs::BlobError;
use crate::config::Storage;
use crate::http::retry::RetryPolicy;

/// The newest service version that Azurite 3.35 knows.
const VERSION: &str = "2025-11-05";
/// Times another instance may append between our look and our append.
const RACES: usize = 8;

/// Blobs in a container, made by the first write. Clones share it.
#[derive(Clone)]
pub struct AzureBlobs(Arc<Inner>);

struct Inner {
    container: BlobContainerClient,
    retry: RetryPolicy,
}

impl std::fmt::Debug for AzureBlobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AzureBlobs").field(&self.0.container.url().as_str()).finish()
    }
}

impl AzureBlobs {
    /// The container `name` of `storage`, which need not exist yet. Nothing is
    /// sent.
    ///
    /// # Errors
    ///
    /// [`BlobError::Unauthorized`] if the account's key is not base64.
    pub fn new(storage: &Storage, name: &str, access: Access) -> Result<Self, BlobError> {
        let right = Right::of(storage, &access)
            .map_err(|bad_key| BlobError::Unauthorized(Box::new(bad_key)))?;
        let mut url = storage.blobs.clone();
        url.set_path(&format!("{}{name}", storage.blobs.path()));
        let client_options = ClientOptions {
            per_try_policies: vec![Arc::new(Authorize { right, clock: access.clock })],
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::new(access.http.client))),
            ..ClientOptions::default()
        };
        let options = BlobContainerClientOptions { client_options, version: VERSION.to_owned() };
        let container = BlobContainerClient::new(url, None, Some(options))
            .map_err(|_not_a_base| BlobError::BadName)?;
        Ok(Self(Arc::new(Inner { container, retry: access.http.retry })))
    }

    pub(super) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), BlobError> {
        let blob = self.0.container.blob_client(name);
        let upload = || async {
            blob.upload(RequestContent::from(bytes.to_vec()), None).await.map(|_stored| ())
        };
        Ok(self.write(upload).await.map_err(|ended| ended.last)?)
    }

    pub(super) async fn get(&self, name: &str) -> Result<Option<Bytes>, BlobError> {
        self.download(name, None).await
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        let listing = || async {
            let options = BlobContainerClientListBlobsOptions {
                prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
                ..Default::default()
            };
            let blobs = self.0.container.list_blobs(Some(options))?;
            blobs.try_filter_map(async |blob| Ok(blob.name)).try_collect::<Vec<_>>().await
        };
        match run(&self.0.retry, listing).await {
            Ok(mut names) => {
                names.sort();
                Ok(names)
            }
            Err(Ended { last, .. }) if is_missing(&last) => Ok(Vec::new()),
            Err(Ended { last, .. }) => Err(last.into()),
        }
    }

    pub(super) async fn append(&self, name: &str, bytes: Bytes) -> Result<(), BlobError> {
        let blob = self.0.container.blob_client(name).append_blob_client();
        let mut races = 0;
        loop {
            let at = self.length(name).await?;
            let append = || async {
                let options = AppendBlobClientAppendBlockOptions {
                    append_position: i64::try_from(at).ok(),
                    ..Default::default()
                };
                let (body, length) = (RequestContent::from(bytes.to_vec()), bytes.len() as u64);
                blob.append_block(body, length, Some(options)).await.map(|_stored| ())
            };
            let Ended { last, in_doubt } = match self.write(append).await {
                Ok(()) => return Ok(()),
                Err(ended) => ended,
            };
            if !last.is(412, &["AppendPositionConditionNotMet"]) || races == RACES {
                return Err(last.into());
            }
            if in_doubt && self.holds(name, at, &bytes).await? {
                return Ok(());
            }
            races += 1;
        }
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), BlobError> {
        let blob = self.0.container.blob_client(name);
        let remove = || async { blob.delete(None).await.map(|_removed| ()) };
        match run(&self.0.retry, remove).await {
            Err(Ended { last, .. }) if !is_missing(&last) => Err(last.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The blob's length; a missing blob is made, empty and ready to append to.
    async fn length(&self, name: &str) -> Result<u64, BlobError> {
        let blob = self.0.container.blob_client(name);
        let look = || async {
            // An answer that does not tell the length is none.
            let length = blob.get_properties(None).await?.content_length()?;
            length.ok_or_else(|| ErrorKind::Io.into_error())
        };
        match run(&self.0.retry, look).await {
            Ok(length) => return Ok(length),
            // A `HEAD` has no body, so the code may be missing.
            Err(Ended { last, .. }) if is_missing(&last) || last.is(404, &[""]) => {}
            Err(Ended { last, .. }) => return Err(last.into()),
        }
        let blob = blob.append_blob_client();
        let make = || async {
            let options = AppendBlobClientCreateOptions::default().if_not_exists();
            blob.create(Some(options)).await.map(|_made| ())
        };
        match self.write(make).await {
            // Made by another instance meanwhile, or by our own lost request;
            // the append finds out its length.
            Err(Ended { last, .. }) if !last.is(409, &["BlobAlreadyExists"]) => Err(last.into()),
            Ok(()) | Err(_) => Ok(0),
        }
    }

    /// Whether `bytes` stand at `at`: then our own append was done.
    async fn holds(&self, name: &str, at: u64, bytes: &Bytes) -> Result<bool, BlobError> {
        let range = HttpRange::new(at, bytes.len() as u64);
        Ok(self.download(name, Some(range)).await?.is_some_and(|held| held == *bytes))
    }

    async fn download(
        &self,
        name: &str,
        range: Option<HttpRange>,
    ) -> Result<Option<Bytes>, BlobError> {
        let blob = self.0.container.blob_client(name);
        let read = || async {
            let options = BlobClientDownloadOptions { range: range.clone(), ..Default::default() };
            blob.download(Some(options)).await?.body.collect().await
        };
        match run(&self.0.retry, read).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Ended { last, .. }) if is_missing(&last) => Ok(None),
            Err(Ended { last, .. }) => Err(last.into()),
        }
    }

    /// Runs a write; where the container is missing, makes it and runs it again.
    async fn write<F>(&self, operation: impl Fn() -> F + Sync) -> Result<(), Ended>
    where
        F: Future<Output = azure_core::Result<()>> + Send,
    {
        match run(&self.0.retry, &operation).await {
            Err(Ended { last, .. }) if last.is(404, &["ContainerNotFound"]) => {}
            result => return result,
        }
        let make = || async { self.0.container.create(None).await.map(|_made| ()) };
        match run(&self.0.retry, make).await {
            Err(ended) if !ended.last.is(409, &["ContainerAlreadyExists"]) => Err(ended),
            Ok(()) | Err(_) => run(&self.0.retry, &operation).await,
        }
    }
}

fn is_missing(failed: &Failed) -> bool {
    failed.is(404, &["BlobNotFound", "ContainerNotFound"])
}
