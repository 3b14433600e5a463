//! One run's hands: the targets it fills while alerts pass through.

use std::time::Duration;

use tokio::time::Instant;

use super::beside::Beside;
use super::books::Books;
use super::lane::{Lane, Turn};
use super::record::Saved;
use super::report::{Report, Told};
use super::turn::note;
use super::{Exporter, Left, RunError, Undelivered};
use crate::domain::alert::Alert;
use crate::domain::backfill;
use crate::domain::budget::Budget;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::heartbeat::Counts;
use crate::domain::judge;
use crate::domain::ledger::{Entry, ExportKey};
use crate::domain::pace::Manner;
use crate::domain::reached::TOGETHER;
use crate::domain::record::Passage;
use crate::domain::shape::Stamp;
use crate::domain::timestamp::Timestamp;
use crate::domain::window::{self, Plan, Window, WindowPolicy};
use crate::sink::Sink;
use crate::sink::delivery::RefusedRow;
use crate::sink::quarantine::Holds;
use crate::source::{FetchError, PageSize, Reader};
use crate::store::backfill::{Caller, Neighbours};
use crate::store::state::Opened;

/// Deliveries noted before they are saved. More would make a crash repeat more.
const UNSAVED: usize = 10_000;
/// Noted within [`SAVES_APART`]; their digests are 800 KB.
const UNSAVED_AT_MOST: usize = 50_000;
/// Shortest time between two saves while there are no more than that: a save
/// waits for a disk or a network, and sending waits for the save.
const SAVES_APART: Duration = Duration::from_secs(1);
/// Longest time between two saves while there is something to save.
const SAVE_EVERY: Duration = Duration::from_secs(20);

/// A run that holds the claim.
pub(super) struct Run<'a> {
    id: &'a str,
    pub(super) books: Books<'a>,
    manner: Manner,
    lanes: Vec<Lane>,
    windows: WindowPolicy,
    /// Where a span of the past ends; the live export follows the clock.
    until: Option<Timestamp>,
    read: Option<Window>,
    /// How little of the last window had to be asked for at once.
    half: Option<Duration>,
    beside: Beside,
    /// A backfill's: what the others were at when its slice began.
    pub(super) known: Option<Box<Neighbours>>,
    calls_noted: u64,
    saved_at: Instant,
    /// For what it did, however it ends.
    told: Told,
}

impl<'a> Run<'a> {
    /// Claims the position.
    pub(super) async fn begin(
        exporter: &'a Exporter,
        mut opened: Opened,
        id: &'a str,
        manner: Manner,
        told: &Told,
    ) -> Result<Self, RunError> {
        let rules = &exporter.rules;
        let now = exporter.clock.now();
        let scope = rules.scope.fingerprint();
        let begun_before = opened.saved_position().is_some();
        let checkpoint = &mut opened.checkpoint;
        checkpoint.progress = checkpoint.progress.claim(id, &rules.instance, &scope, now)?;
        checkpoint.not_before = None;
        checkpoint.pace.ask(now);
        let names = || exporter.sinks.iter().map(Sink::name);
        let position = checkpoint.progress.position();
        let new_target = names().any(|name| checkpoint.reached.at(name).is_none());
        if new_target && begun_before {
            // It was promised nothing earlier.
            checkpoint.whole_from = position;
        }
        if new_target || !checkpoint.memo.met.is_of(&scope) {
            // What was read again was not for the new target or groups, and no
            // backfill may bring it.
            checkpoint.read_to = None;
        }
        checkpoint.memo.met.note(&scope, Counts::default(), now);
        checkpoint.reached = checkpoint.reached.of(names(), position);
        exporter.state.save(&mut opened).await?;
        let (windows, until) = match opened.job() {
            // Once good rows stand beside refused ones, it shows whose fault it is.
            None if opened.checkpoint.memo.all_refused => (rules.windows.at_once(), None),
            None => (rules.windows.for_calls(manner.calls), None),
            Some(job) => {
                (backfill::windows(opened.checkpoint.budget.beside_live()), Some(job.span.to))
            }
        };
        let mut beside = Beside::default();
        if until.is_none() {
            // Read once the claim is saved: whoever books calls later sees it.
            beside = exporter.beside_live().await?;
            let budget = &mut opened.checkpoint.budget;
            *budget = budget.clone().beside(std::mem::take(&mut beside.calls));
        }
        let Checkpoint { deployed_at, memo, .. } = &opened.checkpoint;
        let lane = |sink: &Sink| Lane::new(sink.clone(), *deployed_at, memo.refused(sink.name()));
        Ok(Self {
            id,
            lanes: exporter.sinks.iter().map(lane).collect(),
            books: Books::new(exporter, opened),
            windows,
            until,
            manner,
            read: None,
            half: None,
            beside,
            known: None,
            calls_noted: 0,
            saved_at: Instant::now(),
            told: told.clone(),
        })
    }

    /// The next window, for the targets that are furthest and may have more;
    /// then for those that are behind them.
    pub(super) fn next_plan(&mut self) -> Option<Plan> {
        let windows = &self.windows;
        // Before the source has answered, what is read goes by our clock.
        let clock = &self.books.exporter.clock;
        let live = || if self.books.counts.calls > 0 { self.latest() } else { clock.now() };
        let now = self.until.unwrap_or_else(live);
        let turns = self
            .period(now)
            .max(self.books.exporter.slot(now).map_or(Duration::ZERO, |it| it.tick() * 2));
        let last_read = windows.only_last.and_then(|depth| self.last_read(depth, now));
        let Checkpoint { reached, read_to, slice, .. } = &self.books.opened.checkpoint;
        let slice = slice.filter(|_| windows.only_last.is_none()).unwrap_or(Duration::MAX);
        let apart = if windows.only_last.is_some() { Duration::MAX } else { TOGETHER };
        let lanes = &mut self.lanes;
        loop {
            let open = |name: &str| lanes.iter().any(|it| it.name() == name && it.is_open());
            let group = reached.next_group(open, apart)?;
            let mut some_wait = false;
            for lane in lanes.iter_mut().filter(|lane| lane.is_open()) {
                let joins = reached.at(lane.name()).is_some_and(|at| group.holds(at));
                lane.take_turn(if joins { Turn::Reads } else { Turn::Waits });
                some_wait |= !joins;
            }
            // With a single call those in front would take it each time.
            if some_wait && self.manner.calls == 1 && now.since(group.from) < turns {
                group_done(lanes);
                continue;
            }
            // How far the overlap was read again is noted for all of them only.
            let all = lanes.iter().all(Lane::reads);
            let read_to = read_to.filter(|_| all);
            let read_to = if windows.only_last.is_some() { last_read } else { read_to };
            match windows.next(group.from, read_to, now) {
                Some(plan) => return Some(plan.at_most(slice, all)),
                None => group_done(lanes),
            }
        }
    }

    /// Where the window before ended, where every run reads the last minutes and
    /// those of the one before are near: timers are late by seconds, and what
    /// lies in between was asked for.
    fn last_read(&self, depth: Duration, now: Timestamp) -> Option<Timestamp> {
        let near = depth * 2 + self.period(now);
        let last_read = self.books.opened.checkpoint.last_read;
        last_read.filter(|end| (now - self.windows.settle).since(*end) <= near)
    }

    /// From one turn to the next while nothing is amiss.
    fn period(&self, now: Timestamp) -> Duration {
        let Books { exporter, opened, .. } = &self.books;
        let Checkpoint { pace, budget, .. } = &opened.checkpoint;
        Duration::from_mins(pace.period(budget, exporter.slot(now)).into())
    }

    /// Now, once the source has answered: its clock and the other servers' count
    /// too. If ours runs ahead, what is to come would be passed over.
    fn latest(&self) -> Timestamp {
        let exporter = self.books.exporter;
        let servers = exporter.dates.now().into_iter().map(Timestamp::from);
        judge::at_the_latest(exporter.clock.now(), servers)
    }

    /// Nothing is left for the targets that were read for.
    pub(super) fn group_done(&mut self) {
        group_done(&mut self.lanes);
    }

    /// Whether any of the targets that are read for still takes rows.
    pub(super) fn is_read_for(&self) -> bool {
        self.lanes.iter().any(Lane::reads)
    }

    /// Every target that works is read for; no window is.
    pub(super) fn all_read(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.take_turn(Turn::Reads));
    }

    /// Whether a target that works lacks this.
    pub(super) fn lacks(&mut self, entry: Entry) -> bool {
        let books = &mut self.books;
        let mut lanes = self.lanes.iter().filter(|lane| lane.reads());
        lanes.any(|lane| !books.holds(lane.own(entry)))
    }

    pub(super) fn budget(&self) -> Budget {
        self.books.opened.checkpoint.budget.clone()
    }

    /// What is left of it after the windows before.
    pub(super) fn manner(&self) -> Manner {
        let made = u32::try_from(self.books.counts.calls).unwrap_or(u32::MAX);
        let left = |calls: u32| calls.saturating_sub(made);
        let Manner { calls, unfinished, .. } = self.manner;
        Manner { calls: left(calls), unfinished: left(unfinished), ..self.manner }
    }

    pub(super) fn page_size(&mut self) -> PageSize {
        self.calls_noted = 0;
        let configured = self.books.exporter.rules.page_size;
        let noted = self.books.opened.checkpoint.page_size.as_deref().unwrap_or_default();
        let large = self.manner.large_pages;
        let decode = if large { PageSize::decode_largest } else { PageSize::decode };
        decode(noted, configured)
    }

    /// Everything of the window before `time` has come.
    pub(super) fn reached(&mut self, plan: Plan, time: Timestamp) {
        // What is later than the servers' time can still come.
        let settled = self.until.unwrap_or_else(|| self.latest() - self.windows.settle);
        let time = time.min(settled);
        let start = self.read.map_or(plan.read.start(), |read| read.start().min(plan.read.start()));
        self.read = Window::new(start, time).or(self.read);
        if plan.reaches_position() {
            self.lanes.iter_mut().filter(|lane| lane.reads()).for_each(|lane| lane.mark(time));
        }
    }

    /// Shapes, batches and sends the alert, target by target that lacks it.
    pub(super) async fn export(
        &mut self,
        alert: &Alert,
        key: &ExportKey,
        entry: Entry,
    ) -> Result<(), RunError> {
        let stamp = Stamp {
            sent_at: self.books.exporter.clock.now(),
            trust: &self.books.exporter.rules.trust,
            run: self.id,
        };
        let mut news = false;
        for lane in self.lanes.iter_mut().filter(|lane| lane.reads()) {
            if lane.carries(&entry) || self.books.holds(lane.own(entry)) {
                continue;
            }
            news = true;
            let (shaped, pushed) = lane.push(entry, |shape, rows, largest| {
                shape.write(rows, alert, key, entry, stamp, largest)
            });
            // Before its row can set out: nothing is sent of a run that fails so.
            if let Some(name) = shaped.original {
                self.books.keep_whole(&name, alert).await?;
            }
            if let Err(too_large) = pushed {
                let reason = too_large.to_string();
                let refused = RefusedRow { row: alert.raw().clone(), entry, reason };
                self.books.refused(lane, &refused, Holds::Alert).await?;
            }
            while let Some(landed) = lane.landed_if_full().await {
                self.books.account(lane, landed).await?;
            }
        }
        self.books.counts.duplicates += u64::from(!news);
        Ok(())
    }

    /// Waits for every batch that is out; with `flush`, what is collected sets
    /// out first. All are waited for even after a failure: what a sink took is
    /// noted, so that it is not sent again.
    pub(super) async fn settle(&mut self, flush: bool) -> Result<(), RunError> {
        let mut outcome = Ok(());
        for lane in self.lanes.iter_mut().filter(|lane| flush && lane.reads()) {
            lane.flush();
        }
        for lane in &mut self.lanes {
            while let Some(landed) = lane.landed().await {
                outcome = self.books.account(lane, landed).await.and(outcome);
            }
        }
        outcome
    }

    /// Takes over what the reader has learnt.
    pub(super) fn has_read(&mut self, reader: &Reader) {
        self.books.counts.calls += reader.calls() - self.calls_noted;
        self.calls_noted = reader.calls();
        let checkpoint = &mut self.books.opened.checkpoint;
        checkpoint.budget = reader.budget();
        self.half = reader.half();
        checkpoint.page_size = Some(reader.page_size().encode());
        self.note_spent_hour(reader);
    }

    /// The period becomes longer once the hour's calls were used up.
    pub(super) fn note_spent_hour(&mut self, reader: &Reader) {
        let Books { exporter, opened, .. } = &mut self.books;
        if reader.met_spent_hour() {
            let (checkpoint, now) = (&mut opened.checkpoint, exporter.clock.now());
            checkpoint.pace.refused(&checkpoint.budget, exporter.slot(now), now);
        }
    }

    pub(super) async fn save_when_due(
        &mut self,
        reader: &Reader,
        now: Instant,
    ) -> Result<(), RunError> {
        if is_due(self.books.opened.ledger.unsaved(), now.duration_since(self.saved_at)) {
            self.has_read(reader);
            self.save().await?;
        }
        Ok(())
    }

    /// Moves to where delivery is proven, for each target and for all.
    pub(super) fn advance(&mut self) -> Result<(), RunError> {
        let checkpoint = &mut self.books.opened.checkpoint;
        for lane in &mut self.lanes {
            if let Some(receipt) = lane.receipt() {
                checkpoint.reached.advance(lane.name(), receipt);
            }
        }
        if let Some(slowest) = checkpoint.reached.slowest() {
            let now = self.books.exporter.clock.now();
            checkpoint.progress = checkpoint.progress.advance(slowest, now)?;
        }
        if !self.lanes.iter().all(Lane::reads) {
            checkpoint.read_to = None;
        } else if let Some(proven) = self.lanes.iter().map(|lane| lane.proven).min().flatten() {
            checkpoint.read_to = Some(proven);
        }
        Ok(())
    }

    /// How long ago it saved.
    pub(super) fn unsaved_for(&self) -> Duration {
        self.saved_at.elapsed()
    }

    /// Whether it stops after this page, to look at what others are at: a
    /// backfill, once they have saved anything. A live run may have begun, or
    /// begun and ended, or halted; or somebody wants it to end.
    pub(super) async fn gives_way(&self) -> Result<bool, RunError> {
        let Some(known) = &self.known else { return Ok(false) };
        let others = self.books.exporter.state.neighbours(Caller::Backfill).await?;
        Ok(!others.stand_as_in(known))
    }

    /// A window was read to its end: the next one reads the overlap again, or
    /// what is left of it.
    pub(super) fn window_done(&mut self, plan: Plan) {
        let (all, latest) = (self.lanes.iter().all(Lane::reads), self.latest());
        let checkpoint = &mut self.books.opened.checkpoint;
        let in_the_overlap = self.windows.only_last.is_none() && plan.read.end() <= plan.position;
        checkpoint.read_to = (all && in_the_overlap).then_some(plan.read.end());
        if self.windows.only_last.is_none() {
            let whole = self.windows.max_advance;
            checkpoint.slice = checkpoint.slice.map(window::longer).filter(|it| *it < whole);
            checkpoint.last_read = None;
        } else if all {
            checkpoint.last_read = Some(plan.read.end().min(latest - self.windows.settle));
        }
        self.lanes.iter_mut().for_each(|lane| lane.proven = None);
    }

    /// Saves how far delivery is proven, and what was delivered.
    pub(super) async fn save(&mut self) -> Result<(), RunError> {
        self.advance()?;
        self.books.opened.note_counts(self.books.counts);
        self.books.exporter.state.save(&mut self.books.opened).await?;
        self.saved_at = Instant::now();
        Ok(())
    }

    /// Why targets did not take what was for them.
    pub(super) fn undelivered(&mut self) -> Result<(), RunError> {
        let targets = self.lanes.len();
        let mut failed =
            self.lanes.iter_mut().filter_map(|lane| lane.failure().map(|why| (lane.name(), why)));
        let Some((first, error)) = failed.next() else { return Ok(()) };
        let more: Vec<_> = failed.collect();
        let unhindered = targets - 1 - more.len();
        Err(RunError::Deliver(Undelivered { first, error, more, unhindered }))
    }

    /// Saves for the last time, gives the claim back and reports.
    pub(super) async fn end(
        mut self,
        outcome: Result<Left, RunError>,
        report: &mut Report,
    ) -> Result<Left, RunError> {
        let Books { exporter, opened, counts, sightings, .. } = &mut self.books;
        let now = exporter.clock.now();
        report.counts.set(*counts);
        report.groups = sightings.seen();
        report.read = self.read;
        report.position = Some(opened.checkpoint.progress.position());
        std::mem::take(&mut self.beside).report(report);
        opened.note_counts(*counts);
        // Another run may own the state now; nothing of ours may be written.
        if matches!(&outcome, Err(RunError::State(_))) {
            return outcome;
        }
        let checkpoint = &mut opened.checkpoint;
        let scope = exporter.rules.scope.fingerprint();
        checkpoint.memo.met.note(&scope, *counts, now);
        report.has_met(&checkpoint.memo.met, &scope, now);
        if let Err(RunError::Fetch(FetchError { failure, .. })) = &outcome
            && let Some(wait) = failure.asked_wait()
        {
            checkpoint.not_before = Some(now + wait);
        }
        note(checkpoint, &outcome, report, now);
        if matches!(outcome, Ok(Left::Budget)) && counts.calls > 0 {
            let begun = self.read.is_some();
            if !begun {
                checkpoint.pace.starve();
            }
            if let Some(half) = self.half.filter(|_| !begun || self.manner.calls == 1) {
                checkpoint.slice = Some(half);
            }
        }
        checkpoint.progress = match &outcome {
            Err(RunError::Foreign) => checkpoint.progress.halt(&scope, now)?,
            Ok(_) | Err(_) => checkpoint.progress.release()?,
        };
        exporter.state.save(opened).await?;
        if let Saved::Begun(before) = report.saved {
            report.saved = Saved::Ended(Passage { before, after: opened.saved_position() });
        }
        outcome
    }
}

impl Drop for Run<'_> {
    /// A run that takes too long, or panics, has done what it has done.
    fn drop(&mut self) {
        self.told.set(self.books.of_the_run());
    }
}

/// Whether to save so many deliveries, so long after the last save.
fn is_due(unsaved: usize, since: Duration) -> bool {
    match unsaved {
        0 => false,
        1..UNSAVED => since >= SAVE_EVERY,
        UNSAVED..UNSAVED_AT_MOST => since >= SAVES_APART,
        UNSAVED_AT_MOST.. => true,
    }
}

fn group_done(lanes: &mut [Lane]) {
    lanes.iter_mut().filter(|lane| lane.reads()).for_each(|lane| lane.take_turn(Turn::Done));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_repeats_no_more_than_twenty_seconds_or_ten_thousand_rows_or_a_second_of_many() {
        let due = |unsaved, millis| is_due(unsaved, Duration::from_millis(millis));
        assert!(!due(0, 60_000));
        assert!(!due(9_999, 19_999) && due(1, 20_000));
        assert!(!due(10_000, 999) && due(10_000, 1_000));
        assert!(!due(49_999, 999) && due(50_000, 0));
    }
}
