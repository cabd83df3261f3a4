//! Tests two runs at once without a lease, as through the API: every order of their steps.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::{Context as TaskContext, Poll, Waker};

use stile_core::grants::Grant;
use stile_core::principal::Principal;
use stile_protocol::names::Permission;
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::ListedGrants;

use super::super::grant_backend::KnownNames;
use super::*;
use crate::grant_file::{FileFormat, WantedGrant, parse};

const NOW: i64 = 1_795_169_472;

/// The grants of a registry.
#[derive(Default)]
struct World {
    grants: RefCell<Vec<Grant>>,
    /// The number of changes so far, which makes each grant differ from an older one.
    changes: Cell<i64>,
    /// The run that made the last change.
    last: Cell<usize>,
}

/// One run, by its number. It has no lease.
struct Run<'a>(usize, &'a World);

/// Waits until it is this run's turn.
async fn turn() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

impl Run<'_> {
    fn changed(&self) {
        let Self(number, world) = self;
        world.changes.set(world.changes.get() + 1);
        world.last.set(*number);
        let kept = |grant: &Grant| grant.principal.as_str().ends_with("/kept");
        assert!(world.grants.borrow().iter().any(kept), "what both files have is always there");
    }

    fn replace(&self, expected: &Grant, wanted: Option<&WantedGrant>) -> Made {
        let mut grants = self.1.grants.borrow_mut();
        let Some(at) = grants.iter().position(|grant| grant == expected) else {
            let absent = !grants.iter().any(|grant| grant.principal == expected.principal);
            return match wanted {
                None if absent => Made::Done,
                _ => Made::Conflict("changed".to_owned()),
            };
        };
        match wanted {
            None => drop(grants.remove(at)),
            Some(wanted) => grants[at].permissions = wanted.permissions,
        }
        drop(grants);
        self.changed();
        Made::Done
    }
}

impl GrantBackend for Run<'_> {
    const EXCLUSIVE: bool = false;

    type Lease = ();

    /// A list has pages, and others can make changes between them.
    async fn list(&self) -> Result<ListedGrants, CommandError> {
        let mut grants = Vec::new();
        for page in ["acme", "web"] {
            turn().await;
            let all = self.1.grants.borrow();
            grants.extend(all.iter().filter(|one| one.namespace.to_string() == page).cloned());
        }
        Ok(ListedGrants { grants, unreadable: Vec::new() })
    }

    async fn known_names(&self) -> Result<Option<KnownNames>, CommandError> {
        Ok(None)
    }

    async fn create(&self, (): &mut (), wanted: &WantedGrant) -> Result<Made, CommandError> {
        turn().await;
        let mut grants = self.1.grants.borrow_mut();
        if let Some(found) = grants.iter().find(|one| one.principal == wanted.principal) {
            let same = wanted.is(found, NOW);
            return Ok(if same { Made::Done } else { Made::Conflict("exists".to_owned()) });
        }
        grants.push(grant(&wanted.principal, wanted, self.1.changes.get()));
        drop(grants);
        self.changed();
        Ok(Made::Done)
    }

    async fn update(
        &self,
        (): &mut (),
        expected: &Grant,
        wanted: &WantedGrant,
    ) -> Result<Made, CommandError> {
        turn().await;
        Ok(self.replace(expected, Some(wanted)))
    }

    async fn delete(&self, (): &mut (), expected: &Grant) -> Result<Made, CommandError> {
        turn().await;
        Ok(self.replace(expected, None))
    }
}

fn grant(principal: &Principal, wanted: &WantedGrant, created_at: i64) -> Grant {
    Grant {
        principal: principal.clone(),
        namespace: wanted.namespace.clone(),
        permissions: wanted.permissions,
        expires_at: None,
        created_by: String::new(),
        created_at,
    }
}

/// Returns a file with `kept`, and with these other grants.
fn file(grants: &[(&str, &str, &[Permission])]) -> GrantFile {
    let mut text = "version = 1\nowns = [\"acme\", \"web\"]\n".to_owned();
    for (name, on, permissions) in [&[("kept", "acme", &[Download][..])][..], grants].concat() {
        let names: Vec<&str> = permissions.iter().map(|one| one.as_str()).collect();
        text += &format!(
            "[[grant]]\nprincipal = \"aws:111122223333:role/{name}\"\nnamespace = \"{on}\"\n\
             permissions = {names:?}\n"
        );
    }
    parse("grants.toml", &text, FileFormat::Toml, NOW, false).unwrap()
}

/// Returns the grants of a file as texts.
fn texts<'a>(grants: impl IntoIterator<Item = &'a WantedGrant>) -> BTreeSet<String> {
    let one =
        |one: &WantedGrant| format!("{} {} {}", one.principal, one.namespace, one.permissions);
    grants.into_iter().map(one).collect()
}

impl World {
    fn of(file: &GrantFile) -> Self {
        let grants = file.grants.iter().map(|one| grant(&one.principal, one, -1)).collect();
        Self { grants: RefCell::new(grants), ..Self::default() }
    }

    fn texts(&self) -> BTreeSet<String> {
        let grants = self.grants.borrow();
        let one = |one: &Grant| format!("{} {} {}", one.principal, one.namespace, one.permissions);
        grants.iter().map(one).collect()
    }

    /// Runs one file, or two at once in the order of turns. Where the order has no more turns, the
    /// first run that has not ended is next. Returns whether each run succeeded, and adds to the
    /// order who had a turn, and whether the other one could have had it.
    fn run(&self, files: &[&GrantFile], order: &mut Vec<(usize, bool)>) -> Vec<bool> {
        let backends: Vec<Run<'_>> = (0..files.len()).map(|number| Run(number, self)).collect();
        let mut runs: Vec<_> = files
            .iter()
            .zip(&backends)
            .map(|(file, backend)| {
                let order =
                    Order { file, confirmed: None, deletes: usize::MAX, any_account: false };
                Box::pin(apply(backend, order, |_| Ok(()), || NOW))
            })
            .collect();
        let mut done: Vec<Option<bool>> = vec![None; files.len()];
        let mut at = 0;
        let mut context = TaskContext::from_waker(Waker::noop());
        while let Some(first) = done.iter().position(Option::is_none) {
            let both = done.iter().filter(|done| done.is_none()).count() > 1;
            let next = order.get(at).map_or(first, |(next, _)| *next);
            if at == order.len() {
                order.push((next, both));
            }
            at += 1;
            if let Poll::Ready(applied) = runs[next].as_mut().poll(&mut context) {
                done[next] = Some(applied.unwrap().outcome().is_ok());
            }
        }
        done.into_iter().flatten().collect()
    }
}

/// Turns an order into the next one: the last turn of the first run that the second could have had.
fn next_order(order: &mut Vec<(usize, bool)>) -> bool {
    while let Some((who, both)) = order.pop() {
        if who == 0 && both {
            order.push((1, true));
            return true;
        }
    }
    false
}

/// Checks every order of two runs. Returns how many ended in a mixture, and how many in a file with
/// two successful runs.
fn every_order(before: &GrantFile, files: [&GrantFile; 2]) -> (usize, usize) {
    let wanted = files.map(|file| texts(&file.grants));
    let known: BTreeSet<String> =
        texts(before.grants.iter().chain(files.iter().flat_map(|file| &file.grants)));
    let (mut order, mut mixtures, mut both) = (Vec::new(), 0, 0);
    loop {
        let world = World::of(before);
        let done = world.run(&files, &mut order);
        let (ends, last) = (world.texts(), world.last.get());
        assert!(ends.is_subset(&known), "{order:?}");
        assert_eq!(done[last], ends == wanted[last], "who changed last knows the end: {order:?}");
        if !wanted.contains(&ends) {
            mixtures += 1;
            assert!(done.contains(&false), "a mixture is never a success: {order:?}");
        } else if done == [true, true] {
            both += 1;
        }
        // Either file can be applied then, by one run.
        assert_eq!(world.run(&[files[0]], &mut Vec::new()), [true]);
        assert_eq!(world.texts(), wanted[0]);
        if !next_order(&mut order) {
            return (mixtures, both);
        }
    }
}

#[tokio::test]
async fn in_every_order_of_two_runs_a_mixture_of_their_files_is_no_success() {
    let before = file(&[("old", "acme", &[Download])]);
    let (one, other) = (file(&[("a", "acme", &[Upload])]), file(&[("b", "web", &[Upload])]));
    let (mixtures, both) = every_order(&before, [&one, &other]);
    assert!(mixtures > 0 && both > 0, "{mixtures} {both}");
}

#[tokio::test]
async fn in_every_order_two_changes_of_one_grant_end_in_one_of_them_or_a_run_says_so() {
    let before = file(&[("old", "acme", &[Download]), ("x", "web", &[Upload])]);
    let one = file(&[("x", "web", &[Download, Upload])]);
    let other = file(&[("old", "acme", &[Download]), ("x", "web", &[Download])]);
    let (_, both) = every_order(&before, [&one, &other]);
    assert!(both > 0);
}
