//! `grant apply`: makes the grants like a file.
//!
//! With a store, one program at a time applies a file, because it holds a lease. It plans under the
//! lease, and makes each change only if it still has the lease and the grant is still as planned. So
//! two files at once end in one of them, and a change by `grant update` in between is not lost. Killed
//! at any moment, it can run again.
//!
//! The API has no lease. So the program looks for changes of others before it takes something away,
//! and at its end: a mixture of two files never passes for success.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use indicatif::ProgressBar;
use serde_json::{Value, json};
use stile_store::UnreadableGrant;

use super::Context;
use super::grant_api_backend::ApiBackend;
use super::grant_backend::{ApplyLease as _, GrantBackend, Made, StoreBackend, wait_for_lease};
use super::grant_create::any_account;
use super::grant_plan::{check_namespaces, lines, load, notice_names, plan};
use crate::cli::GrantApply;
use crate::error::CommandError;
use crate::grant_file::{
    Change, Counts, Deletions, GrantFile, Plan, unreadable_json, unreadable_name,
};
use crate::output::notice;
use crate::progress::changes_bar;
use crate::target::ChosenTarget;

/// The most changes that were not made and that are shown, each with its reason.
const MAX_SHOWN: usize = 20;

/// Applies a file.
pub(super) async fn run(context: &Context, args: &GrantApply) -> Result<(), CommandError> {
    let file = load(&args.from, context.now)?;
    match args.at.chosen()? {
        ChosenTarget::Store(target) => {
            let open = context.open_to_change(target).await?;
            let backend = StoreBackend::new(&open, &context.clock);
            Box::pin(ask_and_apply(context, args, &file, &backend)).await
        }
        ChosenTarget::Registry(api) => {
            let backend = Box::pin(ApiBackend::open(context, api, &file.owned)).await?;
            Box::pin(ask_and_apply(context, args, &file, &backend)).await
        }
    }
}

async fn ask_and_apply<B: GrantBackend>(
    context: &Context,
    args: &GrantApply,
    file: &GrantFile,
    backend: &B,
) -> Result<(), CommandError> {
    check_namespaces(backend, &file.unmentioned).await?;
    let confirmed = if args.yes {
        None
    } else {
        let (plan, listed) = plan(backend, file, context.now).await?;
        context.output.line(lines(context, &plan))?;
        if plan.is_empty() {
            let applied = Applied::of(&plan);
            context.output.json(&applied.json())?;
            return applied.outcome();
        }
        check_deletions(&plan, args.allow_deletes)?;
        backend.check(plan.changes())?;
        check_any_account(&plan, args.any_account)?;
        notice_names(backend, &plan, &listed).await;
        backend.warnings(plan.changes()).iter().for_each(notice);
        confirm(context, &plan)?;
        Some(plan)
    };
    let show = |plan: &Plan| match confirmed {
        Some(_) => Ok(()),
        None => context.output.line(lines(context, plan)),
    };
    let order = Order {
        file,
        confirmed: confirmed.as_ref(),
        deletes: args.allow_deletes,
        any_account: args.any_account,
    };
    let now = || context.clock.now();
    let applied = Box::pin(apply(backend, order, show, now)).await?;
    applied.report(context)
}

/// Refuses a plan with more deletions than the user allows. A file that lost its end would delete
/// the grants of the lost part.
fn check_deletions(plan: &Plan, allowed: usize) -> Result<(), CommandError> {
    match plan.mass_deletion() {
        Some(Deletions { deleted, owned }) if allowed < deleted => {
            Err(CommandError::refused(format!(
                "nothing was changed, because the plan deletes {deleted} of the {owned} grants that \
                 the file owns"
            ))
            .hint(format!("check that the file is complete, and add `--allow-deletes {deleted}`")))
        }
        _ => Ok(()),
    }
}

/// Refuses a new or changed grant to a tag that counts in every account, unless the user confirmed
/// exactly that. `--yes` does not: a schedule always has it.
fn check_any_account(plan: &Plan, confirmed: bool) -> Result<(), CommandError> {
    plan.changes()
        .iter()
        .filter(|change| !matches!(change, Change::Delete(_)))
        .try_for_each(|change| any_account(change.principal(), confirmed))
        .map_err(|refused| refused.context("nothing was changed"))
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
    if !io::stdout().is_terminal() {
        return Err(nothing("the plan is not on the terminal").hint("add `--yes` to confirm"));
    }
    let mut answer = String::new();
    let mut stderr = io::stderr();
    let asked = write!(stderr, "Make these changes? Only `yes` makes them: ")
        .and_then(|()| stderr.flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    asked.map_err(|error| CommandError::failed_because("cannot ask on the terminal", &error))?;
    if answer.trim() == "yes" { Ok(()) } else { Err(nothing("the answer was not `yes`")) }
}

/// What the user wants.
#[derive(Debug, Clone, Copy)]
struct Order<'a> {
    file: &'a GrantFile,
    /// The plan that the user has seen and confirmed.
    confirmed: Option<&'a Plan>,
    /// The number of deletions that the user allows.
    deletes: usize,
    /// Whether the user confirmed tags that count in every account.
    any_account: bool,
}

/// What a run has done.
#[derive(Debug, Default)]
struct Applied {
    /// The number of changes that the run planned.
    planned: usize,
    /// The changes that the run made.
    made: Counts,
    /// The changes that it did not make, each with the reason.
    conflicts: Vec<(Change, String)>,
    /// The differences at the end, because others changed grants. After [`Self::stopped`], the
    /// changes that the run did not come to, and first the one that failed.
    remaining: Vec<Change>,
    /// The grants that this program cannot read, on namespaces that the file owns.
    unreadable: Vec<UnreadableGrant>,
    /// Why the run stopped before its end.
    stopped: Option<CommandError>,
}

/// Applies a file under the lease. After its first change, it returns no error: the user must learn
/// what it did.
async fn apply<B: GrantBackend>(
    backend: &B,
    order: Order<'_>,
    show: impl FnOnce(&Plan) -> Result<(), CommandError>,
    now: impl Fn() -> i64,
) -> Result<Applied, CommandError> {
    let mut lease = wait_for_lease(backend).await?;
    let applied = apply_under_lease(backend, &mut lease, order, show, now).await;
    if lease.end(backend).await.is_err() {
        notice("could not end the lease on files of grants; the next run waits for some seconds");
    }
    applied
}

async fn apply_under_lease<B: GrantBackend>(
    backend: &B,
    lease: &mut B::Lease,
    order: Order<'_>,
    show: impl FnOnce(&Plan) -> Result<(), CommandError>,
    now: impl Fn() -> i64,
) -> Result<Applied, CommandError> {
    let (plan, listed) = plan(backend, order.file, now()).await?;
    if order.confirmed.is_some_and(|confirmed| *confirmed != plan) {
        return Err(CommandError::refused(
            "nothing was changed, because others changed grants since you saw the plan",
        )
        .hint("run the command again"));
    }
    show(&plan)?;
    let mut applied = Applied::of(&plan);
    if plan.is_empty() {
        return Ok(applied);
    }
    check_deletions(&plan, order.deletes)?;
    backend.check(plan.changes())?;
    check_any_account(&plan, order.any_account)?;
    let changes = backend.prepare(plan.in_order(now())).await?;
    if order.confirmed.is_none() {
        notice_names(backend, &plan, &listed).await;
        backend.warnings(plan.changes()).iter().for_each(notice);
    }
    let bar = changes_bar(plan.changes().len());
    let (takes, gives): (Vec<Change>, Vec<Change>) = {
        let now = now();
        changes.into_iter().partition(|change| change.takes(now))
    };
    make_all(backend, lease, gives, &mut applied, &bar).await;
    if applied.stopped.is_none() && !B::EXCLUSIVE && !takes.is_empty() {
        applied.stopped = meanwhile(backend, order.file, &applied, &takes, now()).await.err();
    }
    if applied.stopped.is_none() {
        make_all(backend, lease, takes, &mut applied, &bar).await;
    } else {
        applied.remaining.extend(takes);
    }
    if applied.stopped.is_none() && applied.made.delete > 0 {
        // A deleted grant can have been in the way of a new one: by the case of its name, or because
        // the principal had the maximum.
        let is_new = |(change, _): &mut (Change, String)| matches!(change, Change::Create(_));
        let again: Vec<Change> =
            applied.conflicts.extract_if(.., is_new).map(|(change, _)| change).collect();
        make_all(backend, lease, again, &mut applied, &bar).await;
    }
    bar.finish_and_clear();
    if applied.stopped.is_none() {
        match self::plan(backend, order.file, now()).await {
            Ok((plan, _)) => applied.end(&plan),
            Err(error) => applied.stopped = Some(error),
        }
    }
    Ok(applied)
}

/// Refuses to take something away, if others change grants at the same time: they can apply another
/// file.
///
/// Each of two programs first creates grants, and then looks for those of the other. So at least one
/// of them sees the other.
async fn meanwhile<B: GrantBackend>(
    backend: &B,
    file: &GrantFile,
    applied: &Applied,
    takes: &[Change],
    now: i64,
) -> Result<(), CommandError> {
    let (plan, _) = plan(backend, file, now).await?;
    let is_ours = |change: &Change| {
        takes.contains(change) || applied.conflicts.iter().any(|(conflict, _)| conflict == change)
    };
    match plan.changes().iter().find(|change| !is_ours(change)) {
        None => Ok(()),
        Some(other) => Err(CommandError::refused(format!(
            "others changed grants at the same time, so no grant was narrowed or deleted; one \
             difference is `{other}`"
        ))
        .hint("run the command again, when nobody else applies a file")),
    }
}

/// Makes changes in this order, each while this program has the lease.
///
/// An error stops the run, also a refusal. A conflict does not.
async fn make_all<B: GrantBackend>(
    backend: &B,
    lease: &mut B::Lease,
    changes: Vec<Change>,
    applied: &mut Applied,
    bar: &ProgressBar,
) {
    let lost =
        || CommandError::refused("another `grant apply` has begun, because this one took too long");
    let mut changes = changes.into_iter();
    while let Some(change) = changes.next() {
        let (failed, why) = match make(backend, lease, &change).await {
            Ok(Made::Done) => {
                applied.made.add(&change);
                bar.inc(1);
                continue;
            }
            Ok(Made::Conflict(why)) => {
                applied.conflicts.push((change, why));
                // Only a change renews the lease by itself.
                match lease.renew(backend).await {
                    Ok(true) => continue,
                    Ok(false) => (None, lost()),
                    Err(error) => (None, error),
                }
            }
            Ok(Made::LeaseLost) => (Some(change), lost()),
            Err(error) if error.is_refusal() => {
                let error = error.context(format_args!("`{change}` was refused"));
                (Some(change), error)
            }
            Err(error) => (Some(change), error),
        };
        applied.remaining = failed.into_iter().chain(changes).collect();
        applied.stopped = Some(why);
        return;
    }
}

async fn make<B: GrantBackend>(
    backend: &B,
    lease: &mut B::Lease,
    change: &Change,
) -> Result<Made, CommandError> {
    match change {
        Change::Create(wanted) => backend.create(lease, wanted).await,
        Change::Update { held, wanted } => backend.update(lease, held, wanted).await,
        Change::Delete(held) => backend.delete(lease, held).await,
    }
}

impl Applied {
    /// Returns the state of a run that has made no change of the plan yet.
    fn of(plan: &Plan) -> Self {
        let unreadable = plan.unreadable().to_vec();
        Self { planned: plan.changes().len(), unreadable, ..Self::default() }
    }

    /// Records the differences at the end.
    fn end(&mut self, plan: &Plan) {
        self.remaining = plan.changes().to_vec();
        self.unreadable = plan.unreadable().to_vec();
    }

    /// Returns the differences that are no conflicts of this run.
    fn others(&self) -> Vec<&Change> {
        let conflicts: BTreeSet<_> =
            self.conflicts.iter().map(|(change, _)| change.key()).collect();
        self.remaining.iter().filter(|left| !conflicts.contains(&left.key())).collect()
    }

    /// Prints what the run has done, whatever happened then.
    fn report(&self, context: &Context) -> Result<(), CommandError> {
        let Counts { create, change, delete } = self.made;
        let line = format!("created {create}, changed {change}, deleted {delete}");
        let printed = context.output.outcome(line, &self.json());
        for (change, why) in self.conflicts.iter().take(MAX_SHOWN) {
            notice(format_args!("not made: {change}; {why}"));
        }
        if self.stopped.is_none() {
            for change in self.others().iter().take(MAX_SHOWN) {
                notice(format_args!("others changed a grant, which now differs: {change}"));
            }
        }
        for unreadable in self.unreadable.iter().take(MAX_SHOWN) {
            let name = unreadable_name(unreadable);
            notice(format_args!("this program cannot read the grant of {name}"));
        }
        self.outcome()?;
        printed
    }

    /// Returns the error of a run that stopped, or that did not make the store like the file.
    fn outcome(&self) -> Result<(), CommandError> {
        if let Some(error) = &self.stopped {
            let (made, all) = (self.made.all(), self.planned);
            return Err(error
                .clone()
                .context(format_args!("made {made} of {all} changes"))
                .or_hint("run the command again, which makes the other changes"));
        }
        let left = self.conflicts.len() + self.others().len();
        if left == 0 && self.unreadable.is_empty() {
            return Ok(());
        }
        if left == 0 {
            let count = self.unreadable.len();
            return Err(CommandError::refused(format!("cannot read {count} of the grants"))
                .hint("run a newer release, or delete each with `grant delete`"));
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
            "complete": self.stopped.is_none(),
            "created": create, "changed": change, "deleted": delete,
            "conflicts": conflicts.collect::<Vec<_>>(),
            "remaining": self.remaining.iter().map(Change::json).collect::<Vec<_>>(),
            "unreadable": unreadable_json(&self.unreadable),
        })
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod two_runs;
