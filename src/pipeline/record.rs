//! The run's record, written before the heartbeat that carries its hash.

use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;

use super::Exporter;
use super::report::Report;
use crate::domain::heartbeat::Heartbeat;
use crate::domain::progress::Progress;
use crate::domain::record::{Account, Making, Passage};
use crate::domain::timestamp::Timestamp;
use crate::error_chain::Chain;
use crate::program;

/// How long the heartbeat waits for the record at most: state storage that
/// does not answer must not keep it back.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a run did to the saved position, as far as it came.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Saved {
    /// It did not come to read it.
    #[default]
    Unread,
    /// It read it, and wrote nothing.
    Seen(Option<Timestamp>),
    /// It set out to write, and did not come to its end: how far it came stands
    /// in the state alone.
    Begun(Option<Timestamp>),
    /// It came to its end.
    Ended(Passage),
}

impl Exporter {
    /// Writes the run's record, and its place in the chain into `heartbeat`. If
    /// it cannot be written the heartbeat goes without.
    pub(super) async fn record(&self, heartbeat: &mut Heartbeat, report: Report) {
        let writing = async {
            let position = self.passage(report.saved).await;
            let making = Making { settings: self.rules.settings, binary: program::digest().await };
            let now = self.clock.now();
            let mut account = Account::of(heartbeat, report.groups, position, making, now);
            account.run.kind = report.kind;
            self.state.runs().add(&account).await
        };
        match timeout(PATIENCE, writing).await {
            Ok(Ok(link)) => {
                heartbeat.record_number = Some(link.number);
                heartbeat.record_hash = Some(link.hash);
            }
            Ok(Err(error)) => {
                warn!(error = %Chain(&error), "the run's record could not be written");
            }
            Err(_elapsed) => warn!("the run's record could not be written in time"),
        }
    }

    /// Lets go of old records, after the heartbeat is out.
    pub(super) async fn let_go(&self) {
        if let Err(error) = self.state.runs().let_go(self.clock.now()).await {
            warn!(error = %Chain(&error), "old records could not be let go; another run will");
        }
    }

    /// How the run found the saved position and how it left it. A run that did
    /// not come to its end still holds its claim, so nobody has moved since.
    async fn passage(&self, saved: Saved) -> Option<Passage> {
        match saved {
            Saved::Unread => None,
            Saved::Seen(place) => Some(Passage { before: place, after: place }),
            Saved::Ended(passage) => Some(passage),
            Saved::Begun(before) => {
                let checkpoint = self.state.checkpoint().await.ok()?;
                let progress = checkpoint.map(|checkpoint| checkpoint.progress);
                Some(Passage { before, after: progress.as_ref().map(Progress::position) })
            }
        }
    }
}
