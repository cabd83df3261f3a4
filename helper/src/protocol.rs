//! Terraform's credentials helper protocol: `get`, `store`, `forget`.
//!
//! Terraform runs `get` for every host. For a host that is not a Stile registry, `get` reads only
//! two small files: it starts no async runtime, reads no AWS configuration and opens no socket.

use std::io::Read as _;

use stile_protocol::strict_json::StrictObject;
use terraform_credentials_stile::config::{self, Config, RegistryConfig};
use terraform_credentials_stile::{cache, token};

use crate::stored::{self, StoredTokens};
use crate::verb::{VerbContext, VerbFailure, block_on};
use crate::{notice, terminal};

/// Largest input that `store` reads, in bytes.
const MAX_STDIN: u64 = 64 * 1024;

/// Longest token that `store` accepts, in bytes. Servers reject a longer header.
const MAX_TOKEN: usize = 4096;

/// Prints a JSON object with the token of a host, or an empty object if there is none.
pub(crate) fn get(context: &VerbContext, host: &str) -> Result<(), VerbFailure> {
    let failed = |failure: VerbFailure| {
        failure.context(format_args!("no token for `{}`", stored::printable(host)))
    };
    let config = context.load_config().map_err(failed)?;
    let product = match find_registry(&config, host) {
        Some(registry) => {
            let (token, notices) = registry_token(context, registry).map_err(failed)?;
            notice::show_daily(&context.environment, &notices, context.clock.now());
            token_json(&token)
        }
        None => stored::host_key(host)
            .and_then(|key| StoredTokens::of(context)?.token(&key))
            .map_or_else(|| "{}\n".to_owned(), |token| token_json(&token)),
    };
    Ok(terminal::print(&product)?)
}

/// Stores a token that `terraform login` got from another host.
pub(crate) fn store(context: &VerbContext, host: &str) -> Result<(), VerbFailure> {
    if find_registry(&context.load_config()?, host).is_some() {
        return Err(VerbFailure::new(format!(
            "`{}` is a Stile registry, whose tokens come from AWS credentials; there is nothing to store",
            stored::printable(host)
        )));
    }
    let key = stored::host_key(host).ok_or_else(|| {
        VerbFailure::new(format!("`{}` is not a host name", stored::printable(host)))
    })?;
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(MAX_STDIN + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_STDIN {
        return Err(VerbFailure::new(format!("stdin: the input is longer than {MAX_STDIN} bytes")));
    }
    let token = read_credentials(&bytes)?;
    StoredTokens::of(context).ok_or_else(no_data_folder)?.store(&key, &token)
}

/// Deletes the stored and the cached tokens of a host. It succeeds if there are none.
pub(crate) fn forget(context: &VerbContext, host: &str) -> Result<(), VerbFailure> {
    let key = stored::host_key(host).ok_or_else(|| {
        VerbFailure::new(format!("`{}` is not a host name", stored::printable(host)))
    })?;
    if let Some(registry) = find_registry(&context.load_config()?, host) {
        cache::forget(registry.host.as_str(), &context.environment)?;
    }
    StoredTokens::of(context).ok_or_else(no_data_folder)?.remove(&key)
}

fn find_registry<'a>(config: &'a Config, host: &str) -> Option<&'a RegistryConfig> {
    config.registry(&config::parse_host(host).ok()?)
}

/// Returns a token, and the notices that came with it if it is new.
fn registry_token(
    context: &VerbContext,
    registry: &RegistryConfig,
) -> Result<(String, Vec<String>), VerbFailure> {
    let registry = context.with_flags(registry);
    let scope = registry.scope();
    let now = context.clock.now();
    if let Some(token) = token::cached_and_checked(&registry, &scope, &context.environment, now) {
        return Ok((token.expose().to_owned(), Vec::new()));
    }
    let token = block_on(async {
        Ok(token::for_terraform(&registry, &scope, &context.environment, context.clock).await?)
    })?;
    if let Some(notice) = token.clock_notice() {
        terminal::note(&notice);
    }
    if let Some(notice) = token.lifetime_notice() {
        terminal::note(&notice);
    }
    Ok((token.expose().to_owned(), token.notices))
}

fn token_json(token: &str) -> String {
    format!("{}\n", serde_json::json!({ "token": token }))
}

/// Parses `{"token": "…"}`. As the protocol requires, it rejects properties that it cannot store.
fn read_credentials(bytes: &[u8]) -> Result<String, VerbFailure> {
    let wrong = |error: stile_protocol::strict_json::FieldError| {
        VerbFailure::new(format!("stdin: {error}"))
    };
    let mut object = StrictObject::parse(bytes).map_err(wrong)?;
    let token = object.string("token").map_err(wrong)?;
    object.finish().map_err(wrong)?;
    if token.len() > MAX_TOKEN {
        return Err(VerbFailure::new(format!("stdin: `token` is longer than {MAX_TOKEN} bytes")));
    }
    if token.is_empty() || token.chars().any(char::is_control) {
        return Err(VerbFailure::new("stdin: `token` must be one line of text"));
    }
    Ok(token)
}

fn no_data_folder() -> VerbFailure {
    VerbFailure::new("cannot find the folder for stored tokens").hint("set `HOME`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_that_cannot_be_returned_unchanged_is_rejected() {
        for input in [
            "",
            "garbage",
            "{}",
            "null",
            "[]",
            "{\"token\":7}",
            "{\"token\":\"\"}",
            "{\"token\":\"sekret\\n\"}",
            "{\"token\":\"sekret\",\"expires\":\"never\"}",
            "{\"token\":\"sekret\"} x",
            "{\"token\":\"sekret\",\"token\":\"sekret\"}",
        ] {
            let failure = read_credentials(input.as_bytes()).unwrap_err().to_string();
            assert!(
                failure.starts_with("stdin: ") && !failure.contains("sekret"),
                "{input}: {failure}"
            );
        }
        assert_eq!(read_credentials(b"{\"token\":\"sekret\"}").unwrap(), "sekret");
    }
}
