//! Builds proofs for tests without the helper's code. A test can change every part.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use stile_protocol::exchange::{Namespaces, RequestDocument, VERSION, document_digest};
use stile_protocol::names::{Permission, Permissions};
use stile_protocol::region::Region;
use stile_protocol::signed_request::{
    AUDIENCE_HEADER, BODY, CONTENT_TYPE, METHOD, PATH, REQUEST_HEADER, SERVICE, signed_headers,
};

use crate::sts::identity::Identity;
use crate::sts::sigv4::{ALGORITHM, Request, Scope, amz_date};

/// A builder of a proof.
///
/// The default region is `us-east-1`. The default request is for `download` on all namespaces for
/// an hour, with a new nonce.
#[derive(Debug, Clone)]
pub struct Proof {
    identity: Identity,
    region: String,
    host: Option<String>,
    audience: Option<String>,
    now: Option<i64>,
    signed_headers: Option<String>,
    document: Vec<u8>,
}

impl Proof {
    /// Starts a proof that this identity signs.
    pub fn new(identity: &Identity) -> Self {
        let document = document(3600, Namespaces::All, &[Permission::Download]);
        Self {
            identity: identity.clone(),
            region: "us-east-1".to_owned(),
            host: None,
            audience: None,
            now: None,
            signed_headers: None,
            document: document.to_bytes(),
        }
    }

    /// Sets the region of the STS.
    #[must_use]
    pub fn region(self, region: &str) -> Self {
        Self { region: region.to_owned(), ..self }
    }

    /// Replaces the region's host in the signed request.
    #[must_use]
    pub fn host(self, host: &str) -> Self {
        Self { host: Some(host.to_owned()), ..self }
    }

    /// Sets the audience, without putting it into canonical form.
    #[must_use]
    pub fn audience(self, audience: &str) -> Self {
        Self { audience: Some(audience.to_owned()), ..self }
    }

    /// Sets the time of the signature, in Unix seconds.
    #[must_use]
    pub fn now(self, now: i64) -> Self {
        Self { now: Some(now), ..self }
    }

    /// Signs these headers, `a;b;c`, instead of the protocol's.
    #[must_use]
    pub fn signed_headers(self, names: &str) -> Self {
        Self { signed_headers: Some(names.to_owned()), ..self }
    }

    /// Sets the request document.
    #[must_use]
    pub fn document(self, document: &RequestDocument) -> Self {
        self.document_bytes(document.to_bytes())
    }

    /// Sets the bytes of the request document, which may be invalid.
    #[must_use]
    pub fn document_bytes(self, document: impl Into<Vec<u8>>) -> Self {
        Self { document: document.into(), ..self }
    }

    /// Builds the body of `POST /v1/token`.
    pub fn build(&self) -> Value {
        let mut body = json!({
            "version": VERSION,
            "region": self.region,
            "amz_date": self.amz_date(),
            "access_key_id": self.identity.access_key_id,
            "signature": self.signature(),
            "request": URL_SAFE_NO_PAD.encode(&self.document),
        });
        if let Some(token) = &self.identity.session_token {
            body["session_token"] = json!(token);
        }
        body
    }

    /// Returns the headers and the body of the signed request that the proof describes.
    pub fn sts_request(&self) -> (Vec<(String, String)>, &'static str) {
        let mut headers = self.headers();
        headers.push((
            "authorization".to_owned(),
            format!(
                "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={}",
                self.identity.access_key_id,
                self.scope(),
                self.names(),
                self.signature()
            ),
        ));
        (headers, BODY)
    }

    fn signature(&self) -> String {
        let headers = self.headers();
        let request = Request {
            method: METHOD,
            path: PATH,
            query: "",
            headers: &headers,
            body: BODY.as_bytes(),
        };
        let canonical = request.canonical(self.names()).unwrap();
        self.scope().signature(&self.identity.secret_access_key, &self.amz_date(), &canonical)
    }

    fn headers(&self) -> Vec<(String, String)> {
        let host = self
            .host
            .clone()
            .or_else(|| Region::named(&self.region).map(|region| region.host.to_owned()));
        let mut headers = vec![
            ("host", host.unwrap_or_else(|| format!("sts.{}.amazonaws.com", self.region))),
            ("content-type", CONTENT_TYPE.to_owned()),
            ("x-amz-date", self.amz_date()),
            (AUDIENCE_HEADER, self.audience.clone().expect("the test sets an audience")),
            (REQUEST_HEADER, document_digest(&self.document)),
        ];
        headers.extend(
            self.identity.session_token.clone().map(|token| ("x-amz-security-token", token)),
        );
        headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn names(&self) -> &str {
        self.signed_headers
            .as_deref()
            .unwrap_or_else(|| signed_headers(self.identity.session_token.is_some()))
    }

    fn scope(&self) -> Scope {
        Scope {
            date: self.amz_date()[..8].to_owned(),
            region: self.region.clone(),
            service: SERVICE.to_owned(),
        }
    }

    fn amz_date(&self) -> String {
        amz_date(self.now.expect("the test sets a time"))
    }
}

/// Creates a request document with a new nonce.
pub fn document(ttl: i64, namespaces: Namespaces, permissions: &[Permission]) -> RequestDocument {
    RequestDocument::new(ttl, namespaces, permissions.iter().copied().collect::<Permissions>())
        .unwrap()
}

/// Adds or replaces a field of the body.
#[must_use]
pub fn with(mut body: Value, field: &str, value: impl Into<Value>) -> Value {
    body[field] = value.into();
    body
}

/// Removes a field of the body.
#[must_use]
pub fn without(mut body: Value, field: &str) -> Value {
    body.as_object_mut().unwrap().remove(field);
    body
}

/// Replaces the request document in the body, and does not sign again.
#[must_use]
pub fn with_document(body: Value, document: &[u8]) -> Value {
    with(body, "request", URL_SAFE_NO_PAD.encode(document))
}

/// Decodes the bytes of the request document in the body.
pub fn document_of(body: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(body["request"].as_str().unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_169_472;

    #[test]
    fn a_body_has_the_fields_of_the_protocol() {
        let body = Proof::new(&Identity::role("111122223333", "deploy", "alice"))
            .audience("127.0.0.1:8443")
            .now(NOW)
            .build();
        let fields: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = [
            "version",
            "region",
            "amz_date",
            "access_key_id",
            "session_token",
            "signature",
            "request",
        ];
        expected.sort_unstable();
        let mut sorted = fields.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected);
        assert_eq!(body["amz_date"], "20261120T101112Z");
        assert_eq!(RequestDocument::parse(&document_of(&body)).unwrap().ttl, 3600);
        let user = Proof::new(&Identity::user("111122223333", "bob"))
            .audience("127.0.0.1:8443")
            .now(NOW)
            .build();
        assert_eq!(user.get("session_token"), None);
    }

    #[test]
    fn two_proofs_of_one_second_differ() {
        let identity = Identity::role("111122223333", "deploy", "alice");
        let signature = || {
            Proof::new(&identity).audience("127.0.0.1:8443").now(NOW).build()["signature"].clone()
        };
        assert_ne!(signature(), signature());
    }

    #[test]
    fn one_field_of_a_body_can_be_changed() {
        let body = Proof::new(&Identity::user("111122223333", "bob"))
            .audience("127.0.0.1:8443")
            .now(NOW)
            .build();
        assert_eq!(with(body.clone(), "region", "eu-west-1")["region"], "eu-west-1");
        assert_eq!(with(body.clone(), "host", "evil.org")["host"], "evil.org");
        assert_eq!(without(body.clone(), "region").get("region"), None);
        assert_eq!(document_of(&with_document(body, b"{}")), b"{}");
    }
}
