//! The clock of a test's broker: it stands still until the test moves it, or goes on with the system's clock.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::broker::served::system_time;

/// A clock that a test sets.
#[derive(Debug)]
pub struct TestClock {
    /// Unix seconds; where it goes on, the seconds that it is ahead of the system's clock.
    seconds: AtomicI64,
    goes_on: AtomicBool,
}

impl TestClock {
    /// A clock that stands still at that time.
    pub fn at(now: i64) -> Self {
        Self { seconds: AtomicI64::new(now), goes_on: AtomicBool::new(false) }
    }

    /// The time, Unix seconds.
    pub fn now(&self) -> i64 {
        let seconds = self.seconds.load(Ordering::SeqCst);
        if self.goes_on.load(Ordering::SeqCst) { system_time() + seconds } else { seconds }
    }

    /// Stands still at that time.
    pub fn set(&self, now: i64) {
        self.goes_on.store(false, Ordering::SeqCst);
        self.seconds.store(now, Ordering::SeqCst);
    }

    /// Goes on with the system's clock, so many seconds ahead of it: as long as programs take, theirs and this one agree.
    pub fn go_on(&self, ahead: i64) {
        self.seconds.store(ahead, Ordering::SeqCst);
        self.goes_on.store(true, Ordering::SeqCst);
    }

    /// Lets that many seconds pass at once.
    pub fn advance(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Shows the same time as another from now on, and goes on if that does.
    pub fn follow(&self, other: &Self) {
        self.seconds.store(other.seconds.load(Ordering::SeqCst), Ordering::SeqCst);
        self.goes_on.store(other.goes_on.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_stands_still_where_it_was_set_or_goes_on_with_the_systems() {
        let clock = TestClock::at(1000);
        clock.advance(5);
        assert_eq!(clock.now(), 1005);
        let before = system_time();
        clock.go_on(60);
        assert!((before + 60..=system_time() + 60).contains(&clock.now()));
        let other = TestClock::at(0);
        other.follow(&clock);
        assert!(other.now() >= before + 60);
        clock.set(7);
        assert_eq!(clock.now(), 7);
    }
}
