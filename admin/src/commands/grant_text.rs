//! Parses and formats grants, and the flags that name a grant.

use std::fmt;

use serde_json::{Value, json};
use stile_core::clock::rfc3339;
use stile_core::grants::{Grant, GrantNamespace, never_granted};
use stile_core::principal::{Principal, UniqueId, parse_typed};
use stile_protocol::names::Permissions;
use terraform_credentials_stile::message::one_line;

use crate::error::CommandError;
use crate::expiry::{self, Expiry, ExpiryError};

/// Parses a namespace, or `*` for all namespaces.
pub(super) fn namespace(text: &str) -> Result<GrantNamespace, CommandError> {
    Ok(text.parse()?)
}

/// Parses the unique id of a role or user.
pub(super) fn unique_id(principal: &Principal, text: &str) -> Result<UniqueId, CommandError> {
    let prefix = match principal {
        Principal::Role(_) => "AROA",
        Principal::User(_) => "AIDA",
        Principal::PermissionSet(_)
        | Principal::Account(_)
        | Principal::Trust(_)
        | Principal::Service(_)
        | Principal::AwsGroup(_) => "",
    };
    let wrong = || {
        CommandError::usage(format!(
            "`{}` is not a unique id of the principal's kind: `AROA…` for a role, `AIDA…` for a user",
            one_line(text)
        ))
    };
    let id = UniqueId::parse(text).filter(|id| id.as_str().starts_with(prefix));
    id.ok_or_else(|| wrong().hint(lookup(principal)))
}

/// Parses `--expires`, if it is given.
pub(super) fn expiry(text: Option<&str>, now: i64) -> Result<Option<Expiry>, CommandError> {
    text.map(|text| expiry::parse(text, now)).transpose().map_err(|error| unusable(&error))
}

/// Parses the same as [`expiry()`], and also an end in the past.
pub(super) fn expiry_with_past(
    text: Option<&str>,
    now: i64,
) -> Result<Option<Expiry>, CommandError> {
    text.map(|text| expiry::parse_with_past(text, now))
        .transpose()
        .map_err(|error| unusable(&error))
}

fn unusable(error: &ExpiryError) -> CommandError {
    CommandError::usage(format!("`--expires`: {error}"))
}

/// Checks that a grant of the principal may have the permissions.
pub(super) fn grantable(
    principal: &Principal,
    permissions: Permissions,
) -> Result<(), CommandError> {
    match never_granted(principal, permissions) {
        None => Ok(()),
        Some(permission) => Err(CommandError::usage(format!(
            "a grant of a service never has `{permission}`, only `download` and `upload`"
        ))),
    }
}

/// Checks that a principal is one role or user, which can have a unique id.
pub(super) fn concrete(principal: &Principal) -> Result<(), CommandError> {
    if principal.has_unique_id() {
        return Ok(());
    }
    Err(CommandError::usage(format!(
        "`{principal}` is not a single role or user, so it has no unique id"
    ))
    .hint("use the ARN of one role or user"))
}

/// Returns the AWS CLI command that shows the unique id of a role or user, as a sentence.
pub(super) fn lookup(principal: &Principal) -> String {
    let name = principal.name().unwrap_or("NAME");
    match principal {
        Principal::User(_) => {
            format!("`aws iam get-user --user-name {name} --query User.UserId` shows it")
        }
        Principal::Trust(_) | Principal::Service(_) => {
            format!("`stile-admin trust show {name}` shows it")
        }
        Principal::Role(_)
        | Principal::PermissionSet(_)
        | Principal::Account(_)
        | Principal::AwsGroup(_) => {
            format!("`aws iam get-role --role-name {name} --query Role.RoleId` shows it")
        }
    }
}

/// Returns a grant as JSON.
pub(super) fn object(grant: &Grant) -> Value {
    json!({
        "principal": grant.principal, "namespace": grant.namespace.to_string(), "permissions": grant.permissions,
        "expires_at": grant.expires_at.map(rfc3339), "created_by": grant.created_by, "created_at": rfc3339(grant.created_at),
    })
}

/// Returns a grant as JSON, with the status of the command.
pub(super) fn with_status(status: &str, grant: &Grant) -> Value {
    let mut json = object(grant);
    json["status"] = status.into();
    json
}

/// Formats a grant on one line.
pub(super) struct GrantLine<'a>(pub(super) &'a Grant);

impl fmt::Display for GrantLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Grant { principal, namespace, permissions, expires_at, .. } = self.0;
        write!(formatter, "{principal} on {namespace}: {permissions}")?;
        expires_at.map_or(Ok(()), |end| write!(formatter, " until {}", rfc3339(end)))
    }
}

/// Returns the end of a grant, for people.
pub(super) fn end(grant: &Grant, now: i64) -> String {
    match grant.expires_at {
        None => "never".to_owned(),
        Some(end) if end <= now => format!("{} (expired)", rfc3339(end)),
        Some(end) => rfc3339(end),
    }
}

/// Returns permissions as flags, each with a space before it.
pub(super) fn permission_flags(permissions: Permissions) -> String {
    permissions
        .iter()
        .map(|permission| format!(" --{}", permission.as_str().replace('_', "-")))
        .collect()
}

/// Formats a grant's principal and namespace as flags, quoted for a shell.
pub(super) struct GrantFlags<'a>(pub(super) &'a Principal, pub(super) &'a GrantNamespace);

impl fmt::Display for GrantFlags<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(principal, namespace) = self;
        // Without `--exact`, the permission set would replace the ARN of its role.
        let reserved = parse_typed(&principal.display_name(), false)
            .is_ok_and(|typed| typed.principal != **principal);
        let flag = principal.flag();
        write!(
            formatter,
            "{flag} {}{}",
            principal.display_name(),
            if reserved { " --exact" } else { "" }
        )?;
        match namespace {
            GrantNamespace::All => formatter.write_str(" --namespace '*'"),
            GrantNamespace::One(namespace) => write!(formatter, " --namespace {namespace}"),
        }
    }
}
