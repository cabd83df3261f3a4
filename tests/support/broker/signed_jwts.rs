//! A broker of a test that believes JWTs.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use stile_broker::authn::jwt::{IssuerClient, Jwts};
use stile_broker::checked_resolver::Lookup;
use stile_broker::http;
use stile_core::trust::{Trust, TrustTerms};
use stile_store::{TrustChange, TrustCreated, TrustDeleted, TrustUpdated};
use url::form_urlencoded;

use super::{Reply, TestBroker};
use crate::broker::operator::{kept, operator};
use crate::jwt::issuer::Issuers;
use crate::time_limits;

impl TestBroker {
    /// Starts another broker of the same registry, which finds these issuers under every name.
    pub fn with_issuers(&self, issuers: &Issuers) -> Self {
        self.with_issuers_within(issuers, time_limits::BACKSTOP)
    }

    /// Does the same. The broker waits that long for an issuer.
    pub fn with_issuers_within(&self, issuers: &Issuers, limit: Duration) -> Self {
        let lookup = |_: String| -> Lookup { Box::pin(async { Ok(Issuers::addresses()) }) };
        let client = IssuerClient::for_test(
            lookup,
            |address| address.is_loopback(),
            &[],
            (issuers.authority(), issuers.port()),
            Some(limit),
            self.store().calls().clone(),
        );
        self.verifying(Jwts::new(client.unwrap()))
    }

    /// Starts another broker of the same registry, which verifies JWTs in this way.
    pub fn verifying(&self, jwts: Jwts) -> Self {
        let mut again = self.restarted();
        // Only the routes share the new broker yet, and they are created again.
        again.router = Router::new();
        Arc::get_mut(&mut again.broker).unwrap().jwts = jwts;
        again.router = http::router(Arc::clone(&again.broker));
        again
    }

    /// Creates a trust, which must be possible.
    pub async fn believe(&self, name: &str, terms: TrustTerms) -> Trust {
        let (access, kept) = (operator(), kept(self.time()));
        let created = self.store().create_trust(&access, name.parse().unwrap(), terms, &kept);
        match created.await.unwrap() {
            TrustCreated::Done(trust) => *trust,
            other => panic!("{other:?}"),
        }
    }

    /// Replaces what a trust believes, which must exist.
    pub async fn believe_instead(&self, name: &str, terms: TrustTerms) {
        let TrustTerms { issuer, audience, conditions, max_age, keys, aws: _ } = terms;
        let change = TrustChange {
            issuer: Some(issuer),
            audience: Some(audience),
            conditions: Some(conditions),
            max_age: Some(max_age),
            keys: Some(keys),
            without_pin: None,
        };
        let (access, kept) = (operator(), kept(self.time()));
        let updated =
            self.store().update_trust(&access, &name.parse().unwrap(), &change, &kept).await;
        assert!(matches!(updated, Ok(TrustUpdated::Done { .. })), "{updated:?}");
    }

    /// Deletes a trust, which must exist and have no grants.
    pub async fn stop_believing(&self, name: &str) {
        let (access, kept) = (operator(), kept(self.time()));
        let deleted = self.store().delete_trust(&access, &name.parse().unwrap(), &kept).await;
        assert!(matches!(deleted, Ok(TrustDeleted::Done(Some(_)))), "{deleted:?}");
    }

    /// Exchanges a JWT for a token, with more parameters of the form.
    pub async fn exchange_signed(&self, jwt: &str, more: &[(&str, &str)]) -> Reply {
        self.send(jwt_request(jwt, more)).await
    }
}

/// Builds the request that exchanges a JWT for a token, with more parameters of the form.
pub fn jwt_request(jwt: &str, more: &[(&str, &str)]) -> Request<Body> {
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
        .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
        .append_pair("subject_token", jwt)
        .extend_pairs(more)
        .finish();
    Request::post("/v1/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(form))
        .unwrap()
}
