//! The downloads that this process has counted, and the store not yet.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stile_core::usage::DownloadKey;
use stile_store::COUNTS_PER_COMMIT;

/// How old the oldest count becomes before a request adds it to the store, in seconds.
const DUE: i64 = 10;

/// The most keys in memory. Further principals count together, so that nobody can fill the memory.
const MAX_KEYS: usize = 10_000;

/// The downloads that the store has not counted yet.
#[derive(Debug, Default)]
pub struct DownloadCounts(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    counts: HashMap<DownloadKey, Tally>,
    /// When the oldest count is due, in Unix seconds.
    due: i64,
}

/// The downloads of one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) is_deprecated: bool,
}

/// The counts of one commit.
pub(super) type Counts = Vec<(DownloadKey, Tally)>;

impl Pending {
    fn add(&mut self, key: DownloadKey, tally: Tally, now: i64) {
        if self.counts.is_empty() {
            self.due = now.saturating_add(DUE);
        }
        let has_room = self.counts.contains_key(&key) || self.counts.len() < MAX_KEYS;
        let key = if has_room { key } else { key.of_others() };
        // The keys without a principal get no more room than the others.
        if self.counts.contains_key(&key) || self.counts.len() < 2 * MAX_KEYS {
            let counted = self.counts.entry(key).or_default();
            counted.count = counted.count.saturating_add(tally.count);
            counted.is_deprecated |= tally.is_deprecated;
        }
    }

    /// Takes the counts of one commit, if they are due.
    fn take_due(&mut self, now: i64) -> Counts {
        // A clock that was set back must not keep the counts.
        let is_due = now >= self.due || self.due > now.saturating_add(DUE);
        if !is_due {
            return Vec::new();
        }
        let keys: Vec<_> = self.counts.keys().take(COUNTS_PER_COMMIT).cloned().collect();
        keys.iter().filter_map(|key| self.counts.remove_entry(key)).collect()
    }
}

impl DownloadCounts {
    /// Counts one download. Returns the counts of one commit, if they are due.
    pub(super) fn add(&self, key: DownloadKey, is_deprecated: bool, now: i64) -> Counts {
        let mut pending = self.lock();
        pending.add(key, Tally { count: 1, is_deprecated }, now);
        pending.take_due(now)
    }

    /// Returns the counts of one commit, whether they are due or not.
    pub(super) fn take(&self) -> Counts {
        self.lock().take_due(i64::MAX)
    }

    /// Returns the number of commits that all counts need now.
    pub(super) fn commits(&self) -> usize {
        self.lock().counts.len().div_ceil(COUNTS_PER_COMMIT)
    }

    /// Takes counts back that the store could not add. They are due again after the usual time.
    pub(super) fn put_back(&self, counts: Counts, now: i64) {
        let mut pending = self.lock();
        for (key, tally) in counts {
            pending.add(key, tally, now);
        }
        pending.due = now.saturating_add(DUE);
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use stile_core::package::{PackageAddress, Version};

    use super::*;

    fn key(n: usize) -> DownloadKey {
        let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
        let version = Version::parse("1.0.0").unwrap();
        DownloadKey::stored(&address, &version, &format!("role/{n}"), 20_777)
    }

    fn sum(counts: &Counts) -> u64 {
        counts.iter().map(|(_, tally)| tally.count).sum()
    }

    #[test]
    fn counts_are_due_ten_seconds_after_the_first_and_again_if_the_store_could_not_add_them() {
        let counts = DownloadCounts::default();
        assert!(counts.take().is_empty());
        for (now, expected) in [(100, 0), (105, 0), (109, 0), (110, 4)] {
            assert_eq!(sum(&counts.add(key(1), now == 105, now)), expected, "{now}");
        }
        let all = [(key(1), Tally { count: 4, is_deprecated: true })];
        counts.put_back(all.to_vec(), 110);
        assert_eq!(sum(&counts.add(key(1), false, 119)), 0);
        assert_eq!(
            counts.add(key(1), false, 120),
            [(key(1), Tally { count: 6, is_deprecated: true })]
        );
        assert_eq!(sum(&counts.add(key(1), false, 1000)), 0);
        assert_eq!(sum(&counts.add(key(1), false, 0)), 2, "the clock was set back");
    }

    #[test]
    fn one_commit_has_no_more_counts_than_a_transaction_and_the_rest_follows_at_once() {
        let counts = DownloadCounts::default();
        for n in 0..COUNTS_PER_COMMIT + 7 {
            assert!(counts.add(key(n), false, 0).is_empty());
        }
        assert_eq!(counts.add(key(0), false, 10).len(), COUNTS_PER_COMMIT);
        let rest = counts.add(key(0), false, 10);
        assert!((7..=8).contains(&rest.len()), "{}", rest.len());
        assert!(counts.take().is_empty());
    }

    #[test]
    fn principals_past_the_limit_count_together() {
        let counts = DownloadCounts::default();
        for n in 0..MAX_KEYS + 5 {
            counts.add(key(n), false, 0);
        }
        counts.add(key(0), false, 0);
        let mut all = Counts::new();
        loop {
            let some = counts.take();
            if some.is_empty() {
                break;
            }
            all.extend(some);
        }
        assert_eq!((all.len(), sum(&all)), (MAX_KEYS + 1, MAX_KEYS as u64 + 6));
        let others = all.iter().find(|(key, _)| key.is_of_others()).unwrap();
        assert_eq!(others.1.count, 5);
    }
}
