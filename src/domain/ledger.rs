//! Which alert versions were delivered.
//!
//! Each run reads back over the overlap, so it meets alerts it has sent before.
//! The ledger remembers a digest of every version's `ExportKey` for as long as
//! a run, or the daily audit, can read back to it. What is noted between two saves becomes one page,
//! written in the same transaction as the position and never again; a page is
//! forgotten once its newest entry is out of reach.
//!
//! Where only first versions are exported (`FunctionConfigExportUpdates` off),
//! it remembers alert ids instead, for as long as Defender keeps an alert after
//! its last change.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::alert::{Alert, Unusable};
use super::timestamp::Timestamp;

/// Identifies one delivered thing: 128 bits of SHA-256.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
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

    /// The same thing delivered to `target`: different for each, and for no two
    /// things alike. Where rows go to several targets, each has its own.
    #[must_use]
    pub fn at(self, target: Self) -> Self {
        Self((u128::from_be_bytes(self.0) ^ u128::from_be_bytes(target.0)).to_be_bytes())
    }

    /// From [`Self::hex`]; `None` for any other text.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.len() == 2 * Self::LEN && text.bytes().all(|it| it.is_ascii_hexdigit());
        u128::from_str_radix(text, 16).ok().filter(|_| digits).map(|it| Self(it.to_be_bytes()))
    }

    /// 32 hex digits.
    pub fn hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Digests without repeats.
pub type DigestSet = HashSet<Digest, BuildHasherDefault<Spread>>;

/// The hash of a digest: its first bytes, which are spread as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread(u64);

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [first, _] = self.0.as_chunks().0 else { return };
        state.write_u64(u64::from_ne_bytes(*first));
    }
}

impl Hasher for Spread {
    fn write_u64(&mut self, first: u64) {
        self.0 = first;
    }

    /// For anything else than a digest, of which there is nothing.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
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
        let (id, updated) = (alert.id()?, alert.last_update()?);
        let mut key = String::with_capacity(id.len() + "|2026-01-31T09:30:00.0000000Z".len());
        key.push_str(&id);
        key.push('|');
        // Writing to memory does not fail.
        let _written = write!(key, "{updated}");
        Ok(Self(key))
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
        /// How far before the position every run may read.
        reach: Duration,
        /// How far before it an audit may; not less.
        kept: Duration,
    },
    /// Only an alert's first version is a row; alerts are remembered.
    Alerts,
}

/// What is remembered of one delivery.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Entry {
    /// Until when it must be remembered: the time the source finds it by.
    pub at: Timestamp,
    /// What was delivered.
    pub digest: Digest,
}

impl Entry {
    /// Of the same delivery to `target`.
    #[must_use]
    pub fn at_target(self, target: Digest) -> Self {
        Self { at: self.at, digest: self.digest.at(target) }
    }
}

/// How much later a version must be for its alert to be written down again.
const REMEMBERED_ANEW: Duration = Duration::from_hours(24 * 30);
/// How long Defender keeps an alert
/// (<https://learn.microsoft.com/defender-endpoint/data-storage-privacy>).
pub const RETENTION: Duration = Duration::from_hours(24 * 180);

impl Memory {
    /// Entries from here on are still needed when the position is `position`.
    pub fn horizon(self, position: Timestamp) -> Timestamp {
        match self {
            Self::Versions { reach, kept } => position - kept.max(reach),
            Self::Alerts => position - RETENTION,
        }
    }

    /// Entries from here on are needed by every run; earlier ones by an audit
    /// alone.
    pub fn near(self, position: Timestamp) -> Timestamp {
        match self {
            Self::Versions { reach, .. } => position - reach,
            Self::Alerts => position - RETENTION,
        }
    }

    /// What would be remembered of `alert`.
    ///
    /// # Errors
    ///
    /// [`Unusable`] if the alert has no id or no update time.
    pub fn entry(self, alert: &Alert, key: &ExportKey) -> Result<Entry, Unusable> {
        let digest = match self {
            Self::Versions { .. } => Digest::of(key.as_str()),
            Self::Alerts => Digest::of(&alert.id()?),
        };
        Ok(Entry { at: alert.last_update()?, digest })
    }
}

/// What was noted between two saves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// The newest entry's time: once out of reach, the page can go.
    pub newest: Timestamp,
    /// What was delivered, in order.
    pub digests: Vec<Digest>,
}

/// Everything delivered that a run could meet again.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    held: HashMap<Digest, Timestamp, BuildHasherDefault<Spread>>,
    fresh: Vec<Entry>,
}

impl Ledger {
    /// As it was saved.
    pub fn from_pages(pages: impl IntoIterator<Item = Page>) -> Self {
        let entries = pages.into_iter().flat_map(|page| {
            let newest = page.newest;
            page.digests.into_iter().map(move |digest| (digest, newest))
        });
        Self { held: entries.collect(), fresh: Vec::new() }
    }

    /// Adds what was saved and not read at first.
    pub fn add_pages(&mut self, pages: impl IntoIterator<Item = Page>) {
        for page in pages {
            for digest in page.digests {
                self.held.entry(digest).or_insert(page.newest);
            }
        }
    }

    /// Whether this was delivered before.
    pub fn holds(&self, entry: &Entry) -> bool {
        self.held.contains_key(&entry.digest)
    }

    /// Remembers a delivery.
    pub fn note(&mut self, entry: Entry) {
        if self.held.insert(entry.digest, entry.at).is_none() {
            self.fresh.push(entry);
        }
    }

    /// Meets something delivered before in a later version, where versions are
    /// not told apart: it is remembered for longer. Does nothing to what is not
    /// held.
    pub fn meet(&mut self, entry: Entry) {
        if let Some(held) = self.held.get_mut(&entry.digest)
            && entry.at > *held + REMEMBERED_ANEW
        {
            *held = entry.at;
            self.fresh.push(entry);
        }
    }

    /// What was noted since the last save, for whoever keeps pages of several
    /// kinds.
    pub fn take_fresh(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.fresh)
    }

    /// Deliveries noted since the last save.
    pub fn unsaved(&self) -> usize {
        self.fresh.len()
    }

    /// The page to save: what was noted since the last one and a run could
    /// still meet again. `None` if that is nothing.
    pub fn take_page(&mut self, horizon: Timestamp) -> Option<Page> {
        Page::of(&self.take_fresh(), horizon)
    }

    /// Forgets what no run can read back to.
    pub fn forget_before(&mut self, horizon: Timestamp) {
        self.held.retain(|_, at| *at >= horizon);
    }

    /// How much is remembered.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

impl Page {
    /// Of those `entries` that are not before `horizon`; `None` if none is.
    pub fn of(entries: &[Entry], horizon: Timestamp) -> Option<Self> {
        let needed = || entries.iter().filter(|entry| entry.at >= horizon);
        let newest = needed().map(|entry| entry.at).max()?;
        let mut digests: Vec<_> = needed().map(|entry| entry.digest).collect();
        digests.sort_unstable();
        Some(Self { newest, digests })
    }

    /// Both in one.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.newest = self.newest.max(other.newest);
        self.digests.extend(other.digests);
        self
    }

    /// As stored: the digests, end to end.
    pub fn encode(&self) -> Vec<u8> {
        self.digests.iter().flat_map(|digest| digest.0).collect()
    }

    /// From its stored form.
    ///
    /// # Errors
    ///
    /// [`TornPage`] if the bytes end in the middle of a digest.
    pub fn decode(newest: Timestamp, bytes: &[u8]) -> Result<Self, TornPage> {
        let (digests, rest) = bytes.as_chunks();
        if rest.is_empty() {
            Ok(Self { newest, digests: digests.iter().copied().map(Digest).collect() })
        } else {
            Err(TornPage)
        }
    }
}

/// The stored bytes are not whole digests.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a ledger page is not a whole number of digests")]
pub struct TornPage;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const REACH: Duration = Duration::from_mins(30);
    const VERSIONS: Memory = Memory::Versions { reach: REACH, kept: REACH };
    const MADE: &str = "2026-11-19T08:00:00Z";

    fn alert(id: &str, updated: &str) -> Alert {
        let json =
            format!(r#"{{"id":"{id}","alertCreationTime":"{MADE}","lastUpdateTime":"{updated}"}}"#);
        Alert::parse(Bytes::from(json)).expect("an object")
    }

    fn entry(memory: Memory, alert: &Alert) -> Entry {
        memory.entry(alert, &ExportKey::of(alert).unwrap()).unwrap()
    }

    #[test]
    fn the_export_key_is_the_same_however_many_zeros_a_source_writes() {
        let short = ExportKey::of(&alert("da1", "2026-11-19T08:41:53.17Z")).unwrap();
        let long = ExportKey::of(&alert("da1", "2026-11-19T08:41:53.1700000Z")).unwrap();
        assert_eq!(short.as_str(), "da1|2026-11-19T08:41:53.17Z");
        assert_eq!(short, long);
    }

    #[test]
    fn a_new_version_is_news_only_where_versions_are_exported() {
        let first = alert("da1", "2026-11-19T08:41:53.17Z");
        let second = alert("da1", "2026-11-19T09:00:00Z");
        for (memory, known) in [(VERSIONS, false), (Memory::Alerts, true)] {
            let mut ledger = Ledger::default();
            ledger.note(entry(memory, &first));
            assert!(ledger.holds(&entry(memory, &first)));
            assert_eq!(ledger.holds(&entry(memory, &second)), known, "{memory:?}");
        }
    }

    #[test]
    fn an_alert_that_goes_on_changing_is_never_forgotten() {
        let mut ledger = Ledger::default();
        let mut horizon = Timestamp::EPOCH;
        ledger.note(entry(Memory::Alerts, &alert("da1", "2026-01-01T00:00:00Z")));
        for month in ["02", "04", "06", "08", "10", "12"] {
            let again = entry(Memory::Alerts, &alert("da1", &format!("2026-{month}-15T00:00:00Z")));
            ledger.take_page(horizon);
            horizon = Memory::Alerts.horizon(again.at);
            ledger.forget_before(horizon);
            assert!(ledger.holds(&again), "forgotten by month {month}");
            ledger.meet(again);
            assert!(ledger.take_page(horizon).is_some(), "not saved again in month {month}");
        }
    }

    #[test]
    fn what_was_saved_is_not_saved_again() {
        let mut ledger = Ledger::default();
        let one = entry(VERSIONS, &alert("a", "2026-11-19T08:01:00Z"));
        ledger.note(one);
        let page = ledger.take_page(Timestamp::EPOCH).expect("one entry");
        assert_eq!((page.newest, page.digests.len()), (one.at, 1));
        ledger.note(one);
        assert_eq!(ledger.take_page(Timestamp::EPOCH), None);
        assert!(Ledger::from_pages([page]).holds(&one));
    }

    #[test]
    fn the_digest_is_stable_because_it_is_stored() {
        assert_eq!(Digest::of("abc").hex(), "ba7816bf8f01cfea414140de5dae2223");
        assert_eq!(Digest::from_hex("ba7816bf8f01cfea414140de5dae2223"), Some(Digest::of("abc")));
        for text in ["", "ba7816bf", "+a7816bf8f01cfea414140de5dae2223"] {
            assert_eq!(Digest::from_hex(text), None, "{text}");
        }
    }

    #[test]
    fn what_one_target_has_another_may_lack() {
        let one = entry(VERSIONS, &alert("a", "2026-11-19T08:01:00Z"));
        let (here, there) = (Digest::of("EventHub"), Digest::of("S3"));
        let mut ledger = Ledger::default();
        ledger.note(one.at_target(here));
        assert!(ledger.holds(&one.at_target(here)));
        assert!(!ledger.holds(&one.at_target(there)));
        assert!(!ledger.holds(&one));
    }

    #[test]
    fn a_torn_page_is_refused() {
        assert_eq!(Page::decode(Timestamp::EPOCH, &[0; 17]), Err(TornPage));
    }

    proptest! {
        #[test]
        fn nothing_a_run_can_read_again_is_forgotten(
            updates in prop::collection::vec(0_u64..100_000, 1..80),
            saves in prop::collection::vec(0_usize..80, 0..5),
            position in 0_u64..100_000,
        ) {
            let second = |s| Timestamp::EPOCH + Duration::from_secs(s);
            let horizon = VERSIONS.horizon(second(position));
            let mut ledger = Ledger::default();
            let mut pages = Vec::new();
            let mut all = Vec::new();
            for (n, update) in updates.iter().enumerate() {
                let entry = entry(VERSIONS, &alert(&n.to_string(), &second(*update).to_string()));
                ledger.note(entry);
                all.push(entry);
                if saves.contains(&n) {
                    pages.extend(ledger.take_page(horizon));
                }
            }
            pages.extend(ledger.take_page(horizon));
            ledger.forget_before(horizon);
            pages.retain(|page| page.newest >= horizon);
            let stored = pages.iter().map(|page| Page::decode(page.newest, &page.encode()).unwrap());
            let reread = Ledger::from_pages(stored);
            for entry in &all {
                prop_assert_eq!(ledger.holds(entry), entry.at >= horizon);
                prop_assert!(reread.holds(entry) || entry.at < horizon);
            }
        }
    }
}
