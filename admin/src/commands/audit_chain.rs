//! The chain and the keys that a command line names.

use stile_core::audit::{Chain, HeadKey};
use stile_protocol::audience::Audience;
use stile_protocol::names::Namespace;
use stile_store::Store;

use crate::error::CommandError;

/// The seconds of a day.
pub(super) const DAY: i64 = 24 * 3600;

/// Parses the chain of a namespace, or `*`.
pub(super) fn chain(text: &str) -> Result<Chain, CommandError> {
    match text {
        "*" => Ok(Chain::Operator),
        text => Ok(Chain::Namespace(Namespace::parse(text)?)),
    }
}

/// Parses the earlier keys, and adds the present one.
pub(super) async fn trusted(store: &Store, given: &[String]) -> Result<Vec<HeadKey>, CommandError> {
    let parse = |text: &String| {
        HeadKey::parse(text).ok_or_else(|| {
            CommandError::usage(format!("`--public-key {text}` is not a public key"))
                .hint("give `algorithm`, a colon, and `public_key` of a head of `audit head`")
        })
    };
    let mut keys = given.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    keys.extend(store.audit_key().await?);
    Ok(keys)
}

/// Returns the registry whose heads count: that of the store, or else the named one. An empty name is
/// none.
pub(super) async fn registry(
    store: &Store,
    named: Option<&str>,
) -> Result<Option<Audience>, CommandError> {
    if let Some(host) = store.host().await? {
        return Ok(Some(host));
    }
    let named = named.filter(|named| !named.is_empty());
    let parse = |named| {
        Audience::parse(named).map_err(|error| CommandError::usage(format!("`--host`: {error}")))
    };
    named.map(parse).transpose()
}
