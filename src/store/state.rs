//! The exporter's state as rows: position, ledger, predecessor's row, unsent
//! heartbeats.
//!
//! | row key | holds |
//! |---|---|
//! | `Position` | the checkpoint |
//! | `QueryEndTime` | `end_time`, as the Python predecessor reads and writes it |
//! | `Ledger.V.{newest}.{unique}`, `Ledger.A.…` | digests noted between two saves |
//! | `Pending.{time}.{run}` | a heartbeat the sink did not take yet |
//! | `Run.{time}.{run}`, `Chain` | run records, and which is the newest |
//!
//! Position, predecessor's row and ledger page are written in one transaction,
//! each with the ETag it was read with.

use std::time::Duration;

use uuid::Uuid;

use super::runs::{Kept, PastRuns};
use super::{Change, ETag, Fields, Row, Store, StoreError, Value};
use crate::domain::budget::Budget;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::ledger::{Digest, Ledger, Memory, Page};
use crate::domain::reached::Reached;
use crate::domain::timestamp::Timestamp;

const POSITION: &str = "Position";
const PREDECESSOR: &str = "QueryEndTime";
const PENDING: &str = "Pending.";

/// Digests in one value: 64 KiB.
const DIGESTS_IN_VALUE: usize = super::MAX_VALUE_BYTES / Digest::LEN;
/// Values of digests in one row: under 1 MiB with everything else.
const VALUES_IN_ROW: usize = 15;
/// More live pages than this are merged, so that opening stays one short scan.
const PAGES_BEFORE_MERGING: usize = 60;
/// Rows removed in one save at most, well inside one transaction.
const REMOVED_AT_ONCE: usize = 50;
/// How often all records are read again because one was added meanwhile.
const READ_AT_MOST: usize = 5;
/// Unsent heartbeats kept; a day and a half of runs. Older ones say nothing new.
const PENDING_KEPT: usize = 432;

/// The exporter's state.
#[derive(Clone, Debug)]
pub struct State {
    store: Store,
    memory: Memory,
    calls_per_hour: u32,
}

/// The state as read by one run, which alone may save over it.
#[derive(Debug)]
pub struct Opened {
    /// As saved, or as it would be for a first run.
    pub checkpoint: Checkpoint,
    /// What was delivered that the run could meet again.
    pub ledger: Ledger,
    etag: Option<ETag>,
    predecessor: Option<Row>,
    /// Pages out of reach, and pages merged into `merged`.
    removable: Vec<(String, ETag)>,
    merged: Option<Page>,
}

/// A heartbeat the sink did not take yet.
#[derive(Clone, Debug)]
pub struct Pending {
    key: String,
    etag: ETag,
    /// The row as JSON.
    pub row: String,
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
    /// there is one, and else begins at `first`.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is written.
    pub async fn open(&self, first: Timestamp, now: Timestamp) -> Result<Opened, StoreError> {
        let saved = self.store.get(POSITION).await?;
        let predecessor = self.store.get(PREDECESSOR).await?;
        let checkpoint = match &saved {
            Some(row) => self.read_checkpoint(row)?,
            None => {
                let adopted =
                    predecessor.as_ref().and_then(|row| text(row, "end_time")?.parse().ok());
                Checkpoint::first(adopted.unwrap_or(first), now, self.calls_per_hour)
            }
        };
        let mut opened = Opened {
            checkpoint,
            ledger: Ledger::default(),
            etag: saved.map(|row| row.etag),
            predecessor,
            removable: Vec::new(),
            merged: None,
        };
        self.read_ledger(&mut opened).await?;
        Ok(opened)
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
        let position = opened.checkpoint.progress.position();
        let horizon = self.memory.horizon(position);
        let mut changes = vec![
            Change::write(POSITION, opened.etag.clone(), write_checkpoint(&opened.checkpoint)?),
            predecessor_change(opened.predecessor.as_ref(), position),
        ];
        let pages = opened.ledger.take_page(horizon).into_iter().chain(opened.merged.take());
        for page in pages {
            changes.extend(self.page_changes(&page));
        }
        let removed =
            opened.removable.split_off(opened.removable.len().saturating_sub(REMOVED_AT_ONCE));
        changes.extend(removed.into_iter().map(|(key, etag)| Change::Delete { key, etag }));

        let mut etags = self.store.commit(&changes).await?.into_iter();
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
        self.store.get(POSITION).await?.as_ref().map(|row| self.read_checkpoint(row)).transpose()
    }

    /// Ends a halt; whether there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the halt stands.
    pub async fn resume(&self) -> Result<bool, StoreError> {
        let Some(row) = self.store.get(POSITION).await? else { return Ok(false) };
        let mut checkpoint = self.read_checkpoint(&row)?;
        let Ok(progress) = checkpoint.progress.resume() else { return Ok(false) };
        checkpoint.progress = progress;
        let change = Change::write(POSITION, Some(row.etag), write_checkpoint(&checkpoint)?);
        self.store.commit(&[change]).await?;
        Ok(true)
    }

    /// Heartbeats the sink did not take yet, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they cannot be read.
    pub async fn pending(&self) -> Result<Vec<Pending>, StoreError> {
        let rows = self.store.scan(PENDING, &after(PENDING)).await?;
        let pending = |row: Row| {
            let text = text(&row, "Row").unwrap_or_default().to_owned();
            Pending { key: row.key, etag: row.etag, row: text }
        };
        Ok(rows.into_iter().map(pending).collect())
    }

    /// Keeps a heartbeat for the next run to send, letting go of the oldest
    /// when there are too many.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is kept.
    pub async fn keep_pending(
        &self,
        row: String,
        run: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let key = format!("{PENDING}{}.{run}", now.sortable());
        let fields = Fields::from([("Row".to_owned(), Value::Text(row))]);
        let mut changes = vec![Change::Insert { key, fields }];
        let held = self.pending().await?;
        let excess = (held.len() + 1).saturating_sub(PENDING_KEPT).min(REMOVED_AT_ONCE);
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

    fn read_checkpoint(&self, row: &Row) -> Result<Checkpoint, StoreError> {
        let progress = text(row, "Progress").and_then(|json| serde_json::from_str(json).ok());
        let time = |name| text(row, name).and_then(|text| text.parse::<Timestamp>().ok());
        // What cannot be read counts as at the position: some rows are repeated.
        let targets = text(row, "Targets").and_then(|json| serde_json::from_str(json).ok());
        // Calls that cannot be read are forgotten: the service has its own limit.
        let calls =
            text(row, "Calls").and_then(|calls| Budget::decode(calls, self.calls_per_hour).ok());
        Ok(Checkpoint {
            progress: progress
                .ok_or_else(|| corrupt(&row.key, "its progress is not this program's"))?,
            deployed_at: time("DeployedAt")
                .ok_or_else(|| corrupt(&row.key, "it has no deployment time"))?,
            reached: Reached::from_saved(targets.unwrap_or_default()),
            read_to: time("ReadTo"),
            not_before: time("NotBefore"),
            budget: calls.unwrap_or_else(|| Budget::new(self.calls_per_hour)),
            // Unknown, it is this trust's turn at once.
            pace: text(row, "Pace")
                .and_then(|json| serde_json::from_str(json).ok())
                .unwrap_or_default(),
            page_size: text(row, "PageSize").map(str::to_owned),
        })
    }

    fn prefix(&self) -> &'static str {
        match self.memory {
            Memory::Versions { .. } => "Ledger.V.",
            Memory::Alerts => "Ledger.A.",
        }
    }

    async fn read_ledger(&self, opened: &mut Opened) -> Result<(), StoreError> {
        let prefix = self.prefix();
        let horizon = self.memory.horizon(opened.checkpoint.progress.position());
        let border = format!("{prefix}{}", horizon.sortable());
        let expired = self.store.scan(prefix, &border).await?;
        opened.removable = expired.into_iter().map(|row| (row.key, row.etag)).collect();

        let live = self.store.scan(&border, &after(prefix)).await?;
        let mut pages: Vec<_> =
            live.iter().map(|row| read_page(row, prefix)).collect::<Result<_, _>>()?;
        opened.ledger = Ledger::from_pages(pages.iter().cloned());
        if pages.len() > PAGES_BEFORE_MERGING {
            let oldest = pages.drain(..REMOVED_AT_ONCE.min(pages.len()));
            opened.merged = oldest.reduce(|mut all, page| {
                all.newest = all.newest.max(page.newest);
                all.digests.extend(page.digests);
                all
            });
            opened.removable =
                live.into_iter().take(REMOVED_AT_ONCE).map(|row| (row.key, row.etag)).collect();
        }
        Ok(())
    }

    fn page_changes(&self, page: &Page) -> Vec<Change> {
        let rows = page.digests.chunks(DIGESTS_IN_VALUE * VALUES_IN_ROW);
        rows.map(|digests| {
            let values = digests.chunks(DIGESTS_IN_VALUE).enumerate().map(|(n, digests)| {
                let part = Page { newest: page.newest, digests: digests.to_vec() };
                (format!("Digests{n:02}"), Value::Bytes(part.encode()))
            });
            let key =
                format!("{}{}.{}", self.prefix(), page.newest.sortable(), Uuid::new_v4().simple());
            Change::Insert { key, fields: values.collect() }
        })
        .collect()
    }
}

impl Pending {
    fn removal(self) -> Change {
        Change::Delete { key: self.key, etag: self.etag }
    }
}

/// The first key after all that begin with `prefix`.
fn after(prefix: &str) -> String {
    format!("{}/", prefix.trim_end_matches('.'))
}

fn text<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    match row.fields.get(name) {
        Some(Value::Text(text)) => Some(text),
        Some(Value::Bytes(_) | Value::Int(_) | Value::Bool(_)) | None => None,
    }
}

/// Keeps what the predecessor would start from a little before our position:
/// it adds a second and cuts the result to the minute.
fn predecessor_change(held: Option<&Row>, position: Timestamp) -> Change {
    let at = (position - Duration::from_secs(1)).to_utc();
    let end_time = format!(
        "{}T{:02}:{:02}:{:02}.{:03}Z",
        Timestamp::from(time::OffsetDateTime::from(at)).date(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    );
    let mut fields = held.map(|row| row.fields.clone()).unwrap_or_default();
    fields.insert("end_time".to_owned(), Value::Text(end_time));
    Change::write(PREDECESSOR, held.map(|row| row.etag.clone()), fields)
}

fn write_checkpoint(checkpoint: &Checkpoint) -> Result<Fields, StoreError> {
    let corrupt = |_unprintable| corrupt(POSITION, "the progress cannot be written as JSON");
    let progress = serde_json::to_string(&checkpoint.progress).map_err(corrupt)?;
    let pace = serde_json::to_string(&checkpoint.pace).map_err(corrupt)?;
    let targets = serde_json::to_string(checkpoint.reached.by_target()).map_err(corrupt)?;
    let mut fields = Fields::from([
        ("Progress".to_owned(), Value::Text(progress)),
        ("Targets".to_owned(), Value::Text(targets)),
        ("Position".to_owned(), Value::Text(checkpoint.progress.position().to_string())),
        ("DeployedAt".to_owned(), Value::Text(checkpoint.deployed_at.to_string())),
        ("Calls".to_owned(), Value::Text(checkpoint.budget.encode())),
        ("Pace".to_owned(), Value::Text(pace)),
    ]);
    if let Some(read_to) = checkpoint.read_to {
        fields.insert("ReadTo".to_owned(), Value::Text(read_to.to_string()));
    }
    if let Some(not_before) = checkpoint.not_before {
        fields.insert("NotBefore".to_owned(), Value::Text(not_before.to_string()));
    }
    if let Some(page_size) = &checkpoint.page_size {
        fields.insert("PageSize".to_owned(), Value::Text(page_size.clone()));
    }
    Ok(fields)
}

fn read_page(row: &Row, prefix: &str) -> Result<Page, StoreError> {
    let newest = row
        .key
        .strip_prefix(prefix)
        .and_then(|rest| rest.rsplit_once('.'))
        .and_then(|(newest, _)| newest.parse().ok())
        .ok_or_else(|| corrupt(&row.key, "its name is not a ledger page's"))?;
    let mut bytes = Vec::new();
    for value in row.fields.values() {
        if let Value::Bytes(part) = value {
            bytes.extend_from_slice(part);
        }
    }
    Page::decode(newest, &bytes)
        .map_err(|_torn| corrupt(&row.key, "it does not hold whole digests"))
}

fn corrupt(row: &str, what: &'static str) -> StoreError {
    StoreError::Corrupt { row: row.to_owned(), what }
}

#[cfg(test)]
mod tests {
    use super::super::Local;
    use super::*;
    use crate::domain::ledger::Entry;
    use crate::domain::progress::{Progress, Tally};

    const REACH: Duration = Duration::from_mins(30);

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time literal")
    }

    fn state() -> State {
        let store = Store::Local(Local::in_memory().unwrap());
        State::new(store, Memory::Versions { reach: REACH }, 120)
    }

    fn entry(n: u32, time: &str) -> Entry {
        Entry { at: at(time), digest: Digest::of(&n.to_string()) }
    }

    /// Claims, moves to `time`, and gives back.
    fn moved(progress: &Progress, time: &str) -> Progress {
        let mut tally = Tally::default();
        tally.mark(at(time), false);
        let running = progress.claim("r", "i", "s", at(time)).unwrap();
        running.advance(tally.receipt().unwrap(), at(time)).unwrap().release().unwrap()
    }

    async fn open(state: &State) -> Opened {
        state.open(at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z")).await.unwrap()
    }

    #[tokio::test]
    async fn a_first_run_begins_where_it_is_told() {
        let opened = open(&state()).await;
        assert_eq!(opened.checkpoint.progress.position(), at("2026-01-01T00:00:00Z"));
        assert!(opened.ledger.is_empty());
    }

    #[tokio::test]
    async fn the_predecessors_saved_time_is_adopted_and_kept_behind_ours() {
        let state = state();
        let fields = Fields::from([(
            "end_time".to_owned(),
            Value::Text("2026-01-01T10:04:59.999Z".to_owned()),
        )]);
        state
            .store
            .commit(&[Change::Insert { key: PREDECESSOR.to_owned(), fields }])
            .await
            .unwrap();

        let mut opened = open(&state).await;
        assert_eq!(opened.checkpoint.progress.position(), at("2026-01-01T10:04:59.999Z"));
        opened.checkpoint.progress = moved(&opened.checkpoint.progress, "2026-01-01T11:00:00.5Z");
        state.save(&mut opened).await.unwrap();

        // It adds a second and cuts to the minute: 11:00:00, not after our position.
        let row = state.store.get(PREDECESSOR).await.unwrap().unwrap();
        assert_eq!(text(&row, "end_time"), Some("2026-01-01T10:59:59.500Z"));
    }

    #[tokio::test]
    async fn what_was_saved_is_found_again_until_out_of_reach() {
        let state = state();
        let mut opened = open(&state).await;
        opened.ledger.note(entry(1, "2026-01-01T09:00:00Z"));
        opened.ledger.note(entry(2, "2026-01-01T10:00:00Z"));
        state.save(&mut opened).await.unwrap();
        opened.ledger.note(entry(3, "2026-01-01T10:10:00Z"));
        opened.checkpoint.progress = moved(&opened.checkpoint.progress, "2026-01-01T10:20:00Z");
        state.save(&mut opened).await.unwrap();

        let mut reopened = open(&state).await;
        assert!(reopened.ledger.holds(&entry(2, "2026-01-01T10:00:00Z")));
        assert!(reopened.ledger.holds(&entry(3, "2026-01-01T10:10:00Z")));
        reopened.checkpoint.progress = moved(&reopened.checkpoint.progress, "2026-01-01T12:00:00Z");
        state.save(&mut reopened).await.unwrap();
        let mut last = open(&state).await;
        assert!(last.ledger.is_empty());
        assert_eq!(last.removable.len(), 2);
        state.save(&mut last).await.unwrap();
        assert_eq!(state.store.scan("Ledger.", "Ledger/").await.unwrap(), []);
    }

    #[tokio::test]
    async fn of_two_runs_only_the_first_to_save_moves_the_position() {
        let state = state();
        let (mut first, mut second) = (open(&state).await, open(&state).await);
        first.checkpoint.progress = moved(&first.checkpoint.progress, "2026-01-01T05:00:00Z");
        second.checkpoint.progress = moved(&second.checkpoint.progress, "2026-01-01T06:00:00Z");
        second.ledger.note(entry(1, "2026-01-01T05:30:00Z"));
        state.save(&mut first).await.unwrap();
        assert!(matches!(state.save(&mut second).await, Err(StoreError::Conflict)));
        let opened = open(&state).await;
        assert_eq!(opened.checkpoint.progress.position(), at("2026-01-01T05:00:00Z"));
        assert!(opened.ledger.is_empty(), "nothing of the loser is kept");
    }

    #[tokio::test]
    async fn many_small_pages_are_merged_and_none_is_lost() {
        let state = state();
        let mut opened = open(&state).await;
        for n in 0..80 {
            opened.ledger.note(entry(n, "2026-01-01T10:00:00Z"));
            state.save(&mut opened).await.unwrap();
        }
        let mut opened = open(&state).await;
        state.save(&mut opened).await.unwrap();
        assert_eq!(state.store.scan("Ledger.", "Ledger/").await.unwrap().len(), 31);
        let reopened = open(&state).await;
        assert!((0..80).all(|n| reopened.ledger.holds(&entry(n, "2026-01-01T10:00:00Z"))));
    }

    #[tokio::test]
    async fn a_page_of_any_size_fits_the_rows() {
        let state = state();
        let mut opened = open(&state).await;
        for n in 0..70_000 {
            opened.ledger.note(entry(n, "2026-01-01T10:00:00Z"));
        }
        state.save(&mut opened).await.unwrap();
        assert_eq!(open(&state).await.ledger.len(), 70_000);
    }

    #[tokio::test]
    async fn unsent_heartbeats_wait_in_order_and_the_oldest_give_way() {
        let state = state();
        for n in 0..435_u32 {
            let now = at("2026-01-01T00:00:00Z") + Duration::from_secs(n.into());
            state.keep_pending(n.to_string(), "run", now).await.unwrap();
        }
        let pending = state.pending().await.unwrap();
        assert_eq!((pending.len(), pending.first().unwrap().row.as_str()), (432, "3"));
        state.forget_pending(pending).await.unwrap();
        assert!(state.pending().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_halt_is_ended_by_hand() {
        let state = state();
        let mut opened = open(&state).await;
        let running =
            opened.checkpoint.progress.claim("r", "i", "s", at("2026-01-01T00:00:00Z")).unwrap();
        opened.checkpoint.progress = running.halt("s", at("2026-01-01T00:01:00Z")).unwrap();
        state.save(&mut opened).await.unwrap();
        assert!(state.resume().await.unwrap());
        assert!(!state.resume().await.unwrap());
        assert!(matches!(open(&state).await.checkpoint.progress, Progress::Idle { .. }));
    }
}
