//! One run's hands: what it holds while alerts pass through.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::lane::{Landed, Lane};
use super::report::Report;
use super::{Exporter, Left, RunError};
use crate::domain::alert::Alert;
use crate::domain::budget::Budget;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::heartbeat::Counts;
use crate::domain::ledger::{Digest, Entry, ExportKey};
use crate::domain::runs::Sightings;
use crate::domain::scope::{OnForeign, Ruling};
use crate::domain::shape::Stamp;
use crate::domain::timestamp::Timestamp;
use crate::domain::window::{Plan, Window};
use crate::sink::delivery::{Delivered, RefusedRow, SinkFailed};
use crate::sink::quarantine;
use crate::source::{Failure, FetchError, PageSize, Reader};
use crate::store::state::Opened;

/// Deliveries noted before they are saved. More would make a crash repeat more.
const UNSAVED: usize = 10_000;
/// Longest time between two saves while there is something to save.
const SAVE_EVERY: Duration = Duration::from_secs(20);

/// A run that holds the claim.
pub(super) struct Run<'a> {
    exporter: &'a Exporter,
    id: &'a str,
    opened: Opened,
    lane: Lane,
    counts: Counts,
    sightings: Sightings,
    read: Option<Window>,
    calls_noted: u64,
    saved_at: Instant,
    row: Vec<u8>,
}

impl<'a> Run<'a> {
    /// Claims the position.
    pub(super) async fn begin(
        exporter: &'a Exporter,
        mut opened: Opened,
        id: &'a str,
    ) -> Result<Self, RunError> {
        let rules = &exporter.rules;
        let now = exporter.clock.now();
        let checkpoint = &mut opened.checkpoint;
        checkpoint.progress =
            checkpoint.progress.claim(id, &rules.instance, &rules.scope.fingerprint(), now)?;
        checkpoint.not_before = None;
        exporter.state.save(&mut opened).await?;
        Ok(Self {
            exporter,
            id,
            lane: Lane::new(exporter.sink.clone(), opened.checkpoint.deployed_at),
            opened,
            counts: Counts::default(),
            sightings: Sightings::default(),
            read: None,
            calls_noted: 0,
            saved_at: Instant::now(),
            row: Vec::new(),
        })
    }

    pub(super) fn next_plan(&self) -> Option<Plan> {
        let Checkpoint { progress, read_to, .. } = &self.opened.checkpoint;
        self.exporter.rules.windows.next(progress.position(), *read_to, self.exporter.clock.now())
    }

    pub(super) fn budget(&self) -> Budget {
        self.opened.checkpoint.budget.clone()
    }

    pub(super) fn page_size(&mut self) -> PageSize {
        self.calls_noted = 0;
        let configured = self.exporter.rules.page_size;
        let noted = self.opened.checkpoint.page_size.as_deref();
        noted.map_or_else(|| PageSize::new(configured), |noted| PageSize::decode(noted, configured))
    }

    /// Everything of the window before `time` has come.
    pub(super) fn reached(&mut self, plan: Plan, time: Timestamp) {
        let start = self.read.map_or(plan.read.start(), |read| read.start().min(plan.read.start()));
        self.read = Window::new(start, time).or(self.read);
        if plan.reaches_position() {
            self.lane.mark(time);
        }
    }

    /// Whether the alert may leave. What may not is counted and forgotten.
    pub(super) fn in_scope(&mut self, alert: &Alert) -> Result<bool, RunError> {
        self.counts.fetched += 1;
        let group = alert.group();
        let ruling = self.exporter.rules.scope.rule(&group);
        self.sightings.note(&group, ruling);
        match ruling {
            Ruling::Export => Ok(true),
            Ruling::Foreign | Ruling::Ungrouped | Ruling::Unproven => {
                self.counts.withheld += 1;
                debug!(reason = ?ruling, "an alert was withheld");
                match self.exporter.rules.on_foreign {
                    OnForeign::Withhold => Ok(false),
                    OnForeign::Halt => Err(RunError::Foreign),
                }
            }
        }
    }

    /// The alert's key, unless it was delivered before or is on its way.
    pub(super) async fn news(
        &mut self,
        alert: &Alert,
    ) -> Result<Option<(ExportKey, Entry)>, RunError> {
        let memory = self.exporter.rules.memory;
        let identified = ExportKey::of(alert).and_then(|key| Ok((memory.entry(alert, &key)?, key)));
        let (entry, key) = match identified {
            Ok(identified) => identified,
            Err(unusable) => {
                // Known by its whole text, as long as a run could read it again.
                let text = String::from_utf8_lossy(alert.raw());
                let entry = Entry { at: self.exporter.clock.now(), digest: Digest::of(&text) };
                if !self.opened.ledger.holds(&entry) {
                    let reason = unusable.to_string();
                    self.set_aside(&RefusedRow { row: alert.raw().clone(), entry, reason }).await?;
                }
                return Ok(None);
            }
        };
        if self.opened.ledger.holds(&entry) || self.lane.carries(&entry) {
            self.counts.duplicates += 1;
            self.opened.ledger.meet(entry);
            return Ok(None);
        }
        Ok(Some((key, entry)))
    }

    /// Writes the row, and the whole alert beside it if the row had to be cut.
    pub(super) async fn shape(
        &mut self,
        alert: &Alert,
        key: &ExportKey,
        entry: Entry,
    ) -> Result<bool, RunError> {
        let rules = &self.exporter.rules;
        let stamp = Stamp { sent_at: self.exporter.clock.now(), trust: &rules.trust, run: self.id };
        let shaped =
            rules.shape.write(&mut self.row, alert, key, entry, stamp, self.lane.largest_row());
        if let Some(name) = shaped.original {
            self.exporter.blobs.put(&name, alert.raw().clone()).await?;
        }
        if self.row.len() > self.lane.largest_row() {
            let reason = "larger than any request may be".to_owned();
            self.set_aside(&RefusedRow { row: alert.raw().clone(), entry, reason }).await?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Puts the row on its way; waits while too many batches are out.
    pub(super) async fn deliver(&mut self, entry: Entry) -> Result<(), RunError> {
        if let Err(too_large) = self.lane.push(&self.row, entry) {
            let row = Bytes::copy_from_slice(&self.row);
            self.set_aside(&RefusedRow { row, entry, reason: too_large.to_string() }).await?;
        }
        while let Some(landed) = self.lane.landed_if_full().await {
            self.account(landed).await?;
        }
        Ok(())
    }

    /// Waits for every batch that is out; with `flush`, what is collected sets
    /// out first. All are waited for even after a failure: what the sink took
    /// is noted, so that it is not sent again.
    pub(super) async fn settle(&mut self, flush: bool) -> Result<(), RunError> {
        if flush {
            self.lane.flush();
        }
        let mut outcome = Ok(());
        while let Some(landed) = self.lane.landed().await {
            outcome = self.account(landed).await.and(outcome);
        }
        outcome
    }

    async fn account(&mut self, mut landed: Landed) -> Result<(), RunError> {
        let (accepted, refused) = match &mut landed.result {
            Ok(Delivered { accepted, refused, .. }) | Err(SinkFailed { accepted, refused, .. }) => {
                (std::mem::take(accepted), std::mem::take(refused))
            }
        };
        for entry in &accepted {
            self.opened.ledger.note(*entry);
        }
        let taken = u64::try_from(accepted.len()).unwrap_or(u64::MAX);
        self.counts.delivered += taken;
        self.lane.standing.accepted += taken;
        for row in &refused {
            self.lane.standing.refused += 1;
            self.set_aside(row).await?;
        }
        let entries = accepted.into_iter().chain(refused.into_iter().map(|row| row.entry));
        self.lane.account(&landed, entries);
        landed.result.map(drop).map_err(|failed| RunError::Deliver(Box::new(failed)))
    }

    async fn set_aside(&mut self, refused: &RefusedRow) -> Result<(), RunError> {
        let now = self.exporter.clock.now();
        let name = quarantine::blob_name(refused, now);
        let document = quarantine::document(refused, self.exporter.sink.name(), now)?;
        self.exporter.blobs.put(&name, document.into()).await?;
        self.counts.quarantined += 1;
        self.opened.ledger.note(refused.entry);
        warn!(reason = refused.reason, blob = name, "a row was set aside");
        Ok(())
    }

    /// Takes over what the reader has learnt.
    pub(super) fn has_read(&mut self, reader: &Reader) {
        self.counts.calls += reader.calls() - self.calls_noted;
        self.calls_noted = reader.calls();
        let checkpoint = &mut self.opened.checkpoint;
        checkpoint.budget = reader.budget().clone();
        checkpoint.page_size = Some(reader.page_size().encode());
    }

    pub(super) async fn save_when_due(&mut self, reader: &Reader) -> Result<(), RunError> {
        let unsaved = self.opened.ledger.unsaved();
        if unsaved >= UNSAVED || (unsaved > 0 && self.saved_at.elapsed() >= SAVE_EVERY) {
            self.has_read(reader);
            self.save().await?;
        }
        Ok(())
    }

    /// Moves to where delivery is proven.
    pub(super) fn advance(&mut self) -> Result<(), RunError> {
        if let Some(receipt) = self.lane.receipt() {
            let checkpoint = &mut self.opened.checkpoint;
            checkpoint.progress =
                checkpoint.progress.advance(receipt, self.exporter.clock.now())?;
            checkpoint.read_to = Some(receipt.through());
        }
        Ok(())
    }

    /// A window was read to its end: the next one reads the overlap again.
    pub(super) fn window_done(&mut self) {
        self.opened.checkpoint.read_to = None;
    }

    /// Saves how far delivery is proven, and what was delivered.
    pub(super) async fn save(&mut self) -> Result<(), RunError> {
        self.advance()?;
        self.exporter.state.save(&mut self.opened).await?;
        self.saved_at = Instant::now();
        Ok(())
    }

    /// Saves for the last time, gives the claim back and reports.
    pub(super) async fn end(
        mut self,
        outcome: Result<Left, RunError>,
        report: &mut Report,
    ) -> Result<Left, RunError> {
        let now = self.exporter.clock.now();
        report.counts = self.counts;
        report.groups = self.sightings.seen();
        report.read = self.read;
        report.position = Some(self.opened.checkpoint.progress.position());
        // Another run may own the state now; nothing of ours may be written.
        if matches!(&outcome, Err(RunError::State(_))) {
            return outcome;
        }
        let checkpoint = &mut self.opened.checkpoint;
        if let Err(RunError::Fetch(FetchError {
            failure: Failure::Throttled { after, .. }, ..
        })) = &outcome
        {
            checkpoint.not_before = after.map(|after| now + after);
        }
        checkpoint.progress = match &outcome {
            Err(RunError::Foreign) => {
                checkpoint.progress.halt(&self.exporter.rules.scope.fingerprint(), now)?
            }
            Ok(_) | Err(_) => checkpoint.progress.release()?,
        };
        self.exporter.state.save(&mut self.opened).await?;
        outcome
    }
}
