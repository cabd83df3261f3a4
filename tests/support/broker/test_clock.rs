//! Defines the clock of a test's broker.
//!
//! It stands still until the test moves it, or it follows the system's clock.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::broker::served::system_time;

/// A clock that a test sets.
#[derive(Debug)]
pub struct TestClock {
    /// Unix seconds. If the clock follows the system's clock, the seconds that it is ahead.
    seconds: AtomicI64,
    follows_system: AtomicBool,
}

impl TestClock {
    /// Creates a clock that stands still at that time.
    pub fn at(now: i64) -> Self {
        Self { seconds: AtomicI64::new(now), follows_system: AtomicBool::new(false) }
    }

    /// Returns the time, in Unix seconds.
    pub fn now(&self) -> i64 {
        let seconds = self.seconds.load(Ordering::SeqCst);
        if self.follows_system.load(Ordering::SeqCst) { system_time() + seconds } else { seconds }
    }

    /// Stops the clock at that time.
    pub fn set(&self, now: i64) {
        self.follows_system.store(false, Ordering::SeqCst);
        self.seconds.store(now, Ordering::SeqCst);
    }

    /// Follows the system's clock, that many seconds ahead.
    ///
    /// The time then agrees with the clock of slow programs.
    pub fn follow_system(&self, ahead: i64) {
        self.seconds.store(ahead, Ordering::SeqCst);
        self.follows_system.store(true, Ordering::SeqCst);
    }

    /// Moves the time forward.
    pub fn advance(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Copies the time of another clock, and follows the system's clock if that one does.
    pub fn follow(&self, other: &Self) {
        self.seconds.store(other.seconds.load(Ordering::SeqCst), Ordering::SeqCst);
        self.follows_system.store(other.follows_system.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_stands_still_or_follows_the_systems_clock() {
        let clock = TestClock::at(1000);
        clock.advance(5);
        assert_eq!(clock.now(), 1005);
        let before = system_time();
        clock.follow_system(60);
        assert!((before + 60..=system_time() + 60).contains(&clock.now()));
        let other = TestClock::at(0);
        other.follow(&clock);
        assert!(other.now() >= before + 60);
        clock.set(7);
        assert_eq!(clock.now(), 7);
    }
}
