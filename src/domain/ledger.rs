//! Which alert versions were delivered.
//!
//! Each run reads back over the overlap, so it meets alerts it has sent before.
//! The ledger remembers a digest of every version's `ExportKey`, in buckets of
//! ten minutes of update time, and forgets a bucket once no run can read back
//! to it. A bucket that changed is saved in the same transaction as the
//! position; the others are not written again.
//!
//! Where only first versions are exported (`FunctionConfigExportUpdates` off),
//! it remembers alert ids instead, in buckets of a day of creation time, for as
//! long as Defender keeps alerts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::alert::{Alert, Member, Unusable};
use super::timestamp::Timestamp;

/// Identifies one delivered thing: 128 bits of SHA-256.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest([u8; Self::LEN]);

impl Digest {
    /// Bytes of a digest as it is stored.
    pub const LEN: usize = 16;

    /// Of any text.
    pub fn of(text: &str) -> Self {
        let whole = Sha256::digest(text.as_bytes());
        let mut short = [0; Self::LEN];
        short.copy_from_slice(whole.split_at(Self::LEN).0);
        Self(short)
    }

    /// 32 hex digits.
    pub fn hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

/// `{alert id}|{lastUpdateTime}`: the same for every copy of one version.
///
/// The time is in [`Timestamp`]'s own form, so that the key does not depend on
/// how many zeros a source writes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExportKey(String);

impl ExportKey {
    /// The key of `alert`.
    ///
    /// # Errors
    ///
    /// [`Unusable`] if the alert has no id or no update time.
    pub fn of(alert: &Alert) -> Result<Self, Unusable> {
        Ok(Self(format!("{}|{}", alert.id()?, alert.last_update()?)))
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the ledger tells apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Memory {
    /// Every version of an alert is a row; versions are remembered.
    Versions {
        /// How far before the position a run may read.
        reach: Duration,
    },
    /// Only an alert's first version is a row; alerts are remembered.
    Alerts,
}

/// What is remembered of one delivery, and in which bucket.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Entry {
    /// Start of the bucket.
    pub bucket: Timestamp,
    /// What was delivered.
    pub digest: Digest,
}

/// How long Defender keeps an alert.
const RETENTION: Duration = Duration::from_hours(24 * 180);

impl Memory {
    /// Width of a bucket.
    fn bucket(self) -> Duration {
        match self {
            Self::Versions { .. } => Duration::from_mins(10),
            Self::Alerts => Duration::from_hours(24),
        }
    }

    /// The first bucket still needed when the position is `position`.
    pub fn horizon(self, position: Timestamp) -> Timestamp {
        let reach = match self {
            Self::Versions { reach } => reach,
            Self::Alerts => RETENTION,
        };
        (position - reach).floor(self.bucket())
    }

    /// What would be remembered of `alert`.
    ///
    /// # Errors
    ///
    /// [`Unusable`] if the alert has no id or no update time.
    pub fn entry(self, alert: &Alert, key: &ExportKey) -> Result<Entry, Unusable> {
        let (at, digest) = match self {
            Self::Versions { .. } => (alert.last_update()?, Digest::of(key.as_str())),
            Self::Alerts => {
                let created = alert.time(Member::AlertCreationTime);
                (created.map_or_else(|| alert.last_update(), Ok)?, Digest::of(&alert.id()?))
            }
        };
        Ok(Entry { bucket: at.floor(self.bucket()), digest })
    }
}

/// One bucket's digests.
pub type Bucket = HashSet<Digest>;

/// Everything delivered that a run could meet again.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    buckets: BTreeMap<Timestamp, Bucket>,
    changed: BTreeSet<Timestamp>,
}

impl Ledger {
    /// As it was saved.
    pub fn from_saved(buckets: BTreeMap<Timestamp, Bucket>) -> Self {
        Self { buckets, changed: BTreeSet::new() }
    }

    /// Whether this was delivered before.
    pub fn holds(&self, entry: &Entry) -> bool {
        self.buckets.get(&entry.bucket).is_some_and(|bucket| bucket.contains(&entry.digest))
    }

    /// Remembers a delivery.
    pub fn note(&mut self, entry: Entry) {
        if self.buckets.entry(entry.bucket).or_default().insert(entry.digest) {
            self.changed.insert(entry.bucket);
        }
    }

    /// Forgets every bucket before `horizon` and names those it forgot.
    pub fn forget_before(&mut self, horizon: Timestamp) -> Vec<Timestamp> {
        let kept = self.buckets.split_off(&horizon);
        let gone = std::mem::replace(&mut self.buckets, kept);
        self.changed = self.changed.split_off(&horizon);
        gone.into_keys().collect()
    }

    /// The buckets noted in since they were last taken, each whole.
    pub fn take_changed(&mut self) -> Vec<(Timestamp, &Bucket)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|start| Some((start, self.buckets.get(&start)?))).collect()
    }

    /// How much is remembered.
    pub fn len(&self) -> usize {
        self.buckets.values().map(HashSet::len).sum()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A bucket as stored: its digests in order, end to end.
pub fn encode(bucket: &Bucket) -> Vec<u8> {
    let mut digests: Vec<_> = bucket.iter().collect();
    digests.sort_unstable();
    digests.into_iter().flat_map(|digest| digest.0).collect()
}

/// The stored bytes are not whole digests.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a ledger bucket is not a whole number of digests")]
pub struct BadBucket;

/// A bucket from its stored form.
///
/// # Errors
///
/// [`BadBucket`] if the bytes end in the middle of a digest.
pub fn decode(bytes: &[u8]) -> Result<Bucket, BadBucket> {
    let (digests, rest) = bytes.as_chunks();
    if rest.is_empty() { Ok(digests.iter().copied().map(Digest).collect()) } else { Err(BadBucket) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const REACH: Duration = Duration::from_mins(30);
    const VERSIONS: Memory = Memory::Versions { reach: REACH };

    fn alert(id: &str, created: &str, updated: &str) -> Alert {
        let json = format!(
            r#"{{"id":"{id}","alertCreationTime":"{created}","lastUpdateTime":"{updated}"}}"#
        );
        Alert::parse(Bytes::from(json)).expect("an object")
    }

    fn entry(memory: Memory, alert: &Alert) -> Entry {
        memory.entry(alert, &ExportKey::of(alert).unwrap()).unwrap()
    }

    const MADE: &str = "2026-11-19T08:00:00Z";

    #[test]
    fn the_export_key_is_the_same_however_many_zeros_a_source_writes() {
        let short = ExportKey::of(&alert("da1", MADE, "2026-11-19T08:41:53.17Z")).unwrap();
        let long = ExportKey::of(&alert("da1", MADE, "2026-11-19T08:41:53.1700000Z")).unwrap();
        assert_eq!(short.as_str(), "da1|2026-11-19T08:41:53.17Z");
        assert_eq!(short, long);
    }

    #[test]
    fn a_new_version_is_news_only_where_versions_are_exported() {
        let first = alert("da1", MADE, "2026-11-19T08:41:53.17Z");
        let second = alert("da1", MADE, "2026-11-19T09:00:00Z");
        for (memory, known) in [(VERSIONS, false), (Memory::Alerts, true)] {
            let mut ledger = Ledger::default();
            ledger.note(entry(memory, &first));
            assert!(ledger.holds(&entry(memory, &first)));
            assert_eq!(ledger.holds(&entry(memory, &second)), known, "{memory:?}");
        }
    }

    #[test]
    fn only_changed_buckets_are_saved_again() {
        let mut ledger = Ledger::default();
        let early = entry(VERSIONS, &alert("a", MADE, "2026-11-19T08:01:00Z"));
        let late = entry(VERSIONS, &alert("b", MADE, "2026-11-19T08:21:00Z"));
        ledger.note(early);
        ledger.note(late);
        assert_eq!(ledger.take_changed().len(), 2);
        ledger.note(early);
        assert!(ledger.take_changed().is_empty());
    }

    #[test]
    fn the_digest_is_stable_because_it_is_stored() {
        assert_eq!(Digest::of("da1|2026-11-19T08:41:53.17Z").hex().len(), 32);
        assert_eq!(Digest::of("abc").hex(), "ba7816bf8f01cfea414140de5dae2223");
    }

    #[test]
    fn a_torn_bucket_is_refused() {
        assert_eq!(decode(&[0; 17]), Err(BadBucket));
    }

    proptest! {
        #[test]
        fn nothing_a_run_can_read_again_is_forgotten(
            updates in prop::collection::vec(0_u64..100_000, 1..80),
            position in 0_u64..100_000,
        ) {
            let second = |s| Timestamp::EPOCH + Duration::from_secs(s);
            let position = second(position);
            let mut ledger = Ledger::default();
            let all: Vec<_> = updates.iter().enumerate().map(|(n, update)| {
                let one = alert(&n.to_string(), MADE, &second(*update).to_string());
                (second(*update), entry(VERSIONS, &one))
            }).collect();
            for (_, entry) in &all {
                ledger.note(*entry);
            }
            ledger.forget_before(VERSIONS.horizon(position));
            for (updated, entry) in &all {
                if *updated >= position - REACH {
                    prop_assert!(ledger.holds(entry));
                }
                if *updated < position - REACH - Duration::from_mins(10) {
                    prop_assert!(!ledger.holds(entry));
                }
            }
        }

        #[test]
        fn a_bucket_comes_back_as_it_was_saved(texts in prop::collection::vec("[a-z]{1,8}", 0..50)) {
            let bucket: Bucket = texts.iter().map(|text| Digest::of(text)).collect();
            prop_assert_eq!(decode(&encode(&bucket)), Ok(bucket));
        }
    }
}
