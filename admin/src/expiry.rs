//! WHEN: the end of a grant as an operator types it, a time or a duration from now.

use chrono::DateTime;

/// Past every calendar that writes a year in four digits: 10000-01-01T00:00:00Z in Unix seconds.
const MAX_EXPIRY: i64 = 253_402_300_800;

/// Why a text is no end of a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpiryError {
    /// Neither form.
    #[error(
        "`{0}` is neither a time, such as `2027-01-31T18:00:00Z`, nor a duration, such as `90d` or `12h`"
    )]
    Malformed(String),
    /// A grant would be over before it began.
    #[error("`{0}` is not in the future")]
    Past(String),
    /// No calendar goes that far.
    #[error("`{0}` is after the year 9999")]
    TooFar(String),
}

/// Reads RFC 3339, or a duration from `now` on; Unix seconds.
pub(crate) fn parse(text: &str, now: i64) -> Result<i64, ExpiryError> {
    let shown = || text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
    let end = if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        time.timestamp()
    } else {
        let duration =
            humantime::parse_duration(text).map_err(|_| ExpiryError::Malformed(shown()))?;
        i64::try_from(duration.as_secs())
            .ok()
            .and_then(|seconds| now.checked_add(seconds))
            .ok_or_else(|| ExpiryError::TooFar(shown()))?
    };
    if end <= now {
        return Err(ExpiryError::Past(shown()));
    }
    if end < MAX_EXPIRY { Ok(end) } else { Err(ExpiryError::TooFar(shown())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-20T10:11:12Z.
    const NOW: i64 = 1_795_169_472;

    #[test]
    fn what_is_no_end_is_refused_with_what_would_be() {
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
    fn a_time_or_a_duration_is_an_end() {
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
