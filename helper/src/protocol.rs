//! Terraform's credentials helper protocol: `get`, `store`, `forget`.
//!
//! `get` is asked for every host, so for one that is no Stile registry it answers from two small files:
//! no runtime, no AWS configuration, no socket.

use std::io::Read as _;

use stile_protocol::audience::Audience;
use stile_protocol::strict_json::StrictObject;
use terraform_credentials_stile::config::{Config, RegistryConfig};
use terraform_credentials_stile::{cache, token};

use crate::stored::{self, StoredTokens};
use crate::terminal;
use crate::verb::{VerbContext, VerbFailure, block_on};

/// Longest object that `store` reads, in bytes.
const MAX_STDIN: u64 = 64 * 1024;

/// Longest token that is kept, in bytes; a longer one would not go through as a header.
const MAX_TOKEN: usize = 4096;

/// Prints one JSON object: the token, or nothing in it where there is none to have.
pub(crate) fn get(context: &VerbContext, host: &str) -> Result<(), VerbFailure> {
    let failed = |failure: VerbFailure| {
        failure.context(format_args!("no token for `{}`", stored::printable(host)))
    };
    let config = context.load_config().map_err(failed)?;
    let product = match find_registry(&config, host) {
        Some(registry) => token_json(&registry_token(context, registry).map_err(failed)?),
        None => stored::host_key(host)
            .and_then(|key| StoredTokens::of(context)?.token(&key))
            .map_or_else(|| "{}\n".to_owned(), |token| token_json(&token)),
    };
    Ok(terminal::print(&product)?)
}

/// Keeps a token that `terraform login` got from somebody else.
pub(crate) fn store(context: &VerbContext, host: &str) -> Result<(), VerbFailure> {
    if find_registry(&context.load_config()?, host).is_some() {
        return Err(VerbFailure::new(format!(
            "the token for `{}` comes from AWS; nothing to store",
            stored::printable(host)
        )));
    }
    let key = stored::host_key(host).ok_or_else(|| {
        VerbFailure::new(format!("`{}` is not a host name", stored::printable(host)))
    })?;
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(MAX_STDIN + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_STDIN {
        return Err(VerbFailure::new(format!(
            "standard input: it is too long, and {MAX_STDIN} bytes are the most"
        )));
    }
    let token = read_credentials(&bytes)?;
    StoredTokens::of(context).ok_or_else(no_data_folder)?.store(&key, &token)
}

/// Drops what is kept for a host, whether it was stored or came from AWS; nothing kept is no failure.
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
    config.registry(&Audience::parse(host).ok()?)
}

fn registry_token(context: &VerbContext, registry: &RegistryConfig) -> Result<String, VerbFailure> {
    let registry = context.with_flags(registry);
    let scope = registry.scope();
    if let Some(token) = token::cached(&registry, &scope, &context.environment, context.clock.now())
    {
        return Ok(token.expose().to_owned());
    }
    let token = block_on(async {
        Ok(token::for_host(&registry, &scope, &context.environment, context.clock).await?)
    })?;
    if let Some(notice) = token.clock_notice() {
        terminal::note(&notice);
    }
    Ok(token.expose().to_owned())
}

fn token_json(token: &str) -> String {
    format!("{}\n", serde_json::json!({ "token": token }))
}

/// Reads `{"token": "…"}`; a property that could not be given back is refused, as the protocol demands.
fn read_credentials(bytes: &[u8]) -> Result<String, VerbFailure> {
    let wrong = |error: stile_protocol::strict_json::FieldError| {
        VerbFailure::new(format!("standard input: {error}"))
    };
    let mut object = StrictObject::parse(bytes).map_err(wrong)?;
    let token = object.string("token").map_err(wrong)?;
    object.finish().map_err(wrong)?;
    if token.len() > MAX_TOKEN {
        return Err(VerbFailure::new(format!(
            "standard input: `token` is too long, and {MAX_TOKEN} bytes are the most"
        )));
    }
    if token.is_empty() || token.chars().any(char::is_control) {
        return Err(VerbFailure::new("standard input: `token` must be one line of text"));
    }
    Ok(token)
}

fn no_data_folder() -> VerbFailure {
    VerbFailure::new("there is no folder to keep tokens in").hint("set `HOME`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_given_back_is_not_taken() {
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
                failure.starts_with("standard input: ") && !failure.contains("sekret"),
                "{input}: {failure}"
            );
        }
        assert_eq!(read_credentials(b"{\"token\":\"sekret\"}").unwrap(), "sekret");
    }
}
