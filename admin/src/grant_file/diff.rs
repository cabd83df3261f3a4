//! The difference between a file of grants and the grants of a store: the changes that make the
//! store like the file, and their order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde_json::{Value, json};
use stile_core::clock::rfc3339;
use stile_core::grants::{Grant, GrantNamespace, MAX_GRANTS};
use stile_core::principal::Principal;
use stile_protocol::names::{Permission, Permissions};
use stile_store::{ListedGrants, UnreadableGrant};
use terraform_credentials_stile::message::one_line;

use super::model::{GrantFile, WantedGrant, is_live};

/// The most deletions that need no permission of their own, whatever their part of all grants.
const FEW_DELETIONS: usize = 16;

/// The part of the grants that a plan may delete without a permission of its own: a tenth.
const PART: usize = 10;

/// One change of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The grant does not exist.
    Create(WantedGrant),
    /// The grant has other permissions or another end.
    Update {
        /// The grant as it is.
        held: Grant,
        /// The grant as it should be.
        wanted: WantedGrant,
    },
    /// The file owns the grant's namespace, and does not have the grant.
    Delete(Grant),
}

/// The changes that make a store like a file, ordered by principal and namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    changes: Vec<Change>,
    /// The grants that this program cannot read, on namespaces that the file owns.
    unreadable: Vec<UnreadableGrant>,
    deletions: Deletions,
}

/// The deletions of grants that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Deletions {
    /// The grants to delete.
    pub(crate) deleted: usize,
    /// The grants that the file owns.
    pub(crate) owned: usize,
}

/// The number of changes of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Grants to create.
    pub(crate) create: usize,
    /// Grants to change.
    pub(crate) change: usize,
    /// Grants to delete.
    pub(crate) delete: usize,
}

/// The phases of an application, in their order. What gives something comes before what takes
/// something, and the right to change grants is taken last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    DeleteEnded,
    Create,
    Widen,
    ReplaceByGiver,
    Replace,
    Narrow,
    Delete,
    TakeRight,
}

impl Plan {
    /// Compares a file with the grants of a store.
    ///
    /// A grant that has ended allows nothing. If the file does not have it, it stays, unless it is in
    /// the way of a new grant: the store removes it later.
    pub(crate) fn between(file: &GrantFile, listed: &ListedGrants, now: i64) -> Self {
        let mut held: BTreeMap<_, _> = listed
            .grants
            .iter()
            .filter(|grant| file.owned.includes_grant(grant))
            .map(|grant| ((&grant.principal, &grant.namespace), grant))
            .collect();
        let owned = held.values().filter(|grant| is_live(grant, now)).count();
        let mut changes = Vec::new();
        for wanted in &file.grants {
            match held.remove(&(&wanted.principal, &wanted.namespace)) {
                None => changes.push(Change::Create(wanted.clone())),
                Some(grant) if wanted.is(grant, now) => {}
                Some(grant) => {
                    changes.push(Change::Update { held: grant.clone(), wanted: wanted.clone() });
                }
            }
        }
        let (surplus, ended): (Vec<&Grant>, Vec<&Grant>) =
            held.into_values().partition(|grant| is_live(grant, now));
        let deletions = Deletions { deleted: surplus.len(), owned };
        let obstacles = in_the_way(&changes, ended, listed);
        changes.extend(surplus.into_iter().chain(obstacles).cloned().map(Change::Delete));
        changes.sort_by(|one, other| one.key().cmp(&other.key()));
        let unreadable = listed.unreadable.iter().filter(|one| file.owned.can_include(one));
        Self { changes, unreadable: unreadable.cloned().collect(), deletions }
    }

    /// Returns the changes, ordered by principal and namespace.
    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Returns whether there is nothing to change.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns the grants that this program cannot read, on namespaces that the file owns.
    pub(crate) fn unreadable(&self) -> &[UnreadableGrant] {
        &self.unreadable
    }

    /// Returns whether the store is not like the file, or nobody knows.
    pub(crate) fn has_drift(&self) -> bool {
        !self.changes.is_empty() || !self.unreadable.is_empty()
    }

    /// Returns the deletions, if they are so many that a part of the file can be missing: all grants
    /// that the file owns, or more than a few and more than a tenth of them.
    pub(crate) fn mass_deletion(&self) -> Option<Deletions> {
        let Deletions { deleted, owned } = self.deletions;
        let all = deleted > 0 && deleted == owned;
        let many = deleted > FEW_DELETIONS && deleted.saturating_mul(PART) > owned;
        (all || many).then_some(self.deletions)
    }

    /// Returns the changes in the order of their application, which is that of their phases.
    ///
    /// So a caller whose access moves from one grant to another has it at every moment. A namespace
    /// with a new grant giver also has one at every moment.
    pub(crate) fn in_order(&self, now: i64) -> Vec<Change> {
        let mut changes = self.changes.clone();
        changes.sort_by_key(|change| change.phase(now));
        changes
    }

    /// Counts the changes.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for change in &self.changes {
            counts.add(change);
        }
        counts
    }

    /// Returns the plan as JSON.
    pub(crate) fn json(&self) -> Value {
        let Counts { create, change, delete } = self.counts();
        let changes: Vec<Value> = self.changes.iter().map(Change::json).collect();
        json!({
            "changes": changes, "create": create, "change": change, "delete": delete,
            "unreadable": unreadable_json(&self.unreadable),
            "needs_allow_deletes": self.mass_deletion().map(|deletions| deletions.deleted),
        })
    }

    /// Returns the lines of the plan, and the line with the counts.
    pub(crate) fn lines(&self, colours: bool) -> Vec<String> {
        let changes = self.changes.iter().map(|change| paint(change, colours));
        let unreadable = self
            .unreadable
            .iter()
            .map(|one| format!("? {}: this program cannot read the grant", unreadable_name(one)));
        let mut last = self.counts().to_string();
        if !self.unreadable.is_empty() {
            let _infallible = write!(last, ", {} that cannot be read", self.unreadable.len());
        }
        changes.chain(unreadable).chain([last]).collect()
    }
}

impl Counts {
    /// Counts one more change.
    pub(crate) fn add(&mut self, change: &Change) {
        let count = match change {
            Change::Create(_) => &mut self.create,
            Change::Update { .. } => &mut self.change,
            Change::Delete(_) => &mut self.delete,
        };
        *count += 1;
    }

    /// Returns the number of all changes.
    pub(crate) const fn all(self) -> usize {
        self.create + self.change + self.delete
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { create, change, delete } = self;
        write!(formatter, "{create} to create, {change} to change, {delete} to delete")
    }
}

impl Change {
    /// Returns the principal of the grant.
    pub(crate) const fn principal(&self) -> &Principal {
        match self {
            Self::Create(wanted) | Self::Update { wanted, .. } => &wanted.principal,
            Self::Delete(held) => &held.principal,
        }
    }

    /// Returns the namespace of the grant.
    pub(crate) const fn namespace(&self) -> &GrantNamespace {
        match self {
            Self::Create(wanted) | Self::Update { wanted, .. } => &wanted.namespace,
            Self::Delete(held) => &held.namespace,
        }
    }

    /// Returns why the change needs a confirmation on the command line, as `grant create` does: it
    /// gives something to a whole account or a group of AWS callers, or on every namespace.
    pub(crate) fn confirmation_reason(&self) -> Option<String> {
        match self {
            Self::Delete(_) => None,
            Self::Create(_) | Self::Update { .. } => match (self.principal(), self.namespace()) {
                (Principal::Account(account), _) => Some(format!(
                    "`{}` means all roles and users of account `{}`",
                    self.principal(),
                    account.account()
                )),
                (Principal::AwsGroup(group), _) => {
                    Some(format!("`{}` means {}", self.principal(), group.whom()))
                }
                (_, GrantNamespace::All) => {
                    Some("a grant on `*` applies to all current and future namespaces".to_owned())
                }
                _ => None,
            },
        }
    }

    /// Returns which grant changes.
    pub(crate) const fn key(&self) -> (&Principal, &GrantNamespace) {
        (self.principal(), self.namespace())
    }

    const fn sign(&self) -> char {
        match self {
            Self::Create(_) => '+',
            Self::Update { .. } => '~',
            Self::Delete(_) => '-',
        }
    }

    /// Returns the permissions and the end of the grant before the change, if there is one.
    pub(crate) fn before(&self) -> Option<(Permissions, Option<i64>)> {
        match self {
            Self::Create(_) => None,
            Self::Update { held, .. } | Self::Delete(held) => {
                Some((held.permissions, held.expires_at))
            }
        }
    }

    /// Returns the permissions and the end of the grant after the change, if there is one.
    pub(crate) fn after(&self) -> Option<(Permissions, Option<i64>)> {
        match self {
            Self::Create(wanted) | Self::Update { wanted, .. } => {
                Some((wanted.permissions, wanted.expires_at))
            }
            Self::Delete(_) => None,
        }
    }

    /// Returns whether the change takes a right to change grants, or ends it earlier.
    pub(crate) fn takes_right(&self) -> bool {
        let rights = [Permission::CreateGrant, Permission::DeleteGrant];
        let Some((old, old_end)) = self.before() else { return false };
        rights.into_iter().filter(|right| old.contains(*right)).any(|right| match self.after() {
            None => true,
            Some((new, new_end)) => !new.contains(right) || until(new_end) < until(old_end),
        })
    }

    /// Returns whether the change takes something from a grant that has not ended.
    pub(crate) fn takes(&self, now: i64) -> bool {
        self.phase(now) > Phase::Widen
    }

    fn phase(&self, now: i64) -> Phase {
        match self {
            Self::Delete(held) if !is_live(held, now) => Phase::DeleteEnded,
            Self::Create(_) => Phase::Create,
            Self::Update { held, wanted } => {
                let before = if is_live(held, now) { held.permissions } else { Permissions::NONE };
                let lacks = |some: Permissions, all: Permissions| {
                    some.iter().any(|permission| !all.contains(permission))
                };
                let (old, new) = (until(held.expires_at), until(wanted.expires_at));
                let gives = lacks(wanted.permissions, before) || new > old;
                let takes = lacks(before, wanted.permissions) || new < old;
                let gives_right = wanted.permissions.contains(Permission::CreateGrant);
                match (gives, takes) {
                    (true, false) => Phase::Widen,
                    (true, true) if gives_right => Phase::ReplaceByGiver,
                    (true, true) => Phase::Replace,
                    (false, _) if self.takes_right() => Phase::TakeRight,
                    (false, _) => Phase::Narrow,
                }
            }
            Self::Delete(_) if self.takes_right() => Phase::TakeRight,
            Self::Delete(_) => Phase::Delete,
        }
    }

    /// Returns the change as JSON: the action, and the state before and after it.
    pub(crate) fn json(&self) -> Value {
        let state = |permissions: &Permissions, end: Option<i64>| json!({ "permissions": permissions, "expires_at": end.map(rfc3339) });
        let held = |held: &Grant| state(&held.permissions, held.expires_at);
        let wanted = |wanted: &WantedGrant| state(&wanted.permissions, wanted.expires_at);
        let (action, before, after) = match self {
            Self::Create(new) => ("create", Value::Null, wanted(new)),
            Self::Update { held: old, wanted: new } => ("change", held(old), wanted(new)),
            Self::Delete(old) => ("delete", held(old), Value::Null),
        };
        json!({
            "action": action, "principal": self.principal(),
            "namespace": self.namespace().to_string(), "before": before, "after": after,
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = |permissions: Permissions, end: Option<i64>| match end {
            None => permissions.to_string(),
            Some(end) => format!("{permissions} until {}", rfc3339(end)),
        };
        write!(formatter, "{} {} on {}: ", self.sign(), self.principal(), self.namespace())?;
        match self {
            Self::Create(new) => formatter.write_str(&state(new.permissions, new.expires_at)),
            Self::Update { held: old, wanted: new } => write!(
                formatter,
                "{} -> {}",
                state(old.permissions, old.expires_at),
                state(new.permissions, new.expires_at)
            ),
            Self::Delete(old) => formatter.write_str(&state(old.permissions, old.expires_at)),
        }
    }
}

/// Returns an end as a number, with the latest one for none.
fn until(end: Option<i64>) -> i64 {
    end.unwrap_or(i64::MAX)
}

/// Returns the ended grants that are in the way of new ones: the principal has as many grants as it
/// can have, or has another name only by case.
fn in_the_way<'a>(
    changes: &[Change],
    ended: Vec<&'a Grant>,
    listed: &ListedGrants,
) -> Vec<&'a Grant> {
    let mut new: BTreeMap<&Principal, usize> = BTreeMap::new();
    for change in changes {
        if let Change::Create(wanted) = change {
            *new.entry(&wanted.principal).or_default() += 1;
        }
    }
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    let readable = listed.grants.iter().map(|grant| grant.principal.as_str());
    let unreadable = listed.unreadable.iter().map(|one| one.principal.as_str());
    for who in readable.chain(unreadable) {
        *held.entry(who).or_default() += 1;
    }
    let names: BTreeSet<String> = new.keys().map(|principal| principal.folded()).collect();
    let is_in_the_way = |grant: &&Grant| match new.get(&grant.principal) {
        Some(new) => held.get(grant.principal.as_str()).map_or(0, |held| held + new) > MAX_GRANTS,
        None => names.contains(&grant.principal.folded()),
    };
    ended.into_iter().filter(is_in_the_way).collect()
}

/// Returns who has an unreadable grant, on what, as far as the store says it.
pub(crate) fn unreadable_name(unreadable: &UnreadableGrant) -> String {
    let name = |text: &str, what: &str| match one_line(text) {
        text if text.is_empty() => format!("an unreadable {what}"),
        text => text,
    };
    let UnreadableGrant { principal, namespace } = unreadable;
    format!("{} on {}", name(principal, "principal"), name(namespace, "namespace"))
}

/// Returns unreadable grants as JSON.
pub(crate) fn unreadable_json(unreadable: &[UnreadableGrant]) -> Value {
    let one =
        |one: &UnreadableGrant| json!({ "principal": one.principal, "namespace": one.namespace });
    unreadable.iter().map(one).collect()
}

/// Returns the line of a change, in its colour if the user sees colours.
fn paint(change: &Change, colours: bool) -> String {
    if !colours {
        return change.to_string();
    }
    let colour = match change {
        Change::Create(_) => "32",
        Change::Update { .. } => "33",
        Change::Delete(_) => "31",
    };
    format!("\u{1b}[{colour}m{change}\u{1b}[0m")
}
