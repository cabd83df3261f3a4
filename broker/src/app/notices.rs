//! What a caller should know when it gets a token: a grant that ends soon, and a deprecated or
//! unpublished version that it fetched lately.

use super::broker::Broker;
use stile_core::clock::rfc3339;
use stile_core::grants::{
    Download, EndingGrant, Entitlement, PrincipalState, decide, ending_grants,
};
use stile_core::principal::Principal;
use stile_core::token::Claims;
use stile_core::usage::{DeprecatedDownload, day, start_of};

/// How many days a download of a deprecated version is worth a notice.
pub(super) const LATELY: i64 = 30;

/// The most grants that end soon and have a notice.
const MAX_ENDING: usize = 3;

/// Returns the notices for the holder of a new token, one sentence each.
///
/// A token does not depend on them: what the store cannot tell has no notice.
pub async fn notices(
    broker: &Broker,
    claims: &Claims,
    entitlement: &Entitlement,
    state: &PrincipalState,
    fetched: Option<DeprecatedDownload>,
    now: i64,
) -> Vec<String> {
    let ending = ending_grants(entitlement, state, now);
    let mut notices: Vec<String> =
        ending.iter().take(MAX_ENDING).map(|grant| ending_soon(grant, now)).collect();
    if let Some(fetched) = fetched {
        notices.extend(deprecated(broker, claims, state, &fetched, now).await);
    }
    notices
}

/// Returns the sentence about a grant of the caller that ends soon.
pub(super) fn ending_soon(grant: &EndingGrant, now: i64) -> String {
    let EndingGrant { namespace, permissions, expires_at } = grant;
    let when = when(*expires_at, now);
    format!("your grant of `{permissions}` on namespace `{namespace}` ends {when}")
}

/// Returns the sentence about a service token that ends soon, or whose grant does.
pub(super) fn service_ending_soon(service: &Principal, grant: &EndingGrant, now: i64) -> String {
    let EndingGrant { namespace, permissions, expires_at } = grant;
    let when = when(*expires_at, now);
    format!(
        "the access of `{service}` to namespace `{namespace}` with `{permissions}` ends {when}; \
         hint: ask for a new service token"
    )
}

/// Returns when something ends, for people.
fn when(expires_at: i64, now: i64) -> String {
    let when = match day(expires_at).saturating_sub(day(now)) {
        0 => "today".to_owned(),
        1 => "tomorrow".to_owned(),
        days => format!("in {days} days"),
    };
    format!("{when}, at {}", rfc3339(expires_at))
}

/// Returns the notice for a download of a version, if the version is still deprecated or unpublished,
/// and the caller may still read it.
async fn deprecated(
    broker: &Broker,
    claims: &Claims,
    state: &PrincipalState,
    fetched: &DeprecatedDownload,
    now: i64,
) -> Option<String> {
    if fetched.day < day(now).saturating_sub(LATELY) {
        return None;
    }
    let access = decide::<Download>(claims, state, fetched.address.namespace(), now).ok()?;
    let access = access.package(&fetched.address);
    let details = broker.store.version_details(&access, &fetched.version).await.ok()??;
    let (step, state) = match (details.life.unpublished, details.life.deprecated) {
        (Some(step), _) => (step, "unpublished"),
        (None, step) => (step?, "deprecated"),
    };
    let fetched_on = rfc3339(start_of(fetched.day));
    Some(format!(
        "`{}` {}, which you fetched on {}, is {state}: {}",
        fetched.address,
        fetched.version,
        fetched_on.split('T').next().unwrap_or_default(),
        step.explanation.sentence()
    ))
}
