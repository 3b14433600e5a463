use std::time::Duration;

use super::super::backfill::Caller;
use super::super::{Change, Local, Value};
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
async fn a_predecessor_that_still_runs_beside_is_no_other_instance() {
    let python = |time: &str| {
        Fields::from([("end_time".to_owned(), Value::Text(format!("2026-01-01T{time}Z")))])
    };
    let key = || PREDECESSOR.to_owned();
    let state = state();
    let mut opened = open(&state).await;
    // It writes its first row, then its next, each between two saves of ours.
    state.store.commit(&[Change::Insert { key: key(), fields: python("10:05:00") }]).await.unwrap();
    opened.ledger.note(entry(1, "2026-01-01T00:00:00Z"));
    state.save(&mut opened).await.unwrap();
    let etag = state.store.get(PREDECESSOR).await.unwrap().map(|row| row.etag);
    state.store.commit(&[Change::write(key(), etag, python("10:10:00"))]).await.unwrap();
    opened.ledger.note(entry(2, "2026-01-01T00:00:00Z"));
    state.save(&mut opened).await.unwrap();

    let mut again = open(&state).await;
    assert_eq!(again.ledger.len(), 2, "what was noted is saved");
    // Another instance and it: this one stops.
    let etag = state.store.get(PREDECESSOR).await.unwrap().map(|row| row.etag);
    state.save(&mut again).await.unwrap();
    let etag_now = state.store.get(PREDECESSOR).await.unwrap().map(|row| row.etag);
    assert_ne!(etag, etag_now);
    assert!(matches!(state.save(&mut opened).await, Err(StoreError::Conflict)));
}

#[tokio::test]
async fn the_predecessors_saved_time_is_adopted_and_kept_behind_ours() {
    let state = state();
    let fields =
        Fields::from([("end_time".to_owned(), Value::Text("2026-01-01T10:04:59.999Z".to_owned()))]);
    state.store.commit(&[Change::Insert { key: PREDECESSOR.to_owned(), fields }]).await.unwrap();

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
    state.read_whole_ledger(&mut opened).await.unwrap();
    assert!(opened.ledger.holds(&old));
    state.save(&mut opened).await.unwrap();
    assert_eq!(state.store.scan("Ledger.", "Ledger/").await.unwrap().len(), 2, "not written again");

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
        state.keep_pending(vec![n.to_string()], None, "run", now).await.unwrap();
    }
    let pending = state.pending().await.unwrap();
    assert_eq!((pending.len(), pending.first().unwrap().row.as_str()), (432, "3"));
    state.forget_pending(pending).await.unwrap();
    assert!(state.pending().await.unwrap().is_empty());
}

#[tokio::test]
async fn why_heartbeats_wait_is_the_last_refusals_reason() {
    let state = state();
    let now = at("2026-01-01T00:00:00Z");
    state.keep_pending(vec!["0".to_owned()], None, "run", now).await.unwrap();
    assert_eq!(state.unsent().await.unwrap(), None, "nobody tried yet");
    for (n, why) in [(1_u32, "first"), (2, "last")] {
        let why = Advice::new(why, "do");
        let later = now + Duration::from_secs(n.into());
        state.keep_pending(vec![n.to_string()], Some(&why), "run", later).await.unwrap();
    }
    let advice = Advice::new("last", "do");
    assert_eq!(state.unsent().await.unwrap(), Some(Unsent { count: 3, advice }));
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

#[tokio::test]
async fn a_backfill_that_cannot_be_read_keeps_the_live_export_from_nothing() {
    let state = state();
    let fields = [("Job".to_owned(), Value::Text("{}".to_owned()))].into();
    let row = Change::Insert { key: "Backfill".to_owned(), fields };
    state.store.commit(&[row]).await.unwrap();
    assert!(state.neighbours(Caller::Live).await.unwrap().backfill.is_none());
    for who in [Caller::Backfill, Caller::Estimate] {
        let error = state.neighbours(who).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_audit_knows_what_a_backfill_has_noted_since_the_state_was_opened() {
    let state = state();
    let mut opened = open(&state).await;
    state.save(&mut opened).await.unwrap();
    let sent = entry(1, "2026-01-01T00:00:00Z");
    let page = Page::of(&[sent], Timestamp::EPOCH).unwrap();
    state.store.commit(&rows::page_changes(&page, rows::prefix(state.memory))).await.unwrap();
    assert!(!opened.ledger.holds(&sent));
    state.read_whole_ledger(&mut opened).await.unwrap();
    assert!(opened.ledger.holds(&sent));
}
