//! Parses the expiry of a grant: a time, or a duration from now.

use chrono::DateTime;

/// The first time with a five-digit year, which RFC 3339 cannot express: 10000-01-01T00:00:00Z.
const MAX_EXPIRY: i64 = 253_402_300_800;

/// The error for a text that is not a valid expiry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpiryError {
    /// The text is neither a time nor a duration.
    #[error(
        "`{0}` is neither a time such as `2027-01-31T18:00:00Z` nor a duration such as `90d` or `12h`"
    )]
    Malformed(String),
    /// The time is not in the future.
    #[error("`{0}` is not in the future")]
    Past(String),
    /// The time has a year of more than four digits.
    #[error("`{0}` is after the year 9999")]
    TooFar(String),
}

/// Parses an RFC 3339 time or a duration after `now`, and returns Unix seconds.
pub(crate) fn parse(text: &str, now: i64) -> Result<i64, ExpiryError> {
    let printable =
        || text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
    let end = if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        time.timestamp()
    } else {
        let duration =
            humantime::parse_duration(text).map_err(|_| ExpiryError::Malformed(printable()))?;
        i64::try_from(duration.as_secs())
            .ok()
            .and_then(|seconds| now.checked_add(seconds))
            .ok_or_else(|| ExpiryError::TooFar(printable()))?
    };
    if end <= now {
        return Err(ExpiryError::Past(printable()));
    }
    if end < MAX_EXPIRY { Ok(end) } else { Err(ExpiryError::TooFar(printable())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-20T10:11:12Z.
    const NOW: i64 = 1_795_169_472;

    #[test]
    fn an_invalid_expiry_is_rejected() {
        for text in
            ["", "90", "tomorrow", "-1d", "2027-01-31", "2027-02-30T00:00:00Z", "90 dogs", "٩d"]
        {
            assert!(matches!(parse(text, NOW), Err(ExpiryError::Malformed(_))), "{text:?}");
        }
        for text in [
            "0s",
            "500ms",
            "2026-11-20T10:11:12Z",
            "2026-11-20T11:11:12+01:00",
            "1970-01-01T00:00:00Z",
        ] {
            assert!(matches!(parse(text, NOW), Err(ExpiryError::Past(_))), "{text:?}");
        }
        for text in ["9000y", "500000000000y", "18446744073709551615s"] {
            assert!(matches!(parse(text, NOW), Err(ExpiryError::TooFar(_))), "{text:?}");
        }
    }

    #[test]
    fn a_time_or_a_duration_is_a_valid_expiry() {
        for (text, expected) in [
            ("1s", NOW + 1),
            ("12h", NOW + 12 * 3600),
            ("90d", NOW + 90 * 86_400),
            ("1day 2h", NOW + 26 * 3600),
            ("2026-11-20T10:11:13Z", NOW + 1),
            ("2026-11-20T12:11:13+02:00", NOW + 1),
            ("9999-12-31T23:59:59Z", MAX_EXPIRY - 1),
        ] {
            assert_eq!(parse(text, NOW), Ok(expected), "{text}");
        }
    }
}
