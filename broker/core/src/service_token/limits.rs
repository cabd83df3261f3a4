//! How many service tokens a registry has, and which records of ended ones it forgets.

use stile_protocol::names::Namespace;

use super::{ServiceToken, TokenIssuer};
use crate::principal::Principal;
use crate::token::TokenId;

/// The most service tokens of a registry that have not ended. A list reads all of them.
pub const MAX_SERVICE_TOKENS: usize = 1_000;

/// How many of these only an operator may issue.
///
/// The attack: holders of `create_grant` issue tokens until an operator cannot issue one.
pub const RESERVED_FOR_OPERATORS: usize = 100;

/// The most tokens of one issuer through the API that have not ended.
///
/// The attack: a holder of `create_grant` on one namespace takes the tokens of all others.
pub const MAX_OF_ISSUER: usize = 50;

/// The most tokens through the API on one namespace that have not ended. So several issuers with
/// `create_grant` on one namespace have no more than one.
pub const MAX_ON_NAMESPACE: usize = 50;

/// How long after its end a record is kept, so that a list shows what ended, in seconds: 30 days.
const KEPT_AFTER_END: i64 = 30 * 24 * 3600;

/// The most records that one issue forgets, so that its commit has a bounded size.
const MAX_FORGOTTEN: usize = 20;

/// The reason why there are too many service tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooManyTokens {
    /// In the registry. An operator has more room than a bearer.
    #[error("the registry has the maximum number of service tokens")]
    InRegistry,
    /// Of the issuer.
    #[error("you have {MAX_OF_ISSUER} service tokens that have not ended, which is the maximum")]
    OfIssuer,
    /// On a namespace.
    #[error(
        "the namespace `{0}` has {MAX_ON_NAMESPACE} service tokens that were issued through the API \
         and have not ended, which is the maximum"
    )]
    OnNamespace(Namespace),
}

/// Checks whether there is room for a new token. `unreadable` is the number of records that this
/// program cannot read: each counts, as it may not have ended.
///
/// # Errors
///
/// [`TooManyTokens`], with the limit that the new token would exceed.
pub fn check_room<'a>(
    new: &ServiceToken,
    tokens: impl Iterator<Item = &'a ServiceToken>,
    unreadable: usize,
    now: i64,
) -> Result<(), TooManyTokens> {
    let current: Vec<_> = tokens.filter(|token| token.terms().expires_at() > now).collect();
    let all = current.len() + unreadable;
    let Some(issuer) = delegate(new) else {
        return if all < MAX_SERVICE_TOKENS { Ok(()) } else { Err(TooManyTokens::InRegistry) };
    };
    let delegated = || current.iter().filter_map(|token| Some((*token, delegate(token)?)));
    if delegated().filter(|(_, of)| *of == issuer).count() >= MAX_OF_ISSUER {
        return Err(TooManyTokens::OfIssuer);
    }
    for on in new.terms().grant_namespaces() {
        let is_on = |token: &ServiceToken| token.terms().grant_namespaces().contains(&on);
        if delegated().filter(|(token, _)| is_on(token)).count() >= MAX_ON_NAMESPACE
            && let crate::grants::GrantNamespace::One(namespace) = on
        {
            return Err(TooManyTokens::OnNamespace(namespace));
        }
    }
    if all >= MAX_SERVICE_TOKENS - RESERVED_FOR_OPERATORS {
        return Err(TooManyTokens::InRegistry);
    }
    Ok(())
}

/// Returns the tokens whose records a new token pushes out: those that ended 30 days ago, and so many
/// others that ended first that no more than [`MAX_SERVICE_TOKENS`] records remain.
///
/// The attack: tokens that end at once fill the list, which every issue reads.
pub fn forgotten<'a>(tokens: impl Iterator<Item = &'a ServiceToken>, now: i64) -> Vec<TokenId> {
    let (mut ended, mut all) = (Vec::new(), 0_usize);
    for token in tokens {
        all += 1;
        let end = token.terms().expires_at();
        if end <= now {
            ended.push((end, token.id()));
        }
    }
    ended.sort_by_key(|(end, id)| (*end, id.as_str()));
    let excess = (all + 1).saturating_sub(MAX_SERVICE_TOKENS);
    let is_old = |end: i64| end.saturating_add(KEPT_AFTER_END) <= now;
    let forgotten = ended.iter().enumerate().filter(|(n, (end, _))| *n < excess || is_old(*end));
    forgotten.take(MAX_FORGOTTEN).map(|(_, (_, id))| (*id).clone()).collect()
}

fn delegate(token: &ServiceToken) -> Option<&Principal> {
    match token.issuer() {
        TokenIssuer::Operator(_) => None,
        TokenIssuer::Delegate { principal, .. } => Some(principal),
    }
}
