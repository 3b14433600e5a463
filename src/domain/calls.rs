//! The calls of one row of state in the last hour, made and booked.
//!
//! Two that call at once and keep their counts in rows of their own must each
//! see the other's calls before they are made: one of them books them first.

use std::collections::VecDeque;

use super::budget::BadBudget;
use super::timestamp::Timestamp;

/// Length of a bin, in seconds.
pub(super) const BIN: i64 = 10;
/// Bins a call counts for: those of the hour after the one it was made in.
pub(super) const HOUR: i64 = 3_600 / BIN;
/// How far back the clock may step and still be believed to have stood right
/// before: an hour, in bins.
const BELIEVED_STEP: i64 = HOUR;
/// The bin a call is made in, and those it counts for after it.
const BINS: usize = 361;

/// A sliding hour of calls, in bins of ten seconds, and calls that were
/// announced and may or may not have been made.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Calls {
    /// Number of the front bin, counted from 1970.
    newest: i64,
    /// Calls by bin, the newest first; at most 361 bins.
    bins: VecDeque<u32>,
    booked: Option<Booked>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Booked {
    calls: u32,
    /// Number of the bin in which the last of them may be made.
    until: i64,
}

pub(super) fn bin(at: Timestamp) -> i64 {
    at.unix_seconds().div_euclid(BIN)
}

impl Calls {
    /// Calls that count at `now`, the booked ones included.
    pub fn used(&self, now: Timestamp) -> u32 {
        let mut then = self.clone();
        then.turn_to(now);
        let made = then.bins.iter().fold(0_u32, |sum, bin| sum.saturating_add(*bin));
        let live = |booked: &Booked| bin(now) <= booked.until.saturating_add(HOUR);
        made.saturating_add(self.booked.filter(live).map_or(0, |booked| booked.calls))
    }

    /// One call is made, out of those booked if some are; `false` if they are
    /// used up, and nothing was counted.
    pub(super) fn count(&mut self, now: Timestamp) -> bool {
        if let Some(booked) = &mut self.booked {
            let Some(left) = booked.calls.checked_sub(1) else { return false };
            booked.calls = left;
        }
        self.turn_to(now);
        match self.bins.front_mut() {
            Some(bin) => *bin = bin.saturating_add(1),
            None => self.bins.push_front(1),
        }
        true
    }

    /// Whether only booked calls may be made.
    pub(super) fn is_booked(&self) -> bool {
        self.booked.is_some()
    }

    /// Announces calls that will be made by `until`, in place of what was
    /// announced before.
    pub(super) fn book(&mut self, calls: u32, until: Timestamp) {
        self.booked = Some(Booked { calls, until: bin(until) });
    }

    /// What is left of those booked will not be made.
    pub(super) fn settle(&mut self) {
        self.booked = None;
    }

    /// What a process that died had booked it may have made, at the latest now.
    pub(super) fn inherit(&mut self, now: Timestamp) {
        let made = self.used(now);
        self.turn_to(now);
        self.booked = None;
        let missing = made.saturating_sub(self.used(now));
        match self.bins.front_mut() {
            Some(bin) => *bin = bin.saturating_add(missing),
            None => self.bins.push_front(missing),
        }
    }

    /// Makes the bin of `now` the newest, and drops bins that no longer
    /// count.
    pub(super) fn turn_to(&mut self, now: Timestamp) {
        let now = bin(now);
        if self.bins.is_empty() || now < self.newest - BELIEVED_STEP {
            self.newest = now;
        }
        let passed = (now - self.newest).clamp(0, HOUR + 1);
        for _ in 0..passed {
            self.bins.push_front(0);
        }
        self.bins.truncate(BINS);
        self.newest = self.newest.max(now);
    }

    /// `179500000:3,0,1`, the newest bin and the calls of each bin from there
    /// back; `+8@179500030` after it for eight that are booked until then.
    pub fn encode(&self) -> String {
        let used = self.bins.iter().rposition(|bin| *bin > 0).map_or(0, |last| last + 1);
        let bins: Vec<_> = self.bins.iter().take(used).map(u32::to_string).collect();
        let booked = match self.booked {
            Some(Booked { calls, until }) if calls > 0 => format!("+{calls}@{until}"),
            Some(_) | None => String::new(),
        };
        format!("{}:{}{booked}", self.newest, bins.join(","))
    }

    /// From its stored form.
    ///
    /// # Errors
    ///
    /// [`BadBudget`] for any other text.
    pub fn decode(text: &str) -> Result<Self, BadBudget> {
        let (made, booked) = match text.split_once('+') {
            None => (text, None),
            Some((made, booked)) => {
                let (calls, until) = booked.split_once('@').ok_or(BadBudget)?;
                (made, Some(Booked { calls: number(calls)?, until: number(until)? }))
            }
        };
        let (newest, bins) = made.split_once(':').ok_or(BadBudget)?;
        let newest = number(newest)?;
        let bins: VecDeque<u32> =
            bins.split(',').filter(|_| !bins.is_empty()).map(number).collect::<Result<_, _>>()?;
        if bins.len() > BINS { Err(BadBudget) } else { Ok(Self { newest, bins, booked }) }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, BadBudget> {
    text.parse().map_err(|_not_a_number| BadBudget)
}
