//! The token that all calls of a job share, if its JWTs are fixed: a registry accepts each once.

use std::borrow::Cow;

use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permissions;

use super::{Token, TokenError, TokenRequest};
use crate::call;
use crate::clock::Clock;
use crate::config::{Environment, RegistryConfig, TokenScope};
use crate::id_token::{self, FixedIdTokens, IdTokens};

/// Returns the scope to request: that of the registry's table, if its token also covers this call.
pub(super) fn scope<'a>(registry: &RegistryConfig, scope: &'a TokenScope) -> Cow<'a, TokenScope> {
    if is_subset(scope.permissions, registry.permissions) && id_token::is_fixed(registry) {
        Cow::Owned(registry.scope())
    } else {
        Cow::Borrowed(scope)
    }
}

/// Mints a token for a user or another tool.
///
/// The shared token may have more permissions than requested, and then the result says so. It never
/// stands for a token of some namespaces: who names them limits the harm of a leak.
pub(super) async fn mint(
    registry: &RegistryConfig,
    wanted: &TokenScope,
    environment: &Environment,
    clock: Clock,
) -> Result<Token, TokenError> {
    let table = registry.scope();
    let is_equal = wanted.namespaces == table.namespaces && wanted.permissions == table.permissions;
    let is_covered =
        wanted.namespaces == Namespaces::All && is_subset(wanted.permissions, table.permissions);
    if is_equal || is_covered && !has_one_to_spare(registry, environment, clock).await? {
        let mut token = super::for_host(registry, &table, environment, clock).await?;
        token.more_than_asked = (!is_equal).then_some(table.permissions);
        return Ok(token);
    }
    TokenRequest::new(registry, wanted, environment, clock).mint().await
}

/// Tells whether the job has a JWT that its shared token does not need.
async fn has_one_to_spare(
    registry: &RegistryConfig,
    environment: &Environment,
    clock: Clock,
) -> Result<bool, TokenError> {
    let IdTokens::Fixed(tokens) = IdTokens::find(registry)? else { return Ok(true) };
    let shared = super::cached(registry, &registry.scope(), environment, clock).await?;
    let (host, timeout) = (&registry.host, call::timeout(environment) * 3 / 2);
    let fixed = FixedIdTokens::locked(host, tokens, environment, clock.now(), timeout);
    Ok(fixed.unused().len() > usize::from(shared.is_none()))
}

fn is_subset(permissions: Permissions, of: Permissions) -> bool {
    permissions.union(of) == of
}
