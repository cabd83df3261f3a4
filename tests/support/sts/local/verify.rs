//! Finds the signer of a request, with all checks of AWS, in AWS's order and with AWS's messages.

use stile_protocol::region::Region;

use super::Seen;
use super::answers::Refusal;
use crate::sts::identity::Identity;
use crate::sts::sigv4::{ALGORITHM, Request, Scope, amz_date, parse_amz_date};

/// The largest difference between the time of a signature and the current time, in seconds.
const WINDOW: i64 = 15 * 60;

/// Returns the identity whose key signed this request, at time `now`.
///
/// The signature must be for the STS of the host's region.
pub(super) fn caller<'a>(
    seen: &Seen,
    identities: &'a [Identity],
    now: i64,
) -> Result<&'a Identity, Refusal> {
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let request =
        Request { method: &seen.method, path, query, headers: &seen.headers, body: &seen.body };
    let authorization = Authorization::parse(&request)?;
    let identity = known(&authorization, &request, identities, now)?;
    let date = in_time(&authorization, &request, now)?;
    in_place(&authorization, &request)?;
    all_signed(&authorization, seen)?;
    let canonical = request.canonical(&authorization.signed_headers).ok_or_else(mismatch)?;
    if authorization.scope.signature(&identity.secret_access_key, &date, &canonical)
        != authorization.signature
    {
        return Err(mismatch());
    }
    supported(&seen.body, query)?;
    Ok(identity)
}

struct Authorization {
    access_key_id: String,
    scope: Scope,
    signed_headers: String,
    signature: String,
}

impl Authorization {
    fn parse(request: &Request<'_>) -> Result<Self, Refusal> {
        let missing = || {
            Refusal::new(
                403,
                "MissingAuthenticationToken",
                "Request is missing Authentication Token",
            )
        };
        let header = request.header("authorization").ok_or_else(missing)?;
        let incomplete =
            || Refusal::new(400, "IncompleteSignature", "Authorization header is incomplete.");
        let fields = header
            .strip_prefix(ALGORITHM)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or_else(incomplete)?;
        let mut parts = fields.split(',').map(str::trim);
        let mut part = |name: &str| {
            parts.next().and_then(|part| part.strip_prefix(name)).ok_or_else(incomplete)
        };
        let credential = part("Credential=")?;
        let (signed_headers, signature) =
            (part("SignedHeaders=")?.to_owned(), part("Signature=")?.to_owned());
        let (access_key_id, scope) = credential.split_once('/').ok_or_else(incomplete)?;
        let scope = Scope::parse(scope).ok_or_else(incomplete)?;
        match parts.next() {
            None => Ok(Self {
                access_key_id: access_key_id.to_owned(),
                scope,
                signed_headers,
                signature,
            }),
            Some(_) => Err(incomplete()),
        }
    }
}

fn known<'a>(
    authorization: &Authorization,
    request: &Request<'_>,
    identities: &'a [Identity],
    now: i64,
) -> Result<&'a Identity, Refusal> {
    let identity = identities
        .iter()
        .find(|identity| identity.access_key_id == authorization.access_key_id)
        .filter(|identity| identity.session_token == request.header("x-amz-security-token"))
        .ok_or_else(|| {
            Refusal::new(
                403,
                "InvalidClientTokenId",
                "The security token included in the request is invalid.",
            )
        })?;
    if identity.expires_at.is_some_and(|at| at <= now) {
        return Err(Refusal::new(
            403,
            "ExpiredToken",
            "The security token included in the request is expired",
        ));
    }
    Ok(identity)
}

fn in_time(
    authorization: &Authorization,
    request: &Request<'_>,
    now: i64,
) -> Result<String, Refusal> {
    let unreadable =
        || Refusal::new(400, "IncompleteSignature", "Date must be in ISO-8601 'basic format'.");
    let date = request.header("x-amz-date").ok_or_else(unreadable)?;
    let signed = parse_amz_date(&date).ok_or_else(unreadable)?;
    if date.get(..8) != Some(&authorization.scope.date) {
        return Err(refused(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}', from '{date}'.",
            authorization.scope.date,
            &date[..8]
        )));
    }
    let (edge, here) = (amz_date(now - WINDOW), amz_date(now));
    if signed < now - WINDOW {
        return Err(refused(format!(
            "Signature expired: {date} is now earlier than {edge} ({here} - 15 min.)"
        )));
    }
    if signed > now + WINDOW {
        let edge = amz_date(now + WINDOW);
        return Err(refused(format!(
            "Signature not yet current: {date} is still later than {edge} ({here} + 15 min.)"
        )));
    }
    Ok(date)
}

/// Checks that the scope is for the region of the host.
///
/// The STS of each region has its own host, and accepts only scopes of its region.
fn in_place(authorization: &Authorization, request: &Request<'_>) -> Result<(), Refusal> {
    if authorization.scope.service != "sts" {
        return Err(refused("Credential should be scoped to correct service: 'sts'."));
    }
    let host = request.header("host");
    let region = Region::named(&authorization.scope.region);
    let ours = region.is_some_and(|region| {
        host.as_deref() == Some(region.host)
            || host.is_some() && host.as_deref() == region.fips_host
    });
    if ours { Ok(()) } else { Err(refused("Credential should be scoped to a valid region.")) }
}

/// Checks that the signature covers `host` and all headers that AWS interprets. It may cover
/// others.
fn all_signed(authorization: &Authorization, seen: &Seen) -> Result<(), Refusal> {
    let signed: Vec<_> = authorization.signed_headers.split(';').collect();
    for (name, _) in &seen.headers {
        if (name == "host" || name.starts_with("x-amz-")) && !signed.contains(&name.as_str()) {
            return Err(refused(format!(
                "'{name}' must be a 'SignedHeader' in the AWS Authorization."
            )));
        }
    }
    if signed.is_sorted() { Ok(()) } else { Err(mismatch()) }
}

fn supported(body: &[u8], query: &str) -> Result<(), Refusal> {
    let text = String::from_utf8_lossy(body);
    let has = |pair: &str| text.split('&').chain(query.split('&')).any(|given| given == pair);
    if has("Action=GetCallerIdentity") && has("Version=2011-06-15") {
        return Ok(());
    }
    Err(Refusal::new(400, "InvalidAction", "Could not find operation in version 2011-06-15"))
}

fn refused(message: impl Into<String>) -> Refusal {
    Refusal::new(403, "SignatureDoesNotMatch", message)
}

fn mismatch() -> Refusal {
    refused(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and \
         signing method. Consult the service documentation for details.",
    )
}
