//! A broker of a test that believes an issuer of JWTs.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use stile_broker::authn::jwt::{IssuerClient, Jwts};
use stile_broker::http;
use stile_core::trust::{Condition, DEFAULT_MAX_AGE, Trust, TrustTerms};
use stile_protocol::token_exchange::{GRANT_TYPE, JWT};
use stile_store::TrustCreated;
use url::form_urlencoded;

use super::{Reply, TestBroker};
use crate::broker::operator::{kept, operator};
use crate::issuer::Issuer;
use crate::issuer::jwt::Jwt;

/// Returns the terms of a trust in this issuer, with conditions `CLAIM=VALUE`.
pub fn terms(issuer: &str, conditions: &[&str]) -> TrustTerms {
    TrustTerms {
        issuer: issuer.parse().unwrap(),
        audience: None,
        conditions: conditions.iter().map(|text| Condition::equals(text).unwrap()).collect(),
        max_age: DEFAULT_MAX_AGE,
        keys: None,
    }
}

impl TestBroker {
    /// Makes this broker find the issuer, which is on loopback.
    #[must_use]
    pub fn believing(self, issuer: &Issuer) -> Self {
        let client = issuer.client(self.store().calls());
        self.reading_keys_with(client)
    }

    /// Makes this broker read the keys of issuers with this client. It has no keys yet.
    #[must_use]
    pub fn reading_keys_with(mut self, client: IssuerClient) -> Self {
        // Only the routes share the broker, and they are created again.
        self.router = Router::new();
        Arc::get_mut(&mut self.broker).unwrap().jwts = Jwts::new(client);
        self.router = http::router(Arc::clone(&self.broker));
        self
    }

    /// Creates a trust in the issuer, with conditions `CLAIM=VALUE`.
    pub async fn trust(&self, name: &str, issuer: &str, conditions: &[&str]) -> Trust {
        self.trust_with(name, terms(issuer, conditions)).await
    }

    /// Creates a trust with these terms. It is in force at once for a broker that has read none.
    pub async fn trust_with(&self, name: &str, terms: TrustTerms) -> Trust {
        let (access, kept) = (operator(), kept(self.time()));
        let created = self.store().create_trust(&access, name.parse().unwrap(), terms, &kept);
        match created.await.unwrap() {
            TrustCreated::Done(trust) => *trust,
            other => panic!("{other:?}"),
        }
    }

    /// Returns a JWT of the issuer for this registry, with these claims, not signed yet.
    pub fn jwt(&self, issuer: &Issuer, claims: Value) -> Jwt {
        issuer.jwt(&format!("https://{}", self.audience), self.time(), claims)
    }

    /// Exchanges a JWT for a token, as RFC 8693 says.
    pub async fn exchange_jwt(&self, jwt: &str) -> Reply {
        self.exchange_jwt_with(jwt, &[]).await
    }

    /// Exchanges a JWT for a token, with these parameters, too.
    pub async fn exchange_jwt_with(&self, jwt: &str, parameters: &[(&str, &str)]) -> Reply {
        let always =
            [("grant_type", GRANT_TYPE), ("subject_token_type", JWT), ("subject_token", jwt)];
        self.exchange_form(&[&always[..], parameters].concat()).await
    }

    /// Sends a form to the token exchange.
    pub async fn exchange_form(&self, parameters: &[(&str, &str)]) -> Reply {
        let form =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        self.send(
            Request::post("/v1/token")
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Body::from(form))
                .unwrap(),
        )
        .await
    }
}
