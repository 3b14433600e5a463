//! Table and container, by a row and a blob that are written and removed.
//!
//! The table must refuse what names an old version: on that alone rests that of
//! two instances only one moves the position.

use std::error::Error;

use bytes::Bytes;
use uuid::Uuid;

use super::{Kept, Patient, may_not_look};
use crate::azure::credential::CredentialError;
use crate::domain::advice::Advice;
use crate::domain::check::{Check, Section, Verdict};
use crate::pipeline;
use crate::store::{BlobError, Blobs, Change, ETag, Fields, Store, StoreError, Value};

const SECTION: Section = Section::Storage;
const TABLE: &str = "table";
const CONTAINER: &str = "container";
/// The probe's rows begin with it; nothing else reads them.
const PREFIX: &str = "Doctor.";
const AFTER: &str = "Doctor/";

/// Why the table is not as it must be.
#[derive(Debug)]
enum Wrong {
    /// It failed.
    Failed(StoreError),
    /// It took what it had to refuse, or does not hold what it took.
    Misbehaves(&'static str),
}

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// `table` and `container`.
pub(super) async fn checks(patient: &Patient) -> Vec<Check> {
    let (Some(kept), Some(config)) = (&patient.kept, &patient.parts.storage) else {
        let check = |name| Check::not_checked(name, SECTION, "settings are wrong");
        return vec![check(TABLE), check(CONTAINER)];
    };
    let here = match config.account {
        Some(_) => "",
        None => " State is kept on this machine: AzureWebJobsStorage is not set.",
    };
    let (table, container) = tokio::join!(
        patient.line(TABLE, SECTION, table(patient, kept, here)),
        patient.line(CONTAINER, SECTION, container(patient, kept, here)),
    );
    vec![table, container]
}

async fn table(patient: &Patient, kept: &Kept, here: &str) -> Check {
    let outcome = match &kept.store {
        Ok(store) => probe(store).await,
        Err(error) => return unusable(error),
    };
    match outcome {
        Ok(()) => Check::ok(
            TABLE,
            SECTION,
            format!(
                "A row was written, read, changed and removed; what named an old version of it (ETag) was refused.{here}"
            ),
        ),
        Err(Wrong::Failed(StoreError::Refused { status: 403, .. }))
            if patient.uses_storage_as_a_person() =>
        {
            may_not_look(TABLE, SECTION, "The state table", 403)
        }
        Err(Wrong::Failed(error)) => unusable(&error),
        Err(Wrong::Misbehaves(how)) => Check::new(
            TABLE,
            SECTION,
            Verdict::Fail,
            format!(
                "The state table {how}. Two instances that run at once could then lose each other's position."
            ),
            "Check that AzureWebJobsStorage is a real storage account and that no proxy answers in its place.",
        ),
    }
}

fn unusable(error: &StoreError) -> Check {
    if let StoreError::Unauthorized(why) = error
        && nobody_here(why.as_ref())
    {
        return nobody(TABLE);
    }
    Check::advised(TABLE, SECTION, Verdict::Fail, pipeline::storage(error))
}

/// Writes a row, changes and removes it, and tries each with an old version.
async fn probe(store: &Store) -> Result<(), Wrong> {
    let old = store.scan(PREFIX, AFTER).await?;
    let key = format!("{PREFIX}{}", Uuid::new_v4());
    let fields = |text: &str| Fields::from([("Probe".to_owned(), Value::Text(text.to_owned()))]);
    let insert = Change::Insert { key: key.clone(), fields: fields("written") };
    let first = written(store, insert.clone()).await?;
    refused(store, insert, "took a new row in place of one that was there").await?;
    let replace = |etag| Change::Replace { key: key.clone(), etag, fields: fields("changed") };
    let second = written(store, replace(first.clone())).await?;
    refused(store, replace(first.clone()), "took a change to an old version of a row").await?;
    let held = store.get(&key).await?;
    if held.is_none_or(|row| row.fields != fields("changed")) {
        return Err(Wrong::Misbehaves("does not hold what was written to it"));
    }
    let delete = |etag| Change::Delete { key: key.clone(), etag };
    refused(store, delete(first), "removed a row by an old version").await?;
    store.commit(&[delete(second)]).await?;
    // What a probe that was cut off left behind.
    for row in old {
        store.commit(&[Change::Delete { key: row.key, etag: row.etag }]).await?;
    }
    Ok(())
}

async fn written(store: &Store, change: Change) -> Result<ETag, Wrong> {
    let version = store.commit(&[change]).await?.pop().flatten();
    version.ok_or(Wrong::Misbehaves("does not name the version it wrote (ETag)"))
}

async fn refused(store: &Store, change: Change, otherwise: &'static str) -> Result<(), Wrong> {
    match store.commit(&[change]).await {
        Err(StoreError::Conflict) => Ok(()),
        Ok(_) => Err(Wrong::Misbehaves(otherwise)),
        Err(error) => Err(error.into()),
    }
}

async fn container(patient: &Patient, kept: &Kept, here: &str) -> Check {
    let outcome = match &kept.blobs {
        Ok(blobs) => blob_probe(blobs).await,
        Err(error) => return no_blobs(error),
    };
    match outcome {
        Ok(true) => {
            let reason = format!("A blob was written, read and removed.{here}");
            Check::ok(CONTAINER, SECTION, reason)
        }
        Ok(false) => Check::new(
            CONTAINER,
            SECTION,
            Verdict::Fail,
            "The container does not hold what was written to it.",
            "Check that AzureWebJobsStorage is a real storage account and that no proxy answers in its place.",
        ),
        Err(BlobError::Refused { status: 403, .. }) if patient.uses_storage_as_a_person() => {
            may_not_look(CONTAINER, SECTION, "The container", 403)
        }
        Err(error) => no_blobs(&error),
    }
}

fn no_blobs(error: &BlobError) -> Check {
    if let BlobError::Unauthorized(why) = error
        && nobody_here(why.as_ref())
    {
        return nobody(CONTAINER);
    }
    let Advice { message, next_step } = pipeline::container(error);
    let reason = format!("{message} Alerts that a target refuses could not be set aside.");
    Check::new(CONTAINER, SECTION, Verdict::Fail, reason, next_step)
}

/// Whether the blob holds what was written.
async fn blob_probe(blobs: &Blobs) -> Result<bool, BlobError> {
    let name = format!("doctor/{}", Uuid::new_v4());
    blobs.put(&name, Bytes::from_static(b"written by doctor")).await?;
    let held = blobs.get(&name).await?;
    blobs.delete(&name).await?;
    let gone = blobs.get(&name).await?.is_none();
    Ok(gone && held.as_deref() == Some(b"written by doctor"))
}

/// Whether this process simply has no identity.
fn nobody_here(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(CredentialError::NotSignedIn(_)))
}

fn nobody(name: &'static str) -> Check {
    Check::not_checked(name, SECTION, super::targets::NOBODY)
}
