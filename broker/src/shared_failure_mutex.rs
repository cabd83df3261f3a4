//! One asks at a time, and who waited while that failed has the same answer and does not ask again.
//!
//! Did they ask one after the other of a store that hangs, the hundredth would wait a hundred times as long as it hangs.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, MutexGuard};

/// What one at a time looks after.
#[derive(Debug, Default)]
pub struct SharedFailureMutex<T> {
    kept: Mutex<T>,
    failures: AtomicU64,
}

/// One's turn, with what is looked after.
#[derive(Debug)]
pub struct SharedFailureGuard<'a, T> {
    kept: MutexGuard<'a, T>,
    failures: &'a AtomicU64,
    failed_meanwhile: bool,
}

impl<T> SharedFailureMutex<T> {
    /// Waits for it.
    pub async fn lock(&self) -> SharedFailureGuard<'_, T> {
        let before = self.failures.load(Ordering::SeqCst);
        let kept = self.kept.lock().await;
        let failed_meanwhile = self.failures.load(Ordering::SeqCst) != before;
        SharedFailureGuard { kept, failures: &self.failures, failed_meanwhile }
    }

    /// Takes it if nobody else has it.
    pub fn try_lock(&self) -> Option<SharedFailureGuard<'_, T>> {
        self.kept.try_lock().ok().map(|kept| SharedFailureGuard {
            kept,
            failures: &self.failures,
            failed_meanwhile: false,
        })
    }
}

impl<T> SharedFailureGuard<'_, T> {
    /// Whether somebody's turn has failed while this one was waited for.
    pub const fn failed_meanwhile(&self) -> bool {
        self.failed_meanwhile
    }

    /// Says that this turn came to nothing.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::SeqCst);
    }
}

impl<T> Deref for SharedFailureGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.kept
    }
}

impl<T> DerefMut for SharedFailureGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.kept
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn who_waited_for_a_failure_is_told_and_who_comes_later_is_not() {
        for (fails, expected) in [(true, true), (false, false)] {
            let shared = Arc::new(SharedFailureMutex::<()>::default());
            let first = shared.lock().await;
            assert!(!first.failed_meanwhile());
            let waiting: Vec<_> = (0..3)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move { shared.lock().await.failed_meanwhile() })
                })
                .collect();
            tokio::task::yield_now().await;
            if fails {
                first.failed();
            }
            drop(first);
            for task in waiting {
                assert_eq!(task.await.unwrap(), expected);
            }
            assert!(!shared.lock().await.failed_meanwhile());
        }
    }
}
