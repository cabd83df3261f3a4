//! Waits before a retry after a conflict with another writer: a random time that grows, for a
//! limited number of rounds.
//!
//! Only this module of the store waits for time to pass.

use std::time::Duration;

use crate::StoreError;

/// Maximum number of retries. One writer succeeds in each round, so this many writers can change
/// one document at the same time.
const ROUNDS: u32 = 24;

/// Upper bound of the first wait, in milliseconds. It doubles in each round.
const FIRST: u64 = 10;

/// Upper bound of every wait, in milliseconds. All rounds together take far less than the deadline
/// of a function.
const LONGEST: u64 = 320;

/// Counts the retries of one operation.
#[derive(Debug, Default)]
pub struct Retry {
    rounds: u32,
}

impl Retry {
    /// Waits before the next retry.
    ///
    /// # Errors
    ///
    /// [`StoreError`], if there were too many.
    pub async fn wait(&mut self) -> Result<(), StoreError> {
        if self.rounds >= ROUNDS {
            return Err(StoreError::busy("too many clients use the same record at the same time"));
        }
        tokio::time::sleep(Duration::from_millis(jittered(longest(self.rounds)))).await;
        self.rounds += 1;
        Ok(())
    }
}

fn longest(round: u32) -> u64 {
    (FIRST << round.min(16)).min(LONGEST)
}

/// Returns a random number from 1 to `longest`, so that writers that collided once do not collide
/// again in step.
fn jittered(longest: u64) -> u64 {
    let mut random = [0; 8];
    match getrandom::fill(&mut random) {
        Ok(()) => 1 + u64::from_le_bytes(random) % longest,
        Err(_) => longest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_are_never_zero() {
        assert_eq!([0, 1, 5, 6, 23].map(longest), [10, 20, 320, 320, 320]);
        assert!((0..100).all(|_| (1..=10).contains(&jittered(10))));
        let most: u64 = (0..ROUNDS).map(longest).sum();
        assert!(most < 8_000, "{most} ms");
    }

    #[tokio::test]
    async fn retries_end() {
        let mut retry = Retry { rounds: ROUNDS - 1 };
        retry.wait().await.unwrap();
        assert!(retry.wait().await.is_err());
    }
}
