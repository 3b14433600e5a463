//! What the heartbeat of a run says that left Defender alone.

use super::report::{AS_CALLS_BECOME_FREE, throttled};
use crate::domain::advice::Advice;
use crate::domain::heartbeat::Status;
use crate::domain::pace::{Found, Later};

/// What the run found that asked last still holds, and its status stands.
pub(super) fn describe(later: Later, until: &str) -> (Status, Advice) {
    let at = later.at.hour_and_minute();
    let asked_at = later.asked_at.hour_and_minute();
    let minutes = later.minutes;
    let turn = if later.own_slot {
        format!(
            "The app was not running when it was due; Defender is asked at {at} UTC, this trust's own time, because else all trusts would ask at once."
        )
    } else if later.found == Found::Failing {
        format!("Defender is asked again at {at} UTC.")
    } else {
        format!(
            "Not due yet: Defender is asked every {minutes} minutes, because all trusts share the central tenant's calls; next at {at} UTC."
        )
    };
    let as_it_said = format!("As the heartbeat of {asked_at} UTC says.");
    let (status, what, next_step) = match later.found {
        Found::Everything => (Status::Ok, format!("Complete{until}."), String::new()),
        Found::Foreign => (
            Status::ScopeViolation,
            format!("At {asked_at} UTC alerts of other device groups were met and withheld."),
            as_it_said,
        ),
        Found::More => (
            Status::CatchingUp,
            format!("Complete{until}, with newer alerts still to come."),
            AS_CALLS_BECOME_FREE.to_owned(),
        ),
        Found::Undelivered => (
            Status::SinkFailed,
            format!("At {asked_at} UTC alerts could not be delivered; they wait."),
            as_it_said,
        ),
        Found::Failing => (
            Status::SourceFailed,
            format!("At {asked_at} UTC Defender failed or could not be reached."),
            as_it_said,
        ),
        Found::Throttled | Found::Spent => {
            let Advice { message, next_step } = throttled();
            (Status::SourceThrottled, message, next_step)
        }
        Found::Refused => (
            Status::SourceFailed,
            format!("At {asked_at} UTC Defender refused to give alerts."),
            as_it_said,
        ),
    };
    (status, Advice::new(format!("{what} {turn}"), next_step))
}
