//! Gives turns for checks of archives, so that no principal and no namespace delays the others.
//!
//! A check uses one processor, tens of megabytes, and at most
//! [`ArchiveLimits::time`](stile_core::package::archive::ArchiveLimits).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use stile_core::principal::Principal;
use stile_protocol::names::Namespace;

/// The number of archives that the broker checks concurrently. Each is of another principal, and for
/// another namespace.
const CHECKS: usize = 2;

/// The longest time that an archive waits for its turn. Then the broker answers 429.
///
/// The number of waiting archives needs no limit here, because each has a permit for its upload.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The turns of one broker.
///
/// Of the archives that can be next, it takes the one whose principal and namespace had no turn for
/// longest.
#[derive(Debug, Default)]
pub struct CheckTurns(Arc<Mutex<State>>);

/// The turn of one check, until it is dropped.
#[derive(Debug)]
pub struct CheckTurn {
    state: Arc<Mutex<State>>,
    of: Publisher,
}

/// A principal that publishes to a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Publisher {
    principal: Principal,
    namespace: Namespace,
    /// Whether it publishes a provider.
    is_provider: bool,
}

impl Publisher {
    fn new(principal: &Principal, namespace: &Namespace, is_provider: bool) -> Self {
        Self { principal: principal.clone(), namespace: namespace.clone(), is_provider }
    }
}

#[derive(Debug)]
struct Waiting {
    publisher: Publisher,
    give: oneshot::Sender<CheckTurn>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order of arrival.
    waiting: Vec<Waiting>,
    running: Vec<Publisher>,
    /// The number of turns so far.
    given: u64,
    /// The last turn of each principal that waits or has a turn. The same for each namespace.
    principals: HashMap<Principal, u64>,
    namespaces: HashMap<Namespace, u64>,
}

impl CheckTurns {
    /// Waits for a turn. `None` after `LONGEST_WAIT`.
    pub async fn take(&self, principal: &Principal, namespace: &Namespace) -> Option<CheckTurn> {
        self.take_within(LONGEST_WAIT, Publisher::new(principal, namespace, false)).await
    }

    /// Waits for a turn for a file of a provider, for at most that time.
    ///
    /// Such a file can have 4 GB unpacked, and a check of it can take two minutes. So only one of the
    /// turns is for providers at any time: otherwise two namespaces could stop all modules.
    pub async fn take_for_provider(
        &self,
        time: Duration,
        principal: &Principal,
        namespace: &Namespace,
    ) -> Option<CheckTurn> {
        self.take_within(time, Publisher::new(principal, namespace, true)).await
    }

    async fn take_within(&self, time: Duration, publisher: Publisher) -> Option<CheckTurn> {
        let (give, given) = oneshot::channel();
        lock(&self.0).waiting.push(Waiting { publisher, give });
        give_turns(&self.0);
        tokio::time::timeout(time, given).await.ok()?.ok()
    }
}

impl Drop for CheckTurn {
    fn drop(&mut self) {
        lock(&self.state).end(&self.of);
        give_turns(&self.state);
    }
}

/// Gives every free turn to the archive that is next.
fn give_turns(state: &Arc<Mutex<State>>) {
    loop {
        let next = lock(state).begin_next();
        let Some(Waiting { publisher, give }) = next else { return };
        // If its archive no longer waits, the turn comes back here, and dropping it ends it.
        drop(give.send(CheckTurn { state: Arc::clone(state), of: publisher }));
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Begins the next turn, if there is a free one.
    fn begin_next(&mut self) -> Option<Waiting> {
        self.waiting.retain(|waiting| !waiting.give.is_closed());
        if self.running.len() >= CHECKS {
            return None;
        }
        let candidates = self.waiting.iter().enumerate();
        let candidates = candidates.filter(|(_, waiting)| self.can_run(&waiting.publisher));
        let (at, _) = candidates.min_by_key(|(_, waiting)| self.last_turn(&waiting.publisher))?;
        let next = self.waiting.remove(at);
        self.given += 1;
        self.principals.insert(next.publisher.principal.clone(), self.given);
        self.namespaces.insert(next.publisher.namespace.clone(), self.given);
        self.running.push(next.publisher.clone());
        Some(next)
    }

    fn can_run(&self, publisher: &Publisher) -> bool {
        self.running.iter().all(|running| {
            running.principal != publisher.principal
                && running.namespace != publisher.namespace
                && !(running.is_provider && publisher.is_provider)
        })
    }

    /// Returns the last turn of the principal or of the namespace, whichever is later, and then that
    /// of the principal: within a namespace, principals take turns.
    fn last_turn(&self, publisher: &Publisher) -> (u64, u64) {
        let principal = self.principals.get(&publisher.principal).copied().unwrap_or(0);
        let namespace = self.namespaces.get(&publisher.namespace).copied().unwrap_or(0);
        (principal.max(namespace), principal)
    }

    /// Ends a turn, and forgets principals and namespaces without archives here.
    fn end(&mut self, publisher: &Publisher) {
        if let Some(at) = self.running.iter().position(|running| running == publisher) {
            self.running.swap_remove(at);
        }
        let Self { waiting, running, principals, namespaces, .. } = self;
        let here = || waiting.iter().map(|waiting| &waiting.publisher).chain(running.iter());
        principals.retain(|principal, _| here().any(|is| is.principal == *principal));
        namespaces.retain(|namespace, _| here().any(|is| is.namespace == *namespace));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    type Turn<'a> = Pin<Box<dyn Future<Output = Option<CheckTurn>> + 'a>>;

    fn take<'a>(turns: &'a CheckTurns, role: &str, namespace: &str) -> Turn<'a> {
        let principal = format!("aws:111122223333:role/{role}");
        let principal = Principal::parse_stored(&principal).unwrap();
        let namespace: Namespace = namespace.parse().unwrap();
        Box::pin(async move { turns.take(&principal, &namespace).await })
    }

    /// Begins to wait, and returns the turn if it comes at once.
    async fn begin(turn: &mut Turn<'_>) -> Option<CheckTurn> {
        poll_fn(|context| {
            Poll::Ready(match turn.as_mut().poll(context) {
                Poll::Ready(turn) => turn,
                Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn a_principal_and_a_namespace_have_one_turn_at_once_and_others_have_the_other() {
        for (second, into) in [("greedy", "a"), ("greedy", "b"), ("second", "a")] {
            let turns = CheckTurns::default();
            let first = begin(&mut take(&turns, "greedy", "a")).await.unwrap();
            let mut waiting = take(&turns, second, into);
            assert!(begin(&mut waiting).await.is_none(), "{second} {into}");
            let other = begin(&mut take(&turns, "other", "c")).await.unwrap();
            drop(first);
            let next = begin(&mut waiting).await.unwrap();
            let third = begin(&mut take(&turns, "third", "d")).await;
            assert!(third.is_none(), "two archives are checked");
            drop((next, other, waiting));
            assert!(lock(&turns.0).running.is_empty());
            assert!(lock(&turns.0).principals.is_empty(), "nobody waits");
            assert!(lock(&turns.0).namespaces.is_empty());
        }
    }

    #[tokio::test]
    async fn files_of_providers_have_one_turn_and_a_module_has_the_other() {
        let turns = CheckTurns::default();
        let of = |role: &str, namespace: &str| {
            let principal = format!("aws:111122223333:role/{role}");
            let principal = Principal::parse_stored(&principal).unwrap();
            (principal, namespace.parse::<Namespace>().unwrap())
        };
        let provider = |role: &str, namespace: &str| -> Turn<'_> {
            let (turns, (principal, namespace)) = (&turns, of(role, namespace));
            Box::pin(
                async move { turns.take_for_provider(LONGEST_WAIT, &principal, &namespace).await },
            )
        };
        let first = begin(&mut provider("a", "a")).await.unwrap();
        let mut second = provider("b", "b");
        assert!(begin(&mut second).await.is_none());
        let module = begin(&mut take(&turns, "c", "c")).await.expect("a module has a turn");
        drop(module);
        assert!(begin(&mut second).await.is_none());
        drop(first);
        assert!(begin(&mut second).await.is_some());
    }

    #[tokio::test]
    async fn a_new_publisher_is_next_however_many_archives_of_others_wait() {
        let turns = CheckTurns::default();
        let first = begin(&mut take(&turns, "a0", "a")).await.unwrap();
        let second = begin(&mut take(&turns, "b0", "b")).await.unwrap();
        let mut waiting = Vec::new();
        for n in 1..=12 {
            // Roles of two teams, so that each role is new.
            for (role, namespace) in [(format!("a{n}"), "a"), (format!("b{n}"), "b")] {
                let mut turn = take(&turns, &role, namespace);
                assert!(begin(&mut turn).await.is_none());
                waiting.push(turn);
            }
        }
        let mut other = take(&turns, "other", "c");
        assert!(begin(&mut other).await.is_none());
        drop(first);
        let other = begin(&mut other).await.expect("it is next");
        drop(other);
        let mut next = begin(&mut waiting[0]).await.expect("then the others, in their order");
        for at in [2, 4, 6] {
            drop(next);
            next = begin(&mut waiting[at]).await.expect("the other team has its turn");
        }
        drop(second);
        assert!(begin(&mut waiting[1]).await.is_some());
    }

    #[tokio::test]
    async fn within_a_namespace_a_principal_that_had_no_turn_is_next() {
        let turns = CheckTurns::default();
        let first = begin(&mut take(&turns, "greedy", "a")).await.unwrap();
        let mut waiting = Vec::new();
        for role in ["greedy", "greedy", "second"] {
            let mut turn = take(&turns, role, "a");
            assert!(begin(&mut turn).await.is_none());
            waiting.push(turn);
        }
        drop(first);
        assert!(begin(&mut waiting[0]).await.is_none());
        drop(begin(&mut waiting[2]).await.expect("it had no turn yet"));
        assert!(begin(&mut waiting[0]).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_archive_waits_for_at_most_half_a_minute_and_its_turn_goes_to_the_next() {
        let turns = CheckTurns::default();
        let held = begin(&mut take(&turns, "greedy", "a")).await.unwrap();
        let started = tokio::time::Instant::now();
        assert!(take(&turns, "greedy", "a").await.is_none());
        assert_eq!(started.elapsed(), LONGEST_WAIT);
        let mut gone = take(&turns, "greedy", "a");
        assert!(begin(&mut gone).await.is_none());
        let mut next = take(&turns, "greedy", "a");
        assert!(begin(&mut next).await.is_none());
        drop(gone);
        drop(held);
        assert!(begin(&mut next).await.is_some());
    }
}
