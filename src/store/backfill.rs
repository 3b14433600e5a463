//! A backfill's state, beside the live export's and never over it.
//!
//! | row key | holds |
//! |---|---|
//! | `Backfill` | the job, and its checkpoint as `Position` holds the live one |
//! | `Backfill.Cancel` | somebody wants it to end, while a process is at it |
//! | `Backfill.Estimate` | calls that dry runs made |
//! | `Ledger.B.{newest}.{unique}` | what the job delivered after its own position |
//!
//! What the daily audit could read again goes into the live ledger's pages too,
//! in the same transaction. `Position` is read here and written never, but for
//! [`State::resume`].

use tracing::warn;

use super::rows::{
    POSITION, after, corrupt, page_changes, prefix, read_checkpoint, read_page, text,
    write_checkpoint,
};
use super::state::{Opened, REMOVED_AT_ONCE, State};
use super::{Change, ETag, Fields, MAX_CHANGES, Row, StoreError, Value};
use crate::domain::backfill::{Ending, Job, Known};
use crate::domain::budget::Budget;
use crate::domain::calls::Calls;
use crate::domain::checkpoint::{Checkpoint, left_alone_until};
use crate::domain::heartbeat::Counts;
use crate::domain::ledger::{Ledger, Memory, Page};
use crate::domain::progress::Progress;
use crate::domain::timestamp::Timestamp;

pub(super) const ROW: &str = "Backfill";
const CANCEL: &str = "Backfill.Cancel";
const ESTIMATE: &str = "Backfill.Estimate";
const JOB: &str = "Job";
const CALLS: &str = "Calls";
const PAGES: &str = "Ledger.B.";
/// How often a change is tried again that another process came before.
const ATTEMPTS: u32 = 5;

/// Whose state was opened.
#[derive(Debug)]
pub(super) enum Side {
    /// The live export's.
    Live,
    /// A backfill's.
    Backfill(Box<Work>),
}

/// A backfill under way in this process.
#[derive(Debug)]
pub(super) struct Work {
    job: Job,
    /// What was done before this process took it over.
    before: Counts,
    /// The live position as last seen.
    live: Timestamp,
    /// The job's own pages.
    pages: Vec<(Timestamp, String, ETag)>,
}

/// A job and how far it is.
#[derive(Clone, Debug)]
pub struct Backfill {
    /// What was asked for, and what came of it.
    pub job: Job,
    /// How far, and who is at it.
    pub checkpoint: Checkpoint,
    /// Whether somebody wants it to end.
    pub cancelling: bool,
}

/// Who is about to make calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Caller {
    /// The live export.
    Live,
    /// A backfill.
    Backfill,
    /// A dry run.
    Estimate,
}

/// What the others are at, as one caller must know.
#[derive(Clone, Debug)]
pub struct Neighbours {
    /// The live export; `None` before its first run, and for itself.
    pub live: Option<Checkpoint>,
    /// The job, if there is or was one.
    pub backfill: Option<Backfill>,
    /// Calls the others made and booked.
    pub calls: Vec<Calls>,
    versions: Vec<(String, ETag)>,
}

/// Why somebody may not call now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HoldUp {
    /// A live run is at it.
    Live,
    /// The source asked not to be called.
    Source {
        /// Until then.
        until: Timestamp,
    },
}

/// What became of a request to start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Start {
    /// It is new.
    Begun,
    /// The same was begun before, and goes on.
    GoesOn,
    /// Another is under way; nothing was changed.
    Another(Box<Job>),
}

/// What became of a request to cancel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cancel {
    /// None is under way.
    Nothing,
    /// It has ended.
    Ended,
    /// A process is at it and ends it before its next page.
    Asked,
}

impl Neighbours {
    /// Whether the others have saved nothing since `earlier`.
    pub fn stand_as_in(&self, earlier: &Self) -> bool {
        self.versions == earlier.versions
    }

    /// Why one whom the source asked to stay away until `not_before` may not
    /// call now.
    pub fn hold_up(&self, not_before: Option<Timestamp>, now: Timestamp) -> Option<HoldUp> {
        if self.live_is_running(now) {
            return Some(HoldUp::Live);
        }
        let live = self.live.as_ref().and_then(|live| live.left_alone_until(now));
        live.max(left_alone_until(not_before, now)).map(|until| HoldUp::Source { until })
    }

    /// Whether a live run is at it.
    pub fn live_is_running(&self, now: Timestamp) -> bool {
        let progress = self.live.as_ref().map(|live| &live.progress);
        matches!(progress, Some(Progress::Running { claim, .. }) if claim.is_held(now))
    }
}

impl Backfill {
    /// Whether a process holds it.
    pub fn is_held(&self, now: Timestamp) -> bool {
        matches!(&self.checkpoint.progress, Progress::Running { claim, .. } if claim.is_held(now))
    }
}

impl Opened {
    /// The job, if it is a backfill's state.
    pub fn job(&self) -> Option<&Job> {
        match &self.side {
            Side::Live => None,
            Side::Backfill(work) => Some(&work.job),
        }
    }

    /// As [`Self::job`], to change it.
    pub fn job_mut(&mut self) -> Option<&mut Job> {
        match &mut self.side {
            Side::Live => None,
            Side::Backfill(work) => Some(&mut work.job),
        }
    }

    /// Takes down what this process has done so far.
    pub fn note_counts(&mut self, counts: Counts) {
        if let Side::Backfill(work) = &mut self.side {
            work.job.counts = work.before.and(counts);
        }
    }
}

impl State {
    /// What the others are at.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be read.
    pub async fn neighbours(&self, who: Caller) -> Result<Neighbours, StoreError> {
        let rows = self.store.scan(ROW, &after(ROW)).await?;
        let live = match who {
            Caller::Live => None,
            Caller::Backfill | Caller::Estimate => self.store.get(POSITION).await?,
        };
        let own = match who {
            Caller::Live => POSITION,
            Caller::Backfill => ROW,
            Caller::Estimate => ESTIMATE,
        };
        let others = || rows.iter().chain(&live).filter(|row| row.key != own);
        // Calls that cannot be read are forgotten: the service has its own limit.
        let calls = others().filter_map(|row| Calls::decode(text(row, CALLS)?).ok());
        Ok(Neighbours {
            calls: calls.collect(),
            versions: others().map(|row| (row.key.clone(), row.etag.clone())).collect(),
            live: live
                .as_ref()
                .map(|row| read_checkpoint(row, self.memory, self.calls_per_hour))
                .transpose()?,
            backfill: match (who, self.read_backfill(&rows)) {
                // The live export goes on, whatever became of a job.
                (Caller::Live, Err(error)) => {
                    warn!(%error, "the backfill under way cannot be seen and is left alone");
                    None
                }
                (_, backfill) => backfill?,
            },
        })
    }

    /// The job, for people to look at; `None` if there never was one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be read.
    pub async fn backfill(&self) -> Result<Option<Backfill>, StoreError> {
        self.read_backfill(&self.store.scan(ROW, &after(ROW)).await?)
    }

    fn read_backfill(&self, rows: &[Row]) -> Result<Option<Backfill>, StoreError> {
        let Some(row) = rows.iter().find(|row| row.key == ROW) else { return Ok(None) };
        let job = text(row, JOB).and_then(|json| serde_json::from_str(json).ok());
        Ok(Some(Backfill {
            job: job.ok_or_else(|| corrupt(&row.key, "its job is not this program's"))?,
            checkpoint: read_checkpoint(row, self.memory, self.calls_per_hour)?,
            cancelling: rows.iter().any(|row| row.key == CANCEL),
        }))
    }

    /// Writes the job down, for whichever process comes to it first.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing was started.
    pub async fn start_backfill(&self, job: &Job, live: &Checkpoint) -> Result<Start, StoreError> {
        // Read first: if no job is under way after it, they are of none.
        let left_behind = self.store.scan(PAGES, &after(PAGES)).await?;
        let rows = self.store.scan(ROW, &after(ROW)).await?;
        let held = self.read_backfill(&rows)?;
        let mut checkpoint = Checkpoint::first(job.span.from, job.started_at, self.calls_per_hour);
        checkpoint.deployed_at = live.deployed_at;
        if let Some(held) = held {
            if held.job.is_under_way() {
                let same =
                    (held.job.span, held.job.known) == (job.span, job.known) && !held.cancelling;
                return Ok(if same { Start::GoesOn } else { Start::Another(Box::new(held.job)) });
            }
            checkpoint.budget = held.checkpoint.budget;
            checkpoint.page_size = held.checkpoint.page_size;
        }
        self.forget(left_behind).await?;
        let etag = |key| rows.iter().find(|row| row.key == key).map(|row| row.etag.clone());
        let mut changes = vec![Change::write(ROW, etag(ROW), self.fields(&checkpoint, job)?)];
        changes.extend(etag(CANCEL).map(|etag| Change::Delete { key: CANCEL.to_owned(), etag }));
        self.store.commit(&changes).await?;
        Ok(Start::Begun)
    }

    /// Ends the job that is under way, or has the process that is at it end it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may go on.
    pub async fn cancel_backfill(&self, now: Timestamp) -> Result<Cancel, StoreError> {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            match self.try_cancel(now).await {
                Err(StoreError::Conflict) if attempts > 0 => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_cancel(&self, now: Timestamp) -> Result<Cancel, StoreError> {
        let rows = self.store.scan(ROW, &after(ROW)).await?;
        let Some(mut held) = self.read_backfill(&rows)?.filter(|it| it.job.is_under_way()) else {
            return Ok(Cancel::Nothing);
        };
        if held.is_held(now) {
            if !held.cancelling {
                let at = Value::Text(now.to_string());
                let fields = Fields::from([("At".to_owned(), at)]);
                let key = CANCEL.to_owned();
                self.store.commit(&[Change::Insert { key, fields }]).await?;
            }
            return Ok(Cancel::Asked);
        }
        held.job.end(Ending::Cancelled, now);
        let etag = rows.iter().find(|row| row.key == ROW).map(|row| row.etag.clone());
        let fields = self.fields(&held.checkpoint, &held.job)?;
        let mut changes = vec![Change::write(ROW, etag, fields)];
        changes.extend(rows.into_iter().filter(|row| row.key == CANCEL).map(removal));
        self.store.commit(&changes).await?;
        self.forget_pages().await?;
        Ok(Cancel::Ended)
    }

    /// Notes that the end of the job was told, if it has ended.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; a later run tells of it again.
    pub async fn backfill_is_told(&self) -> Result<(), StoreError> {
        let Some(row) = self.store.get(ROW).await? else { return Ok(()) };
        let held = self.read_backfill(std::slice::from_ref(&row))?;
        let Some(Backfill { mut job, checkpoint, .. }) = held else { return Ok(()) };
        let Some(ended) = job.ended.as_mut().filter(|ended| !ended.told) else { return Ok(()) };
        ended.told = true;
        let fields = self.fields(&checkpoint, &job)?;
        self.store.commit(&[Change::write(ROW, Some(row.etag), fields)]).await.map(drop)
    }

    /// Reads the state of the job that is under way; `None` if none is.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is written.
    pub async fn open_backfill(&self, now: Timestamp) -> Result<Option<Opened>, StoreError> {
        let Some(row) = self.store.get(ROW).await? else { return Ok(None) };
        let read = self.read_backfill(std::slice::from_ref(&row))?;
        let Some(Backfill { job, mut checkpoint, .. }) = read.filter(|it| it.job.is_under_way())
        else {
            return Ok(None);
        };
        checkpoint.budget.inherit(now);
        let own = self.store.scan(PAGES, &after(PAGES)).await?;
        let pages: Vec<_> =
            own.iter().map(|row| read_page(row, PAGES)).collect::<Result<_, _>>()?;
        let work = Work {
            before: job.counts,
            live: checkpoint.progress.position(),
            pages: own
                .into_iter()
                .zip(&pages)
                .map(|(row, page)| (page.newest, row.key, row.etag))
                .collect(),
            job,
        };
        Ok(Some(Opened {
            checkpoint,
            ledger: Ledger::from_pages(pages),
            etag: Some(row.etag),
            predecessor: None,
            removable: Vec::new(),
            merged: None,
            side: Side::Backfill(Box::new(work)),
        }))
    }

    /// Takes over what the live export, now at `position`, has delivered; not
    /// where that is to be sent again.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be read.
    pub async fn learn_from_live(
        &self,
        opened: &mut Opened,
        position: Timestamp,
    ) -> Result<(), StoreError> {
        let Side::Backfill(work) = &mut opened.side else { return Ok(()) };
        work.live = position;
        if work.job.known == Known::SentAgain {
            return Ok(());
        }
        let prefix = prefix(self.memory);
        let border = format!("{prefix}{}", self.memory.horizon(position).sortable());
        let rows = self.store.scan(&border, &after(prefix)).await?;
        let pages: Vec<_> =
            rows.iter().map(|row| read_page(row, prefix)).collect::<Result<_, _>>()?;
        opened.ledger.add_pages(pages);
        Ok(())
    }

    pub(super) async fn save_backfill(&self, opened: &mut Opened) -> Result<(), StoreError> {
        let Side::Backfill(work) = &mut opened.side else { return Err(StoreError::Conflict) };
        let position = opened.checkpoint.progress.position();
        let fields = self.fields(&opened.checkpoint, &work.job)?;
        let mut changes = vec![Change::write(ROW, opened.etag.clone(), fields)];
        let fresh = opened.ledger.take_fresh();
        let own = Page::of(&fresh, position);
        let written = changes.len();
        changes.extend(own.iter().flat_map(|page| page_changes(page, PAGES)));
        let keys: Vec<_> =
            changes.iter().skip(written).map(|change| change.key().to_owned()).collect();
        let live = Page::of(&fresh, self.memory.horizon(work.live));
        changes.extend(live.iter().flat_map(|page| page_changes(page, prefix(self.memory))));
        let ended = !work.job.is_under_way();
        let passed = |(newest, ..): &(Timestamp, _, _)| ended || *newest < position;
        let gone: Vec<_> = work.pages.extract_if(.., |page| passed(page)).collect();
        let (now, later) = gone.split_at(gone.len().min(REMOVED_AT_ONCE));
        work.pages.extend_from_slice(later);
        let delete = |(_, key, etag): &(_, String, ETag)| Change::Delete {
            key: key.clone(),
            etag: etag.clone(),
        };
        changes.extend(now.iter().map(delete));

        let etags = self.store.commit(&changes).await?;
        let mut etags = etags.into_iter();
        opened.etag = etags.next().flatten();
        if let Some(page) = own {
            let pages = keys.into_iter().zip(etags.flatten());
            work.pages.extend(pages.map(|(key, etag)| (page.newest, key, etag)));
        }
        if matches!(self.memory, Memory::Versions { .. }) {
            opened.ledger.forget_before(position);
        }
        if ended {
            self.forget_pages().await?;
            if let Some(cancel) = self.store.get(CANCEL).await? {
                self.store.commit(&[removal(cancel)]).await?;
            }
        }
        Ok(())
    }

    fn fields(&self, checkpoint: &Checkpoint, job: &Job) -> Result<Fields, StoreError> {
        let unprintable = |_| corrupt(ROW, "the job cannot be written as JSON");
        let job = serde_json::to_string(job).map_err(unprintable)?;
        let mut fields = write_checkpoint(checkpoint, self.memory)?;
        fields.insert(JOB.to_owned(), Value::Text(job));
        Ok(fields)
    }

    async fn forget_pages(&self) -> Result<(), StoreError> {
        self.forget(self.store.scan(PAGES, &after(PAGES)).await?).await
    }

    async fn forget(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        let changes: Vec<_> = rows.into_iter().map(removal).collect();
        for some in changes.chunks(MAX_CHANGES) {
            self.store.commit(some).await?;
        }
        Ok(())
    }

    /// The calls dry runs made, with the version they were read in.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they cannot be read.
    pub async fn estimate_calls(
        &self,
        now: Timestamp,
    ) -> Result<(Budget, Option<ETag>), StoreError> {
        let row = self.store.get(ESTIMATE).await?;
        let saved = row.as_ref().and_then(|row| text(row, CALLS));
        let saved = saved.and_then(|calls| Budget::decode(calls, self.calls_per_hour).ok());
        let mut budget = saved.unwrap_or_else(|| Budget::new(self.calls_per_hour));
        budget.inherit(now);
        Ok((budget, row.map(|row| row.etag)))
    }

    /// Saves the calls dry runs made, and says under which version.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if another dry run is at it.
    pub async fn save_estimate_calls(
        &self,
        budget: &Budget,
        etag: Option<ETag>,
    ) -> Result<Option<ETag>, StoreError> {
        let fields = Fields::from([(CALLS.to_owned(), Value::Text(budget.encode()))]);
        let etags = self.store.commit(&[Change::write(ESTIMATE, etag, fields)]).await?;
        Ok(etags.into_iter().next().flatten())
    }
}

fn removal(row: Row) -> Change {
    Change::Delete { key: row.key, etag: row.etag }
}
