//! Parses the expiry of a grant: a time, a date, a duration from now, or `never`.

use chrono::{DateTime, NaiveDate, NaiveTime};

/// The first time with a five-digit year, which RFC 3339 cannot express: 10000-01-01T00:00:00Z.
const MAX_EXPIRY: i64 = 253_402_300_800;

/// The error for a text that is not a valid expiry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpiryError {
    /// The text is neither a time nor a duration.
    #[error(
        "`{0}` is neither a time such as `2027-01-31T18:00:00Z` or `2027-01-31`, nor a duration \
         such as `90d` or `12h`, nor `never`"
    )]
    Malformed(String),
    /// The time is not in the future.
    #[error("`{0}` is not in the future")]
    Past(String),
    /// The time has a year of more than four digits.
    #[error("`{0}` is after the year 9999")]
    TooFar(String),
}

/// The requested end of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// The grant has no end.
    Never,
    /// The grant ends at this time, in Unix seconds.
    At(i64),
    /// The grant ends this many seconds after the command.
    After(i64),
}

impl Expiry {
    /// Returns the end of a grant that the command creates or changes at `now`.
    pub(crate) const fn end(self, now: i64) -> Option<i64> {
        match self {
            Self::Never => None,
            Self::At(end) => Some(end),
            Self::After(seconds) => Some(now.saturating_add(seconds)),
        }
    }

    /// Returns whether the same request created a grant with this end.
    ///
    /// A duration counts from the creation of that grant. So a repeated list of commands finds its
    /// own grants.
    pub(crate) fn created(self, created_at: i64, expires_at: Option<i64>) -> bool {
        self.end(created_at) == expires_at
    }
}

/// Parses `never`, an RFC 3339 time, a date or a duration. A date means 00:00 UTC of that day.
///
/// # Errors
///
/// [`ExpiryError`], if the text has another form, or the end is not after `now` or too far away.
pub(crate) fn parse(text: &str, now: i64) -> Result<Expiry, ExpiryError> {
    match parse_with_past(text, now)? {
        Expiry::At(end) if end <= now => Err(ExpiryError::Past(printable(text))),
        expiry => Ok(expiry),
    }
}

/// Parses the same as [`parse`], and also a time or a date in the past. No duration has an end in the
/// past.
///
/// # Errors
///
/// [`ExpiryError`], if the text has another form, is an empty duration, or the end is too far away.
pub(crate) fn parse_with_past(text: &str, now: i64) -> Result<Expiry, ExpiryError> {
    let printable = || printable(text);
    let expiry = if text == "never" {
        Expiry::Never
    } else if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        Expiry::At(time.timestamp())
    } else if let Some(day) = date(text) {
        Expiry::At(day.and_time(NaiveTime::MIN).and_utc().timestamp())
    } else {
        let duration =
            humantime::parse_duration(text).map_err(|_| ExpiryError::Malformed(printable()))?;
        i64::try_from(duration.as_secs())
            .map(Expiry::After)
            .map_err(|_| ExpiryError::TooFar(printable()))?
    };
    match expiry.end(now) {
        Some(end) if end <= now && matches!(expiry, Expiry::After(_)) => {
            Err(ExpiryError::Past(printable()))
        }
        Some(end) if end >= MAX_EXPIRY => Err(ExpiryError::TooFar(printable())),
        _ => Ok(expiry),
    }
}

/// Returns a text of limited length without control characters, for an error.
fn printable(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Parses a date of exactly the form `2027-01-31`. Chrono also accepts signs and missing zeros.
fn date(text: &str) -> Option<NaiveDate> {
    let plain = text.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    if text.len() != 10 || !plain {
        return None;
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-20T10:11:12Z.
    const NOW: i64 = 1_795_169_472;

    #[test]
    fn an_invalid_expiry_is_rejected() {
        for text in [
            "",
            "90",
            "tomorrow",
            "-1d",
            "2027-1-31",
            "2027-02-29",
            "2027-13-01",
            "+2027-01-31",
            "2027-01-31 ",
            "20270131",
            "2027/01/31",
            "31-01-2027",
            "2027-02-30T00:00:00Z",
            "2027-01-31T18:00:00",
            "Never",
            "never ",
            "none",
            "90 dogs",
            "٩d",
        ] {
            assert!(matches!(parse(text, NOW), Err(ExpiryError::Malformed(_))), "{text:?}");
        }
        for text in [
            "0s",
            "500ms",
            "2026-11-20T10:11:12Z",
            "2026-11-20T11:11:12+01:00",
            "2026-11-20",
            "2026-11-19",
            "1970-01-01",
            "1970-01-01T00:00:00Z",
        ] {
            assert!(matches!(parse(text, NOW), Err(ExpiryError::Past(_))), "{text:?}");
        }
        for text in ["9000y", "500000000000y", "18446744073709551615s"] {
            assert!(matches!(parse(text, NOW), Err(ExpiryError::TooFar(_))), "{text:?}");
        }
    }

    #[test]
    fn an_end_in_the_past_is_a_time_or_a_date_and_never_a_duration() {
        for text in ["0s", "500ms", "soon", "9000y", "2027-02-29"] {
            assert!(parse_with_past(text, NOW).is_err(), "{text:?}");
        }
        for (text, end) in [
            ("never", None),
            ("1s", Some(NOW + 1)),
            ("2026-11-20T10:11:12Z", Some(NOW)),
            ("1970-01-01", Some(0)),
        ] {
            let expiry = parse_with_past(text, NOW).map(|expiry| expiry.end(NOW));
            assert_eq!(expiry, Ok(end), "{text}");
        }
    }

    #[test]
    fn never_a_time_a_date_or_a_duration_is_a_valid_expiry() {
        for (text, expected) in [
            ("never", None),
            ("1s", Some(NOW + 1)),
            ("12h", Some(NOW + 12 * 3600)),
            ("90d", Some(NOW + 90 * 86_400)),
            ("1day 2h", Some(NOW + 26 * 3600)),
            ("2026-11-20T10:11:13Z", Some(NOW + 1)),
            ("2026-11-20T12:11:13+02:00", Some(NOW + 1)),
            // 00:00 UTC of that day.
            ("2026-11-21", Some(NOW + 13 * 3600 + 48 * 60 + 48)),
            ("2027-01-31", Some(1_801_353_600)),
            ("2028-02-29", Some(1_835_395_200)),
            ("9999-12-31", Some(MAX_EXPIRY - 86_400)),
            ("9999-12-31T23:59:59Z", Some(MAX_EXPIRY - 1)),
        ] {
            assert_eq!(parse(text, NOW).map(|expiry| expiry.end(NOW)), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_duration_counts_from_the_creation_of_the_grant_that_it_is_compared_with() {
        for (text, created_at, expires_at, same) in [
            ("never", NOW - 60, None, true),
            ("never", NOW - 60, Some(NOW + 60), false),
            ("90d", NOW - 60, Some(NOW - 60 + 90 * 86_400), true),
            ("2160h", NOW - 60, Some(NOW - 60 + 90 * 86_400), true),
            ("90d", NOW - 60, Some(NOW + 90 * 86_400), false),
            ("90d", NOW - 60, None, false),
            ("2027-01-31", NOW - 60, Some(1_801_353_600), true),
            ("2027-01-31T01:00:00+01:00", NOW - 60, Some(1_801_353_600), true),
            ("2027-01-31", NOW - 60, Some(1_801_353_601), false),
        ] {
            let expiry = parse(text, NOW).unwrap();
            assert_eq!(expiry.created(created_at, expires_at), same, "{text} {expires_at:?}");
        }
    }
}
