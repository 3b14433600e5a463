//! Instants at Defender's own resolution.
//!
//! Defender writes UTC with zero to seven fraction digits (`.19Z`,
//! `.0566667Z`) and compares at 100 ns. A [`Timestamp`] counts those ticks, so
//! that a window's edge is exact and a time read is a time written back.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcDateTime};

const TICKS_PER_SECOND: i64 = 10_000_000;
const NANOS_PER_TICK: u32 = 100;

/// An instant in UTC, counted in ticks of 100 ns since 1970.
///
/// Arithmetic saturates: no window arithmetic can wrap into the past.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(i64);

/// The text is not a UTC instant in RFC 3339 form.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a time such as 2026-01-31T09:30:00Z")]
pub struct BadTimestamp;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// From whole seconds since 1970.
    pub fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(TICKS_PER_SECOND))
    }

    /// Whole seconds since 1970, rounded down.
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(TICKS_PER_SECOND)
    }

    /// The smallest later instant Defender can name.
    #[must_use]
    pub fn next_tick(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Time since `earlier`; zero if `earlier` is in fact later.
    pub fn since(self, earlier: Self) -> Duration {
        let ticks = self.0.saturating_sub(earlier.0);
        let ticks = u64::try_from(ticks).unwrap_or(0);
        Duration::from_nanos(ticks.saturating_mul(u64::from(NANOS_PER_TICK)))
    }

    /// The same instant in the `time` crate's type.
    ///
    /// Instants past the year 9999 become the last one it can name.
    pub fn to_utc(self) -> UtcDateTime {
        let ticks = self.0.rem_euclid(TICKS_PER_SECOND);
        let nanos = u32::try_from(ticks).unwrap_or_default() * NANOS_PER_TICK;
        let second = UtcDateTime::from_unix_timestamp(self.unix_seconds());
        let instant = second.and_then(|second| second.replace_nanosecond(nanos));
        instant.unwrap_or(if self.0 < 0 { UtcDateTime::MIN } else { UtcDateTime::MAX })
    }

    /// `09:05`, for people.
    pub fn hour_and_minute(self) -> String {
        let utc = self.to_utc();
        format!("{:02}:{:02}", utc.hour(), utc.minute())
    }

    /// Without fractions of a second, for people; rounded down, so that
    /// "everything before" stays true.
    #[must_use]
    pub fn to_the_second(self) -> Self {
        self.floor(Duration::from_secs(1))
    }

    /// `2026-01-31`, for names that sort by day.
    pub fn date(self) -> String {
        let date = self.to_utc().date();
        format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
    }

    /// Seven fraction digits always, so that text sorts as time does.
    pub fn sortable(self) -> String {
        let at = self.to_utc();
        format!(
            "{}T{:02}:{:02}:{:02}.{:07}Z",
            self.date(),
            at.hour(),
            at.minute(),
            at.second(),
            at.nanosecond() / NANOS_PER_TICK
        )
    }

    /// Rounded down to a multiple of `step`.
    #[must_use]
    pub fn floor(self, step: Duration) -> Self {
        let step = ticks(step).max(1);
        Self(self.0.div_euclid(step).saturating_mul(step))
    }
}

/// Whole ticks in `duration`, saturating.
fn ticks(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos() / u128::from(NANOS_PER_TICK)).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(ticks(by)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(ticks(by)))
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(at: OffsetDateTime) -> Self {
        let ticks = at.unix_timestamp_nanos().div_euclid(i128::from(NANOS_PER_TICK));
        Self(i64::try_from(ticks).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Timestamp {
    /// Defender's own form: as many fraction digits as needed, none if whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.to_utc();
        let (year, month, day) = at.date().to_calendar_date();
        let fraction = at.nanosecond() / NANOS_PER_TICK;
        let mut text = *b"0000-00-00T00:00:00.0000000";
        for (number, place) in [
            (year.unsigned_abs(), 0..4),
            (u32::from(u8::from(month)), 5..7),
            (u32::from(day), 8..10),
            (u32::from(at.hour()), 11..13),
            (u32::from(at.minute()), 14..16),
            (u32::from(at.second()), 17..19),
            (fraction, 20..27),
        ] {
            put_digits(number, text.get_mut(place).unwrap_or_default());
        }
        let text = str::from_utf8(&text).unwrap_or_default();
        if year < 0 {
            f.write_str("-")?;
        }
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))?;
        f.write_str("Z")
    }
}

/// Writes `number` with as many digits as there is room for. Rows are stamped
/// with times, and the formatting macros take several times as long.
fn put_digits(mut number: u32, room: &mut [u8]) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

impl FromStr for Timestamp {
    type Err = BadTimestamp;

    /// Digits past the seventh are cut off, so that the result is never later
    /// than the text.
    fn from_str(text: &str) -> Result<Self, BadTimestamp> {
        OffsetDateTime::parse(text, &Rfc3339).map(Self::from).map_err(|_unspecific| BadTimestamp)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time such as 2026-01-31T09:30:00Z")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time literal")
    }

    #[test]
    fn defenders_own_text_is_written_back_as_read() {
        for text in [
            "2026-11-19T08:41:53.17Z",
            "2026-11-19T09:55:06.9966667Z",
            "2026-11-19T00:00:00Z",
            "2026-11-19T23:59:59.0000001Z",
        ] {
            assert_eq!(at(text).to_string(), text);
        }
    }

    #[test]
    fn trailing_zeros_do_not_make_another_instant() {
        assert_eq!(at("2026-11-19T08:41:53.1700000Z"), at("2026-11-19T08:41:53.17+00:00"));
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in ["", "2026-11-19", "2026-11-19T08:41:53", "yesterday", "2026-13-01T00:00:00Z"] {
            assert_eq!(text.parse::<Timestamp>(), Err(BadTimestamp), "{text}");
        }
    }

    #[test]
    fn floors_to_a_step_before_1970_too() {
        assert_eq!(
            at("1969-12-31T23:59:30Z").floor(Duration::from_mins(1)),
            at("1969-12-31T23:59:00Z")
        );
    }

    proptest! {
        #[test]
        fn text_and_ticks_agree(ticks in 0_i64..25_000_000_000_000_000) {
            let instant = Timestamp(ticks);
            prop_assert_eq!(at(&instant.to_string()), instant);
            prop_assert_eq!(at(&instant.sortable()), instant);
        }

        #[test]
        fn sortable_text_sorts_as_time(a in 0_i64..i64::MAX / 100, b in 0_i64..i64::MAX / 100) {
            let (a, b) = (Timestamp(a), Timestamp(b));
            prop_assert_eq!(a.cmp(&b), a.sortable().cmp(&b.sortable()));
        }
    }
}
