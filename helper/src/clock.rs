//! The time: taken once by `main`, and going on from there.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

/// A clock that was set once and cannot be turned back by anybody afterwards.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: DateTime<Utc>,
    since: Instant,
}

impl Clock {
    /// A clock that shows that time now.
    pub fn set_to(start: DateTime<Utc>) -> Self {
        Self { start, since: Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> DateTime<Utc> {
        self.start + TimeDelta::from_std(self.since.elapsed()).unwrap_or_default()
    }
}
