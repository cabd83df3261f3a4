//! One event a decision: who, what, and how it was decided. No token, key, signature or link is ever in one.

use crate::app::mint::Minted;
use stile_core::clock::rfc3339;
use stile_core::grants::{Access, Right};
use stile_core::identity::Identity;
use stile_core::principal::UniqueId;

/// What an exchange came to, and whether a `proof` or a `gateway` told who called; `Err` has the code of the refusal.
pub fn exchange(by: &str, caller: Option<&Identity>, outcome: Result<&Minted, &str>) {
    let principal = caller.map(|caller| caller.principal().as_str());
    let session = caller.and_then(Identity::session);
    let unique_id = caller.and_then(|caller| caller.unique_id()).map(UniqueId::as_str);
    match outcome {
        Ok(minted) => {
            let claims = &minted.claims;
            tracing::info!(
                target: "audit", event = "exchange", by, decision = "minted", principal, session, unique_id, token_id = claims.id().as_str(),
                namespaces = %claims.namespaces(), permissions = %claims.permissions(), expires_at = rfc3339(claims.expires_at()),
            );
        }
        Err(code) => {
            tracing::info!(target: "audit", event = "exchange", by, decision = "refused", code, principal, session, unique_id)
        }
    }
}

/// A package was handed out or changed.
pub fn package<R: Right>(event: &str, access: &Access<R>, what: &str, outcome: &str) {
    tracing::info!(
        target: "audit", event, decision = outcome, principal = access.principal().as_str(), namespace = access.namespace().as_str(),
        permission = access.permission().as_str(), package = what,
    );
}
