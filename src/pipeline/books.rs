//! What a run writes down: the state it holds, its counts, and what it sets
//! aside.

use bytes::Bytes;
use tracing::{debug, warn};

use super::lane::{Landed, Lane};
use super::{Exporter, RunError};
use crate::domain::alert::Alert;
use crate::domain::heartbeat::Counts;
use crate::domain::ledger::{Digest, Entry, ExportKey};
use crate::domain::runs::Sightings;
use crate::domain::scope::{OnForeign, Ruling};
use crate::sink::delivery::{Delivered, RefusedRow, SinkFailed};
use crate::sink::quarantine::{self, Holds};
use crate::store::state::Opened;

/// In place of a sink's name where no sink was asked.
const NO_SINK: &str = "none";

/// One run's books.
#[derive(Debug)]
pub(super) struct Books<'a> {
    pub(super) exporter: &'a Exporter,
    pub(super) opened: Opened,
    pub(super) counts: Counts,
    /// The run's own, while its audit counts.
    live: Option<Counts>,
    pub(super) sightings: Sightings,
    /// What the ledger tells the targets apart by.
    targets: Vec<Digest>,
}

impl<'a> Books<'a> {
    pub(super) fn new(exporter: &'a Exporter, opened: Opened) -> Self {
        Self {
            exporter,
            opened,
            counts: Counts::default(),
            live: None,
            sightings: Sightings::default(),
            targets: exporter.sinks.iter().map(|sink| Digest::of(sink.name())).collect(),
        }
    }

    /// The audit counts for itself: the heartbeat tells of the live windows
    /// alone.
    pub(super) fn begin_audit(&mut self) {
        self.live = Some(std::mem::take(&mut self.counts));
    }

    /// See [`Self::begin_audit`].
    pub(super) fn end_audit(&mut self) {
        self.counts = self.of_the_run();
        self.live = None;
    }

    /// What the run did, its audit apart.
    pub(super) fn of_the_run(&self) -> Counts {
        self.live.unwrap_or(self.counts)
    }

    /// Whether the alert may leave. What may not is counted and forgotten.
    pub(super) fn in_scope(&mut self, alert: &Alert) -> Result<bool, RunError> {
        self.counts.fetched += 1;
        match self.sightings.rule(&self.exporter.rules.scope, alert.groups()) {
            Ruling::Export => Ok(true),
            ruling @ (Ruling::Foreign | Ruling::Ungrouped | Ruling::Unproven) => {
                self.counts.withheld += 1;
                debug!(reason = ?ruling, "an alert was withheld");
                match self.exporter.rules.on_foreign {
                    OnForeign::Withhold => Ok(false),
                    OnForeign::Halt => Err(RunError::Foreign),
                }
            }
        }
    }

    /// What the alert is known by; one that cannot be known is set aside.
    pub(super) async fn identify(
        &mut self,
        alert: &Alert,
    ) -> Result<Option<(ExportKey, Entry)>, RunError> {
        let memory = self.exporter.rules.memory;
        match ExportKey::of(alert).and_then(|key| Ok((memory.entry(alert, &key)?, key))) {
            Ok((entry, key)) => Ok(Some((key, entry))),
            Err(unusable) => {
                // Known by its whole text, as long as a run could read it again.
                let text = String::from_utf8_lossy(alert.raw());
                let entry = Entry { at: self.exporter.clock.now(), digest: Digest::of(&text) };
                if !self.opened.ledger.holds(&entry) {
                    let reason = unusable.to_string();
                    let refused = RefusedRow { row: alert.raw().clone(), entry, reason };
                    self.set_aside(&refused, Holds::Alert, NO_SINK).await?;
                    self.opened.ledger.note(entry);
                }
                Ok(None)
            }
        }
    }

    /// Keeps the whole of an alert whose row had to be cut.
    pub(super) async fn keep_whole(&self, name: &str, alert: &Alert) -> Result<(), RunError> {
        Ok(self.exporter.blobs.put(name, alert.raw().clone()).await?)
    }

    /// Puts what `sink` will never take into the quarantine.
    pub(super) async fn set_aside(
        &mut self,
        refused: &RefusedRow,
        holds: Holds,
        sink: &str,
    ) -> Result<(), RunError> {
        let now = self.exporter.clock.now();
        let name = quarantine::blob_name(refused, sink, now);
        let document = quarantine::document(refused, holds, sink, now)?;
        self.exporter.blobs.put(&name, Bytes::from(document)).await?;
        self.counts.quarantined += 1;
        warn!(reason = refused.reason, blob = name, "a row was set aside");
        Ok(())
    }

    /// Whether this was delivered before.
    pub(super) fn holds(&mut self, own: Entry) -> bool {
        let held = self.opened.ledger.holds(&own);
        if held {
            self.opened.ledger.meet(own);
        }
        held
    }

    /// Puts what the lane's sink will never take into the quarantine, for good.
    pub(super) async fn refused(
        &mut self,
        lane: &Lane,
        row: &RefusedRow,
        holds: Holds,
    ) -> Result<(), RunError> {
        self.set_aside(row, holds, lane.name()).await?;
        self.opened.ledger.note(lane.own(row.entry));
        Ok(())
    }

    /// Writes down what became of a batch.
    pub(super) async fn account(
        &mut self,
        lane: &mut Lane,
        mut landed: Landed,
    ) -> Result<(), RunError> {
        let (accepted, refused) = match &mut landed.result {
            Ok(Delivered { accepted, refused, .. }) | Err(SinkFailed { accepted, refused, .. }) => {
                (std::mem::take(accepted), std::mem::take(refused))
            }
        };
        for entry in &accepted {
            let known = self.known_elsewhere(lane, *entry);
            self.counts.delivered += u64::from(!known);
            self.opened.ledger.note(lane.own(*entry));
        }
        lane.standing.accepted += u64::try_from(accepted.len()).unwrap_or(u64::MAX);
        let name = lane.name();
        self.opened.checkpoint.memo.note_delivery(name, accepted.len(), 0);
        for row in &refused {
            self.refused(lane, row, Holds::Row).await?;
            // One that could not be set aside comes again.
            lane.standing.refused += 1;
            self.opened.checkpoint.memo.note_delivery(name, accepted.len(), 1);
        }
        let entries = accepted.into_iter().chain(refused.into_iter().map(|row| row.entry));
        lane.account(landed, entries);
        Ok(())
    }

    /// Whether another target has it: an alert counts as delivered once.
    fn known_elsewhere(&self, lane: &Lane, entry: Entry) -> bool {
        let others = self.targets.iter().filter(|target| **target != lane.target());
        others.into_iter().any(|target| self.opened.ledger.holds(&entry.at_target(*target)))
    }
}
