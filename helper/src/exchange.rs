//! Exchanges a proof for a token. If the clocks differ, it signs once more with the broker's time.
//!
//! It never signs for a time that a wrong time zone cannot explain.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use stile_protocol::exchange::RequestDocument;
use stile_protocol::region::Region;
use stile_protocol::reply::{ErrorCode, TokenReply};

use crate::bearer;
use crate::call::{self, BrokerResponse, CallError, Refusal};
use crate::clock::{self, Clock};
use crate::config::{Environment, RegistryConfig, Service, TokenScope};
use crate::credentials::LoadedCredentials;
use crate::iam_exchange;
use crate::proof::{ProofError, ProofSigner, SigningError};

/// Largest clock skew for which the helper signs with the broker's time.
///
/// It covers a clock that is set to another time zone, from UTC−12 to UTC+14. The response is not
/// trusted: without a limit, an attacker who impersonates the registry once could collect proofs that
/// become valid months later.
const MAX_SKEW: TimeDelta = TimeDelta::hours(26);

/// Largest difference from the requested lifetime that a slow response can explain.
const LIFETIME_MARGIN: TimeDelta = TimeDelta::seconds(10);

/// The same for a response without a date. This clock may be 2 minutes ahead of the broker's.
const LIFETIME_MARGIN_WITHOUT_DATE: TimeDelta = TimeDelta::minutes(3);

/// The result of an exchange.
#[derive(Debug)]
pub struct ExchangedToken {
    /// The body of the response.
    pub reply: TokenReply,
    /// When the token expires, by the broker's clock.
    pub expires_at: DateTime<Utc>,
    /// How far the broker's clock is ahead of this one, if the helper had to correct for it.
    pub skew: Option<TimeDelta>,
    /// Whether the registry issued a shorter lifetime than requested.
    pub shortened: bool,
}

/// Why an exchange gave no token.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The region table has no such region.
    #[error("this version of the helper does not know the AWS region `{0}`")]
    UnknownRegion(String),
    /// The operating system returned no random bytes.
    #[error("cannot get random bytes from the operating system")]
    NoRandomBytes,
    /// The proof could not be signed.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The request for `execute-api` or `lambda` could not be signed.
    #[error("cannot sign the request")]
    Signing(#[source] SigningError),
    /// The broker's time differs by more than 26 hours.
    #[error(
        "this computer's clock is {} the registry's, and the helper corrects at most {} h",
        clock::describe_skew(*.0),
        MAX_SKEW.num_hours()
    )]
    ClockTooFarOff(TimeDelta),
    /// The call got no response.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The broker rejects the request.
    #[error("{}", .0.message_with_id())]
    Refused(Refusal),
    /// The broker, or a proxy in front of it, is unavailable.
    #[error("the registry is unavailable: {}", .0.sentence())]
    Unavailable(Refusal),
    /// The response does not contain a valid token.
    #[error("the response of `{0}` does not contain a valid token")]
    InvalidReply(reqwest::Url),
}

impl ExchangeError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownRegion(_) => Some("set `region` in the helper's `config.toml` to a region that the registry accepts".to_owned()),
            Self::Proof(ProofError::NoFipsHost(_)) => Some("set `region` in the helper's `config.toml` to a US region".to_owned()),
            Self::ClockTooFarOff(_) => {
                Some("set this computer's clock; if it is correct, the registry's clock is wrong, or the response is not from the registry".to_owned())
            }
            Self::Call(error) => error.hint().map(str::to_owned),
            Self::Unavailable(refusal) if refusal.is_of_gateway() => Some("try again; if it stays, run `doctor`, and send its output to the registry's operator".to_owned()),
            Self::Refused(refusal) | Self::Unavailable(refusal) => refusal.hint.clone(),
            Self::InvalidReply(_) => Some("check that `url` in the helper's `config.toml` is the address of a Stile registry".to_owned()),
            Self::NoRandomBytes | Self::Proof(ProofError::Signing(_)) | Self::Signing(_) => None,
        }
    }
}

/// Exchanges AWS credentials for a token.
pub async fn exchange(
    client: &Client,
    registry: &RegistryConfig,
    loaded: &LoadedCredentials,
    scope: &TokenScope,
    clock: Clock,
    environment: &Environment,
) -> Result<ExchangedToken, ExchangeError> {
    let deadline = tokio::time::Instant::now() + call::timeout(environment);
    let whole = async {
        let signed_at = clock.now();
        let request =
            async |now| request_token(client, registry, loaded, scope, now, environment).await;
        let response = request(signed_at).await?;
        let Some(server_time) = time_of_clock_error(&response) else { return Ok((response, None)) };
        let skew = server_time - signed_at;
        if skew.abs() > MAX_SKEW {
            return Err(ExchangeError::ClockTooFarOff(skew));
        }
        let response = request(server_time).await?;
        Ok((response, Some(skew)))
    };
    let (response, skew) = tokio::time::timeout_at(deadline, whole)
        .await
        .map_err(|_| CallError::TimedOut(registry.url.clone()))??;
    let (reply, expires_at) = parse_reply(&response)?;
    // After a correction, the date may be a gateway's. The earlier time never gives a false notice.
    let broker_time = response.date.filter(|_| skew.is_none());
    let own_time = clock.now() + skew.unwrap_or_default().min(TimeDelta::zero());
    let shortened = is_shortened(scope.ttl, expires_at, broker_time, own_time);
    Ok(ExchangedToken { reply, expires_at, skew, shortened })
}

/// Tells whether a token expires earlier than requested, by the broker's clock if that is known.
fn is_shortened(
    requested_seconds: i64,
    expires_at: DateTime<Utc>,
    broker_time: Option<DateTime<Utc>>,
    own_time: DateTime<Utc>,
) -> bool {
    let (issued_at, margin) = match broker_time {
        Some(broker_time) => (broker_time, LIFETIME_MARGIN),
        None => (own_time, LIFETIME_MARGIN_WITHOUT_DATE),
    };
    let lifetime = expires_at.signed_duration_since(issued_at);
    lifetime.num_seconds() + margin.num_seconds() < requested_seconds
}

async fn request_token(
    client: &Client,
    registry: &RegistryConfig,
    loaded: &LoadedCredentials,
    scope: &TokenScope,
    now: DateTime<Utc>,
    environment: &Environment,
) -> Result<BrokerResponse, ExchangeError> {
    if registry.service != Service::Sts {
        let signed =
            iam_exchange::sign(registry, loaded, scope, now).map_err(ExchangeError::Signing)?;
        let request = client.get(signed.url).headers(signed.headers);
        return Ok(call::send(request, environment).await?);
    }
    let region = Region::named(&loaded.region)
        .ok_or_else(|| ExchangeError::UnknownRegion(loaded.region.clone()))?;
    // Each document has a new nonce, so that no two proofs are equal.
    let document = RequestDocument::new(scope.ttl, scope.namespaces.clone(), scope.permissions)
        .map_err(|_| ExchangeError::NoRandomBytes)?
        .to_bytes();
    let signer = ProofSigner {
        credentials: &loaded.credentials,
        region,
        fips: loaded.fips,
        audience: &registry.host,
    };
    let proof = signer.prove(&document, now)?;
    let url = registry
        .url_for("/v1/token")
        .map_err(|_| ExchangeError::InvalidReply(registry.url.clone()))?;
    let body = serde_json::to_vec(&proof).map_err(|_| ExchangeError::InvalidReply(url.clone()))?;
    let request = client.post(url).header(CONTENT_TYPE, "application/json").body(body);
    Ok(call::send(request, environment).await?)
}

/// Returns the broker's time if the broker rejected the proof because of its time.
fn time_of_clock_error(response: &BrokerResponse) -> Option<DateTime<Utc>> {
    if response.status.is_success() {
        return None;
    }
    let refusal = response.refusal();
    let code = refusal.code?;
    let clocks = [ErrorCode::ProofExpired.as_str(), ErrorCode::ProofFromFuture.as_str()];
    if clocks.contains(&code.as_str()) { refusal.server_time } else { None }
}

fn parse_reply(response: &BrokerResponse) -> Result<(TokenReply, DateTime<Utc>), ExchangeError> {
    if response.status.is_server_error() || response.status.as_u16() == 429 {
        return Err(ExchangeError::Unavailable(response.refusal()));
    }
    if !response.status.is_success() {
        return Err(ExchangeError::Refused(response.refusal()));
    }
    let unreadable = || ExchangeError::InvalidReply(response.url.clone());
    let reply: TokenReply = serde_json::from_slice(&response.body).map_err(|_| unreadable())?;
    if !bearer::is_usable(&reply.token) {
        return Err(unreadable());
    }
    let expires_at =
        DateTime::parse_from_rfc3339(&reply.expires_at).map_err(|_| unreadable())?.to_utc();
    Ok((reply, expires_at))
}

#[cfg(test)]
mod tests {
    use reqwest::{StatusCode, Url};

    use super::*;
    use crate::bearer::MAX_TOKEN;

    fn response(status: u16, body: &str) -> BrokerResponse {
        let url = Url::parse("https://registry.example.com/v1/token").unwrap();
        BrokerResponse {
            url,
            status: StatusCode::from_u16(status).unwrap(),
            date: None,
            body: body.as_bytes().to_vec(),
        }
    }

    fn token_reply(token: &str, expires_at: &str) -> String {
        serde_json::json!({ "token": token, "expires_at": expires_at, "principal": "aws:111122223333:role/deploy",
            "namespaces": "all", "permissions": ["download"] })
        .to_string()
    }

    #[test]
    fn an_unusable_token_is_rejected_and_not_printed() {
        let long = "a".repeat(MAX_TOKEN + 1);
        for token in ["", "a b", "a\nb", "a\"b", "a$b", "é", &long] {
            let error = parse_reply(&response(200, &token_reply(token, "2026-11-20T11:11:12Z")))
                .unwrap_err();
            assert_eq!(
                error.to_string(),
                "the response of `https://registry.example.com/v1/token` does not contain a valid token"
            );
        }
        for body in ["", "{}", "[]", "<html>", &token_reply("a", "tomorrow")] {
            assert!(
                matches!(parse_reply(&response(200, body)), Err(ExchangeError::InvalidReply(_))),
                "{body}"
            );
        }
    }

    #[test]
    fn a_rejection_and_an_outage_are_different_errors() {
        let body = r#"{"error":"x","message":"a sentence","server_time":"2026-11-20T10:11:12Z"}"#;
        for (status, expected) in [
            (400, "a sentence"),
            (401, "a sentence"),
            (403, "a sentence"),
            (429, "the registry is unavailable: a sentence"),
            (502, "the registry is unavailable: a sentence"),
            (503, "the registry is unavailable: a sentence"),
        ] {
            assert_eq!(
                parse_reply(&response(status, body)).unwrap_err().to_string(),
                expected,
                "{status}"
            );
        }
    }

    #[test]
    fn only_a_clock_error_leads_to_a_second_proof() {
        for (code, expected) in [
            ("proof_replayed", false),
            ("expired_credentials", false),
            ("no_grant", false),
            ("proof_expired", true),
            ("proof_from_future", true),
        ] {
            let body = format!(
                r#"{{"error":"{code}","message":"m","server_time":"2026-11-20T10:11:12Z"}}"#
            );
            assert_eq!(time_of_clock_error(&response(401, &body)).is_some(), expected, "{code}");
        }
        let without_time = r#"{"error":"proof_expired","message":"m","server_time":"soon"}"#;
        assert_eq!(time_of_clock_error(&response(401, without_time)), None);
    }

    #[test]
    fn a_lifetime_is_compared_by_the_clock_of_the_broker_if_that_is_known() {
        let own_time: DateTime<Utc> = "2026-11-20T10:00:00Z".parse().unwrap();
        // Requested seconds, issued seconds, and how far the broker's clock is ahead.
        for (requested, issued, ahead, with_date, without_date) in [
            (7200, 3600, 0, true, true),
            (3600, 60, 0, true, true),
            (3600, 3500, 240, true, false),
            (3600, 3600, -115, false, false),
            (3600, 3600, 290, false, false),
            (3600, 3591, 0, false, false),
            (60, 60, 0, false, false),
        ] {
            let broker_time = own_time + TimeDelta::seconds(ahead);
            let expires_at = broker_time + TimeDelta::seconds(issued);
            let shortened = |date| is_shortened(requested, expires_at, date, own_time);
            let case = format!("{requested} s, {issued} s, {ahead} s");
            assert_eq!(shortened(Some(broker_time)), with_date, "{case}");
            assert_eq!(shortened(None), without_date, "{case}");
        }
    }

    #[test]
    fn a_valid_reply_gives_the_token_and_its_expiry() {
        let (reply, expires_at) = parse_reply(&response(
            200,
            &token_reply("stile_v4.local.a-_B", "2026-11-20T11:11:12Z"),
        ))
        .unwrap();
        assert_eq!(reply.token, "stile_v4.local.a-_B");
        assert_eq!(expires_at.timestamp(), 1_795_173_072);
    }
}
