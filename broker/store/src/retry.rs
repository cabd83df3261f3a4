//! How long a writer stands back who met another: a random time that grows, and an end to it.
//!
//! The one place of the broker that waits for time to pass.

use std::time::Duration;

use crate::StoreError;

/// How often a write is tried anew. Each round somebody wins, so this is how many may write to one document at once.
const ROUNDS: u32 = 24;

/// The longest first wait, in milliseconds; it doubles each round.
const FIRST: u64 = 10;

/// The longest wait of all, in milliseconds: all rounds together stay far below the deadline of a function.
const LONGEST: u64 = 320;

/// Counts the rounds of one piece of work.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    rounds: u32,
}

impl Retry {
    /// Waits before another round; an error when there were enough.
    pub(crate) async fn again(&mut self) -> Result<(), StoreError> {
        if self.rounds >= ROUNDS {
            return Err(StoreError::busy("too many write to the same thing at once"));
        }
        tokio::time::sleep(Duration::from_millis(jittered(longest(self.rounds)))).await;
        self.rounds += 1;
        Ok(())
    }
}

fn longest(round: u32) -> u64 {
    (FIRST << round.min(16)).min(LONGEST)
}

/// Anything from 1 to the longest, so that those who met once do not meet again in step.
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
    fn waits_grow_to_a_bound_and_are_never_nothing() {
        assert_eq!([0, 1, 5, 6, 23].map(longest), [10, 20, 320, 320, 320]);
        assert!((0..100).all(|_| (1..=10).contains(&jittered(10))));
        let most: u64 = (0..ROUNDS).map(longest).sum();
        assert!(most < 8_000, "{most} ms");
    }

    #[tokio::test]
    async fn it_ends() {
        let mut retry = Retry { rounds: ROUNDS - 1 };
        retry.again().await.unwrap();
        assert!(retry.again().await.is_err());
    }
}
