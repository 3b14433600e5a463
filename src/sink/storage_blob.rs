//! Delivery into files of a storage account: JSON lines, an append blob an hour.
//!
//! `{table}/date=2026-11-21/hour=10/alerts.jsonl`; each batch is one `Append
//! Block`, so a line is there whole or not at all. A blob takes 50,000 blocks of
//! 100 MiB each and then answers 409 `BlockCountExceedsLimit`: the hour goes on
//! in `alerts-1.jsonl`. An append names the length the blob must have, so that
//! one whose answer was lost is recognised, and of two instances that append at
//! once neither overwrites the other.
//! <https://learn.microsoft.com/rest/api/storageservices/append-block>

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::Parcel;
use super::answer::{PostError, Refusal};
use crate::azure::blobs::{Container, Failed, NoContainer};
use crate::azure::storage::Access;
use crate::clock::Clock;
use crate::config::{self, StorageAuth};
use crate::domain::batch::BatchLimits;
use crate::domain::lines;
use crate::http::retry::{GaveUp, RetryPolicy};

/// Batches are gathered to what also older versions of the service take in one
/// block (4 MiB). The largest alert that is read (16 MiB) fits alone, whole.
pub(super) const LIMITS: BatchLimits =
    BatchLimits { rows: 10_000, bytes: 4_000_000, lone_row: 32 * 1024 * 1024 };

/// Blobs tried for one hour: fifty million appends are no alerts.
const MOST: u32 = 1_000;

/// A container of files.
#[derive(Clone, Debug)]
pub struct StorageBlob {
    pub(super) clock: Clock,
    pub(super) retry: RetryPolicy,
    container: Container,
    table: String,
    by_key: bool,
    open: Arc<Mutex<Open>>,
}

/// The blob of the hour at hand.
#[derive(Debug, Default)]
struct Open {
    folder: String,
    /// How many blobs of the hour are full.
    number: u32,
}

impl StorageBlob {
    pub(super) fn new(target: &config::StorageBlob, access: Access) -> Result<Self, NoContainer> {
        let (clock, retry) = (access.clock.clone(), access.http.retry);
        let container = Container::new(&target.service, &target.auth, &target.container, access)?;
        let by_key = matches!(target.auth, StorageAuth::SharedKey { .. });
        let open = Arc::default();
        Ok(Self { clock, retry, container, table: target.table.clone(), by_key, open })
    }

    /// Whether the account's key signs, rather than the app's identity.
    pub(super) fn signs_with_key(&self) -> bool {
        self.by_key
    }

    /// Writes and removes an empty file.
    pub(super) async fn probe(&self) -> Result<(), PostError> {
        let name = format!("{}/_doctor", self.table);
        self.container.put(&name, Bytes::new()).await?;
        Ok(self.container.delete(&name).await?)
    }

    /// Appends the lines, and tries again by itself: only the container knows
    /// whether an append that nobody answered was carried out.
    pub(super) async fn append(&self, parcel: &Parcel) -> Result<(), GaveUp<PostError>> {
        let folder = lines::folder(&self.table, parcel.packed_at);
        // Held while appending: of several at once all but one would be refused
        // and sent again.
        let mut open = self.open.lock().await;
        if open.folder != folder {
            *open = Open { folder, number: 0 };
        }
        loop {
            let appended = self.container.append(&open.name(), parcel.body.clone()).await;
            let Err(GaveUp { attempts, elapsed, last }) = appended else { return Ok(()) };
            if !is_full(&last) || open.number == MOST {
                return Err(GaveUp { attempts, elapsed, last: last.into() });
            }
            open.number += 1;
        }
    }
}

impl Open {
    fn name(&self) -> String {
        match self.number {
            0 => format!("{}alerts.jsonl", self.folder),
            number => format!("{}alerts-{number}.jsonl", self.folder),
        }
    }
}

fn is_full(failed: &Failed) -> bool {
    matches!(failed, Failed::Refused { status: 409, code, .. } if code == "BlockCountExceedsLimit")
}

impl From<Failed> for PostError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Broken(broken) => Self::NoAnswer { request: None, broken },
            Failed::Garbled => Self::Garbled,
            Failed::Refused { status, code, after } => {
                Self::Refused(Refusal { status, code, request: None, retry_after: after })
            }
            Failed::NoToken(error) => Self::NoToken(error),
        }
    }
}
