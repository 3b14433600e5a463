//! Past runs as rows `Run.{time}.{run}`, one each, kept for 30 days.

use super::{Change, Fields, MAX_CHANGES, Store, StoreError, Value};
use crate::domain::runs::{KEPT, PastRun};
use crate::domain::timestamp::Timestamp;

const PREFIX: &str = "Run.";
/// The first key after all that begin with the prefix.
const AFTER: &str = "Run/";
const COLUMN: &str = "Run";

/// Past runs.
#[derive(Clone, Debug)]
pub struct PastRuns {
    store: Store,
}

impl PastRuns {
    /// In `store`.
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Keeps `run`, whose id is `id`, and lets go of those older than 30 days.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the run may not be kept, or old ones not be gone.
    pub async fn keep(&self, run: &PastRun, id: &str) -> Result<(), StoreError> {
        let corrupt = |_unprintable| StoreError::Corrupt {
            row: COLUMN.to_owned(),
            what: "the run cannot be written as JSON",
        };
        let text = serde_json::to_string(run).map_err(corrupt)?;
        let key = format!("{PREFIX}{}.{id}", run.at.sortable());
        let fields = Fields::from([(COLUMN.to_owned(), Value::Text(text))]);
        self.store.commit(&[Change::Insert { key, fields }]).await?;
        let border = format!("{PREFIX}{}", (run.at - KEPT).sortable());
        let old = self.store.scan(PREFIX, &border).await?;
        let changes: Vec<_> =
            old.into_iter().map(|row| Change::Delete { key: row.key, etag: row.etag }).collect();
        for some in changes.chunks(MAX_CHANGES) {
            self.store.commit(some).await?;
        }
        Ok(())
    }

    /// Those that ended at or after `from`, oldest first. Rows that a later
    /// version wrote and this one cannot read are left out.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they cannot be read.
    pub async fn since(&self, from: Timestamp) -> Result<Vec<PastRun>, StoreError> {
        let rows = self.store.scan(&format!("{PREFIX}{}", from.sortable()), AFTER).await?;
        let read = |row: &super::Row| match row.fields.get(COLUMN) {
            Some(Value::Text(text)) => serde_json::from_str(text).ok(),
            Some(Value::Bytes(_) | Value::Int(_) | Value::Bool(_)) | None => None,
        };
        Ok(rows.iter().filter_map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::heartbeat::{Counts, Status};
    use crate::domain::runs::Seen;
    use crate::store::Local;
    use std::time::Duration;

    fn run(at: Timestamp) -> PastRun {
        PastRun {
            at,
            status: Status::Ok,
            message: String::new(),
            next_step: String::new(),
            counts: Counts::default(),
            lag_seconds: None,
            duration_ms: 1,
            groups: Seen::default(),
        }
    }

    #[tokio::test]
    async fn runs_are_kept_for_30_days_and_then_deleted() {
        let runs = PastRuns::new(Store::Local(Local::in_memory().unwrap()));
        let first: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        runs.keep(&run(first), "a").await.unwrap();
        runs.keep(&run(first + KEPT), "b").await.unwrap();
        assert_eq!(runs.since(Timestamp::EPOCH).await.unwrap().len(), 2);
        let later = first + KEPT + Duration::from_secs(1);
        runs.keep(&run(later), "c").await.unwrap();
        let kept: Vec<_> = runs.since(Timestamp::EPOCH).await.unwrap();
        assert_eq!(kept, [run(first + KEPT), run(later)]);
        assert_eq!(runs.since(later).await.unwrap(), [run(later)]);
    }
}
