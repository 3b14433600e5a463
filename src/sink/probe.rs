//! A first test of a target, with nothing that readers would take for a row.
//!
//! An empty array where rows are posted; where they are files, an empty one
//! named `_doctor`, which readers of folders pass over. From a container it is
//! removed again; a bucket keeps it, because writing alone is all the key needs
//! to be good for.

use std::time::Duration;

use bytes::Bytes;

use super::answer::PostError;
use super::{Sink, Unsent};
use crate::domain::timestamp::Timestamp;
use crate::http::retry::GaveUp;

impl Sink {
    /// Tries address and right.
    ///
    /// # Errors
    ///
    /// [`Unsent`] with words for a person.
    pub async fn probe(&self, deployed_at: Timestamp) -> Result<(), Unsent> {
        let tried = match self {
            Self::LogsIngestion(_) | Self::DataCollector(_) | Self::EventHub(_) => {
                return self.send(Bytes::from_static(b"[]"), deployed_at).await;
            }
            Self::StorageBlob(files) => files.probe().await.map_err(once),
            Self::S3(files) => files.http.retry.run(|| files.probe()).await,
        };
        tried.map_err(|error| Unsent { advice: self.advise(&error.last, deployed_at), error })
    }
}

/// The container tries again by itself.
fn once(last: PostError) -> GaveUp<PostError> {
    GaveUp { attempts: 1, elapsed: Duration::ZERO, last }
}
