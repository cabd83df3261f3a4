//! Generates random numbers that a seed repeats.
//!
//! The seed is the name of the test, so that every run tries the same numbers. `STILE_TEST_SEED` sets
//! another seed, and `STILE_TEST_SEED=random` explores: a test prints its seed.

use std::io::Write as _;

use sha2::{Digest, Sha256};

use crate::skipped::wanted_seed;

/// A generator of random numbers. The same seed gives the same numbers.
#[derive(Debug)]
pub struct SeededRandom {
    seed: String,
    drawn: u64,
}

impl SeededRandom {
    /// Uses `STILE_TEST_SEED`, or otherwise the name of the test, and prints the seed to stderr.
    ///
    /// `STILE_TEST_SEED=random` draws a random seed.
    pub fn new(test: &str) -> Self {
        let seed = match wanted_seed() {
            None => test.to_owned(),
            Some(wanted) if wanted == "random" => {
                let mut random = [0; 8];
                getrandom::fill(&mut random).unwrap();
                hex::encode(random)
            }
            Some(wanted) => wanted,
        };
        let _ = writeln!(std::io::stderr(), "{test}: STILE_TEST_SEED={seed}");
        Self::of(seed)
    }

    fn of(seed: String) -> Self {
        Self { seed, drawn: 0 }
    }

    /// Returns the seed, for failure messages.
    pub fn seed(&self) -> &str {
        &self.seed
    }

    /// Returns a random number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.drawn += 1;
        let digest = Sha256::new()
            .chain_update(&self.seed)
            .chain_update(self.drawn.to_be_bytes())
            .finalize();
        let bytes: [u8; 8] = std::array::from_fn(|at| digest[at]);
        u64::from_be_bytes(bytes) % end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed: &str| {
            let mut chance = SeededRandom::of(seed.to_owned());
            [0; 20].map(|_| chance.below(1000))
        };
        assert_eq!(numbers("a"), numbers("a"));
        assert_ne!(numbers("a"), numbers("b"));
        assert!(numbers("a").iter().all(|number| *number < 1000));
    }
}
