//! `whoami`: shows the caller's principal and grants on a registry.

use std::fmt::Write as _;

use reqwest::StatusCode;
use serde::Deserialize;
use stile_protocol::audience::Audience;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permissions;
use terraform_credentials_stile::call::{self, BrokerResponse};
use terraform_credentials_stile::config::RegistryConfig;
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
    permissions: Permissions,
    #[serde(default)]
    pub(crate) grants: Vec<HeldGrant>,
}

/// One grant of the caller.
#[derive(Debug, Deserialize)]
pub(crate) struct HeldGrant {
    principal: String,
    namespace: String,
    permissions: Permissions,
    expires_at: Option<String>,
}

/// Prints the principal and its grants.
pub(crate) fn run(context: &VerbContext, host: &Audience) -> Result<(), VerbFailure> {
    let registry = context.registry(host)?;
    let failed =
        |failure: VerbFailure| failure.context(format_args!("cannot identify you to `{host}`"));
    let known = block_on(async {
        let scope = registry.scope();
        let mut token =
            token::for_host(&registry, &scope, &context.environment, context.clock).await?;
        let mut response = request(context, &registry, &token).await?;
        if response.status == StatusCode::UNAUTHORIZED && token.cached {
            // The cached token was revoked: a new one shows the current state.
            token::forget(&registry, &scope, &context.environment)?;
            token = token::for_host(&registry, &scope, &context.environment, context.clock).await?;
            response = request(context, &registry, &token).await?;
        }
        parse(&response)
    });
    Ok(terminal::print(&render(&known.map_err(failed)?))?)
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
    Ok(call::send(client.get(url).bearer_auth(token.expose())).await?)
}

/// Parses the response.
pub(crate) fn parse(response: &BrokerResponse) -> Result<WhoamiReply, VerbFailure> {
    if !response.status.is_success() {
        let refusal = response.refusal();
        return Err(VerbFailure { message: refusal.message, hint: refusal.hint });
    }
    serde_json::from_slice(&response.body)
        .map_err(|_| VerbFailure::new(format!("cannot parse the response of `{}`", response.url)))
}

fn render(known: &WhoamiReply) -> String {
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
    for (at, grant) in known.grants.iter().enumerate() {
        let until =
            grant.expires_at.as_ref().map_or_else(String::new, |until| format!(" until {until}"));
        let by = if grant.principal == known.principal {
            String::new()
        } else {
            format!(" as {}", grant.principal)
        };
        line(
            if at == 0 { "grants" } else { "" },
            &format!("{}: {}{until}{by}", grant.namespace, grant.permissions),
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(grants: &str) -> WhoamiReply {
        let body = format!(
            r#"{{"principal":"aws:111122223333:role/deploy","expires_at":"2026-11-20T11:11:12Z","namespaces":"all",
                "permissions":["download"],"grants":{grants},"later":1}}"#
        );
        serde_json::from_str(&body).unwrap()
    }

    #[test]
    fn a_principal_without_grants_is_shown_as_such() {
        let page = render(&known("[]"));
        assert!(page.ends_with("grants       none\n"), "{page}");
    }

    #[test]
    fn every_grant_has_a_line() {
        let grants = r#"[{"principal":"aws:111122223333:role/deploy","namespace":"acme","permissions":["upload","download"],"expires_at":null},
            {"principal":"aws:111122223333:account","namespace":"tools","permissions":["download"],"expires_at":"2026-12-01T00:00:00Z"}]"#;
        insta::assert_snapshot!(render(&known(grants)), @r"
        principal    aws:111122223333:role/deploy
        expires      2026-11-20T11:11:12Z
        namespaces   all
        permissions  download
        grants       acme: download,upload
                     tools: download until 2026-12-01T00:00:00Z as aws:111122223333:account
        ");
    }
}
