//! The end of Defender's own API.
//!
//! Message center post MC1220762 (22 January 2026) retires it for 1 February
//! 2027. Whether that covers the list of alerts is disputed, so people are told
//! in time to move and not that it will stop.

use time::macros::utc_datetime;

use super::advice::Advice;
use super::timestamp::Timestamp;

/// What to tell whoever still reads from `Defender` at `now`; `None` before
/// December 2026.
pub fn advice(now: Timestamp) -> Option<Advice> {
    let at = now.to_utc();
    if at < utc_datetime!(2026-12-01 0:00) {
        return None;
    }
    let (has, when) = if at < utc_datetime!(2027-02-01 0:00) {
        ("has", " before 1 February 2027")
    } else {
        ("had", "")
    };
    Some(Advice::new(
        format!(
            "Alerts are read through Defender's own API, which Microsoft {has} announced to end on 1 February 2027 (MC1220762)."
        ),
        // Stands alone on the portal.
        format!(
            "Leave Defender's own API{when}: have the central team grant the application the delegated permission SecurityAlert.Read.All of Microsoft Graph, with admin consent; then set FunctionConfigAlertSource to `Graph`. Nobody has to sign in again, and the export goes on where it stands."
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(now: &str) -> Option<String> {
        Some(advice(now.parse().unwrap())?.message)
    }

    #[test]
    fn people_are_told_from_december_on_and_how_it_stands() {
        assert_eq!(message("2026-11-30T23:59:59.9999999Z"), None);
        let before = message("2026-12-01T00:00:00Z").unwrap();
        assert!(before.contains("has announced") && before.contains("MC1220762"));
        assert_eq!(message("2027-01-31T23:59:59Z"), Some(before));
        assert!(message("2027-02-01T00:00:00Z").unwrap().contains("had announced"));
        let next_step = advice("2027-01-01T00:00:00Z".parse().unwrap()).unwrap().next_step;
        for words in [
            "before 1 February 2027",
            "SecurityAlert.Read.All",
            "admin consent",
            "FunctionConfigAlertSource",
        ] {
            assert!(next_step.contains(words), "{next_step}");
        }
    }
}
