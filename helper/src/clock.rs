//! The clock: `main` reads the system time once, and a monotonic timer advances it.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

/// A clock that changes of the system time cannot turn back.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: DateTime<Utc>,
    since: Instant,
}

impl Clock {
    /// Creates a clock that shows this time now.
    pub fn starting_at(start: DateTime<Utc>) -> Self {
        Self { start, since: Instant::now() }
    }

    /// Returns the current time.
    pub fn now(&self) -> DateTime<Utc> {
        self.start + TimeDelta::from_std(self.since.elapsed()).unwrap_or_default()
    }
}

/// Describes how far this clock is from one that is `skew` ahead of it: `14 min 3 s behind`.
pub fn describe_skew(skew: TimeDelta) -> String {
    let seconds = skew.num_seconds().unsigned_abs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let direction = if skew > TimeDelta::zero() { "behind" } else { "ahead of" };
    match (days, hours) {
        (0, 0) => format!("{minutes} min {} s {direction}", seconds % 60),
        (0, _) => format!("{hours} h {} min {direction}", minutes % 60),
        _ => format!("{days} d {} h {direction}", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skew_is_described_by_its_two_largest_units() {
        for (seconds, expected) in [
            (0, "0 min 0 s ahead of"),
            (843, "14 min 3 s behind"),
            (-3599, "59 min 59 s ahead of"),
            (3600, "1 h 0 min behind"),
            (-86_399, "23 h 59 min ahead of"),
            (86_400, "1 d 0 h behind"),
            (-90 * 86_400 - 3600, "90 d 1 h ahead of"),
            (i64::MAX / 1000, "106751991167 d 7 h behind"),
        ] {
            assert_eq!(describe_skew(TimeDelta::seconds(seconds)), expected, "{seconds}");
        }
    }
}
