//! Batches on their way to one sink, a few at a time.

use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::domain::batch::{Batch, Batcher, RowTooLarge};
use crate::domain::ledger::{Digest, DigestSet, Entry};
use crate::domain::progress::{BatchNo, Receipt, Tally};
use crate::domain::shape::Shape;
use crate::domain::timestamp::Timestamp;
use crate::sink::Sink;
use crate::sink::delivery::{Delivered, SinkFailed, Standing};

/// Batches posted at once. With rows of 1 MB that bounds memory, and it is far
/// from any sink's request limit.
const AT_ONCE: usize = 4;

/// Collects rows, posts batches, and counts what is outstanding.
#[derive(Debug)]
pub(super) struct Lane {
    sink: Sink,
    /// Tells this target's deliveries from another's in the ledger.
    target: Digest,
    /// Whether what is being read is for this target.
    turn: Turn,
    /// Why it takes nothing more in this run.
    failed: Option<Box<SinkFailed>>,
    /// What the window being read has proven delivered here.
    pub(super) proven: Option<Timestamp>,
    /// What deliveries are judged by, kept up to date by the run.
    pub(super) standing: Standing,
    batcher: Batcher,
    tally: Tally,
    flying: JoinSet<(BatchNo, Result<Delivered, SinkFailed>)>,
    /// Whether one may have come back that was not asked after.
    to_ask_after: bool,
    /// What is collected or flying: the ledger does not know it yet.
    under_way: DigestSet,
}

/// Whether rows are for a target just now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// Others are read for.
    Waits,
    /// Rows are for it.
    Reads,
    /// Nothing is left for it in this run.
    Done,
}

/// One batch that came back.
#[derive(Debug)]
pub(super) struct Landed {
    number: BatchNo,
    /// What the sink made of it.
    pub(super) result: Result<Delivered, SinkFailed>,
}

impl Lane {
    /// `refused_before`: rows earlier runs had refused since it last took one.
    pub(super) fn new(sink: Sink, deployed_at: Timestamp, refused_before: u64) -> Self {
        let batcher = Batcher::new(sink.limits());
        Self {
            target: Digest::of(sink.name()),
            turn: Turn::Waits,
            failed: None,
            proven: None,
            sink,
            standing: Standing { deployed_at, accepted: 0, refused: refused_before },
            batcher,
            tally: Tally::default(),
            flying: JoinSet::new(),
            to_ask_after: false,
            under_way: DigestSet::default(),
        }
    }

    /// The target, as the settings name it.
    pub(super) fn name(&self) -> &'static str {
        self.sink.name()
    }

    /// What the ledger tells this target by.
    pub(super) fn target(&self) -> Digest {
        self.target
    }

    /// What the ledger knows a delivery to this target by.
    pub(super) fn own(&self, entry: Entry) -> Entry {
        entry.at_target(self.target)
    }

    /// Whether there may be more for it in this run.
    pub(super) fn is_open(&self) -> bool {
        self.failed.is_none() && self.turn != Turn::Done
    }

    /// Whether rows are for it just now.
    pub(super) fn reads(&self) -> bool {
        self.failed.is_none() && self.turn == Turn::Reads
    }

    /// Another window begins, for it or not.
    pub(super) fn take_turn(&mut self, turn: Turn) {
        self.turn = turn;
        self.proven = None;
    }

    /// It takes nothing more in this run.
    pub(super) fn fail(&mut self, failure: SinkFailed) {
        self.failed.get_or_insert_with(|| Box::new(failure));
    }

    /// Why it takes nothing more in this run.
    pub(super) fn failure(&mut self) -> Option<Box<SinkFailed>> {
        self.failed.take()
    }

    /// Whether this is on its way already.
    pub(super) fn carries(&self, entry: &Entry) -> bool {
        self.under_way.contains(&entry.digest)
    }

    /// Adds the row that `write` writes in this target's shape, within so many
    /// bytes; a batch that became full without it sets out.
    pub(super) fn push<T>(
        &mut self,
        entry: Entry,
        write: impl FnOnce(Shape, &mut Vec<u8>, usize) -> T,
    ) -> (T, Result<(), RowTooLarge>) {
        let (shape, largest) = (self.sink.shape(), self.sink.limits().largest_row());
        let (written, pushed) = self.batcher.write(entry, |body| write(shape, body, largest));
        let pushed = pushed.map(|full| {
            self.under_way.insert(entry.digest);
            if let Some(batch) = full {
                self.send(batch);
            }
        });
        (written, pushed)
    }

    /// Sends what is collected.
    pub(super) fn flush(&mut self) {
        if let Some(batch) = self.batcher.finish() {
            self.send(batch);
        }
    }

    /// Everything before `through` has been pushed.
    pub(super) fn mark(&mut self, through: Timestamp) {
        self.tally.mark(through, !self.batcher.is_empty());
    }

    /// A batch that came back; waits only while too many are out.
    pub(super) async fn landed_if_full(&mut self) -> Option<Landed> {
        if self.flying.len() >= AT_ONCE { self.landed().await } else { self.landed_already() }
    }

    /// The next batch to come back; `None` when none is out.
    ///
    /// A delivery that panicked is as good as lost: its batch stays outstanding
    /// and its rows are sent again by the next run.
    pub(super) async fn landed(&mut self) -> Option<Landed> {
        loop {
            match self.flying.join_next().await? {
                Ok((number, result)) => return Some(Landed { number, result }),
                Err(error) => tracing::error!(%error, "a delivery was abandoned"),
            }
        }
    }

    /// Looks once a batch has set out, not with every alert between two.
    fn landed_already(&mut self) -> Option<Landed> {
        if !std::mem::take(&mut self.to_ask_after) {
            return None;
        }
        let (number, result) = self.flying.try_join_next()?.ok()?;
        self.to_ask_after = true;
        Some(Landed { number, result })
    }

    /// These rows of a batch are accepted or set aside; all of it, unless it
    /// failed.
    pub(super) fn account(&mut self, landed: Landed, entries: impl Iterator<Item = Entry>) {
        match landed.result {
            Ok(_) => self.tally.settled(landed.number),
            Err(failure) => self.fail(failure),
        }
        for entry in entries {
            self.under_way.remove(&entry.digest);
        }
    }

    /// Proof of what is delivered since the last.
    pub(super) fn receipt(&mut self) -> Option<Receipt> {
        let receipt = self.tally.receipt()?;
        self.proven = Some(receipt.through());
        Some(receipt)
    }

    fn send(&mut self, batch: Batch) {
        let number = self.tally.sent();
        let (sink, standing) = (self.sink.clone(), self.standing);
        let flight = async move { (number, sink.deliver(batch, standing).await) };
        self.flying.spawn(flight.in_current_span());
        self.to_ask_after = true;
    }
}
