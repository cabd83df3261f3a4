//! `whoami`: shows the caller's principal and grants on a registry.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use serde::Deserialize;
use stile_protocol::audience::Audience;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Permission, Permissions};
use terraform_credentials_stile::call::{self, BrokerResponse};
use terraform_credentials_stile::config::{RegistryConfig, TokenScope};
use terraform_credentials_stile::message::one_line;
use terraform_credentials_stile::token::{self, Token};

use crate::terminal;
use crate::verb::{VerbContext, VerbFailure, block_on};

/// The response body of `GET /v1/whoami`.
#[derive(Debug, Deserialize)]
pub(crate) struct WhoamiReply {
    pub(crate) principal: String,
    expires_at: String,
    namespaces: Namespaces,
    pub(crate) permissions: Permissions,
    #[serde(default)]
    pub(crate) grants: Vec<HeldGrant>,
}

/// One grant of the caller.
#[derive(Debug, Deserialize)]
pub(crate) struct HeldGrant {
    principal: String,
    pub(crate) namespace: String,
    permissions: Permissions,
    expires_at: Option<String>,
}

impl WhoamiReply {
    /// Adds what a token of other permissions shows.
    pub(crate) fn merge(&mut self, other: Self) {
        self.permissions = self.permissions.union(other.permissions);
        for grant in other.grants {
            match self.grants.iter_mut().find(|held| held.is_part_of(&grant)) {
                Some(held) => held.permissions = held.permissions.union(grant.permissions),
                None => self.grants.push(grant),
            }
        }
    }

    /// Describes each grant in one line.
    pub(crate) fn grant_lines(&self, now: DateTime<Utc>) -> Vec<String> {
        self.grants.iter().map(|grant| grant.describe(&self.principal, now)).collect()
    }
}

impl HeldGrant {
    /// Tells whether both are the same grant, of which each token shows a part.
    fn is_part_of(&self, other: &Self) -> bool {
        self.principal == other.principal
            && self.namespace == other.namespace
            && self.expires_at == other.expires_at
    }

    fn describe(&self, caller: &str, now: DateTime<Utc>) -> String {
        let until = self.expires_at.as_ref().map_or_else(String::new, |end| {
            let ended = end.parse::<DateTime<Utc>>().is_ok_and(|end| end <= now);
            format!("{} {end}", if ended { ", expired at" } else { " until" })
        });
        let by = if self.principal == caller {
            String::new()
        } else {
            format!(" as {}", self.principal)
        };
        one_line(&format!("{}: {}{until}{by}", self.namespace, self.permissions))
    }
}

/// What the registry says about a caller that asks for each permission on its own.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The caller and all grants that the tokens show. `None` without any token.
    pub(crate) known: Option<WhoamiReply>,
    /// The permissions that the registry could not decide on, each with the failure.
    pub(crate) undecided: Vec<(Permission, VerbFailure)>,
}

/// Prints the principal and its grants.
pub(crate) fn run(context: &VerbContext, host: &Audience) -> Result<(), VerbFailure> {
    let registry = context.registry(host)?;
    let failed =
        |failure: VerbFailure| failure.context(format_args!("cannot identify you to `{host}`"));
    let known = block_on(async {
        let scope = registry.scope();
        let first = token::for_host(&registry, &scope, &context.environment, context.clock).await;
        let mut token = match first {
            Err(refused) if refused.is_no_grant() => {
                let tried = survey(context, &registry, others(registry.permissions)).await;
                return tried.known.ok_or_else(|| refused.into());
            }
            token => token?,
        };
        let mut response = request(context, &registry, &token).await?;
        if response.status == StatusCode::UNAUTHORIZED && token.cached {
            // The cached token was revoked: a new one shows the current state.
            token::forget(&registry, &scope, &context.environment)?;
            token = token::for_host(&registry, &scope, &context.environment, context.clock).await?;
            response = request(context, &registry, &token).await?;
        }
        parse(&response)
    });
    Ok(terminal::print(&render(&known.map_err(failed)?, context.clock.now()))?)
}

/// Returns the permissions to ask for one by one after the registry refused a token for these.
///
/// Without a grant for one of several permissions, the caller may have a grant for another.
pub(crate) fn others(refused: Permissions) -> Permissions {
    if refused.iter().count() == 1 { all_without(refused) } else { all_without(Permissions::NONE) }
}

/// Returns all permissions but these.
pub(crate) fn all_without(permissions: Permissions) -> Permissions {
    Permission::ALL.into_iter().filter(|permission| !permissions.contains(*permission)).collect()
}

/// Asks for one token for each permission, and merges what the registry says about them.
///
/// A token shows only grants for its own permissions. For a permission without a grant, the registry
/// issues none. So no token shows all grants of every caller. The cache keeps none of these tokens.
/// A job with fixed JWTs asks for none, because each token would use up a JWT.
pub(crate) async fn survey(
    context: &VerbContext,
    registry: &RegistryConfig,
    permissions: Permissions,
) -> Survey {
    let mut survey = Survey::default();
    if !token::mints_freely(registry) {
        return survey;
    }
    for permission in permissions.iter() {
        let permissions = Permissions::NONE.with(permission);
        let scope = TokenScope { permissions, ..registry.scope() };
        let token = token::mint(registry, &scope, &context.environment, context.clock).await;
        let known = match token {
            Ok(token) => identify(context, registry, &token).await,
            Err(refused) if refused.is_no_grant() => continue,
            Err(error) => Err(error.into()),
        };
        match (known, &mut survey.known) {
            (Ok(known), Some(merged)) => merged.merge(known),
            (Ok(known), first) => *first = Some(known),
            (Err(failure), _) => survey.undecided.push((permission, failure)),
        }
    }
    survey
}

/// Returns what the registry says about a token.
pub(crate) async fn identify(
    context: &VerbContext,
    registry: &RegistryConfig,
    token: &Token,
) -> Result<WhoamiReply, VerbFailure> {
    parse(&request(context, registry, token).await?)
}

/// Requests `/v1/whoami` with a token.
pub(crate) async fn request(
    context: &VerbContext,
    registry: &RegistryConfig,
    token: &Token,
) -> Result<BrokerResponse, VerbFailure> {
    let client = call::client(&registry.url, &context.environment)?;
    let url =
        registry.url_for("/v1/whoami").map_err(|error| VerbFailure::new(error.to_string()))?;
    let request = client.get(url).bearer_auth(token.expose());
    Ok(call::send(request, &context.environment).await?)
}

/// Parses the response.
pub(crate) fn parse(response: &BrokerResponse) -> Result<WhoamiReply, VerbFailure> {
    if !response.status.is_success() {
        let refusal = response.refusal();
        return Err(VerbFailure { message: refusal.message_with_id(), hint: refusal.hint });
    }
    serde_json::from_slice(&response.body)
        .map_err(|_| VerbFailure::new(format!("cannot parse the response of `{}`", response.url)))
}

fn render(known: &WhoamiReply, now: DateTime<Utc>) -> String {
    let mut page = String::new();
    let mut line = |name: &str, value: &str| {
        let _infallible = writeln!(page, "{name:<12} {}", one_line(value));
    };
    line("principal", &known.principal);
    line("expires", &known.expires_at);
    line("namespaces", &known.namespaces.to_string());
    line("permissions", &known.permissions.to_string());
    if known.grants.is_empty() {
        line("grants", "none");
    }
    for (at, grant) in known.grant_lines(now).iter().enumerate() {
        line(if at == 0 { "grants" } else { "" }, grant);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(permissions: &str, grants: &str) -> WhoamiReply {
        let body = format!(
            r#"{{"principal":"aws:111122223333:role/deploy","expires_at":"2026-11-20T11:11:12Z","namespaces":"all",
                "permissions":{permissions},"grants":{grants},"later":1}}"#
        );
        serde_json::from_str(&body).unwrap()
    }

    fn page(known: &WhoamiReply) -> String {
        render(known, "2026-11-20T10:11:12Z".parse().unwrap())
    }

    #[test]
    fn a_principal_without_grants_is_shown_as_such() {
        let page = page(&known(r#"["download"]"#, "[]"));
        assert!(page.ends_with("grants       none\n"), "{page}");
    }

    #[test]
    fn every_grant_has_a_line() {
        let grants = r#"[{"principal":"aws:111122223333:role/deploy","namespace":"acme","permissions":["upload","download"],"expires_at":null},
            {"principal":"aws:111122223333:account","namespace":"tools","permissions":["download"],"expires_at":"2026-12-01T00:00:00Z"},
            {"principal":"aws:111122223333:role/deploy","namespace":"old","permissions":["download"],"expires_at":"2026-11-20T10:11:12Z"}]"#;
        insta::assert_snapshot!(page(&known(r#"["download"]"#, grants)), @r"
        principal    aws:111122223333:role/deploy
        expires      2026-11-20T11:11:12Z
        namespaces   all
        permissions  download
        grants       acme: download,upload
                     tools: download until 2026-12-01T00:00:00Z as aws:111122223333:account
                     old: download, expired at 2026-11-20T10:11:12Z
        ");
    }

    #[test]
    fn grants_that_several_tokens_show_are_merged_by_principal_namespace_and_end() {
        let grant = |namespace: &str, permission: &str, end: &str| {
            format!(
                r#"{{"principal":"aws:111122223333:role/deploy","namespace":"{namespace}","permissions":["{permission}"],"expires_at":{end}}}"#
            )
        };
        let mut merged =
            known(r#"["download"]"#, &format!("[{}]", grant("acme", "download", "null")));
        let other =
            [grant("acme", "upload", "null"), grant("acme", "upload", r#""2027-01-01T00:00:00Z""#)];
        merged.merge(known(r#"["upload"]"#, &format!("[{}]", other.join(","))));
        insta::assert_snapshot!(page(&merged), @r"
        principal    aws:111122223333:role/deploy
        expires      2026-11-20T11:11:12Z
        namespaces   all
        permissions  download,upload
        grants       acme: download,upload
                     acme: upload until 2027-01-01T00:00:00Z
        ");
    }

    #[test]
    fn after_a_refusal_of_several_permissions_each_is_tried() {
        let set = |list: &[Permission]| list.iter().copied().collect::<Permissions>();
        let download = Permission::Download;
        assert_eq!(others(set(&[download])), set(&Permission::ALL).without(download));
        assert_eq!(others(set(&[download, Permission::Upload])), set(&Permission::ALL));
    }
}
