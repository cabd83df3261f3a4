//! `store check`: finds trusts that cannot be read, and grants whose trust is gone.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stile_core::principal::Principal;

use super::{Context, OpenStore};
use crate::error::CommandError;
use crate::progress::spinning;

/// A fault of a trust.
#[derive(Debug)]
pub(super) enum TrustFault {
    /// This program cannot read it. `None` if it cannot read the name, either.
    Unreadable(Option<String>),
    /// Grants name it, and it does not exist.
    Gone(String),
}

/// Finds the faults of trusts.
pub(super) async fn find(
    OpenStore { store, operator }: &OpenStore,
) -> Result<Vec<TrustFault>, CommandError> {
    let looking = async {
        let unreadable = store.unreadable_trusts(operator).await?;
        let trusts = store.trusts().await?;
        let grants = store.grants(operator, None, None).await?;
        let known: BTreeSet<String> = trusts
            .iter()
            .map(|trust| trust.name.to_string())
            .chain(unreadable.iter().flatten().map(ToString::to_string))
            .collect();
        let granted: BTreeSet<String> = grants
            .iter()
            .filter_map(|grant| match &grant.principal {
                Principal::Trust(local) => Some(local.name().to_owned()),
                _ => None,
            })
            .collect();
        let gone = granted.difference(&known).cloned().map(TrustFault::Gone);
        let unreadable = unreadable.into_iter().map(|name| name.map(|name| name.to_string()));
        Ok(unreadable.map(TrustFault::Unreadable).chain(gone).collect())
    };
    spinning("looking for trusts", Box::pin(looking)).await
}

/// Prints the faults, for people.
pub(super) fn print(context: &Context, faults: &[TrustFault]) -> Result<(), CommandError> {
    if faults.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = faults.iter().map(row).collect();
    context.output.rows("faults of trusts", &["trust", "fault"], &rows, &Value::Null)
}

fn row(fault: &TrustFault) -> Vec<String> {
    let (name, fault) = match fault {
        TrustFault::Unreadable(name) => (name.clone(), "cannot be read, and believes nothing"),
        TrustFault::Gone(name) => (Some(name.clone()), "is gone, and has grants"),
    };
    vec![name.unwrap_or_else(|| "-".to_owned()), fault.to_owned()]
}

/// Returns a fault as JSON.
pub(super) fn object(fault: &TrustFault) -> Value {
    match fault {
        TrustFault::Unreadable(name) => json!({ "kind": "unreadable_trust", "trust": name }),
        TrustFault::Gone(name) => json!({ "kind": "grants_without_trust", "trust": name }),
    }
}
