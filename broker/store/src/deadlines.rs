//! Time limits of the two stores: values that each store is opened with, so that no limit is a constant of the code.
//!
//! An operator sets one number, and all limits of a store follow from it.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The time limits that an operator may choose, in seconds.
pub const STORE_TIMEOUT: RangeInclusive<u64> = 1..=600;

/// The slowest transfer from and to S3 that the store waits for, in bytes a second.
const SLOWEST_TRANSFER: u64 = 1_000_000;

/// Time limits of the store on AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwsDeadlines {
    /// Opening a connection.
    pub connect: Duration,
    /// One attempt of a call.
    pub attempt: Duration,
    /// One call with all its attempts.
    pub call: Duration,
    /// Getting AWS credentials.
    pub credentials: Duration,
    /// Moving an object, besides the time that its bytes take at the slowest speed.
    pub object: Duration,
}

impl AwsDeadlines {
    /// Limits under which one call with all its attempts takes no longer than `call`.
    pub fn within(call: Duration) -> Self {
        Self {
            connect: call / 4,
            attempt: call * 3 / 8,
            call,
            credentials: call,
            object: call * 5 / 2,
        }
    }

    /// How long an object of so many bytes may take.
    pub fn of_object(&self, bytes: u64) -> Duration {
        self.object + Duration::from_secs(bytes / SLOWEST_TRANSFER)
    }
}

/// Several calls fit into the time that a function or a gateway has.
impl Default for AwsDeadlines {
    fn default() -> Self {
        Self::within(Duration::from_secs(4))
    }
}

/// Time limits of the embedded store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedDeadlines {
    /// Waiting for another writer, in this process or in another one.
    pub writer: Duration,
    /// Waiting for a connection of the pool.
    pub connection: Duration,
    /// Waiting for the lock of the keyring.
    pub keyring: Duration,
}

impl EmbeddedDeadlines {
    /// Limits under which each of them takes no longer than `wait`.
    pub fn within(wait: Duration) -> Self {
        Self { writer: wait, connection: wait, keyring: wait }
    }
}

impl Default for EmbeddedDeadlines {
    fn default() -> Self {
        Self::within(Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_fits_into_a_function_is_written_before_the_function_ends() {
        let production = AwsDeadlines::default();
        assert!(production.of_object(4_000_000) < Duration::from_secs(25));
        assert!(production.of_object(100_000_000) < Duration::from_secs(120));
    }

    #[test]
    fn several_attempts_fit_into_a_call_and_several_calls_into_the_time_of_a_gateway() {
        let production = AwsDeadlines::default();
        assert!(production.connect < production.attempt);
        assert!(production.attempt * 2 < production.call);
        assert!(production.call * 6 < Duration::from_secs(29));
    }
}
