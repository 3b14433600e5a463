//! Times, as people say them.

pub(super) use crate::domain::advice::counted as count;
use crate::domain::timestamp::Timestamp;

/// `21 Nov 2026, 13:05 UTC`.
pub(super) fn time(at: Timestamp) -> String {
    let at = at.to_utc();
    let month = at.month().to_string();
    let month: String = month.chars().take(3).collect();
    format!("{} {month} {}, {:02}:{:02} UTC", at.day(), at.year(), at.hour(), at.minute())
}

/// `13:05`.
pub(super) fn clock(at: Timestamp) -> String {
    let at = at.to_utc();
    format!("{:02}:{:02}", at.hour(), at.minute())
}

/// `45 seconds`, `12 minutes`, `3 hours`, `2 days`; rounded down.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => count(seconds, "second"),
        120..7_200 => count(seconds / 60, "minute"),
        7_200..172_800 => count(seconds / 3_600, "hour"),
        _ => count(seconds / 86_400, "day"),
    }
}

/// `14 minutes 5 seconds`.
pub(super) fn countdown(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => count(seconds, "second"),
        (minutes, seconds) => format!("{} {}", count(minutes, "minute"), count(seconds, "second")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        let at: Timestamp = "2026-11-21T03:05:59Z".parse().unwrap();
        assert_eq!(time(at), "21 Nov 2026, 03:05 UTC");
        assert_eq!(clock(at), "03:05");
        for (seconds, expected) in
            [(1, "1 second"), (119, "119 seconds"), (121, "2 minutes"), (172_800, "2 days")]
        {
            assert_eq!(span(seconds), expected);
        }
        assert_eq!(countdown(845), "14 minutes 5 seconds");
        assert_eq!(countdown(61), "1 minute 1 second");
        assert_eq!(countdown(9), "9 seconds");
    }
}
