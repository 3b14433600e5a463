//! What was set aside, sent again: rows a target refused, and whole alerts
//! whose row had to be cut.
//!
//! One row a request, so that each is judged by itself. A document is moved to
//! `replayed/` once its target took the row: written there first, deleted
//! after. A whole alert stays, since rows name it; a mark is written there.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::json;
use tracing::info;
use uuid::Uuid;

use super::Exporter;
use super::failed::{failed, storage};
use crate::domain::advice::Advice;
use crate::domain::alert::Alert;
use crate::domain::batch::Batcher;
use crate::domain::ledger::{Digest, Entry, ExportKey};
use crate::domain::progress::NotNow;
use crate::domain::scope::Ruling;
use crate::domain::shape::{Owner, Stamp};
use crate::domain::timestamp::Timestamp;
use crate::sink::Sink;
use crate::sink::delivery::{Delivered, RefusedRow, SinkFailed, Standing};
use crate::sink::quarantine::{Holds, SetAside};
use crate::store::{BlobError, StoreError};

const REFUSED: &str = "quarantine/";
const CUT: &str = "alerts/";

/// One document that can be sent again. Holds nothing of an alert but its id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    /// The blob.
    pub name: String,
    /// Of what is kept, as the ledger tells things apart, in hex.
    pub digest: String,
    /// Why it is kept.
    pub why: Why,
}

/// Why something is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Why {
    /// A target refused the row.
    Refused {
        /// When, the last time.
        at: Timestamp,
        /// Which target.
        sink: String,
        /// What it said.
        reason: String,
        /// Of which alert, where that can be read.
        alert_id: Option<String>,
    },
    /// The row was cut and delivered; this is the whole alert.
    Cut {
        /// Of the alert's last update.
        day: String,
        /// It was sent again before.
        replayed: bool,
    },
    /// It is no document of this program's.
    Unreadable,
}

/// What became of one document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Its target took it.
    Sent,
    /// Its target took it before, and only the mark was missing.
    SentBefore,
    /// The target refuses it again; it stays, with this reason.
    Refused(String),
    /// Its target is not one of the settings'; it stays.
    NoSuchTarget(String),
    /// Its device group may not leave; it stays.
    Withheld,
    /// The target takes nothing now, or the export was halted meanwhile; it
    /// stays.
    NotTaken(Advice),
    /// It is no document of this program's; it stays.
    Unreadable,
    /// It is not there any more.
    Gone,
}

/// Why nothing was sent again.
#[derive(Debug, thiserror::Error)]
pub enum CannotReplay {
    /// A person must resume first.
    #[error("the export is halted since {}, and nothing leaves until a person resumes it", since.to_the_second())]
    Halted {
        /// When it stopped.
        since: Timestamp,
    },
    /// The state cannot be read.
    #[error("the state could not be read")]
    State(#[from] StoreError),
}

/// One row for one target.
struct Row<'a> {
    sink: &'a Sink,
    bytes: Vec<u8>,
    entry: Entry,
}

/// What one replay knows of the targets.
struct Targets {
    deployed_at: Timestamp,
    /// Those that took nothing, and what to say of them.
    down: BTreeMap<&'static str, Advice>,
}

impl Exporter {
    /// What can be sent again: refused rows, oldest first, then whole alerts.
    ///
    /// # Errors
    ///
    /// [`BlobError`] if it cannot all be read.
    pub async fn kept(&self) -> Result<Vec<Kept>, BlobError> {
        let mut kept = Vec::new();
        for name in self.blobs.list(REFUSED).await? {
            if let Some(bytes) = self.blobs.get(&name).await? {
                kept.push(self.refused(name, &bytes));
            }
        }
        let marks = self.blobs.list(&replayed(CUT)).await?;
        for name in self.blobs.list(CUT).await? {
            let rest = name.strip_prefix(CUT).and_then(|rest| rest.strip_suffix(".json"));
            let Some((day, digest)) = rest.and_then(|rest| rest.split_once('/')) else { continue };
            let replayed = marks.binary_search(&replayed(&name)).is_ok();
            let why = Why::Cut { day: day.to_owned(), replayed };
            kept.push(Kept { digest: digest.to_owned(), why, name });
        }
        Ok(kept)
    }

    fn refused(&self, name: String, bytes: &[u8]) -> Kept {
        let Ok(document) = SetAside::read(bytes) else {
            return Kept { name, digest: String::new(), why: Why::Unreadable };
        };
        let alert_id = self.owner(&document).and_then(|owner| owner.alert_id);
        let SetAside { reason, sink, export_key_digest: digest, at, .. } = document;
        Kept { name, digest, why: Why::Refused { at, sink, reason, alert_id } }
    }

    /// Whose it is; `None` for a row of a target there is none of now.
    fn owner(&self, document: &SetAside) -> Option<Owner> {
        match document.holds {
            Holds::Row => Some(self.sink(&document.sink)?.shape().owner(&document.row())),
            Holds::Alert => Alert::parse(document.row()).ok().map(|alert| Owner::of(&alert)),
        }
    }

    fn sink(&self, name: &str) -> Option<&Sink> {
        self.sinks.iter().find(|sink| sink.name() == name)
    }

    /// Sends `chosen` again, one after the other, and says what became of each.
    /// One whose storage fails is told like the others: nothing is deleted
    /// before its target took it and the mark is written.
    ///
    /// # Errors
    ///
    /// [`CannotReplay`]; nothing was sent.
    pub async fn replay(
        &self,
        chosen: &[Kept],
    ) -> Result<Vec<Result<Outcome, BlobError>>, CannotReplay> {
        let checkpoint = self.state.checkpoint().await?;
        let deployed_at = checkpoint.as_ref().map_or(self.clock.now(), |it| it.deployed_at);
        if let Some(since) = checkpoint.and_then(|it| self.halted(&it.progress)) {
            return Err(CannotReplay::Halted { since });
        }
        let mut targets = Targets { deployed_at, down: BTreeMap::new() };
        let mut outcomes = Vec::with_capacity(chosen.len());
        for kept in chosen {
            if let Some(why) = self.stopped().await {
                outcomes.push(Ok(Outcome::NotTaken(why)));
                continue;
            }
            let outcome = match &kept.why {
                Why::Refused { .. } => self.replay_refused(&kept.name, &mut targets).await,
                Why::Cut { .. } => self.replay_cut(&kept.name, &mut targets).await,
                Why::Unreadable => Ok(Outcome::Unreadable),
            };
            info!(blob = kept.name, sent = matches!(outcome, Ok(Outcome::Sent)), "sent again");
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Why nothing may be sent now, if so: a live run may meet a foreign alert
    /// while documents are on their way.
    async fn stopped(&self) -> Option<Advice> {
        match self.state.checkpoint().await {
            Ok(checkpoint) => {
                let since = checkpoint.and_then(|it| self.halted(&it.progress))?;
                Some(failed(&NotNow::Halted { since }.into(), self.source.api()).1)
            }
            Err(error) => Some(storage(&error)),
        }
    }

    async fn replay_refused(
        &self,
        name: &str,
        targets: &mut Targets,
    ) -> Result<Outcome, BlobError> {
        let Some(bytes) = self.blobs.get(name).await? else { return Ok(Outcome::Gone) };
        let Ok(mut document) = SetAside::read(&bytes) else { return Ok(Outcome::Unreadable) };
        let mark = self.blobs.get(&replayed(name)).await?;
        let marked = mark.and_then(|mark| SetAside::read(&mark).ok());
        if marked.is_some_and(|marked| marked.at == document.at) {
            self.blobs.delete(name).await?;
            return Ok(Outcome::SentBefore);
        }
        let outcome = self.again(&document, targets).await?;
        let now = self.clock.now();
        match &outcome {
            Outcome::Sent => {
                let Ok(marked) = document.write(Some(now)) else { return Ok(Outcome::Unreadable) };
                self.blobs.put(&replayed(name), Bytes::from(marked)).await?;
                self.blobs.delete(name).await?;
            }
            Outcome::Refused(reason) => {
                document.reason.clone_from(reason);
                document.at = now;
                let Ok(anew) = document.write(None) else { return Ok(Outcome::Unreadable) };
                self.blobs.put(name, Bytes::from(anew)).await?;
            }
            Outcome::SentBefore
            | Outcome::NoSuchTarget(_)
            | Outcome::Withheld
            | Outcome::NotTaken(_)
            | Outcome::Unreadable
            | Outcome::Gone => {}
        }
        Ok(outcome)
    }

    /// To the target that refused it, and to no other.
    async fn again(
        &self,
        document: &SetAside,
        targets: &mut Targets,
    ) -> Result<Outcome, BlobError> {
        let Some(sink) = self.sink(&document.sink) else {
            return Ok(match document.holds {
                // No target was ever asked: it has no key to be told from others by.
                Holds::Alert => Outcome::Refused(document.reason.clone()),
                Holds::Row => Outcome::NoSuchTarget(document.sink.clone()),
            });
        };
        if !self.may_leave(document).await? {
            return Ok(Outcome::Withheld);
        }
        match document.holds {
            Holds::Row => {
                let digest = Digest::from_hex(&document.export_key_digest);
                let digest = digest.unwrap_or_else(|| Digest::of(&document.export_key_digest));
                let entry = Entry { at: document.at, digest };
                let row = Row { sink, bytes: document.row().to_vec(), entry };
                Ok(self.deliver_row(row, targets).await)
            }
            Holds::Alert => match Alert::parse(document.row()) {
                Ok(alert) => self.deliver_alert(&alert, sink, targets).await,
                Err(_not_one) => Ok(Outcome::Unreadable),
            },
        }
    }

    /// Whether its device groups may leave, by today's settings. A row that was
    /// cut may have lost some: the whole alert is asked.
    async fn may_leave(&self, document: &SetAside) -> Result<bool, BlobError> {
        let Some(mut owner) = self.owner(document) else { return Ok(false) };
        if let Some(name) = owner.original {
            // A name no blob can have is none of ours.
            let whole = if name.starts_with(CUT) { self.blobs.get(&name).await? } else { None };
            let Some(alert) = whole.and_then(|whole| Alert::parse(whole).ok()) else {
                return Ok(false);
            };
            owner = Owner::of(&alert);
        }
        Ok(self.is_ours(owner))
    }

    fn is_ours(&self, owner: Owner) -> bool {
        self.rules.scope.rule_all(owner.groups.into_iter()) == Ruling::Export
    }

    /// To every target: which of them cut it is not kept.
    async fn replay_cut(&self, name: &str, targets: &mut Targets) -> Result<Outcome, BlobError> {
        let Some(bytes) = self.blobs.get(name).await? else { return Ok(Outcome::Gone) };
        let Ok(alert) = Alert::parse(bytes) else { return Ok(Outcome::Unreadable) };
        if !self.is_ours(Owner::of(&alert)) {
            return Ok(Outcome::Withheld);
        }
        for sink in &self.sinks {
            let outcome = self.deliver_alert(&alert, sink, targets).await?;
            if outcome != Outcome::Sent {
                return Ok(outcome);
            }
        }
        let mark = json!({ "original": name, "replayedAt": self.clock.now() }).to_string();
        self.blobs.put(&replayed(name), Bytes::from(mark)).await?;
        Ok(Outcome::Sent)
    }

    /// Shapes a row of `alert` and delivers it. It may be cut again.
    async fn deliver_alert(
        &self,
        alert: &Alert,
        sink: &Sink,
        targets: &mut Targets,
    ) -> Result<Outcome, BlobError> {
        let memory = self.rules.memory;
        let known = ExportKey::of(alert).and_then(|key| Ok((memory.entry(alert, &key)?, key)));
        let (entry, key) = match known {
            Ok(known) => known,
            Err(unusable) => return Ok(Outcome::Refused(unusable.to_string())),
        };
        let run = Uuid::new_v4().to_string();
        let stamp = Stamp { sent_at: self.clock.now(), trust: &self.rules.trust, run: &run };
        let mut bytes = Vec::new();
        let largest = sink.limits().largest_row();
        let shaped = sink.shape().write(&mut bytes, alert, &key, entry, stamp, largest);
        if let Some(name) = shaped.original {
            self.blobs.put(&name, alert.raw().clone()).await?;
        }
        Ok(self.deliver_row(Row { sink, bytes, entry }, targets).await)
    }

    async fn deliver_row(&self, row: Row<'_>, targets: &mut Targets) -> Outcome {
        let Row { sink, bytes, entry } = row;
        if let Some(advice) = targets.down.get(sink.name()) {
            return Outcome::NotTaken(advice.clone());
        }
        let mut batcher = Batcher::new(sink.limits());
        if let Err(too_large) = batcher.push(&bytes, entry) {
            return Outcome::Refused(too_large.to_string());
        }
        let Some(batch) = batcher.finish() else { return Outcome::Unreadable };
        let standing = Standing { deployed_at: targets.deployed_at, accepted: 0, refused: 0 };
        match sink.deliver(batch, standing).await {
            Ok(Delivered { refused, .. }) => match refused.into_iter().next() {
                None => Outcome::Sent,
                Some(RefusedRow { reason, .. }) => Outcome::Refused(reason),
            },
            Err(SinkFailed { advice, .. }) => {
                targets.down.insert(sink.name(), advice.clone());
                Outcome::NotTaken(advice)
            }
        }
    }
}

/// Where what was sent again is kept, or marked.
fn replayed(name: &str) -> String {
    format!("replayed/{name}")
}
