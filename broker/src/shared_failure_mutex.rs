//! A mutex whose waiters share the holder's failure, so a hung store costs one timeout, not one per
//! waiter.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, MutexGuard};

/// A mutex that tells its waiters whether a holder failed while they waited.
#[derive(Debug, Default)]
pub struct SharedFailureMutex<T> {
    value: Mutex<T>,
    failures: AtomicU64,
}

/// The guard of a locked [`SharedFailureMutex`], with access to the value.
#[derive(Debug)]
pub struct SharedFailureGuard<'a, T> {
    value: MutexGuard<'a, T>,
    failures: &'a AtomicU64,
    failed_while_waiting: bool,
}

impl<T> SharedFailureMutex<T> {
    /// Waits for the lock.
    pub async fn lock(&self) -> SharedFailureGuard<'_, T> {
        let before = self.failures.load(Ordering::SeqCst);
        let value = self.value.lock().await;
        let failed_while_waiting = self.failures.load(Ordering::SeqCst) != before;
        SharedFailureGuard { value, failures: &self.failures, failed_while_waiting }
    }

    /// Takes the lock, if it is free.
    pub fn try_lock(&self) -> Option<SharedFailureGuard<'_, T>> {
        self.value.try_lock().ok().map(|value| SharedFailureGuard {
            value,
            failures: &self.failures,
            failed_while_waiting: false,
        })
    }
}

impl<T> SharedFailureGuard<'_, T> {
    /// Returns whether another holder failed while this one waited for the lock.
    pub const fn failed_while_waiting(&self) -> bool {
        self.failed_while_waiting
    }

    /// Records a failure, which all current waiters then share.
    pub fn record_failure(&self) {
        self.failures.fetch_add(1, Ordering::SeqCst);
    }
}

impl<T> Deref for SharedFailureGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for SharedFailureGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn current_waiters_share_a_failure_and_later_ones_do_not() {
        for (fails, expected) in [(true, true), (false, false)] {
            let shared = Arc::new(SharedFailureMutex::<()>::default());
            let first = shared.lock().await;
            assert!(!first.failed_while_waiting());
            let waiting: Vec<_> = (0..3)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move { shared.lock().await.failed_while_waiting() })
                })
                .collect();
            tokio::task::yield_now().await;
            if fails {
                first.record_failure();
            }
            drop(first);
            for task in waiting {
                assert_eq!(task.await.unwrap(), expected);
            }
            assert!(!shared.lock().await.failed_while_waiting());
        }
    }
}
