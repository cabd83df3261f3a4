//! The difference between a file of grants and the grants of a store: the changes that make the
//! store like the file, and their order.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};
use stile_core::clock::rfc3339;
use stile_core::grants::{Grant, GrantNamespace};
use stile_core::principal::Principal;
use stile_protocol::names::Permissions;

use super::model::{GrantFile, WantedGrant, is_live};

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

impl Plan {
    /// Compares a file with the grants of a store.
    ///
    /// A grant that has ended allows nothing. If the file does not have it, it stays: the store
    /// removes it later.
    pub(crate) fn between(file: &GrantFile, held: &[Grant], now: i64) -> Self {
        let mut held: BTreeMap<_, _> = held
            .iter()
            .filter(|grant| file.owned.includes(&grant.namespace))
            .map(|grant| ((&grant.principal, &grant.namespace), grant))
            .collect();
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
        let surplus = held.into_values().filter(|grant| is_live(grant, now));
        changes.extend(surplus.cloned().map(Change::Delete));
        changes.sort_by(|one, other| one.key().cmp(&other.key()));
        Self { changes }
    }

    /// Returns the changes, ordered by principal and namespace.
    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Returns whether there is nothing to change.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns the changes in the order of their application: create, widen, replace, narrow, delete.
    ///
    /// So a caller whose access moves from one grant to another has it at every moment.
    pub(crate) fn in_order(&self, now: i64) -> Vec<&Change> {
        let mut changes: Vec<&Change> = self.changes.iter().collect();
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
        json!({ "changes": changes, "create": create, "change": change, "delete": delete })
    }

    /// Returns the lines of the plan, and the line with the counts.
    pub(crate) fn lines(&self, colours: bool) -> Vec<String> {
        let changes = self.changes.iter().map(|change| paint(change, colours));
        changes.chain([self.counts().to_string()]).collect()
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
    /// gives something to a whole account, or on every namespace.
    pub(crate) fn confirmation_reason(&self) -> Option<String> {
        match self {
            Self::Delete(_) => None,
            Self::Create(_) | Self::Update { .. } => match (self.principal(), self.namespace()) {
                (Principal::Account(account), _) => Some(format!(
                    "`{}` means all roles and users of account `{}`",
                    self.principal(),
                    account.account()
                )),
                (_, GrantNamespace::All) => {
                    Some("a grant on `*` applies to all current and future namespaces".to_owned())
                }
                _ => None,
            },
        }
    }

    /// Returns whether both change the same grant.
    pub(crate) fn same_grant(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    const fn key(&self) -> (&Principal, &GrantNamespace) {
        (self.principal(), self.namespace())
    }

    const fn sign(&self) -> char {
        match self {
            Self::Create(_) => '+',
            Self::Update { .. } => '~',
            Self::Delete(_) => '-',
        }
    }

    fn phase(&self, now: i64) -> u8 {
        match self {
            Self::Create(_) => 0,
            Self::Update { held, wanted } => {
                let before = if is_live(held, now) { held.permissions } else { Permissions::NONE };
                let lacks = |some: Permissions, all: Permissions| {
                    some.iter().any(|permission| !all.contains(permission))
                };
                let end = |end: Option<i64>| end.unwrap_or(i64::MAX);
                let (old, new) = (end(held.expires_at), end(wanted.expires_at));
                let gives = lacks(wanted.permissions, before) || new > old;
                let takes = lacks(before, wanted.permissions) || new < old;
                match (gives, takes) {
                    (true, false) => 1,
                    (true, true) => 2,
                    (false, _) => 3,
                }
            }
            Self::Delete(_) => 4,
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
