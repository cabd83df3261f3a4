//! The clock that programs create at start. All other code takes `now` as an argument.

use std::sync::Arc;

/// A source of the current time, in whole Unix seconds.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// Returns the system clock.
    pub fn system() -> Self {
        Self::from_fn(|| {
            #[expect(
                clippy::disallowed_methods,
                reason = "the only place that reads the system clock"
            )]
            let now = std::time::SystemTime::now();
            now.duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
        })
    }

    /// Returns a clock that calls `now`, for example in tests.
    pub fn from_fn(now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the current time in Unix seconds.
    pub fn now(&self) -> i64 {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Clock")
    }
}

/// Formats a time as RFC 3339 in UTC, to the second. A time beyond the calendar stays a number.
pub fn rfc3339(unix: i64) -> String {
    chrono::DateTime::from_timestamp(unix, 0)
        .map_or_else(|| unix.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Parses a time of RFC 3339, up to the year 9999, as Unix seconds. It drops fractions of a second.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    /// 10000-01-01T00:00:00Z, which RFC 3339 cannot write.
    const TOO_FAR: i64 = 253_402_300_800;
    let time = chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp();
    (time < TOO_FAR).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_time_with_a_zone_in_four_digit_years_is_parsed() {
        for text in [
            "",
            "never",
            "2027-01-31",
            "2027-01-31T18:00:00",
            "2027-02-30T00:00:00Z",
            "9999-12-31T23:59:59-23:59",
            " 2027-01-31T18:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text:?}");
        }
        for (text, expected) in [
            ("2026-11-20T10:11:12Z", 1_795_169_472),
            ("2026-11-20T11:11:12+01:00", 1_795_169_472),
            ("2026-11-20T10:11:12.999Z", 1_795_169_472),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(parse_rfc3339(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn times_are_formatted_in_utc_and_no_number_panics() {
        for (unix, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_169_472, "2026-11-20T10:11:12Z"),
            (i64::MAX, "9223372036854775807"),
        ] {
            assert_eq!(rfc3339(unix), expected);
        }
    }
}
