//! Writes grants as a file that has exactly these grants.

use std::fmt::Write as _;

use serde_json::{Value, json};
use stile_core::clock::rfc3339;
use stile_core::grants::Grant;
use stile_core::principal::{Principal, parse_typed};

use super::model::{ALL, Owned, is_live};

/// Returns the file as TOML, with a comment on what it owns. It has no grants that have ended.
pub(crate) fn to_toml(owned: &Owned, grants: &[Grant], now: i64) -> String {
    let grants_on = match owned {
        Owned::All => "every grant",
        Owned::These(_) => "the grants on these namespaces",
    };
    let mut file =
        format!("# This file owns {grants_on}: `grant apply` deletes each one that is not here.\n");
    let _infallible = write!(file, "version = 1\nowns = {}\n", owns(owned));
    let grants = sorted(grants, now);
    if grants.is_empty() {
        file.push_str("grant = []\n");
    }
    for grant in grants {
        let permissions: Vec<String> =
            grant.permissions.iter().map(|permission| quoted(permission.as_str())).collect();
        let _infallible = write!(
            file,
            "\n[[grant]]\nprincipal = {}\nnamespace = {}\npermissions = [{}]\n",
            quoted(&name(&grant.principal)),
            quoted(&grant.namespace.to_string()),
            permissions.join(", "),
        );
        if let Some(end) = grant.expires_at {
            let _infallible = writeln!(file, "expires = {}", quoted(&rfc3339(end)));
        }
    }
    file
}

/// Returns the file as JSON. It has no grants that have ended.
pub(crate) fn to_json(owned: &Owned, grants: &[Grant], now: i64) -> Value {
    let grants = sorted(grants, now).into_iter().map(|grant| {
        let mut json = json!({
            "principal": name(&grant.principal),
            "namespace": grant.namespace.to_string(),
            "permissions": grant.permissions,
        });
        if let Some(end) = grant.expires_at {
            json["expires"] = rfc3339(end).into();
        }
        json
    });
    json!({ "version": 1, "owns": owns(owned), "grant": grants.collect::<Vec<_>>() })
}

fn owns(owned: &Owned) -> Value {
    match owned {
        Owned::All => ALL.into(),
        Owned::These(these) => these.iter().map(|one| Value::from(one.to_string())).collect(),
    }
}

fn sorted(grants: &[Grant], now: i64) -> Vec<&Grant> {
    let mut grants: Vec<&Grant> = grants.iter().filter(|grant| is_live(grant, now)).collect();
    grants.sort_by(|one, other| {
        (&one.principal, &one.namespace).cmp(&(&other.principal, &other.namespace))
    });
    grants
}

/// Returns the principal as people write it. It is the ARN, unless the ARN would be refused.
fn name(principal: &Principal) -> String {
    let arn = principal.display_name();
    match parse_typed(&arn, false) {
        Ok(typed) if typed.principal == *principal => arn,
        _ => principal.to_string(),
    }
}

/// Quotes a text. Every text of JSON is one of TOML.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
