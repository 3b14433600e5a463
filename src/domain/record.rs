//! The run record: what each run did, each record carrying the hash of the one
//! before, so that none can be changed, taken out or put in unseen.
//!
//! The hash is over the stored text as it stands, letter by letter: a version
//! that cannot read all of a record can still prove it unchanged. Whoever may
//! write to the state table could write the whole chain anew; the heartbeats
//! carry number and hash of each record out of their reach.

use serde::{Deserialize, Serialize};

use super::hash::Hash;
use super::heartbeat::Heartbeat;
use super::runs::{PastRun, Seen};
use super::timestamp::Timestamp;

/// How a run found the position and how it left it. `None` where none was
/// saved yet.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Passage {
    /// Before.
    pub before: Option<Timestamp>,
    /// After.
    pub after: Option<Timestamp>,
}

/// What made the export run as it did.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Making {
    /// Of the settings; of secret ones only whether they are set.
    pub settings: Hash,
    /// Of the program's file; absent where it could not be read.
    pub binary: Option<Hash>,
}

/// What is recorded of a run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Account {
    /// The run.
    pub run_id: String,
    /// Which machine ran it.
    pub instance_id: String,
    /// The program's version.
    pub version: String,
    /// With which settings and program.
    #[serde(flatten)]
    pub making: Making,
    /// Where reading began; absent when nothing was read.
    pub window_start: Option<Timestamp>,
    /// Up to where was read.
    pub window_end: Option<Timestamp>,
    /// Absent when the position could not be read.
    pub position: Option<Passage>,
    /// What people look back at.
    #[serde(flatten)]
    pub run: PastRun,
}

impl Account {
    /// Of a run that ended at `at` with `heartbeat`.
    pub fn of(
        heartbeat: &Heartbeat,
        groups: Seen,
        position: Option<Passage>,
        making: Making,
        at: Timestamp,
    ) -> Self {
        Self {
            run_id: heartbeat.run_id.clone(),
            instance_id: heartbeat.instance_id.clone(),
            version: heartbeat.version.clone(),
            making,
            window_start: heartbeat.window_start,
            window_end: heartbeat.window_end,
            position,
            run: PastRun::of(heartbeat, groups, at),
        }
    }
}

/// One record. Stored: the names of its members last.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Record {
    /// 1 for a deployment's first, and one more for each.
    pub number: u64,
    /// The hash of the record before; none for the first.
    pub previous: Option<Hash>,
    /// What it says.
    #[serde(flatten)]
    pub account: Account,
}

/// A record's place in the chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Link {
    /// Its number.
    pub number: u64,
    /// The hash of its stored text.
    pub hash: Hash,
}

/// Both ends of what is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Chain {
    /// The newest record.
    pub head: Link,
    /// The newest of those let go by age; the oldest kept one follows it.
    pub let_go: Option<Link>,
}

impl Chain {
    /// The stored text of a deployment's first record, and the chain of it. Its
    /// number is 1, or what follows `before` where there are records and
    /// nothing that names the newest.
    ///
    /// # Errors
    ///
    /// If it cannot be written as JSON.
    pub fn begin(before: u64, account: &Account) -> serde_json::Result<(String, Self)> {
        Self::link(before, None, None, account)
    }

    /// The stored text of the record that follows, and the chain with it.
    ///
    /// # Errors
    ///
    /// If it cannot be written as JSON.
    pub fn follow(self, account: &Account) -> serde_json::Result<(String, Self)> {
        Self::link(self.head.number, Some(self.head.hash), self.let_go, account)
    }

    fn link(
        before: u64,
        previous: Option<Hash>,
        let_go: Option<Link>,
        account: &Account,
    ) -> serde_json::Result<(String, Self)> {
        let number = before.saturating_add(1);
        let text = serde_json::to_string(&Record { number, previous, account: account.clone() })?;
        let head = Link { number, hash: Hash::of(text.as_bytes()) };
        Ok((text, Self { head, let_go }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::heartbeat::{Counts, Status};
    use crate::domain::runs::Kind;

    /// Records of 30 days are verified by the next version, letter by letter.
    #[test]
    fn the_stored_form_is_stable() {
        let account = Account {
            run_id: "r".to_owned(),
            instance_id: "i".to_owned(),
            version: "0.1.0".to_owned(),
            making: Making { settings: Hash::of(b"s"), binary: None },
            window_start: None,
            window_end: Some(Timestamp::EPOCH),
            position: Some(Passage { before: None, after: Some(Timestamp::EPOCH) }),
            run: PastRun {
                at: Timestamp::EPOCH,
                status: Status::Ok,
                message: "m".to_owned(),
                next_step: String::new(),
                counts: Counts { fetched: 3, ..Counts::default() },
                lag_seconds: None,
                duration_ms: 7,
                groups: Seen::default(),
                kind: Kind::Run,
            },
        };
        let (first, chain) = Chain::begin(0, &account).unwrap();
        let stored = r#"{"Number":1,"Previous":null,"RunId":"r","InstanceId":"i","Version":"0.1.0","Settings":"043a718774c572bd8a25adbeb1bfcd5c0256ae11cecf9f9c3f925d0e52beaf89","Binary":null,"WindowStart":null,"WindowEnd":"1970-01-01T00:00:00Z","Position":{"Before":null,"After":"1970-01-01T00:00:00Z"},"At":"1970-01-01T00:00:00Z","Status":"Ok","Message":"m","NextStep":"","Fetched":3,"Delivered":0,"Duplicates":0,"Withheld":0,"Quarantined":0,"Calls":0,"LagSeconds":null,"DurationMs":7,"Groups":{"Allowed":[],"Foreign":0,"Ungrouped":0,"Unreadable":0}}"#;
        assert_eq!(first, stored);
        let read: Record = serde_json::from_str(stored).unwrap();
        assert_eq!((read.number, read.previous, read.account), (1, None, account.clone()));
        let (second, next) = chain.follow(&account).unwrap();
        assert!(second.starts_with(&format!(r#"{{"Number":2,"Previous":"{}"#, chain.head.hash)));
        assert_eq!(next.head, Link { number: 2, hash: Hash::of(second.as_bytes()) });
    }
}
