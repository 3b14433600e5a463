//! How far the export has come, who is at it, and the only ways that may change.
//!
//! The position moves only on a [`Receipt`], and only a [`Tally`] with every
//! row before it accounted for makes one: a position ahead of delivery cannot
//! be written by accident.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::timestamp::Timestamp;

/// How long a run owns the position without saving. A run that was killed is
/// followed by another at the latest then.
pub const LEASE: Duration = Duration::from_mins(5);
/// A time that was saved may be later than now by this much: clocks are set by
/// seconds. From here on Entra refuses proofs of who signed in, too.
const SET_BY: Duration = Duration::from_mins(2);

/// One export's progress. Stored between runs.
///
/// ```text
///        claim                    release
/// Idle ---------> Running ---------------------> Idle
///                 Running --advance(receipt)---> Running
///                 Running --claim (its holder is gone)--> Running
///                 Running --halt--> Halted --resume--> Idle
/// ```
///
/// In any of them [`SetBack`] moves the position back, and nothing else does.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Progress {
    /// Nobody is at it.
    Idle {
        /// Everything before this is delivered.
        position: Timestamp,
    },
    /// A run is at it.
    Running {
        /// Everything before this is delivered.
        position: Timestamp,
        /// Which run.
        claim: Claim,
    },
    /// Stopped after a scope violation until a person resumes it.
    Halted {
        /// Everything before this is delivered.
        position: Timestamp,
        /// When it stopped.
        since: Timestamp,
        /// The scope then; a person who changes it has resumed.
        scope: String,
    },
}

/// A run's hold on the position.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Claim {
    /// The run.
    pub run: String,
    /// Whose it is. No two processes that live at once have the same name
    /// here, so a claim of one's own name is that of a process that died.
    pub instance: String,
    /// From then on anybody may take over.
    pub until: Timestamp,
}

impl Claim {
    /// Whether it is held at `now`. One for longer than a lease was made by a
    /// clock that ran ahead, and says nothing.
    pub fn is_held(&self, now: Timestamp) -> bool {
        now < self.until && self.until <= now + LEASE + SET_BY
    }
}

/// Proof that a position lies in the future, and so cannot be: a clock ran
/// ahead when it was saved, or was set back since.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SetBack {
    from: Timestamp,
    to: Timestamp,
}

impl SetBack {
    /// From `position` to `to`; `None` if `position` can be.
    pub fn of(position: Timestamp, to: Timestamp, now: Timestamp) -> Option<Self> {
        (position > now + SET_BY).then(|| Self { from: position, to: to.min(now) })
    }

    /// The time that cannot be.
    pub fn from(self) -> Timestamp {
        self.from
    }

    /// From here on everything is read again.
    pub fn to(self) -> Timestamp {
        self.to
    }
}

/// Why a run may not begin.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotNow {
    /// Another instance is at it.
    #[error("another instance is exporting")]
    Busy,
    /// A person must resume first.
    #[error("halted since {since}")]
    Halted {
        /// When it stopped.
        since: Timestamp,
    },
}

/// A move the diagram does not have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("progress cannot {wanted} now")]
pub struct IllegalMove {
    wanted: &'static str,
}

impl Progress {
    /// Everything before this is delivered.
    pub fn position(&self) -> Timestamp {
        match self {
            Self::Idle { position }
            | Self::Running { position, .. }
            | Self::Halted { position, .. } => *position,
        }
    }

    /// Since when it is halted, if its list of groups is still `scope`.
    pub fn halted_under(&self, scope: &str) -> Option<Timestamp> {
        match self {
            Self::Halted { since, scope: then, .. } if then == scope => Some(*since),
            Self::Idle { .. } | Self::Running { .. } | Self::Halted { .. } => None,
        }
    }

    /// Begins a run, taking over from one that died.
    ///
    /// # Errors
    ///
    /// [`NotNow`] while another instance's run is alive, or after a halt whose
    /// scope still stands.
    pub fn claim(
        &self,
        run: &str,
        instance: &str,
        scope: &str,
        now: Timestamp,
    ) -> Result<Self, NotNow> {
        match self {
            Self::Running { claim, .. } if claim.instance != instance && claim.is_held(now) => {
                Err(NotNow::Busy)
            }
            Self::Halted { since, scope: then, .. } if then == scope => {
                Err(NotNow::Halted { since: *since })
            }
            Self::Idle { position }
            | Self::Running { position, .. }
            | Self::Halted { position, .. } => {
                let claim = Claim {
                    run: run.to_owned(),
                    instance: instance.to_owned(),
                    until: now + LEASE,
                };
                Ok(Self::Running { position: *position, claim })
            }
        }
    }

    /// Moves past what `receipt` proves delivered, and renews the claim. Never
    /// moves back: a receipt for a span read again changes nothing.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] unless a run is at it.
    pub fn advance(&self, receipt: Receipt, now: Timestamp) -> Result<Self, IllegalMove> {
        match self {
            Self::Running { position, claim } => Ok(Self::Running {
                position: receipt.through.max(*position),
                claim: Claim { until: now + LEASE, ..claim.clone() },
            }),
            Self::Idle { .. } | Self::Halted { .. } => Err(IllegalMove { wanted: "advance" }),
        }
    }

    /// Goes back from a position that cannot be. Never forward.
    #[must_use]
    pub fn set_back(&self, back: SetBack) -> Self {
        let mut next = self.clone();
        match &mut next {
            Self::Idle { position }
            | Self::Running { position, .. }
            | Self::Halted { position, .. } => *position = back.to.min(*position),
        }
        next
    }

    /// Ends the run.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] unless a run is at it.
    pub fn release(&self) -> Result<Self, IllegalMove> {
        match self {
            Self::Running { position, .. } => Ok(Self::Idle { position: *position }),
            Self::Idle { .. } | Self::Halted { .. } => Err(IllegalMove { wanted: "release" }),
        }
    }

    /// Stops until a person resumes.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] unless a run is at it.
    pub fn halt(&self, scope: &str, now: Timestamp) -> Result<Self, IllegalMove> {
        match self {
            Self::Running { position, .. } => {
                Ok(Self::Halted { position: *position, since: now, scope: scope.to_owned() })
            }
            Self::Idle { .. } | Self::Halted { .. } => Err(IllegalMove { wanted: "halt" }),
        }
    }

    /// A person's decision to go on.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] unless it is halted.
    pub fn resume(&self) -> Result<Self, IllegalMove> {
        match self {
            Self::Halted { position, .. } => Ok(Self::Idle { position: *position }),
            Self::Idle { .. } | Self::Running { .. } => Err(IllegalMove { wanted: "resume" }),
        }
    }
}

/// Proof that every row before a time was accepted or set aside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Receipt {
    through: Timestamp,
}

impl Receipt {
    /// Every row before this is accounted for.
    pub fn through(self) -> Timestamp {
        self.through
    }

    /// For [`Reached`](super::reached::Reached), whose times all come from
    /// receipts.
    pub(super) fn of_all(through: Timestamp) -> Self {
        Self { through }
    }
}

/// A batch on its way.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BatchNo(u64);

/// Which rows are accounted for; the only maker of a [`Receipt`].
///
/// Rows flow into batches and batches settle in any order. The source says now
/// and then that everything before a time has come ([`Tally::mark`]); the
/// receipt names the latest such time with no row before it outstanding.
#[derive(Debug, Default)]
pub struct Tally {
    next: u64,
    outstanding: BTreeSet<u64>,
    /// A time, and the first batch number that may hold rows after it.
    marks: VecDeque<(Timestamp, u64)>,
}

impl Tally {
    /// A batch sets out.
    pub fn sent(&mut self) -> BatchNo {
        let number = self.next;
        self.next += 1;
        self.outstanding.insert(number);
        BatchNo(number)
    }

    /// Every row of a batch was accepted or set aside.
    pub fn settled(&mut self, batch: BatchNo) {
        self.outstanding.remove(&batch.0);
    }

    /// Every row before `through` has come. `collecting` says whether rows wait
    /// for the next batch to set out.
    pub fn mark(&mut self, through: Timestamp, collecting: bool) {
        self.marks.push_back((through, self.next + u64::from(collecting)));
    }

    /// Proof up to the latest mark with nothing outstanding before it; `None`
    /// if no mark has been reached since the last call.
    pub fn receipt(&mut self) -> Option<Receipt> {
        let first_open = self.outstanding.first().copied().unwrap_or(self.next);
        let mut reached = None;
        while let Some((through, _)) = self.marks.pop_front_if(|(_, needs)| *needs <= first_open) {
            reached = Some(Receipt { through });
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn running(position: i64) -> Progress {
        let claim = Claim { run: "r".to_owned(), instance: "here".to_owned(), until: at(1_000) };
        Progress::Running { position: at(position), claim }
    }

    fn receipt(through: i64) -> Receipt {
        Receipt { through: at(through) }
    }

    #[test]
    fn a_live_run_of_another_instance_is_left_alone() {
        let busy = running(5);
        assert_eq!(busy.claim("r2", "there", "s", at(999)), Err(NotNow::Busy));
        assert!(busy.claim("r2", "there", "s", at(1_000)).is_ok());
    }

    #[test]
    fn a_process_that_died_here_is_succeeded_at_once() {
        let next = running(5).claim("r2", "here", "s", at(10)).unwrap();
        assert_eq!(next.position(), at(5));
        assert!(matches!(next, Progress::Running { claim, .. } if claim.run == "r2"));
    }

    #[test]
    fn a_claim_of_a_clock_that_ran_ahead_holds_nobody_up() {
        let busy = running(5);
        assert_eq!(busy.claim("r2", "there", "s", at(1_000 - 420)), Err(NotNow::Busy));
        assert!(busy.claim("r2", "there", "s", at(1_000 - 421)).is_ok());
    }

    #[test]
    fn only_a_position_in_the_future_is_set_back() {
        assert_eq!(SetBack::of(at(620), at(100), at(500)), None, "clocks are set by as much");
        let back = SetBack::of(at(621), at(100), at(500)).unwrap();
        assert_eq!((back.from(), back.to()), (at(621), at(100)));
        assert_eq!(running(621).set_back(back).position(), at(100));
        assert_eq!(running(50).set_back(back).position(), at(50), "never forward");
        let halted = running(621).halt("s", at(9)).unwrap();
        assert!(matches!(halted.set_back(back), Progress::Halted { .. }));
        assert_eq!(SetBack::of(at(621), at(900), at(500)).unwrap().to(), at(500));
    }

    #[test]
    fn the_position_never_moves_back() {
        assert_eq!(running(50).advance(receipt(40), at(0)).unwrap().position(), at(50));
        assert_eq!(running(50).advance(receipt(60), at(0)).unwrap().position(), at(60));
    }

    #[test]
    fn a_halt_lasts_until_a_person_acts() {
        let halted = running(5).halt("groups", at(9)).unwrap();
        assert_eq!(
            halted.claim("r", "here", "groups", at(99_999)),
            Err(NotNow::Halted { since: at(9) })
        );
        assert!(halted.claim("r", "here", "other groups", at(10)).is_ok());
        assert_eq!(halted.resume(), Ok(Progress::Idle { position: at(5) }));
        assert!(halted.advance(receipt(9), at(9)).is_err());
    }

    #[test]
    fn only_a_run_moves_anything() {
        let idle = Progress::Idle { position: at(1) };
        assert!(idle.advance(receipt(2), at(2)).is_err());
        assert!(idle.halt("s", at(2)).is_err());
        assert!(idle.release().is_err());
        assert!(idle.resume().is_err());
        assert_eq!(running(1).release(), Ok(idle));
    }

    #[test]
    fn the_stored_form_is_stable() {
        let stored = |progress: &Progress| serde_json::to_string(progress).unwrap();
        assert_eq!(
            stored(&running(5)),
            r#"{"phase":"running","position":"1970-01-01T00:00:05Z","claim":{"run":"r","instance":"here","until":"1970-01-01T00:16:40Z"}}"#
        );
        assert_eq!(
            stored(&running(5).halt("g", at(9)).unwrap()),
            r#"{"phase":"halted","position":"1970-01-01T00:00:05Z","since":"1970-01-01T00:00:09Z","scope":"g"}"#
        );
        assert_eq!(
            stored(&Progress::Idle { position: at(0) }),
            r#"{"phase":"idle","position":"1970-01-01T00:00:00Z"}"#
        );
    }

    #[test]
    fn a_batch_on_its_way_withholds_the_receipt() {
        let mut tally = Tally::default();
        let first = tally.sent();
        tally.mark(at(1), false);
        let second = tally.sent();
        tally.mark(at(2), false);
        tally.settled(second);
        assert_eq!(tally.receipt(), None);
        tally.settled(first);
        assert_eq!(tally.receipt(), Some(receipt(2)));
        assert_eq!(tally.receipt(), None);
    }

    #[test]
    fn rows_still_being_collected_withhold_the_receipt() {
        let mut tally = Tally::default();
        tally.mark(at(1), true);
        assert_eq!(tally.receipt(), None);
        let batch = tally.sent();
        assert_eq!(tally.receipt(), None);
        tally.settled(batch);
        assert_eq!(tally.receipt(), Some(receipt(1)));
    }

    #[test]
    fn an_empty_span_moves_on_at_once() {
        let mut tally = Tally::default();
        tally.mark(at(7), false);
        assert_eq!(tally.receipt(), Some(receipt(7)));
    }

    /// What can happen to a tally, for the property below.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Row,
        Send,
        Mark,
        Settle(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Row),
            2 => Just(Event::Send),
            2 => Just(Event::Mark),
            3 => (0_usize..9).prop_map(Event::Settle),
        ]
    }

    proptest! {
        #[test]
        fn a_receipt_is_never_ahead_of_delivery(events in prop::collection::vec(event(), 1..200)) {
            let mut tally = Tally::default();
            // Rows carry the time they came at; one tick a row.
            let (mut now, mut collecting, mut flying) = (0, Vec::new(), Vec::<(BatchNo, Vec<i64>)>::new());
            for event in events {
                match event {
                    Event::Row => { collecting.push(now); now += 1; }
                    Event::Send if !collecting.is_empty() => {
                        flying.push((tally.sent(), std::mem::take(&mut collecting)));
                    }
                    Event::Send => {}
                    Event::Mark => tally.mark(at(now), !collecting.is_empty()),
                    Event::Settle(which) if which < flying.len() => {
                        tally.settled(flying.remove(which).0);
                    }
                    Event::Settle(_) => {}
                }
                let outstanding = flying.iter().flat_map(|(_, rows)| rows).chain(&collecting).min();
                if let (Some(receipt), Some(oldest)) = (tally.receipt(), outstanding) {
                    prop_assert!(receipt.through <= at(*oldest));
                }
            }
            for (batch, _) in flying { tally.settled(batch); }
            if !collecting.is_empty() { let last = tally.sent(); tally.settled(last); }
            tally.mark(at(now), false);
            prop_assert_eq!(tally.receipt(), Some(receipt(now)));
        }
    }
}
