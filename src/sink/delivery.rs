//! One batch, until every row is accepted, singled out or given up on.
//!
//! A refused batch is halved until it is accepted or a single row is left. What
//! is left alone and still refused is a row the sink will never take: it must
//! not hold up the rest. But if rows are refused for a fault they all share (a
//! column that was not deployed), none may be set aside: see [`is_systemic`].

use std::fmt;

use bytes::Bytes;

use super::advice;
use super::answer::PostError;
use super::{Effort, Sink};
use crate::domain::advice::Advice;
use crate::domain::batch::Batch;
use crate::domain::ledger::Entry;
use crate::domain::timestamp::Timestamp;
use crate::http::retry::GaveUp;

/// Refused rows that may be a coincidence while nothing was accepted.
const COINCIDENCE: u64 = 3;
/// Rows that are taken apart whatever it looks like: a good one beside bad ones
/// must be found, and so few cost few requests.
const FEW: usize = 16;

/// What is known before a batch is sent.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// When the deployment was made: role assignments take up to 30 minutes
    /// from then.
    pub deployed_at: Timestamp,
    /// Rows accepted so far in this run.
    pub accepted: u64,
    /// Rows refused alone so far in this run, and by the runs before it since
    /// one was last accepted: one alert a run must not add up to a drain.
    pub refused: u64,
}

/// A batch of which nothing is left to send.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Rows the sink took, in order.
    pub accepted: Vec<Entry>,
    /// Rows it refused alone: for the quarantine.
    pub refused: Vec<RefusedRow>,
    /// Requests it took.
    pub requests: u64,
}

/// A row the sink refuses by itself.
#[derive(Clone)]
pub struct RefusedRow {
    /// Its JSON.
    pub row: Bytes,
    /// What it is of.
    pub entry: Entry,
    /// What the sink answered: status and code.
    pub reason: String,
}

impl fmt::Debug for RefusedRow {
    /// Never the row: a `Debug` may reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusedRow")
            .field("bytes", &self.row.len())
            .field("entry", &self.entry)
            .field("reason", &self.reason)
            .finish()
    }
}

/// A batch of which something is left to send, by a later run.
#[derive(Debug, thiserror::Error)]
#[error("delivery failed")]
pub struct SinkFailed {
    /// Rows the sink took before it failed: to be noted as delivered.
    pub accepted: Vec<Entry>,
    /// Rows it refused alone while it took others: for the quarantine.
    pub refused: Vec<RefusedRow>,
    /// Requests it took.
    pub requests: u64,
    /// Why the rest was not taken.
    #[source]
    pub error: Cause,
    /// The same for a person.
    pub advice: Advice,
}

/// Why the rest of a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// A request failed for a reason no single row has.
    #[error("a request failed")]
    Request(#[source] GaveUp<PostError>),
    /// The sink refuses row after row, so that the rows are not to blame.
    /// Nothing was set aside.
    #[error("the sink refuses row after row")]
    EveryRow(#[source] PostError),
}

/// Whether refusals tell of a fault all rows share, rather than of a few rows
/// the sink cannot take: more than three, and they are a whole batch, or nothing
/// at all has been accepted, in this run or since the last row that was.
pub fn is_systemic(standing: &Standing, rows: usize, accepted: usize, refused: usize) -> bool {
    let whole_batch = refused == rows;
    let nothing_yet = standing.accepted == 0 && accepted == 0;
    let refused = u64::try_from(refused).unwrap_or(u64::MAX);
    let since_the_last = if nothing_yet { standing.refused } else { 0 };
    (whole_batch || nothing_yet) && since_the_last.saturating_add(refused) > COINCIDENCE
}

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Delivery<'a> {
    sink: &'a Sink,
    standing: Standing,
    rows: usize,
    /// Parts still to send, the next one last.
    waiting: Vec<Batch>,
    /// While the fault looks systemic: parts refused once and not taken apart,
    /// until another part is accepted. Taking a thousand rows apart that are
    /// all refused would cost two thousand requests.
    doubted: Option<Vec<Batch>>,
    accepted: Vec<Entry>,
    refused: Vec<RefusedRow>,
    effort: Effort,
    last_refusal: Option<PostError>,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(sink: &'a Sink, batch: Batch, standing: Standing) -> Self {
        Self {
            sink,
            standing,
            rows: batch.len(),
            waiting: vec![batch],
            doubted: None,
            accepted: Vec::new(),
            refused: Vec::new(),
            effort: Effort::new(standing.deployed_at),
            last_refusal: None,
        }
    }

    pub(super) async fn run(mut self) -> Result<Delivered, SinkFailed> {
        while let Some(part) = self.waiting.pop() {
            match self.sink.send_counted(part.body(), part.digest(), &mut self.effort).await {
                Ok(()) => self.accept(&part),
                Err(gave_up) if gave_up.last.blames_rows(self.sink.place()) => {
                    self.refuse(part, gave_up.last);
                }
                Err(gave_up) => return Err(self.fail(Cause::Request(gave_up))),
            }
        }
        match self.last_refusal.take() {
            Some(last) if self.looks_systemic() => Err(self.fail(Cause::EveryRow(last))),
            Some(_) | None => Ok(Delivered {
                accepted: self.accepted,
                refused: self.refused,
                requests: self.effort.requests,
            }),
        }
    }

    fn accept(&mut self, part: &Batch) {
        self.accepted.extend(part.rows().map(|(_, entry)| entry));
        for part in self.doubted.take().into_iter().flatten() {
            self.take_apart(&part);
        }
    }

    fn refuse(&mut self, part: Batch, error: PostError) {
        match (&mut self.doubted, part.len()) {
            (Some(doubted), 2..) => doubted.push(part),
            (None, 2..) => self.take_apart(&part),
            (_, _) => self.single_out(&part, &error),
        }
        self.last_refusal = Some(error);
    }

    fn take_apart(&mut self, part: &Batch) {
        if let Some((first, second)) = part.halves() {
            self.waiting.extend([second, first]);
        }
    }

    fn single_out(&mut self, part: &Batch, error: &PostError) {
        let reason = error.to_string();
        let refused =
            part.rows().map(|(row, entry)| RefusedRow { row, entry, reason: reason.clone() });
        self.refused.extend(refused);
        if self.rows > FEW && self.doubted.is_none() && self.looks_systemic() {
            self.doubted = Some(Vec::new());
        }
    }

    fn looks_systemic(&self) -> bool {
        is_systemic(&self.standing, self.rows, self.accepted.len(), self.refused.len())
    }

    /// Refused rows are set aside only if others were accepted; else the fault
    /// may not be theirs, and a later run meets them again.
    fn fail(self, error: Cause) -> SinkFailed {
        let proven = self.standing.accepted > 0 || !self.accepted.is_empty();
        let keep = proven && matches!(error, Cause::Request(_));
        let advice = match &error {
            Cause::Request(gave_up) => self.sink.advise(&gave_up.last, self.standing.deployed_at),
            Cause::EveryRow(last) => advice::every_row(self.sink.place(), last),
        };
        SinkFailed {
            accepted: self.accepted,
            refused: if keep { self.refused } else { Vec::new() },
            requests: self.effort.requests,
            error,
            advice,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_bad_rows_are_theirs_and_many_with_nothing_accepted_are_ours() {
        let standing =
            |accepted, refused| Standing { deployed_at: Timestamp::EPOCH, accepted, refused };
        for (why, standing, rows, accepted, refused, expected) in [
            ("one of a hundred", standing(0, 0), 100, 99, 1, false),
            ("a lone row", standing(0, 0), 1, 0, 1, false),
            ("every row of several", standing(500, 0), 4, 0, 4, true),
            ("both rows of two", standing(500, 0), 2, 0, 2, false),
            ("both rows of two, and nothing accepted", standing(0, 1), 2, 0, 2, false),
            ("both rows of two, and two before", standing(0, 2), 2, 0, 2, true),
            ("the fourth lone row and nothing accepted", standing(0, 3), 1, 0, 1, true),
            ("the fourth lone row after others", standing(1, 3), 1, 0, 1, false),
            ("four, then one accepted", standing(0, 0), 9, 1, 4, false),
            ("three, nothing accepted yet", standing(0, 0), 9, 0, 3, false),
            ("four, nothing accepted yet", standing(0, 0), 9, 0, 4, true),
            ("nothing refused", standing(0, 0), 9, 0, 0, false),
        ] {
            assert_eq!(is_systemic(&standing, rows, accepted, refused), expected, "{why}");
        }
    }

    #[test]
    fn debug_output_shows_no_row() {
        let refused = RefusedRow {
            row: Bytes::from_static(b"{\"secret\":1}"),
            entry: Entry { at: Timestamp::EPOCH, digest: crate::domain::ledger::Digest::of("a") },
            reason: "the sink answered 400".to_owned(),
        };
        assert!(!format!("{refused:?}").contains("secret"));
    }
}
