//! Where the current time comes from.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::timestamp::Timestamp;

/// The one source of wall-clock time.
///
/// Decisions in [`crate::domain`] take `now` as an argument; only the shell
/// that calls them owns a `Clock`.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// A clock that moves only when told to. Clones share the hands.
    Manual(Arc<Mutex<Timestamp>>),
    /// A clock that stood at a time at an instant and runs with tokio's. Where
    /// tokio's is paused and skips what nobody waits for, so does this.
    Running(Timestamp, Instant),
}

impl Clock {
    /// A clock stopped at `at`.
    pub fn stopped_at(at: Timestamp) -> Self {
        Self::Manual(Arc::new(Mutex::new(at)))
    }

    /// A clock that starts at `at` and runs from now on.
    pub fn starting_at(at: Timestamp) -> Self {
        Self::Running(at, Instant::now())
    }

    /// The current time, UTC.
    pub fn now(&self) -> Timestamp {
        match self {
            #[expect(clippy::disallowed_methods, reason = "the one place allowed to ask")]
            Self::System => Timestamp::from(time::OffsetDateTime::now_utc()),
            Self::Manual(hands) => *hands.lock().unwrap_or_else(PoisonError::into_inner),
            Self::Running(from, since) => *from + since.elapsed(),
        }
    }

    /// Moves a manual clock forward; does nothing to the others.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(hands) = self {
            let mut hands = hands.lock().unwrap_or_else(PoisonError::into_inner);
            *hands = *hands + by;
        }
    }
}
