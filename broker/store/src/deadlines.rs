//! Time limits of both stores. A store receives them when it is opened, so no limit is a constant
//! in the code.
//!
//! An operator sets one number, and all limits of a store follow from it.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The range of time limits that an operator can choose, in seconds.
pub const STORE_TIMEOUT: RangeInclusive<u64> = 1..=600;

/// The slowest transfer to or from S3 that the store waits for, in bytes per second.
const SLOWEST_TRANSFER: u64 = 1_000_000;

/// Time limits of the store on AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwsDeadlines {
    /// Time to open a connection.
    pub connect: Duration,
    /// Time for one attempt of a call.
    pub attempt: Duration,
    /// Time for one call with all its attempts.
    pub call: Duration,
    /// Time to load AWS credentials.
    pub credentials: Duration,
    /// Time to transfer an object, in addition to the time that its bytes take at the slowest
    /// speed.
    pub object: Duration,
}

impl AwsDeadlines {
    /// Returns limits under which one call with all its attempts takes no longer than `call`.
    pub fn within(call: Duration) -> Self {
        Self {
            connect: call / 4,
            attempt: call * 3 / 8,
            call,
            credentials: call,
            object: call * 5 / 2,
        }
    }

    /// Returns the time limit for the transfer of an object of this size in bytes.
    pub fn of_object(&self, bytes: u64) -> Duration {
        self.object + Duration::from_secs(bytes / SLOWEST_TRANSFER)
    }
}

/// With the default, several calls fit into the time limit of a function or a gateway.
impl Default for AwsDeadlines {
    fn default() -> Self {
        Self::within(Duration::from_secs(4))
    }
}

/// Time limits of the embedded store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedDeadlines {
    /// Time to wait for another writer, in this process or in another one.
    pub writer: Duration,
    /// Time to wait for a connection from the pool.
    pub connection: Duration,
    /// Time to wait for the lock of the keyring.
    pub keyring: Duration,
}

impl EmbeddedDeadlines {
    /// Returns limits under which each of these waits takes no longer than `wait`.
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
