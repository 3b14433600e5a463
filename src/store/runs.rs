//! Run records as rows `Run.{time}.{run}`, one a run, kept for 30 days, and the
//! row `Chain`, which names both ends of them.
//!
//! A record and the row `Chain` are written in one transaction, and what is let
//! go by age goes in one with it: so no record is ever without its place.

use super::{Change, Fields, MAX_CHANGES, Row, Store, StoreError, Value};
use crate::domain::chain::Stored;
use crate::domain::hash::Hash;
use crate::domain::record::{Account, Chain, Link};
use crate::domain::runs::{KEPT, PastRun};
use crate::domain::timestamp::Timestamp;

const PREFIX: &str = "Run.";
/// The first key after all that begin with the prefix.
const AFTER: &str = "Run/";
const COLUMN: &str = "Run";
const CHAIN: &str = "Chain";

/// How often a record is tried to be written while others are.
const ATTEMPTS: usize = 5;
/// How long before the border a record may have ended and wait for one with a
/// lower number: two instances' clocks differ by less.
const STRAGGLING: std::time::Duration = std::time::Duration::from_hours(24);

/// Run records.
#[derive(Clone, Debug)]
pub struct PastRuns {
    store: Store,
}

/// All that is kept of the chain, read at one moment.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its ends; `None` before the first record, or if the row that names them
    /// is gone or unreadable.
    pub chain: Option<Chain>,
    /// Every row under a record's name, in order of time.
    pub stored: Vec<Stored>,
}

impl PastRuns {
    /// In `store`.
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Writes the record that follows the newest, and says where it stands.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the run leaves no record. [`StoreError::Conflict`] when
    /// others wrote theirs again and again. After [`StoreError::Unreachable`]
    /// the record may have been written.
    pub async fn add(&self, account: &Account) -> Result<Link, StoreError> {
        let key = format!("{PREFIX}{}.{}", account.run.at.sortable(), account.run_id);
        let mut attempts = ATTEMPTS;
        loop {
            let held = self.store.get(CHAIN).await?;
            let written = match held.as_ref().and_then(|row| read_chain(row).ok()) {
                Some(chain) => chain.follow(account),
                // Gone or unreadable: the record says so by carrying no hash.
                None => Chain::begin(self.highest().await?, account),
            };
            let unprintable = |_| corrupt(&key, "the record cannot be written as JSON");
            let (text, chain) = written.map_err(unprintable)?;
            let fields = Fields::from([(COLUMN.to_owned(), Value::Text(text.clone()))]);
            let etag = held.map(|row| row.etag);
            let changes = [
                Change::write(CHAIN, etag, write_chain(chain)?),
                Change::Insert { key: key.clone(), fields },
            ];
            match self.store.commit(&changes).await {
                Ok(_) => return Ok(chain.head),
                Err(StoreError::Conflict) => {
                    // Its answer may have been lost, and another's written since.
                    if self.store.get(&key).await?.as_ref().and_then(text_of) == Some(&text) {
                        return Ok(chain.head);
                    }
                    attempts -= 1;
                    if attempts == 0 {
                        return Err(StoreError::Conflict);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn highest(&self) -> Result<u64, StoreError> {
        let rows = self.store.scan(PREFIX, AFTER).await?;
        Ok(rows.iter().filter_map(link_of).map(|link| link.number).max().unwrap_or(0))
    }

    /// Lets go of records older than 30 days at `now`, the oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what is left goes another time.
    pub async fn let_go(&self, now: Timestamp) -> Result<(), StoreError> {
        let border = now - KEPT;
        let old = self.store.scan(PREFIX, &format!("{PREFIX}{}", border.sortable())).await?;
        if old.is_empty() {
            return Ok(());
        }
        let Some(held) = self.store.get(CHAIN).await? else { return Ok(()) };
        let (mut chain, mut etag) = (read_chain(&held)?, held.etag);
        let old = ripe(old, chain, border);
        for some in old.chunks(MAX_CHANGES - 1) {
            let newest = some.iter().filter_map(|(link, _)| *link).max_by_key(|link| link.number);
            let gone = newest.into_iter().chain(chain.let_go).max_by_key(|link| link.number);
            chain.let_go = gone;
            let mut changes = vec![Change::write(CHAIN, Some(etag), write_chain(chain)?)];
            changes.extend(
                some.iter().map(|(_, row)| Change::Delete {
                    key: row.key.clone(),
                    etag: row.etag.clone(),
                }),
            );
            match self.store.commit(&changes).await?.into_iter().next().flatten() {
                Some(next) => etag = next,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// The row `Chain` as it is now, to tell whether it changed meanwhile.
    pub(super) async fn newest(&self) -> Result<Option<Row>, StoreError> {
        self.store.get(CHAIN).await
    }

    /// All that is kept, with `newest` as the chain's row.
    pub(super) async fn kept(&self, newest: Option<&Row>) -> Result<Kept, StoreError> {
        let rows = self.store.scan(PREFIX, AFTER).await?;
        let chain = newest.and_then(|row| read_chain(row).ok());
        Ok(Kept { chain, stored: rows.iter().map(stored).collect() })
    }

    /// Those that ended at or after `from`, oldest first. Rows that a later
    /// version wrote and this one cannot read are left out.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they cannot be read.
    pub async fn since(&self, from: Timestamp) -> Result<Vec<PastRun>, StoreError> {
        let rows = self.store.scan(&format!("{PREFIX}{}", from.sortable()), AFTER).await?;
        Ok(rows.iter().filter_map(|row| serde_json::from_str(text_of(row)?).ok()).collect())
    }
}

fn text_of(row: &Row) -> Option<&String> {
    match row.fields.get(COLUMN) {
        Some(Value::Text(text)) => Some(text),
        Some(Value::Bytes(_) | Value::Int(_) | Value::Bool(_)) | None => None,
    }
}

fn stored(row: &Row) -> Stored {
    let name = row.key.strip_prefix(PREFIX).unwrap_or(&row.key).to_owned();
    Stored { row: name, text: text_of(row).cloned().unwrap_or_default() }
}

/// Those of `old` that may go now, the lowest numbers first: all that follow
/// on from what has gone, so that the next one's hash is always known to be
/// that of its forerunner. After a gap they wait a day for stragglers.
fn ripe(old: Vec<Row>, chain: Chain, border: Timestamp) -> Vec<(Option<Link>, Row)> {
    let late = format!("{PREFIX}{}", (border - STRAGGLING).sortable());
    let mut old: Vec<_> = old.into_iter().map(|row| (link_of(&row), row)).collect();
    old.sort_by_key(|(link, _)| link.map(|link| link.number));
    let mut due = chain.let_go.map_or(1, |link| link.number.saturating_add(1));
    old.retain(|(link, row)| {
        let follows = link.is_some_and(|link| link.number == due);
        let goes = follows || row.key < late;
        if let (true, Some(link)) = (goes, link) {
            due = due.max(link.number.saturating_add(1));
        }
        goes
    });
    old
}

/// Where a record says that it stands.
fn link_of(row: &Row) -> Option<Link> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Numbered {
        number: u64,
    }
    let text = text_of(row)?;
    let Numbered { number } = serde_json::from_str(text).ok()?;
    Some(Link { number, hash: Hash::of(text.as_bytes()) })
}

fn read_chain(row: &Row) -> Result<Chain, StoreError> {
    let head = read_link(row, "Head")?;
    let head = head.ok_or_else(|| corrupt(CHAIN, "it does not name the newest record"))?;
    Ok(Chain { head, let_go: read_link(row, "LetGo")? })
}

fn read_link(row: &Row, name: &str) -> Result<Option<Link>, StoreError> {
    let corrupt = || corrupt(CHAIN, "it does not hold a record's number and hash");
    let (number, hash) = (row.fields.get(&format!("{name}Number")), row.fields.get(name));
    match (number, hash) {
        (None, None) => Ok(None),
        (Some(Value::Int(number)), Some(Value::Text(hash))) => {
            let number = u64::try_from(*number).map_err(|_negative| corrupt())?;
            Ok(Some(Link { number, hash: hash.parse().map_err(|_not_a_hash| corrupt())? }))
        }
        _ => Err(corrupt()),
    }
}

fn write_chain(chain: Chain) -> Result<Fields, StoreError> {
    let mut fields = Fields::new();
    let links = [("Head", Some(chain.head)), ("LetGo", chain.let_go)];
    for (name, link) in links.into_iter().filter_map(|(name, link)| Some((name, link?))) {
        let number = i64::try_from(link.number)
            .map_err(|_too_large| corrupt(CHAIN, "its number is larger than a row can hold"))?;
        fields.insert(format!("{name}Number"), Value::Int(number));
        fields.insert(name.to_owned(), Value::Text(link.hash.to_string()));
    }
    Ok(fields)
}

fn corrupt(row: &str, what: &'static str) -> StoreError {
    StoreError::Corrupt { row: row.to_owned(), what }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::chain::verify;
    use crate::domain::heartbeat::{Counts, Status};
    use crate::domain::record::Making;
    use crate::domain::runs::{Kind, Seen};
    use crate::store::Local;

    const START: &str = "2026-11-21T10:00:00Z";

    fn start() -> Timestamp {
        START.parse().unwrap()
    }

    fn records() -> PastRuns {
        PastRuns::new(Store::Local(Local::in_memory().unwrap()))
    }

    fn account(id: &str, at: Timestamp) -> Account {
        let run = PastRun {
            at,
            status: Status::Ok,
            message: String::new(),
            next_step: String::new(),
            counts: Counts::default(),
            lag_seconds: None,
            duration_ms: 1,
            groups: Seen::default(),
            kind: Kind::Run,
        };
        Account {
            run_id: id.to_owned(),
            instance_id: "i".to_owned(),
            version: "0.1.0".to_owned(),
            making: Making { settings: Hash::of(b"s"), binary: None },
            window_start: None,
            window_end: None,
            position: None,
            run,
        }
    }

    /// How many records are kept of an unbroken chain.
    async fn unbroken(records: &PastRuns) -> usize {
        let newest = records.newest().await.unwrap();
        let kept = records.kept(newest.as_ref()).await.unwrap();
        let found = verify(kept.chain, &kept.stored, None);
        assert_eq!(found.findings, []);
        assert_eq!(found.records.len(), kept.stored.len());
        found.records.len()
    }

    #[tokio::test]
    async fn records_are_kept_for_30_days_and_what_is_left_stays_proven() {
        let records = records();
        let hour = Duration::from_hours(1);
        for n in 0..250_u32 {
            records.add(&account(&n.to_string(), start() + hour * n)).await.unwrap();
        }
        assert_eq!(unbroken(&records).await, 250);
        let later = start() + KEPT + hour * 200;
        records.let_go(later).await.unwrap();
        assert_eq!(unbroken(&records).await, 50);
        assert_eq!(records.since(Timestamp::EPOCH).await.unwrap()[0].at, start() + hour * 200);
        records.add(&account("last", later)).await.unwrap();
        records.let_go(later + KEPT + hour).await.unwrap();
        let newest = records.newest().await.unwrap();
        let kept = records.kept(newest.as_ref()).await.unwrap();
        assert_eq!(kept.stored, []);
        assert_eq!(kept.chain.unwrap().head.number, 251);
        records.add(&account("next", later + KEPT + hour)).await.unwrap();
        assert_eq!(unbroken(&records).await, 1);
    }

    #[tokio::test]
    async fn a_record_waits_to_go_until_those_before_it_are_old_too() {
        let records = records();
        let minute = Duration::from_mins(1);
        // The second instance's clock is two minutes behind.
        for (id, at) in [("a", start() + minute * 2), ("b", start()), ("c", start() + minute * 3)] {
            records.add(&account(id, at)).await.unwrap();
        }
        records.let_go(start() + KEPT + minute).await.unwrap();
        assert_eq!(unbroken(&records).await, 3);
        records.let_go(start() + KEPT + minute * 2 + Duration::from_secs(1)).await.unwrap();
        assert_eq!(unbroken(&records).await, 1);
    }

    #[tokio::test]
    async fn a_gap_does_not_keep_old_records_for_ever() {
        let records = records();
        for n in 0..4_u32 {
            records
                .add(&account(&n.to_string(), start() + Duration::from_mins(n.into())))
                .await
                .unwrap();
        }
        let row = records.store.scan(PREFIX, AFTER).await.unwrap().remove(0);
        let gap = Change::Delete { key: row.key, etag: row.etag };
        records.store.commit(&[gap]).await.unwrap();
        let day = Duration::from_hours(24);
        records.let_go(start() + KEPT + day / 2).await.unwrap();
        assert_eq!(records.store.scan(PREFIX, AFTER).await.unwrap().len(), 3);
        records.let_go(start() + KEPT + day + Duration::from_mins(3)).await.unwrap();
        assert_eq!(unbroken(&records).await, 0);
    }

    #[tokio::test]
    async fn records_written_at_the_same_time_make_one_chain() {
        let records = records();
        for round in 0..10_u32 {
            let at = start() + Duration::from_mins(round.into());
            let (one, two, three) = (account("a", at), account("b", at), account("c", at));
            let written = tokio::join!(records.add(&one), records.add(&two), records.add(&three));
            let mut numbers =
                [written.0.unwrap().number, written.1.unwrap().number, written.2.unwrap().number];
            numbers.sort_unstable();
            let first = u64::from(round) * 3 + 1;
            assert_eq!(numbers, [first, first + 1, first + 2]);
        }
        assert_eq!(unbroken(&records).await, 30);
    }

    #[tokio::test]
    async fn a_record_whose_answer_was_lost_is_not_written_twice() {
        let records = records();
        records.add(&account("a", start())).await.unwrap();
        let before = records.newest().await.unwrap().unwrap();
        let b = account("b", start() + Duration::from_mins(5));
        let written = records.add(&b).await.unwrap();
        // What is known of the chain is what was read before the lost answer.
        let etag = records.newest().await.unwrap().unwrap().etag;
        let back = Change::write(CHAIN, Some(etag), before.fields);
        records.store.commit(&[back]).await.unwrap();
        assert_eq!(records.add(&b).await.unwrap(), written);
        assert_eq!(records.store.scan(PREFIX, AFTER).await.unwrap().len(), 2);
        // A record of another run never passes for it.
        let other = Account { run_id: "c".to_owned(), ..b };
        assert_ne!(records.add(&other).await.unwrap(), written);
    }

    #[tokio::test]
    async fn where_the_newest_is_not_known_the_numbers_go_on() {
        let records = records();
        for id in ["a", "b"] {
            records.add(&account(id, start())).await.unwrap();
        }
        let row = records.newest().await.unwrap().unwrap();
        let gone = Change::Delete { key: row.key, etag: row.etag };
        records.store.commit(&[gone]).await.unwrap();
        assert_eq!(records.add(&account("c", start())).await.unwrap().number, 3);
    }

    #[tokio::test]
    async fn the_stored_form_of_the_chain_is_stable() {
        let records = records();
        let hour = Duration::from_hours(1);
        records.add(&account("a", start())).await.unwrap();
        let head = records.add(&account("b", start() + hour)).await.unwrap();
        records.let_go(start() + KEPT + Duration::from_secs(1)).await.unwrap();
        let fields = records.newest().await.unwrap().unwrap().fields;
        let names: Vec<_> = fields.keys().map(String::as_str).collect();
        assert_eq!(names, ["Head", "HeadNumber", "LetGo", "LetGoNumber"]);
        assert_eq!(fields["Head"], Value::Text(head.hash.to_string()));
        assert_eq!(
            (&fields["HeadNumber"], &fields["LetGoNumber"]),
            (&Value::Int(2), &Value::Int(1))
        );
    }
}
