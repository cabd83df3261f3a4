//! The mint: a proof in, a token out, one line a stage. Nothing before STS calls anything.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use secrecy::ExposeSecret;
use stile_protocol::exchange::{MAX_BODY, RequestDocument};
use stile_protocol::region::Region;
use stile_protocol::reply::{ErrorCode, TokenReply};

use super::error::ApiError;
use super::run_detached::run_detached;
use crate::audit;
use crate::authn::sigv4::FlightRole;
use crate::authn::sigv4::proof::Proof;
use crate::boot::Broker;
use stile_core::clock::rfc3339;
use stile_core::grants::{Entitlement, Refusal, entitle};
use stile_core::identity::{Authenticated, Identity};
use stile_core::token::Key;
use stile_store::{Recorded, SingleUseOutcome};

/// How long a client may take to send 16 KiB.
const BODY: Duration = Duration::from_secs(10);

/// `POST /v1/token`.
pub async fn mint(
    State(broker): State<Arc<Broker>>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    // Runs to its end though the caller hangs up, so that every mint is on record.
    let minted = async move {
        let mut caller = None;
        let minted = exchange(&broker, request, &mut caller).await;
        audit::exchange(
            "proof",
            caller.as_ref(),
            minted.as_ref().map_err(|error| error.code().as_str()),
        );
        minted
    };
    Ok(Json(run_detached(minted).await?.into_reply()))
}

/// A token on its way out, and what the audit log may know of it.
pub struct Minted {
    reply: TokenReply,
    /// The token's own id.
    pub token_id: String,
}

impl Minted {
    /// Everything but the token.
    pub const fn reply(&self) -> &TokenReply {
        &self.reply
    }

    /// The answer.
    pub(super) fn into_reply(self) -> TokenReply {
        self.reply
    }
}

async fn exchange(
    broker: &Broker,
    request: Request,
    identified: &mut Option<Identity>,
) -> Result<Minted, ApiError> {
    let body = read_json(request).await?;
    let now = broker.clock.now();
    let proof = Proof::parse(&body).map_err(|error| ApiError::proof(&error))?;
    proof.check_time(now).map_err(|error| ApiError::proof(&error))?;
    let region = enabled(broker, &proof.unverified_region)?;

    let _room = broker.exchanges.try_acquire().map_err(|_| overloaded())?;
    let FlightRole::Leader(leader) = broker.single_flight.join(proof.digest()).await else {
        return Err(replayed());
    };
    let Authenticated { identity: caller, single_use } = broker
        .sts
        .identify(&proof, region)
        .await
        .map_err(|error| ApiError::sts(error, &broker.audience))?;
    *identified = Some(caller.clone());

    let (entitlement, key) = entitled(broker, caller, &proof.unverified_document, now).await?;
    let principal = entitlement.caller().principal().clone();
    let pin = entitlement.pin();
    let recorded = match broker.store.record(single_use, pin, now).await.map_err(ApiError::store)? {
        SingleUseOutcome::Recorded(recorded) => recorded,
        SingleUseOutcome::Replayed => {
            leader.spent();
            return Err(replayed());
        }
        SingleUseOutcome::PinnedToAnother => {
            return Err(ApiError::refusal(Refusal::Recreated { principal }));
        }
    };
    leader.spent();
    sealed(broker, &key, &entitlement, recorded, now)
}

/// What the caller may have of what it asks for, and the key for it.
pub(super) async fn entitled(
    broker: &Broker,
    caller: Identity,
    document: &RequestDocument,
    now: i64,
) -> Result<(Entitlement, Key), ApiError> {
    let state = broker
        .store
        .principal_state(caller.principals().to_vec())
        .await
        .map_err(ApiError::store)?;
    // Keys that an operator has dropped since must not mint what nothing will open.
    broker.tokens.follow(&state.keyring, &broker.store, now).await.map_err(ApiError::key)?;
    let entitlement = entitle(caller, document, &state, now).map_err(ApiError::refusal)?;
    let key = broker.tokens.minting_key(&broker.store, now).await.map_err(ApiError::key)?;
    Ok((entitlement, key))
}

/// The token, and the answer around it.
pub(super) fn sealed(
    broker: &Broker,
    key: &Key,
    entitlement: &Entitlement,
    recorded: Recorded,
    now: i64,
) -> Result<Minted, ApiError> {
    let (token, claims) =
        broker.tokens.mint(key, entitlement, recorded, now).map_err(ApiError::key)?;
    Ok(Minted {
        token_id: claims.id().as_str().to_owned(),
        reply: TokenReply {
            token: token.expose_secret().to_owned(),
            expires_at: rfc3339(claims.expires_at()),
            principal: claims.principal().to_string(),
            namespaces: claims.namespaces().clone(),
            permissions: claims.permissions(),
        },
    })
}

/// What a caller is told when there is no room for one more exchange.
pub(super) fn overloaded() -> ApiError {
    ApiError::new(ErrorCode::Throttled, "too many exchanges are in the works")
}

fn replayed() -> ApiError {
    ApiError::new(ErrorCode::ProofReplayed, "this proof was used already")
        .hint("make a new proof for each token")
}

fn enabled(broker: &Broker, unverified_region: &str) -> Result<&'static Region, ApiError> {
    if let Some(region) = broker.region(unverified_region) {
        return Ok(region);
    }
    let enabled: Vec<_> = broker.regions.iter().map(|region| region.name).collect();
    let hint = format!("sign for one of: {}", enabled.join(", "));
    Err(match Region::named(unverified_region) {
        Some(region) => ApiError::new(
            ErrorCode::RegionNotEnabled,
            format!("region `{}` is not enabled here", region.name),
        )
        .hint(hint),
        None => ApiError::new(ErrorCode::BadRegion, "`region` is not an AWS region").hint(hint),
    })
}

/// Reads a body of JSON that is small, and sent as what it is.
pub(super) async fn read_json(request: Request) -> Result<Vec<u8>, ApiError> {
    let (parts, body) = request.into_parts();
    // Never ignored: in SECVULN-8630 an action in the URL went before the one in the body.
    if parts.uri.query().is_some() {
        return Err(ApiError::new(
            ErrorCode::InvalidRequest,
            "this route has no query: what it is asked is in the body",
        ));
    }
    if !is_plain_json(&parts.headers) {
        return Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "the body must be `application/json` without an encoding",
        ));
    }
    let collected =
        tokio::time::timeout(BODY, Limited::new(Body::new(body), MAX_BODY).collect()).await;
    match collected {
        Err(_) => Err(ApiError::new(
            ErrorCode::RequestTimeout,
            "the body did not arrive within 10 seconds",
        )),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(ApiError::new(ErrorCode::TooLarge, "the body is longer than 16 KiB"))
        }
        Ok(Err(_)) => Err(ApiError::new(ErrorCode::InvalidRequest, "the body broke off")),
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
    }
}

/// One `Content-Type` of JSON in UTF-8, and no `Content-Encoding`: nothing is ever inflated here.
fn is_plain_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return false };
    let Ok(value) = value.to_str() else { return false };
    let mut parts = value.split(';').map(str::trim);
    let json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    json && parts.all(|part| part.eq_ignore_ascii_case("charset=utf-8"))
        && !headers.contains_key(header::CONTENT_ENCODING)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_plain_json_is_read() {
        for (content_type, expected) in [
            ("text/plain", false),
            ("application/json; charset=utf-16", false),
            ("application/jsonx", false),
            ("", false),
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
            assert_eq!(is_plain_json(&headers), expected, "{content_type}");
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            assert!(!is_plain_json(&headers));
        }
        assert!(!is_plain_json(&HeaderMap::new()));
    }
}
