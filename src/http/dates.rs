//! What the servers' clocks show.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Response;
use reqwest::header::{DATE, HeaderMap};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::time::Instant;

/// The newest `Date` of each server that was asked. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Dates(Arc<Mutex<HashMap<String, (OffsetDateTime, Instant)>>>);

impl Dates {
    pub(super) fn note(&self, answer: &Response) {
        if let Some(date) = date(answer.headers()) {
            let server = answer.url().origin().ascii_serialization();
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            held.insert(server, (date, Instant::now()));
        }
    }

    /// Forgets them: a process that was suspended since has lost count.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The time now, server by server, as far as they said.
    pub fn now(&self) -> Vec<OffsetDateTime> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.values().map(|(date, at)| *date + at.elapsed()).collect()
    }
}

/// When a server says that it answered, to the second.
/// <https://www.rfc-editor.org/rfc/rfc9110#section-6.6.1>
fn date(headers: &HeaderMap) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(headers.get(DATE)?.to_str().ok()?.trim(), &Rfc2822).ok()
}
