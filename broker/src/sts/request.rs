//! Writes the request to STS: constants, rows of the region table, and fields with a regular grammar; no byte is passed on.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use stile_protocol::audience::Audience;
use stile_protocol::region::Region;
use stile_protocol::signed_request as signed;

use crate::proof::Proof;

/// The reconstructed request, but for where it is sent.
pub(super) struct Request {
    pub(super) headers: HeaderMap,
    pub(super) body: &'static str,
}

/// Rebuilds what an honest client signed; any lie in any field makes the signature wrong at AWS.
pub(super) fn reconstruct(proof: &Proof, region: &'static Region, host: &'static str, audience: &Audience) -> Request {
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

/// Every value has a grammar within visible ASCII, so it is always a header value; were it not, leaving it out makes the
/// signature wrong, which is a refusal.
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
    use serde_json::json;
    use stile_protocol::region::REGIONS;

    use super::*;

    fn spelled(proof: &Proof, region: &'static Region) -> Vec<(String, String)> {
        let audience = Audience::parse("registry.example.com").unwrap();
        let request = reconstruct(proof, region, region.host, &audience);
        assert_eq!(request.body, "Action=GetCallerIdentity&Version=2011-06-15");
        request.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    proptest! {
        /// A field of the proof appears in its own place and nowhere else, whatever it holds.
        #[test]
        fn whatever_parses_changes_the_request_in_its_own_fields_alone(
            row in 0..REGIONS.len(), day in 1..29_u32, second in 0..60_u32, key in "(AKIA|ASIA)[A-Z0-9]{12,40}", token in "[A-Za-z0-9+/=]{1,80}",
            signature in "[0-9a-f]{64}", ttl in 60..43_200_i64,
        ) {
            let region = &REGIONS[row];
            let date = format!("202611{day:02}T1011{second:02}Z");
            let document = format!(r#"{{"nonce":"AAAAAAAAAAAAAAAAAAAAAA","ttl":{ttl},"namespaces":"all","permissions":["download"]}}"#);
            let mut body = json!({"version": 1, "region": region.name, "amz_date": date, "access_key_id": key, "signature": signature,
                "request": URL_SAFE_NO_PAD.encode(&document)});
            let temporary = key.starts_with("ASIA");
            if temporary {
                body["session_token"] = json!(token);
            }
            let proof = Proof::parse(body.to_string().as_bytes()).unwrap();
            let signed_headers = if temporary {
                "content-type;host;x-amz-date;x-amz-security-token;x-stile-audience;x-stile-request"
            } else {
                "content-type;host;x-amz-date;x-stile-audience;x-stile-request"
            };
            let mut expected = vec![
                ("host".to_owned(), region.host.to_owned()),
                ("content-type".to_owned(), "application/x-www-form-urlencoded; charset=utf-8".to_owned()),
                ("x-amz-date".to_owned(), date),
            ];
            if temporary {
                expected.push(("x-amz-security-token".to_owned(), token));
            }
            expected.push(("x-stile-audience".to_owned(), "registry.example.com".to_owned()));
            expected.push(("x-stile-request".to_owned(), stile_protocol::exchange::document_digest(document.as_bytes())));
            expected.push(("authorization".to_owned(), format!(
                "AWS4-HMAC-SHA256 Credential={key}/202611{day:02}/{}/sts/aws4_request, SignedHeaders={signed_headers}, Signature={signature}",
                region.name)));
            prop_assert_eq!(spelled(&proof, region), expected);
        }
    }
}
