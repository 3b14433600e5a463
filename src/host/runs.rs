//! One export at a time, in a task of its own.
//!
//! A run neither dies with the request that started it nor takes the process
//! with it: the host may hang up, and a run may panic.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::domain::heartbeat::{Heartbeat, Unsent};
use crate::pipeline;

/// Does one run and reports on it: the pipeline's, or one that only says which
/// settings are wrong.
type Export = dyn Fn(Uuid) -> BoxFuture<'static, pipeline::Ended> + Send + Sync;

/// Starts runs, one at a time. Clones share the turn.
#[derive(Clone)]
pub struct Runs {
    export: Arc<Export>,
    turn: Arc<Semaphore>,
}

/// How an attempt to run ended.
#[derive(Debug)]
pub enum Ended {
    /// The run ended by itself, well or badly; then the heartbeats it could not
    /// send, if any.
    Reported(Box<Heartbeat>, Option<Box<Unsent>>),
    /// Another instance is exporting, and will report.
    StoodAside,
    /// Nothing was started: another run is under way, or the process is
    /// stopping.
    Refused,
    /// The run panicked: a bug. What it had not saved, the next run does again.
    Crashed,
}

impl Runs {
    /// Runs that call `export` with the run's id.
    pub fn new(
        export: impl Fn(Uuid) -> BoxFuture<'static, pipeline::Ended> + Send + Sync + 'static,
    ) -> Self {
        Self { export: Arc::new(export), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Starts a run and waits for its end; it goes on if the waiting is dropped.
    pub async fn run(&self, run: Uuid) -> Ended {
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else {
            return Ended::Refused;
        };
        let export = Arc::clone(&self.export);
        let task = async move {
            let ended = export(run).await;
            drop(turn);
            ended
        };
        match tokio::spawn(task.in_current_span()).await {
            Ok(pipeline::Ended::Reported(heartbeat, unsent)) => Ended::Reported(heartbeat, unsent),
            Ok(pipeline::Ended::StoodAside) => Ended::StoodAside,
            // Its text can quote the data at hand; the panic hook says where.
            Err(_panicked) => Ended::Crashed,
        }
    }

    /// Whether a run is under way.
    pub(super) fn busy(&self) -> bool {
        self.turn.available_permits() == 0
    }

    /// Waits until no run is under way, and lets no other start.
    pub(super) async fn close(&self) {
        let last = self.turn.acquire().await;
        self.turn.close();
        drop(last);
    }
}

impl fmt::Debug for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runs").field("busy", &self.busy()).finish_non_exhaustive()
    }
}
