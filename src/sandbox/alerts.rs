//! The alerts of one tenant. Both APIs list the same ones.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::listing::{Face, Listing, Stored};
use super::sample::Sample;
use crate::domain::timestamp::Timestamp;

/// Whether the account behind a bearer token may see devices of a group.
pub type Sees = Arc<dyn Fn(&str, Option<&str>) -> bool + Send + Sync>;

/// What both APIs show. Clones share it.
#[derive(Clone, Default)]
pub struct Alerts(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    alerts: BTreeMap<(Timestamp, u64), Arc<Stored>>,
    /// Where the current version of each sample lies.
    samples: HashMap<u64, (Sample, Timestamp, u64)>,
    added: u64,
    sees: Option<Sees>,
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Alerts").field(&self.inside().alerts.len()).finish()
    }
}

impl Alerts {
    /// Shows each account only what it may see.
    pub fn show_only(&self, sees: Sees) {
        self.inside().sees = Some(sees);
    }

    /// Adds alerts. One whose number is known already takes the place of its
    /// former version.
    pub fn add(&self, samples: impl IntoIterator<Item = Sample>) {
        let mut inside = self.inside();
        for sample in samples {
            inside.put(&sample, Timestamp::EPOCH);
        }
    }

    /// Adds an alert that stays hidden until `from`, however old it is.
    pub fn add_late(&self, sample: &Sample, from: Timestamp) {
        self.inside().put(sample, from);
    }

    pub(super) fn add_raw(&self, face: Face, element: &str, at: Timestamp) {
        let stored = Stored::raw(face, Bytes::copy_from_slice(element.as_bytes()), at);
        self.inside().insert(at, stored);
    }

    /// Makes a new version of an alert. Does nothing to one it does not have.
    pub fn update(&self, number: u64, at: Timestamp, change: impl FnOnce(&mut Sample)) {
        let mut inside = self.inside();
        if let Some((mut sample, ..)) = inside.samples.get(&number).cloned() {
            change(&mut sample);
            sample.updated = at;
            inside.put(&sample, Timestamp::EPOCH);
        }
    }

    /// The page asked for, as far as the bearer of `token` may see it, and how
    /// many alerts the next one is to pass over.
    pub(super) fn list(
        &self,
        listing: &Listing,
        token: &str,
        now: Timestamp,
    ) -> (Vec<Arc<Stored>>, Option<usize>) {
        let inside = self.inside();
        let shown = |alert: &Stored| {
            let sees = inside.sees.as_ref();
            alert.visible_from <= now && sees.is_none_or(|sees| sees(token, alert.group.as_deref()))
        };
        listing.select(&inside.alerts, shown)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn put(&mut self, sample: &Sample, visible_from: Timestamp) {
        if let Some((_, updated, place)) = self.samples.remove(&sample.number) {
            self.alerts.remove(&(updated, place));
        }
        let place = self.insert(sample.updated, Stored::of(sample, visible_from));
        self.samples.insert(sample.number, (sample.clone(), sample.updated, place));
    }

    fn insert(&mut self, updated: Timestamp, stored: Stored) -> u64 {
        self.added += 1;
        self.alerts.insert((updated, self.added), Arc::new(stored));
        self.added
    }
}
