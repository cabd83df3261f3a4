//! Tests how a file is applied, on grants in memory.

use std::cell::{Cell, RefCell};

use stile_core::grants::{Grant, MAX_GRANTS};
use stile_core::principal::Principal;
use stile_protocol::names::Permission::{Download, Upload};
use stile_protocol::names::{Permission, Permissions};
use stile_store::{LeaseWatch, ListedGrants};

use super::super::grant_backend::{ApplyLease, KnownNames, Taken};
use super::*;
use crate::grant_file::{FileFormat, WantedGrant, parse};

const NOW: i64 = 1_795_169_472;

fn held(name: &str, on: &str, permissions: &[Permission], expires_at: Option<i64>) -> Grant {
    Grant {
        principal: Principal::parse_stored(&format!("aws:111122223333:role/{name}")).unwrap(),
        namespace: on.parse().unwrap(),
        permissions: permissions.iter().copied().collect(),
        expires_at,
        created_by: "first".to_owned(),
        created_at: 7,
    }
}

fn file(grants: &str) -> GrantFile {
    let text = format!("version = 1\nowns = [\"acme\", \"web\"]\n{grants}");
    parse("grants.toml", &text, FileFormat::Toml, NOW, false).unwrap()
}

/// Grants in memory.
#[derive(Default)]
struct Memory {
    grants: RefCell<Vec<Grant>>,
    log: RefCell<Vec<String>>,
    changes: Cell<usize>,
    /// The number of changes after which another program takes the lease.
    lost_after: Cell<Option<usize>>,
    /// The change before which another operator adds this permission to each grant.
    meddles: Cell<Option<(usize, Permission)>>,
    held: Cell<bool>,
    /// The most grants that it can have.
    limit: Option<usize>,
    /// The change that fails.
    fails: Cell<Option<usize>>,
    /// A principal whose grants cannot be read or written.
    damaged: Option<&'static str>,
    /// Whether nobody can be without a name in another case.
    folds: bool,
}

impl Memory {
    fn of(grants: Vec<Grant>) -> Self {
        Self { grants: RefCell::new(grants), ..Self::default() }
    }

    /// Begins a change. Returns the result of one that is not made.
    fn begin(
        &self,
        what: &str,
        about: &impl ToString,
        principal: &Principal,
    ) -> Result<Option<Made>, CommandError> {
        let number = self.changes.get();
        if self.is_lost() {
            return Ok(Some(Made::LeaseLost));
        }
        self.changes.set(number + 1);
        if let Some((at, permission)) = self.meddles.get()
            && at == number
        {
            for grant in self.grants.borrow_mut().iter_mut() {
                grant.permissions = grant.permissions.with(permission);
            }
        }
        self.log.borrow_mut().push(format!("{what} {}", about.to_string()));
        if self.fails.get() == Some(number) {
            return Err(CommandError::failed("the store does not answer"));
        }
        let damaged = self.damaged.is_some_and(|name| principal.as_str().ends_with(name));
        Ok(damaged.then(|| Made::Conflict("cannot read the grants".to_owned())))
    }

    fn is_lost(&self) -> bool {
        self.lost_after.get().is_some_and(|after| self.changes.get() >= after)
    }

    /// Returns why a grant cannot be created, as a store does.
    fn obstacle(&self, new: &Principal) -> Option<&'static str> {
        let grants = self.grants.borrow();
        let is_twin = |other: &Principal| other != new && other.folded() == new.folded();
        if self.folds && grants.iter().any(|grant| is_twin(&grant.principal)) {
            return Some("case");
        }
        let limit = self.limit.unwrap_or(MAX_GRANTS);
        (grants.len() >= limit).then_some("full")
    }

    fn change(&self, expected: &Grant, to: Option<&WantedGrant>) -> Made {
        let mut grants = self.grants.borrow_mut();
        let Some(at) = grants.iter().position(|grant| grant == expected) else {
            return Made::Conflict("changed".to_owned());
        };
        match to {
            None => drop(grants.remove(at)),
            Some(wanted) => {
                grants[at].permissions = wanted.permissions;
                grants[at].expires_at = wanted.expires_at;
            }
        }
        Made::Done
    }
}

impl GrantBackend for Memory {
    const EXCLUSIVE: bool = true;

    type Lease = Held;

    async fn list(&self) -> Result<ListedGrants, CommandError> {
        assert!(self.held.get(), "a plan needs the lease");
        Ok(ListedGrants { grants: self.grants.borrow().clone(), unreadable: Vec::new() })
    }

    async fn known_names(&self) -> Result<Option<KnownNames>, CommandError> {
        Ok(Some(KnownNames::default()))
    }

    async fn create(&self, _: &mut Held, wanted: &WantedGrant) -> Result<Made, CommandError> {
        if let Some(made) = self.begin("create", &wanted.namespace, &wanted.principal)? {
            return Ok(made);
        }
        if let Some(why) = self.obstacle(&wanted.principal) {
            return Ok(Made::Conflict(why.to_owned()));
        }
        self.grants.borrow_mut().push(Grant {
            principal: wanted.principal.clone(),
            namespace: wanted.namespace.clone(),
            permissions: wanted.permissions,
            expires_at: wanted.expires_at,
            created_by: "second".to_owned(),
            created_at: NOW,
        });
        Ok(Made::Done)
    }

    async fn update(
        &self,
        _: &mut Held,
        expected: &Grant,
        wanted: &WantedGrant,
    ) -> Result<Made, CommandError> {
        let made = self.begin("update", &expected.principal, &expected.principal)?;
        Ok(made.unwrap_or_else(|| self.change(expected, Some(wanted))))
    }

    async fn delete(&self, _: &mut Held, expected: &Grant) -> Result<Made, CommandError> {
        let made = self.begin("delete", &expected.principal, &expected.principal)?;
        Ok(made.unwrap_or_else(|| self.change(expected, None)))
    }
}

/// The lease of the grants in memory.
struct Held;

impl ApplyLease<Memory> for Held {
    async fn take(memory: &Memory, _: &mut LeaseWatch) -> Result<Taken<Self>, CommandError> {
        assert!(!memory.held.replace(true));
        Ok(Taken::Done(Self))
    }

    async fn renew(&mut self, memory: &Memory) -> Result<bool, CommandError> {
        Ok(!memory.is_lost())
    }

    async fn end(self, memory: &Memory) -> Result<(), CommandError> {
        if !memory.is_lost() {
            assert!(memory.held.replace(false));
        }
        Ok(())
    }
}

async fn applied(memory: &Memory, file: &GrantFile) -> Result<Applied, CommandError> {
    seen(memory, file, None).await
}

/// Applies a file after the user has seen a plan, with every deletion allowed.
async fn seen(
    memory: &Memory,
    file: &GrantFile,
    confirmed: Option<&Plan>,
) -> Result<Applied, CommandError> {
    let order = Order { file, confirmed, deletes: usize::MAX, any_account: false };
    apply(memory, order, |_| Ok(()), || NOW).await
}

fn listed(grants: &[Grant]) -> ListedGrants {
    ListedGrants { grants: grants.to_vec(), unreadable: Vec::new() }
}

const TWO: &str = r#"
[[grant]]
principal = "aws:111122223333:role/a"
namespace = "acme"
permissions = ["download"]
[[grant]]
principal = "aws:111122223333:role/b"
namespace = "acme"
permissions = ["download", "upload"]
"#;

#[tokio::test]
async fn a_plan_that_is_not_the_one_that_the_user_saw_changes_nothing() {
    let memory = Memory::of(vec![held("a", "acme", &[Download], None)]);
    let file = file(TWO);
    let plan = Plan::between(&file, &listed(&[]), NOW);
    let error = seen(&memory, &file, Some(&plan)).await.unwrap_err();
    assert!(error.to_string().contains("since you saw the plan"), "{error}");
    assert_eq!((memory.changes.get(), memory.held.get()), (0, false));
    let plan = Plan::between(&file, &listed(&memory.grants.borrow()), NOW);
    seen(&memory, &file, Some(&plan)).await.unwrap();
    assert_eq!(memory.grants.borrow().len(), 2);
}

#[tokio::test]
async fn a_program_that_lost_its_lease_stops_and_says_how_far_it_came() {
    let memory = Memory::default();
    memory.lost_after.set(Some(1));
    let done = applied(&memory, &file(TWO)).await.unwrap();
    let error = done.outcome().unwrap_err().to_string();
    assert!(error.starts_with("made 1 of 2 changes: another `grant apply` has begun"), "{error}");
    assert_eq!((memory.changes.get(), memory.held.get()), (1, true), "it ends no other lease");
}

#[tokio::test]
async fn a_run_that_stops_half_way_says_what_it_did_and_what_it_did_not() {
    let memory = Memory::of(vec![held("old", "acme", &[Download], None)]);
    memory.fails.set(Some(1));
    let done = applied(&memory, &file(TWO)).await.unwrap();
    assert!(!memory.held.get(), "it ends its lease");
    let json = done.json();
    assert_eq!((&json["complete"], &json["created"]), (&false.into(), &1.into()));
    let left: Vec<String> = done.remaining.iter().map(ToString::to_string).collect();
    let expected = [
        "+ aws:111122223333:role/b on acme: download,upload",
        "- aws:111122223333:role/old on acme: download",
    ];
    assert_eq!(left, expected);
    let error = done.outcome().unwrap_err();
    assert!(!error.is_refusal(), "the exit code is that of a failure");
    let error = error.to_string();
    assert!(error.starts_with("made 1 of 3 changes: the store does not answer; hint: "), "{error}");
}

#[tokio::test]
async fn a_grant_that_cannot_be_read_or_written_keeps_no_other_from_its_change() {
    let memory = Memory::of(vec![
        held("a", "acme", &[Download, Upload], None),
        held("b", "acme", &[Download], None),
        held("old", "acme", &[Download], None),
    ]);
    let memory = Memory { damaged: Some("role/b"), ..memory };
    let done = applied(&memory, &file(TWO)).await.unwrap();
    assert_eq!(done.made, Counts { create: 0, change: 1, delete: 1 }, "narrowed and deleted");
    assert_eq!((done.conflicts.len(), done.remaining.len()), (1, 1));
    let error = done.outcome().unwrap_err();
    assert!(error.is_refusal(), "{error}");
}

#[tokio::test]
async fn a_plan_with_many_deletions_needs_a_permission_for_that_many() {
    let grants: Vec<Grant> =
        (0..40).map(|number| held(&format!("r{number:02}"), "acme", &[Download], None)).collect();
    let wanted = |count: usize| {
        let one = |grant: &Grant| {
            format!(
                "[[grant]]\nprincipal = \"{}\"\nnamespace = \"acme\"\n\
                 permissions = [\"download\"]\n",
                grant.principal
            )
        };
        let listed: String = grants.iter().take(count).map(one).collect();
        file(if count == 0 { "grant = []" } else { &listed })
    };
    let memory = Memory::of(grants.clone());
    for (kept, allowed, needed) in
        [(24, 0, None), (23, 0, Some(17)), (23, 16, Some(17)), (0, 39, Some(40))]
    {
        let file = wanted(kept);
        let plan = Plan::between(&file, &listed(&grants), NOW);
        assert_eq!(plan.mass_deletion().map(|deletions| deletions.deleted), needed);
        let Some(needed) = needed else { continue };
        assert_eq!(plan.json()["needs_allow_deletes"], needed);
        let order = Order { file: &file, confirmed: None, deletes: allowed, any_account: false };
        let error = apply(&memory, order, |_| Ok(()), || NOW).await.unwrap_err().to_string();
        let hint = format!("add `--allow-deletes {needed}`");
        assert!(error.starts_with("nothing was changed") && error.ends_with(&hint), "{error}");
        assert_eq!((memory.changes.get(), memory.held.get()), (0, false));
    }
    let file = wanted(23);
    let order = Order { file: &file, confirmed: None, deletes: 17, any_account: false };
    let done = apply(&memory, order, |_| Ok(()), || NOW).await.unwrap();
    assert_eq!((done.made.delete, done.outcome()), (17, Ok(())));
}

#[tokio::test]
async fn an_ended_grant_in_the_way_of_a_new_one_is_deleted_first_and_no_other() {
    let memory = Memory::of(vec![
        held("A", "acme", &[Download], Some(NOW)),
        held("other", "acme", &[Download], Some(NOW)),
    ]);
    let memory = Memory { folds: true, ..memory };
    let done = applied(&memory, &file(TWO)).await.unwrap();
    assert_eq!((done.made, done.outcome()), (Counts { create: 2, change: 0, delete: 1 }, Ok(())));
    assert_eq!(memory.log.borrow()[0], "delete aws:111122223333:role/A");
    // The file wants another grant of a principal that has the maximum.
    let ended = |on: &str| held("a", on, &[Download], Some(NOW));
    let others = (1..MAX_GRANTS).map(|number| ended(&format!("n{number}")));
    let full: Vec<Grant> = others.chain([ended("web")]).collect();
    let plan = Plan::between(&file(TWO), &listed(&full), NOW);
    let lines = plan.lines(false);
    let expected = [
        "+ aws:111122223333:role/a on acme: download",
        "- aws:111122223333:role/a on web: download until 2026-11-20T10:11:12Z",
        "+ aws:111122223333:role/b on acme: download,upload",
        "2 to create, 0 to change, 1 to delete",
    ];
    assert_eq!(lines, expected, "only grants that the file owns");
    assert_eq!(plan.mass_deletion(), None, "they allow nothing");
}

#[tokio::test]
async fn a_grant_that_others_change_meanwhile_stays_and_the_rest_is_applied() {
    let memory = Memory::of(vec![
        held("b", "acme", &[Download], None),
        held("c", "acme", &[Download], None),
        held("c", "other", &[Download], None),
    ]);
    memory.meddles.set(Some((1, Permission::DeleteGrant)));
    let applied = applied(&memory, &file(TWO)).await.unwrap();
    assert_eq!(applied.made, Counts { create: 1, ..Counts::default() });
    let conflicts: Vec<String> =
        applied.conflicts.iter().map(|(change, _)| change.to_string()).collect();
    let [first, second] = conflicts.as_slice() else { panic!("{conflicts:?}") };
    assert!(first.starts_with("~ aws:111122223333:role/b on acme"), "{first}");
    assert!(second.starts_with("- aws:111122223333:role/c on acme"), "{second}");
    assert_eq!(applied.remaining.len(), 3, "also the new grant has another permission now");
    assert_eq!(applied.json()["conflicts"][0]["reason"], "changed");
}

#[tokio::test]
async fn a_new_grant_that_an_old_one_is_in_the_way_of_is_made_after_the_old_one_is_deleted() {
    let old = vec![held("old", "acme", &[Download], None), held("old", "web", &[Download], None)];
    let memory = Memory { limit: Some(2), ..Memory::of(old.clone()) };
    let done = applied(&memory, &file(TWO)).await.unwrap();
    assert_eq!(done.made, Counts { create: 2, change: 0, delete: 2 });
    assert!(done.conflicts.is_empty() && done.remaining.is_empty());
    let memory = Memory { limit: Some(1), ..Memory::of(old) };
    let done = applied(&memory, &file(TWO)).await.unwrap();
    assert_eq!((done.conflicts.len(), done.remaining.len()), (1, 1), "there is room for one");
}

#[tokio::test]
async fn access_that_moves_from_one_grant_to_another_is_there_at_every_moment() {
    let (end, later) = (Some(NOW + 60), Some(NOW + 120));
    let memory = Memory::of(vec![
        held("deleted", "acme", &[Download], None),
        held("narrow", "acme", &[Download, Upload], None),
        held("replace", "acme", &[Upload], None),
        held("sooner", "acme", &[Download], later),
        held("widen", "acme", &[Download], end),
    ]);
    let grant = |name: &str, permissions: &str, more: &str| {
        format!(
            "[[grant]]\nprincipal = \"aws:111122223333:role/{name}\"\nnamespace = \"acme\"\n\
             permissions = [{permissions}]\n{more}\n"
        )
    };
    let at =
        |end: Option<i64>| format!("expires = \"{}\"", stile_core::clock::rfc3339(end.unwrap()));
    let wanted = [
        grant("narrow", "\"download\"", ""),
        grant("new", "\"download\"", ""),
        grant("replace", "\"download\"", ""),
        grant("sooner", "\"download\"", &at(end)),
        grant("widen", "\"download\"", &at(later)),
    ];
    applied(&memory, &file(&wanted.concat())).await.unwrap();
    let of = |name: &str| format!("aws:111122223333:role/{name}");
    let expected = [
        "create acme".to_owned(),
        format!("update {}", of("widen")),
        format!("update {}", of("replace")),
        format!("update {}", of("narrow")),
        format!("update {}", of("sooner")),
        format!("delete {}", of("deleted")),
    ];
    assert_eq!(*memory.log.borrow(), expected);
    let grants = memory.grants.borrow();
    let narrowed = grants.iter().find(|grant| grant.principal.as_str() == of("narrow")).unwrap();
    assert_eq!((narrowed.created_by.as_str(), narrowed.created_at), ("first", 7));
    assert_eq!(narrowed.permissions, Permissions::NONE.with(Download));
}
