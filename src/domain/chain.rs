//! Walking the chain of run records, from the newest back.
//!
//! A record is proven by the one after it, the newest by the row `Chain`. What
//! was let go by age is proven by that row too. Then the positions: each run
//! must have found the position where another had left it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::finding::{Finding, Name};
use super::hash::Hash;
use super::progress::Progress;
use super::record::{Chain, Link, Passage};
use super::timestamp::Timestamp;

/// A row as it is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// `{time}.{run}` of its key.
    pub row: String,
    /// The record.
    pub text: String,
}

/// What was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// The records of the chain, oldest first.
    pub records: Vec<Proven>,
    /// What the newest is by the row `Chain`; `None` before the first record.
    pub head: Option<Link>,
    /// What is wrong; empty if nothing is.
    pub findings: Vec<Finding>,
}

/// One record of the chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proven {
    /// Which.
    pub name: Name,
    /// The hash of its text as it is stored now.
    pub hash: Hash,
    previous: Option<Hash>,
    position: Option<Passage>,
}

/// What verifying must understand of a record; a later version may add to it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Glance {
    number: u64,
    previous: Option<Hash>,
    run_id: String,
    at: Timestamp,
    position: Option<Passage>,
}

/// What is known of the hash of the record a walk comes to.
#[derive(Clone, Copy, Debug)]
enum Carried {
    /// A record that is proven, or the row `Chain`, carries it.
    Proof(Option<Hash>),
    /// A record that was itself changed carries it.
    Claim(Option<Hash>),
    /// Nothing does: the record after it is missing, or began anew.
    Nothing,
}

/// Checks every record that is kept against the chain, and their positions
/// against each other and against `progress`, the position as it stands.
pub fn verify(chain: Option<Chain>, stored: &[Stored], progress: Option<&Progress>) -> Verified {
    let mut findings = Vec::new();
    let mut numbered: BTreeMap<u64, Vec<Proven>> = BTreeMap::new();
    for one in stored {
        match serde_json::from_str::<Glance>(&one.text) {
            Err(_unreadable) => findings.push(Finding::NotARecord { row: one.row.clone() }),
            Ok(glance) => {
                let row = format!("{}.{}", glance.at.sortable(), glance.run_id);
                let record = Proven::of(glance, &one.text);
                if row != one.row {
                    let (record, row) = (record.name.clone(), one.row.clone());
                    findings.push(Finding::Misplaced { record, row });
                }
                numbered.entry(record.name.number).or_default().push(record);
            }
        }
    }
    let records = match (chain, numbered.last_key_value()) {
        (None, None) => {
            let position = progress.map(Progress::position);
            findings.extend(position.map(|position| Finding::NoRecords { position }));
            Vec::new()
        }
        (None, Some((last, _))) => {
            findings.push(Finding::NoHead);
            let last = *last;
            walk(None, last, numbered, &mut findings)
        }
        (Some(chain), None) if chain.let_go == Some(chain.head) => Vec::new(),
        (Some(chain), None) => {
            findings.push(Finding::NothingKept { head: chain.head.number });
            Vec::new()
        }
        (Some(chain), Some(_)) => walk(Some(chain), chain.head.number, numbered, &mut findings),
    };
    positions(&records, progress, &mut findings);
    Verified { records, head: chain.map(|chain| chain.head), findings }
}

impl Proven {
    fn of(glance: Glance, text: &str) -> Self {
        Self {
            name: Name { number: glance.number, at: glance.at, run: glance.run_id },
            hash: Hash::of(text.as_bytes()),
            previous: glance.previous,
            position: glance.position,
        }
    }
}

/// From the newest, number `last`, back to what was let go; the chain's own
/// records, oldest first.
fn walk(
    chain: Option<Chain>,
    last: u64,
    numbered: BTreeMap<u64, Vec<Proven>>,
    findings: &mut Vec<Finding>,
) -> Vec<Proven> {
    let let_go = chain.and_then(|chain| chain.let_go);
    let gone = let_go.map_or(0, |link| link.number);
    let mut carried = chain.map_or(Carried::Nothing, |it| Carried::Proof(Some(it.head.hash)));
    let mut kept: Vec<Proven> = Vec::new();
    let mut due = last;
    for (number, rivals) in numbered.into_iter().rev() {
        if number > last || number <= gone {
            let inserted = rivals.into_iter().map(|it| Finding::Inserted { record: it.name });
            findings.extend(inserted);
            continue;
        }
        if number < due {
            let after = kept.last().map(|record| record.name.clone());
            let before = rivals.first().map(|record| record.name.clone());
            findings.push(Finding::Missing { first: number + 1, last: due, before, after });
            carried = Carried::Nothing;
        }
        let (own, newest) = (choose(rivals, carried, findings), number == last);
        if let Some(own) = own {
            carried = judge(&own, carried, newest, findings);
            kept.push(own);
        }
        due = number - 1;
    }
    // Where the row `Chain` is or was gone, nobody knows what was let go.
    let anew = findings.iter().any(|finding| matches!(finding, Finding::Anew { .. }));
    if chain.is_some() && !anew {
        if due > gone {
            let after = kept.last().map(|record| record.name.clone());
            findings.push(Finding::Missing { first: gone + 1, last: due, before: None, after });
        } else if let Some(oldest) = kept.last()
            && oldest.previous != let_go.map(|link| link.hash)
        {
            findings.push(Finding::Unanchored { record: oldest.name.clone() });
        }
    }
    kept.reverse();
    kept
}

/// Of several records of one number, the chain's own; the others were inserted.
fn choose(
    mut rivals: Vec<Proven>,
    carried: Carried,
    findings: &mut Vec<Finding>,
) -> Option<Proven> {
    let fits = |record: &Proven| match carried {
        Carried::Proof(hash) | Carried::Claim(hash) => hash == Some(record.hash),
        Carried::Nothing => false,
    };
    let own = rivals.iter().position(fits).unwrap_or(0);
    let own = (own < rivals.len()).then(|| rivals.swap_remove(own));
    findings.extend(rivals.into_iter().map(|it| Finding::Inserted { record: it.name }));
    own
}

/// Whether a record is as it was written, and what it is worth as a proof.
fn judge(record: &Proven, carried: Carried, newest: bool, findings: &mut Vec<Finding>) -> Carried {
    let name = || record.name.clone();
    let fits = match carried {
        Carried::Proof(hash) | Carried::Claim(hash) => hash == Some(record.hash),
        Carried::Nothing => true,
    };
    match carried {
        Carried::Proof(_) if !fits => findings.push(Finding::Changed { record: name(), newest }),
        Carried::Claim(_) if !fits => findings.push(Finding::Unproven { record: name() }),
        Carried::Proof(_) | Carried::Claim(_) | Carried::Nothing => {}
    }
    match record.previous {
        None if record.name.number > 1 && fits => {
            findings.push(Finding::Anew { record: name() });
            Carried::Nothing
        }
        previous if fits => Carried::Proof(previous),
        previous => Carried::Claim(previous),
    }
}

/// How many records may stand between one and the one it overtook.
const OVERTAKEN: usize = 4;

/// Where the position was left and taken up.
///
/// Records may stand in another order than their runs ended, where two
/// instances end at once: so a run need not follow the record before it, but
/// each place the position was left at is taken up once.
#[derive(Debug, Default)]
struct Trail<'a> {
    /// Where the position was left and not taken up yet.
    left: Vec<Option<Timestamp>>,
    /// Took up a place where nobody left it so far.
    waiting: Vec<(&'a Proven, Option<Timestamp>)>,
    /// Where the trail begins, and how many records ago.
    begun: Option<(Option<Timestamp>, usize)>,
}

impl<'a> Trail<'a> {
    fn pass(&mut self, record: &'a Proven, Passage { before, after }: Passage) {
        let begun = self.begun.get_or_insert((before, 0));
        begun.1 += 1;
        let (start, passed) = *begun;
        if before == after {
            if passed == 1 {
                self.left.push(after);
            }
            return;
        }
        let found = self.left.iter().position(|place| *place == before);
        if let Some(found) = found {
            self.left.swap_remove(found);
        } else if passed > 1 && (before >= start || passed > OVERTAKEN) {
            self.waiting.push((record, before));
        }
        match self.waiting.iter().position(|(_, place)| *place == after) {
            Some(late) => drop(self.waiting.swap_remove(late)),
            None => self.left.push(after),
        }
    }
}

fn positions(records: &[Proven], progress: Option<&Progress>, findings: &mut Vec<Finding>) {
    let now = progress.map(Progress::position);
    let mut leaps = Vec::new();
    let mut trail = Trail::default();
    let mut last: Option<&Proven> = None;
    for record in records {
        let follows = last.is_some_and(|last| last.name.number + 1 == record.name.number);
        last = Some(record);
        if !follows {
            // What happened in between is not known, and said elsewhere.
            leaps.extend(std::mem::take(&mut trail).waiting);
        }
        if let Some(passage) = record.position {
            trail.pass(record, passage);
        }
    }
    leaps.append(&mut trail.waiting);
    leaps.extend(strays(records, now));
    leaps.sort_by_key(|(record, _)| record.name.number);
    findings.extend(leaps.into_iter().map(|(record, to)| Finding::Leap {
        from: left_before(records, record),
        to,
        record: record.name.clone(),
    }));
    let under_way = matches!(progress, Some(Progress::Running { .. }));
    if let (Some(last), false, false) = (last, under_way, trail.left.contains(&now))
        && let Some(left) = trail.left.last()
    {
        findings.push(Finding::Elsewhere { left: *left, now, record: last.name.clone() });
    }
}

/// Runs that moved nothing, and saw the position where no other ever had it.
fn strays(
    records: &[Proven],
    now: Option<Timestamp>,
) -> impl Iterator<Item = (&Proven, Option<Timestamp>)> {
    let spans: Vec<_> = records.iter().filter_map(|it| it.position).collect();
    let moved: Vec<_> = spans.iter().copied().filter(|it| it.before != it.after).collect();
    let known = move |place| {
        let within = |it: &Passage| it.before <= place && place <= it.after;
        moved.iter().any(within) || place == now || moved.is_empty()
    };
    let stray = move |record: &Proven| {
        let Passage { before, after } = record.position?;
        (before == after && !known(before)).then_some(before)
    };
    records.iter().filter_map(move |record| stray(record).map(|place| (record, place)))
}

fn left_before(records: &[Proven], record: &Proven) -> Option<Timestamp> {
    let mut earlier = records.iter().rev().skip_while(|it| *it != record).skip(1);
    earlier.find_map(|it| it.position)?.after
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
