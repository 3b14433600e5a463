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
//!
//! Position, predecessor's row and ledger page are written in one transaction,
//! each with the ETag it was read with.

use super::rows::{self, POSITION, PREDECESSOR};
use super::runs::{Kept, PastRuns};
use super::{Change, ETag, Fields, Row, Store, StoreError, Value};
use crate::domain::checkpoint::Checkpoint;
use crate::domain::ledger::{Ledger, Memory, Page};
use crate::domain::timestamp::Timestamp;

const PENDING: &str = "Pending.";

/// More small pages than this are merged, so that opening stays one short scan.
const PAGES_BEFORE_MERGING: usize = 60;
/// A page of fewer digests than this is small: 64 KiB. Larger ones are left as
/// they are, so that what was merged is not written again and again.
const SMALL_PAGE: usize = 4_096;
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
            Some(row) => rows::read_checkpoint(row, self.memory, self.calls_per_hour)?,
            None => {
                let adopted =
                    predecessor.as_ref().and_then(|row| rows::text(row, "end_time")?.parse().ok());
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
            changes.extend(rows::page_changes(&page, self.memory));
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
        let read = |row| rows::read_checkpoint(row, self.memory, self.calls_per_hour);
        self.store.get(POSITION).await?.as_ref().map(read).transpose()
    }

    /// Ends a halt; whether there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the halt stands.
    pub async fn resume(&self) -> Result<bool, StoreError> {
        let Some(row) = self.store.get(POSITION).await? else { return Ok(false) };
        let mut checkpoint = rows::read_checkpoint(&row, self.memory, self.calls_per_hour)?;
        let Ok(progress) = checkpoint.progress.resume() else { return Ok(false) };
        checkpoint.progress = progress;
        let change = Change::write(
            POSITION,
            Some(row.etag),
            rows::write_checkpoint(&checkpoint, self.memory)?,
        );
        self.store.commit(&[change]).await?;
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
            Pending { key: row.key, etag: row.etag, row: text }
        };
        Ok(rows.into_iter().map(pending).collect())
    }

    /// Keeps a run's rows for the next run to send, letting go of the oldest
    /// when there are too many.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is kept.
    pub async fn keep_pending(
        &self,
        rows: Vec<String>,
        run: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let held = self.pending().await?;
        let excess = (held.len() + rows.len()).saturating_sub(PENDING_KEPT).min(REMOVED_AT_ONCE);
        let insert = |(n, row): (usize, String)| Change::Insert {
            key: format!("{PENDING}{}.{run}.{n}", now.sortable()),
            fields: Fields::from([("Row".to_owned(), Value::Text(row))]),
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

    /// Reads the rest of the ledger, as an audit needs it: what is too old for
    /// other runs to meet.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be read.
    pub async fn read_older(&self, opened: &mut Opened) -> Result<(), StoreError> {
        let prefix = rows::prefix(self.memory);
        let [oldest, near] = self.borders(opened);
        let older = self.store.scan(&oldest, &near).await?;
        let pages: Vec<_> =
            older.iter().map(|row| rows::read_page(row, prefix)).collect::<Result<_, _>>()?;
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
mod tests {
    use std::time::Duration;

    use super::super::Local;
    use super::*;
    use crate::domain::audit::Audit;
    use crate::domain::ledger::{Digest, Entry};
    use crate::domain::progress::{Progress, Tally};

    const REACH: Duration = Duration::from_mins(30);

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time literal")
    }

    fn state() -> State {
        let store = Store::Local(Local::in_memory().unwrap());
        State::new(store, Memory::Versions { reach: REACH, kept: REACH }, 120)
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
        assert_eq!(rows::text(&row, "end_time"), Some("2026-01-01T10:59:59.500Z"));
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
    async fn what_only_an_audit_needs_is_kept_and_read_for_it_alone() {
        let store = Store::Local(Local::in_memory().unwrap());
        let kept = Duration::from_hours(72);
        let state = State::new(store, Memory::Versions { reach: REACH, kept }, 120);
        let mut opened = open(&state).await;
        opened.ledger.note(entry(1, "2026-01-01T09:00:00Z"));
        state.save(&mut opened).await.unwrap();
        opened.checkpoint.progress = moved(&opened.checkpoint.progress, "2026-01-01T12:00:00Z");
        opened.ledger.note(entry(2, "2026-01-01T11:45:00Z"));
        state.save(&mut opened).await.unwrap();

        let old = entry(1, "2026-01-01T09:00:00Z");
        let mut opened = open(&state).await;
        assert!(opened.ledger.holds(&entry(2, "2026-01-01T11:45:00Z")));
        assert!(!opened.ledger.holds(&old));
        state.read_older(&mut opened).await.unwrap();
        assert!(opened.ledger.holds(&old));
        state.save(&mut opened).await.unwrap();
        assert_eq!(
            state.store.scan("Ledger.", "Ledger/").await.unwrap().len(),
            2,
            "not written again"
        );

        assert_eq!(opened.checkpoint.whole_from, at("2026-01-01T00:00:00Z"));
        opened.checkpoint.progress = moved(&opened.checkpoint.progress, "2026-01-09T12:00:00Z");
        state.save(&mut opened).await.unwrap();
        assert_eq!(open(&state).await.checkpoint.whole_from, at("2026-01-06T12:00:00Z"));
    }

    #[tokio::test]
    async fn a_ledger_of_a_version_that_remembered_less_is_whole_from_the_position_on() {
        let state = state();
        let mut opened = open(&state).await;
        opened.checkpoint.progress = moved(&opened.checkpoint.progress, "2026-01-01T12:00:00Z");
        state.save(&mut opened).await.unwrap();
        let mut row = state.store.get(POSITION).await.unwrap().unwrap();
        row.fields.remove("WholeFromVersions");
        row.fields.remove("Audit");
        let older = Change::write(POSITION, Some(row.etag), row.fields);
        state.store.commit(&[older]).await.unwrap();
        let checkpoint = open(&state).await.checkpoint;
        assert_eq!(checkpoint.whole_from, at("2026-01-01T12:00:00Z"));
        assert_eq!(checkpoint.audit, Audit::Resting { since: at("2026-01-01T12:00:00Z") });
    }

    #[tokio::test]
    async fn large_pages_are_left_as_they_are_and_no_merged_one_outgrows_a_row() {
        let state = state();
        let mut opened = open(&state).await;
        let mut n = 0;
        for page in 0..70 {
            for _ in 0..if page % 10 == 0 { 5_000 } else { 3_000 } {
                opened.ledger.note(entry(n, "2026-01-01T10:00:00Z"));
                n += 1;
            }
            state.save(&mut opened).await.unwrap();
        }
        let mut opened = open(&state).await;
        let merged = opened.merged.as_ref().unwrap().digests.len();
        assert_eq!((merged, opened.removable.len()), (60_000, 20));
        state.save(&mut opened).await.unwrap();
        assert_eq!(open(&state).await.ledger.len(), usize::try_from(n).unwrap());
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
            state.keep_pending(vec![n.to_string()], "run", now).await.unwrap();
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
