//! A registry that believes the jobs of one project of GitLab, and a signer of their JWTs.

use std::time::Duration;

use serde_json::Value;
use stile_core::trust::{Condition, DEFAULT_MAX_AGE, IssuerUrl, TrustTerms};
use stile_protocol::names::Permission::Download;

use super::claims;
use super::issuer::Issuers;
use super::signer::{Library, PublicKey, Signer, key_set};
use crate::broker::{Backend, Reply, TestBroker};
use crate::skipped::skipped;
use crate::time_limits;

/// The issuer whose jobs the registry believes.
pub const GITLAB: &str = "gitlab.example";

/// An issuer that no trust names until a test creates one.
pub const OTHER: &str = "other.example";

/// The principal of the trust.
pub const CI: &str = "oidc:ci";

/// The registry, its issuers and a signer.
pub struct JwtStage {
    /// The broker.
    pub test: TestBroker,
    /// The issuers.
    pub issuers: Issuers,
    /// The signer. Its first key is `one`, which [`GITLAB`] publishes.
    pub signer: Signer,
    /// The public part of the first key.
    pub one: PublicKey,
}

impl JwtStage {
    /// Starts the registry. `shows` says what the test shows, if a tool is missing.
    pub async fn start(backend: Backend, shows: &str) -> Option<Self> {
        Self::start_within(backend, time_limits::BACKSTOP, shows).await
    }

    /// Does the same. The broker waits that long for an issuer.
    pub async fn start_within(backend: Backend, limit: Duration, shows: &str) -> Option<Self> {
        let Some(signer) = Signer::start(Library::PyJwt) else {
            skipped(Library::PyJwt.tool(), shows);
            return None;
        };
        let issuers = Issuers::start(&[GITLAB, OTHER]);
        let first = TestBroker::start_on(backend).await?;
        let test = first.with_issuers_within(&issuers, limit);
        let one = signer.key("one", "RS256");
        issuers.publish(GITLAB, key_set([&one]));
        let stage = Self { test, issuers, signer, one };
        stage.test.believe("ci", stage.terms(GITLAB)).await;
        stage.test.grant(CI, "acme", &[Download]).await;
        Some(stage)
    }

    /// Returns the terms of a trust that believes the project at that issuer.
    pub fn terms(&self, name: &str) -> TrustTerms {
        terms(self.issuers.url(name).parse().unwrap(), &["project_id=3022", "ref_protected=true"])
    }

    /// Returns the claims of a new job of that issuer.
    pub fn claims(&self, name: &str) -> Value {
        claims::gitlab(&self.issuers.url(name), self.test.time())
    }

    /// Signs a JWT of a new job with a key of that issuer.
    pub fn jwt_of(&self, name: &str, key: &PublicKey) -> String {
        self.sign(key, &self.claims(name))
    }

    /// Signs claims with a key.
    pub fn sign(&self, key: &PublicKey, claims: &Value) -> String {
        let (kid, alg) = (key.jwk["kid"].as_str().unwrap(), key.jwk["alg"].as_str().unwrap());
        self.signer.sign(kid, alg, &serde_json::json!({ "kid": kid }), claims)
    }

    /// Signs a JWT of a new job with the first key.
    pub fn jwt(&self) -> String {
        self.jwt_of(GITLAB, &self.one)
    }

    /// Exchanges a JWT. Returns the status and the code of the registry: `401 jwt_replayed`.
    pub async fn exchange(&self, jwt: &str) -> String {
        outcome(&self.test.exchange_signed(jwt, &[]).await)
    }

    /// Exchanges a JWT for a token, which must be possible.
    pub async fn token(&self, jwt: &str) -> String {
        let reply = self.test.exchange_signed(jwt, &[]).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["access_token"].as_str().unwrap().to_owned()
    }
}

/// Returns the terms of a trust in an issuer, with conditions `CLAIM=VALUE`.
pub fn terms(issuer: IssuerUrl, conditions: &[&str]) -> TrustTerms {
    TrustTerms {
        issuer,
        audience: None,
        conditions: conditions.iter().map(|text| Condition::equals(text).unwrap()).collect(),
        max_age: DEFAULT_MAX_AGE,
        keys: None,
        aws: None,
    }
}

/// Returns the status and the code of the registry: `401 jwt_replayed`, or `200 -`.
pub fn outcome(reply: &Reply) -> String {
    format!("{} {}", reply.status.as_u16(), reply.json()["code"].as_str().unwrap_or("-"))
}
