//! What the heartbeat of a run says that left Defender alone.

use super::failed::throttled;
use super::report::AS_CALLS_BECOME_FREE;
use crate::domain::advice::Advice;
use crate::domain::heartbeat::Status;
use crate::domain::pace::{Found, Later};
use crate::domain::timestamp::Timestamp;
use crate::source::Api;

/// All is delivered up to `position`, and nothing later may be read yet.
pub(super) fn nothing_settled(position: Option<Timestamp>, api: Api) -> (Status, Advice) {
    let since = position.map(Timestamp::to_the_second);
    let (until, after) = since.map_or_else(Default::default, |since| {
        (format!("Complete up to {since}. "), format!(" after {since}"))
    });
    let message = format!(
        "{until}{api} was not asked this time: alerts are read once they have settled, and nothing{after} has yet."
    );
    (Status::Ok, Advice::new(message, ""))
}

/// What the run found that asked last still holds: its status stands, and so
/// does what it `said`.
pub(super) fn describe(
    later: Later,
    said: Option<&Advice>,
    until: &str,
    api: Api,
) -> (Status, Advice) {
    let at = later.at.hour_and_minute();
    let asked_at = later.asked_at.hour_and_minute();
    let minutes = later.minutes;
    let turn = if later.own_slot {
        format!(
            "The app was not running when it was due; {api} is asked at {at} UTC, this trust's own time, because otherwise all trusts would ask at once."
        )
    } else if later.found == Found::Failing {
        format!("{api} is asked again at {at} UTC.")
    } else {
        format!(
            "Not due yet: {api} is asked every {minutes} minutes, because all trusts share the central tenant's calls; next at {at} UTC."
        )
    };
    let again = |what: &str| match said {
        Some(Advice { message, next_step }) => {
            (format!("At {asked_at} UTC: {message}"), next_step.clone())
        }
        // Of a version that kept no words.
        None => (
            format!("At {asked_at} UTC {what}."),
            format!(
                "Nothing is lost. The run of {asked_at} UTC said what to do: see its heartbeat, or wait for the next."
            ),
        ),
    };
    let (status, what, next_step) = match later.found {
        Found::Everything => (Status::Ok, format!("Complete{until}."), String::new()),
        Found::Foreign => {
            let (what, next_step) = again("alerts of other device groups were met and withheld");
            (Status::ScopeViolation, what, next_step)
        }
        Found::More => (
            Status::CatchingUp,
            format!("Complete{until}, with newer alerts still to come."),
            AS_CALLS_BECOME_FREE.to_owned(),
        ),
        Found::Undelivered => {
            let (what, next_step) = again("alerts could not be delivered; they wait");
            (Status::SinkFailed, what, next_step)
        }
        Found::Failing => {
            let (what, next_step) = again(&format!("{api} failed or could not be reached"));
            (Status::SourceFailed, what, next_step)
        }
        Found::Throttled | Found::Spent => {
            let Advice { message, next_step } = throttled(api);
            (Status::SourceThrottled, message, next_step)
        }
        Found::Refused => {
            let (what, next_step) = again(&format!("{api} refused to give alerts"));
            (Status::SourceFailed, what, next_step)
        }
    };
    (status, Advice::new(format!("{what} {turn}"), next_step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::timestamp::Timestamp;

    fn later(found: Found, own_slot: bool) -> Later {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time literal");
        let (at, asked_at) = (at("2026-11-21T10:20:30Z"), at("2026-11-21T10:05:30Z"));
        Later { at, asked_at, minutes: 15, found, own_slot }
    }

    #[test]
    fn what_was_found_last_stands_until_defender_is_asked_again() {
        for (found, status) in [
            (Found::Everything, Status::Ok),
            (Found::Foreign, Status::ScopeViolation),
            (Found::More, Status::CatchingUp),
            (Found::Undelivered, Status::SinkFailed),
            (Found::Failing, Status::SourceFailed),
            (Found::Throttled, Status::SourceThrottled),
            (Found::Spent, Status::SourceThrottled),
            (Found::Refused, Status::SourceFailed),
        ] {
            for own_slot in [false, true] {
                let (said, advice) = describe(later(found, own_slot), None, "", Api::Defender);
                assert_eq!(said, status, "{found:?}");
                assert!(advice.message.contains("10:20 UTC"), "{}", advice.message);
                assert_eq!(advice.next_step.is_empty(), status == Status::Ok, "{found:?}");
            }
        }
    }

    #[test]
    fn a_run_that_is_not_due_says_why_and_when() {
        let said = |later| describe(later, None, " up to noon", Api::Defender).1.message;
        assert_eq!(
            said(later(Found::Everything, false)),
            "Complete up to noon. Not due yet: Defender is asked every 15 minutes, because all trusts share the central tenant's calls; next at 10:20 UTC."
        );
        assert_eq!(
            said(later(Found::Failing, false)),
            "At 10:05 UTC Defender failed or could not be reached. Defender is asked again at 10:20 UTC."
        );
    }

    #[test]
    fn what_was_said_is_said_again_and_nobody_is_sent_elsewhere() {
        let before = Advice::new("The rule lets nobody in.", "Give it the role.");
        for found in [Found::Foreign, Found::Undelivered, Found::Failing, Found::Refused] {
            let (_, said) = describe(later(found, false), Some(&before), "", Api::Defender);
            assert_eq!(said.next_step, "Give it the role.", "{found:?}");
            let begins = "At 10:05 UTC: The rule lets nobody in. ";
            assert!(said.message.starts_with(begins), "{}", said.message);
            assert!(said.message.ends_with("10:20 UTC."), "{}", said.message);
        }
        let (_, said) = describe(later(Found::Everything, false), Some(&before), "", Api::Defender);
        assert_eq!(said.next_step, "");
    }
}
