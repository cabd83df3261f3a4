//! Asks STS whose proof this is: the only room that can make a [`Identity`].
//!
//! The request is written anew from the proof's values (`request`), sent where the operator says (`endpoint`), and its
//! answer is believed only in one shape (`answer`). Identical proofs in flight are asked about once (`single_flight`).
//! Where API Gateway or a function URL has verified a signature already, its word stands for STS's (`gateway`).

mod answer;
mod endpoint;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub mod proof;
mod request;
mod single_flight;

use std::collections::HashMap;
use std::error::Error;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use stile_protocol::audience::Audience;
use stile_protocol::region::Region;
use tokio::sync::Semaphore;

pub use answer::AnswerError;
pub use endpoint::{Endpoint, EndpointError, Endpoints};
pub use single_flight::{FlightRole, Leader, SingleFlight};

use answer::Outcome;
use proof::Proof;
use stile_core::identity::{Authenticated, Identity, SingleUse};

/// Longest answer that is read, in bytes; an endless one must not fill the memory.
const MAX_ANSWER: usize = 64 * 1024;

/// How long a used proof is remembered after it was signed, in seconds: as long as AWS itself would accept it.
const REMEMBERED: i64 = 15 * 60;

/// Requests to one region's STS at once: a region that hangs holds these and no others.
const IN_FLIGHT_PER_REGION: usize = 64;

/// The time limits that an operator may choose for STS, in seconds.
pub const STS_TIMEOUT: RangeInclusive<u64> = 1..=600;

/// Time limits of a request to STS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StsTimeouts {
    /// Opening a connection.
    pub connect: Duration,
    /// The whole request with both attempts; an STS that hangs must not hold a caller longer.
    pub total: Duration,
}

impl StsTimeouts {
    /// Limits under which STS is waited for no longer than `total`.
    pub fn within(total: Duration) -> Self {
        Self { connect: total / 3, total }
    }
}

impl Default for StsTimeouts {
    fn default() -> Self {
        Self::within(Duration::from_secs(3))
    }
}

/// Why STS did not vouch for the proof.
#[derive(Debug, thiserror::Error)]
pub enum StsError {
    /// STS has an answer and it is no, or none we believe.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// Too many are asking the same region already.
    #[error("too many exchanges are waiting for this region")]
    Busy,
    /// STS cannot be reached, or says that it is overloaded.
    #[error("STS cannot be reached")]
    Unavailable(#[source] Option<reqwest::Error>),
    /// Whoever answered could not show that it is STS.
    #[error("the server that answered for STS could not prove its name")]
    NotSts(#[source] reqwest::Error),
    /// No answer in time.
    #[error("STS did not answer in time")]
    Timeout,
}

/// A client of STS for the regions the operator enabled.
#[derive(Debug)]
pub struct Sts {
    audience: Audience,
    fips: bool,
    http: reqwest::Client,
    endpoints: Endpoints,
    in_flight: HashMap<&'static str, Arc<Semaphore>>,
    timeouts: StsTimeouts,
}

impl Sts {
    /// A client that asks for this audience; no redirect is followed and no ambient proxy is used, since either would
    /// let somebody other than AWS say who a caller is.
    pub fn new(
        audience: Audience,
        fips: bool,
        regions: &[&'static Region],
        endpoints: Endpoints,
        timeouts: StsTimeouts,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.total)
            .build()?;
        let in_flight = regions
            .iter()
            .map(|region| (region.name, Arc::new(Semaphore::new(IN_FLIGHT_PER_REGION))))
            .collect();
        Ok(Self { audience, fips, http, endpoints, in_flight, timeouts })
    }

    /// Asks the region's STS who signed the proof.
    pub async fn identify(
        &self,
        proof: &Proof,
        region: &'static Region,
    ) -> Result<Authenticated, StsError> {
        let slots = self.in_flight.get(region.name).ok_or(StsError::Busy)?;
        let _slot = slots.try_acquire().map_err(|_| StsError::Busy)?;
        let identity = tokio::time::timeout(self.timeouts.total, self.ask_twice(proof, region))
            .await
            .map_err(|_| StsError::Timeout)??;
        let single_use = SingleUse::Record {
            digest: proof.signature_digest(),
            keep_until: proof.unverified_signed_at.saturating_add(REMEMBERED),
        };
        Ok(Authenticated { identity, single_use })
    }

    /// Asks without a proof whether anything answers there; STS refuses, and that is the answer wanted.
    pub async fn health_check(&self, region: &'static Region) -> Result<(), StsError> {
        let url = self.endpoints.url(region, self.fips).ok_or(StsError::Unavailable(None))?;
        self.http.get(url).send().await.map(|_| ()).map_err(classify)
    }

    async fn ask_twice(
        &self,
        proof: &Proof,
        region: &'static Region,
    ) -> Result<Identity, StsError> {
        match self.ask(proof, region).await {
            Ok(Outcome::Overloaded) | Err(StsError::Unavailable(_)) => {}
            Ok(Outcome::Identity(caller)) => return Ok(caller),
            Err(error) => return Err(error),
        }
        match self.ask(proof, region).await? {
            Outcome::Identity(caller) => Ok(caller),
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
                return Err(AnswerError::Malformed("it is longer than 64 KiB").into());
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

/// Whether the server, and not the network, is what is wrong: a certificate that does not hold, or no TLS at all.
fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.is::<rustls::Error>() {
            return true;
        }
        // An I/O error's source is that of the error in it: the error itself would be passed over, and there may be
        // one in another.
        let within = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = within.map(|inner| inner as &(dyn Error + 'static)).or_else(|| cause.source());
    }
    false
}

/// A connection that breaks inside the answer has said something, and it was not an answer.
fn classify_body(error: &reqwest::Error) -> StsError {
    if error.is_timeout() {
        StsError::Timeout
    } else {
        AnswerError::Malformed("it broke off").into()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_certificate_that_does_not_hold_is_told_from_a_network_that_is_down() {
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

    #[tokio::test]
    async fn a_region_whose_sts_hangs_holds_its_sixty_four_requests_and_no_other_region() {
        // An address that nobody can listen on: whoever is let through finds nobody, at once.
        let nobody = Endpoints::new([Endpoint::parse("http://127.0.0.1:0").unwrap()]);
        let regions = ["us-east-1", "us-west-2"].map(|name| Region::named(name).unwrap());
        let audience = Audience::parse("registry.example.com").unwrap();
        let sts = Sts::new(
            audience,
            false,
            &regions,
            nobody,
            StsTimeouts::within(Duration::from_secs(600)),
        )
        .unwrap();
        let document = r#"{"nonce":"AAAAAAAAAAAAAAAAAAAAAA","ttl":3600,"namespaces":"all","permissions":["download"]}"#;
        let proof = json!({
            "version": 1, "region": "us-east-1", "amz_date": "20261120T101112Z", "access_key_id": "AKIAEXAMPLEEXAMPLE22",
            "signature": "0".repeat(64), "request": URL_SAFE_NO_PAD.encode(document),
        });
        let proof = Proof::parse(proof.to_string().as_bytes()).unwrap();
        let held = sts.in_flight["us-east-1"].acquire_many(64).await.unwrap();
        assert!(matches!(sts.identify(&proof, regions[0]).await, Err(StsError::Busy)));
        assert!(matches!(sts.identify(&proof, regions[1]).await, Err(StsError::Unavailable(_))));
        drop(held);
        assert!(matches!(sts.identify(&proof, regions[0]).await, Err(StsError::Unavailable(_))));
        assert_eq!(
            sts.in_flight["us-east-1"].available_permits(),
            64,
            "who has ended holds nothing"
        );
    }
}
