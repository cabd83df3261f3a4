//! `get-token`: prints a new token for tools that do not support credentials helpers.

use stile_protocol::audience::Audience;
use stile_protocol::exchange::{MAX_NAMESPACES, Namespaces};
use terraform_credentials_stile::config::{Proof, RegistryConfig, TokenScope};
use terraform_credentials_stile::shell::{
    quoted_for_fish, quoted_for_posix, quoted_for_powershell,
};
use terraform_credentials_stile::token;

use crate::cli::{GetToken, TokenFormat};
use crate::verb::{VerbContext, VerbFailure, block_on};
use crate::{terminal, terraform};

/// Prints a new token. On failure it prints nothing to stdout.
pub(crate) fn run(context: &VerbContext, wanted: &GetToken) -> Result<(), VerbFailure> {
    let host = &wanted.registry_host;
    // Check that the token can be printed in this format before requesting one.
    render(wanted.form, host, "", "")?;
    let failed = |failure: VerbFailure| failure.context(format_args!("no token for `{host}`"));
    let mut registry = find_registry(context, host).map_err(failed)?;
    if let Some(service) = wanted.service {
        registry.service = service;
    }
    wanted.proof.apply_to(&mut registry).map_err(VerbFailure::new).map_err(failed)?;
    if wanted.time.is_some() && registry.proof != Proof::Sigv4 {
        let problem =
            "`--time` needs `proof = \"sigv4\"`: for a JWT, the registry decides the lifetime";
        return Err(failed(VerbFailure::new(problem)));
    }
    let scope = scope(&registry, wanted)?;
    let token = block_on(async {
        Ok(token::mint(&registry, &scope, &context.environment, context.clock).await?)
    })
    .map_err(failed)?;
    if let Some(notice) = token.clock_notice() {
        terminal::note(&notice);
    }
    if let Some(notice) = token.lifetime_notice() {
        terminal::note(&notice);
    }
    if let Some(notice) = token.scope_notice() {
        terminal::note(&notice);
    }
    token.notices.iter().for_each(|notice| terminal::note(notice));
    if wanted.form == TokenFormat::Github {
        terminal::mask_in_github_logs(token.expose());
    }
    if wanted.form == TokenFormat::Config
        && terraform::own_block(&context.environment).is_some()
        && context.registry(host).is_ok()
    {
        terminal::note(&format!(
            "the helper already provides tokens for `{host}`; if you add this block to the same CLI configuration, Terraform ignores the helper"
        ));
    }
    let product = render(wanted.form, host, token.expose(), &token.expiry_text())?;
    Ok(terminal::print(&product)?)
}

/// Returns the configured registry, or default settings: the user named the host explicitly.
fn find_registry(context: &VerbContext, host: &Audience) -> Result<RegistryConfig, VerbFailure> {
    match context.load_config()?.registry(host) {
        Some(registry) => Ok(context.with_flags(registry)),
        None => {
            Ok(context.with_flags(&RegistryConfig::new(host.clone()).map_err(VerbFailure::new)?))
        }
    }
}

/// Renders a token in the requested format.
///
/// # Errors
///
/// A host with a port has no variable.
fn render(
    form: TokenFormat,
    host: &Audience,
    token: &str,
    expires_at: &str,
) -> Result<String, VerbFailure> {
    Ok(match form {
        TokenFormat::Token => format!("{token}\n"),
        TokenFormat::Config => format!("credentials \"{host}\" {{\n  token = \"{token}\"\n}}\n"),
        TokenFormat::Json => {
            format!("{}\n", serde_json::json!({ "token": token, "expires_at": expires_at }))
        }
        TokenFormat::Env => {
            format!("export {}={}\n", token_variable(host)?, quoted_for_posix(token))
        }
        TokenFormat::Fish => {
            format!("set -gx {} {}\n", token_variable(host)?, quoted_for_fish(token))
        }
        TokenFormat::Powershell => {
            format!("$env:{} = {}\n", token_variable(host)?, quoted_for_powershell(token))
        }
        // GitHub takes the rest of the line as it is.
        TokenFormat::Github => format!("{}={token}\n", token_variable(host)?),
    })
}

/// Returns the variable in which Terraform looks for a host's token: `.` becomes `_`, `-` becomes `__`.
fn token_variable(host: &Audience) -> Result<String, VerbFailure> {
    if host.port().is_some() {
        let problem = format!("`{host}` has a port, which a shell variable name cannot contain");
        return Err(VerbFailure::new(problem)
            .hint("use `get-token config`, and add its block to the CLI configuration"));
    }
    Ok(format!("TF_TOKEN_{}", host.as_str().replace('-', "__").replace('.', "_")))
}

fn scope(registry: &RegistryConfig, wanted: &GetToken) -> Result<TokenScope, VerbFailure> {
    let mut scope = registry.scope();
    if let Some(ttl) = wanted.time {
        scope.ttl = ttl;
    }
    if !wanted.permission.is_empty() {
        scope.permissions = wanted.permission.iter().copied().collect();
    }
    if !wanted.namespace.is_empty() {
        let mut list = wanted.namespace.clone();
        list.sort();
        list.dedup();
        if list.len() > MAX_NAMESPACES {
            return Err(VerbFailure::new(format!(
                "a token can name at most {MAX_NAMESPACES} namespaces"
            )));
        }
        scope.namespaces = Namespaces::List(list);
    }
    Ok(scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_a_port_has_no_token_variable() {
        let host = Audience::parse("127.0.0.1:8443").unwrap();
        for (form, works) in [
            (TokenFormat::Env, false),
            (TokenFormat::Fish, false),
            (TokenFormat::Powershell, false),
            (TokenFormat::Github, false),
            (TokenFormat::Token, true),
            (TokenFormat::Config, true),
            (TokenFormat::Json, true),
        ] {
            let rendered = render(form, &host, "x", "y");
            assert_eq!(rendered.is_ok(), works, "{form:?}");
            if let Err(failure) = rendered {
                assert!(failure.to_string().contains("`get-token config`"), "{failure}");
            }
        }
    }

    #[test]
    fn the_token_variable_is_named_as_terraform_expects() {
        for (host, expected) in [
            ("registry.example.com", "TF_TOKEN_registry_example_com"),
            ("my-registry.example.com:443", "TF_TOKEN_my__registry_example_com"),
            ("café.fr", "TF_TOKEN_xn____caf__dma_fr"),
            ("127.0.0.1", "TF_TOKEN_127_0_0_1"),
        ] {
            assert_eq!(
                token_variable(&Audience::parse(host).unwrap()).unwrap(),
                expected,
                "{host}"
            );
        }
    }
}
