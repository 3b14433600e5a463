//! State in a table of the app's storage account.
//!
//! One partition of one table. A row is inserted with `POST`, replaced with
//! `PUT` and removed with `DELETE`, the last two under `If-Match`; several
//! changes go as one transaction. 409 and 412 mean that another run was
//! quicker. A missing table is made by the first write.
//!
//! A write whose answer was lost is sent again and then refused with 409 or
//! 412, because the first one had been done. So after such a doubt a refusal
//! is looked into: if every row holds what was to be written, it was.

use std::sync::Arc;

use reqwest::Method;
use url::Url;
use uuid::Uuid;

use super::table_batch::{Operation, operation, read, render};
use super::table_call::{Answer, Call, Ended, Failed, send};
use super::table_wire::{Next, at, key_of, page, page_url, row, row_url, single};
use super::{Change, ETag, Row, StoreError};
use crate::azure::storage::{Access, Right};
use crate::config::Storage;

/// Rows of one partition of a table. Clones share it.
#[derive(Clone, Debug)]
pub struct Table(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    access: Access,
    right: Right,
    /// The service's address, with a trailing slash.
    base: Url,
    name: String,
}

impl Table {
    /// The table `name` of `storage`, which need not exist yet. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unauthorized`] if the account's key is not base64.
    pub fn new(storage: &Storage, name: &str, access: Access) -> Result<Self, StoreError> {
        let right = Right::of(&storage.auth, &access)
            .map_err(|bad_key| StoreError::Unauthorized(Box::new(bad_key)))?;
        let (base, name) = (storage.tables.clone(), name.to_owned());
        Ok(Self(Arc::new(Inner { access, right, base, name })))
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Row>, StoreError> {
        let call = Call::get(row_url(&self.0.base, &self.0.name, key));
        let answer = match self.send(&call, |answer| read_single(answer, key)).await {
            Ok(answer) => answer,
            Err(Ended { last, .. }) if is_missing(&last) => return Ok(None),
            Err(Ended { last, .. }) => return Err(last.into()),
        };
        let (etag, json) = answer;
        row(key, etag.as_deref(), &json).map(Some)
    }

    pub(super) async fn scan(&self, from: &str, to: &str) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        let mut next = Next::default();
        loop {
            let call = Call::get(page_url(&self.0.base, &self.0.name, (from, to), &next));
            let (found, mark) = match self.send(&call, read_page).await {
                Ok(page) => page,
                Err(Ended { last, .. }) if is_missing(&last) => return Ok(Vec::new()),
                Err(Ended { last, .. }) => return Err(last.into()),
            };
            for (key, json) in found {
                rows.push(row(&key, None, &json)?);
            }
            if mark == Next::default() {
                break;
            }
            if mark == next {
                // Asking again would go on for ever.
                return Err(Failed::Unreadable { status: 200 }.into());
            }
            next = mark;
        }
        Ok(rows)
    }

    pub(super) async fn commit(&self, changes: &[Change]) -> Result<Vec<Option<ETag>>, StoreError> {
        let ended = match self.write(changes).await {
            Err(Ended { last, in_doubt }) if is_table_missing(&last) => {
                self.create().await?;
                let again = self.write(changes).await;
                again.map_err(|ended| Ended { in_doubt: ended.in_doubt || in_doubt, ..ended })
            }
            result => result,
        };
        let Ended { last, in_doubt } = match ended {
            Ok(versions) => return Ok(versions),
            Err(ended) => ended,
        };
        let conflict = is_conflict(&last);
        if in_doubt
            && (conflict || matches!(last, Failed::Unreadable { .. }))
            && let Some(versions) = self.already_written(changes).await?
        {
            return Ok(versions);
        }
        Err(if conflict { StoreError::Conflict } else { last.into() })
    }

    async fn write(&self, changes: &[Change]) -> Result<Vec<Option<ETag>>, Ended> {
        match changes {
            [] => Ok(Vec::new()),
            [change] => {
                let Operation { method, url, if_match, body } =
                    operation(&self.0.base, &self.0.name, change);
                let call = Call {
                    method,
                    url,
                    if_match: if_match.map(str::to_owned),
                    body: body.map(|body| ("application/json".to_owned(), body.into())),
                };
                self.send(&call, |answer| Ok(vec![version(answer, change)?])).await
            }
            several => {
                let id = Uuid::new_v4().to_string();
                let body = render(&self.0.base, &self.0.name, several, &id);
                let kind = format!("multipart/mixed; boundary=batch_{id}");
                let call = Call {
                    method: Method::POST,
                    url: at(&self.0.base, "$batch"),
                    if_match: None,
                    body: Some((kind, body.into())),
                };
                self.send(&call, |answer| read(answer.status, &answer.body, several)).await
            }
        }
    }

    /// Each change's version if every row is as `changes` leave it.
    ///
    /// Another run that wrote exactly the same is taken for this one: the state
    /// is what was asked for either way.
    async fn already_written(
        &self,
        changes: &[Change],
    ) -> Result<Option<Vec<Option<ETag>>>, StoreError> {
        let mut versions = Vec::with_capacity(changes.len());
        for change in changes {
            let held = self.get(change.key()).await?;
            if held.as_ref().map(|row| &row.fields) != change.fields() {
                return Ok(None);
            }
            versions.push(held.map(|row| row.etag));
        }
        Ok(Some(versions))
    }

    /// Makes the table. One that is there already is what was wanted.
    async fn create(&self) -> Result<(), StoreError> {
        let body = serde_json::json!({ "TableName": self.0.name }).to_string();
        let call = Call {
            method: Method::POST,
            url: at(&self.0.base, "Tables"),
            if_match: None,
            body: Some(("application/json".to_owned(), body.into())),
        };
        match self.send(&call, |_created| Ok(())).await {
            Ok(()) => Ok(()),
            Err(Ended { last: Failed::Refused { status: 409, code, .. }, .. })
                if code == "TableAlreadyExists" =>
            {
                Ok(())
            }
            Err(Ended { last, .. }) => Err(last.into()),
        }
    }

    async fn send<T: Send>(
        &self,
        call: &Call,
        read: impl Fn(&Answer) -> Result<T, Failed> + Sync,
    ) -> Result<T, Ended> {
        send(&self.0.access, &self.0.right, call, read).await
    }
}

type Json = serde_json::Map<String, serde_json::Value>;

fn read_single(answer: &Answer, key: &str) -> Result<(Option<String>, Json), Failed> {
    let json = single(&answer.body).filter(|json| key_of(json) == Some(key));
    let json = json.ok_or(Failed::Unreadable { status: answer.status })?;
    Ok((answer.header("etag").map(str::to_owned), json))
}

fn read_page(answer: &Answer) -> Result<(Vec<(String, Json)>, Next), Failed> {
    let unreadable = || Failed::Unreadable { status: answer.status };
    let rows = page(&answer.body).ok_or_else(unreadable)?;
    let keyed = |json: Json| key_of(&json).map(str::to_owned).map(|key| (key, json));
    let rows = rows.into_iter().map(keyed).collect::<Option<_>>().ok_or_else(unreadable)?;
    let mark = |name| answer.header(name).filter(|mark| !mark.is_empty()).map(str::to_owned);
    let next = Next {
        partition: mark("x-ms-continuation-nextpartitionkey"),
        row: mark("x-ms-continuation-nextrowkey"),
    };
    Ok((rows, next))
}

/// The version a single change was answered with.
fn version(answer: &Answer, change: &Change) -> Result<Option<ETag>, Failed> {
    let unreadable = Failed::Unreadable { status: answer.status };
    match (answer.status, change, answer.header("etag")) {
        (204, Change::Delete { .. }, _) => Ok(None),
        (201 | 204, Change::Insert { .. } | Change::Replace { .. }, Some(etag)) => {
            Ok(Some(ETag(etag.to_owned())))
        }
        _ => Err(unreadable),
    }
}

fn is_table_missing(failed: &Failed) -> bool {
    matches!(failed, Failed::Refused { status: 404, code, .. } if code == "TableNotFound")
}

/// Only in the service's own words: a proxy's 404 must not read as "no state
/// yet", which would begin the export anew.
fn is_missing(failed: &Failed) -> bool {
    is_table_missing(failed)
        || matches!(failed, Failed::Refused { status: 404, code, .. }
            if code == "ResourceNotFound" || code == "EntityNotFound")
}

/// Whether the row is not as it was read: there (409), changed (412) or gone.
fn is_conflict(failed: &Failed) -> bool {
    let changed = matches!(failed, Failed::Refused { status: 412, .. });
    let there = matches!(failed, Failed::Refused { status: 409, code, .. }
        if code == "EntityAlreadyExists");
    changed || there || (is_missing(failed) && !is_table_missing(failed))
}
