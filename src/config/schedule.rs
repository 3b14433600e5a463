//! When the timer fires, as its schedule says.

use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};

use crate::domain::pace::Slot;
use crate::domain::timestamp::Timestamp;

/// Firings looked at for the longest time between two: a day of every minute.
const FIRINGS: usize = 1_500;
/// A schedule has no beginning.
const ANY_TIME: Timestamp = Timestamp::EPOCH;

/// A six-field NCRONTAB schedule, in UTC.
/// <https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer#ncrontab-expressions>
#[derive(Clone, Debug)]
pub struct Schedule(Arc<Cron>);

impl Schedule {
    /// `None` if it cannot be understood.
    pub fn parse(text: &str) -> Option<Self> {
        CronParser::builder()
            .seconds(Seconds::Required)
            .build()
            .parse(&with_ends(text))
            .ok()
            .map(|cron| Self(Arc::new(cron)))
    }

    /// The first firing after `now`; `None` if there is none.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let next = self.0.find_next_occurrence(&utc(now)?, false).ok()?;
        Some(Timestamp::from_unix_seconds(next.timestamp()))
    }

    /// The longest time from one firing to the next; of very many a day, those
    /// of the first days alone count.
    pub(super) fn longest_gap(&self) -> Duration {
        let firings = successors(self.next(ANY_TIME), |at| self.next(*at)).take(FIRINGS);
        let firings: Vec<_> = firings.collect();
        let gaps = firings.iter().zip(firings.iter().skip(1)).map(|(one, next)| next.since(*one));
        gaps.max().unwrap_or_default()
    }

    /// Where `now` lies between two firings.
    pub fn slot(&self, now: Timestamp) -> Option<Slot> {
        let last = self.last(now, true)?;
        let length = self.next(now)?.since(last);
        let before = self.last(last, false).map_or(length, |before| last.since(before));
        Some(Slot { since: now.since(last), length, before })
    }

    /// The last firing before `now`, or also at `now`.
    fn last(&self, now: Timestamp, inclusive: bool) -> Option<Timestamp> {
        let last = self.0.find_previous_occurrence(&utc(now)?, inclusive).ok()?;
        Some(Timestamp::from_unix_seconds(last.timestamp()))
    }
}

/// The last value of each field.
const ENDS: [u8; 6] = [59, 59, 23, 31, 12, 6];

/// With `5/10`, which the host reads as "from 5 on, every 10", written as a
/// range.
fn with_ends(text: &str) -> String {
    let field = |(field, end): (&str, u8)| {
        let parts = field.split(',').map(|part| match part.split_once('/') {
            Some((from, step)) if from.parse::<u8>().is_ok() => format!("{from}-{end}/{step}"),
            Some(_) | None => part.to_owned(),
        });
        parts.collect::<Vec<_>>().join(",")
    };
    let fields: Vec<_> = text.split_whitespace().collect();
    if fields.len() != ENDS.len() {
        return text.to_owned();
    }
    fields.into_iter().zip(ENDS).map(field).collect::<Vec<_>>().join(" ")
}

fn utc(at: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.unix_seconds(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_between_two_firings() {
        let schedule = Schedule::parse("37 3-59/5 * * * *").unwrap();
        let slot = |text: &str| {
            let slot = schedule.slot(text.parse().unwrap()).unwrap();
            assert_eq!(slot.before, Duration::from_mins(5));
            (slot.since, slot.length)
        };
        let five = Duration::from_mins(5);
        assert_eq!(slot("2026-11-21T10:03:37Z"), (Duration::ZERO, five));
        assert_eq!(slot("2026-11-21T10:03:36Z"), (Duration::from_secs(299), five));
        assert_eq!(slot("2026-11-21T10:00:37.5Z"), (Duration::from_millis(120_500), five));
        let gap = |text: &str| Schedule::parse(text).unwrap().longest_gap().as_secs() / 60;
        assert_eq!(gap("37 3-59/5 * * * *"), 5);
        assert_eq!(gap("0 */5 8-17 * * *"), 14 * 60 + 5);
        let by_day = Schedule::parse("0 */5 8-17 * * *").unwrap();
        let of = |text: &str| by_day.slot(text.parse().unwrap()).unwrap();
        let (last, first) = (of("2026-11-21T17:55:01Z"), of("2026-11-22T08:00:00Z"));
        let night = Duration::from_mins(14 * 60 + 5);
        assert_eq!((last.before, last.length, last.tick()), (five, night, five));
        assert_eq!((first.before, first.length, first.tick()), (night, five, five));
        assert!(Schedule::parse("every five minutes").is_none());
        assert!(Schedule::parse("*/5 * * * *").is_none());
        assert!(Schedule::parse("a b c d e f").is_none());
        for as_the_host_takes_them in [
            "0 */5 * * * *",
            "37 3-59/5 * * * *",
            "0 5/10 * * * *",
            "0 0,30 9-17 * * MON-FRI",
            "0 0 0 1 Jan *",
            "0 0 0 * * Sun",
            "0 0 0 * * 0",
        ] {
            assert!(Schedule::parse(as_the_host_takes_them).is_some(), "{as_the_host_takes_them}");
        }
    }
}
