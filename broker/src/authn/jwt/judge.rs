//! Decides which trust would believe a JWT, before the broker reads any key.
//!
//! The claims are not verified yet. So a "yes" here only says whose keys must verify the JWT, and a
//! "no" costs no call.

use stile_core::clock::rfc3339;
use stile_core::identity::PROOF_MAX_AHEAD;
use stile_core::principal::LocalName;
use stile_core::trust::Trust;
use stile_protocol::audience::Audience;

use super::unverified::UnverifiedJwt;

/// How far the clock of an issuer may differ from the broker's, in seconds, inclusive.
const LEEWAY: i64 = 60;

/// The reason why no trust believes a JWT.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtRefusal {
    /// No trust has its issuer.
    #[error("no trust of this registry believes the issuer of the JWT")]
    UnknownIssuer,
    /// The request chooses a trust that there is not, or that has another issuer.
    #[error("the chosen trust does not believe the issuer of the JWT")]
    OtherTrust,
    /// It is for another audience.
    #[error("the JWT is for another audience")]
    OtherAudience,
    /// Its claims do not meet the conditions of any trust.
    #[error("the claims of the JWT do not meet the conditions of a trust")]
    OtherClaims,
    /// More than one trust believes it.
    #[error("more than one trust of this registry believes the JWT")]
    Ambiguous,
    /// It has expired.
    #[error("the JWT has expired")]
    Expired,
    /// It was signed longer ago than the trust allows, although it has not expired.
    #[error("the JWT was issued longer ago than its trust allows")]
    TooOld,
    /// It was signed in the future, or is not valid yet.
    #[error("the JWT is from the future")]
    FromFuture,
    /// It was signed before the store was restored from a backup.
    #[error(
        "the registry was restored from a backup, and accepts JWTs issued since {}", rfc3339(*.from)
    )]
    BeforeRestore {
        /// The earliest time of issue, in Unix seconds.
        from: i64,
    },
    /// The issuer has no key with its `kid`.
    #[error("the issuer has no key with the `kid` of the JWT")]
    UnknownKey,
    /// The issuer did not sign it.
    #[error("the signature of the JWT is not valid")]
    BadSignature,
    /// It was already used.
    #[error("this JWT was already used")]
    Replayed,
}

/// What a JWT must match, apart from a trust.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The registry.
    pub host: &'a Audience,
    /// The trust that the request chooses, if any.
    pub chosen: Option<&'a LocalName>,
    /// The earliest time of issue, if the store was restored from a backup. In Unix seconds.
    pub issued_from: Option<i64>,
    /// The time, in Unix seconds.
    pub now: i64,
}

/// Finds the one trust that would believe the JWT.
///
/// # Errors
///
/// [`JwtRefusal`], with the first reason why there is none, or more than one.
pub fn find_trust<'a>(
    trusts: &'a [Trust],
    jwt: &UnverifiedJwt,
    expected: Expected<'_>,
) -> Result<&'a Trust, JwtRefusal> {
    let Expected { host, chosen, issued_from, now } = expected;
    // Byte for byte: `https://issuer.example` and `https://issuer.example/` are two issuers, and a
    // prefix would let an attacker register `https://issuer.example.evil.org`.
    let mut found: Vec<&Trust> =
        trusts.iter().filter(|trust| trust.issuer.as_str() == jwt.unverified_issuer).collect();
    keep(&mut found, JwtRefusal::UnknownIssuer, |_| true)?;
    keep(&mut found, JwtRefusal::OtherTrust, |trust| {
        chosen.is_none_or(|name| trust.name == *name)
    })?;
    keep(&mut found, JwtRefusal::OtherAudience, |trust| is_for(jwt, trust, host))?;
    check_times(jwt, issued_from, now)?;
    keep(&mut found, JwtRefusal::TooOld, |trust| {
        let age = now.saturating_sub(jwt.unverified_issued_at);
        age <= trust.max_age.saturating_add(LEEWAY)
    })?;
    keep(&mut found, JwtRefusal::OtherClaims, |trust| {
        trust.unmet(&jwt.unverified_claims).is_none()
    })?;
    match found[..] {
        [trust] => Ok(trust),
        _ => Err(JwtRefusal::Ambiguous),
    }
}

/// Keeps the trusts that meet the condition. It is an error if none does.
fn keep(
    found: &mut Vec<&Trust>,
    otherwise: JwtRefusal,
    meets: impl Fn(&Trust) -> bool,
) -> Result<(), JwtRefusal> {
    found.retain(|trust| meets(trust));
    if found.is_empty() { Err(otherwise) } else { Ok(()) }
}

/// Returns whether every audience of the JWT is the trust's, or this registry.
///
/// With another audience next to it, the other service could use the JWT here.
fn is_for(jwt: &UnverifiedJwt, trust: &Trust, host: &Audience) -> bool {
    jwt.unverified_audiences.iter().all(|audience| match &trust.audience {
        Some(own) => audience == own,
        None => is_registry(audience, host),
    })
}

/// Returns whether the text is the host, or its URL without a path.
pub fn is_registry(text: &str, host: &Audience) -> bool {
    text.strip_prefix("https://").unwrap_or(text) == host.as_str()
}

fn check_times(jwt: &UnverifiedJwt, from: Option<i64>, now: i64) -> Result<(), JwtRefusal> {
    let starts = jwt.unverified_not_before.unwrap_or(i64::MIN).max(jwt.unverified_issued_at);
    if starts > now.saturating_add(LEEWAY) {
        return Err(JwtRefusal::FromFuture);
    }
    if now > jwt.unverified_expires_at.saturating_add(LEEWAY) {
        return Err(JwtRefusal::Expired);
    }
    // A JWT that was used after the backup has no record.
    match from.filter(|from| jwt.unverified_issued_at < *from) {
        Some(from) => Err(JwtRefusal::BeforeRestore { from }),
        None => Ok(()),
    }
}

/// Returns the time until which some trust could believe the JWT, in Unix seconds. An operator can
/// raise the age that a trust allows.
pub fn last_use(jwt: &UnverifiedJwt) -> i64 {
    let oldest = jwt.unverified_issued_at.saturating_add(stile_core::trust::LONGEST_MAX_AGE);
    oldest.min(jwt.unverified_expires_at).saturating_add(LEEWAY)
}

/// The clock of an issuer may be no further ahead than that of a signer of a proof. Otherwise a JWT
/// that was used after a backup would pass for one that was issued after the restore.
const _: () = assert!(LEEWAY <= PROOF_MAX_AHEAD);
