//! `grant apply`: makes the grants like a file.
//!
//! One program at a time applies a file, because it holds a lease. It plans under the lease, and makes
//! each change only if the grant is still as planned. So two files at once end in one of them, and a
//! change by `grant update` in between is not lost. Killed at any moment, it can run again.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::Context;
use super::grant_backend::{GrantBackend, Made, StoreBackend, wait_for_lease};
use super::grant_plan::{lines, load, plan};
use crate::cli::GrantApply;
use crate::error::CommandError;
use crate::grant_file::{Change, Counts, GrantFile, Plan};
use crate::output::notice;
use crate::progress::changes_bar;

/// The most changes that were not made and that are shown, each with its reason.
const MAX_SHOWN: usize = 20;

/// Applies a file.
pub(super) async fn run(context: &Context, args: &GrantApply) -> Result<(), CommandError> {
    let file = load(&args.from, context.now)?;
    let open = context.open_to_change(&args.store).await?;
    let backend = StoreBackend::new(&open, &context.clock);
    let confirmed = if args.yes {
        None
    } else {
        let plan = plan(&backend, &file, context.now).await?;
        context.output.line(lines(context, &plan))?;
        if plan.is_empty() {
            return context.output.json(&Applied::default().json());
        }
        confirm(context, &plan)?;
        Some(plan)
    };
    let show = |plan: &Plan| match confirmed {
        Some(_) => Ok(()),
        None => context.output.line(lines(context, plan)),
    };
    let now = || context.clock.now();
    let applied = Box::pin(apply(&backend, &file, confirmed.as_ref(), show, now)).await?;
    applied.report(context)
}

/// Asks on the terminal whether to make the changes.
fn confirm(context: &Context, plan: &Plan) -> Result<(), CommandError> {
    let nothing = |why: &str| CommandError::refused(format!("nothing was changed, because {why}"));
    if let Some(wide) = plan.changes().iter().find_map(Change::confirmation_reason) {
        return Err(nothing(&wide).hint("add `--yes` to confirm"));
    }
    if context.output.is_json() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(nothing("there is no terminal to ask on").hint("add `--yes` to confirm"));
    }
    let mut answer = String::new();
    let mut stderr = io::stderr();
    let asked = write!(stderr, "Make these changes? Only `yes` makes them: ")
        .and_then(|()| stderr.flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    asked.map_err(|error| CommandError::failed_because("cannot ask on the terminal", &error))?;
    if answer.trim() == "yes" { Ok(()) } else { Err(nothing("the answer was not `yes`")) }
}

/// What a run has done.
#[derive(Debug, Default)]
struct Applied {
    /// The changes that the run made.
    made: Counts,
    /// The changes that it did not make, each with the reason.
    conflicts: Vec<(Change, String)>,
    /// The differences at the end, because others changed grants.
    remaining: Vec<Change>,
}

/// Applies a file under the lease. `confirmed` is the plan that the user has seen.
async fn apply<B: GrantBackend>(
    backend: &B,
    file: &GrantFile,
    confirmed: Option<&Plan>,
    show: impl FnOnce(&Plan) -> Result<(), CommandError>,
    now: impl Fn() -> i64,
) -> Result<Applied, CommandError> {
    let mut lease = Some(wait_for_lease(backend).await?);
    let applied = apply_under_lease(backend, &mut lease, file, confirmed, show, now).await;
    if let Some(lease) = lease
        && backend.end_lease(lease).await.is_err()
    {
        notice("could not end the lease on files of grants, which ends by itself in some seconds");
    }
    applied
}

async fn apply_under_lease<B: GrantBackend>(
    backend: &B,
    lease: &mut Option<B::Lease>,
    file: &GrantFile,
    confirmed: Option<&Plan>,
    show: impl FnOnce(&Plan) -> Result<(), CommandError>,
    now: impl Fn() -> i64,
) -> Result<Applied, CommandError> {
    let plan = plan(backend, file, now()).await?;
    if confirmed.is_some_and(|confirmed| *confirmed != plan) {
        return Err(CommandError::refused(
            "nothing was changed, because others changed grants since you saw the plan",
        )
        .hint("run the command again"));
    }
    show(&plan)?;
    let mut applied = Applied::default();
    if plan.is_empty() {
        return Ok(applied);
    }
    let bar = changes_bar(plan.changes().len());
    let mut made = make_all(backend, lease, plan.in_order(now()), &mut applied, &bar).await;
    if made.is_ok() && applied.made.delete > 0 {
        // A deleted grant can have been in the way of a new one: by the case of its name, or because
        // the principal had the maximum.
        let is_new = |(change, _): &mut (Change, String)| matches!(change, Change::Create(_));
        let again: Vec<Change> =
            applied.conflicts.extract_if(.., is_new).map(|(change, _)| change).collect();
        made = make_all(backend, lease, again.iter().collect(), &mut applied, &bar).await;
    }
    bar.finish_and_clear();
    if let Err(error) = made {
        let (made, all) = (applied.made.all(), plan.changes().len());
        return Err(error
            .context(format_args!("made {made} of {all} changes"))
            .or_hint("run the command again, which makes the other changes"));
    }
    applied.remaining = self::plan(backend, file, now()).await?.changes().to_vec();
    Ok(applied)
}

/// Makes changes in this order, each while this program has the lease.
async fn make_all<B: GrantBackend>(
    backend: &B,
    lease: &mut Option<B::Lease>,
    changes: Vec<&Change>,
    applied: &mut Applied,
    bar: &ProgressBar,
) -> Result<(), CommandError> {
    for change in changes {
        if !keep(backend, lease).await? {
            return Err(CommandError::refused(
                "another `grant apply` has begun, because this one took too long",
            ));
        }
        match make(backend, change).await? {
            Made::Done => {
                applied.made.add(change);
                bar.inc(1);
            }
            Made::Conflict(why) => applied.conflicts.push((change.clone(), why)),
        }
    }
    Ok(())
}

/// Keeps the lease. Returns whether this program still has it.
async fn keep<B: GrantBackend>(
    backend: &B,
    lease: &mut Option<B::Lease>,
) -> Result<bool, CommandError> {
    let Some(held) = lease.take() else { return Ok(false) };
    *lease = backend.keep_lease(held).await?;
    Ok(lease.is_some())
}

async fn make<B: GrantBackend>(backend: &B, change: &Change) -> Result<Made, CommandError> {
    match change {
        Change::Create(wanted) => backend.create(wanted).await,
        Change::Update { held, wanted } => backend.update(held, wanted).await,
        Change::Delete(held) => backend.delete(held).await,
    }
}

impl Applied {
    /// Prints what the run has done. A change that was not made is an error.
    fn report(&self, context: &Context) -> Result<(), CommandError> {
        let Counts { create, change, delete } = self.made;
        let line = format!("created {create}, changed {change}, deleted {delete}");
        context.output.outcome(line, &self.json())?;
        for (change, why) in self.conflicts.iter().take(MAX_SHOWN) {
            notice(format_args!("not made: {change}; {why}"));
        }
        let others: Vec<&Change> = self
            .remaining
            .iter()
            .filter(|left| !self.conflicts.iter().any(|(change, _)| change.same_grant(left)))
            .collect();
        for change in others.iter().take(MAX_SHOWN) {
            notice(format_args!("others changed a grant, which now differs: {change}"));
        }
        let left = self.conflicts.len() + others.len();
        if left == 0 {
            return Ok(());
        }
        let what = if left == 1 {
            "1 grant is not like the file".to_owned()
        } else {
            format!("{left} grants are not like the file")
        };
        Err(CommandError::refused(what)
            .hint("look at the difference with `grant plan`, and run `grant apply` again"))
    }

    fn json(&self) -> Value {
        let Counts { create, change, delete } = self.made;
        let conflicts = self.conflicts.iter().map(|(change, why)| {
            let mut json = change.json();
            json["reason"] = why.as_str().into();
            json
        });
        json!({
            "created": create, "changed": change, "deleted": delete,
            "conflicts": conflicts.collect::<Vec<_>>(),
            "remaining": self.remaining.iter().map(Change::json).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use stile_core::grants::Grant;
    use stile_core::principal::Principal;
    use stile_protocol::names::Permission::{Download, Upload};
    use stile_protocol::names::{Permission, Permissions};

    use super::super::grant_backend::Taken;
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
    }

    impl Memory {
        fn of(grants: Vec<Grant>) -> Self {
            Self { grants: RefCell::new(grants), ..Self::default() }
        }

        fn begin(&self, what: &str, namespace: &impl ToString) {
            let number = self.changes.get();
            self.changes.set(number + 1);
            if let Some((at, permission)) = self.meddles.get()
                && at == number
            {
                for grant in self.grants.borrow_mut().iter_mut() {
                    grant.permissions = grant.permissions.with(permission);
                }
            }
            self.log.borrow_mut().push(format!("{what} {}", namespace.to_string()));
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
        type Lease = ();

        async fn list(&self) -> Result<Vec<Grant>, CommandError> {
            assert!(self.held.get(), "a plan needs the lease");
            Ok(self.grants.borrow().clone())
        }

        async fn create(&self, wanted: &WantedGrant) -> Result<Made, CommandError> {
            self.begin("create", &wanted.namespace);
            if self.limit.is_some_and(|limit| self.grants.borrow().len() >= limit) {
                return Ok(Made::Conflict("full".to_owned()));
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
            expected: &Grant,
            wanted: &WantedGrant,
        ) -> Result<Made, CommandError> {
            self.begin("update", &expected.principal);
            Ok(self.change(expected, Some(wanted)))
        }

        async fn delete(&self, expected: &Grant) -> Result<Made, CommandError> {
            self.begin("delete", &expected.principal);
            Ok(self.change(expected, None))
        }

        async fn take_lease(&self) -> Result<Taken<()>, CommandError> {
            assert!(!self.held.replace(true));
            Ok(Taken::Done(()))
        }

        async fn keep_lease(&self, (): ()) -> Result<Option<()>, CommandError> {
            let lost = self.lost_after.get().is_some_and(|after| self.changes.get() >= after);
            Ok((!lost).then_some(()))
        }

        async fn end_lease(&self, (): ()) -> Result<(), CommandError> {
            assert!(self.held.replace(false));
            Ok(())
        }
    }

    async fn applied(memory: &Memory, file: &GrantFile) -> Result<Applied, CommandError> {
        apply(memory, file, None, |_| Ok(()), || NOW).await
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
        let seen = Plan::between(&file, &[], NOW);
        let error = apply(&memory, &file, Some(&seen), |_| Ok(()), || NOW).await.unwrap_err();
        assert!(error.to_string().contains("since you saw the plan"), "{error}");
        assert_eq!((memory.changes.get(), memory.held.get()), (0, false));
        let seen = Plan::between(&file, &memory.grants.borrow(), NOW);
        apply(&memory, &file, Some(&seen), |_| Ok(()), || NOW).await.unwrap();
        assert_eq!(memory.grants.borrow().len(), 2);
    }

    #[tokio::test]
    async fn a_program_that_lost_its_lease_stops_and_says_how_far_it_came() {
        let memory = Memory::default();
        memory.lost_after.set(Some(1));
        let error = applied(&memory, &file(TWO)).await.unwrap_err().to_string();
        assert!(
            error.starts_with("made 1 of 2 changes: another `grant apply` has begun"),
            "{error}"
        );
        assert_eq!((memory.changes.get(), memory.held.get()), (1, true), "it ends no other lease");
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
        let old =
            vec![held("old", "acme", &[Download], None), held("old", "web", &[Download], None)];
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
        let at = |end: Option<i64>| {
            format!("expires = \"{}\"", stile_core::clock::rfc3339(end.unwrap()))
        };
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
        let narrowed =
            grants.iter().find(|grant| grant.principal.as_str() == of("narrow")).unwrap();
        assert_eq!((narrowed.created_by.as_str(), narrowed.created_at), ("first", 7));
        assert_eq!(narrowed.permissions, Permissions::NONE.with(Download));
    }
}
