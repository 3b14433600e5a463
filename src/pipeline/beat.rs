//! Heartbeats on their way: those that could not go before, as soon as a run
//! has its claim; then this run's.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{error, info, warn};

use super::Exporter;
use crate::domain::advice::Advice;
use crate::domain::batch::{Batch, Batcher};
use crate::domain::heartbeat::{Heartbeat, Unsent};
use crate::domain::ledger::{Digest, DigestSet, Entry};
use crate::domain::timestamp::Timestamp;
use crate::error_chain::Chain;
use crate::sink::Sink;
use crate::sink::delivery::{Delivered, RefusedRow, SinkFailed, Standing};
use crate::store::state::Pending;

/// How long reading waits for heartbeats of earlier runs to go.
const EARLIER_FIRST: Duration = Duration::from_secs(30);

/// What became of rows that were to go.
#[derive(Debug, Default)]
struct Sent {
    taken: DigestSet,
    /// Refused alone.
    refused: Vec<RefusedRow>,
    /// Why the rest was not taken.
    why: Option<Advice>,
}

impl Sent {
    fn add(&mut self, accepted: Vec<Entry>, refused: Vec<RefusedRow>) {
        self.taken.extend(accepted.into_iter().map(|entry| entry.digest));
        self.refused.extend(refused);
    }

    /// Why what is left was not taken.
    fn why(&self, sink: &Sink) -> Advice {
        let refused = self.refused.last().map(|row| row.reason.as_str());
        self.why.clone().unwrap_or_else(|| {
            Advice::new(
                format!(
                    "{} refused the row ({}).",
                    sink.place().name(),
                    refused.unwrap_or("it fits in no request")
                ),
                "Run the deployment again, so that the heartbeat table has the columns this version sends. If that does not help, tell the central team, with the time of this run.",
            )
        })
    }

    /// What need not be sent again. A row that is refused while others are taken
    /// is given up, so that it holds up none after it; while none is taken the
    /// fault may not be the row's.
    fn settled(self) -> DigestSet {
        let mut settled = self.taken;
        if !settled.is_empty() {
            for RefusedRow { entry, reason, .. } in self.refused {
                error!(reason, "a heartbeat will never be taken and was given up");
                settled.insert(entry.digest);
            }
        }
        settled
    }
}

impl Exporter {
    /// Sends what earlier runs could not, before this one reads: it may take
    /// minutes, or be killed. What is not taken goes with its own heartbeat, and
    /// is told then.
    ///
    /// Only for the run that holds the claim: two would send it twice.
    pub(super) async fn send_earlier(&self) {
        let Some(sink) = &self.heartbeats else { return };
        let sending = async {
            let pending = self.earlier().await;
            if pending.is_empty() {
                return;
            }
            let now = self.clock.now();
            let batches = batches(sink, pending.iter().map(|earlier| earlier.row.as_str()), now);
            let settled = self.deliver(sink, batches, now).await.settled();
            self.forget(pending, &settled).await;
        };
        if timeout(EARLIER_FIRST, sending).await.is_err() {
            info!("earlier heartbeats could not be sent in time; they go with this run's");
        }
    }

    async fn earlier(&self) -> Vec<Pending> {
        self.state.pending().await.unwrap_or_else(|error| {
            warn!(error = %Chain(&error), "earlier heartbeats could not be read");
            Vec::new()
        })
    }

    /// Those of `pending` that are settled; how many still wait.
    async fn forget(&self, mut pending: Vec<Pending>, settled: &DigestSet) -> usize {
        let waited = pending.len();
        pending.retain(|earlier| settled.contains(&Digest::of(&earlier.row)));
        let unsent = waited - pending.len();
        if !pending.is_empty()
            && let Err(error) = self.state.forget_pending(pending).await
        {
            warn!(error = %Chain(&error), "sent heartbeats could not be forgotten; they will be sent again");
        }
        unsent
    }

    /// Sends what earlier runs could not, then this run's heartbeat and what an
    /// audit found. What the sink does not take is kept for the next run, and
    /// told.
    pub(super) async fn send(
        &self,
        heartbeat: &Heartbeat,
        audited: Option<&Heartbeat>,
    ) -> Option<Unsent> {
        let sink = self.heartbeats.as_ref()?;
        let now = self.clock.now();
        let heartbeats = [Some(heartbeat), audited].into_iter().flatten();
        let mut rows = rows(sink, heartbeats, now)?;
        let pending = self.earlier().await;
        let earlier = pending.iter().map(|earlier| earlier.row.as_str());
        let batches = batches(sink, earlier.chain(rows.iter().map(String::as_str)), now);
        let sent = self.deliver(sink, batches, now).await;
        let why = sent.why(sink);
        let settled = sent.settled();
        rows.retain(|row| !settled.contains(&Digest::of(row)));
        let unsent = self.forget(pending, &settled).await + rows.len();
        if !rows.is_empty() {
            self.keep(rows, Some(&why), heartbeat, now).await;
        }
        (unsent > 0).then(|| Unsent::new(unsent, why))
    }

    /// Leaves it to the next run to send.
    pub(super) async fn send_next_time(&self, heartbeat: &Heartbeat) {
        let Some(sink) = &self.heartbeats else { return };
        let now = self.clock.now();
        if let Some(rows) = rows(sink, [heartbeat], now) {
            self.keep(rows, None, heartbeat, now).await;
        }
    }

    async fn keep(
        &self,
        rows: Vec<String>,
        why: Option<&Advice>,
        heartbeat: &Heartbeat,
        now: Timestamp,
    ) {
        if let Err(error) = self.state.keep_pending(rows, why, &heartbeat.run_id, now).await {
            error!(error = %Chain(&error), "the heartbeat could not be kept");
        }
    }

    /// Batch after batch, up to the first that fails.
    async fn deliver(&self, sink: &Sink, batches: Vec<Batch>, now: Timestamp) -> Sent {
        let deployed_at = self.deployed_at(now).await;
        let mut sent = Sent::default();
        for batch in batches {
            let standing = Standing {
                deployed_at,
                accepted: u64::try_from(sent.taken.len()).unwrap_or(u64::MAX),
                refused: u64::try_from(sent.refused.len()).unwrap_or(u64::MAX),
            };
            match sink.deliver(batch, standing).await {
                Ok(Delivered { accepted, refused, .. }) => sent.add(accepted, refused),
                Err(failed) => {
                    warn!(error = %Chain(&failed), "the heartbeat was not taken; the next run sends it first");
                    let SinkFailed { accepted, refused, advice, .. } = failed;
                    sent.add(accepted, refused);
                    sent.why = Some(advice);
                    break;
                }
            }
        }
        sent
    }
}

/// As `sink` takes them.
fn rows<'a>(
    sink: &Sink,
    heartbeats: impl IntoIterator<Item = &'a Heartbeat>,
    now: Timestamp,
) -> Option<Vec<String>> {
    let rows = heartbeats.into_iter().map(|row| sink.heartbeat_row(row, now));
    match rows.collect() {
        Ok(rows) => Some(rows),
        Err(error) => {
            error!(error = %Chain(&error), "the heartbeat could not be written");
            None
        }
    }
}

/// The rows in requests that `sink` can take.
fn batches<'a>(sink: &Sink, rows: impl Iterator<Item = &'a str>, now: Timestamp) -> Vec<Batch> {
    let mut collected = Batcher::new(sink.limits());
    let mut batches = Vec::new();
    for row in rows {
        match collected.push(row.as_bytes(), Entry { at: now, digest: Digest::of(row) }) {
            Ok(full) => batches.extend(full),
            Err(error) => warn!(error = %Chain(&error), "a heartbeat fits in no request"),
        }
    }
    batches.extend(collected.finish());
    batches
}
