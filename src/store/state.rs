//! The exporter's state as rows: position, ledger, predecessor's row, unsent
//! heartbeats.
//!
//! | row key | holds |
//! |---|---|
//! | `Position` | the checkpoint |
//! | `QueryEndTime` | `end_time`, as the Python predecessor reads and writes it |
//! | `Ledger.V.{newest}.{unique}`, `Ledger.A.…` | digests noted between two saves |
//! | `Pending.{time}.{run}.{n}` | a heartbeat the sink did not take yet |
//! | `Run.{time}.{run}`, `Chain` | run records, and which is the newest |
//! | `Backfill`, `Backfill.…`, `Ledger.B.…` | see [`super::backfill`] |
//!
//! Position, predecessor's row and ledger page are written in one transaction,
//! each with the ETag it was read with.

use super::backfill::{self, Side};
use super::rows::{self, POSITION, PREDECESSOR};
use super::runs::{Kept, PastRuns};
use super::{Change, ETag, Fields, Row, Store, StoreError, Value};
use crate::domain::advice::Advice;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::heartbeat::Unsent;
use crate::domain::ledger::{Ledger, Memory, Page, RETENTION};
use crate::domain::progress::SetBack;
use crate::domain::timestamp::Timestamp;

const PENDING: &str = "Pending.";
const MESSAGE: &str = "Message";
const NEXT_STEP: &str = "NextStep";

/// More small pages than this are merged, so that opening stays one short scan.
const PAGES_BEFORE_MERGING: usize = 60;
/// A page of fewer digests than this is small: 64 KiB. Larger ones are left as
/// they are, so that what was merged is not written again and again.
const SMALL_PAGE: usize = 4_096;
/// Rows removed in one save at most, well inside one transaction.
pub(super) const REMOVED_AT_ONCE: usize = 50;
/// How often all records are read again because one was added meanwhile.
const READ_AT_MOST: usize = 5;
/// Unsent heartbeats kept; a day and a half of runs. Older ones say nothing new.
const PENDING_KEPT: usize = 432;

/// The exporter's state.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) store: Store,
    pub(super) memory: Memory,
    pub(super) calls_per_hour: u32,
}

/// The state as read by one run, which alone may save over it.
#[derive(Debug)]
pub struct Opened {
    /// As saved, or as it would be for a first run.
    pub checkpoint: Checkpoint,
    /// What was delivered that the run could meet again.
    pub ledger: Ledger,
    pub(super) etag: Option<ETag>,
    pub(super) predecessor: Option<Row>,
    /// Pages out of reach, and pages merged into `merged`.
    pub(super) removable: Vec<(String, ETag)>,
    pub(super) merged: Option<Page>,
    /// Whose state it is.
    pub(super) side: Side,
}

/// A heartbeat the sink did not take yet.
#[derive(Clone, Debug)]
pub struct Pending {
    key: String,
    etag: ETag,
    /// The row as JSON.
    pub row: String,
    /// Why it was not taken; `None` if nobody tried yet.
    pub why: Option<Advice>,
}

impl Opened {
    /// The position as it was saved; `None` before the first save.
    pub fn saved_position(&self) -> Option<Timestamp> {
        self.etag.as_ref().map(|_| self.checkpoint.progress.position())
    }
}

impl State {
    /// Over `store`, remembering deliveries as `memory` says, with a budget of
    /// `calls_per_hour`.
    pub fn new(store: Store, memory: Memory, calls_per_hour: u32) -> Self {
        Self { store, memory, calls_per_hour }
    }

    /// Reads the state. A first run adopts the predecessor's saved time if
    /// there is one, but none that the source has forgotten, and else begins at
    /// `first`.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is written.
    pub async fn open(&self, first: Timestamp, now: Timestamp) -> Result<Opened, StoreError> {
        let saved = self.store.get(POSITION).await?;
        let predecessor = self.store.get(PREDECESSOR).await?;
        let checkpoint = match &saved {
            Some(row) => rows::read_checkpoint(row, self.memory, self.calls_per_hour)?,
            None => {
                let adopted =
                    predecessor.as_ref().and_then(|row| rows::text(row, "end_time")?.parse().ok());
                let kept = adopted.map(|at: Timestamp| at.max(now - RETENTION));
                Checkpoint::first(kept.unwrap_or(first), now, self.calls_per_hour)
            }
        };
        let mut opened = Opened {
            checkpoint,
            ledger: Ledger::default(),
            etag: saved.map(|row| row.etag),
            predecessor,
            removable: Vec::new(),
            merged: None,
            side: Side::Live,
        };
        self.read_ledger(&mut opened).await?;
        Ok(opened)
    }

    /// Goes back from a position that cannot be, with the ledger of there.
    /// Nothing is written yet.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the ledger cannot be read.
    pub async fn set_back(
        &self,
        opened: &mut Opened,
        back: SetBack,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        opened.checkpoint.set_back(back, now);
        opened.merged = None;
        self.read_ledger(opened).await
    }

    /// Saves the checkpoint and what the ledger noted since the last save, all
    /// or nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if another run saved since `opened` was read:
    /// this one must stop. After any error what the ledger noted is lost to it,
    /// so the run must end.
    pub async fn save(&self, opened: &mut Opened) -> Result<(), StoreError> {
        match opened.side {
            Side::Live => self.save_live(opened).await,
            Side::Backfill(_) => self.save_backfill(opened).await,
        }
    }

    async fn save_live(&self, opened: &mut Opened) -> Result<(), StoreError> {
        let position = opened.checkpoint.progress.position();
        let horizon = self.memory.horizon(position);
        let whole_from = &mut opened.checkpoint.whole_from;
        *whole_from = horizon.max(*whole_from);
        let mut changes = vec![
            Change::write(
                POSITION,
                opened.etag.clone(),
                rows::write_checkpoint(&opened.checkpoint, self.memory)?,
            ),
            rows::predecessor_change(opened.predecessor.as_ref(), position),
        ];
        let pages = opened.ledger.take_page(horizon).into_iter().chain(opened.merged.take());
        for page in pages {
            changes.extend(rows::page_changes(&page, rows::prefix(self.memory)));
        }
        let removed =
            opened.removable.split_off(opened.removable.len().saturating_sub(REMOVED_AT_ONCE));
        changes.extend(removed.into_iter().map(|(key, etag)| Change::Delete { key, etag }));

        let committed = match self.store.commit(&changes).await {
            Err(StoreError::Conflict) => self.commit_beside(&mut changes, opened).await,
            committed => committed,
        };
        let mut etags = committed?.into_iter();
        opened.etag = etags.next().flatten();
        if let (Some(etag), Some(fields)) =
            (etags.next().flatten(), changes.get(1).and_then(Change::fields))
        {
            opened.predecessor =
                Some(Row { key: PREDECESSOR.to_owned(), etag, fields: fields.clone() });
        }
        opened.ledger.forget_before(horizon);
        Ok(())
    }

    /// After a conflict: again, if nobody has saved but the predecessor, which
    /// may run beside. Its time is replaced, as by every save.
    async fn commit_beside(
        &self,
        changes: &mut [Change],
        opened: &Opened,
    ) -> Result<Vec<Option<ETag>>, StoreError> {
        let position = self.store.get(POSITION).await?.map(|row| row.etag);
        let predecessor = self.store.get(PREDECESSOR).await?;
        let its = |row: &Option<Row>| row.as_ref().map(|row| row.etag.clone());
        let Some(change) = changes.get_mut(1) else { return Err(StoreError::Conflict) };
        if position != opened.etag || its(&predecessor) == its(&opened.predecessor) {
            return Err(StoreError::Conflict);
        }
        *change =
            rows::predecessor_change(predecessor.as_ref(), opened.checkpoint.progress.position());
        self.store.commit(changes).await
    }

    /// Run records, beside the state.
    pub fn runs(&self) -> PastRuns {
        PastRuns::new(self.store.clone())
    }

    /// Every run record that is kept, and the checkpoint of the same moment.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they cannot be read, [`StoreError::Conflict`] if runs
    /// go on ending while they are.
    pub async fn records(&self) -> Result<(Kept, Option<Checkpoint>), StoreError> {
        let runs = self.runs();
        for _ in 0..READ_AT_MOST {
            let newest = runs.newest().await?;
            let kept = runs.kept(newest.as_ref()).await?;
            let checkpoint = self.checkpoint().await?;
            if runs.newest().await? == newest {
                return Ok((kept, checkpoint));
            }
        }
        Err(StoreError::Conflict)
    }

    /// The checkpoint as it stands, for people to look at; `None` before the
    /// first run.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be read.
    pub async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let read = |row| rows::read_checkpoint(row, self.memory, self.calls_per_hour);
        self.store.get(POSITION).await?.as_ref().map(read).transpose()
    }

    /// Ends a halt of the live export and of a backfill; whether there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; a halt may stand.
    pub async fn resume(&self) -> Result<bool, StoreError> {
        let live = self.resume_row(POSITION).await?;
        Ok(self.resume_row(backfill::ROW).await? || live)
    }

    async fn resume_row(&self, key: &str) -> Result<bool, StoreError> {
        let Some(mut row) = self.store.get(key).await? else { return Ok(false) };
        let mut checkpoint = rows::read_checkpoint(&row, self.memory, self.calls_per_hour)?;
        let Ok(progress) = checkpoint.progress.resume() else { return Ok(false) };
        checkpoint.progress = progress;
        row.fields.extend(rows::write_checkpoint(&checkpoint, self.memory)?);
        self.store.commit(&[Change::write(key, Some(row.etag), row.fields)]).await?;
        Ok(true)
    }

    /// Heartbeats the sink did not take yet, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they cannot be read.
    pub async fn pending(&self) -> Result<Vec<Pending>, StoreError> {
        let rows = self.store.scan(PENDING, &rows::after(PENDING)).await?;
        let pending = |row: Row| {
            let text = rows::text(&row, "Row").unwrap_or_default().to_owned();
            let why = rows::text(&row, MESSAGE)
                .map(|message| Advice::new(message, rows::text(&row, NEXT_STEP).unwrap_or("")));
            Pending { key: row.key, etag: row.etag, row: text, why }
        };
        Ok(rows.into_iter().map(pending).collect())
    }

    /// Heartbeats that wait because they were not taken, and why; `None` if
    /// none was refused.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they cannot be read.
    pub async fn unsent(&self) -> Result<Option<Unsent>, StoreError> {
        let pending = self.pending().await?;
        let count = pending.len();
        let advice = pending.into_iter().rev().find_map(|it| it.why);
        Ok(advice.map(|advice| Unsent::new(count, advice)))
    }

    /// Keeps a run's rows for the next run to send, letting go of the oldest
    /// when there are too many.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is kept.
    ///
    /// `why` they were not taken; `None` if nobody tried yet.
    pub async fn keep_pending(
        &self,
        rows: Vec<String>,
        why: Option<&Advice>,
        run: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let held = self.pending().await?;
        let reason = why.map_or_else(Fields::new, |why| {
            let field = |name: &str, text: &str| (name.to_owned(), Value::Text(text.to_owned()));
            Fields::from([field(MESSAGE, &why.message), field(NEXT_STEP, &why.next_step)])
        });
        let excess = (held.len() + rows.len()).saturating_sub(PENDING_KEPT).min(REMOVED_AT_ONCE);
        let insert = |(n, row): (usize, String)| Change::Insert {
            key: format!("{PENDING}{}.{run}.{n}", now.sortable()),
            fields: reason
                .clone()
                .into_iter()
                .chain([("Row".to_owned(), Value::Text(row))])
                .collect(),
        };
        let mut changes: Vec<_> = rows.into_iter().enumerate().map(insert).collect();
        changes.extend(held.into_iter().take(excess).map(Pending::removal));
        self.store.commit(&changes).await.map(drop)
    }

    /// Forgets heartbeats the sink has taken.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; some may be sent again.
    pub async fn forget_pending(&self, sent: Vec<Pending>) -> Result<(), StoreError> {
        let changes: Vec<_> = sent.into_iter().map(Pending::removal).collect();
        for some in changes.chunks(super::MAX_CHANGES) {
            self.store.commit(some).await?;
        }
        Ok(())
    }

    async fn read_ledger(&self, opened: &mut Opened) -> Result<(), StoreError> {
        let prefix = rows::prefix(self.memory);
        let [oldest, near] = self.borders(opened);
        let expired = self.store.scan(prefix, &oldest).await?;
        opened.removable = expired.into_iter().map(|row| (row.key, row.etag)).collect();

        let live = self.store.scan(&near, &rows::after(prefix)).await?;
        let pages: Vec<_> =
            live.iter().map(|row| rows::read_page(row, prefix)).collect::<Result<_, _>>()?;
        opened.ledger = Ledger::from_pages(pages.iter().cloned());
        let small = || live.iter().zip(&pages).filter(|(_, page)| page.digests.len() < SMALL_PAGE);
        if small().count() > PAGES_BEFORE_MERGING {
            let mut held = 0;
            let oldest: Vec<_> = small()
                .take(REMOVED_AT_ONCE)
                .take_while(|(_, page)| {
                    held += page.digests.len();
                    held <= rows::DIGESTS_IN_ROW
                })
                .collect();
            opened.merged = oldest.iter().map(|(_, page)| (*page).clone()).reduce(Page::merge);
            opened.removable =
                oldest.iter().map(|(row, _)| (row.key.clone(), row.etag.clone())).collect();
        }
        Ok(())
    }

    /// Reads all of the ledger, as an audit needs it: what is too old for other
    /// runs to meet, and what a backfill has noted since the state was opened.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be read.
    pub async fn read_whole_ledger(&self, opened: &mut Opened) -> Result<(), StoreError> {
        let prefix = rows::prefix(self.memory);
        let [oldest, _near] = self.borders(opened);
        let rows = self.store.scan(&oldest, &rows::after(prefix)).await?;
        let pages: Vec<_> =
            rows.iter().map(|row| rows::read_page(row, prefix)).collect::<Result<_, _>>()?;
        opened.ledger.add_pages(pages);
        Ok(())
    }

    /// The first key of what is still needed, and of what every run needs.
    fn borders(&self, opened: &Opened) -> [String; 2] {
        let position = opened.checkpoint.progress.position();
        let prefix = rows::prefix(self.memory);
        [self.memory.horizon(position), self.memory.near(position)]
            .map(|time| format!("{prefix}{}", time.sortable()))
    }
}

impl Pending {
    fn removal(self) -> Change {
        Change::Delete { key: self.key, etag: self.etag }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
