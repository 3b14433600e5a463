//! What a day was like: a row for each part of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use defender_alert_export::domain::heartbeat::Heartbeat;
use defender_alert_export::domain::timestamp::Timestamp;
use defender_alert_export::sandbox::defender::Called;

use super::day::Event;

/// What a window leaves to settle.
const SETTLE: Duration = Duration::from_mins(1);

/// One run, as its heartbeat tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    trust: u64,
    ended: Timestamp,
    /// Everything before is delivered.
    position: Timestamp,
}

impl Sighting {
    pub(crate) fn of(trust: u64, ended: Timestamp, heartbeat: &Heartbeat) -> Option<Self> {
        let lag = Duration::from_secs(heartbeat.lag_seconds?);
        Some(Self { trust, ended, position: ended - lag })
    }
}

/// A part of the day.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    name: &'static str,
    from: Timestamp,
    to: Timestamp,
    /// What all are to have caught up with; `None` where nothing happened.
    over: Option<Timestamp>,
    pub(crate) calls: usize,
    pub(crate) refused: usize,
    /// Most calls that were not refused within any 60 seconds and 60 minutes.
    pub(crate) busiest: (usize, usize),
    pub(crate) worst_lag: Duration,
    /// From the end of what happened until the last trust was current; `None`
    /// if one never was.
    pub(crate) current_after: Option<Duration>,
}

fn most_within(times: &[Timestamp], span: Duration) -> usize {
    let first_within = |at: &Timestamp| times.partition_point(|earlier| at.since(*earlier) >= span);
    let within = times.iter().enumerate().map(|(index, at)| index + 1 - first_within(at));
    within.max().unwrap_or_default()
}

impl Row {
    pub(crate) fn new(name: &'static str, event: Event, from: Timestamp, to: Timestamp) -> Self {
        let over = match event {
            Event::Nothing => None,
            Event::Outage(_) => Some(from + Duration::from_hours(1)),
            // Visible once it has settled.
            Event::MassUpdate(_) => Some(from + SETTLE),
            Event::Restart(_) => Some(from),
        };
        Self {
            name,
            from,
            to,
            over,
            calls: 0,
            refused: 0,
            busiest: (0, 0),
            worst_lag: Duration::ZERO,
            current_after: None,
        }
    }

    pub(crate) fn fill(&mut self, called: &[Called], seen: &[Sighting], trusts: u64) {
        let within = |at: Timestamp| self.from <= at && at < self.to;
        let here: Vec<_> = called.iter().filter(|call| within(call.at)).collect();
        self.calls = here.len();
        self.refused = here.iter().filter(|call| call.refused).count();
        let taken: Vec<_> = here.iter().filter(|call| !call.refused).map(|call| call.at).collect();
        let hour = Duration::from_hours(1);
        self.busiest = (most_within(&taken, Duration::from_mins(1)), most_within(&taken, hour));

        let mut before = BTreeMap::new();
        let mut current = BTreeMap::new();
        for run in seen {
            let known = before.insert(run.trust, run.position);
            if within(run.ended) {
                let lag = run.ended.since(known.unwrap_or(run.position));
                self.worst_lag = self.worst_lag.max(lag);
                if let Some(over) = self.over
                    && run.position >= over - SETTLE
                    && run.ended >= over
                {
                    current.entry(run.trust).or_insert(run.ended.since(over));
                }
            }
        }
        let all = u64::try_from(current.len()).is_ok_and(|count| count == trusts);
        self.current_after = current.into_values().max().filter(|_| all);
    }
}

/// `4:05` minutes.
struct Clocked(Duration);

impl fmt::Display for Clocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        write!(f, "{}:{:02}", seconds / 60, seconds % 60)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, calls, refused, busiest: (minute, hour), worst_lag, .. } = self;
        write!(
            f,
            "| {name} | {calls} | {refused} | {minute} | {hour} | {} | ",
            Clocked(*worst_lag)
        )?;
        match (self.over, self.current_after) {
            (None, _) => write!(f, "|"),
            (Some(_), Some(after)) => write!(f, "{} |", Clocked(after)),
            (Some(_), None) => write!(f, "never |"),
        }
    }
}
