//! Blobs in a container of a storage account.
//!
//! Microsoft's client carries the requests over this process's one connection
//! pool. An append names the length the blob must have, so that one sent again
//! after a lost answer is refused with 412 instead of being written twice.
//! <https://learn.microsoft.com/rest/api/storageservices/append-block>

use std::sync::Arc;

use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, RetryOptions, Transport};
use azure_storage_blob::models::{
    AppendBlobClientAppendBlockOptions, AppendBlobClientCreateOptions, BlobClientDownloadOptions,
    BlobClientGetPropertiesResultHeaders as _, BlobContainerClientListBlobsOptions, HttpRange,
};
use azure_storage_blob::{BlobContainerClient, BlobContainerClientOptions};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use url::Url;

use super::blob_call::{Authorize, Ended, run};
use super::shared_key::BadKey;
use super::storage::{Access, Right};
use crate::config::StorageAuth;
use crate::http::retry::{GaveUp, RetryPolicy};

pub use super::blob_call::Failed;

/// The newest service version that Azurite 3.35 knows.
const VERSION: &str = "2025-11-05";
/// Times others may append between our look and our append. Nobody waits before
/// looking again, for the others do not wait either; two that had a backlog to
/// append each have been seen to lose nine times on end.
const RACES: usize = 64;

/// Blobs in a container, made by the first write. Clones share it.
///
/// What fails has been tried as often as the policy says.
#[derive(Clone)]
pub struct Container(Arc<Inner>);

/// A container that cannot be used as it is configured. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum NoContainer {
    /// The account's key is malformed.
    #[error(transparent)]
    BadKey(#[from] BadKey),
    /// The service's address can have no path.
    #[error("the address of the blob storage is not one a path can be added to")]
    BadAddress,
}

struct Inner {
    container: BlobContainerClient,
    retry: RetryPolicy,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Container").field(&self.0.container.url().as_str()).finish()
    }
}

impl Container {
    /// The container `name` of the Blob service at `service` (with a trailing
    /// slash), which need not exist yet. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`NoContainer`] if the account's key is not base64.
    pub fn new(
        service: &Url,
        auth: &StorageAuth,
        name: &str,
        access: Access,
    ) -> Result<Self, NoContainer> {
        let right = Right::of(auth, &access)?;
        let mut url = service.clone();
        url.set_path(&format!("{}{name}", service.path()));
        let client_options = ClientOptions {
            per_try_policies: vec![Arc::new(Authorize { right, clock: access.clock })],
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::new(access.http.client))),
            ..ClientOptions::default()
        };
        let options = BlobContainerClientOptions { client_options, version: VERSION.to_owned() };
        let container = BlobContainerClient::new(url, None, Some(options))
            .map_err(|_not_a_base| NoContainer::BadAddress)?;
        Ok(Self(Arc::new(Inner { container, retry: access.http.retry })))
    }

    /// Writes a blob whole, in place of what it held.
    ///
    /// # Errors
    ///
    /// [`Failed`]; the blob then holds what it held or `bytes`, never a part.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Failed> {
        let blob = self.0.container.blob_client(name);
        let upload = || async { blob.upload(bytes.clone().into(), None).await.map(|_stored| ()) };
        self.write(upload).await.map_err(last)
    }

    /// Reads a blob whole; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Failed`] if it cannot be read.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, Failed> {
        self.download(name, None).await.map_err(last)
    }

    /// The names that begin with `prefix`, in order.
    ///
    /// # Errors
    ///
    /// [`Failed`] if they cannot all be read.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, Failed> {
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
            Err(ended) if is_missing(&ended) => Ok(Vec::new()),
            Err(ended) => Err(last(ended)),
        }
    }

    /// Adds to the end of a blob, making it if it is missing. An appended blob
    /// is never [`put`](Self::put). Whoever else appends at the same time, what
    /// each adds is there whole and once.
    ///
    /// # Errors
    ///
    /// After [`Failed::Broken`], [`Failed::Garbled`] and 5xx `bytes` may have
    /// been added.
    pub async fn append(&self, name: &str, bytes: Bytes) -> Result<(), GaveUp<Failed>> {
        let blob = self.0.container.blob_client(name).append_blob_client();
        let mut races = 0;
        loop {
            let at = self.length(name).await.map_err(|ended| ended.gave_up)?;
            let append = || async {
                let options = AppendBlobClientAppendBlockOptions {
                    append_position: i64::try_from(at).ok(),
                    ..Default::default()
                };
                let (body, length) = (bytes.clone().into(), bytes.len() as u64);
                blob.append_block(body, length, Some(options)).await.map(|_stored| ())
            };
            let Err(ended) = self.write(append).await else { return Ok(()) };
            if !ended.with(412, &["AppendPositionConditionNotMet"]) || races == RACES {
                return Err(ended.gave_up);
            }
            if ended.in_doubt
                && self.holds(name, at, &bytes).await.map_err(|ended| ended.gave_up)?
            {
                return Ok(());
            }
            races += 1;
        }
    }

    /// Removes a blob; one that is missing counts as removed.
    ///
    /// # Errors
    ///
    /// [`Failed`] if it may still be there.
    pub async fn delete(&self, name: &str) -> Result<(), Failed> {
        let blob = self.0.container.blob_client(name);
        let remove = || async { blob.delete(None).await.map(|_removed| ()) };
        match run(&self.0.retry, remove).await {
            Err(ended) if !is_missing(&ended) => Err(last(ended)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The blob's length; a missing blob is made, empty and ready to append to.
    async fn length(&self, name: &str) -> Result<u64, Ended> {
        let blob = self.0.container.blob_client(name);
        let look = || async {
            // An answer that does not tell the length is none.
            let length = blob.get_properties(None).await?.content_length()?;
            length.ok_or_else(|| ErrorKind::Io.into_error())
        };
        match run(&self.0.retry, look).await {
            Ok(length) => return Ok(length),
            // A `HEAD` has no body, so the code may be missing.
            Err(ended) if is_missing(&ended) || ended.with(404, &[""]) => {}
            Err(ended) => return Err(ended),
        }
        let blob = blob.append_blob_client();
        let make = || async {
            let options = AppendBlobClientCreateOptions::default().if_not_exists();
            blob.create(Some(options)).await.map(|_made| ())
        };
        match self.write(make).await {
            // Made by another instance meanwhile, or by our own lost request;
            // the append finds out its length.
            Err(ended) if !ended.with(409, &["BlobAlreadyExists"]) => Err(ended),
            Ok(()) | Err(_) => Ok(0),
        }
    }

    /// Whether `bytes` stand at `at`: then our own append was done.
    async fn holds(&self, name: &str, at: u64, bytes: &Bytes) -> Result<bool, Ended> {
        let range = HttpRange::new(at, bytes.len() as u64);
        Ok(self.download(name, Some(range)).await?.is_some_and(|held| held == *bytes))
    }

    async fn download(&self, name: &str, range: Option<HttpRange>) -> Result<Option<Bytes>, Ended> {
        let blob = self.0.container.blob_client(name);
        let read = || async {
            let options = BlobClientDownloadOptions { range: range.clone(), ..Default::default() };
            blob.download(Some(options)).await?.body.collect().await
        };
        match run(&self.0.retry, read).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ended) if is_missing(&ended) => Ok(None),
            Err(ended) => Err(ended),
        }
    }

    /// Runs a write; where the container is missing, makes it and runs it again.
    async fn write<F>(&self, operation: impl Fn() -> F + Sync) -> Result<(), Ended>
    where
        F: Future<Output = azure_core::Result<()>> + Send,
    {
        match run(&self.0.retry, &operation).await {
            Err(ended) if ended.with(404, &["ContainerNotFound"]) => {}
            result => return result,
        }
        let make = || async { self.0.container.create(None).await.map(|_made| ()) };
        match run(&self.0.retry, make).await {
            Err(ended) if !ended.with(409, &["ContainerAlreadyExists"]) => Err(ended),
            Ok(()) | Err(_) => run(&self.0.retry, &operation).await,
        }
    }
}

fn is_missing(ended: &Ended) -> bool {
    ended.with(404, &["BlobNotFound", "ContainerNotFound"])
}

fn last(ended: Ended) -> Failed {
    ended.gave_up.last
}
