//! 24 hours of runs as a picture: three lanes over one axis of time.
//!
//! Every lane is cut into quarters of an hour. One in which a run was due and
//! none came is filled from top to bottom in every lane, so that a gap is seen
//! at a glance. The words stand beside it as text, so that they keep their size
//! on a phone.

use std::time::Duration;

use maud::{Markup, html};

use super::Timetable;
use super::words::{clock, count, span};
use crate::domain::heartbeat::Status;
use crate::domain::runs::PastRun;
use crate::domain::timestamp::Timestamp;

const SLOT: Duration = Duration::from_mins(15);
const SLOTS: u32 = 96;
/// Width of a slot and height of a lane, in the picture's own units.
const WIDTH: u32 = 10;
const HEIGHT: u64 = 100;

/// A quarter of an hour.
#[derive(Clone, Debug, Default)]
struct Slot {
    runs: u64,
    failed: u64,
    delivered: u64,
    withheld: u64,
    lag_seconds: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Kind {
    /// A run ended in it.
    #[default]
    Run,
    /// No run ended in it, and one should have.
    Gap,
    /// Nothing was due in it by the schedule, or it lies before this
    /// deployment's first run, or it is not over yet.
    NotDue,
}

/// The lanes, their words and their key.
pub(super) fn day(
    runs: &[PastRun],
    due: &Timetable,
    deployed_at: Option<Timestamp>,
    now: Timestamp,
) -> Markup {
    let slots = slots(runs, due, deployed_at, now);
    let sum = |of: fn(&Slot) -> u64| slots.iter().map(of).sum::<u64>();
    let gaps = slots.iter().filter(|slot| slot.kind == Kind::Gap).count();
    let gaps = u64::try_from(gaps).unwrap_or(u64::MAX);
    let most = slots.iter().map(|slot| slot.delivered + slot.withheld).max().unwrap_or_default();
    let longest = slots.iter().map(|slot| slot.lag_seconds).max().unwrap_or_default();
    let delivered = format!(
        "{} delivered; withheld {} (an alert that is met again counts again); at most {most} in a quarter of an hour",
        sum(|slot| slot.delivered),
        count(sum(|slot| slot.withheld), "time")
    );
    let ended = format!(
        "{}, {} failed; {} without a run",
        count(sum(|slot| slot.runs), "run"),
        sum(|slot| slot.failed),
        count(gaps, "quarter-hour")
    );
    let lag = format!("at most {}", span(longest));
    html! {
        h3 { "Alerts: " (delivered) }
        (lane("lane", &format!("Alerts: {delivered}"), &slots, |slot, x| alerts(slot, x, most)))
        h3 { "Runs: " (ended) }
        (lane("lane short", &format!("Runs: {ended}"), &slots, outcome))
        h3 { "Lag: " (lag) }
        (lane("lane", &format!("Lag: {lag}"), &slots, |slot, x| lagging(slot, x, longest)))
        p class="axis" aria-hidden="true" {
            @for quarter in 0..5_u32 {
                span { (clock(now - Duration::from_hours(24) + Duration::from_hours(6) * quarter)) }
            }
        }
        ul class="key" {
            @for (class, text) in [
                ("bar", "delivered, and lag"), ("withheld", "withheld"), ("ok", "run did its duty"),
                ("fail", "run failed"), ("gap", "no run"), ("before", "not due"),
            ] {
                li { svg class="lane" viewBox="0 0 1 1" aria-hidden="true" { rect class=(class) width="1" height="1" {} } (text) }
            }
        }
    }
}

fn slots(
    runs: &[PastRun],
    due: &Timetable,
    deployed_at: Option<Timestamp>,
    now: Timestamp,
) -> Vec<Slot> {
    let start = now - SLOT * SLOTS;
    (0..SLOTS)
        .map(|number| {
            let from = start + SLOT * number;
            let to = from + SLOT;
            let mut slot = Slot::default();
            for run in runs.iter().filter(|run| run.at > from && run.at <= to) {
                slot.runs += 1;
                slot.failed += u64::from(failed(run.status));
                slot.delivered += run.counts.delivered;
                slot.withheld += run.counts.withheld;
                slot.lag_seconds = slot.lag_seconds.max(run.lag_seconds.unwrap_or_default());
            }
            if slot.runs == 0 {
                let missed = deployed_at.is_some_and(|first| from >= first)
                    && due.missed(from, to, now, runs.iter().map(|run| run.at));
                slot.kind = if missed { Kind::Gap } else { Kind::NotDue };
            }
            slot
        })
        .collect()
}

/// Whether alerts did not get through in that run.
fn failed(status: Status) -> bool {
    !status.did_its_duty() || status == Status::SignInNeeded
}

fn lane(class: &str, label: &str, slots: &[Slot], draw: impl Fn(&Slot, u32) -> Markup) -> Markup {
    html! {
        svg class=(class) viewBox=(format!("0 0 {} {HEIGHT}", SLOTS * WIDTH)) preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (x, slot) in (0..).step_by(10).zip(slots) {
                @match slot.kind {
                    Kind::Gap => rect class="gap" x=(x) width=(WIDTH) height=(HEIGHT) {},
                    Kind::NotDue => rect class="before" x=(x) width=(WIDTH) height=(HEIGHT) {},
                    Kind::Run => (draw(slot, x)),
                }
            }
        }
    }
}

fn alerts(slot: &Slot, x: u32, most: u64) -> Markup {
    let delivered = tall(slot.delivered, most);
    let withheld = tall(slot.withheld, most);
    html! {
        rect class="bar" x=(x + 1) y=(HEIGHT - delivered) width=(WIDTH - 2) height=(delivered) {}
        rect class="withheld" x=(x + 1) y=(HEIGHT.saturating_sub(delivered + withheld)) width=(WIDTH - 2) height=(withheld) {}
    }
}

/// Low and green, or full and red: not by colour alone.
fn outcome(slot: &Slot, x: u32) -> Markup {
    let (class, height) = if slot.failed > 0 { ("fail", HEIGHT) } else { ("ok", HEIGHT / 3) };
    html! {
        rect class=(class) x=(x + 1) y=(HEIGHT - height) width=(WIDTH - 2) height=(height) {}
    }
}

fn lagging(slot: &Slot, x: u32, longest: u64) -> Markup {
    let height = tall(slot.lag_seconds, longest);
    html! { rect class="bar" x=(x + 1) y=(HEIGHT - height) width=(WIDTH - 2) height=(height) {} }
}

/// `part` of a lane whose top is `whole`; what is not nothing can be seen.
fn tall(part: u64, whole: u64) -> u64 {
    if part == 0 { 0 } else { (part.saturating_mul(HEIGHT) / whole.max(1)).clamp(3, HEIGHT) }
}
