//! Where the current time comes from.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
}

impl Clock {
    /// A clock stopped at `at`.
    pub fn stopped_at(at: Timestamp) -> Self {
        Self::Manual(Arc::new(Mutex::new(at)))
    }

    /// The current time, UTC.
    pub fn now(&self) -> Timestamp {
        match self {
            #[expect(clippy::disallowed_methods, reason = "the one place allowed to ask")]
            Self::System => Timestamp::from(time::OffsetDateTime::now_utc()),
            Self::Manual(hands) => *hands.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Moves a manual clock forward; does nothing to the system clock.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(hands) = self {
            let mut hands = hands.lock().unwrap_or_else(PoisonError::into_inner);
            *hands = *hands + by;
        }
    }
}
