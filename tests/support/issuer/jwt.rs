//! JWTs of a test, good and bad ones: any header, any claims, any signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::signing_key::SigningKey;

/// A JWT that is not signed yet.
#[derive(Debug, Clone)]
pub struct Jwt {
    /// The header. [`Self::signed`] adds `alg` and `kid` where they are missing.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
}

impl Jwt {
    /// Creates a JWT that is good for five minutes from `now`, with these claims, too.
    pub fn new(issuer: &str, audience: &str, now: i64, claims: Value) -> Self {
        let mut random = [0; 16];
        getrandom::fill(&mut random).unwrap();
        let always = json!({
            "iss": issuer, "aud": audience, "sub": "repo:acme/vpc:ref:refs/heads/main",
            "iat": now, "nbf": now, "exp": now + 300, "jti": hex::encode(random),
        });
        let mut all = object(always);
        all.extend(object(claims));
        Self { header: object(json!({ "typ": "JWT" })), claims: all }
    }

    /// Sets a claim.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Removes a claim.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets a parameter of the header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Returns header and payload, as a key signs them.
    pub fn signing_input(&self, key: &SigningKey) -> String {
        let mut header = self.header.clone();
        header.entry("alg").or_insert_with(|| key.algorithm().into());
        header.entry("kid").or_insert_with(|| key.id().into());
        signing_input(
            &Value::Object(header).to_string(),
            &Value::Object(self.claims.clone()).to_string(),
        )
    }

    /// Signs the JWT.
    pub fn signed(&self, key: &SigningKey) -> String {
        signed(&self.signing_input(key), key)
    }
}

/// Returns the header and the payload of a JWT from their JSON, which can be any text.
pub fn signing_input(header: &str, payload: &str) -> String {
    let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{payload}")
}

/// Adds the signature of a key.
pub fn signed(signing_input: &str, key: &SigningKey) -> String {
    with_signature(signing_input, &key.sign(signing_input.as_bytes()))
}

/// Adds any bytes as the signature.
pub fn with_signature(signing_input: &str, signature: &[u8]) -> String {
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("not an object: {other}"),
    }
}
