//! One run, in order.

use uuid::Uuid;

use crate::domain::heartbeat::Heartbeat;

/// Everything a run needs.
#[derive(Debug)]
pub struct Exporter {}

impl Exporter {
    /// Exports what has settled since the last run and reports on it.
    ///
    /// Never fails: a failure is a heartbeat that says so.
    pub async fn run(&self, run: Uuid) -> Heartbeat {
        let _ = run;
        std::future::pending().await
    }
}
