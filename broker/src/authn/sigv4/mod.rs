//! Authenticates the signer of a proof: rebuilds the signed request, sends it to STS, and reads the
//! answer.
//!
//! `request` rebuilds the request from the values of the proof. `endpoint` selects where the broker
//! sends it. `answer` parses the answer. `single_flight` lets only one of several identical proofs
//! reach STS. `slots` shares the requests among callers.

mod answer;
mod endpoint;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub mod proof;
mod request;
mod single_flight;
mod slots;

use std::error::Error;
use std::ops::RangeInclusive;
use std::time::Duration;

use stile_protocol::audience::Audience;
use stile_protocol::region::Region;
use stile_store::{CallResult, Service, ServiceCalls};
use tokio::time::{Instant, timeout, timeout_at};

pub use answer::AnswerError;
pub use endpoint::{Endpoint, EndpointError, Endpoints};
pub use single_flight::{FlightRole, Leader, SingleFlight};
pub use slots::SourceNetwork;

use answer::Outcome;
use proof::Proof;
use slots::Slots;
use stile_core::identity::{Authenticated, Identity, SingleUse};

/// The longest accepted answer, in bytes, so that an endless answer cannot fill the memory.
const MAX_ANSWER: usize = 64 * 1024;

/// The time for which the store keeps a used proof after its signature, in seconds.
///
/// AWS accepts a signature for the same time.
const KEEP_USED_PROOF: i64 = 15 * 60;

/// The allowed timeouts for STS, in seconds.
pub const STS_TIMEOUT: RangeInclusive<u64> = 1..=600;

/// The operation of STS that the broker calls.
const OPERATION: &str = "GetCallerIdentity";

/// Time limits of a request to STS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StsTimeouts {
    /// The limit for opening a connection.
    pub connect: Duration,
    /// The limit for waiting until the request may begin, because others are in progress.
    pub queue: Duration,
    /// The limit for everything: the wait, and the request with both attempts.
    pub total: Duration,
}

impl StsTimeouts {
    /// Returns limits with which the broker waits for STS no longer than `total`.
    pub fn within(total: Duration) -> Self {
        Self { connect: total / 3, queue: total / 3, total }
    }
}

impl Default for StsTimeouts {
    fn default() -> Self {
        Self::within(Duration::from_secs(3))
    }
}

/// The reason why STS does not vouch for a proof.
#[derive(Debug, thiserror::Error)]
pub enum StsError {
    /// STS refused the request, or the answer is not valid.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// Too many requests to STS in this region are in progress.
    #[error("too many exchanges are waiting for STS in this region")]
    Busy,
    /// The broker cannot connect to STS, or STS is overloaded.
    #[error("the broker cannot reach STS")]
    Unavailable(#[source] Option<reqwest::Error>),
    /// The server has no valid certificate for the name of STS.
    #[error("the server at the STS endpoint does not have a valid certificate")]
    NotSts(#[source] reqwest::Error),
    /// STS did not answer within the time limit.
    #[error("STS did not answer in time")]
    Timeout,
}

impl StsError {
    /// Returns how the call ended.
    fn result(&self) -> CallResult {
        match self {
            Self::Answer(AnswerError::Malformed(_) | AnswerError::Inconsistent(_))
            | Self::NotSts(_) => CallResult::Failed,
            // STS vouched for a caller of a kind that the broker does not support.
            Self::Answer(AnswerError::Unsupported(_)) => CallResult::Ok,
            Self::Answer(_) => CallResult::Refused,
            Self::Busy | Self::Unavailable(None) => CallResult::Busy,
            Self::Unavailable(Some(_)) => CallResult::Unreachable,
            Self::Timeout => CallResult::Timeout,
        }
    }
}

/// A client of STS, for the regions that the operator enabled.
#[derive(Debug)]
pub struct Sts {
    audience: Audience,
    fips: bool,
    http: reqwest::Client,
    endpoints: Endpoints,
    slots: Slots,
    timeouts: StsTimeouts,
    calls: ServiceCalls,
}

impl Sts {
    /// Creates a client for this audience.
    ///
    /// The client follows no redirect and uses no proxy from the environment. Either could let
    /// another server decide who a caller is.
    pub fn new(
        audience: Audience,
        fips: bool,
        regions: &[&'static Region],
        endpoints: Endpoints,
        timeouts: StsTimeouts,
        calls: ServiceCalls,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.total)
            .build()?;
        let slots = Slots::new(regions.iter().map(|region| region.name));
        Ok(Self { audience, fips, http, endpoints, slots, timeouts, calls })
    }

    /// Asks STS in the region who signed the proof. It waits for its turn first.
    pub async fn identify(
        &self,
        proof: &Proof,
        region: &'static Region,
        source: Option<SourceNetwork>,
    ) -> Result<Authenticated, StsError> {
        let key = &proof.unverified_access_key_id;
        let deadline = Instant::now() + self.timeouts.total;
        let slot = timeout(self.timeouts.queue, self.slots.take(region.name, key, source)).await;
        let _slot = slot.ok().flatten().ok_or(StsError::Busy)?;
        let began = Instant::now();
        let answered = timeout_at(deadline, self.ask_twice(proof, region)).await;
        let answered = answered.unwrap_or(Err(StsError::Timeout));
        self.count(&answered, began.elapsed());
        let identity = answered.inspect_err(|error| {
            if let StsError::Answer(
                AnswerError::SignatureMismatch | AnswerError::InvalidCredentials,
            ) = error
            {
                self.slots.failed(key, source);
            }
        })?;
        let single_use = SingleUse::Record {
            digest: proof.signature_digest(),
            named: None,
            keep_until: proof.unverified_signed_at.saturating_add(KEEP_USED_PROOF),
        };
        Ok(Authenticated { identity, single_use })
    }

    /// Remembers that the signer of this proof got a token, so that strangers cannot keep it away.
    pub fn minted(&self, proof: &Proof) {
        self.slots.minted(&proof.unverified_access_key_id);
    }

    /// Checks that STS in the region answers. The request has no proof, and any answer is good.
    pub async fn health_check(&self, region: &'static Region) -> Result<(), StsError> {
        let url = self.endpoints.url(region, self.fips).ok_or(StsError::Unavailable(None))?;
        self.http.get(url).send().await.map(|_| ()).map_err(classify)
    }

    /// Counts a request with both attempts, and writes a line about it to the log.
    fn count(&self, answered: &Result<Identity, StsError>, took: Duration) {
        let result = answered.as_ref().err().map_or(CallResult::Ok, StsError::result);
        tracing::debug!(
            service = Service::Sts.as_str(),
            operation = OPERATION,
            result = result.as_str(),
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "called AWS"
        );
        self.calls.record(Service::Sts, OPERATION, result, took);
    }

    /// Sends the request, and sends it once more if STS is overloaded or unreachable.
    async fn ask_twice(
        &self,
        proof: &Proof,
        region: &'static Region,
    ) -> Result<Identity, StsError> {
        match self.ask(proof, region).await {
            Ok(Outcome::Overloaded) | Err(StsError::Unavailable(_)) => {}
            Ok(Outcome::Identity(caller)) => return Ok(*caller),
            Err(error) => return Err(error),
        }
        match self.ask(proof, region).await? {
            Outcome::Identity(caller) => Ok(*caller),
            Outcome::Overloaded => Err(StsError::Unavailable(None)),
        }
    }

    async fn ask(&self, proof: &Proof, region: &'static Region) -> Result<Outcome, StsError> {
        let (url, host) = self
            .endpoints
            .url(region, self.fips)
            .zip(region.host(self.fips))
            .ok_or(StsError::Unavailable(None))?;
        let request = request::reconstruct(proof, region, host, &self.audience);
        let mut response = self
            .http
            .post(url)
            .headers(request.headers)
            .body(request.body)
            .send()
            .await
            .map_err(classify)?;
        let status = response.status().as_u16();
        let content_type = response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| classify_body(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(AnswerError::Malformed("it is larger than 64 KiB").into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(answer::read(status, &content_type, &body, region.partition)?)
    }
}

fn classify(error: reqwest::Error) -> StsError {
    if error.is_timeout() && !error.is_connect() {
        return StsError::Timeout;
    }
    if is_of_tls(&error) { StsError::NotSts(error) } else { StsError::Unavailable(Some(error)) }
}

/// Returns whether the cause is TLS and not the network: an invalid certificate, or no TLS at all.
fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.is::<rustls::Error>() {
            return true;
        }
        // `source` of an I/O error skips the error inside it, so get that one first. I/O errors can
        // be nested.
        let within = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = within.map(|inner| inner as &(dyn Error + 'static)).or_else(|| cause.source());
    }
    false
}

/// Classifies an error while reading the body. A server whose answer breaks off is not STS.
fn classify_body(error: &reqwest::Error) -> StsError {
    if error.is_timeout() {
        StsError::Timeout
    } else {
        AnswerError::Malformed("the connection closed before its end").into()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_invalid_certificate_is_not_a_network_outage() {
        let tls = || rustls::Error::General("no".to_owned());
        let within = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        for (error, expected) in [
            (io::Error::from(io::ErrorKind::ConnectionRefused), false),
            (io::Error::other("no"), false),
            (io::Error::other(io::Error::other("no")), false),
            (within(tls()), true),
            (io::Error::other(within(tls())), true),
            (io::Error::other(io::Error::other(within(tls()))), true),
        ] {
            assert_eq!(is_of_tls(&error), expected, "{error:?}");
        }
    }
}
