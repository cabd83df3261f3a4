//! Rebuilds the signed request to STS from constants, the region table and validated fields.
//!
//! The broker never forwards other bytes from the client.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use stile_protocol::audience::Audience;
use stile_protocol::region::Region;
use stile_protocol::signed_request as signed;

use crate::authn::sigv4::proof::Proof;

/// The headers and the body of the rebuilt request.
pub(super) struct Request {
    pub(super) headers: HeaderMap,
    pub(super) body: &'static str,
}

/// Rebuilds the request that the client signed. A wrong value in any field makes the signature
/// invalid at AWS.
pub(super) fn reconstruct(
    proof: &Proof,
    region: &'static Region,
    host: &'static str,
    audience: &Audience,
) -> Request {
    let session_token = proof.unverified_session_token.as_ref().map(ExposeSecret::expose_secret);
    let date = proof.unverified_amz_date.get(..8).unwrap_or_default();
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={key}/{date}/{region}/{service}/aws4_request, SignedHeaders={headers}, Signature={signature}",
        key = proof.unverified_access_key_id,
        region = region.name,
        service = signed::SERVICE,
        headers = signed::signed_headers(session_token.is_some()),
        signature = proof.unverified_signature.expose_secret(),
    );
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static(host));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(signed::CONTENT_TYPE));
    insert(&mut headers, "x-amz-date", &proof.unverified_amz_date);
    if let Some(token) = session_token {
        insert(&mut headers, "x-amz-security-token", token);
    }
    insert(&mut headers, signed::AUDIENCE_HEADER, audience.as_str());
    insert(&mut headers, signed::REQUEST_HEADER, &proof.document_digest);
    insert(&mut headers, AUTHORIZATION.as_str(), &authorization);
    Request { headers, body: signed::BODY }
}

/// Inserts a header.
///
/// Every value consists of visible ASCII characters, so it is a valid header value. If it were not,
/// the missing header would make the signature invalid, and AWS would refuse the request.
fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(mut value) = HeaderValue::from_str(value) {
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use stile_protocol::region::REGIONS;

    use crate::fuzz::{Verdict, request_body};

    fn bodies() -> impl Strategy<Value = Value> {
        let region = (0..REGIONS.len()).prop_map(|row| REGIONS[row].name);
        let date = (1..29_u32, 0..60_u32)
            .prop_map(|(day, second)| format!("202611{day:02}T1011{second:02}Z"));
        let (key, token) = ("(AKIA|ASIA)[A-Z0-9]{12,40}", "[A-Za-z0-9+/=]{1,80}");
        (region, date, key, token, "[0-9a-f]{64}", 60..43_200_i64).prop_map(|(region, date, key, token, signature, ttl)| {
            let document = format!(r#"{{"nonce":"AAAAAAAAAAAAAAAAAAAAAA","ttl":{ttl},"namespaces":"all","permissions":["download"]}}"#);
            let mut body = json!({"version": 1, "region": region, "amz_date": date, "access_key_id": key, "signature": signature,
                "request": URL_SAFE_NO_PAD.encode(&document)});
            if key.starts_with("ASIA") {
                body["session_token"] = json!(token);
            }
            body
        })
    }

    /// Texts that would inject a header, a parameter, a field or a host, if the broker forwarded
    /// them.
    fn injections() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("\r\nx-injected: 1".to_owned()),
            Just("\n".to_owned()),
            Just("&Action=AssumeRole".to_owned()),
            Just(", SignedHeaders=host".to_owned()),
            Just("/us-east-1/iam/aws4_request".to_owned()),
            Just(".evil.example".to_owned()),
            Just("%0d%0a".to_owned()),
            Just("=".to_owned()),
            Just("\0".to_owned()),
            "[A-Za-z0-9+/=]{0,20}",
            "\\PC{0,5}",
        ];
        proptest::collection::vec(part, 1..4).prop_map(|parts| parts.concat())
    }

    proptest! {
        /// [`request_body`] asserts that each field of the proof changes only its own part of the
        /// request.
        #[test]
        fn each_field_of_a_valid_proof_changes_only_its_part_of_the_request(body in bodies()) {
            prop_assert_eq!(request_body(body.to_string().as_bytes()), Verdict::Accepted);
        }

        #[test]
        fn a_field_with_an_injection_is_rejected_or_changes_only_its_part(
            mut body in bodies(), at in any::<prop::sample::Index>(), with in injections(), cut in any::<prop::sample::Index>(), replace: bool,
        ) {
            let fields = ["region", "amz_date", "access_key_id", "session_token", "signature", "request"];
            let field = fields[at.index(fields.len())];
            let old = body[field].as_str().unwrap_or_default().to_owned();
            let (before, after) = old.split_at(if replace { 0 } else { cut.index(old.len() + 1) });
            body[field] = json!(format!("{before}{with}{}", if replace { "" } else { after }));
            request_body(body.to_string().as_bytes());
        }
    }
}
